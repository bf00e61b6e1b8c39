/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/exchange-ask.h"

/* ---- ends ---- */

START_TEST(final_error_is_not_repeated)
{
        struct question q;

        answer_with(&corrupt, 1);
        q = question_ask();
        ck_assert_int_eq(q.error, PROTO_ERROR_KMS_CORRUPT);
        ck_assert_str_eq(q.sentence, "the KMS says 400");
        ck_assert_uint_eq(server.n_requests, 1);
        ck_assert_uint_eq(q.retry_after_msec, 0);
        ck_assert_uint_eq(queue.budget.tokens, RETRY_TOKENS_MAX);
}
END_TEST

START_TEST(outages_are_asked_three_times)
{
        static const struct http_server_reply *const outages[] = { &busy, &cut };

        for (size_t i = 0; i < ELEMENTSOF(outages); i++) {
                struct question q;

                answer_with(outages[i], 1);
                q = question_ask();
                ck_assert_int_eq(q.error, PROTO_ERROR_KMS_UNREACHABLE);
                ck_assert_uint_eq(server.n_requests, 3);
                ck_assert_uint_eq(q.n_prepared, 3);
                ck_assert_uint_eq(queue.budget.tokens, RETRY_TOKENS_MAX - 28);
                retry_budget_init(&queue.budget);
                queue.breaker = (struct breaker){ 0 };
        }
}
END_TEST

START_TEST(success_after_repetition_gives_the_budget_back)
{
        static struct http_server_reply script[3];
        struct question q;

        script[0] = busy;
        script[1] = busy;
        script[2] = ok;
        answer_with(script, 3);
        q = question_ask();
        ck_assert_int_eq(q.error, PROTO_ERROR_NONE);
        ck_assert_uint_eq(q.n_judged, 3);
        ck_assert_uint_eq(queue.budget.tokens, RETRY_TOKENS_MAX);
        ck_assert_uint_eq(queue.breaker.n_failures, 0);
}
END_TEST

START_TEST(throttling_tells_when_to_come_back)
{
        struct question q;

        answer_with(&throttled, 1);
        queue.budget.tokens = 0;
        q = question_ask();
        ck_assert_int_eq(q.error, PROTO_ERROR_KMS_THROTTLED);
        ck_assert_uint_eq(q.retry_after_msec, 7);
        ck_assert_uint_eq(server.n_requests, 1); /* no budget, no repetition */
        ck_assert_uint_eq(queue.breaker.n_failures, 1);
}
END_TEST

START_TEST(pause_that_does_not_fit_the_deadline_is_not_made)
{
        static const struct http_server_reply later = { "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 4\r\n\r\n",
                                                        false };
        struct question *q = question_new(3 * USEC_PER_SEC);

        answer_with(&later, 1);
        begin(q);
        wait_for_end(q);
        ck_assert_int_eq(q->error, PROTO_ERROR_KMS_UNREACHABLE);
        ck_assert_uint_eq(q->retry_after_msec, 4000);
        ck_assert_uint_eq(server.n_requests, 1);
        ck_assert_uint_eq(queue.budget.tokens, RETRY_TOKENS_MAX);
        free(q);
}
END_TEST

