/* SPDX-License-Identifier: Apache-2.0 */
#define SQLITE_HAS_CODEC 1
#include "tests/unit/cipher-database.h"

#include <check.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/rekey/handle.h"
#include "common/bytes.h"

void cipher_work(struct work *ret_work, const char *path, uint32_t n_keys)
{
        *ret_work = (struct work){ .database = path, .job = { .magic = REKEY_MAGIC, .n_keys = n_keys } };
        ret_work->path = strdup(path);
        ret_work->keys = calloc(n_keys, sizeof(*ret_work->keys));
        ck_assert(ret_work->path && ret_work->keys);
        ck_assert_int_eq(handle_library(&ret_work->library), 0);
        for (uint32_t i = 0; i < n_keys; i++) {
                uint8_t *view;

                ret_work->keys[i].version = i + 1;
                ck_assert_int_eq(secret_new(&ret_work->keys[i].secret, KEY_SIZE), 0);
                view = secret_view_begin(ret_work->keys[i].secret);
                memset(view, (int)i + 1, KEY_SIZE);
                secret_view_end(ret_work->keys[i].secret, &view);
        }
}

sqlite3 *cipher_open(const struct work *work, size_t key, const char *pragmas)
{
        char text[2 * KEY_SIZE + 4] = "x'";
        uint8_t raw[KEY_SIZE];
        sqlite3 *db;

        memset(raw, (int)key + 1, sizeof(raw));
        hex_format(text + 2, raw, sizeof(raw));
        text[2 * KEY_SIZE + 2] = '\'';
        ck_assert_int_eq(sqlite3_open_v2(work->path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL), SQLITE_OK);
        ck_assert_int_eq(sqlite3_key_v2(db, "main", text, 2 * KEY_SIZE + 3), SQLITE_OK);
        cipher_do(db, pragmas);
        return db;
}

const char *cipher_format(const struct work *work, unsigned compatibility, unsigned page_size)
{
        static char sql[128];
        size_t n = 0;

        sql[0] = '\0';
        if (compatibility < work->library)
                n = (size_t)snprintf(sql, sizeof(sql), "PRAGMA cipher_compatibility = %u;", compatibility);
        if (page_size)
                snprintf(sql + n, sizeof(sql) - n, "PRAGMA cipher_page_size = %u;", page_size);
        return sql;
}

void cipher_do(sqlite3 *db, const char *sql)
{
        int code = sqlite3_exec(db, sql, NULL, NULL, NULL);

        ck_assert_msg(code == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
}

void cipher_fill(sqlite3 *db, int n)
{
        char sql[256];

        snprintf(sql, sizeof(sql),
                 "CREATE TABLE t(x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO t SELECT randomblob(900) FROM n",
                 n);
        cipher_do(db, sql);
}

long cipher_value(sqlite3 *db, const char *sql)
{
        sqlite3_stmt *statement = NULL;
        long value = -1;

        if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
                value = (long)sqlite3_column_int64(statement, 0);
        sqlite3_finalize(statement);
        return value;
}

uint8_t *cipher_read_file(const char *path, size_t *ret_n)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat status;
        uint8_t *data;

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(fstat(fd, &status), 0);
        data = malloc((size_t)status.st_size + 1);
        ck_assert_ptr_nonnull(data);
        ck_assert_int_eq(read(fd, data, (size_t)status.st_size), status.st_size);
        *ret_n = (size_t)status.st_size;
        return data;
}

void cipher_write_file(const char *path, const uint8_t *data, size_t n)
{
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, data, n), (ssize_t)n);
}
