/* SPDX-License-Identifier: Apache-2.0 */
#define SQLITE_HAS_CODEC 1
#include <err.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "content.h"
#include "judge.h"

enum { HEX = 64, KEYS_MAX = 8, PRAGMA_KEY = HEX + 3 };

struct keys {
        size_t n;
        char hex[KEYS_MAX][HEX + 1];
};

static void keys_read(struct keys *keys, const char *database)
{
        char path[PATH_MAX], line[HEX + 2];
        FILE *file;

        snprintf(path, sizeof(path), "%s.keys", database);
        keys->n = 0;
        file = fopen(path, "re");
        if (!file)
                return; /* a state without keys: nothing opens */
        while (keys->n < KEYS_MAX && fgets(line, sizeof(line), file))
                if (strlen(line) == HEX + 1)
                        snprintf(keys->hex[keys->n++], HEX + 1, "%.*s", HEX, line);
        fclose(file);
}

static sqlite3 *open_with(const char *database, const char *hex)
{
        char key[PRAGMA_KEY + 1];
        sqlite3 *db;

        snprintf(key, sizeof(key), "x'%s'", hex);
        if (sqlite3_open_v2(database, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK && sqlite3_key_v2(db, "main", key, PRAGMA_KEY) == SQLITE_OK &&
            sqlite3_exec(db, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL) == SQLITE_OK)
                return db;
        sqlite3_close(db);
        return NULL;
}

/* The one key of the file that opens the database. */
static sqlite3 *open_any(const char *database, struct judgement *j)
{
        sqlite3 *found = NULL;
        struct keys keys;

        keys_read(&keys, database);
        for (size_t i = 0; i < keys.n; i++) {
                sqlite3 *db = open_with(database, keys.hex[i]);

                if (db && found)
                        errx(99, "two keys open %s", database);
                if (db) {
                        found = db;
                        j->version = (uint32_t)i;
                }
        }
        if (!found) {
                j->verdict = VERDICT_LOST;
                snprintf(j->why, sizeof(j->why), "none of %zu keys opens it", keys.n);
        }
        return found;
}

static void compare(sqlite3 *db, uint64_t content_hash, struct judgement *j)
{
        uint64_t hash;

        if (!content_hash_of(db, &hash) || hash != content_hash || content_count(db) != JUDGE_ROWS || !content_is_sound(db)) {
                j->verdict = VERDICT_LOST;
                snprintf(j->why, sizeof(j->why), "it opens, but its content is not what it was: %s", sqlite3_errmsg(db));
        }
}

void judge_state(const char *database, uint64_t content_hash, struct judgement *ret_judgement)
{
        struct judgement *j = ret_judgement;
        sqlite3 *db = open_any(database, j);

        if (!db)
                return;
        if (!content_add(db, JUDGE_ROWS)) {
                j->verdict = VERDICT_LOST;
                snprintf(j->why, sizeof(j->why), "it opens, but cannot be written: %s", sqlite3_errmsg(db));
        }
        sqlite3_close(db);
        /* What is read after the writes was there before them. */
        if (j->verdict == VERDICT_SOUND && (db = open_any(database, j))) {
                compare(db, content_hash, j);
                sqlite3_close(db);
        }
}
