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

/* ---- the key ---- */

/* @use is sqlite3_key_v2() or sqlite3_rekey_v2(), which take the text of the raw key. */
static int key_give(struct handle *h, struct secret *key, int (*use)(sqlite3 *, const char *, const void *, int))
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        uint8_t *raw, *digits;
        int code;

        if (secret_new(&text, KEY_TEXT_LENGTH + 1) < 0)
                return SQLITE_NOMEM;
        raw = secret_view_begin(key);
        digits = secret_view_begin(text);
        hex_format((char *)digits + 2, raw, KEY_SIZE);
        digits[0] = 'x';
        digits[1] = digits[KEY_TEXT_LENGTH - 1] = '\'';
        digits[KEY_TEXT_LENGTH] = '\0';
        code = use(h->db, "main", digits, KEY_TEXT_LENGTH);
        secret_view_end(text, &digits);
        secret_view_end(key, &raw);
        secret_wipe_stack();
        return code;
}

int handle_rekey(struct handle *h, struct secret *key)
{
        return key_give(h, key, sqlite3_rekey_v2);
}

/* ---- opening ---- */

static int format_give(struct handle *h, unsigned library, unsigned page_size)
{
        char sql[64];
        int r = 0;

        if (h->compatibility > library)
                return answer_refuse(LKM_E_CIPHER_VERSION, "%s has the format of SQLCipher %u, and this program has SQLCipher %u. Install SQLCipher %u.",
                                     h->named, h->compatibility, library, h->compatibility);
        if (h->compatibility < library) {
                snprintf(sql, sizeof(sql), "PRAGMA cipher_compatibility = %u", h->compatibility);
                r = handle_do(h, sql);
        }
        h->page_size = h->compatibility >= COMPATIBILITY_4 ? 4096 : 1024;
        if (r == 0 && page_size && page_size != h->page_size) {
                h->page_size = page_size;
                snprintf(sql, sizeof(sql), "PRAGMA cipher_page_size = %u", page_size);
                r = handle_do(h, sql);
        }
        return r;
}

int handle_open(struct handle *ret_handle, const struct work *work, const char *path, struct secret *key, unsigned compatibility,
                unsigned page_size, int flags)
{
        struct handle *h = ret_handle;
        int code;

        *h = (struct handle){ .path = path, .named = work->database, .compatibility = compatibility, .timeout_msec = work->job.timeout_msec };
        code = sqlite3_open_v2(path, &h->db, flags, NULL);
        if (code == SQLITE_OK)
                code = sqlite3_busy_handler(h->db, wait_for_lock, h);
        if (code == SQLITE_OK)
                code = key_give(h, key, sqlite3_key_v2);
        return code == SQLITE_OK ? format_give(h, work->library, page_size) : handle_refuse(h, code);
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
