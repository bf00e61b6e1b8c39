/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/scan.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "client/lkm.h"
#include "client/rekey/handle.h"
#include "client/rekey/meter.h"
#include "tests/unit/cipher-database.h"
#include "tests/unit/suite.h"

enum { N_KEYS = 3, ROWS = 200 };

static char directory[] = "/tmp/lkm-test-scan.XXXXXX", path[64];
static struct work work;

static void setup(void)
{
        memcpy(directory, "/tmp/lkm-test-scan.XXXXXX", sizeof(directory));
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/a.db", directory);
        ck_assert_int_eq(secret_arena_init(64, 4, 0, NULL), 0);
        cipher_work(&work, path, N_KEYS);
}

static void teardown(void)
{
        static const char *const suffixes[] = { "", "-wal", "-shm", "-journal" };
        char side[96];

        work_deinit(&work);
        secret_arena_deinit();
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                snprintf(side, sizeof(side), "%s%s", path, suffixes[i]);
                unlink(side);
        }
        rmdir(directory);
}

static void make(const char *pragmas)
{
        sqlite3 *db = cipher_open(&work, 0, pragmas);

        cipher_fill(db, ROWS);
        sqlite3_close(db);
}

/* The whole of the file, in @ret_scan and @ret_image. */
static void look(struct scan *ret_scan, struct image *ret_image, scan_callback *callback, void *userdata)
{
        *ret_image = (struct image)IMAGE_INIT;
        ck_assert_int_eq(image_open(ret_image, &work), 0);
        ck_assert_int_eq(scan_begin(ret_scan, ret_image, &work), 0);
        ck_assert_int_eq(scan_pages(ret_scan, ret_image, &work, callback, userdata), 0);
}

static void done(struct scan *scan, struct image *image)
{
        scan_deinit(scan);
        image_deinit(image);
}

/* Pages @first to @last under key @key. */
static void change_key(uint32_t first, uint32_t last, size_t key)
{
        _cleanup_(freep) uint8_t *data = NULL;
        struct page_format format;
        struct page_key *from, *to;
        size_t n;

        data = cipher_read_file(path, &n);
        ck_assert(page_format_init(&format, work_compatibility(&work), 0));
        ck_assert_int_eq(page_key_new(&from, &format, work.keys[0].secret, data), 0);
        ck_assert_int_eq(page_key_new(&to, &format, work.keys[key].secret, data), 0);
        for (uint32_t number = first; number <= last; number++) {
                ck_assert_int_eq(page_decrypt(from, data + (size_t)(number - 1) * format.size, number), 0);
                ck_assert_int_eq(page_encrypt(to, data + (size_t)(number - 1) * format.size, number), 0);
        }
        cipher_write_file(path, data, n);
        page_key_free(from);
        page_key_free(to);
}

static void overwrite(uint64_t offset, int byte, size_t n)
{
        _cleanup_(freep) uint8_t *bytes = malloc(n);
        _cleanup_(closep) int fd = open(path, O_RDWR | O_CLOEXEC);

        memset(bytes, byte, n);
        ck_assert_int_eq(pwrite(fd, bytes, n, (off_t)offset), (ssize_t)n);
}

START_TEST(a_whole_database_has_one_key)
{
        struct image image;
        struct scan scan;

        make("");
        look(&scan, &image, NULL, NULL);
        ck_assert_uint_gt(scan.n_pages, 10);
        ck_assert_uint_eq(scan.n_fit[0], scan.n_pages);
        ck_assert_uint_eq(scan.n_unknown, 0);
        ck_assert_int_eq(scan_only(&scan, &work), 0);
        done(&scan, &image);
}
END_TEST

START_TEST(a_page_of_another_key_leaves_none)
{
        struct image image;
        struct scan scan;

        make("");
        change_key(3, 5, 2);
        look(&scan, &image, NULL, NULL);
        ck_assert_uint_eq(scan.n_fit[2], 3);
        ck_assert_uint_eq(scan.n_fit[0], scan.n_pages - 3);
        ck_assert_int_eq(scan_only(&scan, &work), -1);
        done(&scan, &image);
}
END_TEST

START_TEST(a_page_of_no_key_leaves_none)
{
        struct image image;
        struct scan scan;

        make("");
        overwrite(3 * 4096 + 100, 0x5a, 1);
        look(&scan, &image, NULL, NULL);
        ck_assert_uint_eq(scan.n_unknown, 1);
        ck_assert_uint_eq(scan.first_unknown, (3 * 4096 + 100) / scan.format.size + 1);
        ck_assert_int_eq(scan_only(&scan, &work), -1);
        done(&scan, &image);
}
END_TEST

