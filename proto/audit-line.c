/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/clock.h"
#include "proto/audit-member.h"

enum { HASH_SIZE = AUDIT_HASH_LENGTH / 2, UNICODE_REPLACEMENT = 0xfffd };

const struct audit_member audit_members[AUDIT_MEMBERS] = {
#define MEMBER_AT(prefix, kind, field) { prefix, sizeof(prefix) - 1, kind, offsetof(struct audit_line, field) }
#define MEMBER(separator, name, kind) MEMBER_AT(separator "\"" #name "\":", kind, name)
        MEMBER("{", seq, KIND_SEQUENCE),
        MEMBER_AT(",\"time\":", KIND_TIME, time_usec),
        MEMBER(",", boottime_usec, KIND_NUMBER),
        MEMBER(",", boot_id, KIND_BOOT_ID),
        MEMBER(",", event, KIND_EVENT),
        MEMBER(",", uid, KIND_PEER),
        MEMBER(",", gid, KIND_PEER),
        MEMBER(",", pid, KIND_PEER),
        MEMBER(",", unit, KIND_TEXT),
        MEMBER(",", connection, KIND_NUMBER),
        MEMBER(",", scope, KIND_TEXT),
        MEMBER(",", database_id, KIND_UUID),
        MEMBER(",", label, KIND_TEXT),
        MEMBER(",", version, KIND_NUMBER),
        MEMBER(",", decision, KIND_DECISION),
        MEMBER(",", reason, KIND_TEXT),
        MEMBER(",", kek, KIND_TEXT),
        MEMBER(",", kek_id, KIND_TEXT),
        MEMBER(",", kms_request_id, KIND_TEXT),
        MEMBER(",", count, KIND_NUMBER),
        MEMBER(",", stale, KIND_TRUE),
        MEMBER(",", prev, KIND_HASH),
};

static const void *member_of(const struct audit_line *line, const struct audit_member *m)
{
        return (const char *)line + m->offset;
}

/* ---- hashes ---- */

int audit_hasher_init(struct audit_hasher *h)
{
        h->context = EVP_MD_CTX_new();
        if (!h->context || EVP_DigestInit_ex2(h->context, EVP_sha256(), NULL) != 1) {
                audit_hasher_deinit(h);
                return -ENOMEM;
        }
        return 0;
}

void audit_hasher_deinit(struct audit_hasher *h)
{
        EVP_MD_CTX_free(h->context);
        h->context = NULL;
}

int audit_hash(struct audit_hasher *h, char ret_hash[AUDIT_HASH_LENGTH + 1], struct bytes text)
{
        uint8_t hash[HASH_SIZE];

        /* The context keeps its algorithm: initialising again with none given is cheap. */
        if (EVP_DigestInit_ex2(h->context, NULL, NULL) != 1 || EVP_DigestUpdate(h->context, text.data, text.n) != 1 ||
            EVP_DigestFinal_ex(h->context, hash, NULL) != 1)
                return -EIO;
        hex_format(ret_hash, hash, sizeof(hash));
        return 0;
}

int audit_line_check(struct audit_hasher *h, const struct audit_line *line)
{
        char hash[AUDIT_HASH_LENGTH + 1];
        int r = audit_hash(h, hash, line->hashed);

        if (r < 0)
                return r;
        return bytes_equal(line->hash, (struct bytes){ (const uint8_t *)hash, AUDIT_HASH_LENGTH }) ? 0 : -EBADMSG;
}

/* ---- UTF-8 ---- */

/* The character at the beginning of @text. Return: its bytes; 0 when it is not UTF-8. */
static size_t utf8_get(uint32_t *ret_character, struct bytes text)
{
        size_t n = utf8_length(text.data, text.n);
        uint32_t c = n == 1 ? text.data[0] : text.data[0] & (0x7fU >> n);

        for (size_t i = 1; i < n; i++)
                c = c << 6 | (text.data[i] & 0x3fU);
        *ret_character = c;
        return n;
}

/* ---- format ---- */

/* Where the text grows; once something did not fit, n stays beyond the room. */
struct writer {
        char *text;
        size_t n;
};

static void put(struct writer *w, const void *data, size_t n)
{
        if (w->n > AUDIT_LINE_MAX || n > AUDIT_LINE_MAX - w->n) {
                w->n = AUDIT_LINE_MAX + 1;
                return;
        }
        memcpy(w->text + w->n, data, n);
        w->n += n;
}

