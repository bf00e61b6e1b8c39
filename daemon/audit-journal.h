/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-journal: tells a checkpoint of the audit log to the journal, which is another file, of another user: so a log that was
 * written anew as a whole is found. By the journal's native protocol over one socket; sd_journal_send(3) opens its own
 * when it likes, and does not tell when there is no journal.
 */
#pragma once

#include <stdint.h>

struct audit_journal {
        int fd; /* -1: there is no journal */
};

/** audit_journal_open() - connect. Without a journal checkpoints go to standard error. */
void audit_journal_open(struct audit_journal *j);
void audit_journal_close(struct audit_journal *j);
/** audit_journal_tell() - one entry, "audit checkpoint SEQUENCE HASH", with the fields LKM_AUDIT_SEQ, LKM_AUDIT_HASH, LKM_AUDIT_FILE. Where the
 *  journal does not take it, one line on standard error. */
void audit_journal_tell(struct audit_journal *j, uint64_t sequence, const char *hash, const char *file);
