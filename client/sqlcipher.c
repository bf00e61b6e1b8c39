/* SPDX-License-Identifier: Apache-2.0 */
/* sqlcipher: a database opened with the key of its record. Uses liblkm through its public header only, so that a process has one arena. */
#define SQLITE_HAS_CODEC 1
#include <errno.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/lkm-sqlcipher.h"
#include "common/cleanup.h"

enum {
        TIMEOUT_MSEC = 10000,
        MESSAGE_MAX = 1536,
        HEADER_SIZE = 16,
        COMPATIBILITY_3 = 3, /* page 1024, HMAC-SHA1 */
        COMPATIBILITY_4 = 4, /* page 4096, HMAC-SHA512 */
};

/** One call of lkm_sqlcipher_open(). */
struct opening {
        const char *path;
        char *plain_path; /* that SQLite cannot take for a URI or for ":memory:" */
        int flags;
        const char *scope;
        int timeout_msec;
        struct lkm *lkm; /* borrowed from the options, or own */
        struct lkm *own_lkm;
        struct lkm_key *key;
        sqlite3 *db;
};

static _Thread_local char thread_message[MESSAGE_MAX];
/* Major version of the SQLCipher in this process: 0 = not asked yet, -1 = no codec. */
static atomic_int library_major;

const char *lkm_sqlcipher_message(void)
{
        return thread_message;
}

_printf_(2, 3) static int refuse(int error, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(thread_message, sizeof(thread_message), format, arguments);
        va_end(arguments);
        return error;
}

static int refuse_for_lkm(int error, const struct lkm *lkm)
{
        const char *message = lkm_error_message(lkm);

        return refuse(error, "%s", *message ? message : lkm_strerror(error));
}

static int refuse_io(const char *what, const char *path)
{
        return refuse(LKM_E_IO, "cannot %s %s: %s. Check its owner, its permissions and the space on the disk.", what,
                      path, strerror(errno));
}

static void statement_finalizep(sqlite3_stmt **statement)
{
        sqlite3_finalize(*statement);
}

static void databasep(sqlite3 **db)
{
        sqlite3_close(*db);
}

/* ---- before a key is asked for ---- */

static int library_ask(void)
{
        _cleanup_(databasep) sqlite3 *db = NULL;
        _cleanup_(statement_finalizep) sqlite3_stmt *statement = NULL;
        int major = -1;

        if (sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) != SQLITE_OK)
                return 0;
        if (sqlite3_prepare_v2(db, "PRAGMA cipher_version", -1, &statement, NULL) == SQLITE_OK &&
            sqlite3_step(statement) == SQLITE_ROW) {
                const char *version = (const char *)sqlite3_column_text(statement, 0);

                if (version && *version >= '1' && *version <= '9')
                        major = (int)strtol(version, NULL, 10);
        }
        return major;
}

/* A library without the codec takes a key in silence and writes plaintext. */
static int library_check(void)
{
        int major = atomic_load(&library_major);

        if (major == 0) {
                major = library_ask();
                atomic_store(&library_major, major);
        }
        if (major == 0)
                return refuse(LKM_E_NO_MEMORY, "SQLite could not start. %s", lkm_strerror(LKM_E_NO_MEMORY));
        if (major < 0)
                return refuse(
                        LKM_E_NO_CODEC,
                        "the SQLite library of this program (%s) is not SQLCipher and would write plaintext. Link the program with "
                        "SQLCipher, and with no other SQLite before it.",
                        sqlite3_libversion());
        return 0;
}

/* The first bytes as they lie on the disk. Through SQLite: closing a descriptor of our own would drop the locks that other
 * connections of this process hold on the file. */
static int header_read(const struct opening *o, unsigned char header[HEADER_SIZE])
{
        _cleanup_(databasep) sqlite3 *db = NULL;
        sqlite3_file *file = NULL;
        int code = sqlite3_open_v2(o->plain_path, &db, SQLITE_OPEN_READONLY, NULL);

        if (code == SQLITE_OK)
                code = sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
        if (code == SQLITE_OK && (!file || !file->pMethods))
                code = SQLITE_CANTOPEN;
        if (code == SQLITE_OK)
                code = file->pMethods->xRead(file, header, HEADER_SIZE, 0);
        return code == SQLITE_IOERR_SHORT_READ ? SQLITE_OK : code;
}

/* What can be told from the file alone. */
static int file_check(const struct opening *o)
{
        static const unsigned char plain[HEADER_SIZE] = "SQLite format 3";
        unsigned char header[HEADER_SIZE] = { 0 };
        struct stat status;
        bool same = true;
        int code;

        if (stat(o->path, &status) < 0)
                return errno == ENOENT ? 0 : refuse_io("read", o->path);
        if (!S_ISREG(status.st_mode))
                return refuse(LKM_E_IO, "%s is no regular file. Check the path.", o->path);
        if (access(o->path, R_OK) < 0)
                return refuse_io("read", o->path);
        code = header_read(o, header);
        if (code != SQLITE_OK)
                return refuse(LKM_E_IO, "cannot read %s: %s. Check its owner, its permissions and the disk.", o->path,
                              sqlite3_errstr(code));
        for (size_t i = 0; i < sizeof(header); i++)
                same = same && header[i] == plain[i];
        if (same)
                return refuse(LKM_E_PLAINTEXT,
                              "%s is not encrypted: any SQLite reads it. Export it into a new encrypted database.",
                              o->path);
        return 0;
}

