/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-book: an audit log in memory, made as lkmd makes it, for tests and benchmarks that change it afterwards.
 */
#pragma once

#include "client/audit-chain.h"

/** The text of one record. */
struct book_line {
        struct audit_line line; /* what it says; prev and hash lie in the members below */
        char prev[AUDIT_HASH_LENGTH + 1], hash[AUDIT_HASH_LENGTH + 1];
        char *text; /* with its newline */
        size_t n;
};

struct book {
        struct audit_hasher hasher;
        size_t n;
        struct book_line *lines;
};

/** book_init() - @n records from 1 on, such as lkmd writes: a release mostly, a checkpoint now and then. Ends the program when out of memory. */
void book_init(struct book *b, size_t n);
void book_deinit(struct book *b);
/** book_write() - make the text of record @i anew, after its line was changed: its hash, and with @chain its prev from the line before. */
void book_write(struct book *b, size_t i, bool chain);
/** book_file() - a file of these bytes in memory. Return: its descriptor. */
int book_file(const char *text, size_t n);
