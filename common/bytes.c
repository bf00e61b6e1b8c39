/* SPDX-License-Identifier: Apache-2.0 */
#include "common/bytes.h"

#include <errno.h>
#include <sys/random.h>

struct bytes bytes_from_string(const char *text)
{
        return (struct bytes){ (const uint8_t *)text, text ? strlen(text) : 0 };
}

bool bytes_equal_secret(struct bytes a, struct bytes b)
{
        uint64_t difference = 0;
        size_t i = 0;

        if (a.n != b.n)
                return false;
        for (; i + 8 <= a.n; i += 8) {
                uint64_t x, y;

                memcpy(&x, a.data + i, 8);
                memcpy(&y, b.data + i, 8);
                difference |= x ^ y;
        }
        for (; i < a.n; i++)
                difference |= (uint64_t)(a.data[i] ^ b.data[i]);
        /* Keeps the compiler from leaving the loops early. */
        __asm__ volatile("" : "+r"(difference));
        return difference == 0;
}

bool bytes_equal(struct bytes a, struct bytes b)
{
        return bytes_equal_secret(a, b);
}

size_t utf8_length(const uint8_t *p, size_t n)
{
        uint8_t low = 0x80, high = 0xbf;
        size_t length;

        if (p[0] < 0x80)
                return 1;
        if (p[0] >= 0xc2 && p[0] <= 0xdf)
                length = 2;
        else if (p[0] >= 0xe0 && p[0] <= 0xef)
                length = 3;
        else if (p[0] >= 0xf0 && p[0] <= 0xf4)
                length = 4;
        else
                return 0;
        if (length > n)
                return 0;

        if (p[0] == 0xe0)
                low = 0xa0;
        else if (p[0] == 0xed)
                high = 0x9f;
        else if (p[0] == 0xf0)
                low = 0x90;
        else if (p[0] == 0xf4)
                high = 0x8f;
        if (p[1] < low || p[1] > high)
                return 0;
        for (size_t i = 2; i < length; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        }
        return length;
}

bool bytes_is_text(struct bytes b)
{
        for (size_t i = 0; i < b.n;) {
                size_t length;

                if (b.data[i] < 0x20 || b.data[i] == 0x7f)
                        return false;
                length = utf8_length(b.data + i, b.n - i);
                if (length == 0)
                        return false;
                i += length;
        }
        return true;
}

