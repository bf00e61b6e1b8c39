/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "daemon/kms/retry.h"
#include "tests/unit/suite.h"

START_TEST(empty_budget_ends_repetitions)
{
        struct retry_budget b;
        unsigned n = 0;

        retry_budget_init(&b);
        while (retry_budget_take(&b, false))
                n++;
        ck_assert_uint_eq(n, 500 / 14);
        ck_assert_uint_eq(b.tokens, 500 % 14);
        ck_assert(retry_budget_take(&b, true));
        ck_assert(retry_budget_take(&b, true));
        ck_assert(!retry_budget_take(&b, true));
        ck_assert_uint_eq(b.tokens, 0);
}
END_TEST

START_TEST(success_gives_back_and_never_more_than_there_was)
{
        struct retry_budget b;

        retry_budget_init(&b);
        retry_budget_give(&b, 0, false);
        ck_assert_uint_eq(b.tokens, RETRY_TOKENS_MAX);
        b.tokens = 100;
        retry_budget_give(&b, 0, true);
        ck_assert_uint_eq(b.tokens, 101);
        retry_budget_give(&b, 2, false);
        ck_assert_uint_eq(b.tokens, 129);
        retry_budget_give(&b, 2, true);
        ck_assert_uint_eq(b.tokens, 139);
        b.tokens = RETRY_TOKENS_MAX - 13;
        retry_budget_give(&b, 1, false);
        ck_assert_uint_eq(b.tokens, RETRY_TOKENS_MAX);
}
END_TEST

START_TEST(pauses_double_up_to_twenty_seconds)
{
        static const uint64_t msec[] = { 50, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 20000, 20000 };

        for (unsigned i = 0; i < ELEMENTSOF(msec); i++) {
                ck_assert_uint_eq(retry_delay_usec(i + 1, false, 0, UINT32_MAX), msec[i] * USEC_PER_MSEC);
                ck_assert_uint_eq(retry_delay_usec(i + 1, false, 0, 0), 0); /* full jitter */
        }
        ck_assert_uint_eq(retry_delay_usec(1, true, 0, UINT32_MAX), USEC_PER_SEC);
        ck_assert_uint_eq(retry_delay_usec(2, true, 0, UINT32_MAX), 2 * USEC_PER_SEC);
        ck_assert_uint_eq(retry_delay_usec(6, true, 0, UINT32_MAX), 20 * USEC_PER_SEC);
        ck_assert_uint_eq(retry_delay_usec(UINT32_MAX, true, 0, UINT32_MAX), 20 * USEC_PER_SEC);
        ck_assert_uint_eq(retry_delay_usec(1, false, 0, UINT32_MAX / 2), 25 * USEC_PER_MSEC - 1);
}
END_TEST

START_TEST(server_can_ask_for_five_seconds_more)
{
        ck_assert_uint_eq(retry_delay_usec(1, false, 20, UINT32_MAX), 50 * USEC_PER_MSEC); /* less than we would wait */
        ck_assert_uint_eq(retry_delay_usec(1, false, 3000, 0), 3 * USEC_PER_SEC);
        ck_assert_uint_eq(retry_delay_usec(1, false, 5000, 0), 5 * USEC_PER_SEC);
        ck_assert_uint_eq(retry_delay_usec(1, false, UINT32_MAX, 0), 5 * USEC_PER_SEC);
        ck_assert_uint_eq(retry_delay_usec(1, true, UINT32_MAX, UINT32_MAX), 6 * USEC_PER_SEC);
}
END_TEST

