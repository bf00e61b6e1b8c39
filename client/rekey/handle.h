/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handle: one SQLCipher connection, opened with one key of the job in the job's format. Whoever closes a file of this process drops the locks
 * that the process has on it, so that a handle and a descriptor of the same database (image.h) never live at one time.
 */
#pragma once

#include <sqlite3.h>

#include "client/rekey/work.h"

struct handle {
        sqlite3 *db;
        const char *named; /* borrowed: for sentences */
        unsigned page_size; /* of the file */
        unsigned timeout_msec;
        uint64_t waiting_since_usec;
};

void handle_deinit(struct handle *h);

/** handle_library() - the major version of the SQLCipher in this process. Return: 0, or LKM_E_NO_CODEC. */
int handle_library(unsigned *ret_major);
/**
 * handle_open() - connect, and give the key; nothing of the file is read yet
 * @key:           NULL: the file is plaintext, and the next two do not count
 * @compatibility: 3 or 4
 * @page_size:     0: the format's usual
 * @flags:         of sqlite3_open_v2()
 */
int handle_open(struct handle *ret_handle, const struct work *work, const char *path, struct secret *key, unsigned compatibility,
                unsigned page_size, int flags);
/** handle_attach() - attach a new, empty @path as "target", with a key and a format of its own. Return: 0, or an error told. */
int handle_attach(struct handle *h, const struct work *work, const char *path, struct secret *key, unsigned compatibility, unsigned page_size);
/** handle_read() - read the schema, by which a wrong key shows. Return: SQLite's code. */
int handle_read(struct handle *h);
/** handle_rekey() - sqlite3_rekey_v2(); then nothing is allowed but handle_deinit(). Return: SQLite's code, which means nothing. */
int handle_rekey(struct handle *h, struct secret *key);

/** handle_do() - run @sql. Return: 0, or an error told. */
int handle_do(struct handle *h, const char *sql);
/** handle_text() - the first column of the first row of @sql, "" for none, in heap. Return: 0, or an error told. */
int handle_text(struct handle *h, const char *sql, char **ret_text);
/** handle_set() - run the pragma @sql, which answers with @expected when it took effect. Return: 0, or an error told. */
int handle_set(struct handle *h, const char *sql, const char *expected);
/** handle_refuse() - tell what SQLite's @code means. Return: an enum lkm_error. */
int handle_refuse(struct handle *h, int code);
