/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit: the hash-chained log. One write(2) per line, before a key is released; each line has the hash of the line before it
 * and its own (proto/audit-line.h). Owned by lkmd, one of it. The file is audit-file.c's, its durability audit-sync.c's. Must
 * not know of requests, sockets or the cache.
 */
#pragma once

#include <stdint.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "daemon/audit-file.h"
#include "daemon/audit-sync.h"
#include "daemon/policy.h"

struct audit;

/** What happened. NULL and 0 members are left out of the line. */
struct audit_event {
        const char *event;    /* "release", "create", "deny", "evict", "lock", "kek-check", "start", … */
        const struct peer *peer;
        uint64_t connection;
        const char *scope;
        const uint8_t *database_id;
        const char *label;    /* of the database */
        uint32_t version;
        const char *decision; /* "allow" or "deny" */
        const char *reason;   /* rule, or error name */
        const char *kek;      /* name of the [kek NAME] section */
        const char *kek_id;
        const char *kms_request_id;
        uint64_t count;       /* repeats summed up */
        bool stale;
        enum audit_weight weight; /* ORDINARY unless it may use the reserve */
};

/** What a line of a checkpoint says: the log was this long, and this was its last hash. */
struct audit_checkpoint {
        uint64_t sequence;
        char hash[AUDIT_HASH_LENGTH + 1];
        const char *file; /* the path of the log, borrowed */
};
#define AUDIT_CHECKPOINT_LINES 1000

/** audit_open() - open or create @path, find the end of the chain and write what has to be said of it: "torn" when an unfinished last line was cut
 *  off; "open" when the log is empty and goes on from one beside it, PATH.*. Return: 0 or -errno; -EBADMSG when the first or last line is no
 *  audit line, or has another hash than it says; -EBUSY when another process writes it. */
int audit_open(struct audit **ret_audit, const char *path);
struct audit *audit_free(struct audit *a);
DEFINE_CLEANUP(struct audit *, audit_free)

/** audit_start_sync() - start the thread that makes lines durable. Without it, nobody does. Return: 0 or -errno. */
int audit_start_sync(struct audit *a);
/** audit_configure() - @max_size: begin another file when the log has more bytes; 0 = never. */
void audit_configure(struct audit *a, enum audit_sync_mode mode, uint64_t max_size);
/** audit_sync_event_fd() - readable when audit_durable() says something new. */
int audit_sync_event_fd(const struct audit *a);

/** audit_write() - append one line. While the log cannot be written or made durable, only what may use the reserve is. After AUDIT_CHECKPOINT_LINES
 *  lines a checkpoint follows. Return: 0 or -errno: then nothing may be released. */
int audit_write(struct audit *a, const struct audit_event *event);
/** audit_checkpoint() - write one when there was a line since the last, and do not wait with making it durable. Return: 0 or -errno. */
int audit_checkpoint(struct audit *a);
/**
 * audit_reopen() - for SIGHUP: after somebody has moved the log away, begin another one, which goes on with the same chain. Likewise after an error that
 * is final; then the log is moved away here
 * Return: 0 or -errno: the log is the one of before.
 */
int audit_reopen(struct audit *a);

/** audit_finish() - nothing follows: wait until all lines are durable, and end the thread. Return: 0 or the -errno that is final. */
int audit_finish(struct audit *a);
/** audit_durable() - the last line that a power loss leaves. Without audit_start_sync(): the last line. Return: 0 or the final error. */
int audit_durable(struct audit *a, uint64_t *ret_sequence);
/** audit_checkpoint_take() - the latest checkpoint, once it is durable, each once. Return: whether there is one. */
bool audit_checkpoint_take(struct audit *a, struct audit_checkpoint *ret_checkpoint);

/** What there is to say of the log. */
struct audit_state {
        uint64_t sequence, durable, checkpoint; /* sequence numbers of the last lines */
        const char *hash;                       /* borrowed */
        uint64_t durable_usec;                  /* CLOCK_BOOTTIME; 0 = never */
        uint64_t reserve_bytes;
};
void audit_get_state(struct audit *a, struct audit_state *ret_state);
uint64_t audit_sequence(const struct audit *a);
/** audit_error_text() - of a negative -errno of these functions. Static. */
const char *audit_error_text(int error);
