/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work: the job of this process as it came through standard input, with its keys in locked memory. Owned by main(), borrowed by everything.
 */
#pragma once

#include <stdbool.h>

#include "client/rekey/job.h"
#include "common/secret.h"

struct work_key {
        uint32_t version;
        struct secret *secret; /* KEY_SIZE bytes */
};

struct work {
        const char *database; /* as the caller named it: for sentences */
        const char *target;   /* the same; NULL for none */
        char *path;           /* where it really is: paths_resolve() */
        struct rekey_job job;
        struct work_key *keys; /* job.n_keys */
        unsigned library;      /* major version of the SQLCipher in this process */
};

/** work_read() - the job from @fd, until its end. Return: 0, or an enum lkm_error with answer_refuse() told. */
int work_read(struct work *work, int fd);
/** work_deinit() - wipes the keys. */
void work_deinit(struct work *work);
/** work_compatibility() - the format of the job: what it says, else the library's own. Return: 3 or 4. */
unsigned work_compatibility(const struct work *work);

/* The commands of job.h, one file each. Return: 0, or an enum lkm_error with answer_refuse() told. */
int check_run(struct work *work);
int rekey_run(struct work *work);
int probe_run(struct work *work);
int salvage_run(struct work *work);
int export_run(struct work *work);
