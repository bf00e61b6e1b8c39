/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection: struct lkm, one session with lkmd: opening it, one question with its answer, and what asynchronous requests share with
 * that. Knows frames, not files. The inside of liblkm, also linked into lkmctl.
 */
#pragma once

#include <sys/types.h>

#include "client/error.h"
#include "client/lkm.h"
#include "common/list.h"
#include "proto/stream.h"

enum { WAITING_MSEC = 400 };

struct lkm {
        int fd;    /* -1 while not connected */
        struct stream *stream;
        char *socket, *software;
        uint64_t timeout_usec; /* of each call */
        uint64_t wait_usec;    /* SO_RCVTIMEO as it is set now */
        uint32_t last_id;
        uint32_t hello_id;     /* 0 once WELCOME came */
        bool dispatching;
        bool blocks_not;       /* the socket is non-blocking, connect(2) included */
        bool ending;           /* lkm_free() was called: callbacks can begin nothing more */
        struct list requests;  /* asynchronous ones, unanswered, oldest first; owned */
        size_t n_requests;
        void (*waiting)(void *userdata); /* called at least each WAITING_MSEC while connection_call() waits; NULL: not */
        void *waiting_userdata;
        char message[ERROR_MESSAGE_MAX];
};

/** connection_check() - whether @lkm may be used here. Return: 0, LKM_E_ARGUMENT, LKM_E_FORKED. */
int connection_check(struct lkm *lkm);
/** connection_new() - a handle that is not connected yet; the arena is there. Release with lkm_free(). Return: 0 or -ENOMEM. */
int connection_new(struct lkm **ret_lkm, const struct lkm_options *options);
/** connection_open() - connect and queue HELLO; harmless when connected. Return: 0 or the error. */
int connection_open(struct lkm *lkm);
/** connection_close() - give up the session; asynchronous requests stay for their owner to call back. */
void connection_close(struct lkm *lkm);
/** connection_queue() - queue @request under a new id. Return: 0 or the error. */
int connection_queue(struct lkm *lkm, const union message *request, uint32_t *ret_id);
/** connection_lost() - close, and say why by @negative_errno or (0) the daemon's hanging up. Return: LKM_E_NO_DAEMON or LKM_E_TIMEOUT. */
int connection_lost(struct lkm *lkm, int negative_errno);

/**
 * connection_take() - the next answer among the bytes received; WELCOME is dealt with inside
 * @ret_id:     the request it answers
 * @ret_answer: release with message_deinit(); its bytes are borrowed until the next call on this connection
 * @ret_error:  0; LKM_E_* when it is ERROR or could not be unpacked, and the message is set
 * Return: 0; CONNECTION_E_AGAIN when there is none; LKM_E_PROTOCOL, LKM_E_VERSION, LKM_E_QUOTA, … when the session was ended.
 */
int connection_take(struct lkm *lkm, uint32_t *ret_id, union message *ret_answer, int *ret_error);
#define CONNECTION_E_AGAIN (-1)

/**
 * connection_call() - ask and wait for the answer; in a new session when the daemon ended this one, or says that it stops: up to three times
 * @expected:   number of the message that answers @request
 * @ret_answer: as for connection_take(); call connection_settle() when done with it
 * Return: 0; LKM_E_BUSY while asynchronous requests are unanswered; the daemon's error, or that of the connection.
 */
int connection_call(struct lkm *lkm, const union message *request, enum message_number expected, union message *ret_answer);
/** connection_settle() - the answer of connection_call() has been used up: an idle handle holds no slot of the arena. */
void connection_settle(struct lkm *lkm);
/** connection_report() - connection_call() for a REPORT. @ret_json: NUL-terminated, free with free(). */
int connection_report(struct lkm *lkm, const union message *request, char **ret_json);
