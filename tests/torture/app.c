/* SPDX-License-Identifier: Apache-2.0 */
/*
 * app: an application of liblkm, as its manual says, for the torture tests. Prints the name of an error, and its sentence.
 *
 *     app create DATABASE BYTES delete|wal|wal-tail   a database of lkm's; wal-tail: ended without closing, so that its -wal holds transactions
 *     app create-passphrase DATABASE BYTES PASSPHRASE  one that lkm does not know
 *     app rotate DATABASE
 *     app recover DATABASE
 *     app open DATABASE                                opens it, prints its content's hash, key version and rows, then adds a row
 *     app write DATABASE ROWS                          adds rows, each in a transaction, closes, opens again, and checks everything
 */
#define SQLITE_HAS_CODEC 1
#include <inttypes.h>
#include <sqlite3.h>

#include "client/lkm-sqlcipher.h"
#include "common/cleanup.h"
#include "content.h"

static int say(int error, const char *message)
{
        printf("%s\n%s\n", lkm_error_name(error), message);
        return 1;
}

static int say_sql(sqlite3 *db)
{
        printf("SQL\n%s\n", sqlite3_errmsg(db));
        return 1;
}

static struct lkm *connect_or_end(void)
{
        struct lkm *lkm;
        int r = lkm_connect(&lkm, NULL);

        if (r)
                exit(say(r, lkm_error_message(NULL)));
        return lkm;
}

static sqlite3 *open_or_end(const char *database, int flags)
{
        sqlite3 *db;
        int r = lkm_sqlcipher_open(database, flags, NULL, &db);

        if (r)
                exit(say(r, lkm_sqlcipher_message()));
        return db;
}

static int command_create(char **a)
{
        bool tail = strcmp(a[2], "wal-tail") == 0;
        sqlite3 *db = open_or_end(a[0], LKM_OPEN_CREATE);

        if (!content_fill(db, strtoull(a[1], NULL, 10), tail ? "wal" : a[2]) || content_print_hash(db))
                return say_sql(db);
        if (tail)
                _exit(0);
        return sqlite3_close(db);
}

static int command_create_passphrase(char **a)
{
        sqlite3 *db;

        if (sqlite3_open_v2(a[0], &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK ||
            sqlite3_key_v2(db, "main", a[2], (int)strlen(a[2])) != SQLITE_OK || !content_fill(db, strtoull(a[1], NULL, 10), "delete") || content_print_hash(db))
                return say_sql(db);
        return sqlite3_close(db);
}

static int command_rotate(char **a)
{
        struct lkm *lkm = connect_or_end();
        int r = lkm_rotate(lkm, a[0], NULL);

        if (r)
                say(r, lkm_error_message(lkm));
        lkm_free(&lkm);
        return r != 0;
}

static int command_recover(char **a)
{
        struct lkm *lkm = connect_or_end();
        int r = lkm_recover(lkm, a[0], NULL, NULL);

        if (r)
                say(r, lkm_error_message(lkm));
        lkm_free(&lkm);
        return r != 0;
}

static int command_open(char **a)
{
        struct lkm *lkm = connect_or_end();
        sqlite3 *db = open_or_end(a[0], 0);
        struct lkm_key_info info;
        struct lkm_key *key;
        int64_t n = content_count(db);
        uint64_t hash;
        int r;

        if (!content_hash_of(db, &hash) || n < 0 || !content_add(db, 1))
                return say_sql(db);
        sqlite3_close(db);
        r = lkm_load(lkm, a[0], NULL, &key);
        if (r)
                return say(r, lkm_error_message(lkm));
        lkm_key_info(key, &info);
        printf("%016" PRIx64 " %u %u %" PRId64 "\n", hash, info.version, info.pending, n);
        lkm_key_free(&key);
        lkm_free(&lkm);
        return 0;
}

static int command_write(char **a)
{
        sqlite3 *db = open_or_end(a[0], 0);
        int64_t n = content_count(db), rows = strtoll(a[1], NULL, 10);
        uint64_t before, after;

        if (n < 0 || !content_hash_of(db, &before) || !content_add(db, (unsigned)rows))
                return say_sql(db);
        sqlite3_close(db);
        db = open_or_end(a[0], 0);
        if (content_count(db) != n + rows || !content_hash_of(db, &after) || before != after || !content_is_sound(db))
                return say_sql(db);
        sqlite3_close(db);
        printf("%016" PRIx64 "\n", after);
        return 0;
}

static const struct command {
        const char *name;
        int n_arguments;
        int (*run)(char **arguments);
} commands[] = {
        { "create", 3, command_create },   { "create-passphrase", 3, command_create_passphrase },
        { "rotate", 1, command_rotate },   { "recover", 1, command_recover },
        { "open", 1, command_open },       { "write", 2, command_write },
};

int main(int argc, char **argv)
{
        for (size_t i = 0; argc > 1 && i < ELEMENTSOF(commands); i++)
                if (strcmp(argv[1], commands[i].name) == 0 && argc == 2 + commands[i].n_arguments)
                        return commands[i].run(argv + 2);
        fputs("see the head of app.c\n", stderr);
        return 99;
}
