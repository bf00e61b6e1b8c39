/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "client/lease.h"
#include "tests/unit/suite.h"

static struct lease_quiescence q;

static void setup(void)
{
        memset(&q, 0, sizeof(q));
}

static void teardown(void)
{
        lease_quiescence_deinit(&q);
}

START_TEST(what_the_daemon_says_is_read)
{
        ck_assert_int_eq(lease_quiescence_parse(&q, "{\"holders\":[{\"gid\":100,\"pid\":4711,\"uid\":4294967295,\"yielded\":false},"
                                                    "{\"gid\":0,\"pid\":2,\"uid\":0,\"yielded\":true}],\"more\":true,\"quiet\":false}"),
                         0);
        ck_assert(!q.quiet && q.more);
        ck_assert_uint_eq(q.n_holders, 2);
        ck_assert_uint_eq(q.holders[0].uid, 4294967295u);
        ck_assert_uint_eq(q.holders[0].gid, 100);
        ck_assert_int_eq(q.holders[0].pid, 4711);
        ck_assert(!q.holders[0].yielded && q.holders[1].yielded);
}
END_TEST

START_TEST(an_empty_answer_and_members_of_a_later_daemon_are_read)
{
        ck_assert_int_eq(lease_quiescence_parse(&q, "{\"quiet\":true,\"holders\":[]}"), 0);
        ck_assert(q.quiet && q.n_holders == 0);
        ck_assert_int_eq(lease_quiescence_parse(&q, " { \"since\" : -1.5e3, \"a_name_that_is_longer_than_others\": [1, {\"x\": null}, [], {}, \"y\"], "
                                                    "\"holders\" : [ { \"uid\" : 1, \"label\" : \"t\" } ] , \"quiet\" : true } "),
                         0);
        ck_assert_uint_eq(q.n_holders, 1);
        ck_assert_uint_eq(q.holders[0].uid, 1);
}
END_TEST

START_TEST(what_is_cut_or_of_another_kind_is_refused)
{
        static const char whole[] = "{\"holders\":[{\"gid\":1,\"pid\":2,\"uid\":3,\"yielded\":false}],\"more\":false,\"quiet\":false}";
        static const char *const wrong[] = {
                "[]",
                "{}",
                "{\"quiet\":true}",
                "{\"holders\":[]}",
                "{\"quiet\":1,\"holders\":[]}",
                "{\"quiet\":true,\"holders\":{}}",
                "{\"quiet\":true,\"holders\":[1]}",
                "{\"quiet\":true,\"holders\":[{\"uid\":-1}]}",
                "{\"quiet\":true,\"holders\":[{\"uid\":4294967296}]}",
                "{\"quiet\":true,\"holders\":[{\"uid\":99999999999999999999999}]}",
                "{\"quiet\":true,\"holders\":[{\"uid\":1}],\"holders\":[{\"uid\":1}]}",
                "{\"quiet\":true,\"holders\":[],}",
                "{\"quiet\":true,\"holders\":[]}}",
                "{\"quiet\":true,\"holders\":[],\"x\":[[[[[[[[[[1]]]]]]]]]]}",
        };
        char cut[sizeof(whole)];

        ck_assert_int_eq(lease_quiescence_parse(&q, whole), 0);
        lease_quiescence_deinit(&q);
        for (size_t n = 0; n < sizeof(whole) - 1; n++) {
                memcpy(cut, whole, n);
                cut[n] = '\0';
                ck_assert_int_eq(lease_quiescence_parse(&q, cut), -EBADMSG);
        }
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                ck_assert_msg(lease_quiescence_parse(&q, wrong[i]) == -EBADMSG, "%s", wrong[i]);
        ck_assert_ptr_null(q.holders);
}
END_TEST

START_TEST(more_holders_than_are_ever_told_are_refused)
{
        size_t room = 64 + (LEASE_HOLDERS_MAX + 1) * sizeof("{\"uid\":1},");
        char *json = malloc(room), *at;

        for (unsigned over = 0; over <= 1; over++) {
                at = json + snprintf(json, room, "{\"quiet\":true,\"holders\":[{\"uid\":1}");
                for (unsigned i = 1; i < LEASE_HOLDERS_MAX + over; i++)
                        at += snprintf(at, room - (size_t)(at - json), ",{\"uid\":1}");
                snprintf(at, room - (size_t)(at - json), "]}");
                ck_assert_int_eq(lease_quiescence_parse(&q, json), over ? -EBADMSG : 0);
        }
        ck_assert_uint_eq(q.n_holders, LEASE_HOLDERS_MAX);
        free(json);
}
END_TEST

START_TEST(only_those_who_have_not_yielded_are_named)
{
        char text[128];

        lease_quiescence_parse(&q, "{\"quiet\":false,\"holders\":[{\"uid\":1000,\"pid\":11,\"yielded\":false},{\"uid\":0,\"pid\":12,\"yielded\":true},"
                                   "{\"uid\":0,\"pid\":13,\"yielded\":false}]}");
        lease_quiescence_format(text, sizeof(text), &q);
        ck_assert_str_eq(text, "process 11 (user 1000), process 13 (user 0)");
        q.more = true;
        lease_quiescence_format(text, sizeof(text), &q);
        ck_assert_str_eq(text, "process 11 (user 1000), process 13 (user 0), and others");
}
END_TEST

START_TEST(a_long_list_is_cut_and_never_overflows)
{
        lease_quiescence_parse(&q, "{\"quiet\":false,\"holders\":[{\"uid\":1000,\"pid\":11},{\"uid\":1000,\"pid\":12},{\"uid\":1000,\"pid\":13}]}");
        for (size_t n = 1; n < 100; n++) {
                char *text = malloc(n);

                q.more = n & 1;
                lease_quiescence_format(text, n, &q);
                ck_assert_uint_lt(strlen(text), n);
                free(text);
        }
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { what_the_daemon_says_is_read },
                { an_empty_answer_and_members_of_a_later_daemon_are_read },
                { what_is_cut_or_of_another_kind_is_refused },
                { more_holders_than_are_ever_told_are_refused },
                { only_those_who_have_not_yielded_are_named },
                { a_long_list_is_cut_and_never_overflows },
        };

        return suite_run("lease-quiesce", setup, teardown, promises, ELEMENTSOF(promises));
}
