/* SPDX-License-Identifier: Apache-2.0 */
/* audit-line: the parser. */
#include <errno.h>

#include "common/clock.h"
#include "proto/audit-member.h"

static size_t utf8_put(char *ret_text, uint32_t c)
{
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

        if (n == 1) {
                ret_text[0] = (char)c;
                return 1;
        }
        for (size_t i = n - 1; i > 0; i--, c >>= 6)
                ret_text[i] = (char)(0x80 | (c & 0x3f));
        ret_text[0] = (char)((0xf00U >> n & 0xf0) | c);
        return n;
}

/* What is left of the line, and where decoded text goes: it is never longer than its escapes. */
struct reader {
        struct bytes left;
        char *scratch;
};

static bool take(struct reader *in, struct bytes expected)
{
        if (in->left.n < expected.n || !bytes_equal((struct bytes){ in->left.data, expected.n }, expected))
                return false;
        in->left.data += expected.n;
        in->left.n -= expected.n;
        return true;
}

static bool take_number(struct reader *in, uint64_t *ret)
{
        uint64_t value = 0;
        size_t n = 0;

        for (; n < in->left.n && in->left.data[n] >= '0' && in->left.data[n] <= '9'; n++) {
                if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, in->left.data[n] - '0', &value))
                        return false;
        }
        if (n == 0 || (n > 1 && in->left.data[0] == '0'))
                return false;
        in->left.data += n;
        in->left.n -= n;
        *ret = value;
        return true;
}

