/* SPDX-License-Identifier: Apache-2.0 */
/*
 * passphrase: what a person knows, read straight into locked memory: from the terminal without echo, from a file, or from an inherited
 * descriptor. Never from an argument or the environment. Knows not what it is for.
 */
#pragma once

#include "common/secret.h"

#define PASSPHRASE_MAX 1024
#define PASSPHRASE_WHY_MAX 512

struct passphrase_source {
        int fd;             /* read to its end, and closed unless it is one of the standard three; -1: ask on the terminal */
        const char *name;   /* of what @fd reads, for sentences; NULL: its number */
        const char *prompt; /* on the terminal */
};

/** passphrase_open() - a file, as a descriptor to read it by. Return: 0; -EACCES when others may read or change it; another -errno; *ret_why as below. */
int passphrase_open(int *ret_fd, const char *path, char ret_why[PASSPHRASE_WHY_MAX]);

/**
 * passphrase_read() - 1 to PASSPHRASE_MAX bytes; one newline at the end is not part of it
 * @ret_why: on failure a sentence for people that says what to do
 *
 * On the terminal the echo is off meanwhile, and on again when a signal ends or stops the process.
 *
 * Return: 0; -ENODATA when empty; -EMSGSIZE when too long; -EINTR when a signal came, which was raised again;
 *         another -errno.
 */
int passphrase_read(struct secret **ret_passphrase, const struct passphrase_source *source, char ret_why[PASSPHRASE_WHY_MAX]);
