/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/holders.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/unit/cipher-database.h"
#include "tests/unit/suite.h"

static char directory[] = "/tmp/lkm-test-holders.XXXXXX", path[64];
static struct work work;

static void setup(void)
{
        sqlite3 *db;

        memcpy(directory, "/tmp/lkm-test-holders.XXXXXX", sizeof(directory));
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/a.db", directory);
        ck_assert_int_eq(secret_arena_init(8, 4, 0, NULL), 0);
        cipher_work(&work, path, 1);
        db = cipher_open(&work, 0, "");
        cipher_fill(db, 10);
        sqlite3_close(db);
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

/** A child that does something to the database and then waits for its end. */
struct child {
        pid_t pid;
        int end; /* closing it ends the child */
};

static void child_begin(struct child *child, const char *name, const char *sql)
{
        int ready[2], end[2];
        char byte;

        ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
        ck_assert_int_eq(pipe2(end, O_CLOEXEC), 0);
        child->pid = fork();
        ck_assert_int_ge(child->pid, 0);
        if (child->pid == 0) {
                prctl(PR_SET_NAME, name);
                close(end[1]);
                if (sql)
                        cipher_do(cipher_open(&work, 0, ""), sql);
                else
                        ck_assert_int_ge(open(path, O_RDONLY), 0);
                ck_assert_int_eq(write(ready[1], "", 1), 1);
                ck_assert_int_eq(read(end[0], &byte, 1), 0);
                raise(SIGKILL);
        }
        close(end[0]);
        close(ready[1]);
        ck_assert_int_eq(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        child->end = end[1];
}

static void child_end(struct child *child)
{
        int status;

        close(child->end);
        ck_assert_int_eq(waitpid(child->pid, &status, 0), child->pid);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void assert_one(const char *sql, bool locks)
{
        struct holders holders;
        struct child child;

        child_begin(&child, "holder", sql);
        ck_assert_int_eq(holders_find(&holders, path), 0);
        ck_assert_msg(holders.n == 1, "%zu holders: %s", holders.n, sql ? sql : "open");
        ck_assert_int_eq(holders.holder[0].pid, child.pid);
        ck_assert_str_eq(holders.holder[0].command, "holder");
        ck_assert_msg(holders.holder[0].locks == locks, "%s", sql ? sql : "open");
        ck_assert(holders_lock(&holders) == locks);
        child_end(&child);
        ck_assert_int_eq(holders_find(&holders, path), 0);
        ck_assert_uint_eq(holders.n, 0);
}

START_TEST(every_lock_of_sqlite_names_its_holder)
{
        assert_one("BEGIN; SELECT count(*) FROM t", true);
        assert_one("BEGIN IMMEDIATE", true);
        assert_one("BEGIN EXCLUSIVE", true);
        assert_one("PRAGMA locking_mode = EXCLUSIVE; SELECT count(*) FROM t", true);
}
END_TEST

START_TEST(a_process_that_only_has_it_open_is_told_from_one_with_a_lock)
{
        assert_one(NULL, false);
        assert_one("SELECT count(*) FROM t", false);
}
END_TEST

START_TEST(an_idle_connection_in_wal_mode_has_it_open_only)
{
        sqlite3 *db = cipher_open(&work, 0, "PRAGMA journal_mode = WAL");

        sqlite3_close(db);
        assert_one("SELECT count(*) FROM t", false);
        assert_one("INSERT INTO t VALUES(1)", false);
        assert_one("BEGIN; SELECT count(*) FROM t", true);
        assert_one("BEGIN IMMEDIATE", true);
        assert_one("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO t VALUES(1)", true);
}
END_TEST

START_TEST(all_of_several_are_found)
{
        struct holders holders;
        struct child children[3];

        child_begin(&children[0], "reader", "BEGIN; SELECT count(*) FROM t");
        child_begin(&children[1], "reader too", "BEGIN; SELECT count(*) FROM t");
        child_begin(&children[2], "looker", NULL);
        ck_assert_int_eq(holders_find(&holders, path), 0);
        ck_assert_uint_eq(holders.n, 3);
        for (size_t i = 0; i < holders.n; i++)
                ck_assert(holders.holder[i].locks == (holders.holder[i].pid != children[2].pid));
        /* A later one has the pipes of those before it. */
        for (size_t i = ELEMENTSOF(children); i-- > 0;)
                child_end(&children[i]);
}
END_TEST

START_TEST(this_process_is_left_out)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct holders holders;

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(holders_find(&holders, path), 0);
        ck_assert_uint_eq(holders.n, 0);
}
END_TEST

START_TEST(a_name_that_would_break_a_line_does_not)
{
        struct holders holders;
        struct child child;

        child_begin(&child, "a\nb \x1b[1m\xc3\xa9", NULL);
        ck_assert_int_eq(holders_find(&holders, path), 0);
        ck_assert_uint_eq(holders.n, 1);
        ck_assert_str_eq(holders.holder[0].command, "a?b??[1m??");
        child_end(&child);
}
END_TEST

START_TEST(a_lock_of_a_descriptor_is_found_without_a_process)
{
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)HOLDERS_RESERVED, .l_len = 1 };
        _cleanup_(closep) int fd = open(path, O_RDWR | O_CLOEXEC);
        struct holders holders;

        ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &lock), 0);
        ck_assert_int_eq(holders_find(&holders, path), 0);
        ck_assert_uint_eq(holders.n, 1);
        ck_assert_int_eq(holders.holder[0].pid, 0);
        ck_assert(holders.holder[0].locks);
        ck_assert_str_eq(holders.holder[0].command, "?");
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { every_lock_of_sqlite_names_its_holder },
                { a_process_that_only_has_it_open_is_told_from_one_with_a_lock },
                { an_idle_connection_in_wal_mode_has_it_open_only },
                { all_of_several_are_found },
                { this_process_is_left_out },
                { a_name_that_would_break_a_line_does_not },
                { a_lock_of_a_descriptor_is_found_without_a_process },
        };

        return suite_run("holders", setup, teardown, promises, ELEMENTSOF(promises));
}
