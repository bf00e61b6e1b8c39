/* SPDX-License-Identifier: Apache-2.0 */
#define SQLITE_HAS_CODEC 1
#include "client/rekey/handle.h"

#include <errno.h>
#include <poll.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/meter.h"
#include "common/bytes.h"
#include "common/clock.h"

enum {
        WAIT_MSEC = 20,
        KEY_TEXT_LENGTH = 2 * KEY_SIZE + 3, /* x'…' */
        COMPATIBILITY_4 = 4,
        STEPS = 100000, /* of SQLite's machine: some milliseconds */
};

static void statement_finalizep(sqlite3_stmt **statement)
{
        sqlite3_finalize(*statement);
}

static void databasep(sqlite3 **db)
{
        sqlite3_close(*db);
}

void handle_deinit(struct handle *h)
{
        sqlite3_close(TAKE_PTR(h->db));
}

/*
 * SQLCipher 4 writes about each key that does not fit to standard error, which is our caller's; 3 does not know the pragma. The level is the
 * process's, and is set anew by the first connection that gets a key: here that is an empty one in memory, and the key is no key.
 */
static void log_silence(sqlite3 *db)
{
        sqlite3_key_v2(db, "main", "-", 1);
        sqlite3_exec(db, "PRAGMA cipher_log_level = NONE", NULL, NULL, NULL);
}

int handle_library(unsigned *ret_major)
{
        _cleanup_(databasep) sqlite3 *db = NULL;
        _cleanup_(statement_finalizep) sqlite3_stmt *statement = NULL;
        const char *version = NULL;

        if (sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK)
                return answer_refuse(LKM_E_NO_MEMORY, "SQLite could not start for want of memory. Free some, then ask again.");
        if (sqlite3_prepare_v2(db, "PRAGMA cipher_version", -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
                version = (const char *)sqlite3_column_text(statement, 0);
        if (!version || *version < '3' || *version > '9')
                return answer_refuse(LKM_E_NO_CODEC, "The SQLite library that lkm-rekey found (%s) is not SQLCipher and cannot encrypt. Install "
                                                     "SQLCipher, and let no other SQLite come before it.",
                                     sqlite3_libversion());
        *ret_major = (unsigned)strtoul(version, NULL, 10);
        log_silence(db);
        return 0;
}

/* ---- what SQLite says ---- */

int handle_refuse(struct handle *h, int code)
{
        const char *why = h->db ? sqlite3_errmsg(h->db) : sqlite3_errstr(code);

        switch (code & 0xff) {
        case SQLITE_NOTADB:
                return answer_refuse(LKM_E_WRONG_KEY,
                                     "The key does not open %s: it is another database's, or the first page is damaged. Put the database's own "
                                     ".key beside it, or restore both from one backup.",
                                     h->named);
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
        case SQLITE_PROTOCOL:
                return answer_refuse(LKM_E_BUSY, "Another process uses %s (%s). Let it close the database, then ask again.", h->named, why);
        case SQLITE_NOMEM:
                return answer_refuse(LKM_E_NO_MEMORY, "No memory is left to work on %s. Free some, then ask again.", h->named);
        case SQLITE_FULL:
                return answer_refuse(LKM_E_NO_SPACE, "The disk of %s is full. Free some space, then ask again.", h->named);
        case SQLITE_CORRUPT:
                return answer_refuse(LKM_E_IO, "%s is damaged (%s), although the key is right. Restore it from a backup.", h->named, why);
        default:
                return answer_refuse(LKM_E_IO, "%s could not be worked on: %s. Check its owner, its permissions and its disk, then ask again.",
                                     h->named, why);
        }
}

/* Called while a lock is held by somebody else; @userdata is the handle. */
static int wait_for_lock(void *userdata, int n_called)
{
        struct handle *h = userdata;

        if (n_called == 0)
                h->waiting_since_usec = clock_boottime_usec();
        if (clock_boottime_usec() - h->waiting_since_usec >= h->timeout_msec * USEC_PER_MSEC)
                return 0;
        poll(NULL, 0, WAIT_MSEC);
        meter_wait();
        return 1;
}

/* Called now and then while a statement runs that does not write. */
static int still_running(void *userdata)
{
        meter_wait();
        return 0;
}

/* ---- the key ---- */

/* The text that SQLCipher takes for a raw key: KEY_TEXT_LENGTH characters and a NUL. */
static int key_text(struct secret **ret_text, struct secret *key)
{
        uint8_t *raw, *text;
        int r = secret_new(ret_text, KEY_TEXT_LENGTH + 1);

        if (r < 0)
                return r;
        raw = secret_view_begin(key);
        text = secret_view_begin(*ret_text);
        hex_format((char *)text + 2, raw, KEY_SIZE);
        text[0] = 'x';
        text[1] = text[KEY_TEXT_LENGTH - 1] = '\'';
        text[KEY_TEXT_LENGTH] = '\0';
        secret_view_end(*ret_text, &text);
        secret_view_end(key, &raw);
        return 0;
}

/* @use is sqlite3_key_v2() or sqlite3_rekey_v2(). */
static int key_give(struct handle *h, struct secret *key, int (*use)(sqlite3 *, const char *, const void *, int))
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        uint8_t *view;
        int code;

        if (key_text(&text, key) < 0)
                return SQLITE_NOMEM;
        view = secret_view_begin(text);
        code = use(h->db, "main", view, KEY_TEXT_LENGTH);
        secret_view_end(text, &view);
        secret_wipe_stack();
        return code;
}

int handle_rekey(struct handle *h, struct secret *key)
{
        return key_give(h, key, sqlite3_rekey_v2);
}

/* ---- opening ---- */

/* The file's format, for @schema: "main" or "target". @ret_page_size: what its pages will have. */
static int format_give(struct handle *h, const char *schema, unsigned library, unsigned compatibility, unsigned page_size, unsigned *ret_page_size)
{
        char sql[64];
        int r = 0;

        if (compatibility > library)
                return answer_refuse(LKM_E_CIPHER_VERSION, "%s has the format of SQLCipher %u, and this program has SQLCipher %u. Install SQLCipher %u.",
                                     h->named, compatibility, library, compatibility);
        if (compatibility < library) {
                snprintf(sql, sizeof(sql), "PRAGMA %s.cipher_compatibility = %u", schema, compatibility);
                r = handle_do(h, sql);
        }
        *ret_page_size = compatibility >= COMPATIBILITY_4 ? 4096 : 1024;
        if (r == 0 && page_size && page_size != *ret_page_size) {
                *ret_page_size = page_size;
                snprintf(sql, sizeof(sql), "PRAGMA %s.cipher_page_size = %u", schema, page_size);
                r = handle_do(h, sql);
        }
        return r;
}

int handle_open(struct handle *ret_handle, const struct work *work, const char *path, struct secret *key, unsigned compatibility,
                unsigned page_size, int flags)
{
        struct handle *h = ret_handle;
        int code;

        *h = (struct handle){ .named = work->database, .timeout_msec = work->job.timeout_msec };
        code = sqlite3_open_v2(path, &h->db, flags, NULL);
        if (code == SQLITE_OK)
                code = sqlite3_busy_handler(h->db, wait_for_lock, h);
        if (code == SQLITE_OK)
                sqlite3_progress_handler(h->db, STEPS, still_running, NULL);
        if (code == SQLITE_OK && key)
                code = key_give(h, key, sqlite3_key_v2);
        if (code == SQLITE_OK && !key)
                return 0;
        return code == SQLITE_OK ? format_give(h, "main", work->library, compatibility, page_size, &h->page_size) : handle_refuse(h, code);
}

int handle_attach(struct handle *h, const struct work *work, const char *path, struct secret *key, unsigned compatibility, unsigned page_size)
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        sqlite3_stmt *statement = NULL;
        uint8_t *view;
        unsigned size;
        int code;

        if (key_text(&text, key) < 0)
                return handle_refuse(h, SQLITE_NOMEM);
        view = secret_view_begin(text);
        code = sqlite3_prepare_v2(h->db, "ATTACH DATABASE ?1 AS target KEY ?2", -1, &statement, NULL);
        if (code == SQLITE_OK)
                code = sqlite3_bind_text(statement, 1, path, -1, SQLITE_STATIC);
        /* As a blob it is neither copied nor converted. */
        if (code == SQLITE_OK)
                code = sqlite3_bind_blob(statement, 2, view, KEY_TEXT_LENGTH, SQLITE_STATIC);
        if (code == SQLITE_OK)
                code = sqlite3_step(statement);
        sqlite3_finalize(statement);
        secret_view_end(text, &view);
        secret_wipe_stack();
        return code == SQLITE_DONE ? format_give(h, "target", work->library, compatibility, page_size, &size) : handle_refuse(h, code);
}

