/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "daemon/kms/json-write.h"
#include "tests/unit/suite.h"

static struct secret *secret;

static void setup(void)
{
        uint8_t *view;

        ck_assert_int_eq(secret_arena_init(8, 4, 1, NULL), 0);
        ck_assert_int_eq(secret_new(&secret, 5), 0);
        view = secret_view_begin(secret);
        memcpy(view, "a\"\\\n\x80", 5);
        secret_view_end(secret, &view);
}

static void teardown(void)
{
        secret = secret_unref(secret);
        secret_arena_deinit();
}

static void expect(struct json_writer *w, const char *text)
{
        _cleanup_(secret_unrefp) struct secret *s = NULL;
        uint8_t *view;

        ck_assert_int_eq(json_writer_end(w, &s), 0);
        view = secret_view_begin(s);
        ck_assert_uint_eq(secret_size(s), strlen(text));
        for (size_t i = 0; i < strlen(text); i++)
                ck_assert_msg(view[i] == (uint8_t)text[i], "%.*s", (int)secret_size(s), (const char *)view);
        secret_view_end(s, &view);
        json_writer_deinit(w);
}

static void write_all(struct json_writer *w)
{
        json_write_open(w, NULL, '{');
        json_write_text(w, "name", BYTES_LITERAL("x"));
        json_write_secret(w, "secret", secret);
        json_write_open(w, "list", '[');
        json_write_number(w, NULL, UINT64_MAX);
        json_write_open(w, NULL, '{');
        json_write_close(w, '}');
        json_write_base64(w, NULL, BYTES_LITERAL("hello"));
        json_write_close(w, ']');
        json_write_base64_secret(w, "key", secret);
        json_write_text(w, "empty", (struct bytes){ 0 });
        json_write_close(w, '}');
}

#define ALL \
        "{\"name\":\"x\",\"secret\":\"a\\u0022\\u005c\\u000a\x80\",\"list\":[18446744073709551615,{},\"aGVsbG8=\"]," \
        "\"key\":\"YSJcCoA=\",\"empty\":\"\"}"

START_TEST(text_is_compact_and_escaped)
{
        struct json_writer w;

        ck_assert_int_eq(json_writer_init(&w, SECRET_LARGE_MAX), 0);
        write_all(&w);
        expect(&w, ALL);
}
END_TEST

START_TEST(text_that_does_not_fit_is_refused_at_every_length)
{
        for (size_t n = 1; n <= sizeof(ALL); n++) {
                _cleanup_(secret_unrefp) struct secret *text = NULL;
                struct json_writer w;

                ck_assert_int_eq(json_writer_init(&w, n), 0);
                write_all(&w);
                ck_assert_int_eq(json_writer_end(&w, &text), n >= sizeof(ALL) - 1 ? 0 : -EMSGSIZE);
                json_writer_deinit(&w);
        }
}
END_TEST

START_TEST(nothing_is_no_text)
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        struct json_writer w;

        ck_assert_int_eq(json_writer_init(&w, SECRET_BODY_MAX + 1), -EINVAL);
        json_writer_deinit(&w);
        ck_assert_int_eq(json_writer_init(&w, 10), 0);
        ck_assert_int_eq(json_writer_end(&w, &text), -EMSGSIZE);
        json_writer_deinit(&w);
        json_writer_deinit(&w);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { text_is_compact_and_escaped },
                { text_that_does_not_fit_is_refused_at_every_length },
                { nothing_is_no_text },
        };

        return suite_run("json-write", setup, teardown, promises, ELEMENTSOF(promises));
}
