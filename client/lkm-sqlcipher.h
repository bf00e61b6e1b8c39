/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkm-sqlcipher: SQLCipher databases opened with keys from lkmd. Link with `pkg-config --cflags --libs lkm-sqlcipher`; works
 * with SQLCipher 3.4 and 4.
 *
 *     struct sqlite3 *db;
 *     if (lkm_sqlcipher_open("patients.db", LKM_OPEN_CREATE, NULL, &db))
 *             fprintf(stderr, "%s\n", lkm_sqlcipher_message());
 */
#pragma once

#include "lkm.h"

#ifdef __cplusplus
extern "C" {
#endif

struct sqlite3;

enum lkm_open_flags {
        LKM_OPEN_CREATE = 1,   /* make key and database where neither exists */
        LKM_OPEN_READONLY = 2, /* not together with LKM_OPEN_CREATE */
};

/** Zero in a member means its default. */
struct lkm_sqlcipher_options {
        struct lkm *lkm;       /* borrowed session, whose own deadline then counts; NULL: connect for this call with the defaults of lkm_connect() */
        const char *scope;     /* scope of a new key; an existing record of another one is refused. NULL: any */
        uint32_t timeout_msec; /* deadline of the daemon's answer, and of a database that others lock; 0: 10,000 */
        uint32_t reserved_32;  /* 0 */
        uint64_t reserved[4];  /* 0 */
};

/**
 * lkm_sqlcipher_open() - open a database with the key of its record, and verify that the key is its own
 * @path:    plain path, never a URI; the record is {path}.key
 * @flags:   0 or enum lkm_open_flags
 * @options: borrowed for the call; NULL for the defaults
 * @ret_db:  on success the connection, end it with sqlite3_close(); its busy timeout is SQLite's default, 0
 *
 * No database, record or key is ever overwritten, and a database without record never gets a new key. The format that the
 * record names is used: a database of SQLCipher 3 opens under SQLCipher 4 unchanged.
 *
 * Return: 0, or with lkm_sqlcipher_message() telling more:
 *         LKM_E_NOT_FOUND       there is no database, and LKM_OPEN_CREATE was not given
 *         LKM_E_PLAINTEXT       the database is not encrypted
 *         LKM_E_KEY_MISSING     the database has no .key
 *         LKM_E_RECORD_DAMAGED  the .key was edited or damaged
 *         LKM_E_RECORD_FOREIGN  the .key is of another scope, machine or KEK
 *         LKM_E_WRONG_KEY       the key is sound, but not this database's; or the database's first page is damaged
 *         LKM_E_NO_CODEC        the SQLite library in this process is not SQLCipher; nothing was created
 *         LKM_E_CIPHER_VERSION  SQLCipher 3 in this process, and a database of SQLCipher 4
 *         LKM_E_BUSY            others lock the database
 *         LKM_E_IO              a file could not be read or written, or the database is damaged behind its first page
 *         else as lkm_connect() and lkm_get_or_create().
 */
LKM_PUBLIC int lkm_sqlcipher_open(const char *path, int flags, const struct lkm_sqlcipher_options *options, struct sqlite3 **ret_db);
/** lkm_sqlcipher_message() - the sentence about this thread's last failed lkm_sqlcipher_open(). Return: text valid until the
 *  thread's next call; "" when none failed. Never NULL. */
LKM_PUBLIC const char *lkm_sqlcipher_message(void);

#ifdef __cplusplus
}
#endif
