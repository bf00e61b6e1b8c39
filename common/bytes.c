/* SPDX-License-Identifier: Apache-2.0 */
#include "common/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct bytes bytes_from_string(const char *text)
{
        return (struct bytes){ (const uint8_t *)text, strlen(text) };
}

/* memcmp() is banned for its use on secrets; this is the one place where its speed is wanted. */
bool bytes_equal(struct bytes a, struct bytes b)
{
        return a.n == b.n && (a.n == 0 || __builtin_memcmp(a.data, b.data, a.n) == 0);
}

bool bytes_equal_secret(struct bytes a, struct bytes b)
{
        volatile uint8_t difference = 0;

        if (a.n != b.n)
                return false;
        for (size_t i = 0; i < a.n; i++)
                difference = (uint8_t)(difference | (a.data[i] ^ b.data[i]));
        return difference == 0;
}

/* Length of the UTF-8 sequence at @p (RFC 3629), 0 when there is none. */
static size_t utf8_length(const uint8_t *p, size_t n)
{
        size_t length = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

        if (length == 0 || length > n)
                return 0;
        for (size_t i = 1; i < length; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
        }
        /* Overlong forms, surrogates, and what is past U+10FFFF. */
        if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
            (p[0] == 0xf4 && p[1] > 0x8f))
                return 0;
        return length;
}

bool bytes_is_text(struct bytes b)
{
        for (size_t i = 0; i < b.n;) {
                size_t length = utf8_length(b.data + i, b.n - i);

                if (length == 0 || b.data[i] < 0x20 || b.data[i] == 0x7f)
                        return false;
                i += length;
        }
        return true;
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

/* ---- base64: arithmetic instead of tables, so that no cache line tells a character (RFC 4648) ---- */

/* 0xff when lo <= c <= hi, else 0; both operands below 256. */
static unsigned in_range(unsigned c, unsigned lo, unsigned hi)
{
        return (((lo - 1 - c) & (c - hi - 1)) >> 8) & 0xff;
}

static char base64_digit(unsigned v)
{
        unsigned c = (in_range(v, 0 + 1, 25) & (v + 'A')) | (in_range(v, 26, 51) & (v - 26 + 'a')) |
                     (in_range(v, 52, 61) & (v - 52 + '0')) | (in_range(v, 62, 62) & '+') | (in_range(v, 63, 63) & '/');

        /* in_range() cannot have 0 as its lower end: zero selects nothing above. */
        c |= (((v - 1) >> 8) & 0xff) & 'A';
        return (char)c;
}

/* Return: 0-63, or -1. */
static int base64_value(char digit)
{
        unsigned c = (unsigned char)digit;
        unsigned ok = in_range(c, 'A', 'Z') | in_range(c, 'a', 'z') | in_range(c, '0', '9') | in_range(c, '+', '+') |
                      in_range(c, '/', '/');
        unsigned v = (in_range(c, 'A', 'Z') & (c - 'A')) | (in_range(c, 'a', 'z') & (c - 'a' + 26)) |
                     (in_range(c, '0', '9') & (c - '0' + 52)) | (in_range(c, '+', '+') & 62) | (in_range(c, '/', '/') & 63);

        return (int)v - (int)(~ok & 1) * 128;
}

void base64_format(char *ret_text, const uint8_t *data, size_t n)
{
        for (; n > 0; data += n < 3 ? n : 3, n -= n < 3 ? n : 3, ret_text += 4) {
                unsigned b1 = n > 1 ? data[1] : 0, b2 = n > 2 ? data[2] : 0;

                ret_text[0] = base64_digit(data[0] >> 2);
                ret_text[1] = base64_digit((data[0] & 3u) << 4 | b1 >> 4);
                ret_text[2] = n > 1 ? base64_digit((b1 & 15u) << 2 | b2 >> 6) : '=';
                ret_text[3] = n > 2 ? base64_digit(b2 & 63u) : '=';
        }
        *ret_text = '\0';
}

int base64_parse(uint8_t *ret_data, size_t *ret_n, const char *text, size_t n_text)
{
        size_t padding = 0, n = 0;
        int bad = 0;

        if (n_text % 4 != 0)
                return -EINVAL;
        if (n_text > 0 && text[n_text - 1] == '=')
                padding = text[n_text - 2] == '=' ? 2 : 1;
        for (size_t i = 0; i < n_text; i += 4) {
                size_t missing = i + 4 == n_text ? padding : 0;
                int v[4];

                for (size_t j = 0; j < 4; j++) {
                        v[j] = j < 4 - missing ? base64_value(text[i + j]) : 0;
                        bad |= v[j];
                }
                ret_data[n++] = (uint8_t)(v[0] << 2 | v[1] >> 4);
                if (missing < 2)
                        ret_data[n++] = (uint8_t)(v[1] << 4 | v[2] >> 2);
                else if (v[1] & 15)
                        bad = -1;
                if (missing < 1)
                        ret_data[n++] = (uint8_t)(v[2] << 6 | v[3]);
                else if (missing == 1 && (v[2] & 3))
                        bad = -1;
        }
        if (bad < 0)
                return -EINVAL;
        *ret_n = n;
        return 0;
}

/* ---- hex, UUID ---- */

static char hex_digit(unsigned v)
{
        return (char)('0' + v + (((9 - v) >> 8) & ('a' - '0' - 10)));
}

static int hex_value(char digit)
{
        unsigned c = (unsigned char)digit;
        unsigned ok = in_range(c, '0', '9') | in_range(c, 'a', 'f') | in_range(c, 'A', 'F');
        unsigned v = (in_range(c, '0', '9') & (c - '0')) | (in_range(c, 'a', 'f') & (c - 'a' + 10)) |
                     (in_range(c, 'A', 'F') & (c - 'A' + 10));

        return (int)v - (int)(~ok & 1) * 128;
}

void hex_format(char *ret_text, const uint8_t *data, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                ret_text[2 * i] = hex_digit(data[i] >> 4);
                ret_text[2 * i + 1] = hex_digit(data[i] & 15u);
        }
        ret_text[2 * n] = '\0';
}

