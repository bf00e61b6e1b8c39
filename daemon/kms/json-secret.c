/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Twice through the text: once to see that it is JSON and how many members are wanted, so that nothing is changed in a text that is none;
 * then to take them. By recursive descent, of a depth that is bounded.
 *
 * Strings are held to what the parser that follows takes: valid UTF-8, surrogates in pairs, no NUL.
 */
#include "daemon/kms/json-secret.h"

#include <errno.h>

#include "common/bytes.h"

#define DEPTH_MAX 16

struct scanner {
        uint8_t *p, *end;
        const char *const *keys;
        size_t n_keys;
        unsigned depth;
        struct json_secret *taken; /* NULL in the first run */
        size_t n_taken;
};

/* A string's text, without its quotes. */
struct span {
        uint8_t *data;
        size_t n;
};

static int scan_value(struct scanner *s, size_t i_item);

/* ---- characters ---- */

static int hex_digit(uint8_t c)
{
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int take_hex4(const uint8_t **p, const uint8_t *end, uint32_t *ret_unit)
{
        uint32_t unit = 0;

        if (end - *p < 4)
                return JSON_SECRET_E_INVALID;
        for (int i = 0; i < 4; i++) {
                int digit = hex_digit(*(*p)++);

                if (digit < 0)
                        return JSON_SECRET_E_INVALID;
                unit = unit << 4 | (uint32_t)digit;
        }
        *ret_unit = unit;
        return 0;
}

/* Behind "\u". */
static int take_unicode(const uint8_t **p, const uint8_t *end, uint32_t *ret_char)
{
        uint32_t high, low;

        if (take_hex4(p, end, &high) != 0 || high == 0 || (high >= 0xdc00 && high <= 0xdfff))
                return JSON_SECRET_E_INVALID;
        *ret_char = high;
        if (high < 0xd800 || high > 0xdbff)
                return 0;
        if (end - *p < 2 || (*p)[0] != '\\' || (*p)[1] != 'u')
                return JSON_SECRET_E_INVALID;
        *p += 2;
        if (take_hex4(p, end, &low) != 0 || low < 0xdc00 || low > 0xdfff)
                return JSON_SECRET_E_INVALID;
        *ret_char = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return 0;
}

/* Behind a backslash. */
static int take_escape(const uint8_t **p, const uint8_t *end, uint32_t *ret_char)
{
        static const char names[] = "\"\\/bfnrt", chars[] = "\"\\/\b\f\n\r\t";
        const char *name;

        if (*p == end || **p == '\0')
                return JSON_SECRET_E_INVALID;
        if (**p == 'u') {
                (*p)++;
                return take_unicode(p, end, ret_char);
        }
        name = strchr(names, *(*p)++);
        if (!name)
                return JSON_SECRET_E_INVALID;
        *ret_char = (uint32_t)chars[name - names];
        return 0;
}

/* The rest of a character of several bytes that begins with @first. */
static int take_utf8(const uint8_t **p, const uint8_t *end, uint8_t first, uint32_t *ret_char)
{
        static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
        int n = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        uint32_t c = first & (0x3fu >> n);

        if (first < 0xc2 || first > 0xf4 || end - *p < n)
                return JSON_SECRET_E_INVALID;
        for (int i = 0; i < n; i++) {
                if ((**p & 0xc0) != 0x80)
                        return JSON_SECRET_E_INVALID;
                c = c << 6 | (*(*p)++ & 0x3fu);
        }
        if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return JSON_SECRET_E_INVALID;
        *ret_char = c;
        return 0;
}

/* One character of a string; not its closing quote. @p is before @end. */
static int take_char(const uint8_t **p, const uint8_t *end, uint32_t *ret_char)
{
        uint8_t c = *(*p)++;

        if (c == '\\')
                return take_escape(p, end, ret_char);
        if (c < 0x20)
                return JSON_SECRET_E_INVALID;
        *ret_char = c;
        return c < 0x80 ? 0 : take_utf8(p, end, c, ret_char);
}

static size_t put_utf8(uint8_t *to, uint32_t c)
{
        size_t n = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        static const uint8_t first[] = { 0x00, 0xc0, 0xe0, 0xf0 };

        for (size_t i = n; i > 0; i--, c >>= 6)
                to[i] = (uint8_t)(0x80 | (c & 0x3f));
        to[0] = (uint8_t)(first[n] | c);
        return n + 1;
}

/* ---- taking one ---- */

/* The text of @span, unescaped, which never makes it longer; NULL for "". */
static int secret_from_span(struct secret **ret_secret, const struct span *span)
{
        const uint8_t *p = span->data, *end = span->data + span->n;
        struct secret *secret;
        uint8_t *view;
        uint32_t c = 0;
        size_t n = 0;
        int r = 0;

        *ret_secret = NULL;
        if (span->n == 0)
                return 0;
        if (secret_new(&secret, span->n) < 0)
                return -ENOBUFS;
        view = secret_view_begin(secret);
        while (p < end && (r = take_char(&p, end, &c)) == 0)
                n += put_utf8(view + n, c);
        secret_view_end(secret, &view);
        if (r != 0) {
                secret_unref(secret);
                return r;
        }
        secret_resize(secret, n);
        *ret_secret = secret;
        return 0;
}

static int take_member(struct scanner *s, size_t i_key, size_t i_item, const struct span *value)
{
        if (s->taken) {
                struct json_secret *taken = &s->taken[s->n_taken];
                int r;

                *taken = (struct json_secret){ .i_key = i_key, .i_item = i_item };
                r = secret_from_span(&taken->value, value);
                if (r != 0)
                        return r;
                memset(value->data, ' ', value->n);
        }
        s->n_taken++;
        return 0;
}

/* ---- the grammar ---- */

static void skip_space(struct scanner *s)
{
        while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
                s->p++;
}

static bool skip_byte(struct scanner *s, char c)
{
        if (s->p == s->end || *s->p != (uint8_t)c)
                return false;
        s->p++;
        return true;
}

static int scan_string(struct scanner *s, struct span *ret_span)
{
        const uint8_t *p;
        uint32_t c;

        if (!skip_byte(s, '"'))
                return JSON_SECRET_E_INVALID;
        p = s->p;
        while (p < s->end && *p != '"')
                if (take_char(&p, s->end, &c) != 0)
                        return JSON_SECRET_E_INVALID;
        if (p == s->end)
                return JSON_SECRET_E_INVALID;
        *ret_span = (struct span){ s->p, (size_t)(p - s->p) };
        s->p += ret_span->n + 1;
        return 0;
}

static bool skip_digits(struct scanner *s)
{
        uint8_t *begin = s->p;

        while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
                s->p++;
        return s->p > begin;
}

static int scan_number(struct scanner *s)
{
        skip_byte(s, '-');
        if (!skip_byte(s, '0') && !skip_digits(s))
                return JSON_SECRET_E_INVALID;
        if (skip_byte(s, '.') && !skip_digits(s))
                return JSON_SECRET_E_INVALID;
        if (skip_byte(s, 'e') || skip_byte(s, 'E')) {
                if (!skip_byte(s, '+'))
                        skip_byte(s, '-');
                if (!skip_digits(s))
                        return JSON_SECRET_E_INVALID;
        }
        return 0;
}

static int scan_word(struct scanner *s, const char *word)
{
        size_t n = strlen(word);

        if ((size_t)(s->end - s->p) < n || !bytes_equal((struct bytes){ s->p, n }, bytes_from_string(word)))
                return JSON_SECRET_E_INVALID;
        s->p += n;
        return 0;
}

static int scan_array(struct scanner *s)
{
        int r;

        skip_space(s);
        if (skip_byte(s, ']'))
                return 0;
        for (size_t i = 0;; i++) {
                r = scan_value(s, i);
                if (r != 0)
                        return r;
                if (skip_byte(s, ']'))
                        return 0;
                if (!skip_byte(s, ','))
                        return JSON_SECRET_E_INVALID;
        }
}

/* Return: n_keys when it is none of them. */
static size_t key_find(const struct scanner *s, const struct span *key)
{
        size_t i = 0;

        while (i < s->n_keys && !bytes_equal((struct bytes){ key->data, key->n }, bytes_from_string(s->keys[i])))
                i++;
        return i;
}

static int scan_member(struct scanner *s, size_t i_item)
{
        struct span key, value;
        size_t i_key;
        int r;

        skip_space(s);
        r = scan_string(s, &key);
        if (r != 0)
                return r;
        skip_space(s);
        if (!skip_byte(s, ':'))
                return JSON_SECRET_E_INVALID;
        skip_space(s);
        i_key = key_find(s, &key);
        if (i_key == s->n_keys || s->p == s->end || *s->p != '"')
                return scan_value(s, i_item);
        r = scan_string(s, &value);
        if (r == 0)
                r = take_member(s, i_key, i_item, &value);
        skip_space(s);
        return r;
}

static int scan_object(struct scanner *s, size_t i_item)
{
        int r;

        skip_space(s);
        if (skip_byte(s, '}'))
                return 0;
        for (;;) {
                r = scan_member(s, i_item);
                if (r != 0)
                        return r;
                if (skip_byte(s, '}'))
                        return 0;
                if (!skip_byte(s, ','))
                        return JSON_SECRET_E_INVALID;
        }
}

static int scan_nested(struct scanner *s, size_t i_item)
{
        bool object = *s->p++ == '{';
        int r;

        if (s->depth == DEPTH_MAX)
                return JSON_SECRET_E_INVALID;
        s->depth++;
        r = object ? scan_object(s, i_item) : scan_array(s);
        s->depth--;
        return r;
}

/* With the white space around it. */
static int scan_value(struct scanner *s, size_t i_item)
{
        struct span span;
        int r;

        skip_space(s);
        if (s->p == s->end)
                return JSON_SECRET_E_INVALID;
        switch (*s->p) {
        case '{':
        case '[':
                r = scan_nested(s, i_item);
                break;
        case '"':
                r = scan_string(s, &span);
                break;
        case 't':
                r = scan_word(s, "true");
                break;
        case 'f':
                r = scan_word(s, "false");
                break;
        case 'n':
                r = scan_word(s, "null");
                break;
        default:
                r = scan_number(s);
                break;
        }
        if (r == 0)
                skip_space(s);
        return r;
}

static int scan(struct scanner *s, uint8_t *text, size_t n, struct json_secret *taken)
{
        int r;

        s->p = text;
        s->end = text + n;
        s->depth = 0;
        s->taken = taken;
        s->n_taken = 0;
        r = scan_value(s, 0);
        return r == 0 && s->p < s->end ? JSON_SECRET_E_INVALID : r;
}

/* ---- the interface ---- */

static int take_all(uint8_t *text, size_t n, struct scanner *s, struct json_secret *ret, size_t n_max, size_t *ret_n)
{
        _cleanup_(freep) struct json_secret *taken = NULL;
        int r = scan(s, text, n, NULL);

        if (r != 0)
                return r;
        if (s->n_taken > n_max)
                return JSON_SECRET_E_TOO_MANY;
        taken = calloc(s->n_taken > 0 ? s->n_taken : 1, sizeof(*taken)); /* @ret stays untouched on failure */
        if (!taken)
                return -ENOBUFS;
        r = scan(s, text, n, taken);
        if (r != 0) {
                json_secret_deinit(taken, s->n_taken);
                return r;
        }
        if (s->n_taken > 0)
                memcpy(ret, taken, s->n_taken * sizeof(*taken));
        *ret_n = s->n_taken;
        return 0;
}

int json_secret_take(struct secret *body, const char *const *keys, size_t n_keys, struct json_secret *ret, size_t n_max, size_t *ret_n)
{
        struct scanner s = { .keys = keys, .n_keys = n_keys };
        uint8_t *text = secret_view_begin(body);
        int r = take_all(text, secret_size(body), &s, ret, n_max, ret_n);

        if (r != 0)
                secret_wipe(text, secret_size(body));
        secret_view_end(body, &text);
        secret_wipe_stack();
        return r;
}

void json_secret_deinit(struct json_secret *secrets, size_t n)
{
        for (size_t i = 0; i < n; i++)
                secrets[i].value = secret_unref(secrets[i].value);
}

int secret_from_base64(struct secret **ret_secret, struct secret *text, size_t n)
{
        _cleanup_(secret_unrefp) struct secret *secret = NULL;
        size_t n_text = secret_size(text), n_data = 0;
        uint8_t *from, *to;
        int r;

        if (n == 0 || n_text != BASE64_LENGTH(n))
                return -EINVAL;
        r = secret_new(&secret, n_text / 4 * 3); /* what the decoder may write */
        if (r < 0)
                return r;
        from = secret_view_begin(text);
        to = secret_view_begin(secret);
        r = base64_parse(to, &n_data, (const char *)from, n_text);
        secret_view_end(secret, &to);
        secret_view_end(text, &from);
        secret_wipe_stack();
        if (r < 0 || n_data != n)
                return -EINVAL;
        secret_resize(secret, n);
        *ret_secret = TAKE_PTR(secret);
        return 0;
}
