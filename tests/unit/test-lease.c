/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>

#include "daemon/lease.h"
#include "proto/frame.h"
#include "tests/unit/suite.h"

enum { N_HOLDERS = 4, ROUNDS = 20000 };

static struct lease_table table;
static struct peer peers[N_HOLDERS];
static struct lease_holder holders[N_HOLDERS];
static unsigned n_wakes[N_HOLDERS], n_quiets[N_HOLDERS];
static const uint8_t patients[UUID_SIZE] = { 1, 2, 3 }, invoices[UUID_SIZE] = { 9, 2, 3 };

static void on_wake(struct lease_holder *holder)
{
        ck_assert_uint_gt(holder->n_owed, 0);
        n_wakes[holder - holders]++;
}

static void on_quiet(struct lease_holder *holder)
{
        ck_assert(lease_is_quiet(holder));
        n_quiets[holder - holders]++;
}

static void setup(void)
{
        lease_table_init(&table, on_wake, on_quiet);
        for (unsigned i = 0; i < N_HOLDERS; i++) {
                peers[i].uid = i;
                n_wakes[i] = n_quiets[i] = 0;
                lease_holder_init(&holders[i], &peers[i]);
        }
}

static void teardown(void)
{
        for (unsigned i = 0; i < N_HOLDERS; i++)
                lease_holder_deinit(&holders[i], &table);
        ck_assert_uint_eq(table.n_leases, 0);
        ck_assert_uint_eq(table.n_databases, 0);
        ck_assert_uint_eq(table.n_quiesced, 0);
        for (unsigned i = 0; i < N_HOLDERS; i++)
                ck_assert_uint_eq(holders[i].n_owed, 0);
}

static int take(unsigned holder, uint32_t id)
{
        return lease_take(&table, &holders[holder], id, "medical", patients);
}

static int quiesce(unsigned holder)
{
        return lease_quiesce(&table, &holders[holder], "medical", patients);
}

/* The event that @holder is told next, 0 for none. */
static unsigned told(unsigned holder, uint32_t wanted_id)
{
        enum lease_event event;
        uint32_t id;

        if (!lease_next_event(&holders[holder], &id, &event))
                return 0;
        ck_assert_uint_eq(id, wanted_id);
        return event;
}

START_TEST(nothing_is_told_while_nobody_wants_a_database)
{
        ck_assert_int_eq(take(0, 7), 0);
        ck_assert_uint_eq(told(0, 7), 0);
        ck_assert_int_eq(lease_yield(&table, &holders[0], 7), 0);
        ck_assert_int_eq(quiesce(1), 0);
        ck_assert(!lease_is_quiet(&holders[1])); /* that yield answered no event */
        ck_assert_uint_eq(n_wakes[0], 1);
}
END_TEST

START_TEST(a_database_is_quiet_when_the_last_has_yielded_or_gone)
{
        for (unsigned i = 0; i < 3; i++)
                ck_assert_int_eq(take(i, 5), 0);
        ck_assert_int_eq(quiesce(3), 0);
        for (unsigned i = 0; i < 3; i++)
                ck_assert_uint_eq(told(i, 5), LEASE_EVENT_CLOSE);
        ck_assert_int_eq(lease_yield(&table, &holders[0], 5), 0);
        ck_assert_int_eq(lease_yield(&table, &holders[0], 5), 0); /* twice is once */
        lease_holder_deinit(&holders[1], &table);
        ck_assert_uint_eq(n_quiets[3], 0);
        ck_assert_int_eq(lease_yield(&table, &holders[2], 5), 0);
        ck_assert_uint_eq(n_quiets[3], 1);
        ck_assert(lease_is_quiet(&holders[3]));
        lease_resume(&table, &holders[3]);
        ck_assert(!lease_is_quiet(&holders[3]));
        ck_assert_uint_eq(told(0, 5), LEASE_EVENT_REOPEN);
        ck_assert_uint_eq(told(0, 5), 0);
        ck_assert_uint_eq(told(2, 5), LEASE_EVENT_REOPEN);
}
END_TEST

START_TEST(somebody_who_goes_after_yielding_changes_nothing)
{
        take(0, 5);
        take(1, 5);
        quiesce(3);
        told(0, 5);
        lease_yield(&table, &holders[0], 5);
        lease_holder_deinit(&holders[0], &table);
        ck_assert_uint_eq(n_quiets[3], 0);
        ck_assert(!lease_is_quiet(&holders[3]));
}
END_TEST

