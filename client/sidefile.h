/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sidefile: the file beside a database in which some programs keep the salt of its passphrase, and sometimes the rounds: the 8 to 64 bytes of
 * the salt, their hex or base64, or a JSON object with the members `salt` (hex or base64) and `iterations`. Nothing in it is secret.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"

enum { SIDEFILE_SALT_MIN = 8, SIDEFILE_SALT_MAX = 64, SIDEFILE_SALTS_MAX = 3, SIDEFILE_SIZE_MAX = 4096 };

struct sidefile_salt {
        uint8_t bytes[SIDEFILE_SALT_MAX];
        size_t n;
};

/** What the file may mean: 32 hex digits are 16 bytes in hex, 24 in base64 or 32 as they are. Which one, only the database can tell. */
struct sidefile {
        struct sidefile_salt salts[SIDEFILE_SALTS_MAX]; /* the likeliest first */
        size_t n_salts;                                 /* 1 or more */
        uint32_t rounds;                                /* 0: the file does not say */
};

/** Named outcomes. */
enum {
        SIDEFILE_E_INVALID = 1, /* none of the forms */
};

/** sidefile_parse() - Return: 0 or SIDEFILE_E_INVALID. */
int sidefile_parse(struct sidefile *ret_sidefile, struct bytes content);
/** sidefile_read() - Return: as sidefile_parse(); SIDEFILE_E_INVALID too when over SIDEFILE_SIZE_MAX; -errno. */
int sidefile_read(struct sidefile *ret_sidefile, const char *path);
