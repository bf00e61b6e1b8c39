/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/json-write.h"

#include <errno.h>

enum { ESCAPE_MAX = 7 }; /* "\u001f" and a NUL */

int json_writer_init(struct json_writer *w, size_t max)
{
        *w = (struct json_writer){ .text = NULL };
        return secret_new(&w->text, max);
}

void json_writer_deinit(struct json_writer *w)
{
        w->text = secret_unref(w->text);
}

int json_writer_end(struct json_writer *w, struct secret **ret_text)
{
        if (w->full || w->n == 0)
                return -EMSGSIZE;
        secret_resize(w->text, w->n);
        *ret_text = TAKE_PTR(w->text);
        return 0;
}

/* Room for @n more bytes at *@view, to be given back with room_end(). */
static bool room_begin(struct json_writer *w, size_t n, uint8_t **ret_view)
{
        if (w->full || n > secret_size(w->text) - w->n) {
                w->full = true;
                return false;
        }
        *ret_view = secret_view_begin(w->text);
        return true;
}

static void room_end(struct json_writer *w, size_t n, uint8_t **view)
{
        w->n += n;
        secret_view_end(w->text, view);
}

static void put(struct json_writer *w, const void *data, size_t n)
{
        uint8_t *view;

        if (!room_begin(w, n, &view))
                return;
        memcpy(view + w->n, data, n);
        room_end(w, n, &view);
}

static void put_string(struct json_writer *w, const char *text)
{
        put(w, text, strlen(text));
}

static void put_escaped(struct json_writer *w, struct bytes text)
{
        char escape[ESCAPE_MAX];
        size_t i = 0, run;

        put(w, "\"", 1);
        while (i < text.n) {
                for (run = i; run < text.n && text.data[run] >= 0x20 && text.data[run] != '"' && text.data[run] != '\\'; run++)
                        ;
                if (run > i)
                        put(w, text.data + i, run - i);
                if (run < text.n) {
                        snprintf(escape, sizeof(escape), "\\u%04x", text.data[run]);
                        put(w, escape, ESCAPE_MAX - 1);
                        run++;
                }
                i = run;
        }
        put(w, "\"", 1);
        secret_wipe(escape, sizeof(escape));
}

static void begin(struct json_writer *w, const char *key)
{
        if (w->follows)
                put(w, ",", 1);
        w->follows = true;
        if (key) {
                put(w, "\"", 1);
                put_string(w, key);
                put(w, "\":", 2);
        }
}

void json_write_open(struct json_writer *w, const char *key, char bracket)
{
        begin(w, key);
        put(w, &bracket, 1);
        w->follows = false;
}

void json_write_close(struct json_writer *w, char bracket)
{
        put(w, &bracket, 1);
        w->follows = true;
}

void json_write_number(struct json_writer *w, const char *key, uint64_t value)
{
        char digits[24];

        begin(w, key);
        snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
        put_string(w, digits);
}

void json_write_text(struct json_writer *w, const char *key, struct bytes text)
{
        begin(w, key);
        put_escaped(w, text);
}

void json_write_secret(struct json_writer *w, const char *key, struct secret *text)
{
        uint8_t *view = secret_view_begin(text);

        json_write_text(w, key, (struct bytes){ view, secret_size(text) });
        secret_view_end(text, &view);
}

void json_write_base64(struct json_writer *w, const char *key, struct bytes data)
{
        size_t n = BASE64_LENGTH(data.n);
        uint8_t *view;

        begin(w, key);
        put(w, "\"", 1);
        /* base64_format() writes a NUL too, which the closing quote takes the place of. */
        if (room_begin(w, n + 1, &view)) {
                base64_format((char *)view + w->n, data.data, data.n);
                room_end(w, n, &view);
        }
        put(w, "\"", 1);
}

void json_write_base64_secret(struct json_writer *w, const char *key, struct secret *data)
{
        uint8_t *view = secret_view_begin(data);

        json_write_base64(w, key, (struct bytes){ view, secret_size(data) });
        secret_view_end(data, &view);
}
