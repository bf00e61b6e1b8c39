/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/usage.h"

#include "common/clock.h"
#include "tests/unit/suite.h"

static const struct usage_limits limits = { .connections = 100, .slots = 64, .user_requests = 10, .user_rate = 1000, .user_bytes = 100000 };
static const uint64_t now = 1000 * USEC_PER_SEC;
static struct usage usage;

static void setup(void)
{
        usage_init(&usage);
}

static void teardown(void)
{
        for (size_t i = 0; i < USAGE_BUCKETS; i++) {
                struct list *node, *following;

                list_for_each_safe (node, following, &usage.buckets[i]) {
                        struct usage_user *user = list_entry(node, struct usage_user, link);

                        while (user->n_connections > 0)
                                usage_disconnect(&usage, user);
                }
        }
        usage_deinit(&usage);
        ck_assert_uint_eq(usage.n_users, 0);
}

static struct usage_user *connect_one(uint32_t uid)
{
        struct usage_user *user;

        ck_assert_int_eq(usage_connect(&usage, &limits, uid, false, &user), 0);
        return user;
}

/* As many connections as @uid gets. */
static unsigned connect_all(uint32_t uid)
{
        struct usage_user *user;
        unsigned n = 0;

        while (usage_connect(&usage, &limits, uid, false, &user) == 0)
                n++;
        return n;
}

START_TEST(a_greedy_uid_leaves_as_much_as_it_has)
{
        ck_assert_uint_eq(connect_all(1), 50);
        ck_assert_uint_eq(connect_all(2), 25);
        ck_assert_uint_eq(connect_all(3), 13);
        ck_assert_uint_ge(connect_all(4), 1);
        ck_assert_uint_eq(connect_all(1), 0);
}
END_TEST

START_TEST(greedy_uids_in_turn_get_equal_parts)
{
        unsigned n[3] = { 0 };
        struct usage_user *user;

        for (unsigned round = 0; round < 100; round++) {
                for (uint32_t uid = 0; uid < 3; uid++)
                        n[uid] += usage_connect(&usage, &limits, uid, false, &user) == 0;
        }
        for (uint32_t uid = 0; uid < 3; uid++)
                ck_assert(n[uid] == 25 || n[uid] == 24 || n[uid] == 26);
        ck_assert_uint_ge(connect_all(9), 10);
}
END_TEST

START_TEST(a_limit_of_its_own_comes_first)
{
        struct usage_limits own = limits;
        struct usage_user *user;

        own.user_connections = 2;
        ck_assert_int_eq(usage_connect(&usage, &own, 1, false, &user), 0);
        ck_assert_int_eq(usage_connect(&usage, &own, 1, false, &user), 0);
        ck_assert_int_eq(usage_connect(&usage, &own, 1, false, &user), USAGE_E_USER_CONNECTIONS);
        usage_disconnect(&usage, user);
        ck_assert_int_eq(usage_connect(&usage, &own, 1, false, &user), 0);
}
END_TEST

START_TEST(administrators_get_in_when_nobody_else_does)
{
        struct usage_user *user;
        unsigned n = 0;

        for (uint32_t uid = 1; usage.n_connections < limits.connections; uid++)
                connect_all(uid);
        ck_assert_int_eq(usage_connect(&usage, &limits, 7777, false, &user), USAGE_E_CONNECTIONS);
        ck_assert_ptr_null(user);
        while (usage_connect(&usage, &limits, 7777, true, &user) == 0)
                n++;
        ck_assert_uint_eq(n, USAGE_RESERVE);
}
END_TEST

START_TEST(a_uid_is_forgotten_when_nothing_is_left_of_it)
{
        struct usage_user *user = connect_one(1);

        usage_waits(user);
        usage_pay(user, &limits, 1, now);
        usage_disconnect(&usage, user);
        usage_forget(&usage, now + USEC_PER_SEC);
        ck_assert_uint_eq(usage.n_users, 1); /* a request of it still waits at the KMS */
        usage_answered(user);
        usage_forget(&usage, now);
        ck_assert_uint_eq(usage.n_users, 1); /* or it would come back with a full purse */
        usage_forget(&usage, now + USEC_PER_SEC / limits.user_rate);
        ck_assert_uint_eq(usage.n_users, 0);
}
END_TEST

