/* SPDX-License-Identifier: Apache-2.0 */
/*
 * change: one change of a record: read it under its lock, have the daemon make the next one, put that in its place. Whoever changes a
 * record does it this way, so that two changes never undo each other. The record stays opaque.
 */
#pragma once

#include "client/database.h"
#include "client/keyfile.h"

struct change {
        struct database_record record; /* as it stands in the file */
        struct keyfile_lock lock;
};
#define CHANGE_INIT { .lock = KEYFILE_LOCK_INIT }

/**
 * change_begin() - lock the record of a database and read it
 * @deadline_usec: CLOCK_BOOTTIME; how long to wait for another process that changes it
 * @ret_change:    release with change_end(); untouched otherwise
 * Return: 0; LKM_E_ROTATION_IN_PROGRESS when another process has the lock until the deadline; else as database_record_read().
 */
int change_begin(struct lkm *lkm, const char *database_path, uint64_t deadline_usec, struct change *ret_change);
/** change_end() - give the lock back; harmless on CHANGE_INIT. */
void change_end(struct change *change);
/**
 * change_ask() - have the daemon make the next record, and write it durably
 * @request: one that is answered by RECORD and whose first field is a record; that is filled in here
 * Return: 0, and @change holds the new record, still locked; the daemon's error, and nothing was changed; LKM_E_IO.
 */
int change_ask(struct lkm *lkm, struct change *change, union message *request);