START_TEST(breaker_opens_after_outages_in_a_row)
{
        struct breaker b = { 0 };
        uint64_t now = 1000;

        for (int i = 1; i < BREAKER_FAILURES; i++)
                breaker_note(&b, true, now);
        ck_assert(breaker_admits(&b, now));
        breaker_note(&b, false, now); /* an answer between them */
        for (int i = 1; i < BREAKER_FAILURES; i++)
                breaker_note(&b, true, now);
        ck_assert(breaker_admits(&b, now));
        ck_assert_uint_eq(breaker_wait_usec(&b, now), 0);
        breaker_note(&b, true, now);
        ck_assert(!breaker_admits(&b, now));
        ck_assert(!breaker_admits(&b, now + BREAKER_PAUSE_MIN_USEC - 1));
        ck_assert_uint_eq(breaker_wait_usec(&b, now + 1), BREAKER_PAUSE_MIN_USEC - 1);
}
END_TEST

START_TEST(half_open_breaker_lets_one_through)
{
        struct breaker b = { 0 };
        uint64_t now = 1000;

        for (int i = 0; i < BREAKER_FAILURES; i++)
                breaker_note(&b, true, now);
        now += BREAKER_PAUSE_MIN_USEC;
        ck_assert_uint_eq(breaker_wait_usec(&b, now), 0);
        ck_assert(breaker_admits(&b, now));
        ck_assert(!breaker_admits(&b, now));
        ck_assert_uint_gt(breaker_wait_usec(&b, now), 0);
        breaker_note(&b, false, now + 1);
        ck_assert(breaker_admits(&b, now + 1));
        ck_assert(breaker_admits(&b, now + 1));
        ck_assert_uint_eq(breaker_wait_usec(&b, now + 1), 0);
}
END_TEST

START_TEST(attempt_that_is_never_noted_blocks_nobody_for_ever)
{
        struct breaker b = { 0 };
        uint64_t now = 1000;

        for (int i = 0; i < BREAKER_FAILURES; i++)
                breaker_note(&b, true, now);
        now += BREAKER_PAUSE_MIN_USEC;
        ck_assert(breaker_admits(&b, now));
        now += breaker_wait_usec(&b, now);
        ck_assert(breaker_admits(&b, now));
}
END_TEST

START_TEST(pauses_of_the_breaker_grow_to_thirty_seconds)
{
        static const uint64_t seconds[] = { 5, 10, 20, 30, 30 };
        struct breaker b = { 0 };
        uint64_t now = 1000;

        for (int i = 1; i < BREAKER_FAILURES; i++)
                breaker_note(&b, true, now);
        for (size_t i = 0; i < ELEMENTSOF(seconds); i++) {
                breaker_note(&b, true, now);
                breaker_note(&b, true, now); /* a straggler's end changes nothing */
                ck_assert_uint_eq(breaker_wait_usec(&b, now), seconds[i] * USEC_PER_SEC);
                now += breaker_wait_usec(&b, now);
                ck_assert(breaker_admits(&b, now));
        }
}
END_TEST

START_TEST(ten_minutes_of_outage_are_under_sixty_attempts)
{
        struct breaker b = { 0 };
        unsigned n = 0;

        for (uint64_t now = 0; now < 600 * USEC_PER_SEC; now += USEC_PER_SEC / 10)
                if (breaker_admits(&b, now)) {
                        n++;
                        breaker_note(&b, true, now);
                }
        ck_assert_uint_lt(n, 60);
        ck_assert_uint_gt(n, 20); /* and it is seen within half a minute when the outage ends */
}
END_TEST

static void setup(void)
{
}

int main(void)
{
        const struct promise promises[] = {
                { empty_budget_ends_repetitions },
                { success_gives_back_and_never_more_than_there_was },
                { pauses_double_up_to_twenty_seconds },
                { server_can_ask_for_five_seconds_more },
                { breaker_opens_after_outages_in_a_row },
                { half_open_breaker_lets_one_through },
                { attempt_that_is_never_noted_blocks_nobody_for_ever },
                { pauses_of_the_breaker_grow_to_thirty_seconds },
                { ten_minutes_of_outage_are_under_sixty_attempts },
        };

        return suite_run("retry", setup, setup, promises, ELEMENTSOF(promises));
}
