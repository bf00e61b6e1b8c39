/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: rekeying as one would write it without thought, and one careful way, on databases whose keys are kept in {database}.keys. The
 * careless ones have to lose databases in the same test in which lkm's must not: otherwise the test would prove nothing.
 *
 *     control create DATABASE BYTES delete|wal
 *     control rekey DATABASE careful         both keys are kept until it is done; synchronous=EXTRA
 *     control rekey DATABASE no-sync         the same with synchronous=OFF
 *     control rekey DATABASE memory-journal  the same with journal_mode=MEMORY
 *     control rekey DATABASE drop-early      the same, but the old key is dropped before the database is rekeyed
 */
#define SQLITE_HAS_CODEC 1
#include <err.h>
#include <limits.h>
#include <sqlite3.h>
#include <sys/random.h>

#include "client/keyfile.h"
#include "common/clock.h"
#include "content.h"

enum { HEX = 64, PRAGMA_KEY = HEX + 3 };

static void key_new(char hex[HEX + 1])
{
        unsigned char key[HEX / 2];

        if (getrandom(key, sizeof(key), 0) != sizeof(key))
                err(99, "getrandom");
        for (size_t i = 0; i < sizeof(key); i++)
                snprintf(hex + 2 * i, 3, "%02x", key[i]);
}

/* As a .key file is written: by the shipped code. */
static void keys_write(const char *database, const char *first, const char *second, bool is_new)
{
        _cleanup_(keyfile_unlock) struct keyfile_lock lock = KEYFILE_LOCK_INIT;
        char path[PATH_MAX], text[2 * (HEX + 1) + 1];
        int r;

        snprintf(path, sizeof(path), "%s.keys", database);
        snprintf(text, sizeof(text), "%s\n%s%s", first, second ? second : "", second ? "\n" : "");
        if (is_new) {
                r = keyfile_create(path, (struct bytes){ (uint8_t *)text, strlen(text) });
        } else {
                r = keyfile_lock(&lock, path, clock_boottime_usec());
                if (r == 0)
                        r = keyfile_replace(&lock, (struct bytes){ (uint8_t *)text, strlen(text) });
        }
        if (r < 0)
                errx(99, "%s: %s", path, strerror(-r));
}

static void must(sqlite3 *db, int code)
{
        if (code != SQLITE_OK)
                errx(99, "%s", sqlite3_errmsg(db));
}

static sqlite3 *open_with(const char *database, const char *hex)
{
        char key[PRAGMA_KEY + 1];
        sqlite3 *db;

        snprintf(key, sizeof(key), "x'%s'", hex);
        must(NULL, sqlite3_open_v2(database, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL));
        must(db, sqlite3_key_v2(db, "main", key, PRAGMA_KEY));
        return db;
}

static int create(const char *database, const char *bytes, const char *journal)
{
        char hex[HEX + 1];
        sqlite3 *db;

        key_new(hex);
        keys_write(database, hex, NULL, true);
        db = open_with(database, hex);
        if (!content_fill(db, strtoull(bytes, NULL, 10), journal) || content_print_hash(db))
                errx(99, "%s", sqlite3_errmsg(db));
        return sqlite3_close(db);
}

static void first_key(const char *database, char hex[HEX + 1])
{
        _cleanup_(freep) uint8_t *text = NULL;
        char path[PATH_MAX];
        size_t n;

        snprintf(path, sizeof(path), "%s.keys", database);
        if (keyfile_read(path, &text, &n) != 0 || n < HEX)
                errx(99, "%s", path);
        snprintf(hex, HEX + 1, "%s", (char *)text);
}

static int rekey(const char *database, const char *how)
{
        bool drops_early = strncmp(how, "drop-early", 11) == 0;
        char old[HEX + 1], hex[HEX + 1], key[PRAGMA_KEY + 1];
        sqlite3 *db;

        first_key(database, old);
        key_new(hex);
        keys_write(database, drops_early ? hex : old, drops_early ? NULL : hex, false);
        db = open_with(database, old);
        must(db, sqlite3_exec(db, "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA", NULL, NULL, NULL));
        if (strncmp(how, "no-sync", 8) == 0)
                must(db, sqlite3_exec(db, "PRAGMA synchronous=OFF", NULL, NULL, NULL));
        if (strncmp(how, "memory-journal", 15) == 0)
                must(db, sqlite3_exec(db, "PRAGMA journal_mode=MEMORY", NULL, NULL, NULL));
        snprintf(key, sizeof(key), "x'%s'", hex);
        must(db, sqlite3_rekey_v2(db, "main", key, PRAGMA_KEY));
        must(db, sqlite3_close(db));
        keys_write(database, hex, NULL, false);
        return 0;
}

int main(int argc, char **argv)
{
        if (argc == 5 && strncmp(argv[1], "create", 7) == 0)
                return create(argv[2], argv[3], argv[4]);
        if (argc == 4 && strncmp(argv[1], "rekey", 6) == 0)
                return rekey(argv[2], argv[3]);
        errx(99, "usage: control create DATABASE BYTES MODE | control rekey DATABASE HOW");
}
