/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer-helper: an application that writes all the time, and holds a lease as liblkm's manual says; and one that rotates. For the test of
 * rotation under load.
 *
 *     writer-helper create DB SQL   makes the database
 *     writer-helper write DB NAME   inserts rows (NAME, 1), (NAME, 2), … each in a transaction of its own; prints each number once it is committed,
 *                                   "yielded" after each rotation it made way for, and "end" when its input has ended
 *     writer-helper rotate DB       rotates once for each line of input; says what came of it
 */
#define SQLITE_HAS_CODEC 1
#include <poll.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lkm-sqlcipher.h"

enum { BUSY_MSEC = 60000, ROWS_MAX = 100000, LINE_BYTES = 64 };

/** What a writer has at hand. */
struct writer {
        const char *path, *name;
        struct lkm_lease *lease;
        sqlite3 *db;
        sqlite3_stmt *insert;
};

static void fail(const char *what, const char *message)
{
        printf("FAILED %s: %s\n", what, message);
        fflush(stdout);
        exit(1);
}

/* One write(2), so that what is acknowledged is acknowledged whole. */
static void acknowledge(unsigned n)
{
        char line[LINE_BYTES];
        int length = snprintf(line, sizeof(line), "%u\n", n);

        if (write(STDOUT_FILENO, line, (size_t)length) != length)
                exit(1);
}

/* SQLite's own handler waits longer and longer, which starves a writer among others that do not. */
static int still_busy(void *userdata, int n)
{
        (void)userdata;
        poll(NULL, 0, 1);
        return n < BUSY_MSEC;
}

static void writer_open(struct writer *w)
{
        int r = lkm_sqlcipher_open(w->path, 0, NULL, &w->db);

        if (r)
                fail(lkm_error_name(r), lkm_sqlcipher_message());
        sqlite3_busy_handler(w->db, still_busy, NULL);
        if (sqlite3_prepare_v2(w->db, "INSERT INTO row(writer, n, filler) VALUES(?, ?, randomblob(200))", -1, &w->insert, NULL) != SQLITE_OK)
                fail("prepare", sqlite3_errmsg(w->db));
}

static void writer_close(struct writer *w)
{
        sqlite3_finalize(w->insert);
        if (sqlite3_close(w->db) != SQLITE_OK)
                fail("close", sqlite3_errmsg(w->db));
}

static void execute(sqlite3 *db, const char *sql)
{
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
                fail(sql, sqlite3_errmsg(db));
}

static void writer_insert(struct writer *w, unsigned n)
{
        execute(w->db, "BEGIN IMMEDIATE");
        sqlite3_bind_text(w->insert, 1, w->name, -1, SQLITE_STATIC);
        sqlite3_bind_int(w->insert, 2, (int)n);
        if (sqlite3_step(w->insert) != SQLITE_DONE)
                fail("insert", sqlite3_errmsg(w->db));
        sqlite3_reset(w->insert);
        execute(w->db, "COMMIT");
}

static bool input_has_ended(void)
{
        struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };

        return poll(&p, 1, 0) != 0;
}

static void writer_make_way(struct writer *w)
{
        int r;

        writer_close(w);
        r = lkm_lease_yield(w->lease, 0);
        if (r)
                fail(lkm_error_name(r), lkm_error_message(NULL));
        writer_open(w);
        if (write(STDOUT_FILENO, "yielded\n", 8) != 8)
                exit(1);
}

static int command_create(char **a)
{
        struct lkm_sqlcipher_options options = { .scope = "medical" };
        sqlite3 *db;
        int r = lkm_sqlcipher_open(a[0], LKM_OPEN_CREATE, &options, &db);

        if (r)
                fail(lkm_error_name(r), lkm_sqlcipher_message());
        execute(db, a[1]);
        return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}

static int command_write(char **a)
{
        struct writer w = { .path = a[0], .name = a[1] };
        struct lkm *lkm = NULL;
        int r = lkm_connect(&lkm, NULL);

        if (r == 0)
                r = lkm_lease_new(lkm, w.path, &w.lease);
        if (r)
                fail(lkm_error_name(r), lkm_error_message(lkm));
        lkm_free(&lkm);
        writer_open(&w);
        for (unsigned n = 1; n <= ROWS_MAX && !input_has_ended(); n++) {
                if (lkm_lease_is_wanted(w.lease))
                        writer_make_way(&w);
                writer_insert(&w, n);
                acknowledge(n);
        }
        writer_close(&w);
        lkm_lease_free(&w.lease);
        puts("end");
        return 0;
}

static int command_rotate(char **a)
{
        struct lkm_rotate_options options = { .timeout_msec = BUSY_MSEC };
        struct lkm *lkm = NULL;
        char line[LINE_BYTES];
        int r = lkm_connect(&lkm, NULL);

        if (r)
                fail(lkm_error_name(r), lkm_error_message(NULL));
        while (fgets(line, sizeof(line), stdin)) {
                r = lkm_rotate(lkm, a[0], &options);
                printf("%s %s\n", lkm_error_name(r), r ? lkm_error_message(lkm) : "");
                fflush(stdout);
        }
        lkm_free(&lkm);
        return 0;
}

int main(int argc, char **argv)
{
        if (argc == 4 && strcmp(argv[1], "create") == 0)
                return command_create(argv + 2);
        if (argc == 4 && strcmp(argv[1], "write") == 0)
                return command_write(argv + 2);
        if (argc == 3 && strcmp(argv[1], "rotate") == 0)
                return command_rotate(argv + 2);
        fputs("writer-helper: wrong use\n", stderr);
        return 2;
}
