/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An exchange is always in one state, and one event drives it: on_event() does what the state says. So nothing happens inside the functions
 * that its owner calls, and a deadline needs no second timer.
 */
#include "daemon/kms/exchange.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/random.h>

#include "common/clock.h"

/* The time of an attempt ends a little before the deadline, so that http can say what it was waiting for. */
#define MARGIN_USEC (10 * USEC_PER_MSEC)
/* With less than this before the deadline no attempt is worth while. */
#define ATTEMPT_MIN_USEC (5 * USEC_PER_MSEC)

static const char NO_TIME[] = "there was no time left to ask; raise kms_timeout if that goes on";

/* ---- events ---- */

static void wake_now(struct exchange *x, enum exchange_state state)
{
        x->state = state;
        event_active(x->timer, EV_TIMEOUT, 0);
}

/* Where libevent has no memory for the timer, the exchange goes on at once rather than never. */
static void wake_at(struct exchange *x, enum exchange_state state, uint64_t when)
{
        uint64_t now = clock_boottime_usec(), usec = when > now ? when - now : 0;
        struct timeval time = { .tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_usec = (suseconds_t)(usec % USEC_PER_SEC) };

        x->state = state;
        if (event_add(x->timer, &time) < 0)
                event_active(x->timer, EV_TIMEOUT, 0);
}

/* Let those begin that there is room for. */
static void queue_run(struct exchange_queue *q)
{
        while (q->n_running < EXCHANGE_CALLS_MAX && !list_is_empty(&q->waiting)) {
                struct exchange *x = list_entry(q->waiting.next, struct exchange, link);

                list_unlink(&x->link);
                list_append(&q->running, &x->link);
                q->n_running++;
                wake_now(x, EXCHANGE_BEGINS);
        }
}

/* ---- ends ---- */

/* Out of the queue, whose next one begins. */
static void leave(struct exchange *x)
{
        struct exchange_queue *q = x->queue;

        http_cancel(q->http, &x->call);
        event_free(x->timer);
        x->timer = NULL;
        if (x->state != EXCHANGE_QUEUED)
                q->n_running--;
        x->state = EXCHANGE_IS_OVER;
        list_unlink(&x->link);
        queue_run(q);
}

/* Call done(), after which @x may be gone. */
static void finish(struct exchange *x)
{
        struct exchange_queue *q = x->queue;
        enum proto_error error = x->verdict.error;
        struct sentence why = x->verdict.why;
        uint32_t wait_msec = (uint32_t)(breaker_wait_usec(&q->breaker, clock_boottime_usec()) / USEC_PER_MSEC);
        uint32_t retry_after_msec = 0;

        if (error == PROTO_ERROR_KMS_UNREACHABLE || error == PROTO_ERROR_KMS_THROTTLED)
                retry_after_msec = x->retry_after_msec > wait_msec ? x->retry_after_msec : wait_msec;
        leave(x);
        x->done(x, error, error ? why.text : "", retry_after_msec);
}

static void fail(struct exchange *x, enum proto_error error, const char *sentence)
{
        x->verdict.error = error;
        sentence_set(&x->verdict.why, "%s", sentence);
        finish(x);
}

static void note_outage(struct exchange *x)
{
        breaker_note(&x->queue->breaker, true, clock_boottime_usec());
        x->queue->last_outage = x->verdict.why;
}

static void note_answer(struct exchange *x)
{
        breaker_note(&x->queue->breaker, false, clock_boottime_usec());
}

/* The deadline has come. What was last wrong is said, and how far it got. */
static void expire(struct exchange *x)
{
        const char *last = x->verdict.error ? x->verdict.why.text : NULL;
        enum proto_error error = last ? x->verdict.error : PROTO_ERROR_KMS_UNREACHABLE;
        struct sentence said = { "" };

        switch (x->state) {
        case EXCHANGE_QUEUED:
                sentence_set(&said, "%d questions to this KMS were under way all the time, so this one was not sent%s%s", EXCHANGE_CALLS_MAX,
                             *x->queue->last_outage.text ? ". Last: " : "", x->queue->last_outage.text);
                break;
        case EXCHANGE_WAITS:
                sentence_set(&said, "what the request needs (credentials, or a login) was not there in time%s%s", last ? ". Before that: " : "",
                             last ? last : "");
                break;
        case EXCHANGE_ASKS:
                sentence_set(&said, "the KMS did not answer in time%s%s", last ? ". Before that: " : "", last ? last : "");
                break;
        default:
                sentence_set(&said, "%s", last ? last : NO_TIME);
                break;
        }
        x->verdict.why = said;
        if (x->state == EXCHANGE_ASKS)
                note_outage(x);
        fail(x, error, said.text);
}

