/* SPDX-License-Identifier: Apache-2.0 */
#include "client/database.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "tests/unit/suite.h"

static char directory[] = "/tmp/lkm-test-database.XXXXXX", database[PATH_MAX], path[PATH_MAX];
static struct lkm *lkm;

static void setup(void)
{
        static const struct lkm_options options = { .socket = "/nonexistent" };

        memcpy(directory, "/tmp/lkm-test-database.XXXXXX", sizeof(directory));
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(database, sizeof(database), "%s/a.db", directory);
        snprintf(path, sizeof(path), "%s/a.db.key", directory);
        ck_assert_int_eq(connection_new(&lkm, &options), 0);
        ck_assert_int_eq(keyfile_create(path, BYTES_LITERAL("first")), 0);
}

static void teardown(void)
{
        lkm_free(&lkm);
        unlink(path);
        rmdir(directory);
}

static void put(const char *content)
{
        struct keyfile_lock lock = KEYFILE_LOCK_INIT;

        ck_assert_int_eq(keyfile_lock(&lock, path, 0), 0);
        ck_assert_int_eq(keyfile_replace(&lock, bytes_from_string(content)), 0);
        keyfile_unlock(&lock);
}

static void assert_content(const struct database_record *record, const char *in_memory, const char *in_file)
{
        _cleanup_(freep) uint8_t *data = NULL;
        size_t n;

        ck_assert(bytes_equal((struct bytes){ record->data, record->n }, bytes_from_string(in_memory)));
        ck_assert_int_eq(keyfile_read(path, &data, &n), 0);
        ck_assert(bytes_equal((struct bytes){ data, n }, bytes_from_string(in_file)));
}

START_TEST(an_upgrade_replaces_what_it_was_made_of)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };

        ck_assert_int_eq(database_record_read(lkm, database, &record), 0);
        ck_assert_int_eq(database_record_upgraded(lkm, &record, NULL, BYTES_LITERAL("second")), 0);
        assert_content(&record, "second", "second");
}
END_TEST

/* Between the reading and the daemon's answer another process may have upgraded the record, and changed its key. */
START_TEST(an_upgrade_never_replaces_a_newer_record)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };

        ck_assert_int_eq(database_record_read(lkm, database, &record), 0);
        put("rotated");
        ck_assert_int_eq(database_record_upgraded(lkm, &record, NULL, BYTES_LITERAL("second")), 0);
        assert_content(&record, "rotated", "rotated");
}
END_TEST

START_TEST(an_upgrade_waits_for_nobody_who_changes_the_record)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };
        struct keyfile_lock lock = KEYFILE_LOCK_INIT;

        ck_assert_int_eq(database_record_read(lkm, database, &record), 0);
        ck_assert_int_eq(keyfile_lock(&lock, path, 0), 0);
        ck_assert_int_eq(database_record_upgraded(lkm, &record, NULL, BYTES_LITERAL("second")), 0);
        assert_content(&record, "second", "first");
        ck_assert_int_eq(database_record_upgraded(lkm, &record, &lock, BYTES_LITERAL("third")), 0);
        assert_content(&record, "first", "first"); /* it is not what the third was made of */
        keyfile_unlock(&lock);
}
END_TEST

START_TEST(a_record_is_known_after_it_could_not_be_replaced)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };
        struct keyfile_lock lock = KEYFILE_LOCK_INIT;

        ck_assert_int_eq(database_record_read(lkm, database, &record), 0);
        ck_assert_int_eq(keyfile_lock(&lock, path, 0), 0);
        ck_assert_int_eq(database_record_put(lkm, &record, &lock, (struct bytes){ (const uint8_t *)"", 0 }), LKM_E_IO);
        assert_content(&record, "first", "first");
        ck_assert_ptr_nonnull(strstr(lkm_error_message(lkm), path));
        ck_assert_int_eq(database_record_put(lkm, &record, &lock, BYTES_LITERAL("second")), 0);
        assert_content(&record, "second", "second");
        unlink(path);
        rmdir(directory);
        ck_assert_int_eq(database_record_put(lkm, &record, &lock, BYTES_LITERAL("third")), LKM_E_IO);
        ck_assert_uint_eq(record.n, 0); /* nothing is known */
        keyfile_unlock(&lock);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { an_upgrade_replaces_what_it_was_made_of },
                { an_upgrade_never_replaces_a_newer_record },
                { an_upgrade_waits_for_nobody_who_changes_the_record },
                { a_record_is_known_after_it_could_not_be_replaced },
        };

        return suite_run("database", setup, teardown, promises, ELEMENTSOF(promises));
}
