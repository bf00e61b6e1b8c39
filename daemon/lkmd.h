/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmd: the state of the daemon, passed to everything; there are no globals. Made and freed by main-lkmd.c.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>
#include <openssl/evp.h>

#include "common/list.h"
#include "daemon/audit-journal.h"
#include "daemon/audit.h"
#include "daemon/cache.h"
#include "daemon/config.h"
#include "daemon/kms-link.h"
#include "daemon/lease.h"
#include "daemon/listener.h"
#include "daemon/names.h"
#include "daemon/policy.h"
#include "daemon/sandbox.h"
#include "daemon/usage.h"

struct stream;

/** The stages of a request's way, in order; request.c's tables are made of them. */
enum stage_name {
        STAGE_DECODE,
        STAGE_AUTHORIZE,
        STAGE_CACHE,
        STAGE_UNWRAP,
        STAGE_VERIFY,
        STAGE_STORE,
        STAGE_AUDIT,
        STAGE_QUIESCE,
        STAGE_REPLY,
        STAGE_COUNT,
};
const char *stage_text(enum stage_name stage);

struct lkmd {
        struct event_base *base;
        struct config *config;
        char *config_path;
        struct names *names; /* of the configuration's rules */
        struct sandbox sandbox;
        struct cache *cache;
        struct audit *audit;
        struct audit_journal audit_journal;
        int audit_error;        /* last -errno of a failed write, 0 when the last one worked */
        uint64_t audit_durable; /* the last line that a power loss leaves, as far as we were told */
        uint64_t audit_lost_after, audit_lost_until; /* lines in between may not have come to the disk before it failed */
        struct event *audit_ready;
        struct list audit_waiters; /* requests whose lines are not durable yet */
        size_t n_audit_waiters;
        struct kms_link *kms;
        struct lease_table leases;
        struct listeners listeners;
        struct event *expiry, *minute, *watchdog, *drain;
        struct event *signals[5];
        int expiry_fd;
        int manager_fd; /* see manager.h */
        pid_t pid;      /* getpid(2) is not in the sandbox */
        uint64_t armed_usec; /* what expiry_fd is set to */
        bool locked, draining, reload_failed;
        bool units_hidden; /* it has been said that /proc hides clients */
        struct list connections, flights;
        size_t n_flights, n_questions, n_changes;
        uint64_t next_connection, started_usec;
        struct usage usage;
        struct usage_limits limits;
        struct list turns; /* users that have something to be served, by turn */
        struct list held;  /* those of them that are over a limit and wait */
        struct list due;   /* connections that have to send or take something, by link_due; the first one is closed first */
        struct event *turn; /* timer of held and due */
        uint64_t turn_armed_usec;
        uint64_t n_descriptors; /* RLIMIT_NOFILE at the start */
        int spare_fd; /* given up to accept a connection when there is no other descriptor, and refuse it */
        uint64_t n_accept_failures, accept_tell_usec; /* not in the log again before */
        uint64_t stages[STAGE_COUNT]; /* requests that entered each */
        EVP_MD_CTX *sha256;           /* reused for the digests of records */
};

/** lkmd_audit() - audit_write(), remembering the outcome for the status. Return: 0 or -errno. */
int lkmd_audit(struct lkmd *d, const struct audit_event *event);
/** auditing_start() - open the log, and write that lkmd starts. Logs what is wrong. Return: 0 or -errno. */
int auditing_start(struct lkmd *d);
/** auditing_reload() - the configuration was read again, or SIGHUP said that the log was moved away. */
void auditing_reload(struct lkmd *d);
/** auditing_minute() - a checkpoint, where there is something new. */
void auditing_minute(struct lkmd *d);
/** auditing_stop() - the last lines; waits until they are durable. */
void auditing_stop(struct lkmd *d);
/** auditing_has_lost() - whether the line @sequence may not have come to the disk, and the log has gone on in another file. */
static inline bool auditing_has_lost(const struct lkmd *d, uint64_t sequence)
{
        return sequence > d->audit_lost_after && sequence <= d->audit_lost_until;
}
/** auditing_report() - a json_t about the log, for the status. */
void *auditing_report(const struct lkmd *d, uint64_t now_usec);
/** lkmd_expire() - wipe what is past its deadline at @now and arm the timer for the next. */
void lkmd_expire(struct lkmd *d, uint64_t now);
/** lkmd_wipe_all() - wipe every cached key, then say why in the audit log. */
void lkmd_wipe_all(struct lkmd *d, const char *why);
/** lkmd_stop_if_drained() - end the loop when draining and nothing is under way. */
void lkmd_stop_if_drained(struct lkmd *d);

/** lkmd_read_config() - read the configuration, the first time or again; @d->config is borrowed to see what a reload may not change, NULL at the start.
 *  Return: as config_read(). */
int lkmd_read_config(struct lkmd *d, struct config **ret_config, struct config_error *ret_error);
/** lkmd_confine_files() - after the sockets are bound, before the audit log is opened and the first thread started. Return: 0, or -errno, having logged why. */
int lkmd_confine_files(struct lkmd *d);
/** lkmd_enter_sandbox() - the last step before the first connection is served: from here on, only what sandbox-calls.def lists can be done.
 *  Return: 0, or -errno, having logged why. */
int lkmd_enter_sandbox(struct lkmd *d);

/** leases_start() - before the first connection. */
void leases_start(struct lkmd *d);
/** leases_drain() - no QUIESCE waits any longer. */
void leases_drain(struct lkmd *d);

/** connection_accept() - libevent callback of a listening socket; @userdata is the struct listener. */
void connection_accept(evutil_socket_t fd, short what, void *userdata);
/** accept_spare() - a descriptor to be given up. Return: it, or -1. */
int accept_spare(void);
/** turn_start(), turn_stop() - before the first connection, after the last one. */
int turn_start(struct lkmd *d);
void turn_stop(struct lkmd *d);
/** turn_configure() - take the limits of the configuration in force; says in the log when there are too few descriptors for them. */
void turn_configure(struct lkmd *d);
/** turn_run() - the daemon's loop: events, then one turn for each user that has something to be served, and so on. Return: 0, or -1 as
 *  event_base_loop(3). */
int turn_run(struct lkmd *d);
/** turn_report() - the member `users` of the status: a json_t. */
void *turn_report(const struct lkmd *d);

/** connection_sum_up() - write the audit lines of repeated releases since the last call. */
void connection_sum_up(struct lkmd *d);
/** connection_close_all() - at the end. */
void connection_close_all(struct lkmd *d);
