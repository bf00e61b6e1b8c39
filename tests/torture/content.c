/* SPDX-License-Identifier: Apache-2.0 */
#include "content.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chance.h"

enum { BODY = 400 };

static bool run(sqlite3 *db, const char *sql)
{
        return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK;
}

static bool fill_rows(sqlite3 *db, uint64_t n_bytes)
{
        struct chance chance = chance_init(n_bytes);
        sqlite3_stmt *insert = NULL;
        char body[BODY + 1];
        bool good = sqlite3_prepare_v2(db, "INSERT INTO patient(name, body) VALUES(?1, ?2)", -1, &insert, NULL) == SQLITE_OK;

        for (uint64_t n = 0; good && n * (BODY + 40) < n_bytes; n++) {
                for (size_t i = 0; i < BODY; i += 16)
                        snprintf(body + i, 17, "%016llx", (unsigned long long)chance_next(&chance));
                sqlite3_bind_text(insert, 1, body, 12, SQLITE_TRANSIENT);
                sqlite3_bind_text(insert, 2, body, BODY, SQLITE_TRANSIENT);
                good = sqlite3_step(insert) == SQLITE_DONE;
                sqlite3_reset(insert);
        }
        sqlite3_finalize(insert);
        return good;
}

bool content_fill(sqlite3 *db, uint64_t n_bytes, const char *journal)
{
        char mode[64];

        snprintf(mode, sizeof(mode), "PRAGMA journal_mode=%s", journal);
        /* A tenth of it becomes free pages. */
        return run(db, mode) && run(db, "BEGIN; CREATE TABLE patient(id INTEGER PRIMARY KEY, name TEXT, body TEXT);"
                                        "CREATE TABLE after(x); CREATE INDEX by_name ON patient(name)") &&
               fill_rows(db, n_bytes) && run(db, "COMMIT; DELETE FROM patient WHERE id % 10 = 3; PRAGMA user_version=20240115");
}

static bool hash_rows(sqlite3 *db, const char *sql, uint64_t *hash)
{
        sqlite3_stmt *rows = NULL;
        int code = sqlite3_prepare_v2(db, sql, -1, &rows, NULL);

        while (code == SQLITE_OK || code == SQLITE_ROW) {
                code = sqlite3_step(rows);
                for (int i = 0; code == SQLITE_ROW && i < sqlite3_column_count(rows); i++) {
                        const unsigned char *text = sqlite3_column_text(rows, i);

                        for (int j = 0; text && j < sqlite3_column_bytes(rows, i); j++)
                                *hash = (*hash ^ text[j]) * 0x100000001b3;
                        *hash = chance_mix(*hash);
                }
        }
        sqlite3_finalize(rows);
        return code == SQLITE_DONE;
}

bool content_hash_of(sqlite3 *db, uint64_t *ret_hash)
{
        *ret_hash = 0xcbf29ce484222325;
        return hash_rows(db, "SELECT type, name, sql FROM sqlite_master ORDER BY name", ret_hash) &&
               hash_rows(db, "PRAGMA user_version", ret_hash) &&
               hash_rows(db, "SELECT * FROM patient ORDER BY id", ret_hash);
}

bool content_add(sqlite3 *db, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                if (!run(db, "INSERT INTO after VALUES(hex(randomblob(20)))"))
                        return false;
        return true;
}

static int first_number(void *number, int n, char **values, char **names)
{
        (void)n;
        (void)names;
        *(int64_t *)number = values[0] ? strtoll(values[0], NULL, 10) : -1;
        return 0;
}

int64_t content_count(sqlite3 *db)
{
        int64_t n = -1;

        return sqlite3_exec(db, "SELECT count(*) FROM after", first_number, &n, NULL) == SQLITE_OK ? n : -1;
}

static int is_ok(void *good, int n, char **values, char **names)
{
        (void)n;
        (void)names;
        *(bool *)good = values[0] && strncmp(values[0], "ok", 3) == 0;
        return 0;
}

bool content_is_sound(sqlite3 *db)
{
        bool good = false;

        return sqlite3_exec(db, "PRAGMA integrity_check", is_ok, &good, NULL) == SQLITE_OK && good;
}

int content_print_hash(sqlite3 *db)
{
        uint64_t hash;

        if (!content_hash_of(db, &hash))
                return 1;
        printf("%016" PRIx64 "\n", hash);
        fflush(stdout);
        return 0;
}
