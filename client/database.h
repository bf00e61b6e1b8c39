/* SPDX-License-Identifier: Apache-2.0 */
/*
 * database: from a database's path to its record. Shared by the synchronous and the asynchronous way, and by lkmctl.
 */
#pragma once

#include "client/connection.h"

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
/** database_record_replace() - put @newer in the file's place, unless its folder or owner forbids that, and into @record. Return: 0 or
 *  the error. */
int database_record_replace(struct lkm *lkm, struct database_record *record, struct bytes newer);