static int hex_digit(uint8_t c)
{
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits after \u. */
static bool take_unit16(struct reader *in, uint32_t *ret)
{
        uint32_t value = 0;

        if (in->left.n < 6 || in->left.data[0] != '\\' || in->left.data[1] != 'u')
                return false;
        for (size_t i = 2; i < 6; i++) {
                int digit = hex_digit(in->left.data[i]);

                if (digit < 0)
                        return false;
                value = value << 4 | (uint32_t)digit;
        }
        in->left.data += 6;
        in->left.n -= 6;
        *ret = value;
        return true;
}

/* One character that has a backslash before it. */
static bool take_escaped(struct reader *in, uint32_t *ret)
{
        uint32_t c, low;

        if (in->left.n >= 2 && in->left.data[0] == '\\' && (in->left.data[1] == '"' || in->left.data[1] == '\\')) {
                *ret = in->left.data[1];
                in->left.data += 2;
                in->left.n -= 2;
                return true;
        }
        if (!take_unit16(in, &c))
                return false;
        if (c >= 0xd800 && c < 0xdc00) {
                if (!take_unit16(in, &low) || low < 0xdc00 || low > 0xdfff)
                        return false;
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        } else if (c >= 0xdc00 && c < 0xe000) {
                return false;
        }
        *ret = c;
        return c != 0 && !audit_is_plain(c) && c != '"' && c != '\\';
}

/* The rest of a text that has escapes, @n bytes of it having been plain. */
static bool take_escaped_text(struct reader *in, struct bytes *ret, size_t n)
{
        char *text = in->scratch;
        uint32_t c;

        memcpy(text, in->left.data, n);
        in->left.data += n;
        in->left.n -= n;
        while (in->left.n > 0 && in->left.data[0] != '"') {
                c = in->left.data[0];
                if (audit_is_plain(c)) {
                        text[n++] = (char)c;
                        in->left.data++;
                        in->left.n--;
                } else if (take_escaped(in, &c)) {
                        n += utf8_put(text + n, c);
                } else {
                        return false;
                }
        }
        in->scratch = text + n;
        *ret = (struct bytes){ (const uint8_t *)text, n };
        return take(in, BYTES_LITERAL("\""));
}

static bool take_text(struct reader *in, struct bytes *ret)
{
        size_t n = 0;

        if (!take(in, BYTES_LITERAL("\"")))
                return false;
        while (n < in->left.n && audit_is_plain(in->left.data[n]))
                n++;
        if (n == in->left.n)
                return false;
        if (in->left.data[n] != '"')
                return take_escaped_text(in, ret, n);
        *ret = (struct bytes){ in->left.data, n };
        in->left.data += n + 1;
        in->left.n -= n + 1;
        return n > 0;
}

/* @n digits at @at, of which there are enough. */
static bool digits_get(uint64_t *ret, const uint8_t *at, size_t n)
{
        *ret = 0;
        for (size_t i = 0; i < n; i++) {
                if (at[i] < '0' || at[i] > '9')
                        return false;
                *ret = *ret * 10 + (uint64_t)(at[i] - '0');
        }
        return true;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar, which may not exist. */
static uint64_t days_before(uint64_t year, uint64_t month, uint64_t day)
{
        static const uint16_t before_month[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
        uint64_t y = month > 2 ? year : year - 1; /* the last one whose 29th of February can be before the date */

        return year * 365 - 1970 * 365 + y / 4 - y / 100 + y / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400) + before_month[month - 1] + day - 1;
}

/* A date is one when the next day is not the same. */
static bool date_exists(uint64_t year, uint64_t month, uint64_t day)
{
        uint64_t next_month = month == 12 ? days_before(year + 1, 1, 1) : days_before(year, month + 1, 1);

        return day > 0 && days_before(year, month, day) < next_month;
}

static bool take_time(struct reader *in, uint64_t *ret)
{
        const uint8_t *t = in->left.data;
        uint64_t year, month, day, hour, minute, second, usec;

        if (in->left.n < AUDIT_TIME_LENGTH + 2 || t[0] != '"' || t[5] != '-' || t[8] != '-' || t[11] != 'T' || t[14] != ':' ||
            t[17] != ':' || t[20] != '.' || t[27] != 'Z' || t[28] != '"')
                return false;
        if (!digits_get(&year, t + 1, 4) || !digits_get(&month, t + 6, 2) || !digits_get(&day, t + 9, 2) ||
            !digits_get(&hour, t + 12, 2) || !digits_get(&minute, t + 15, 2) || !digits_get(&second, t + 18, 2) ||
            !digits_get(&usec, t + 21, 6))
                return false;
        if (year < 1970 || month < 1 || month > 12 || !date_exists(year, month, day) || hour > 23 || minute > 59 || second > 59)
                return false;
        in->left.data += AUDIT_TIME_LENGTH + 2;
        in->left.n -= AUDIT_TIME_LENGTH + 2;
        *ret = (((days_before(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * USEC_PER_SEC + usec;
        return true;
}

static bool is_hex(struct bytes text, size_t n)
{
        for (size_t i = 0; i < text.n; i++) {
                if (hex_digit(text.data[i]) < 0)
                        return false;
        }
        return text.n == n;
}

static bool is_event(struct bytes text)
{
        for (size_t i = 0; i < text.n; i++) {
                if ((text.data[i] < 'a' || text.data[i] > 'z') && text.data[i] != '-')
                        return false;
        }
        return true;
}

static bool text_fits(struct bytes text, enum audit_member_kind kind)
{
        uint8_t uuid[UUID_SIZE];

        switch (kind) {
        case KIND_BOOT_ID:
                return is_hex(text, AUDIT_BOOT_ID_LENGTH);
        case KIND_HASH:
                return is_hex(text, AUDIT_HASH_LENGTH);
        case KIND_EVENT:
                return is_event(text);
        case KIND_UUID:
                return uuid_parse(uuid, (const char *)text.data, text.n) == 0;
        case KIND_DECISION:
                return bytes_equal(text, BYTES_LITERAL("allow")) || bytes_equal(text, BYTES_LITERAL("deny"));
        case KIND_NUMBER:
        case KIND_SEQUENCE:
        case KIND_PEER:
        case KIND_TIME:
        case KIND_TEXT:
        case KIND_TRUE:
                break;
        }
        return true;
}

/* A value that is there, into its place @value in a line. */
static bool take_value(struct reader *in, void *value, enum audit_member_kind kind)
{
        switch (kind) {
        case KIND_NUMBER:
        case KIND_SEQUENCE:
                return take_number(in, value) && *(uint64_t *)value > 0;
        case KIND_PEER:
                return take_number(in, value);
        case KIND_TIME:
                return take_time(in, value);
        case KIND_TRUE:
                *(bool *)value = true;
                return take(in, BYTES_LITERAL("true"));
        case KIND_BOOT_ID:
        case KIND_EVENT:
        case KIND_UUID:
        case KIND_DECISION:
        case KIND_TEXT:
        case KIND_HASH:
                break;
        }
        return take_text(in, value) && text_fits(*(struct bytes *)value, kind);
}

static bool take_member(struct reader *in, struct audit_line *line, const struct audit_member *m)
{
        bool there = take(in, (struct bytes){ (const uint8_t *)m->prefix, m->n_prefix });

        if (m->offset == offsetof(struct audit_line, uid))
                line->has_peer = there;
        if (m->kind == KIND_PEER && there != line->has_peer)
                return false;
        if (there)
                return take_value(in, (char *)line + m->offset, m->kind);
        return m->kind != KIND_SEQUENCE && m->kind != KIND_TIME && m->kind != KIND_EVENT && m->kind != KIND_HASH;
}

int audit_line_parse(struct audit_line *ret_line, char *scratch, struct bytes text)
{
        struct reader in = { .left = text, .scratch = scratch };
        struct audit_line line = { 0 };

        if (text.n >= AUDIT_LINE_MAX)
                return -EBADMSG;
        for (size_t i = 0; i < AUDIT_MEMBERS; i++) {
                if (!take_member(&in, &line, &audit_members[i]))
                        return -EBADMSG;
        }
        line.hashed = (struct bytes){ text.data, text.n - in.left.n };
        if (!take(&in, BYTES_LITERAL(AUDIT_HASH_PREFIX)) || in.left.n != AUDIT_HASH_LENGTH + 2)
                return -EBADMSG;
        line.hash = (struct bytes){ in.left.data, AUDIT_HASH_LENGTH };
        in.left.data += AUDIT_HASH_LENGTH;
        in.left.n -= AUDIT_HASH_LENGTH;
        if (!is_hex(line.hash, AUDIT_HASH_LENGTH) || !take(&in, BYTES_LITERAL("\"}")))
                return -EBADMSG;
        *ret_line = line;
        return 0;
}
