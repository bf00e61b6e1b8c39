/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>

#include "common/clock.h"
#include "daemon/cache.h"

static const struct cache_times times = { .ttl_usec = 100, .stale_grace_usec = 50, .max_age_usec = 130 };
static struct cache *cache;
static unsigned n_evicted;
static enum cache_reason last_reason;

static void on_evicted(void *userdata, const struct cache_entry *entry, enum cache_reason reason)
{
        ck_assert_ptr_null(entry->key); /* told after the wipe */
        n_evicted++;
        last_reason = reason;
}

static void setup(void)
{
        secret_arena_init(64, 2, 0, NULL);
        ck_assert_int_eq(cache_new(&cache, 3, on_evicted, NULL), 0);
        n_evicted = 0;
}

static void teardown(void)
{
        size_t used;

        cache_free(cache);
        secret_arena_usage(&used, NULL, NULL, NULL);
        ck_assert_uint_eq(used, 0);
}

static struct cache_entry *store(uint8_t name, uint64_t now, const struct cache_times *t)
{
        uint8_t digest[CACHE_DIGEST_SIZE] = { name, 1, 2, 3, 4, 5, 6, name }, id[UUID_SIZE] = { name };
        struct cache_item item = { .digest = digest, .database_id = id, .version = 1, .scope = "s", .label = "" };
        struct cache_entry *entry;

        ck_assert_int_eq(secret_new_random(&item.key, 32), 0);
        entry = cache_store(cache, &item, t, now);
        secret_unref(item.key);
        return entry;
}

static struct cache_entry *find(uint8_t name, uint64_t now)
{
        uint8_t digest[CACHE_DIGEST_SIZE] = { name, 1, 2, 3, 4, 5, 6, name };

        return cache_find(cache, digest, now);
}

START_TEST(key_is_fresh_until_ttl_then_stale_until_grace_then_gone)
{
        struct cache_times long_lived = { .ttl_usec = 100, .stale_grace_usec = 50, .max_age_usec = 1000 };

        store(1, 0, &long_lived);
        ck_assert(cache_entry_is_fresh(find(1, 99), 99));
        ck_assert_ptr_nonnull(find(1, 149));
        ck_assert(!cache_entry_is_fresh(find(1, 100), 100));
        ck_assert_ptr_null(find(1, 150));
        ck_assert_uint_eq(cache_expire(cache, 149), 0);
        ck_assert_uint_eq(cache_expire(cache, 150), 1);
        ck_assert_int_eq(last_reason, CACHE_REASON_EXPIRED);
}
END_TEST

START_TEST(nothing_extends_the_max_age)
{
        store(1, 0, &times);
        cache_touch(cache, find(1, 90), 90);
        ck_assert_ptr_nonnull(find(1, 129));
        ck_assert_ptr_null(find(1, 130));
        ck_assert_uint_eq(cache_deadline(cache), 130);
}
END_TEST

START_TEST(an_unwrap_renews_all_clocks_of_the_same_entry)
{
        uint64_t serial = store(1, 0, &times)->serial;

        ck_assert_uint_eq(store(1, 90, &times)->serial, serial);
        ck_assert_uint_eq(cache_size(cache), 1);
        ck_assert(cache_entry_is_fresh(find(1, 189), 189));
        ck_assert_uint_eq(cache_deadline(cache), 220);
}
END_TEST

START_TEST(refresh_comes_ahead_of_expiry_within_a_tenth)
{
        for (unsigned i = 0; i < 256; i++) {
                struct cache_times t = { .ttl_usec = 1000, .max_age_usec = 5000 };
                struct cache_entry *entry = store((uint8_t)i, 0, &t);

                ck_assert_uint_ge(entry->refresh_at_usec, 700);
                ck_assert_uint_le(entry->refresh_at_usec, 900);
        }
}
END_TEST

START_TEST(the_least_recently_used_goes_when_full)
{
        store(1, 1, &times);
        store(2, 2, &times);
        store(3, 3, &times);
        cache_touch(cache, find(1, 4), 4);
        store(4, 5, &times);
        ck_assert_uint_eq(cache_size(cache), 3);
        ck_assert_ptr_null(find(2, 5));
        ck_assert_ptr_nonnull(find(1, 5));
        ck_assert_int_eq(last_reason, CACHE_REASON_CAPACITY);
}
END_TEST

START_TEST(wipe_all_leaves_nothing)
{
        store(1, 0, &times);
        store(2, 0, &times);
        ck_assert_uint_eq(cache_evict_all(cache), 2);
        ck_assert_uint_eq(cache_size(cache), 0);
        ck_assert_uint_eq(n_evicted, 2);
        ck_assert_uint_eq(cache_deadline(cache), USEC_INFINITY);
}
END_TEST

START_TEST(a_database_is_evicted_with_all_its_records)
{
        uint8_t id[UUID_SIZE] = { 1 };

        store(1, 0, &times);
        store(2, 0, &times);
        ck_assert_uint_eq(cache_evict_database(cache, id, NULL), 1);
        ck_assert_ptr_null(find(1, 1));
        ck_assert_ptr_nonnull(find(2, 1));
}
END_TEST

/* Against a plain model: whatever the order of stores and evictions, the heap yields the earliest deadline. */
START_TEST(deadlines_come_in_order)
{
        uint64_t last = 0;

        cache_free(cache);
        ck_assert_int_eq(cache_new(&cache, 40, on_evicted, NULL), 0);
        for (unsigned i = 0; i < 40; i++) {
                struct cache_times t = { .ttl_usec = (i * 7919 + 13) % 1000 + 1, .max_age_usec = 5000 };

                store((uint8_t)i, 0, &t);
        }
        for (uint8_t i = 0; i < 40; i = (uint8_t)(i + 3))
                cache_evict(cache, find(i, 0), CACHE_REASON_ASKED);
        while (cache_size(cache) > 0) {
                uint64_t deadline = cache_deadline(cache);

                ck_assert_uint_ge(deadline, last);
                ck_assert_uint_ge(cache_expire(cache, deadline), 1);
                last = deadline;
        }
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("cache");
        TCase *tcase = tcase_create("cache");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(tcase, setup, teardown);
        tcase_add_test(tcase, key_is_fresh_until_ttl_then_stale_until_grace_then_gone);
        tcase_add_test(tcase, nothing_extends_the_max_age);
        tcase_add_test(tcase, an_unwrap_renews_all_clocks_of_the_same_entry);
        tcase_add_test(tcase, refresh_comes_ahead_of_expiry_within_a_tenth);
        tcase_add_test(tcase, the_least_recently_used_goes_when_full);
        tcase_add_test(tcase, wipe_all_leaves_nothing);
        tcase_add_test(tcase, a_database_is_evicted_with_all_its_records);
        tcase_add_test(tcase, deadlines_come_in_order);
        suite_add_tcase(suite, tcase);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
