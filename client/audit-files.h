/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-files: the files of an audit log in the order of its chain, and their lines. Opens and reads only; must not know what a line says.
 */
#pragma once

#include "common/bytes.h"
#include "common/cleanup.h"

struct audit_file {
        char *path;     /* owned */
        int fd;         /* owned */
        uint64_t first; /* sequence number of its first record, by its name; 0 where that does not tell */
        uint64_t order; /* of the file among the others */
};

/** A log: the rotated files, oldest first, then the one that is written. Rotated are those beside it that lkmd named (AUDIT_ROTATED_FORMAT), and those
 *  with a number behind the name, as logrotate(8) gives, whose first line is a record. */
struct audit_files {
        size_t n;
        struct audit_file *files;
};

/**
 * audit_files_open() - open all files of a log
 * @path:       of the one that is written; it may be away while there are rotated ones
 * @ret_failed: with a failure the path that it is about, to release with free(); NULL when out of memory
 *
 * A rotation meanwhile is noticed, and the files are looked for again.
 *
 * Return: 0; -errno of opendir(3) or open(2); -EISDIR, -EINVAL when it is no regular file; -EAGAIN when the log was rotated each time; -ENOMEM.
 */
int audit_files_open(struct audit_files *ret_files, const char *path, char **ret_failed);
/** audit_files_add() - one more file at the end. @fd: taken over also when it fails. Return: 0 or -ENOMEM. */
int audit_files_add(struct audit_files *f, const char *path, int fd, uint64_t first);
/** audit_files_deinit() - of one that is zeroed or filled. */
void audit_files_deinit(struct audit_files *f);

/** Where a line begins. */
struct audit_position {
        size_t i_file;
        uint64_t offset; /* in bytes */
        uint64_t line;   /* from 1 */
};

/** One line. */
struct audit_text {
        struct bytes bytes; /* without its newline; of a line longer than AUDIT_LINE_MAX the first AUDIT_LINE_MAX bytes. Borrowed from the reader until the next call */
        struct audit_position at;
        bool has_end; /* there is a newline behind it */
};

struct audit_reader {
        const struct audit_files *files;
        struct audit_position next;
        char *buffer;
        uint64_t start; /* offset of the buffer in the file */
        size_t n;       /* bytes in it */
        bool is_filled; /* with what lies at @start of the file */
};

/** Named outcomes of audit_reader_next(). */
enum {
        AUDIT_READER_E_END = 1,
};

/** audit_reader_init() - at the first line. @files: borrowed. Return: 0 or -ENOMEM. */
int audit_reader_init(struct audit_reader *r, const struct audit_files *files);
/** audit_reader_deinit() - of one that is zeroed or initialised. */
void audit_reader_deinit(struct audit_reader *r);
/** audit_reader_seek() - the next line is the one at @at. */
void audit_reader_seek(struct audit_reader *r, const struct audit_position *at);
/** audit_reader_next() - Return: 0; AUDIT_READER_E_END; -errno of pread(2), about the file of @r->next. */
int audit_reader_next(struct audit_reader *r, struct audit_text *ret_text);
