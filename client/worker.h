/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker: one run of lkm-rekey, from its start to its last line (client/rekey/job.h). The process is this call's own: it is reaped and, on
 * a cancellation, killed by its descriptor, whatever the application does with its other children. Knows no daemon, no record and no database.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/error.h"
#include "client/rekey/job.h"
#include "common/secret.h"

enum { WORKER_HOLDERS_MAX = 16, WORKER_COMMAND_MAX = 64, WORKER_MODE_MAX = 16 };

/** Named outcomes of worker_run(). */
enum {
        WORKER_E_REFUSED = 1, /* its last line was `error`: `error` and `sentence` have it */
        WORKER_E_DIED,        /* it ended, or was ended for breaking job.h, without a last line: nothing is known; `error` is LKM_E_IO */
        WORKER_E_CANCELLED,   /* the callback asked for it; the process is gone */
};

struct worker_key {
        uint32_t version;
        struct secret *key; /* borrowed; KEY_SIZE bytes */
};

/** What to run. Everything is borrowed for the call. */
struct worker_task {
        const char *program; /* NULL: where worker_find() says */
        const char *command, *database;
        const char *target;  /* NULL: none */
        uint32_t compatibility, page_size, timeout_msec, flags; /* of struct rekey_job */
        const struct worker_key *keys;
        size_t n_keys; /* 1 to REKEY_KEYS_MAX */
        int lock_fd;   /* a descriptor that the worker keeps open until it ends, for its lock; -1: none */
        /* Called for each `progress`, and at least twice a second with the last one. Another value than 0 cancels. NULL: none. */
        int (*progress)(void *userdata, uint64_t done, uint64_t total);
        /* Called with each line that struct worker_result has no place for: `range`, `table`. NULL: they are dropped. */
        void (*line)(void *userdata, const char *line);
        void *userdata;
};

struct worker_holder {
        pid_t pid;
        bool locks; /* holds one of SQLite's locks; else it only has the file open */
        char command[WORKER_COMMAND_MAX + 1]; /* printable */
};

struct worker_fit {
        uint32_t version;
        uint64_t pages;
};

/** What its lines said; meaningful as far as job.h says so of the command, and on another outcome as far as it came. */
struct worker_result {
        int error; /* enum lkm_error */
        char sentence[ERROR_MESSAGE_MAX];
        bool died;
        uint32_t library;               /* when `empty`: major version of lkm-rekey's SQLCipher; else 0 */
        char mode[WORKER_MODE_MAX + 1]; /* "" when not said */
        bool empty;
        size_t n_opens;  /* keys that open the database; `opens` is the first one's version */
        uint32_t opens;
        size_t n_holders; /* all of them, of which `holders` has the first */
        struct worker_holder holders[WORKER_HOLDERS_MAX];
        size_t n_fits;
        struct worker_fit fits[REKEY_KEYS_MAX];
        uint64_t n_pages, n_zero_pages, n_unknown_pages;
};

/** worker_find() - the path of lkm-rekey: beside the library or program that has this code, else where it is installed.
 *  Return: 0; -ENOENT when it is at neither place; -ENOMEM. */
int worker_find(char **ret_path);
/**
 * worker_run() - run one command to its end
 * @ret_result: always written
 * Return: 0 when its last line was `done`; a WORKER_E_*; -errno when it could not be started, -ENOENT: there is no lkm-rekey.
 */
int worker_run(const struct worker_task *task, struct worker_result *ret_result);