START_TEST(zeros_fit_every_key_but_not_in_the_first_page)
{
        struct image image;
        struct scan scan;

        make("");
        overwrite(4096, 0, 4096);
        look(&scan, &image, NULL, NULL);
        ck_assert_uint_eq(scan.n_zero, 4096 / scan.format.size);
        ck_assert_uint_eq(scan.n_unknown, 0);
        ck_assert_int_eq(scan_only(&scan, &work), 0);
        done(&scan, &image);
        overwrite(0, 0, 4096);
        look(&scan, &image, NULL, NULL);
        ck_assert_uint_ge(scan.n_unknown, 1);
        ck_assert_int_eq(scan_only(&scan, &work), -1);
        done(&scan, &image);
}
END_TEST

START_TEST(a_key_under_two_numbers_is_one_key)
{
        struct image image;
        struct scan scan;
        uint8_t *view;

        make("");
        view = secret_view_begin(work.keys[1].secret);
        memset(view, 1, KEY_SIZE);
        secret_view_end(work.keys[1].secret, &view);
        look(&scan, &image, NULL, NULL);
        ck_assert_int_eq(scan_only(&scan, &work), 0);
        done(&scan, &image);
}
END_TEST

START_TEST(files_that_are_no_databases_have_no_key)
{
        static const size_t sizes[] = { 1, 100, 4095, 4097, 100000 };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(freep) uint8_t *garbage = malloc(sizes[i]);
                struct image image;
                struct scan scan;

                memset(garbage, 0xa5, sizes[i]);
                cipher_write_file(path, garbage, sizes[i]);
                look(&scan, &image, NULL, NULL);
                ck_assert_uint_eq(scan.n_unknown, scan.n_pages);
                ck_assert_int_eq(scan_only(&scan, &work), -1);
                done(&scan, &image);
        }
}
END_TEST

START_TEST(a_file_that_ends_within_a_page_has_no_key)
{
        _cleanup_(freep) uint8_t *data = NULL;
        struct image image;
        struct scan scan;
        size_t n;

        make("");
        data = cipher_read_file(path, &n);
        cipher_write_file(path, data, n - 100);
        look(&scan, &image, NULL, NULL);
        ck_assert_uint_eq(scan.n_unknown, 1);
        ck_assert_uint_eq(scan.first_unknown, scan.n_pages);
        done(&scan, &image);
}
END_TEST

START_TEST(the_format_is_found_where_the_job_does_not_say_it)
{
        for (unsigned compatibility = 3; compatibility <= work.library; compatibility++) {
                struct image image;
                struct scan scan;

                unlink(path);
                make(cipher_format(&work, compatibility, 0));
                look(&scan, &image, NULL, NULL);
                ck_assert_uint_eq(scan.format.compatibility, compatibility);
                ck_assert_int_eq(scan_only(&scan, &work), 0);
                done(&scan, &image);
        }
}
END_TEST

/* ---- WAL ---- */

