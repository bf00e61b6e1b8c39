/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passphrase: what a person knows, read straight into locked memory: from the terminal without echo, from a file, or from an inherited
 * descriptor. Never from an argument or the environment. Knows not what it is for.
 */
#pragma once

#include "common/secret.h"

#define PASSPHRASE_MAX 1024
#define PASSPHRASE_WHY_MAX 512

/** Where to read; the terminal when neither is given. */
struct passphrase_source {
        const char *file; /* NULL: none; nobody else may read or change it */
        int fd;           /* -1: none; read to its end, and closed unless it is one of the standard three */
        const char *prompt;
};

/**
 * passphrase_read() - 1 to PASSPHRASE_MAX bytes; one newline at the end is not part of it
 * @ret_why: on failure a sentence for people that says what to do
 *
 * On the terminal the echo is off meanwhile, and on again when a signal ends or stops the process.
 *
 * Return: 0; -ENODATA when empty; -EMSGSIZE when too long; -EACCES for a file that others may read or change; -EINTR when a signal came, which was
 *         raised again; another -errno.
 */
int passphrase_read(struct secret **ret_passphrase, const struct passphrase_source *source, char ret_why[PASSPHRASE_WHY_MAX]);
