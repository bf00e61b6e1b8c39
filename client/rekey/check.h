/* SPDX-License-Identifier: Apache-2.0 */
/* check: whether a database may be re-encrypted now: file, space, format, key, locks. Shared by the steps that need to know. */
#pragma once

#include "client/rekey/handle.h"

/** check_file() - what can be told from the file without its key: LKM_E_NOT_FOUND, LKM_E_IO, LKM_E_PLAINTEXT, LKM_E_CIPHER_VERSION.
 *  @writable: it has to be. @ret_n: bytes of it; may be NULL. Return: 0, or the error told. */
int check_file(const struct work *work, bool writable, uint64_t *ret_n);
/** check_side() - bytes of the file beside the database with that suffix, 0 where there is none. Return: 0, or LKM_E_NO_MEMORY told. */
int check_side(const struct work *work, const char *suffix, uint64_t *ret_n);
/** check_space() - whether @n bytes and a fifth of them have room beside @path, and a file may have so many. @named, @doing: for the sentence,
 *  "Changing the key of". Return: 0, or LKM_E_NO_SPACE or LKM_E_IO told. */
int check_space(const char *path, const char *named, uint64_t n, const char *doing);
/**
 * check_database() - all that `rekey` needs
 * @whole: look at every page, and not at the first one only, unless others have the database open
 * @ret_compatibility: the format that the file has
 * Return: 0, or the error told.
 */
int check_database(const struct work *work, bool whole, unsigned *ret_compatibility);
/** check_journal_is_hot() - whether the next one who opens the database rolls a journal back. Return: 0, or LKM_E_IO told. */
int check_journal_is_hot(const struct work *work, bool *ret_hot);
/** check_journal() - roll a hot journal back, as SQLite does for whoever opens the database next. Return: 0, or the error told. */
int check_journal(const struct work *work);