static void refuse_open(struct exchange *x, uint64_t now)
{
        uint64_t seconds = (breaker_wait_usec(&x->queue->breaker, now) + USEC_PER_SEC - 1) / USEC_PER_SEC;
        struct sentence said;

        if (x->verdict.error) { /* it has seen for itself */
                finish(x);
                return;
        }
        sentence_set(&said, "%s. It failed several times in a row, so nothing is asked for another %" PRIu64 " s",
                     x->queue->last_outage.text, seconds);
        fail(x, PROTO_ERROR_KMS_UNREACHABLE, said.text);
}

/* ---- answers ---- */

static void judge_failure(struct exchange *x, const struct http_response *response)
{
        struct exchange_verdict *v = &x->verdict;

        *v = (struct exchange_verdict){ .error = PROTO_ERROR_KMS_UNREACHABLE, .action = EXCHANGE_REPEAT };
        if (response->failure == HTTP_FAILURE_TLS || response->failure == HTTP_FAILURE_REFUSED)
                *v = (struct exchange_verdict){ .error = PROTO_ERROR_KMS_MISCONFIGURED, .action = EXCHANGE_END };
        else if (response->failure == HTTP_FAILURE_LOCAL)
                v->error = PROTO_ERROR_INTERNAL;
        else if (response->failure == HTTP_FAILURE_ENDED)
                v->action = EXCHANGE_END;
        sentence_set(&v->why, "%s", response->what);
}

/* Repeat it after a pause, if that can be. */
static bool repeat(struct exchange *x)
{
        bool throttled = x->verdict.error == PROTO_ERROR_KMS_THROTTLED;
        uint64_t now = clock_boottime_usec(), delay;
        uint32_t random;

        if (x->n_attempts >= RETRY_ATTEMPTS_MAX || breaker_wait_usec(&x->queue->breaker, now) > 0)
                return false;
        if (getrandom(&random, sizeof(random), 0) != sizeof(random))
                random = UINT32_MAX;
        delay = retry_delay_usec(x->n_attempts, throttled, x->retry_after_msec, random);
        if (clock_add(clock_add(now, delay), ATTEMPT_MIN_USEC + MARGIN_USEC) > x->deadline_usec)
                return false;
        if (!retry_budget_take(&x->queue->budget, throttled))
                return false;
        x->n_paid++;
        x->paid_throttled = throttled;
        x->resume_usec = now + delay;
        wake_at(x, EXCHANGE_PAUSES, x->resume_usec);
        return true;
}

static void act(struct exchange *x)
{
        const struct exchange_verdict *v = &x->verdict;

        if (!v->error) {
                note_answer(x);
                retry_budget_give(&x->queue->budget, x->n_paid, x->paid_throttled);
                finish(x);
                return;
        }
        if (v->action == EXCHANGE_AT_ONCE && x->n_at_once < EXCHANGE_AT_ONCE_MAX) {
                x->n_at_once++;
                x->n_attempts--;
                note_answer(x);
                wake_now(x, EXCHANGE_BEGINS);
                return;
        }
        if (v->error == PROTO_ERROR_KMS_UNREACHABLE)
                note_outage(x);
        else if (v->error != PROTO_ERROR_KMS_THROTTLED && v->error != PROTO_ERROR_INTERNAL)
                note_answer(x);
        if (v->action == EXCHANGE_REPEAT && repeat(x))
                return;
        if (v->error == PROTO_ERROR_KMS_THROTTLED)
                note_outage(x);
        finish(x);
}

static void on_answer(struct http_call *call, const struct http_response *response)
{
        struct exchange *x = list_entry(call, struct exchange, call);

        x->retry_after_msec = response->retry_after_msec;
        if (response->failure == HTTP_FAILURE_ENDED) { /* the end of the process, and no outage */
                fail(x, PROTO_ERROR_KMS_UNREACHABLE, response->what);
                return;
        }
        if (response->failure != HTTP_FAILURE_NONE) {
                judge_failure(x, response);
        } else {
                x->verdict = (struct exchange_verdict){ .error = PROTO_ERROR_NONE };
                x->judge(x, response, &x->verdict);
        }
        act(x);
}

/* ---- attempts ---- */

static uint64_t attempt_time(const struct exchange *x, uint64_t now)
{
        uint64_t left = x->deadline_usec - now, third = (x->deadline_usec - x->started_usec) / 3;
        bool last = x->n_attempts + 1 >= RETRY_ATTEMPTS_MAX || x->queue->breaker.trying;

        left -= left > 2 * MARGIN_USEC ? MARGIN_USEC : left / 2;
        return last || left < third ? left : third;
}

