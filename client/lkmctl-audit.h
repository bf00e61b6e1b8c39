/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl-audit: what the audit commands share: which log it is, and which of its records were asked for.
 */
#pragma once

#include "client/audit-chain.h"
#include "client/lkmctl.h"

/** A log, open, and what the daemon says of its own. */
struct audit_log {
        char *path;
        struct audit_files files;
        json_t *status;  /* of the daemon; NULL when it did not tell */
        char *untold;    /* then: why; NULL when it was not asked */
};

/** audit_log_find() - where the log is that @c is about. @ask: ask the daemon about its own also where --file says that. Return: an exit code, after a
 *  sentence; never EXIT_CODE_FAILED. */
int audit_log_find(struct ctl *c, struct audit_log *ret_log, bool ask);
/** audit_log_open() - open its files. Return: likewise. */
int audit_log_open(struct audit_log *log);
void audit_log_deinit(struct audit_log *log);
/** audit_log_ask() - have *@ret_status renewed. Return: whether the daemon told. */
bool audit_log_ask(struct ctl *c, struct audit_log *log);
/** audit_log_head() - the last record that the daemon wrote, when it writes this log. Return: whether it said so. */
bool audit_log_head(const struct audit_log *log, uint64_t *ret_sequence, struct bytes *ret_hash);

/** audit_time_parse() - a time that a person gives; @name: of the option. Return: an exit code, after a sentence. */
int audit_time_parse(uint64_t *ret_usec, const char *name, const char *text);

/** Which records are wanted; members without bytes, and 0, ask for nothing. */
struct audit_filter {
        uint64_t since_usec, until_usec;
        uint64_t uid;
        bool has_uid;
        struct bytes scope, database, event, decision, unit;
};
/** audit_filter_init() - from the options; borrows from them. Return: an exit code, after a sentence. */
int audit_filter_init(struct audit_filter *ret_filter, const struct ctl *c);
bool audit_filter_takes(const struct audit_filter *f, const struct audit_line *line);

/**
 * audit_journal_read() - the checkpoints that lkmd told the journal
 * @folder:     of journal files; NULL: the journal of this machine
 * @path:       of the log; in a journal of another machine only its name counts
 * @owner:      of the log; in this machine's journal only what that user sent counts, for anybody can send anything
 * @since_usec: 0, or when the oldest was sent
 * @ret_n:      how many there are
 * Return: 0, -errno.
 */
int audit_journal_read(struct audit_anchors *anchors, unsigned source, const char *folder, const char *path, uid_t owner, uint64_t since_usec,
                       size_t *ret_n);
