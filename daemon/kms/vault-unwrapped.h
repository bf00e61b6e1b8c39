/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-unwrapped: the secret ids that came out of wrapping tokens. A wrapping token is good for one unwrapping, so what was in it is kept as
 * long as any KEK of this process logs in by the file that holds it: a reload does not need another one. Knows no call.
 */
#pragma once

#include <openssl/sha.h>

#include "common/bytes.h"
#include "common/list.h"
#include "common/secret.h"

struct vault_unwrapped {
        struct secret *secret_id; /* NULL = none yet */
        bool used; /* the wrapping token was used, or is not what it should be */
        bool busy; /* somebody is unwrapping it */
        /* private */
        struct list link;
        unsigned n_refs;
        char *path;
        uint8_t digest[SHA256_DIGEST_LENGTH]; /* of the wrapping token */
};

/** vault_unwrapped_get() - of the file at @path; a new reference. Return: NULL when out of memory. */
struct vault_unwrapped *vault_unwrapped_get(const char *path);
struct vault_unwrapped *vault_unwrapped_unref(struct vault_unwrapped *u);
/** vault_unwrapped_note() - @token is what the file holds now. What is known of another one is forgotten. */
void vault_unwrapped_note(struct vault_unwrapped *u, struct secret *token);
