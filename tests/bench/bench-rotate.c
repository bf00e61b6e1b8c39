/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-rotate: lkm_rotate() beside a bare sqlite3_rekey_v2() of a copy of the same file, in turns: what the record, the checks and the proof that
 * every page fits the new key cost. And how long the progress callback had to wait.
 *
 *   bench-rotate JSON-FILE DIRECTORY MEBIBYTES
 */
#define SQLITE_HAS_CODEC 1
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lkm-sqlcipher.h"
#include "tests/bench/samples.h"

enum { TURNS = 3, CHUNK = 1 << 20 };
static const char new_key[] = "x'00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'";

static _Noreturn void fail(const char *what)
{
        fprintf(stderr, "bench-rotate: %s\n", what);
        exit(1);
}

static void run(sqlite3 *db, const char *sql)
{
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
                fail(sqlite3_errmsg(db));
}

static sqlite3 *open_by_lkm(const char *path, int flags)
{
        sqlite3 *db;

        if (lkm_sqlcipher_open(path, flags, NULL, &db) != 0)
                fail(lkm_sqlcipher_message());
        return db;
}

/* Random rows, of about the size of a page. */
static void fill(const char *path, unsigned mebibytes)
{
        sqlite3 *db = open_by_lkm(path, LKM_OPEN_CREATE);
        char sql[256];

        run(db, "CREATE TABLE t(x)");
        snprintf(sql, sizeof(sql), "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < %u) INSERT INTO t SELECT randomblob(870) FROM n",
                 mebibytes * 1024);
        run(db, sql);
        sqlite3_close(db);
}

static void copy(const char *from, const char *to)
{
        int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        struct stat status;
        ssize_t n = 1;

        if (in < 0 || out < 0 || fstat(in, &status) < 0)
                fail("cannot copy");
        for (off_t left = status.st_size; left > 0 && n > 0; left -= n)
                n = sendfile(out, in, NULL, CHUNK);
        if (n <= 0 || fsync(out) < 0)
                fail("cannot copy");
        close(in);
        close(out);
}

/* As any program would do it. */
static uint64_t bare_rekey(const char *path)
{
        char other[PATH_MAX + 8], key[PATH_MAX + 8], other_key[PATH_MAX + 16];
        uint64_t begin;
        sqlite3 *db;

        snprintf(other, sizeof(other), "%s.bare", path);
        snprintf(key, sizeof(key), "%s.key", path);
        snprintf(other_key, sizeof(other_key), "%s.key", other);
        copy(path, other);
        copy(key, other_key);
        db = open_by_lkm(other, 0);
        begin = samples_now();
        if (sqlite3_rekey_v2(db, "main", new_key, sizeof(new_key) - 1) != SQLITE_OK || sqlite3_close(db) != SQLITE_OK)
                fail("cannot rekey");
        return samples_now() - begin;
}

struct gaps {
        uint64_t last, longest;
};

static int progress(void *userdata, const struct lkm_progress *p)
{
        struct gaps *gaps = userdata;
        uint64_t now = samples_now();

        if (now - gaps->last > gaps->longest)
                gaps->longest = now - gaps->last;
        gaps->last = now;
        return 0;
}

static uint64_t rotate(struct lkm *lkm, const char *path, struct gaps *gaps)
{
        struct lkm_rotate_options options = { .progress = progress, .userdata = gaps };
        struct lkm_progress end = { 0 };
        uint64_t begin = samples_now(), took;

        gaps->last = begin;
        if (lkm_rotate(lkm, path, &options) != 0)
                fail(lkm_error_message(lkm));
        took = samples_now() - begin;
        progress(gaps, &end);
        return took;
}

int main(int argc, char **argv)
{
        struct samples bare, rotated, longest;
        struct gaps gaps = { 0 };
        struct figure figure;
        struct lkm *lkm;
        FILE *json = argc == 4 ? fopen(argv[1], "ae") : NULL;
        char path[PATH_MAX];
        double base;

        if (!json)
                fail("usage: bench-rotate JSON-FILE DIRECTORY MEBIBYTES");
        snprintf(path, sizeof(path), "%s/rotate.db", argv[2]);
        fill(path, (unsigned)strtoul(argv[3], NULL, 10));
        if (lkm_connect(&lkm, NULL) != 0)
                fail(lkm_error_message(NULL));
        samples_init(&bare, TURNS);
        samples_init(&rotated, TURNS);
        samples_init(&longest, 1);
        for (int i = 0; i < TURNS; i++) {
                samples_add(&bare, bare_rekey(path));
                samples_add(&rotated, rotate(lkm, path, &gaps));
        }
        samples_add(&longest, gaps.longest);
        figure = figure_of("bare rekey of 100 MB", &bare, 0, "");
        base = figure.median_usec;
        figure.base_usec = base;
        figure_print(&figure, json);
        figure = figure_of("rotation of it, verified", &rotated, base, "<= 1.25");
        figure_print(&figure, json);
        figure = figure_of("longest wait between two progress calls", &longest, 0, "<= 1 s");
        figure_print(&figure, json);
        samples_deinit(&bare);
        samples_deinit(&rotated);
        samples_deinit(&longest);
        lkm_free(&lkm);
        return fclose(json) == 0 ? 0 : 1;
}
