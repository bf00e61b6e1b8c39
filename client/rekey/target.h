/* SPDX-License-Identifier: Apache-2.0 */
/*
 * target: a new file that is written under a name of its own beside its place, and gets its name when it is whole and on the disk; nothing is ever
 * overwritten. Knows nothing of what is in it.
 */
#pragma once

#include <stdint.h>

#include "client/rekey/work.h"

struct target {
        const char *named; /* borrowed, as the caller named it: for sentences */
        char *path;        /* where it is to be */
        char *draft;       /* where it is until then; NULL once it has its name */
        int fd;            /* of the draft */
};
#define TARGET_INIT { .fd = -1 }

/**
 * target_begin() - make the draft, empty, with owner and mode of work->database
 * @n: bytes that it will have; LKM_E_NO_SPACE when they do not fit
 * Return: 0; LKM_E_EXISTS when the file, a -wal or a -journal has its place; LKM_E_IO.
 */
int target_begin(struct target *target, const struct work *work, uint64_t n);
/** target_finish() - no connection to the draft is open; onto the disk, and its name. Return: 0, LKM_E_EXISTS, LKM_E_IO. */
int target_finish(struct target *target);
/** target_refuse() - tell that it could not be written, with @r, a -errno. Return: an enum lkm_error. */
int target_refuse(const struct target *target, int r);
/** target_deinit() - removes a draft that has no name yet, and what lies beside it. */
void target_deinit(struct target *target);
