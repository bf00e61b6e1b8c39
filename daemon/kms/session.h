/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session: lkm-kms's inside: one connection (session.c), what its requests do (operations.c, check.c), and the state they share
 * (server.c). Not for others; they use server.h.
 */
#pragma once

#include "common/list.h"
#include "daemon/kms/kek-table.h"
#include "daemon/kms/server.h"
#include "proto/stream.h"

struct server {
        const struct kms_environment *environment;
        struct event_base *base; /* of the environment */
        struct config *config;
        const char *config_path;
        struct kek_table *keks;
        int listen_fd;
        uid_t client_uid; /* or SERVER_CLIENT_SELF */
        struct event *listener, *idle, *accept_again, *drain;
        struct list sessions;
        size_t n_sessions, n_calls;
        uint64_t last_request_usec; /* CLOCK_BOOTTIME */
        bool idle_exit, draining;
};

struct session {
        struct server *server;
        struct list link, calls;
        int fd;
        struct stream *stream;
        struct event *readable, *writable;
        size_t n_calls;
        bool greeted; /* HELLO was answered */
        bool processing; /* session_process() is on the stack: it settles at its end */
        bool blocked; /* answers wait for the peer to read; requests wait for them */
        bool ended; /* nothing more will be read; answers are still sent */
        bool closing; /* the peer broke the protocol: send what waits and close */
};

/** session_new() - serve the connected socket @fd, which is owned from now on, also on failure. Return: 0 or -errno. */
int session_new(struct server *s, int fd);
/** session_free() - close; calls under way go on without an asker. */
struct session *session_free(struct session *c);
/** session_end() - read nothing more; close when all is answered. May free @c. */
void session_end(struct session *c);
/** session_settle() - send what can be sent, then wait for what is next, or close. May free @c. */
void session_settle(struct session *c);
/** session_answer() - queue @message; one that cannot be queued becomes an error, or the end of the session. */
void session_answer(struct session *c, uint32_t request_id, const union message *message);
/** session_answer_error() - @sentence NULL = the error list's own. */
void session_answer_error(struct session *c, uint32_t request_id, enum proto_error error, const char *sentence);

/** One request that a provider works on. Outlives its session when that goes away. */
struct operation {
        struct provider_call call;
        struct list link;
        struct server *server;
        struct session *session; /* NULL when the asker is gone */
        struct kek_table *keks; /* owned reference: a reload must not free the KEK meanwhile */
        struct kek_entry *entry; /* in keks */
        enum message_number answer; /* number of the message that answers it */
        uint32_t request_id;
};

/** operation_begin() - carry out the request in one whole frame. */
void operation_begin(struct session *c, const struct frame_header *header, const uint8_t *data, size_t n);
/** operation_find_kek() - the KEK that a request names, when it can be asked. Else NULL, and the request is answered. */
struct kek_entry *operation_find_kek(struct session *c, uint32_t request_id, struct bytes name);
/**
 * operation_new() - an operation of @entry's KEK; the caller sets call.done and lets the provider begin
 * @entry: may be NULL: the request has been answered, and so there is no operation
 * @size:  of the struct to allocate, zero-filled, which has a struct operation as its first member
 * Return: NULL when the request has been answered.
 */
struct operation *operation_new(struct session *c, uint32_t request_id, struct kek_entry *entry, uint32_t timeout_msec,
                                enum message_number answer, size_t size);
/** operation_end() - @o is over and, unless its session is NULL, answered. Frees it, and may free the session. */
void operation_end(struct operation *o);
/** operation_orphan_all() - @c goes away: its calls end unheard. */
void operation_orphan_all(struct session *c);

/* check.c */
void on_check(struct session *c, uint32_t request_id, const union message *m);
void on_policy(struct session *c, uint32_t request_id, const union message *m);

/** server_try_reload() - Return: whether the new configuration is in force; else *ret_why says why not. */
bool server_try_reload(struct server *s, struct sentence *ret_why);
/** server_stop_if_drained() - end the loop when draining and nothing is left to do. */
void server_stop_if_drained(struct server *s);
