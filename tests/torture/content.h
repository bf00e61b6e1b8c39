/* SPDX-License-Identifier: Apache-2.0 */
/* content: what the databases of these tests contain, and whether it is still there. Knows SQL, no keys. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sqlite3;

/** content_fill() - tables, an index, free pages, rows of pseudorandom text; about @n_bytes in all. @journal: "delete" or "wal".
 *  Return: whether it worked. */
bool content_fill(struct sqlite3 *db, uint64_t n_bytes, const char *journal);
/** content_hash_of() - of the schema and of every value but those in `after`; the index is left to content_is_sound(). Return: whether it could be read. */
bool content_hash_of(struct sqlite3 *db, uint64_t *ret_hash);
/** content_add() - @n transactions, each a row in the table `after`. Return: whether all were acknowledged. */
bool content_add(struct sqlite3 *db, unsigned n);
/** content_count() - rows of `after`; -1 on error. */
int64_t content_count(struct sqlite3 *db);
/** content_is_sound() - what `PRAGMA integrity_check` says. */
bool content_is_sound(struct sqlite3 *db);
/** content_print_hash() - for those who will ask whether it is the same. Return: 0, or 1 when it could not be read. */
int content_print_hash(struct sqlite3 *db);
