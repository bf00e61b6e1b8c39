/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit: the hash-chained JSON-lines log. One write(2) per line, before a key is released. Each line holds "prev", the
 * SHA-256 of the line before it (64 zeros in the first), so that editing, dropping or reordering shows.
 */
#pragma once

#include <stdint.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "daemon/policy.h"

struct audit;

/** What happened. NULL and 0 members are left out of the line. */
struct audit_event {
        const char *event;    /* "release", "create", "deny", "evict", "lock", "kek-check", "start", … */
        const struct peer *peer;
        uint64_t connection;
        const char *scope;
        const uint8_t *database_id;
        uint32_t version;
        const char *decision; /* "allow" or "deny" */
        const char *reason;   /* rule, or error name */
        const char *kek;      /* name of the [kek NAME] section */
        const char *kek_id;
        uint64_t count;       /* repeats summed up */
        bool stale;
};

/** audit_open() - open or create @path (0600, O_APPEND, O_NOFOLLOW), find the end of the chain. A torn last line (no newline) is closed with
 *  a newline and the chain goes on from the last whole line. Return: 0 or -errno; -EBADMSG when the last whole line is no audit line. */
int audit_open(struct audit **ret_audit, const char *path);
struct audit *audit_free(struct audit *a);
DEFINE_CLEANUP(struct audit *, audit_free)
/** audit_write() - append one line. A short write is cut off again. Return: 0 or -errno: then nothing may be released. */
int audit_write(struct audit *a, const struct audit_event *event);
/** audit_reopen() - for SIGHUP after a log rotation; goes on with the same chain. */
int audit_reopen(struct audit *a);
uint64_t audit_sequence(const struct audit *a);
