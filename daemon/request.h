/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: one request's way through the stages decode, authorize, cache, unwrap, verify, store, audit, reply. The
 * tables in request.c say which stages each kind of request has. A request lives from its frame to its answer; it
 * outlives its connection when it waits at the KMS, and then answers nobody.
 */
#pragma once

#include "daemon/change.h"
#include "daemon/flight.h"
#include "daemon/lease.h"
#include "daemon/lkmd.h"
#include "daemon/question.h"
#include "daemon/released.h"

/** One client. Owned by the daemon's list. */
struct connection {
        struct lkmd *daemon;
        struct list link;
        int fd;
        struct stream *stream;
        struct event *readable, *writable;
        bool muted; /* `readable` is not waited for: it is known that there is something, or nothing more is taken */
        struct usage_user *user;
        struct usage_held held;
        struct list link_ready; /* in the user's, while there is something to be served */
        struct list link_due;   /* while HELLO, the rest of a frame, or the taking of an answer is waited for */
        uint64_t due_usec;
        struct peer peer;
        uint64_t number; /* for the audit log */
        bool by_admin_socket; /* not: that its peer is an administrator */
        bool greeted;
        bool closing; /* close once what is queued is sent */
        bool ended;   /* the client sends nothing more, but still waits for answers */
        struct list waiting; /* requests that wait, by link_connection */
        size_t n_waiting;
        struct released released;
        struct lease_holder leases;
        struct quiesce *quiesce; /* once it has asked for one */
};

struct request {
        struct lkmd *daemon;
        struct connection *connection; /* NULL when it went away, or for a refresh ahead */
        struct list link;              /* in the waiters of a flight, question or change */
        struct list link_connection;
        uint32_t id;
        uint16_t number; /* enum message_number */
        struct usage_user *user; /* who asked; of those that wait only */
        const struct stage *stage;
        const union message *message; /* valid until the request first waits */
        uint64_t now_usec;
        struct config *config;
        const struct config_scope *scope;
        struct record *record; /* parsed, when it had to be */
        uint8_t digest[CACHE_DIGEST_SIZE];
        struct record_cipher cipher;
        char label[RECORD_LABEL_MAX + 1]; /* of a database to be: "" = none */
        struct cache_entry *entry; /* fresh or stale; borrowed, valid only while no event runs; @kept after that */
        struct cache_entry *kept;  /* owned copy, without the key, of a request that waits until its line is durable */
        uint64_t audit_sequence;   /* the line it waits for */
        char kek[SCOPE_NAME_MAX + 1]; /* of KEK_CHECK: which one */
        struct flight *flight;     /* during verify, store */
        const struct question *question; /* once it is answered: during reply */
        struct change *change;           /* owned; from unwrap on */
        const char *rule;
        uint32_t quiesce_msec; /* of QUIESCE: how long to wait */
        char *text; /* record to answer with */
        size_t n_text;
        struct secret *key;
        bool waits, stale;
};

/** What a stage says. A negative -errno ends the request with INTERNAL. */
enum stage_result { STAGE_NEXT, STAGE_DONE, STAGE_WAIT };

struct stage {
        enum stage_name name;
        int (*run)(struct request *r);
};

/** request_begin() - take one whole frame. Return: 0; -EPROTO when the connection has to be closed after what is queued. */
int request_begin(struct connection *c, const struct frame_header *header, const uint8_t *data, size_t n, uint64_t now);
/** request_resume() - go on after the flight it waited for, or with NULL after a question or a change. */
void request_resume(struct request *r, struct flight *f);
/** request_resume_durable() - go on after its audit line became durable; or refuse, when that has failed with @error, a negative -errno. */
void request_resume_durable(struct request *r, int error);
/** request_orphan() - its connection is closing. */
void request_orphan(struct request *r);

/** request_refuse() - answer with an error. @detail: what was wrong in this case, or NULL. Return: STAGE_DONE. */
int request_refuse(struct request *r, enum proto_error code, const char *detail);
/** request_answer() - queue @message. Return: STAGE_DONE; a negative -errno. */
int request_answer(struct request *r, const union message *message);
/** request_report() - answer with a REPORT of @json (a json_t, whose reference is taken). Return: as request_answer(). */
int request_report(struct request *r, void *json);

/* report.c: the reply stages of requests that answer with JSON. */
int report_status(struct request *r);
int report_list(struct request *r);
int report_check(struct request *r);
int report_question(struct request *r);
int report_quiesce(struct request *r);

/** connection_sum_up_one() - write the audit lines of the keys that @c was given again. */
void connection_sum_up_one(struct connection *c);
/** connection_tell() - queue what the leases of @c have to be told. */
void connection_tell(struct connection *c);
/** connection_end_leases() - its client sends nothing more, so it can neither yield nor resume: as if it had gone. */
void connection_end_leases(struct connection *c);
/** connection_give_up_leases() - it is closing, and its requests are orphans already. */
void connection_give_up_leases(struct connection *c);
/** connection_readable(), connection_writable() - libevent callbacks; @userdata is the struct connection. */
void connection_readable(evutil_socket_t fd, short what, void *userdata);
void connection_writable(evutil_socket_t fd, short what, void *userdata);
/** connection_close() - also for one that has not been opened in whole. */
void connection_close(struct connection *c);
/** connection_turn() - serve @c for one turn. It is out of its user's queue afterwards, or at the end of it, or still at the head when it has
 *  frames at hand; or gone. */
void connection_turn(struct connection *c, uint64_t now);
/** connection_overdue() - @c did not do in time what it has to. */
void connection_overdue(struct connection *c, uint64_t now);
/** turn_add() - @c has something to be served. @first: it was in the middle of it. */
void turn_add(struct connection *c, bool first);
/** turn_tell() - say in the logs that @user is over a limit, once a minute. @peer: of whom. */
void turn_tell(struct lkmd *d, struct usage_user *user, const struct peer *peer, enum usage_outcome outcome, uint64_t now);
/** connection_flush() - a request answered outside the connection's own turn: send it. */
void connection_flush(struct connection *c);
