/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record: the content of a .key file: parse, verify, build, format. Pure but for entropy; speaks no KMS. A parsed
 * record is a claim until record_verify() has proved it with the unwrapped key.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"
#include "common/secret.h"
#include "proto/frame.h"

enum { RECORD_VERSIONS_MAX = 64, RECORD_WRAPS_MAX = 8, RECORD_LABEL_MAX = 64 };

enum record_state { RECORD_STATE_PENDING, RECORD_STATE_CURRENT, RECORD_STATE_RETIRED, RECORD_STATE_DESTROYED };

/** record_state_text() - as in a record. */
const char *record_state_text(enum record_state state);

struct record_wrap {
        char *kek_id;
        uint8_t *wrapped;
        size_t n_wrapped;
};

/** record_wrap_copy() - an owned wrap; @wrapped is not empty. Return: 0, or -ENOMEM and @ret_wrap is untouched. */
int record_wrap_copy(struct record_wrap *ret_wrap, struct bytes kek_id, struct bytes wrapped);
/** record_wrap_deinit() - harmless on zeros. */
void record_wrap_deinit(struct record_wrap *wrap);

struct record_version {
        uint32_t number;
        enum record_state state;
        uint64_t created_at_usec; /* wall */
        uint64_t ended_at_usec;   /* wall; when it was retired or destroyed, 0 = not yet */
        bool restore_wal;         /* pending only: the rotation left WAL mode, which has to be restored */
        size_t n_wraps;
        struct record_wrap wraps[RECORD_WRAPS_MAX];
};

struct record_cipher {
        char library[33];
        uint8_t compatibility; /* 0 = unknown */
        uint32_t page_size;    /* 0 = unknown */
};

struct record {
        unsigned n_refs;
        unsigned format; /* 1 or 2 */
        uint8_t database_id[UUID_SIZE]; /* zero in format 1 */
        char scope[SCOPE_NAME_MAX + 1]; /* "" in format 1 */
        char label[RECORD_LABEL_MAX + 1]; /* what people call the database; "" = it has none */
        struct record_cipher cipher;
        uint64_t created_at_usec, rotated_at_usec; /* wall; rotated_at 0 = never */
        struct pairs encryption_context; /* the user's pairs, sorted */
        struct bytes context_storage;    /* owns what encryption_context borrows (implementation's) */
        size_t n_versions;
        struct record_version *versions; /* ascending numbers; exactly one current */
        uint8_t mac[32];                 /* zero in format 1 */
        void *json;                      /* json_t of the parsed document, kept for record_verify() */
};

/** Named outcomes. */
enum {
        RECORD_E_DAMAGED = 1, /* not a record, a member missing, of wrong type, unknown, doubled, or the mirrors disagree */
        RECORD_E_NEWER,       /* format above 2 */
        RECORD_E_MAC,         /* record_verify(): edited since its current key wrote it */
};

/** record_parse() - Return: 0, RECORD_E_DAMAGED, RECORD_E_NEWER, -ENOMEM. @ret_why: static text naming the member that is
 *  wrong, for the sentence to the user; set on RECORD_E_DAMAGED. */
int record_parse(struct record **ret_record, struct bytes text, const char **ret_why);
struct record *record_ref(struct record *r);
struct record *record_unref(struct record *r);
DEFINE_CLEANUP(struct record *, record_unref)

const struct record_version *record_current(const struct record *r);
/** record_pending() - the version of a rotation that has not ended, or NULL. There is at most one, and it is the last. */
const struct record_version *record_pending(const struct record *r);
/** record_version_find() - NULL when there is none of that number. 0 means the current one. */
const struct record_version *record_version_find(const struct record *r, uint32_t number);

/** record_context() - the encryption context of one version's wraps: the user's pairs plus, for format 2, lkm:scope,
 *  lkm:database, lkm:version; sorted. Borrows from @r and @storage. */
struct record_context_storage { char database[UUID_TEXT_LENGTH + 1]; char version[11]; };
void record_context(struct pairs *ret_pairs, struct record_context_storage *storage, const struct record *r, uint32_t version);

/** record_verify() - HMAC-SHA-256 over the canonical JSON under HKDF(current DEK). Format 1 has no mac: RECORD_E_MAC.
 *  Return: 0, RECORD_E_MAC, -ENOMEM, -EIO when OpenSSL failed. */
int record_verify(const struct record *r, struct secret *current_key);

/** What record_new() builds from. Everything is borrowed. */
struct record_template {
        const uint8_t *database_id;
        const char *scope;
        const char *label; /* "" = none */
        struct record_cipher cipher;
        const struct pairs *encryption_context; /* the user's pairs */
        uint64_t created_at_usec;
        uint64_t rotated_at_usec; /* 0 = never */
        uint32_t version;
        size_t n_wraps;
        const struct record_wrap *wraps;
};
/** record_new_text() - a whole format 2 record with one current version, signed by @key; pretty-printed JSON with a
 *  final newline. @ret_text: heap, NUL-terminated. Return: 0, -EMSGSIZE over RECORD_MAX, -ENOMEM, -EIO. */
int record_new_text(char **ret_text, size_t *ret_n, const struct record_template *t, struct secret *key);

/** What record_next_text() puts in the place of a record's versions. Everything is borrowed. */
struct record_next {
        size_t n_versions;
        const struct record_version *versions; /* ascending numbers; exactly one current, at most one pending, which is the last */
        uint64_t rotated_at_usec;              /* wall; 0 = never */
};
/** record_next_text() - the text of the record that follows @r: the same database, scope, label, cipher and context, other versions.
 *  @key: of the version that is current in @next, which signs. Where the limits need it, the oldest destroyed versions are left out; not the
 *  last version, whose number tells the next one. With a pending version there is room to commit and to abort it too.
 *  Return: as record_new_text(); -EMSGSIZE when the limits do not allow it. */
int record_next_text(char **ret_text, size_t *ret_n, const struct record *r, const struct record_next *next, struct secret *key);
/** record_versions_end() - end the rotation of @versions, whose last one is pending: it becomes the current one and the current one is
 *  retired (@commit), or it is retired itself. @now_usec: wall. */
void record_versions_end(struct record_version *versions, size_t n, bool commit, uint64_t now_usec);