static void begin(struct exchange *x)
{
        struct exchange_queue *q = x->queue;
        struct http_request request = { 0 };
        uint64_t now = clock_boottime_usec();
        int r;

        if (clock_add(now, ATTEMPT_MIN_USEC) > x->deadline_usec) {
                expire(x);
                return;
        }
        if (breaker_wait_usec(&q->breaker, now) > 0) { /* before credentials are asked for */
                refuse_open(x, now);
                return;
        }
        x->state = EXCHANGE_WAITS; /* prepare() may find what it needs before it returns */
        r = x->prepare(x, &request);
        if (r == EXCHANGE_WAIT) {
                if (x->state == EXCHANGE_WAITS)
                        wake_at(x, EXCHANGE_WAITS, x->deadline_usec);
                return;
        }
        if (r < 0) {
                fail(x, PROTO_ERROR_INTERNAL, r == -ENOMEM || r == -ENOBUFS ? "no memory is left for the request" : strerror(-r));
                return;
        }
        if (!breaker_admits(&q->breaker, now)) {
                refuse_open(x, now);
                return;
        }
        request.timeout_usec = attempt_time(x, now);
        x->n_attempts++;
        r = http_start(q->http, &x->call, &request);
        if (r == 0) {
                wake_at(x, EXCHANGE_ASKS, x->deadline_usec);
                return;
        }
        x->verdict = (struct exchange_verdict){ .error = PROTO_ERROR_INTERNAL, .action = EXCHANGE_REPEAT };
        sentence_set(&x->verdict.why, "no memory is left for the request, or too many are under way");
        act(x);
}

static void on_event(evutil_socket_t fd, short what, void *userdata)
{
        struct exchange *x = userdata;
        uint64_t now = clock_boottime_usec();

        switch (x->state) {
        case EXCHANGE_BEGINS:
                begin(x);
                break;
        case EXCHANGE_PAUSES:
                if (now < x->resume_usec)
                        wake_at(x, x->state, x->resume_usec);
                else
                        begin(x);
                break;
        case EXCHANGE_ENDS:
                finish(x);
                break;
        case EXCHANGE_IS_OVER:
                break;
        case EXCHANGE_QUEUED:
        case EXCHANGE_WAITS:
        case EXCHANGE_ASKS:
                if (now < x->deadline_usec)
                        wake_at(x, x->state, x->deadline_usec);
                else
                        expire(x);
                break;
        }
}

/* ---- the owner's side ---- */

void exchange_queue_init(struct exchange_queue *q, const struct kms_environment *environment)
{
        *q = (struct exchange_queue){ .http = environment->http, .base = environment->base };
        retry_budget_init(&q->budget);
        list_init(&q->running);
        list_init(&q->waiting);
}

void exchange_queue_deinit(struct exchange_queue *q)
{
        assert(list_is_empty(&q->running) && list_is_empty(&q->waiting));
}

int exchange_start(struct exchange_queue *q, struct exchange *x)
{
        struct event *timer = evtimer_new(q->base, on_event, x);

        if (!timer)
                return -ENOMEM;
        *x = (struct exchange){ .prepare = x->prepare, .judge = x->judge, .done = x->done, .deadline_usec = x->deadline_usec };
        x->queue = q;
        x->timer = timer;
        x->call.done = on_answer;
        x->started_usec = clock_boottime_usec();
        list_init(&x->link);
        list_append(&q->waiting, &x->link);
        wake_at(x, EXCHANGE_QUEUED, x->deadline_usec);
        queue_run(q);
        return 0;
}

void exchange_ready(struct exchange *x)
{
        if (x->state == EXCHANGE_WAITS)
                wake_now(x, EXCHANGE_BEGINS);
}

void exchange_fail(struct exchange *x, enum proto_error error, const char *sentence)
{
        if (x->state != EXCHANGE_WAITS)
                return;
        x->verdict.error = error;
        sentence_set(&x->verdict.why, "%s", sentence);
        wake_now(x, EXCHANGE_ENDS);
}

void exchange_cancel(struct exchange *x)
{
        if (!x->timer)
                return;
        if (x->state == EXCHANGE_ASKS)
                x->queue->breaker.trying = false; /* if it was this one, another may find out */
        leave(x);
}

bool exchange_is_waiting(const struct exchange *x)
{
        return x->state == EXCHANGE_WAITS;
}
