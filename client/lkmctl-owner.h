/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl-owner: whose a database is, and becoming that user for good. Only for root: what it finds out decides whose rights are used, so
 * it follows no link to the files it looks at, and opens neither.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

/** A user as whom one database is worked on. */
struct owner {
        uid_t uid;
        gid_t gid;
        char *name; /* of the account, owned */
};

/** Room for a sentence about one path. */
#define OWNER_SENTENCE_MAX (PATH_MAX + 512)

/**
 * owner_find() - the one user whom both a database and its .key belong to
 * @path:         of the database; a database that is not there yet is its .key's owner's
 * @no_key:       the .key may be missing: the database's owner alone counts then
 * @ret_owner:    release with owner_deinit(); untouched otherwise
 * @ret_sentence: why not
 * Return: an exit code of lkmctl; EXIT_CODE_RECORD when they are missing or no regular files, EXIT_CODE_DENIED when no user is safe to become.
 */
int owner_find(const char *path, bool no_key, struct owner *ret_owner, char ret_sentence[OWNER_SENTENCE_MAX]);
void owner_deinit(struct owner *owner);
/** owner_become() - be that user and nobody else from here on, in this process, without a way back. Return: 0 or -errno: then end. */
int owner_become(const struct owner *owner);
