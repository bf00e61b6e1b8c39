/* SPDX-License-Identifier: Apache-2.0 */
/* audit-member: the members of a line as a table. Formatter and parser both go through it; included by these two files only. */
#pragma once

#include "proto/audit-line.h"

/** What a member is, and when it is left out. */
enum audit_member_kind {
        KIND_NUMBER,   /* left out when 0 */
        KIND_SEQUENCE, /* necessary, not 0 */
        KIND_PEER,     /* left out without a peer */
        KIND_TIME,     /* necessary */
        KIND_BOOT_ID,
        KIND_EVENT, /* necessary */
        KIND_UUID,
        KIND_DECISION,
        KIND_TEXT,
        KIND_TRUE, /* left out when false */
        KIND_HASH, /* necessary */
};

struct audit_member {
        const char *prefix; /* what is before the value */
        size_t n_prefix;
        enum audit_member_kind kind;
        size_t offset; /* in struct audit_line: uint64_t, bool or struct bytes, as its kind says */
};

#define AUDIT_MEMBERS 22
/** In their order in a line. What follows them is AUDIT_HASH_PREFIX, the hash and "\"}". */
extern const struct audit_member audit_members[AUDIT_MEMBERS];
#define AUDIT_HASH_PREFIX ",\"hash\":\""

/** audit_is_plain() - a character that stands for itself in a text. Any other is a \u escape, but for '"' and '\\', which have a backslash before
 *  them. */
static inline bool audit_is_plain(uint32_t c)
{
        return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}