START_TEST(the_rate_is_that_of_the_limit_after_a_second_at_once)
{
        struct usage_user *user = connect_one(1);
        unsigned at_once = 0, later = 0;

        while (usage_may_ask(user, &limits, now) == 0) {
                usage_pay(user, &limits, 1, now);
                at_once++;
        }
        ck_assert_uint_eq(at_once, limits.user_rate + 1);
        for (uint64_t t = now; t < now + 10 * USEC_PER_SEC; t += 100) {
                for (; usage_may_ask(user, &limits, t) == 0; later++)
                        usage_pay(user, &limits, 1, t);
        }
        ck_assert_uint_ge(later, 10 * limits.user_rate - 10);
        ck_assert_uint_le(later, 10 * limits.user_rate + 10);
}
END_TEST

START_TEST(a_held_uid_goes_on_with_several_requests_at_once)
{
        struct usage_user *user = connect_one(1);
        uint64_t at;

        while (usage_may_ask(user, &limits, now) == 0)
                usage_pay(user, &limits, 1, now);
        at = user->held_until_usec;
        ck_assert_uint_gt(at, now);
        ck_assert_int_eq(usage_may_ask(user, &limits, at - 1), USAGE_E_RATE);
        ck_assert_int_eq(usage_may_ask(user, &limits, at), 0);
        usage_pay(user, &limits, 1, at);
        ck_assert_int_eq(usage_may_ask(user, &limits, at), 0);
}
END_TEST

START_TEST(a_long_request_pays_by_its_length_and_no_rate_is_free)
{
        struct usage_user *user = connect_one(1);
        struct usage_limits free_of_it = limits;

        usage_pay(user, &limits, 64 * 1024, now);
        ck_assert_uint_eq(user->paid_until_usec, now + 64 * USEC_PER_SEC / limits.user_rate);
        usage_pay(user, &limits, 4096, now);
        ck_assert_uint_eq(user->paid_until_usec, now + 65 * USEC_PER_SEC / limits.user_rate);
        usage_pay_parse(user, &limits, 1000, now);
        ck_assert_uint_eq(user->paid_until_usec, now + 65 * USEC_PER_SEC / limits.user_rate);
        usage_pay_parse(user, &limits, 8 * 1024, now);
        ck_assert_uint_eq(user->paid_until_usec, now + (65 + 64) * USEC_PER_SEC / limits.user_rate);
        free_of_it.user_rate = 0;
        for (unsigned i = 0; i < 100000; i++)
                usage_pay(user, &free_of_it, 64 * 1024, now);
        ck_assert_int_eq(usage_may_ask(user, &free_of_it, now), 0);
}
END_TEST

START_TEST(requests_that_wait_hold_up_the_next_ones)
{
        struct usage_user *user = connect_one(1), *other = connect_one(2);

        for (unsigned i = 0; i < limits.user_requests; i++) {
                ck_assert_int_eq(usage_may_ask(user, &limits, now), 0);
                usage_waits(user);
        }
        ck_assert_int_eq(usage_may_ask(user, &limits, now), USAGE_E_REQUESTS);
        ck_assert_int_eq(usage_may_ask(other, &limits, now), 0);
        usage_answered(user);
        ck_assert_int_eq(usage_may_ask(user, &limits, now), 0);
        for (unsigned i = 1; i < limits.user_requests; i++)
                usage_answered(user);
}
END_TEST