/* ---- the key ---- */

static int opening_connect(struct opening *o, const struct lkm_sqlcipher_options *options)
{
        struct lkm_options connect = { .timeout_msec = options ? options->timeout_msec : 0 };
        int r;

        o->lkm = options ? options->lkm : NULL;
        if (o->lkm)
                return 0;
        r = lkm_connect(&o->own_lkm, &connect);
        if (r)
                return refuse_for_lkm(r, NULL);
        o->lkm = o->own_lkm;
        return 0;
}

static int opening_get_key(struct opening *o)
{
        struct lkm_create_options create = { .scope = o->scope, .cipher_library = "sqlcipher" };
        int r;

        if (o->flags & LKM_OPEN_CREATE) {
                create.cipher_compatibility =
                        atomic_load(&library_major) >= COMPATIBILITY_4 ? COMPATIBILITY_4 : COMPATIBILITY_3;
                create.page_size = create.cipher_compatibility >= COMPATIBILITY_4 ? 4096 : 1024;
                r = lkm_get_or_create(o->lkm, o->path, &create, &o->key);
        } else {
                r = lkm_load(o->lkm, o->path, o->scope, &o->key);
        }
        return r ? refuse_for_lkm(r, o->lkm) : 0;
}

/* ---- the database ---- */

static int refuse_for_sqlite(struct opening *o, int code)
{
        const char *why = o->db ? sqlite3_errmsg(o->db) : sqlite3_errstr(code);

        switch (code & 0xff) {
        case SQLITE_NOTADB:
                return refuse(
                        LKM_E_WRONG_KEY,
                        "the key of %s.key does not open %s: the .key is another database's, or the database's first page is damaged. "
                        "Put the database's own .key beside it, or restore both from one backup.",
                        o->path, o->path);
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return refuse(LKM_E_BUSY, "another process locks %s (%s). Let it end its transaction, then open again.",
                              o->path, why);
        case SQLITE_NOMEM:
                return refuse(LKM_E_NO_MEMORY, "%s", lkm_strerror(LKM_E_NO_MEMORY));
        case SQLITE_CORRUPT:
                return refuse(LKM_E_IO, "%s is damaged (%s), although its key is right. Restore it from a backup.",
                              o->path, why);
        default:
                return refuse(LKM_E_IO,
                              "cannot open %s: %s. Check its owner, its permissions and the space on the disk.",
                              o->path, why);
        }
}

static int database_open(struct opening *o)
{
        int mode = o->flags & LKM_OPEN_READONLY ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
        int code;

        if (o->flags & LKM_OPEN_CREATE)
                mode |= SQLITE_OPEN_CREATE;
        code = sqlite3_open_v2(o->plain_path, &o->db, mode, NULL);
        if (code != SQLITE_OK)
                return refuse_for_sqlite(o, code);
        sqlite3_busy_timeout(o->db, o->timeout_msec);
        return 0;
}

static int database_key(struct opening *o)
{
        const uint8_t *text;
        size_t n;
        int code, r = lkm_key_view_begin(o->key, LKM_FORMAT_PRAGMA, &text, &n);

        if (r)
                return refuse(r, "%s", lkm_strerror(r));
        code = sqlite3_key_v2(o->db, "main", text, (int)n);
        lkm_key_view_end(o->key, &text);
        return code == SQLITE_OK ? 0 : refuse_for_sqlite(o, code);
}

static int database_pragma(struct opening *o, const char *name, unsigned value)
{
        char sql[64];
        int code;

        snprintf(sql, sizeof(sql), "PRAGMA %s = %u", name, value);
        code = sqlite3_exec(o->db, sql, NULL, NULL, NULL);
        return code == SQLITE_OK ? 0 : refuse_for_sqlite(o, code);
}

/* The format of the file, after the key and before the first read. @compatibility 0: the library's own. */
static int database_format(struct opening *o, unsigned compatibility, unsigned page_size)
{
        unsigned major = (unsigned)atomic_load(&library_major), wanted = compatibility ? compatibility : major;
        unsigned usual = wanted >= COMPATIBILITY_4 ? 4096 : 1024;
        int r = 0;

        if (compatibility > major)
                return refuse(LKM_E_CIPHER_VERSION,
                              "%s was written by SQLCipher %u, and this program has %u. Link it with SQLCipher %u.",
                              o->path, compatibility, major, compatibility);
        if (compatibility && compatibility < major)
                r = database_pragma(o, "cipher_compatibility", compatibility);
        if (r == 0 && page_size && page_size != usual)
                r = database_pragma(o, "cipher_page_size", page_size);
        return r;
}