int handle_read(struct handle *h)
{
        return sqlite3_exec(h->db, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL);
}

int handle_do(struct handle *h, const char *sql)
{
        int code = sqlite3_exec(h->db, sql, NULL, NULL, NULL);

        return code == SQLITE_OK ? 0 : handle_refuse(h, code);
}

int handle_text(struct handle *h, const char *sql, char **ret_text)
{
        _cleanup_(statement_finalizep) sqlite3_stmt *statement = NULL;
        const char *text = NULL;
        int code = sqlite3_prepare_v2(h->db, sql, -1, &statement, NULL);

        if (code == SQLITE_OK) {
                code = sqlite3_step(statement);
                if (code == SQLITE_ROW)
                        text = (const char *)sqlite3_column_text(statement, 0);
        }
        if (code != SQLITE_ROW && code != SQLITE_DONE)
                return handle_refuse(h, code);
        *ret_text = strdup(text ? text : "");
        return *ret_text ? 0 : handle_refuse(h, SQLITE_NOMEM);
}

int handle_set(struct handle *h, const char *sql, const char *expected)
{
        _cleanup_(freep) char *text = NULL;
        int r = handle_text(h, sql, &text);

        if (r == 0 && strcmp(text, expected) != 0)
                r = answer_refuse(LKM_E_BUSY, "%s does not take a setting that this needs (`%s` answered \"%s\"). Let every other program close it, "
                                              "then ask again.",
                                  h->named, sql, text);
        return r;
}
