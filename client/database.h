/* SPDX-License-Identifier: Apache-2.0 */
/*
 * database: from a database's path to its record. Shared by the synchronous and the asynchronous way, and by lkmctl.
 */
#pragma once

#include "client/connection.h"
#include "client/keyfile.h"

/** A record and where it is kept. */
struct database_record {
        char *path; /* of the .key file */
        uint8_t *data;
        size_t n;
};

/** database_record_deinit() - harmless on zeros. */
void database_record_deinit(struct database_record *record);
/** database_record_read() - as lkm_load() says. @ret_record: release with database_record_deinit(). Return: 0 or the error, message set. */
int database_record_read(struct lkm *lkm, const char *database_path, struct database_record *ret_record);
/**
 * database_record_put() - put @newer in the file's place, durably, and into @record
 * @lock: held; of the record's file
 * Return: 0; LKM_E_IO, and @record is what the file has now, the old one or @newer; nothing when that cannot be read.
 */
int database_record_put(struct lkm *lkm, struct database_record *record, struct keyfile_lock *lock, struct bytes newer);
/**
 * database_record_upgraded() - put @newer, which was made of @record, into @record, and in the file's place unless its folder or owner forbids that
 * or another process changes the file at this moment. A file that has changed since is not replaced: its content is taken instead.
 * @lock: held, or NULL
 * Return: 0 or the error.
 */
int database_record_upgraded(struct lkm *lkm, struct database_record *record, struct keyfile_lock *lock, struct bytes newer);
/** database_record_get() - the key of @version (0: the current one); a record of format 1 is upgraded first, as database_record_upgraded()
 *  says. Return: 0 or the error. */
int database_record_get(struct lkm *lkm, struct database_record *record, struct keyfile_lock *lock, const char *scope, uint32_t version,
                        struct lkm_key **ret_key);
/** database_record_recover() - the key of @version, whatever its state, by the right to recover databases. Return: 0 or the error. */
int database_record_recover(struct lkm *lkm, const struct database_record *record, uint32_t version, struct lkm_key **ret_key);
/** database_path_error() - "cannot WHAT PATH: …". Return: LKM_E_IO. */
int database_path_error(struct lkm *lkm, const char *what, const char *path, int negative_errno);