START_TEST(who_is_not_told_in_time_is_told_how_things_stand)
{
        take(0, 5);
        for (unsigned i = 0; i < 100; i++) {
                quiesce(3);
                lease_resume(&table, &holders[3]);
        }
        ck_assert_uint_eq(told(0, 5), 0);
        for (unsigned i = 0; i < 101; i++) {
                quiesce(3);
                if (i < 100)
                        lease_resume(&table, &holders[3]);
        }
        ck_assert_uint_eq(told(0, 5), LEASE_EVENT_CLOSE);
        ck_assert_uint_eq(told(0, 5), 0);
}
END_TEST

START_TEST(a_yield_lasts_until_the_holder_is_told_to_reopen)
{
        take(0, 5);
        quiesce(3);
        told(0, 5);
        lease_yield(&table, &holders[0], 5);
        lease_resume(&table, &holders[3]);
        quiesce(2); /* before it could be told: it has the database closed still */
        ck_assert(lease_is_quiet(&holders[2]));
        ck_assert_uint_eq(told(0, 5), 0);
        lease_resume(&table, &holders[2]);
        ck_assert_uint_eq(told(0, 5), LEASE_EVENT_REOPEN);
        quiesce(2);
        ck_assert(!lease_is_quiet(&holders[2]));
}
END_TEST

START_TEST(a_late_yield_counts_as_long_as_reopen_was_not_told)
{
        take(0, 5);
        quiesce(3);
        told(0, 5);
        lease_resume(&table, &holders[3]);
        lease_yield(&table, &holders[0], 5); /* it has closed; REOPEN will follow */
        quiesce(3);
        ck_assert(lease_is_quiet(&holders[3]));
        lease_resume(&table, &holders[3]);
        ck_assert_uint_eq(told(0, 5), LEASE_EVENT_REOPEN);
        lease_yield(&table, &holders[0], 5); /* too late: it is to reopen */
        quiesce(3);
        ck_assert(!lease_is_quiet(&holders[3]));
}
END_TEST

START_TEST(a_lease_taken_meanwhile_has_to_yield)
{
        quiesce(3);
        ck_assert(lease_is_quiet(&holders[3]));
        take(0, 5);
        ck_assert(!lease_is_quiet(&holders[3]));
        ck_assert_uint_eq(n_wakes[0], 1);
        ck_assert_uint_eq(told(0, 5), LEASE_EVENT_CLOSE);
        lease_yield(&table, &holders[0], 5);
        ck_assert_uint_eq(n_quiets[3], 1);
}
END_TEST

START_TEST(a_database_has_one_rotator_and_a_rotator_one_database)
{
        ck_assert_int_eq(quiesce(0), 0);
        ck_assert_int_eq(quiesce(0), 0);
        ck_assert_int_eq(quiesce(1), LEASE_E_WANTED);
        ck_assert_int_eq(lease_quiesce(&table, &holders[0], "medical", invoices), LEASE_E_OTHER);
        ck_assert_uint_eq(table.n_databases, 1);
        ck_assert_uint_eq(table.n_quiesced, 1);
        lease_resume(&table, &holders[1]);
        ck_assert_int_eq(quiesce(1), LEASE_E_WANTED);
        lease_resume(&table, &holders[0]);
        ck_assert_int_eq(quiesce(1), 0);
}
END_TEST

START_TEST(scope_and_id_name_a_database_together)
{
        ck_assert_int_eq(take(0, 1), 0);
        ck_assert_int_eq(lease_take(&table, &holders[0], 2, "billing", patients), 0);
        ck_assert_int_eq(lease_take(&table, &holders[0], 3, "medical", invoices), 0);
        ck_assert_uint_eq(table.n_databases, 3);
        quiesce(3);
        ck_assert_uint_eq(told(0, 1), LEASE_EVENT_CLOSE);
        ck_assert_uint_eq(told(0, 1), 0);
}
END_TEST

START_TEST(leases_of_one_connection_are_few_and_differ)
{
        for (uint32_t i = 0; i < LEASES_PER_CONNECTION; i++)
                ck_assert_int_eq(take(0, i + 1), 0);
        ck_assert_int_eq(take(0, 1), LEASE_E_EXISTS);
        ck_assert_int_eq(take(0, LEASES_PER_CONNECTION + 1), LEASE_E_QUOTA);
        ck_assert_int_eq(take(1, 1), 0);
        ck_assert_int_eq(lease_yield(&table, &holders[1], 2), LEASE_E_NONE);
        ck_assert_uint_eq(table.n_leases, LEASES_PER_CONNECTION + 1);
}
END_TEST

