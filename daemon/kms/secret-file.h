/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret-file: a small file that holds a secret, read into locked memory when nobody else may read or change it. Knows nothing of
 * what is in it.
 */
#pragma once

#include "common/secret.h"
#include "daemon/kms/provider.h"

enum secret_file_rule {
        SECRET_FILE_OWN, /* mode 0600 or less, owned by root or the caller; under $CREDENTIALS_DIRECTORY, as CREDENTIAL */
        SECRET_FILE_CREDENTIAL, /* of systemd: group may read, for systemd shows its ACL mask there */
        SECRET_FILE_NAMED, /* mode 0600 or less, any owner: a person named the file on a command line */
        SECRET_FILE_PROJECTED, /* whatever the mode: Kubernetes projects a pod's own token as 0644 into the pod */
};

/** secret_file_read() - Return: 0; -EACCES (no regular file, or its mode or owner is wrong); -EMSGSIZE (empty, or over SECRET_LARGE_MAX); -ENOBUFS or
 *  -errno; with *ret_why filled. */
int secret_file_read(struct secret **ret_text, const char *path, enum secret_file_rule rule, struct sentence *ret_why);
/** secret_file_read_word() - as secret_file_read(), for one word of printable ASCII: white space at its end is cut off. -EINVAL for anything else. */
int secret_file_read_word(struct secret **ret_word, const char *path, enum secret_file_rule rule, struct sentence *ret_why);
/** secret_file_stamp() - a number that changes when the file at @path is replaced or written; 0 when there is none. */
uint64_t secret_file_stamp(const char *path);
