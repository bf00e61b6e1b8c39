/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret-file: a small file that holds a secret, read into locked memory when nobody else may read or change it. Knows nothing of
 * what is in it.
 */
#pragma once

#include <stdbool.h>

#include "common/secret.h"
#include "daemon/kms/provider.h"

/** Who else may do what with the file. Its owner is root or the caller, but for NAMED. */
enum secret_file_rule {
        SECRET_FILE_OWN, /* nobody else may read or change it; under $CREDENTIALS_DIRECTORY, as CREDENTIAL */
        SECRET_FILE_CREDENTIAL, /* of systemd: group may read, for systemd shows its ACL mask there */
        SECRET_FILE_NAMED, /* as OWN, but any owner: a person named the file on a command line */
        SECRET_FILE_PROJECTED, /* put there by an orchestrator, who decides who reads it: nobody else may change it */
        SECRET_FILE_CONFIG, /* says what is run and asked, and may hold secrets: nobody else may change it */
};

/**
 * secret_file_read() - read all of @path
 * @ret_private: whether nobody else can read it; may be NULL
 * Return: 0; -EACCES (no regular file, or its mode or owner is wrong); -ENODATA when empty; -EMSGSIZE over SECRET_BODY_MAX; -ENOBUFS or
 *         another -errno; with *ret_why filled.
 */
int secret_file_read(struct secret **ret_text, bool *ret_private, const char *path, enum secret_file_rule rule, struct sentence *ret_why);
/** secret_file_read_word() - as secret_file_read(), for one word of printable ASCII: white space at its end is cut off. -EINVAL for anything else. */
int secret_file_read_word(struct secret **ret_word, const char *path, enum secret_file_rule rule, struct sentence *ret_why);
/** secret_file_stamp() - a number that changes when the file at @path is replaced or written; 0 when there is none. */
uint64_t secret_file_stamp(const char *path);