int hex_parse(uint8_t *ret_data, size_t n, const char *text, size_t n_text)
{
        int bad = 0;

        if (n_text != 2 * n)
                return -EINVAL;
        for (size_t i = 0; i < n; i++) {
                int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);

                bad |= high | low;
                ret_data[i] = (uint8_t)(high << 4 | low);
        }
        return bad < 0 ? -EINVAL : 0;
}

void uuid_format(char ret_text[UUID_TEXT_LENGTH + 1], const uint8_t uuid[UUID_SIZE])
{
        static const uint8_t groups[] = { 4, 2, 2, 2, 6 };

        for (size_t i = 0; i < sizeof(groups); i++) {
                hex_format(ret_text, uuid, groups[i]);
                ret_text += 2 * groups[i];
                uuid += groups[i];
                *ret_text++ = '-';
        }
        ret_text[-1] = '\0';
}

int uuid_parse(uint8_t ret_uuid[UUID_SIZE], const char *text, size_t n_text)
{
        char digits[2 * UUID_SIZE];
        size_t n = 0;

        if (n_text != UUID_TEXT_LENGTH)
                return -EINVAL;
        for (size_t i = 0; i < n_text; i++) {
                bool dash = i == 8 || i == 13 || i == 18 || i == 23;

                if (dash != (text[i] == '-') || (text[i] >= 'A' && text[i] <= 'F'))
                        return -EINVAL;
                if (!dash)
                        digits[n++] = text[i];
        }
        return hex_parse(ret_uuid, UUID_SIZE, digits, n);
}

int uuid_random(uint8_t ret_uuid[UUID_SIZE])
{
        /* getrandom(2) gives up to 256 bytes in one piece once the pool is seeded. */
        if (getrandom(ret_uuid, UUID_SIZE, 0) != UUID_SIZE)
                return -errno;
        ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0f) | 0x40);
        ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3f) | 0x80);
        return 0;
}
