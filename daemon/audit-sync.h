/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-sync: makes what was written to the audit log durable, in a thread of its own, so that nobody waits for the disk but
 * those whose lines are on their way to it. All lines that are written while one fdatasync(2) runs share the next one.
 * Knows descriptors and sequence numbers; no lines, no requests.
 *
 * An error of fdatasync(2) is final: the kernel may have dropped what it could not write, and would report success the
 * next time. It ends with the next file.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/cleanup.h"

enum audit_sync_mode {
        AUDIT_SYNC_ALWAYS, /* at once */
        AUDIT_SYNC_BATCH,  /* after AUDIT_BATCH_LINES, or AUDIT_BATCH_USEC after the first that is not durable yet */
};
#define AUDIT_BATCH_LINES 1000
#define AUDIT_BATCH_USEC 1000000

struct audit_sync;

/** audit_sync_new() - start the thread. @fd: of the log, borrowed until audit_sync_switch(). Return: 0, -ENOMEM, -errno. */
int audit_sync_new(struct audit_sync **ret_sync, int fd);
/** audit_sync_stop() - end the thread, when all that was written is durable or has failed; waits for that. audit_sync_state() still works. */
void audit_sync_stop(struct audit_sync *s);
/** audit_sync_free() - stops it first. */
struct audit_sync *audit_sync_free(struct audit_sync *s);
DEFINE_CLEANUP(struct audit_sync *, audit_sync_free)
/** audit_sync_fd() - an eventfd that becomes readable when audit_sync_state() says something new. Borrowed. */
int audit_sync_fd(const struct audit_sync *s);
/** audit_sync_set_mode() - before the first line it is AUDIT_SYNC_ALWAYS. */
void audit_sync_set_mode(struct audit_sync *s, enum audit_sync_mode mode);

/** audit_sync_want() - lines up to @sequence were written to the file. @now: do not wait for the end of the batch. */
void audit_sync_want(struct audit_sync *s, uint64_t sequence, bool now);
/**
 * audit_sync_switch() - the next line goes to another file
 * @old_fd:    taken: synced and closed
 * @fd:        borrowed, as of audit_sync_new()
 * @folder_fd: taken: synced after the file and closed, so that the name of the new file is durable, too
 * Ends an error; waits while an earlier switch is not done.
 */
void audit_sync_switch(struct audit_sync *s, int old_fd, int fd, int folder_fd);

/** audit_sync_state() - @ret_sequence: the last durable line; @ret_usec: when that was found, CLOCK_BOOTTIME, 0 = never. Return: 0, or the
 *  -errno of fdatasync(2). */
int audit_sync_state(struct audit_sync *s, uint64_t *ret_sequence, uint64_t *ret_usec);
