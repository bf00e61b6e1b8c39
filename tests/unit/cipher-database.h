/* SPDX-License-Identifier: Apache-2.0 */
/* cipher-database: SQLCipher databases made by the linked library, for the unit tests of lkm-rekey. */
#pragma once

#include <sqlite3.h>

#include "client/rekey/work.h"

/** cipher_work() - a job for @path with keys whose bytes are all 1, 2, …, @n_keys in versions of these numbers. Release with work_deinit(). */
void cipher_work(struct work *ret_work, const char *path, uint32_t n_keys);
/** cipher_open() - a connection with key @key of @work; @pragmas come before the first read. */
sqlite3 *cipher_open(const struct work *work, size_t key, const char *pragmas);
/** cipher_format() - the pragmas of a format, static text. */
const char *cipher_format(const struct work *work, unsigned compatibility, unsigned page_size);
void cipher_do(sqlite3 *db, const char *sql);
/** cipher_fill() - table t with @n rows of about a kilobyte. */
void cipher_fill(sqlite3 *db, int n);
/** cipher_value() - the integer that @sql selects; -1 when it fails. */
long cipher_value(sqlite3 *db, const char *sql);
/** cipher_read_file() - the whole file in heap. */
uint8_t *cipher_read_file(const char *path, size_t *ret_n);
void cipher_write_file(const char *path, const uint8_t *data, size_t n);