void text_clean(char *text)
{
        bool is_utf8;

        for (char *c = text; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        *c = '?';
        is_utf8 = bytes_is_text(bytes_from_string(text));
        for (char *c = text; *c; c++)
                if (!is_utf8 && (unsigned char)*c >= 0x80)
                        *c = '?';
}

char *bytes_to_string(struct bytes b)
{
        char *text = malloc(b.n + 1);

        if (!text)
                return NULL;
        if (b.n > 0)
                memcpy(text, b.data, b.n);
        text[b.n] = '\0';
        return text;
}

uint16_t bytes_get_u16(const uint8_t *p)
{
        return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t bytes_get_u32(const uint8_t *p)
{
        return (uint32_t)bytes_get_u16(p) << 16 | bytes_get_u16(p + 2);
}

uint64_t bytes_get_u64(const uint8_t *p)
{
        return (uint64_t)bytes_get_u32(p) << 32 | bytes_get_u32(p + 4);
}

void bytes_put_u16(uint8_t *p, uint16_t v)
{
        p[0] = (uint8_t)(v >> 8);
        p[1] = (uint8_t)v;
}

void bytes_put_u32(uint8_t *p, uint32_t v)
{
        bytes_put_u16(p, (uint16_t)(v >> 16));
        bytes_put_u16(p + 2, (uint16_t)v);
}

void bytes_put_u64(uint8_t *p, uint64_t v)
{
        bytes_put_u32(p, (uint32_t)(v >> 32));
        bytes_put_u32(p + 4, (uint32_t)v);
}

/*
 * The codecs below use arithmetic instead of tables and branches, so that neither the cache nor the time tells which
 * characters a key is made of. A mask is all ones or zero in its low eight bits; arguments are below 256.
 */
static unsigned mask_below(unsigned x, unsigned y)
{
        return ((x - y) >> 8) & 0xff;
}

static unsigned mask_between(unsigned x, unsigned low, unsigned high)
{
        return ~mask_below(x, low) & mask_below(x, high + 1) & 0xff;
}

static char base64_character(unsigned v)
{
        return (char)((mask_below(v, 26) & (v + 'A')) | (mask_between(v, 26, 51) & (v - 26 + 'a')) |
                      (mask_between(v, 52, 61) & (v - 52 + '0')) | (mask_between(v, 62, 62) & '+') |
                      (mask_between(v, 63, 63) & '/'));
}

/* The six bits of @character; sets bits of *@invalid when it is not of the alphabet. */
static unsigned base64_value(char character, unsigned *invalid)
{
        unsigned c = (unsigned char)character;
        unsigned upper = mask_between(c, 'A', 'Z'), lower = mask_between(c, 'a', 'z'),
                 digit = mask_between(c, '0', '9');
        unsigned plus = mask_between(c, '+', '+'), slash = mask_between(c, '/', '/');

        *invalid |= ~(upper | lower | digit | plus | slash) & 0xff;
        return ((upper & (c - 'A')) | (lower & (c - 'a' + 26)) | (digit & (c - '0' + 52)) | (plus & 62) |
                (slash & 63)) &
               63;
}

void base64_format(char *ret_text, const uint8_t *data, size_t n)
{
        char *p = ret_text;
        size_t i = 0;

        for (; i + 3 <= n; i += 3) {
                unsigned v = (unsigned)data[i] << 16 | (unsigned)data[i + 1] << 8 | data[i + 2];

                *p++ = base64_character(v >> 18);
                *p++ = base64_character(v >> 12 & 63);
                *p++ = base64_character(v >> 6 & 63);
                *p++ = base64_character(v & 63);
        }
        if (i < n) {
                bool two = n - i == 2;
                unsigned v = (unsigned)data[i] << 16 | (two ? (unsigned)data[i + 1] << 8 : 0);

                *p++ = base64_character(v >> 18);
                *p++ = base64_character(v >> 12 & 63);
                *p++ = two ? base64_character(v >> 6 & 63) : '=';
                *p++ = '=';
        }
        *p = '\0';
}

int base64_parse(uint8_t *ret_data, size_t *ret_n, const char *text, size_t n_text)
{
        unsigned invalid = 0;
        size_t n_padding = 0, n = 0;

        if (n_text % 4 != 0)
                return -EINVAL;
        if (n_text > 0 && text[n_text - 1] == '=')
                n_padding = text[n_text - 2] == '=' ? 2 : 1;

        for (size_t i = 0; i < n_text; i += 4) {
                size_t padding = i + 4 == n_text ? n_padding : 0;
                /* The four characters are read before the three bytes are written: both may be the same memory. */
                unsigned v = base64_value(text[i], &invalid) << 18 | base64_value(text[i + 1], &invalid) << 12;

                if (padding < 2)
                        v |= base64_value(text[i + 2], &invalid) << 6;
                if (padding < 1)
                        v |= base64_value(text[i + 3], &invalid);
                ret_data[n++] = (uint8_t)(v >> 16);
                if (padding < 2)
                        ret_data[n++] = (uint8_t)(v >> 8);
                if (padding < 1)
                        ret_data[n++] = (uint8_t)v;
                invalid |= padding == 2 ? v & 0xffff : padding == 1 ? v & 0xff : 0;
        }
        if (invalid != 0)
                return -EINVAL;
        *ret_n = n;
        return 0;
}

static char hex_character(unsigned v)
{
        return (char)((mask_below(v, 10) & (v + '0')) | (mask_between(v, 10, 15) & (v - 10 + 'a')));
}

static unsigned hex_value(char character, unsigned *invalid)
{
        unsigned c = (unsigned char)character;
        unsigned digit = mask_between(c, '0', '9'), upper = mask_between(c, 'A', 'F'),
                 lower = mask_between(c, 'a', 'f');

        *invalid |= ~(digit | upper | lower) & 0xff;
        return ((digit & (c - '0')) | (upper & (c - 'A' + 10)) | (lower & (c - 'a' + 10))) & 15;
}

void hex_format(char *ret_text, const uint8_t *data, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                ret_text[2 * i] = hex_character(data[i] >> 4);
                ret_text[2 * i + 1] = hex_character(data[i] & 15);
        }
        ret_text[2 * n] = '\0';
}

int hex_parse(uint8_t *ret_data, size_t n, const char *text, size_t n_text)
{
        unsigned invalid = 0;

        if (n_text % 2 != 0 || n_text / 2 != n)
                return -EINVAL;
        for (size_t i = 0; i < n; i++) {
                unsigned v = hex_value(text[2 * i], &invalid) << 4;

                v |= hex_value(text[2 * i + 1], &invalid);
                ret_data[i] = (uint8_t)v;
        }
        return invalid == 0 ? 0 : -EINVAL;
}

/* Bytes of each dash-separated group. */
static const uint8_t uuid_groups[] = { 4, 2, 2, 2, 6 };

void uuid_format(char ret_text[UUID_TEXT_LENGTH + 1], const uint8_t uuid[UUID_SIZE])
{
        char *p = ret_text;

        for (size_t i = 0; i < sizeof(uuid_groups); i++) {
                if (i > 0)
                        *p++ = '-';
                hex_format(p, uuid, uuid_groups[i]);
                uuid += uuid_groups[i];
                p += uuid_groups[i] * 2;
        }
}

int uuid_parse(uint8_t ret_uuid[UUID_SIZE], const char *text, size_t n_text)
{
        uint8_t uuid[UUID_SIZE], *q = uuid;
        const char *p = text;

        if (n_text != UUID_TEXT_LENGTH)
                return -EINVAL;
        for (size_t i = 0; i < n_text; i++) {
                if (text[i] >= 'A' && text[i] <= 'F')
                        return -EINVAL;
        }
        for (size_t i = 0; i < sizeof(uuid_groups); i++) {
                if (i > 0 && *p++ != '-')
                        return -EINVAL;
                if (hex_parse(q, uuid_groups[i], p, (size_t)uuid_groups[i] * 2) < 0)
                        return -EINVAL;
                q += uuid_groups[i];
                p += uuid_groups[i] * 2;
        }
        memcpy(ret_uuid, uuid, sizeof(uuid));
        return 0;
}

int uuid_random(uint8_t ret_uuid[UUID_SIZE])
{
        ssize_t n;

        /* Up to 256 bytes come whole and uninterrupted: getrandom(2). */
        do
                n = getrandom(ret_uuid, UUID_SIZE, 0);
        while (n < 0 && errno == EINTR);
        if (n != UUID_SIZE)
                return n < 0 ? -errno : -EIO;
        ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0f) | 0x40);
        ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3f) | 0x80);
        return 0;
}