/* Read the first page. Return: 0, or SQLite's code. */
static int database_read(struct opening *o)
{
        return sqlite3_exec(o->db, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL);
}

static int database_try(struct opening *o, unsigned compatibility, unsigned page_size, int *ret_code)
{
        int r = database_open(o);

        if (r == 0)
                r = database_key(o);
        if (r == 0)
                r = database_format(o, compatibility, page_size);
        if (r == 0)
                *ret_code = database_read(o);
        return r;
}

/* The database under the key that was loaded. @ret_code: SQLite's, of the first read; only with the return of 0. */
static int database_read_by_key(struct opening *o, int *ret_code)
{
        struct lkm_key_info info;
        int r = lkm_key_info(o->key, &info);

        if (r)
                return refuse(r, "%s", lkm_strerror(r));
        if (*info.cipher_library && strcmp(info.cipher_library, "sqlcipher") != 0)
                return refuse(
                        LKM_E_CIPHER_VERSION,
                        "%s was written by the library %s, not by SQLCipher. Open it with a program that has that.",
                        o->path, info.cipher_library);
        r = database_try(o, info.cipher_compatibility, info.page_size, ret_code);
        if (r)
                return r;
        /* An old record does not say who wrote the database. A connection whose first read failed is not used again. */
        if (*ret_code == SQLITE_NOTADB && info.cipher_compatibility == 0 && atomic_load(&library_major) > COMPATIBILITY_3) {
                sqlite3_close(TAKE_PTR(o->db));
                r = database_try(o, COMPATIBILITY_3, info.page_size, ret_code);
        }
        return r;
}

static uint32_t key_version(const struct opening *o)
{
        struct lkm_key_info info;

        return lkm_key_info(o->key, &info) == 0 ? info.version : 0;
}

/* Load the key anew, after the rotation that is under way. @ret_changed: whether it is another one than before. */
static int key_load_again(struct opening *o, bool *ret_changed)
{
        uint32_t version = key_version(o);
        int r;

        lkm_key_free(&o->key);
        r = lkm_load(o->lkm, o->path, o->scope, &o->key);
        if (r)
                return refuse_for_lkm(r, o->lkm);
        *ret_changed = key_version(o) != version;
        return 0;
}

static int opening_database(struct opening *o)
{
        bool changed = false;
        int code = SQLITE_OK, r = database_read_by_key(o, &code);

        /* A rotation may have ended between the look at the .key and the look at the database, or while that was locked. */
        if (r == 0 && code == SQLITE_NOTADB)
                r = key_load_again(o, &changed);
        if (r == 0 && changed) {
                sqlite3_close(TAKE_PTR(o->db));
                r = database_read_by_key(o, &code);
        }
        if (r)
                return r;
        if (code != SQLITE_OK)
                return refuse_for_sqlite(o, code);
        sqlite3_busy_timeout(o->db, 0);
        return 0;
}

/* ---- all of it ---- */

static void opening_deinit(struct opening *o)
{
        sqlite3_close(o->db);
        lkm_key_free(&o->key);
        lkm_free(&o->own_lkm);
        free(o->plain_path);
}

static int opening_check(struct opening *o)
{
        int r;

        if (!o->path || !*o->path || (o->flags & ~(LKM_OPEN_CREATE | LKM_OPEN_READONLY)) ||
            o->flags == (LKM_OPEN_CREATE | LKM_OPEN_READONLY))
                return refuse(LKM_E_ARGUMENT, "lkm_sqlcipher_open: no path, or flags that exclude each other");
        if (asprintf(&o->plain_path, "%s%s", *o->path == '/' ? "" : "./", o->path) < 0) {
                o->plain_path = NULL;
                return refuse(LKM_E_NO_MEMORY, "%s", lkm_strerror(LKM_E_NO_MEMORY));
        }
        r = library_check();
        return r ? r : file_check(o);
}

int lkm_sqlcipher_open(const char *path, int flags, const struct lkm_sqlcipher_options *options,
                       struct sqlite3 **ret_db)
{
        _cleanup_(opening_deinit) struct opening o = { .path = path, .flags = flags };
        struct stat status;
        int r;

        o.scope = options ? options->scope : NULL;
        o.timeout_msec = options && options->timeout_msec ? (int)options->timeout_msec : TIMEOUT_MSEC;
        if (!ret_db)
                return refuse(LKM_E_ARGUMENT, "lkm_sqlcipher_open: no place for the connection");
        r = opening_check(&o);
        if (r)
                return r;
        if (!(flags & LKM_OPEN_CREATE) && stat(path, &status) < 0 && errno == ENOENT)
                return refuse(LKM_E_NOT_FOUND,
                              "there is no database %s. Check the path, or open it with LKM_OPEN_CREATE.", path);
        r = opening_connect(&o, options);
        if (r == 0)
                r = opening_get_key(&o);
        if (r == 0)
                r = opening_database(&o);
        if (r)
                return r;
        *ret_db = TAKE_PTR(o.db);
        return 0;
}
