/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adopt: one call of `lkmctl adopt`, shared by its files: a database that was made without lkm becomes one of lkm's. Its functions return 0 or an
 * enum lkm_error, with the sentence in the handle.
 */
#pragma once

#include "client/lkmctl-each.h"
#include "client/sidefile.h"
#include "client/worker.h"

enum { ADOPT_SALT_SIZE = 16, ADOPT_WAIT_MSEC = 10000 };

struct adoption {
        struct each each; /* the first member: a step is given this */
        const char *database;
        struct sidefile sidefile; /* as far as there is one */
        int passphrase_fd;        /* -1: ask on the terminal */

        uint8_t *head; /* of the file, as it lies there; owned */
        size_t n_head;
        /* What opens it: found, or told by the user; 0: neither. */
        uint32_t compatibility, page_size;
        struct secret *key; /* owned */
};

/**
 * adoption_find_key() - ask for what the user knows, and find the raw key that opens every page of the database
 * @a: has its `head`. Fills `key`, `compatibility` and `page_size`.
 * SQLite opens the file only with a key that fits its first page: with another one nothing at all is changed.
 */
int adoption_find_key(struct adoption *a);
/** adoption_run() - lkm-rekey's @command on @database with one key; @version: its number in the answer. */
int adoption_run(const struct adoption *a, const char *command, const char *database, struct secret *key, uint32_t version,
                 struct worker_result *ret_result);
/** adoption_progress() - of a struct worker_task: ends it when a signal has asked for the end. */
int adoption_progress(void *userdata, uint64_t done, uint64_t total);
/** adoption_worker_failed() - set the sentence for what worker_run() returned. @r: not 0. Return: the error. */
int adoption_worker_failed(struct lkm *lkm, int r, const struct worker_result *result);
/** adoption_export() - a plaintext database into a new one, with a key of its own; tells the outcome when it succeeds. */
int adoption_export(struct adoption *a);

/** adoption_lkm() - the handle. */
static inline struct lkm *adoption_lkm(const struct adoption *a)
{
        return a->each.c->lkm;
}

static inline const struct ctl_adopt *adoption_options(const struct adoption *a)
{
        return &a->each.c->adopt;
}
