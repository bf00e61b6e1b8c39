/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-file: the file that the audit log is written to: opened safely, appended to line by line, with room kept for the
 * last words of a daemon whose disk is full. Owned by audit.c. Knows lines only so far as to find the end of a chain.
 *
 * The room is blocks behind the end of the file (fallocate(2) with FALLOC_FL_KEEP_SIZE). They are taken before a line needs
 * them, so that a full disk shows while there is still room for what has to be said about it.
 */
#pragma once

#include <stdbool.h>

#include "proto/audit-line.h"

/** How important a line is: how much of the room it may use. */
enum audit_weight {
        AUDIT_WEIGHT_ORDINARY, /* nothing of it: what it is about does not happen without the line */
        AUDIT_WEIGHT_NOTABLE,  /* what has happened already or is refused anyway: all but the last AUDIT_RESERVE_LAST */
        AUDIT_WEIGHT_LAST,     /* that the log fails, and the end: all */
};
#define AUDIT_RESERVE 65536
#define AUDIT_RESERVE_LAST 16384

struct audit_file {
        int fd;
        char *path;
        uint64_t size;      /* as we have written it */
        uint64_t allocated; /* there are blocks up to here */
        bool reserves;      /* the file system can do that */
        int lock_fd;
};

/** The end of a chain in a file. All 0 for a file without lines. */
struct audit_end {
        uint64_t first; /* sequence number of the first line */
        uint64_t last;
        char hash[AUDIT_HASH_LENGTH + 1]; /* of the last line */
        uint64_t size;                    /* of the whole lines */
        uint64_t n_torn;                  /* bytes behind them: a line that was not finished */
        char torn_hash[AUDIT_HASH_LENGTH + 1];
};

/** audit_file_init() - without a file. @path: copied. Return: 0 or -ENOMEM. */
int audit_file_init(struct audit_file *f, const char *path);
void audit_file_deinit(struct audit_file *f);

/** audit_file_lock() - for as long as the process lives: nobody else may write this log. By a lock on PATH.lock, which is made and stays: the log
 *  itself comes and goes. Return: 0; -EBUSY; -errno. */
int audit_file_lock(struct audit_file *f);

/** audit_file_open() - the file at the path, made when it is missing (0600, O_APPEND, O_NOFOLLOW). @exclusive: it has to be missing or empty.
 *  Takes the place of the one that is open, which is handed out.
 *  @ret_previous_fd: the caller's to close; -1 when there was none
 *  Return: 0; -EEXIST; -EINVAL when it is no regular file; -errno. */
int audit_file_open(struct audit_file *f, bool exclusive, int *ret_previous_fd);
/** audit_file_is_in_place() - whether the path still leads to the open file. */
bool audit_file_is_in_place(const struct audit_file *f);
/** audit_file_name() - the last component of the path. Borrowed. */
const char *audit_file_name(const struct audit_file *f);

/**
 * audit_file_find_end() - where the chain in an open file ends. A line that was not finished (no newline, or holes of NULs that a power loss has
 * left) is told apart from one that was changed.
 * Return: 0; -EBADMSG when the first or the last whole line is no audit line, or what is behind it is not the beginning of one; -errno.
 */
int audit_file_find_end(struct audit_end *ret_end, int fd, struct audit_hasher *hasher);
/** audit_file_find_previous() - of the files beside, named PATH.*, the one with the end of the chain: what was the log before it was moved
 *  away. @ret_name: to be freed. Return: 0; -ENOENT when there is none; -errno. */
int audit_file_find_previous(const struct audit_file *f, struct audit_end *ret_end, char **ret_name, struct audit_hasher *hasher);
/** audit_file_cut() - to @size bytes; and give back the room behind them. Return: 0 or -errno. */
int audit_file_cut(struct audit_file *f, uint64_t size);
/** audit_file_finish() - nothing more is written to this file: give back its room, if nobody else has changed it. */
void audit_file_finish(struct audit_file *f);

/**
 * audit_file_append() - one line by one write(2); of a failed one nothing stays
 * Return: 0; -ESTALE when somebody else has changed the file; -ENOTRECOVERABLE when a piece of the line could not be removed again; -errno of
 * fallocate(2) or write(2): nothing has changed.
 */
int audit_file_append(struct audit_file *f, const char *text, size_t n, enum audit_weight weight);
/** audit_file_reserve() - bytes that AUDIT_WEIGHT_LAST still has, whatever the disk says. */
uint64_t audit_file_reserve(const struct audit_file *f);
