/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-open: a database opened by lkm_sqlcipher_open() beside the same database opened with a passphrase, up to the first row.
 *
 *   bench-open JSON-FILE DIRECTORY
 */
#define SQLITE_HAS_CODEC 1
#include <limits.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "lkm-sqlcipher.h"
#include "tests/bench/samples.h"

enum { OPENS = 40 };
static const char passphrase[] = "correct horse battery staple";

static _Noreturn void fail(const char *what)
{
        fprintf(stderr, "bench-open: %s\n", what);
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

static sqlite3 *open_by_passphrase(const char *path)
{
        sqlite3 *db;

        if (sqlite3_open(path, &db) != SQLITE_OK || sqlite3_key(db, passphrase, sizeof(passphrase) - 1) != SQLITE_OK)
                fail("cannot open with a passphrase");
        return db;
}

int main(int argc, char **argv)
{
        char by_lkm[PATH_MAX], by_passphrase[PATH_MAX];
        struct samples lkm, slow;
        struct figure figure;
        FILE *json = argc == 3 ? fopen(argv[1], "ae") : NULL;
        sqlite3 *db;
        double base;

        if (!json)
                fail("usage: bench-open JSON-FILE DIRECTORY");
        snprintf(by_lkm, sizeof(by_lkm), "%s/lkm.db", argv[2]);
        snprintf(by_passphrase, sizeof(by_passphrase), "%s/passphrase.db", argv[2]);
        samples_init(&lkm, OPENS);
        samples_init(&slow, OPENS);
        for (int i = 0; i <= OPENS; i++) { /* the first time creates */
                const char *sql = i ? "SELECT * FROM t" : "CREATE TABLE t(x); INSERT INTO t VALUES(1)";
                uint64_t begin = samples_now(), middle;

                db = open_by_lkm(by_lkm, i ? 0 : LKM_OPEN_CREATE);
                run(db, sql);
                sqlite3_close(db);
                middle = samples_now();
                db = open_by_passphrase(by_passphrase);
                run(db, sql);
                sqlite3_close(db);
                if (i) {
                        samples_add(&lkm, middle - begin);
                        samples_add(&slow, samples_now() - middle);
                }
        }
        figure = figure_of("open + first row, passphrase", &slow, 0, "");
        base = figure.median_usec;
        figure.base_usec = base;
        figure_print(&figure, json);
        figure = figure_of("open + first row, lkm", &lkm, base, "");
        figure_print(&figure, json);
        samples_deinit(&lkm);
        samples_deinit(&slow);
        return fclose(json) == 0 ? 0 : 1;
}
