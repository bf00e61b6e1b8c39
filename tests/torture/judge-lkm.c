/* SPDX-License-Identifier: Apache-2.0 */
#define SQLITE_HAS_CODEC 1
#include <err.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/lkm-sqlcipher.h"
#include "content.h"
#include "judge.h"

/*
 * With $TORTURE_PASSPHRASE, a database without a record is one that was not adopted yet, and has to open with that.
 */

enum { VERSIONS_MAX = 8 };

/* One session for all: it is what an application has, and the daemon's answers take no longer. */
static struct lkm *session;

static void session_begin(void)
{
        if (!session && lkm_connect(&session, NULL))
                errx(99, "%s", lkm_error_message(NULL));
}

static void say(struct judgement *j, enum verdict verdict, const char *what, const char *why)
{
        j->verdict = verdict;
        snprintf(j->why, sizeof(j->why), "%s: %s", what, why);
}

/* Whether the key of @version opens the database. */
static bool version_opens(const char *database, uint32_t version)
{
        struct lkm_key *key = NULL;
        const uint8_t *text;
        size_t n;
        sqlite3 *db = NULL;
        bool opens = false;

        if (lkm_load_version(session, database, version, &key))
                return false;
        if (lkm_key_view_begin(key, LKM_FORMAT_PRAGMA, &text, &n))
                errx(99, "no view");
        opens = sqlite3_open_v2(database, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
                sqlite3_key_v2(db, "main", text, (int)n) == SQLITE_OK &&
                sqlite3_exec(db, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL) == SQLITE_OK;
        lkm_key_view_end(key, &text);
        sqlite3_close(db);
        lkm_key_free(&key);
        return opens;
}

/* A database that lkm does not know yet. */
static sqlite3 *open_with_passphrase(const char *database, const char *passphrase, struct judgement *j)
{
        sqlite3 *db = NULL;

        if (sqlite3_open_v2(database, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
            sqlite3_key_v2(db, "main", passphrase, (int)strlen(passphrase)) == SQLITE_OK &&
            sqlite3_exec(db, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL) == SQLITE_OK)
                return db;
        say(j, VERDICT_LOST, "it has no record, and its passphrase does not open it", sqlite3_errmsg(db));
        sqlite3_close(db);
        return NULL;
}

static bool is_unknown_to_lkm(const char *database)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s.key", database);
        return access(path, F_OK) < 0;
}

static sqlite3 *open_or_say(const char *database, struct judgement *j)
{
        const struct lkm_sqlcipher_options options = { .lkm = session };
        const char *passphrase = getenv("TORTURE_PASSPHRASE");
        sqlite3 *db = NULL;

        if (passphrase && is_unknown_to_lkm(database))
                return open_with_passphrase(database, passphrase, j);
        if (lkm_sqlcipher_open(database, 0, &options, &db) == 0)
                return db;
        say(j, VERDICT_LOST, "it does not open", lkm_sqlcipher_message());
        if (lkm_recover(session, database, NULL, NULL) == 0 && lkm_sqlcipher_open(database, 0, &options, &db) == 0) {
                j->verdict = VERDICT_MANUAL;
                sqlite3_close(db);
                return NULL;
        }
        for (uint32_t version = 1; version <= VERSIONS_MAX; version++)
                if (version_opens(database, version))
                        j->verdict = VERDICT_FLIPPED;
        return NULL;
}

static void compare(sqlite3 *db, uint64_t content_hash, struct judgement *j)
{
        uint64_t hash;

        if (!content_hash_of(db, &hash))
                say(j, VERDICT_LOST, "it opens, but cannot be read", sqlite3_errmsg(db));
        else if (hash != content_hash)
                say(j, VERDICT_LOST, "it opens", "but its content is not what it was");
        else if (content_count(db) != JUDGE_ROWS)
                say(j, VERDICT_LOST, "it opens", "but rows are missing that were acknowledged");
        else if (!content_is_sound(db))
                say(j, VERDICT_LOST, "it opens", "but integrity_check finds faults");
}

/* The record has come to rest, and no other of its keys opens the database. */
static void record_check(const char *database, struct judgement *j)
{
        struct lkm_key_info info;
        struct lkm_key *key;

        if (lkm_load(session, database, NULL, &key)) {
                say(j, VERDICT_LOST, "its key is not given out again", lkm_error_message(session));
                return;
        }
        if (lkm_key_info(key, &info))
                errx(99, "no info");
        j->version = info.version;
        if (info.pending)
                say(j, VERDICT_MANUAL, "it opens", "but its record still has a pending version");
        for (uint32_t version = 1; version <= info.version + 1; version++)
                if (version != info.version && version_opens(database, version))
                        say(j, VERDICT_FLIPPED, "it opens", "but with another key of its record as well");
        lkm_key_free(&key);
}

void judge_state(const char *database, uint64_t content_hash, struct judgement *ret_judgement)
{
        struct judgement *j = ret_judgement;
        sqlite3 *db;

        session_begin();
        db = open_or_say(database, j);
        if (!db)
                return;
        if (!content_add(db, JUDGE_ROWS))
                say(j, VERDICT_LOST, "it cannot be written", sqlite3_errmsg(db));
        sqlite3_close(db);
        if (j->verdict == VERDICT_SOUND && !is_unknown_to_lkm(database))
                record_check(database, j);
        /* What is read after the writes was there before them. */
        if (j->verdict == VERDICT_SOUND && (db = open_or_say(database, j))) {
                compare(db, content_hash, j);
                sqlite3_close(db);
        }
}
