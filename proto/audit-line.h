/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-line: one line of the audit log, as text and as a struct. Written by lkmd, read by lkmctl; both sides have this one
 * definition. A line is a JSON object in ASCII without white space, its members in the order of struct audit_line, those
 * that are unknown left out:
 *
 *     {"seq":7,"time":"2026-01-02T03:04:05.678901Z",…,"prev":"<hash of line 6>","hash":"<SHA-256 of all before ,\"hash\">"}
 *
 * So each line proves itself and names the one before it. There is one text for one struct: the parser takes nothing that
 * the formatter would not have written. Knows no files and no clocks; allocates nothing but a hasher's context.
 */
#pragma once

#include <inttypes.h>
#include <openssl/evp.h>

#include "common/bytes.h"

#define AUDIT_LINE_MAX 16384 /* bytes of a line, with its newline */
#define AUDIT_HASH_LENGTH 64 /* characters of a hash: SHA-256 in lower-case hex */
/** The `prev` of the first line of a chain. */
#define AUDIT_HASH_NONE "0000000000000000000000000000000000000000000000000000000000000000"
#define AUDIT_BOOT_ID_LENGTH 32
#define AUDIT_TIME_LENGTH 27 /* "2026-01-02T03:04:05.678901Z" */

/** What lkmd calls a file when it begins the next one: the path of the log, then the first and the last sequence number in it. The order of
 *  the names is the order of the chain. For snprintf(3): path, uint64_t, uint64_t. */
#define AUDIT_ROTATED_FORMAT "%s.%016" PRIu64 "-%016" PRIu64
/** Characters that AUDIT_ROTATED_FORMAT adds to the path while the numbers have no more than 16 digits. */
#define AUDIT_ROTATED_SUFFIX 34

/** Of the `event` of lines that are about the log itself. */
#define AUDIT_EVENT_START "start"           /* lkmd began */
#define AUDIT_EVENT_STOP "stop"             /* lkmd ended in good order */
#define AUDIT_EVENT_OPEN "open"             /* first line of a new file; `reason`: name of the file before it */
#define AUDIT_EVENT_TORN "torn"             /* at the start, `count` bytes of an unfinished last line were cut off; `reason`: their SHA-256 */
#define AUDIT_EVENT_CHECKPOINT "checkpoint" /* its seq and hash were told to the journal */

/** All text is UTF-8 and borrowed. In comments: when a member is left out. */
struct audit_line {
        uint64_t seq;           /* from 1, without a gap */
        uint64_t time_usec;     /* wall clock */
        uint64_t boottime_usec; /* CLOCK_BOOTTIME */
        struct bytes boot_id;   /* 32 hex digits; empty */
        struct bytes event;     /* lower-case letters and '-' */
        bool has_peer;          /* uid, gid and pid are there together or not at all */
        uint64_t uid, gid, pid;
        struct bytes unit;           /* systemd unit of the peer; empty */
        uint64_t connection;         /* 0 */
        struct bytes scope;          /* empty */
        struct bytes database_id;    /* UUID in lower case; empty */
        struct bytes label;          /* empty */
        uint64_t version;            /* of the key; 0 */
        struct bytes decision;       /* "allow" or "deny"; empty */
        struct bytes reason;         /* empty */
        struct bytes kek;            /* name of a [kek NAME]; empty */
        struct bytes kek_id;         /* empty */
        struct bytes kms_request_id; /* empty */
        uint64_t count;              /* 0 */
        bool stale;                  /* false */
        struct bytes prev;           /* AUDIT_HASH_LENGTH */
        struct bytes hash;           /* AUDIT_HASH_LENGTH; set by the parser, ignored by the formatter */
        struct bytes hashed;         /* no member: the part of the line that `hash` is about; set by the parser */
};

/** Makes hashes. Not to be used by two threads at once. */
struct audit_hasher {
        EVP_MD_CTX *context;
};

/** audit_hasher_init() - Return: 0 or -ENOMEM. */
int audit_hasher_init(struct audit_hasher *h);
/** audit_hasher_deinit() - of one that is zeroed or initialised. */
void audit_hasher_deinit(struct audit_hasher *h);
/** audit_hash() - SHA-256 of @text in hex and a NUL. Return: 0 or -EIO when libcrypto fails. */
int audit_hash(struct audit_hasher *h, char ret_hash[AUDIT_HASH_LENGTH + 1], struct bytes text);

/**
 * audit_line_format() - the text of a line, and its hash
 * @ret_text: room for AUDIT_LINE_MAX bytes; ends with a newline and no NUL
 * @ret_n:    bytes written, newline included
 * @ret_hash: what the next line has as its `prev`
 * @line:     seq, event and prev are necessary. In text, a byte that is not UTF-8 and a NUL become U+FFFD
 *
 * Return: 0, -EMSGSIZE when it does not fit AUDIT_LINE_MAX, -EINVAL when something necessary is missing, -EIO when libcrypto fails.
 */
int audit_line_format(struct audit_hasher *h, char *ret_text, size_t *ret_n, char ret_hash[AUDIT_HASH_LENGTH + 1],
                      const struct audit_line *line);

/**
 * audit_line_parse() - the struct of a line; says nothing of whether its hash is right
 * @ret_line: borrows from @text and @scratch
 * @scratch:  room for AUDIT_LINE_MAX bytes
 * @text:     one line without its newline
 *
 * Return: 0; -EBADMSG when the formatter would not have written it.
 */
int audit_line_parse(struct audit_line *ret_line, char *scratch, struct bytes text);

/** audit_line_check() - whether the hash of a parsed line is that of its text. Return: 0, -EBADMSG when not, -EIO when libcrypto fails. */
int audit_line_check(struct audit_hasher *h, const struct audit_line *line);