static void put_number(struct writer *w, uint64_t value)
{
        char digits[20];
        size_t i = sizeof(digits);

        do {
                digits[--i] = (char)('0' + value % 10);
                value /= 10;
        } while (value > 0);
        put(w, digits + i, sizeof(digits) - i);
}

static void put_unit16(struct writer *w, uint32_t unit)
{
        char text[8];

        snprintf(text, sizeof(text), "\\u%04x", unit & 0xffff);
        put(w, text, 6);
}

static void put_character(struct writer *w, uint32_t c)
{
        char plain[2] = { '\\', (char)c };

        if (audit_is_plain(c)) {
                put(w, plain + 1, 1);
        } else if (c == '"' || c == '\\') {
                put(w, plain, 2);
        } else if (c < 0x10000) {
                put_unit16(w, c);
        } else {
                put_unit16(w, 0xd800 + ((c - 0x10000) >> 10));
                put_unit16(w, 0xdc00 + ((c - 0x10000) & 0x3ff));
        }
}

static void put_text(struct writer *w, struct bytes text)
{
        uint32_t c = 0;
        size_t n;

        put(w, "\"", 1);
        for (; text.n > 0; text.data += n, text.n -= n) {
                n = utf8_get(&c, text);
                if (n == 0 || c == 0) {
                        n = 1;
                        c = UNICODE_REPLACEMENT;
                }
                put_character(w, c);
        }
        put(w, "\"", 1);
}

static void put_time(struct writer *w, uint64_t usec)
{
        char seconds[CLOCK_TEXT_LENGTH + 1], fraction[16];

        clock_format(seconds, usec);
        snprintf(fraction, sizeof(fraction), ".%06uZ\"", (unsigned)(usec % USEC_PER_SEC));
        put(w, "\"", 1);
        put(w, seconds, CLOCK_TEXT_LENGTH - 1);
        put(w, fraction, 9);
}

static bool member_is_there(const struct audit_line *line, const struct audit_member *m)
{
        const void *value = member_of(line, m);

        switch (m->kind) {
        case KIND_SEQUENCE:
        case KIND_TIME:
                return true;
        case KIND_NUMBER:
                return *(const uint64_t *)value > 0;
        case KIND_PEER:
                return line->has_peer;
        case KIND_TRUE:
                return *(const bool *)value;
        case KIND_BOOT_ID:
        case KIND_EVENT:
        case KIND_UUID:
        case KIND_DECISION:
        case KIND_TEXT:
        case KIND_HASH:
                break;
        }
        return ((const struct bytes *)value)->n > 0;
}

static void put_member(struct writer *w, const struct audit_line *line, const struct audit_member *m)
{
        const void *value = member_of(line, m);

        put(w, m->prefix, m->n_prefix);
        switch (m->kind) {
        case KIND_SEQUENCE:
        case KIND_NUMBER:
        case KIND_PEER:
                put_number(w, *(const uint64_t *)value);
                return;
        case KIND_TIME:
                put_time(w, *(const uint64_t *)value);
                return;
        case KIND_TRUE:
                put(w, "true", 4);
                return;
        case KIND_BOOT_ID:
        case KIND_EVENT:
        case KIND_UUID:
        case KIND_DECISION:
        case KIND_TEXT:
        case KIND_HASH:
                put_text(w, *(const struct bytes *)value);
                return;
        }
}

int audit_line_format(struct audit_hasher *h, char *ret_text, size_t *ret_n, char ret_hash[AUDIT_HASH_LENGTH + 1],
                      const struct audit_line *line)
{
        struct writer w = { .text = ret_text };
        char hash[AUDIT_HASH_LENGTH + 1];
        int r;

        if (line->seq == 0 || line->event.n == 0 || line->prev.n != AUDIT_HASH_LENGTH)
                return -EINVAL;
        for (size_t i = 0; i < AUDIT_MEMBERS; i++) {
                if (member_is_there(line, &audit_members[i]))
                        put_member(&w, line, &audit_members[i]);
        }
        if (w.n > AUDIT_LINE_MAX)
                return -EMSGSIZE;
        r = audit_hash(h, hash, (struct bytes){ (const uint8_t *)ret_text, w.n });
        if (r < 0)
                return r;
        put(&w, AUDIT_HASH_PREFIX, sizeof(AUDIT_HASH_PREFIX) - 1);
        put(&w, hash, AUDIT_HASH_LENGTH);
        put(&w, "\"}\n", 3);
        if (w.n > AUDIT_LINE_MAX)
                return -EMSGSIZE;
        *ret_n = w.n;
        memcpy(ret_hash, hash, sizeof(hash));
        return 0;
}