static bool note(void *userdata, const struct peer *peer, bool yielded)
{
        char **at = userdata;

        *(*at)++ = (char)('0' + peer->uid);
        *(*at)++ = yielded ? 'y' : 'n';
        return true;
}

START_TEST(those_who_have_it_open_are_listed_first)
{
        char list[16] = "", *at = list;

        for (unsigned i = 0; i < 3; i++)
                take(i, 5);
        quiesce(3);
        told(0, 5);
        lease_yield(&table, &holders[0], 5);
        lease_each(&holders[3], note, &at);
        ck_assert_str_eq(list, "1n2n0y");
        lease_each(&holders[2], note, &at); /* quiesces nothing */
        ck_assert_str_eq(list, "1n2n0y");
}
END_TEST

START_TEST(one_connection_may_hold_and_quiesce)
{
        take(0, 5);
        quiesce(0);
        ck_assert_uint_eq(told(0, 5), LEASE_EVENT_CLOSE);
        lease_yield(&table, &holders[0], 5);
        ck_assert_uint_eq(n_quiets[0], 1);
        lease_holder_deinit(&holders[0], &table);
}
END_TEST

/* A second, naive account of the same rules. */
struct account {
        bool held, told, yielded;
};

START_TEST(any_order_keeps_the_books)
{
        struct account books[N_HOLDERS] = { 0 };
        int rotator = -1;
        uint32_t chance = 7;

        for (unsigned round = 0; round < ROUNDS; round++) {
                unsigned who, n_open = 0;

                chance = chance * 1103515245 + 12345;
                who = chance >> 8 & 3;
                switch (chance >> 16 & 7) {
                case 0:
                        ck_assert_int_eq(take(who, 1), books[who].held ? LEASE_E_EXISTS : 0);
                        books[who].held = true;
                        break;
                case 1:
                        lease_holder_deinit(&holders[who], &table);
                        lease_holder_init(&holders[who], &peers[who]);
                        books[who] = (struct account){ 0 };
                        if (rotator == (int)who)
                                rotator = -1;
                        break;
                case 2:
                case 3:
                        ck_assert_int_eq(lease_yield(&table, &holders[who], 1), books[who].held ? 0 : LEASE_E_NONE);
                        books[who].yielded |= books[who].told;
                        break;
                case 4:
                        ck_assert_int_eq(quiesce(who), rotator >= 0 && rotator != (int)who ? LEASE_E_WANTED : 0);
                        rotator = rotator >= 0 ? rotator : (int)who;
                        break;
                case 5:
                        lease_resume(&table, &holders[who]);
                        if (rotator == (int)who)
                                rotator = -1;
                        break;
                default: {
                        bool owed = books[who].held && books[who].told != (rotator >= 0);
                        unsigned event = told(who, 1);

                        ck_assert_uint_eq(event, !owed ? 0 : rotator >= 0 ? LEASE_EVENT_CLOSE : LEASE_EVENT_REOPEN);
                        books[who].told ^= owed;
                        books[who].yielded &= books[who].told;
                }
                }
                for (unsigned i = 0; i < N_HOLDERS; i++)
                        n_open += books[i].held && !books[i].yielded;
                for (unsigned i = 0; i < N_HOLDERS; i++) {
                        ck_assert(lease_is_quiet(&holders[i]) == (rotator == (int)i && n_open == 0));
                        ck_assert_uint_eq(holders[i].n_owed, books[i].held && books[i].told != (rotator >= 0));
                }
        }
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { nothing_is_told_while_nobody_wants_a_database },
                { a_database_is_quiet_when_the_last_has_yielded_or_gone },
                { somebody_who_goes_after_yielding_changes_nothing },
                { who_is_not_told_in_time_is_told_how_things_stand },
                { a_yield_lasts_until_the_holder_is_told_to_reopen },
                { a_late_yield_counts_as_long_as_reopen_was_not_told },
                { a_lease_taken_meanwhile_has_to_yield },
                { a_database_has_one_rotator_and_a_rotator_one_database },
                { scope_and_id_name_a_database_together },
                { leases_of_one_connection_are_few_and_differ },
                { those_who_have_it_open_are_listed_first },
                { one_connection_may_hold_and_quiesce },
                { any_order_keeps_the_books },
        };

        return suite_run("lease", setup, teardown, promises, ELEMENTSOF(promises));
}
