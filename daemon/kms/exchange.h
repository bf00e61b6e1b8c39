/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exchange: one question to a KMS, asked as often as it takes: attempts with full jitter between them, inside the asker's deadline and a
 * budget of repetitions; at most EXCHANGE_CALLS_MAX at a time, the rest in order; and a breaker, so that a KMS that is away is asked
 * now and then only. What an answer means is the owner's to judge: the class alone decides.
 *
 * Time: the deadline holds in every state. One attempt is given a third of the time from exchange_start() to the deadline, so that a
 * connection that hangs leaves room for two more; the last attempt that there can be is given all that is left.
 *
 * The breaker counts as an outage: no answer (name, connection, time, a cut), a judged UNREACHABLE, and a THROTTLED that is final. Errors of
 * TLS are none: they do not go away by waiting.
 */
#pragma once

#include "common/list.h"
#include "daemon/kms/http.h"
#include "daemon/kms/provider.h"
#include "daemon/kms/retry.h"

#define EXCHANGE_CALLS_MAX 16

struct exchange;

/** What an attempt needs. Return of exchange.prepare(). */
enum {
        EXCHANGE_WAIT = 1, /* something has to be had first (credentials, a login): exchange_ready() or exchange_fail() will follow */
};

/** What to do about an answer. */
enum exchange_action {
        EXCHANGE_END,    /* it is final */
        EXCHANGE_REPEAT, /* after a pause, if budget, breaker and deadline allow */
        EXCHANGE_AT_ONCE, /* the cause is mended (another signature, new credentials, another address); granted EXCHANGE_AT_ONCE_MAX times */
};
#define EXCHANGE_AT_ONCE_MAX 2

/** exchange.judge() fills this. */
struct exchange_verdict {
        enum proto_error error; /* PROTO_ERROR_NONE, or the class */
        enum exchange_action action; /* with an error */
        struct sentence why; /* with an error */
};

/** Where exchanges of one KEK go. Embedded. */
struct exchange_queue {
        struct http *http;
        struct event_base *base;
        struct retry_budget budget;
        struct breaker breaker;
        struct list running, waiting; /* of struct exchange */
        size_t n_running;
        struct sentence last_outage; /* what is said while the breaker is open */
};

void exchange_queue_init(struct exchange_queue *q, const struct kms_environment *environment);
/** exchange_queue_deinit() - nothing is under way. */
void exchange_queue_deinit(struct exchange_queue *q);

struct exchange {
        /** prepare() - fill *@ret_request for one attempt: sign it anew, with what is current. What it points to lives until the next
         *  prepare() or the end. Return: 0; EXCHANGE_WAIT; a negative -errno ends the exchange with INTERNAL. */
        int (*prepare)(struct exchange *x, struct http_request *ret_request);
        /** judge() - @response has a status; take from it what is wanted. Failures without a status are judged by exchange.c: UNREACHABLE, to be
         *  repeated; MISCONFIGURED for TLS and REFUSED. */
        void (*judge)(struct exchange *x, const struct http_response *response, struct exchange_verdict *ret_verdict);
        /** done() - the end, once, never inside exchange_start(); the owner may free @x. @sentence: "" without an error. */
        void (*done)(struct exchange *x, enum proto_error error, const char *sentence, uint32_t retry_after_msec);
        uint64_t deadline_usec; /* CLOCK_BOOTTIME */
        /* private */
        struct exchange_queue *queue;
        struct list link;
        struct http_call call;
        struct event *timer; /* runs whatever comes next */
        enum exchange_state {
                EXCHANGE_IS_OVER, /* or has not begun */
                EXCHANGE_QUEUED,  /* until one of those that run has ended */
                EXCHANGE_BEGINS,  /* an attempt is next */
                EXCHANGE_WAITS,   /* for exchange_ready() */
                EXCHANGE_ASKS,    /* @call is under way */
                EXCHANGE_PAUSES,  /* before it is repeated */
                EXCHANGE_ENDS,    /* done() is next */
        } state;
        unsigned n_attempts, n_at_once, n_paid;
        bool paid_throttled;
        uint64_t started_usec, resume_usec;
        struct exchange_verdict verdict; /* the last one */
        uint32_t retry_after_msec;
};

/** exchange_start() - prepare, judge, done and deadline are set. Return: 0 or -ENOMEM. */
int exchange_start(struct exchange_queue *q, struct exchange *x);
/** exchange_ready() - go on after EXCHANGE_WAIT: prepare() is called again, from the event loop. */
void exchange_ready(struct exchange *x);
/** exchange_fail() - end after EXCHANGE_WAIT; done() is called from the event loop. */
void exchange_fail(struct exchange *x, enum proto_error error, const char *sentence);
/** exchange_cancel() - end @x without done(). Allowed when nothing is under way. */
void exchange_cancel(struct exchange *x);
/** exchange_is_waiting() - between EXCHANGE_WAIT and exchange_ready(). */
bool exchange_is_waiting(const struct exchange *x);