/* What a process leaves that dies with @sql done and not checkpointed. */
static void die_after(const char *sql)
{
        pid_t child = fork();
        int status;

        ck_assert_int_ge(child, 0);
        if (child == 0) {
                /* The arena is not here; the keys of cipher_open() are numbers. */
                sqlite3 *db = cipher_open(&work, 0, "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0");

                cipher_do(db, sql);
                raise(SIGKILL);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

struct seen {
        uint64_t n;
        uint8_t *data;
        uint32_t size;
};

static int keep(void *userdata, uint64_t first, size_t n, const uint8_t *fits, uint8_t *pages)
{
        struct seen *seen = userdata;

        seen->data = realloc(seen->data, (seen->n + n) * seen->size);
        ck_assert_ptr_nonnull(seen->data);
        memcpy(seen->data + seen->n * seen->size, pages, n * seen->size);
        seen->n += n;
        return 0;
}

START_TEST(committed_pages_of_the_wal_are_seen_and_nothing_is_written)
{
        _cleanup_(freep) uint8_t *before = NULL, *after = NULL;
        struct seen seen = { .size = work.library >= 4 ? 4096 : 1024 };
        struct image image;
        struct scan scan;
        size_t n_before, n_after;
        sqlite3 *db;

        make("");
        die_after("DELETE FROM t WHERE rowid % 2; INSERT INTO t SELECT randomblob(900) FROM t; UPDATE t SET x = 'seen' WHERE rowid = 2; BEGIN;"
                  "CREATE TABLE unseen(x); INSERT INTO unseen SELECT randomblob(900) FROM t");
        before = cipher_read_file(path, &n_before);
        look(&scan, &image, keep, &seen);
        ck_assert_uint_gt(image.n_committed, 0);
        ck_assert_uint_eq(scan.n_unknown, 0);
        ck_assert_int_eq(scan_only(&scan, &work), 0);
        ck_assert_uint_eq(seen.n, scan.n_pages);
        done(&scan, &image);
        after = cipher_read_file(path, &n_after);
        ck_assert(n_before == n_after);
        for (size_t i = 0; i < n_before; i++)
                ck_assert_uint_eq(before[i], after[i]);

        /* What was seen is a database of its own. */
        unlink(path);
        free(TAKE_PTR(work.path));
        snprintf(path, sizeof(path), "%s/b.db", directory);
        work.path = strdup(path);
        cipher_write_file(path, seen.data, seen.n * seen.size);
        db = cipher_open(&work, 0, "");
        ck_assert_int_eq(cipher_value(db, "SELECT count(*) FROM t"), ROWS);
        ck_assert_int_eq(cipher_value(db, "SELECT x = 'seen' FROM t WHERE rowid = 2"), 1);
        ck_assert_int_eq(cipher_value(db, "SELECT count(*) FROM unseen"), -1);
        sqlite3_close(db);
        free(seen.data);
        unlink(path);
        snprintf(path, sizeof(path), "%s/a.db", directory);
}
END_TEST

START_TEST(a_wal_that_is_damaged_ends_where_the_damage_is)
{
        struct image image;
        struct scan scan;
        char wal[96];
        uint32_t whole;

        make("");
        die_after("UPDATE t SET x = randomblob(900) WHERE rowid < 20; UPDATE t SET x = randomblob(900) WHERE rowid > 100");
        look(&scan, &image, NULL, NULL);
        whole = image.n_committed;
        done(&scan, &image);
        snprintf(wal, sizeof(wal), "%s-wal", path);
        {
                _cleanup_(freep) uint8_t *data = NULL;
                size_t n;

                data = cipher_read_file(wal, &n);
                data[n - 2000] ^= 1;
                cipher_write_file(wal, data, n);
        }
        look(&scan, &image, NULL, NULL);
        ck_assert_uint_gt(image.n_committed, 0);
        ck_assert_uint_lt(image.n_committed, whole);
        ck_assert_int_eq(scan_only(&scan, &work), 0);
        done(&scan, &image);
        cipher_write_file(wal, (const uint8_t *)"garbage", 7);
        look(&scan, &image, NULL, NULL);
        ck_assert_uint_eq(image.n_committed, 0);
        done(&scan, &image);
}
END_TEST

/* ---- locks ---- */

START_TEST(nobody_writes_while_it_is_read)
{
        struct image image;
        struct scan scan;
        pid_t child;
        int status;

        make("");
        look(&scan, &image, NULL, NULL);
        child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
                sqlite3 *db = cipher_open(&work, 0, "");

                /* A transaction may begin, and readers may read; it cannot end. */
                cipher_do(db, "BEGIN IMMEDIATE; DELETE FROM t");
                _exit(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_BUSY ? 0 : 1);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
        done(&scan, &image);
}
END_TEST

START_TEST(an_exclusive_lock_is_busy)
{
        struct image image = IMAGE_INIT;
        int ready[2], end[2], status;
        pid_t child;
        char byte;

        make("");
        ck_assert_int_eq(pipe(ready), 0);
        ck_assert_int_eq(pipe(end), 0);
        child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
                sqlite3 *db = cipher_open(&work, 0, "");

                close(end[1]);
                cipher_do(db, "BEGIN EXCLUSIVE");
                ck_assert_int_eq(write(ready[1], "", 1), 1);
                _exit((int)read(end[0], &byte, 1));
        }
        close(end[0]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        ck_assert_int_eq(image_open(&image, &work), LKM_E_BUSY);
        image_deinit(&image);
        close(end[1]);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(status, 0);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { a_whole_database_has_one_key },
                { a_page_of_another_key_leaves_none },
                { a_page_of_no_key_leaves_none },
                { zeros_fit_every_key_but_not_in_the_first_page },
                { a_key_under_two_numbers_is_one_key },
                { files_that_are_no_databases_have_no_key },
                { a_file_that_ends_within_a_page_has_no_key },
                { the_format_is_found_where_the_job_does_not_say_it },
                { committed_pages_of_the_wal_are_seen_and_nothing_is_written },
                { a_wal_that_is_damaged_ends_where_the_damage_is },
                { nobody_writes_while_it_is_read },
                { an_exclusive_lock_is_busy },
        };

        return suite_run("scan", setup, teardown, promises, ELEMENTSOF(promises));
}