START_TEST(what_grows_over_a_limit_is_refused_and_what_shrinks_never)
{
        struct usage_user *user = connect_one(1), *other = connect_one(2);
        struct usage_held a = { 0 }, b = { 0 }, c = { 0 };

        ck_assert_int_eq(usage_hold(&usage, &limits, user, &a, (struct usage_held){ 60000, 0 }), 0);
        ck_assert_int_eq(usage_hold(&usage, &limits, user, &b, (struct usage_held){ 60000, 0 }), USAGE_E_BYTES);
        ck_assert_int_eq(usage_hold(&usage, &limits, user, &b, (struct usage_held){ 50000, 0 }), 0);
        ck_assert_int_eq(usage_hold(&usage, &limits, other, &c, (struct usage_held){ 90000, 0 }), 0);
        ck_assert_uint_eq(user->n_bytes, 110000);
        usage_hold(&usage, &limits, user, &a, (struct usage_held){ 0 });
        usage_hold(&usage, &limits, user, &b, (struct usage_held){ 0 });
        ck_assert_uint_eq(user->n_bytes, 0);
}
END_TEST

START_TEST(locked_memory_is_shared_as_connections_are)
{
        struct usage_user *user = connect_one(1), *other = connect_one(2);
        struct usage_held held = { 0 }, others = { 0 };

        ck_assert_int_eq(usage_hold(&usage, &limits, user, &held, (struct usage_held){ 0, 32 }), 0);
        ck_assert_int_eq(usage_hold(&usage, &limits, user, &held, (struct usage_held){ 0, 33 }), USAGE_E_SLOTS);
        ck_assert_int_eq(usage_hold(&usage, &limits, user, &held, (struct usage_held){ 0, 32 }), 0);
        ck_assert_int_eq(usage_hold(&usage, &limits, other, &others, (struct usage_held){ 0, 16 }), 0);
        ck_assert_int_eq(usage_hold(&usage, &limits, other, &others, (struct usage_held){ 0, 17 }), USAGE_E_SLOTS);
}
END_TEST

START_TEST(every_limit_has_a_sentence_that_names_it)
{
        static const char *const names[] = { [USAGE_E_CONNECTIONS] = "max_connections",     [USAGE_E_USER_CONNECTIONS] = "user_connections",
                                             [USAGE_E_BYTES] = "user_bytes",                [USAGE_E_SLOTS] = "locked memory",
                                             [USAGE_E_REQUESTS] = "user_requests = 10",     [USAGE_E_RATE] = "user_rate = 1000" };

        for (enum usage_outcome i = USAGE_E_CONNECTIONS; i <= USAGE_E_RATE; i++) {
                char text[USAGE_SENTENCE_MAX];

                usage_sentence(text, i, &limits, UINT32_MAX - 1);
                ck_assert_ptr_nonnull(strstr(text, names[i]));
                ck_assert_ptr_nonnull(strstr(text, "uid 4294967294 "));
                ck_assert_uint_lt(strlen(text), USAGE_SENTENCE_MAX - 20);
        }
}
END_TEST

START_TEST(the_top_are_those_with_most_connections)
{
        const struct usage_user *top[3];

        for (uint32_t uid = 1; uid <= 8; uid++) {
                for (uint32_t i = 0; i < uid * 5 % 8 + 1; i++)
                        connect_one(uid);
        }
        ck_assert_uint_eq(usage_top(&usage, top, 3), 3);
        ck_assert_uint_eq(top[0]->n_connections, 8);
        ck_assert_uint_eq(top[1]->n_connections, 7);
        ck_assert_uint_eq(top[2]->n_connections, 6);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { a_greedy_uid_leaves_as_much_as_it_has },
                { greedy_uids_in_turn_get_equal_parts },
                { a_limit_of_its_own_comes_first },
                { administrators_get_in_when_nobody_else_does },
                { a_uid_is_forgotten_when_nothing_is_left_of_it },
                { the_rate_is_that_of_the_limit_after_a_second_at_once },
                { a_held_uid_goes_on_with_several_requests_at_once },
                { a_long_request_pays_by_its_length_and_no_rate_is_free },
                { requests_that_wait_hold_up_the_next_ones },
                { what_grows_over_a_limit_is_refused_and_what_shrinks_never },
                { locked_memory_is_shared_as_connections_are },
                { every_limit_has_a_sentence_that_names_it },
                { the_top_are_those_with_most_connections },
        };

        return suite_run("usage", setup, teardown, promises, sizeof(promises) / sizeof(*promises));
}
