/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotation: one change of a database's key that is under way or was interrupted: the lock, the record, the keys, and the steps that lead out of every
 * state. rotate.c has the order of a new one. Owned by one call of lkm_rotate(), lkm_recover() or lkm_load().
 *
 * A step returns 0 or an enum lkm_error with the handle's message set.
 */
#pragma once

#include "client/database.h"
#include "client/worker.h"

enum { ROTATION_PIECE_MSEC = WAITING_MSEC /* between two looks at what is waited for; the callback is promised one call a second */ };

struct rotation {
        struct lkm *lkm;  /* borrowed, as the path and the options */
        const char *path; /* of the database */
        struct lkm_rotate_options options;
        enum lkm_phase phase;
        bool preparing; /* an interrupted one is ended first: that is part of LKM_PHASE_CHECK */
        bool cancellable, cancelled;
        struct keyfile_lock lock;
        struct database_record record; /* as the file has it */
        struct lkm_key *current, *pending;
        struct lkm_key_info info; /* of the current key */
        uint32_t pending_version;
        bool wal; /* the database is in WAL mode, or was before this rotation */
        bool others; /* have the database open */
        bool quiesced;
        int error; /* that a rotation is being undone for, with its sentence */
        char sentence[ERROR_MESSAGE_MAX];
};

/** rotation_init() - borrows its arguments; end with rotation_deinit(), which ends the quiescence and gives the lock back. */
void rotation_init(struct rotation *n, struct lkm *lkm, const char *database_path, const struct lkm_rotate_options *options);
void rotation_deinit(struct rotation *n);

/** rotation_enter() - the next phase is told. LKM_E_CANCELLED when that is asked for, and possible. */
int rotation_enter(struct rotation *n, enum lkm_phase phase);
/** rotation_tell() - the same about a phase that goes on. */
int rotation_tell(struct rotation *n, uint64_t done, uint64_t total);

/** rotation_work() - one command of lkm-rekey with the current key and, when there is one, the pending one. @ret_result: always written. */
int rotation_work(struct rotation *n, const char *command, unsigned flags, uint32_t timeout_msec, struct worker_result *ret_result);

/** rotation_look() - read the record, and get its current key; without the lock, or under it. */
int rotation_look(struct rotation *n, const char *scope);
/** rotation_begin() - take the lock, waiting as long as the options say, then look. LKM_E_ROTATION_IN_PROGRESS when another has it. */
int rotation_begin(struct rotation *n, const char *scope);
/** rotation_get_current() - the current key of the record in memory, and whether a rotation has not ended. */
int rotation_get_current(struct rotation *n, const char *scope);
/** rotation_get_pending() - the pending key, and whether WAL mode has to be restored. */
int rotation_get_pending(struct rotation *n);
/** rotation_may_write() - without the right to write the database, and a new file in the record's folder, nothing is begun. */
int rotation_may_write(struct rotation *n);
/** rotation_put() - put @newer in the file's place. @ret_written: whether the file is the new one, even after an error: it then has the name, but
 *  may be gone after a loss of power. */
int rotation_put(struct rotation *n, struct bytes newer, bool *ret_written);

/** rotation_prove() - by another process: which key opens the database. LKM_E_MIXED when none does. @ret_end: FINISHED or UNDONE. */
int rotation_prove(struct rotation *n, enum lkm_recovery *ret_end);
/** rotation_write_end() - COMMIT or ABORT, and the record. */
int rotation_write_end(struct rotation *n, enum lkm_recovery end);
/** rotation_recover() - get the pending key, prove, write the end. */
int rotation_recover(struct rotation *n, enum lkm_recovery *ret_end);
