/* SPDX-License-Identifier: Apache-2.0 */
/* exchange-ask: the fixture of the tests of exchanges: questions to a server on the same loop, on a clock that the test moves. */
#pragma once

#include <sys/syscall.h>

#include "daemon/kms/exchange.h"
#include "tests/unit/http-ask.h"

/* One exchange, what it was asked for and how it ended. */
struct question {
        struct exchange x;
        unsigned n_prepared, n_judged, n;
        unsigned n_waits; /* so many times prepare() says EXCHANGE_WAIT */
        bool ready_inside; /* … and exchange_ready() is called before it returns */
        int prepare_fails;
        const char *url;
        enum proto_error error;
        char sentence[1024];
        uint32_t retry_after_msec;
        void (*then)(struct question *q);
};

static struct exchange_queue queue;
static uint64_t ahead_usec;

/* The test moves CLOCK_BOOTTIME; all other clocks are the machine's. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
        long r = syscall(SYS_clock_gettime, clock, t);

        if (r == 0 && clock == CLOCK_BOOTTIME)
                t->tv_sec += (time_t)(ahead_usec / USEC_PER_SEC);
        return (int)r;
}

static int prepare(struct exchange *x, struct http_request *ret_request)
{
        struct question *q = (struct question *)(void *)x;

        q->n_prepared++;
        ck_assert_uint_eq(q->n, 0);
        if (q->prepare_fails)
                return q->prepare_fails;
        if (q->n_waits > 0) {
                q->n_waits--;
                if (q->ready_inside)
                        exchange_ready(x);
                return EXCHANGE_WAIT;
        }
        *ret_request = (struct http_request){ .method = "GET", .url = q->url };
        return 0;
}

/* By the status alone. */
static void judge(struct exchange *x, const struct http_response *response, struct exchange_verdict *ret_verdict)
{
        static const struct {
                int status;
                enum proto_error error;
                enum exchange_action action;
        } table[] = { { 200, PROTO_ERROR_NONE, EXCHANGE_END },
                      { 400, PROTO_ERROR_KMS_CORRUPT, EXCHANGE_END },
                      { 401, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_AT_ONCE },
                      { 429, PROTO_ERROR_KMS_THROTTLED, EXCHANGE_REPEAT },
                      { 503, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT } };
        struct question *q = (struct question *)(void *)x;

        q->n_judged++;
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (table[i].status == response->status) {
                        ret_verdict->error = table[i].error;
                        ret_verdict->action = table[i].action;
                        sentence_set(&ret_verdict->why, "the KMS says %d", response->status);
                        return;
                }
        ck_abort_msg("status %d", response->status);
}

static void take_end(struct exchange *x, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct question *q = (struct question *)(void *)x;

        ck_assert(!exchange_is_waiting(x));
        q->n++;
        q->error = error;
        q->retry_after_msec = retry_after_msec;
        snprintf(q->sentence, sizeof(q->sentence), "%s", sentence);
        ck_assert_int_eq(error != 0, *sentence != '\0');
        if (q->then)
                q->then(q);
}

static struct question *question_new(uint64_t usec)
{
        struct question *q = calloc(1, sizeof(*q));

        ck_assert_ptr_nonnull(q);
        q->x.prepare = prepare;
        q->x.judge = judge;
        q->x.done = take_end;
        q->x.deadline_usec = clock_boottime_usec() + usec;
        q->url = url;
        return q;
}

static void begin(struct question *q)
{
        ck_assert_int_eq(exchange_start(&queue, &q->x), 0);
        ck_assert_uint_eq(q->n + q->n_prepared, 0);
}

static void turn(void)
{
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
}

static void wait_for_end(struct question *q)
{
        while (q->n == 0)
                turn();
        ck_assert_uint_eq(q->n, 1);
}

/* From beginning to end, with plenty of time. */
static struct question question_ask(void)
{
        struct question *q = question_new(PLENTY), copy;

        begin(q);
        wait_for_end(q);
        copy = *q;
        free(q);
        return copy;
}

static void set_up(void)
{
        setup();
        exchange_queue_init(&queue, &(struct kms_environment){ base, http });
}

static void tear_down(void)
{
        exchange_queue_deinit(&queue);
        teardown();
}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define CORRUPT "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
#define EXPIRED "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
#define THROTTLED "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nx-amz-retry-after: 7\r\n\r\n"
#define BUSY "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

static const struct http_server_reply ok = { OK, false }, corrupt = { CORRUPT, false }, expired = { EXPIRED, false },
                                      throttled = { THROTTLED, false }, busy = { BUSY, false }, nothing = { NULL, false },
                                      cut = { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", true };