START_TEST(mended_causes_are_repeated_twice_and_are_no_attempts)
{
        static struct http_server_reply script[5];
        struct question q;

        answer_with(&expired, 1);
        q = question_ask();
        ck_assert_int_eq(q.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_uint_eq(server.n_requests, 3);
        ck_assert_uint_eq(queue.budget.tokens, RETRY_TOKENS_MAX);

        script[0] = script[2] = expired;
        script[1] = script[3] = busy;
        script[4] = ok;
        answer_with(script, 5);
        q = question_ask();
        ck_assert_int_eq(q.error, PROTO_ERROR_NONE);
        ck_assert_uint_eq(server.n_requests, 5);
}
END_TEST

START_TEST(what_is_misconfigured_is_not_repeated_and_no_outage)
{
        struct question q;

        http_server_deinit(&server);
        use_server(true);
        for (int i = 0; i < BREAKER_FAILURES + 1; i++) {
                q = question_ask(); /* an authority that nobody knows */
                ck_assert_int_eq(q.error, PROTO_ERROR_KMS_MISCONFIGURED);
                ck_assert_uint_eq(q.n_prepared, 1);
                ck_assert_ptr_nonnull(strstr(q.sentence, "certificate"));
        }
        snprintf(url, sizeof(url), "http://kms.example/");
        q = question_ask();
        ck_assert_int_eq(q.error, PROTO_ERROR_KMS_MISCONFIGURED);
        ck_assert_uint_eq(queue.breaker.n_failures, 0);
}
END_TEST

START_TEST(request_that_cannot_be_made_ends_the_exchange)
{
        struct question *q = question_new(PLENTY);

        q->prepare_fails = -EINVAL;
        begin(q);
        wait_for_end(q);
        ck_assert_int_eq(q->error, PROTO_ERROR_INTERNAL);
        free(q);
}
END_TEST

/* ---- the deadline ---- */

START_TEST(hung_connection_leaves_room_for_another)
{
        static struct http_server_reply script[2];
        bool answered = false;

        script[0] = nothing;
        script[1] = ok;
        /* Longer, should this machine be too slow for it. */
        for (uint64_t usec = 240 * USEC_PER_MSEC; !answered; usec *= 2) {
                struct question *q = question_new(usec);

                ck_assert_uint_lt(usec, PLENTY);
                answer_with(script, 2);
                begin(q);
                wait_for_end(q);
                answered = q->error == PROTO_ERROR_NONE;
                free(q);
        }
}
END_TEST

START_TEST(deadline_ends_each_state)
{
        struct question *running[EXCHANGE_CALLS_MAX], *queued, *late = question_new(0);

        answer_with(&nothing, 1);
        for (size_t i = 0; i < EXCHANGE_CALLS_MAX; i++) {
                running[i] = question_new(90 * USEC_PER_MSEC);
                running[i]->n_waits = i % 2;
                begin(running[i]);
        }
        queued = question_new(60 * USEC_PER_MSEC);
        begin(queued);
        begin(late);
        for (size_t i = 0; i < EXCHANGE_CALLS_MAX; i++)
                wait_for_end(running[i]);
        wait_for_end(queued);
        wait_for_end(late);
        for (size_t i = 0; i < EXCHANGE_CALLS_MAX; i++) {
                ck_assert_int_eq(running[i]->error, PROTO_ERROR_KMS_UNREACHABLE);
                if (i % 2)
                        ck_assert_ptr_nonnull(strstr(running[i]->sentence, "credentials"));
                ck_assert_uint_ge(clock_boottime_usec(), running[i]->x.deadline_usec - 50 * USEC_PER_MSEC);
                free(running[i]);
        }
        ck_assert_int_eq(queued->error, PROTO_ERROR_KMS_UNREACHABLE);
        ck_assert_int_eq(late->error, PROTO_ERROR_KMS_UNREACHABLE);
        ck_assert_uint_eq(queued->n_prepared + late->n_prepared, 0);
        free(queued);
        free(late);
}
END_TEST

START_TEST(deadline_says_what_was_last_wrong)
{
        struct question *q = question_new(1500 * USEC_PER_MSEC);

        /* An expired token, and then the new one does not come. */
        answer_with(&expired, 1);
        begin(q);
        while (q->n_judged == 0)
                turn();
        q->n_waits = 1;
        while (!exchange_is_waiting(&q->x))
                turn();
        ahead_usec += 2 * USEC_PER_SEC;
        wait_for_end(q);
        ck_assert_int_eq(q->error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(q->sentence, "the KMS says 401"));
        free(q);
}
END_TEST

/* ---- the queue ---- */

START_TEST(at_most_sixteen_ask_at_a_time_and_in_order)
{
        struct question *q[3 * EXCHANGE_CALLS_MAX];
        unsigned n_ended = 0;

        answer_with(NULL, 0);
        for (size_t i = 0; i < ELEMENTSOF(q); i++) {
                q[i] = question_new(PLENTY);
                begin(q[i]);
        }
        while (server.n_requests < EXCHANGE_CALLS_MAX)
                turn();
        for (size_t i = 0; i < ELEMENTSOF(q); i++)
                ck_assert_uint_eq(q[i]->n_prepared, i < EXCHANGE_CALLS_MAX ? 1 : 0);
        ck_assert_uint_eq(queue.n_running, EXCHANGE_CALLS_MAX);
        ck_assert_uint_eq(server.n_connections, EXCHANGE_CALLS_MAX);
        /* These are cut; each begins again, and all come to their end. */
        server.script = &ok;
        server.n_script = 1;
        http_server_drop(&server);
        while (n_ended < ELEMENTSOF(q)) {
                turn();
                ck_assert_uint_le(queue.n_running, EXCHANGE_CALLS_MAX);
                n_ended = 0;
                for (size_t i = 0; i < ELEMENTSOF(q); i++)
                        n_ended += q[i]->n;
        }
        for (size_t i = 0; i < ELEMENTSOF(q); i++)
                free(q[i]);
        ck_assert_uint_eq(queue.n_running, 0);
}
END_TEST

START_TEST(cancelled_exchange_is_not_told_and_makes_room)
{
        struct question *q[EXCHANGE_CALLS_MAX + 2], never = { 0 };

        exchange_cancel(&never.x); /* nothing is under way */
        answer_with(NULL, 0);
        for (size_t i = 0; i < ELEMENTSOF(q); i++) {
                q[i] = question_new(PLENTY);
                begin(q[i]);
        }
        while (server.n_requests < EXCHANGE_CALLS_MAX)
                turn();
        exchange_cancel(&q[EXCHANGE_CALLS_MAX]->x); /* queued */
        server.script = &ok;
        server.n_script = 1;
        exchange_cancel(&q[0]->x); /* asking */
        wait_for_end(q[EXCHANGE_CALLS_MAX + 1]);
        ck_assert_int_eq(q[EXCHANGE_CALLS_MAX + 1]->error, PROTO_ERROR_NONE);
        for (size_t i = 0; i < ELEMENTSOF(q); i++) {
                exchange_cancel(&q[i]->x);
                ck_assert_uint_eq(q[i]->n, i == EXCHANGE_CALLS_MAX + 1);
                free(q[i]);
        }
        ck_assert_uint_eq(queue.n_running, 0);
}
END_TEST

static struct question *followed;

static void start_next(struct question *q)
{
        followed = question_new(PLENTY);
        begin(followed);
        free(q);
}

START_TEST(exchange_may_be_freed_and_another_started_when_it_ends)
{
        struct question *q = question_new(PLENTY);

        answer_with(&ok, 1);
        q->then = start_next;
        begin(q);
        while (!followed)
                turn();
        wait_for_end(followed);
        ck_assert_int_eq(followed->error, PROTO_ERROR_NONE);
        free(followed);
}
END_TEST

START_TEST(exchange_goes_on_when_what_it_waits_for_is_there)
{
        struct question *q = question_new(PLENTY), *inside = question_new(PLENTY), *failed = question_new(PLENTY);

        answer_with(&ok, 1);
        q->n_waits = failed->n_waits = 1;
        inside->n_waits = 2;
        inside->ready_inside = true;
        begin(q);
        begin(inside);
        begin(failed);
        while (!exchange_is_waiting(&q->x) || !exchange_is_waiting(&failed->x))
                turn();
        exchange_ready(&q->x);
        exchange_fail(&failed->x, PROTO_ERROR_KMS_CREDENTIALS, "no credentials anywhere");
        ck_assert(!exchange_is_waiting(&q->x) && !exchange_is_waiting(&failed->x));
        ck_assert_uint_eq(q->n + failed->n, 0);
        ck_assert_uint_eq(q->n_prepared, 1);
        wait_for_end(q);
        wait_for_end(inside);
        wait_for_end(failed);
        ck_assert_int_eq(q->error, PROTO_ERROR_NONE);
        ck_assert_int_eq(inside->error, PROTO_ERROR_NONE);
        ck_assert_uint_eq(inside->n_prepared, 3);
        ck_assert_int_eq(failed->error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_str_eq(failed->sentence, "no credentials anywhere");
        exchange_ready(&q->x); /* late, and harmless */
        exchange_fail(&failed->x, PROTO_ERROR_INTERNAL, "again");
        event_base_loop(base, EVLOOP_NONBLOCK);
        ck_assert_uint_eq(failed->n, 1);
        free(q);
        free(inside);
        free(failed);
}
END_TEST

START_TEST(cancelled_exchange_never_ends_and_makes_room)
{
        struct question *q[EXCHANGE_CALLS_MAX + 2], *last;

        answer_with(&busy, 1);
        for (size_t i = 0; i < ELEMENTSOF(q); i++) {
                q[i] = question_new(PLENTY);
                q[i]->n_waits = i == 1;
                begin(q[i]);
        }
        exchange_cancel(&q[0]->x); /* about to begin */
        while (q[2]->n_judged == 0 || !exchange_is_waiting(&q[1]->x))
                turn();
        for (size_t i = 0; i < ELEMENTSOF(q); i++) { /* waiting, pausing, asking, queued, and some over */
                unsigned n = q[i]->n;

                exchange_cancel(&q[i]->x);
                exchange_cancel(&q[i]->x);
                ck_assert_uint_eq(q[i]->n, n);
        }
        ck_assert_uint_eq(queue.n_running, 0);
        ck_assert_uint_eq(q[0]->n + q[1]->n, 0);
        queue.breaker = (struct breaker){ 0 };
        answer_with(&ok, 1);
        last = question_new(PLENTY);
        begin(last);
        wait_for_end(last);
        ck_assert_int_eq(last->error, PROTO_ERROR_NONE);
        free(last);
        for (size_t i = 0; i < ELEMENTSOF(q); i++)
                free(q[i]);
}
END_TEST

START_TEST(end_of_the_client_ends_the_exchange)
{
        struct question *q = question_new(PLENTY);

        answer_with(&nothing, 1);
        begin(q);
        while (server.n_requests == 0)
                turn();
        http = http_free(http);
        ck_assert_uint_eq(q->n, 1);
        ck_assert_int_eq(q->error, PROTO_ERROR_KMS_UNREACHABLE);
        ck_assert_uint_eq(queue.breaker.n_failures, 0);
        free(q);
}
END_TEST

/* ---- the breaker ---- */

START_TEST(ten_minutes_of_outage_are_under_sixty_calls)
{
        unsigned n_calls = 0, n_told = 0;
        struct question q;

        http_server_deinit(&server);
        for (int second = 0; second < 600; second++) {
                q = question_ask();
                n_calls += q.n_prepared;
                ck_assert_int_eq(q.error, PROTO_ERROR_KMS_UNREACHABLE);
                ck_assert_ptr_nonnull(strstr(q.sentence, "nobody answers at 127.0.0.1"));
                ck_assert_uint_le(q.retry_after_msec, 30000);
                n_told += q.n_prepared == 0 && q.retry_after_msec > 0;
                ahead_usec += USEC_PER_SEC;
        }
        ck_assert_uint_lt(n_calls, 60);
        ck_assert_uint_gt(n_calls, 20);
        ck_assert_uint_gt(n_told, 500);

        /* It comes back, and within half a minute that is seen. */
        use_server(false);
        answer_with(&ok, 1);
        for (int second = 0; second <= 30 && q.error; second++) {
                ahead_usec += USEC_PER_SEC;
                q = question_ask();
        }
        ck_assert_int_eq(q.error, PROTO_ERROR_NONE);
        ck_assert_int_eq(question_ask().error, PROTO_ERROR_NONE);
}
END_TEST

START_TEST(half_open_breaker_sends_one_and_refuses_the_others)
{
        struct question *q[4];
        unsigned n_refused = 0;

        for (int i = 0; i < BREAKER_FAILURES; i++)
                breaker_note(&queue.breaker, true, clock_boottime_usec());
        sentence_set(&queue.last_outage, "nobody answers at kms.example");
        ahead_usec += 6 * USEC_PER_SEC;
        answer_with(&ok, 1);
        for (size_t i = 0; i < ELEMENTSOF(q); i++) {
                q[i] = question_new(PLENTY);
                begin(q[i]);
        }
        for (size_t i = 0; i < ELEMENTSOF(q); i++)
                wait_for_end(q[i]);
        for (size_t i = 0; i < ELEMENTSOF(q); i++) {
                if (q[i]->error) {
                        n_refused++;
                        ck_assert_int_eq(q[i]->error, PROTO_ERROR_KMS_UNREACHABLE);
                        ck_assert_ptr_nonnull(strstr(q[i]->sentence, "nobody answers at kms.example"));
                        ck_assert_uint_eq(q[i]->n_prepared, 0);
                }
                free(q[i]);
        }
        ck_assert_uint_eq(n_refused, ELEMENTSOF(q) - 1);
        ck_assert_uint_eq(server.n_requests, 1);
        ck_assert_int_eq(question_ask().error, PROTO_ERROR_NONE);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { final_error_is_not_repeated },
                { outages_are_asked_three_times },
                { success_after_repetition_gives_the_budget_back },
                { throttling_tells_when_to_come_back },
                { pause_that_does_not_fit_the_deadline_is_not_made },
                { mended_causes_are_repeated_twice_and_are_no_attempts },
                { what_is_misconfigured_is_not_repeated_and_no_outage },
                { request_that_cannot_be_made_ends_the_exchange },
                { hung_connection_leaves_room_for_another },
                { deadline_ends_each_state },
                { deadline_says_what_was_last_wrong },
                { at_most_sixteen_ask_at_a_time_and_in_order },
                { cancelled_exchange_is_not_told_and_makes_room },
                { exchange_may_be_freed_and_another_started_when_it_ends },
                { exchange_goes_on_when_what_it_waits_for_is_there },
                { cancelled_exchange_never_ends_and_makes_room },
                { end_of_the_client_ends_the_exchange },
                { ten_minutes_of_outage_are_under_sixty_calls },
                { half_open_breaker_sends_one_and_refuses_the_others },
        };

        return suite_run("exchange", set_up, tear_down, promises, ELEMENTSOF(promises));
}
