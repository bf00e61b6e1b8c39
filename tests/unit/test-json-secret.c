/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <jansson.h>

#include "common/bytes.h"
#include "daemon/kms/json-secret.h"
#include "tests/unit/suite.h"

enum { TAKEN_MAX = 4 };

static const char *const keys[] = { "Plaintext", "token" };
static struct json_secret taken[TAKEN_MAX];
static size_t n_taken;
static struct secret *body;

static struct secret *secret_of(const char *text, size_t n)
{
        struct secret *s;
        uint8_t *view;

        ck_assert_int_eq(secret_new(&s, n), 0);
        view = secret_view_begin(s);
        memcpy(view, text, n);
        secret_view_end(s, &view);
        return s;
}

static bool secret_is(struct secret *s, const char *text, size_t n)
{
        uint8_t *view = secret_view_begin(s);
        bool same = bytes_equal((struct bytes){ view, secret_size(s) }, (struct bytes){ (const uint8_t *)text, n });

        secret_view_end(s, &view);
        return same;
}

static void release(void)
{
        json_secret_deinit(taken, n_taken);
        body = secret_unref(body);
        n_taken = 0;
}

static int take_bytes(const char *text, size_t n)
{
        int r;

        release();
        memset(taken, 0xa5, sizeof(taken));
        body = secret_of(text, n);
        r = json_secret_take(body, keys, ELEMENTSOF(keys), taken, TAKEN_MAX, &n_taken);
        if (r != 0) { /* untouched, and wiped */
                for (size_t i = 0; i < sizeof(taken); i++)
                        ck_assert_int_eq(((const uint8_t *)taken)[i], 0xa5);
                ck_assert_uint_eq(n_taken, 0);
                for (size_t i = 0; i < n; i++) {
                        uint8_t *view = secret_view_begin(body);

                        ck_assert_int_eq(view[i], 0);
                        secret_view_end(body, &view);
                }
        }
        return r;
}

static int take(const char *text)
{
        return take_bytes(text, strlen(text));
}

/* What a parser sees afterwards. */
static json_t *rest(size_t flags)
{
        uint8_t *view = secret_view_begin(body);
        json_t *json = json_loadb((const char *)view, secret_size(body), flags | JSON_DECODE_ANY, NULL);

        secret_view_end(body, &view);
        return json;
}

static bool is_taken(size_t i, size_t i_key, size_t i_item, const char *text)
{
        return i < n_taken && taken[i].i_key == i_key && taken[i].i_item == i_item &&
               (*text ? taken[i].value && secret_is(taken[i].value, text, strlen(text)) : !taken[i].value);
}

static void setup(void)
{
        ck_assert_int_eq(secret_arena_init(32, 4, 2, NULL), 0);
}

static void teardown(void)
{
        size_t small, large;

        release();
        secret_arena_usage(&small, NULL, &large, NULL);
        ck_assert_uint_eq(small + large, 0);
        secret_arena_deinit();
}

START_TEST(what_is_no_json_is_refused_and_wiped)
{
        static const char *const wrong[] = {
                " ",
                "{",
                "[1,]",
                "{\"a\":1,}",
                "{,}",
                "{\"a\"}",
                "{\"a\" 1}",
                "{a:1}",
                "{'a':1}",
                "{\"a\":1}{",
                "{\"a\":1} x",
                "\xef\xbb\xbf{}",
                "[01]",
                "[-]",
                "[+1]",
                "[.5]",
                "[1.]",
                "[1e]",
                "[1e+]",
                "[0x1]",
                "[NaN]",
                "[tru]",
                "[True]",
                "[nullx]",
                "// {}\n{}",
                "[1 2]",
                "[\"a\tb\"]",
                "[\"a\nb\"]",
                "[\"\\x41\"]",
                "[\"\\u12\"]",
                "[\"\\u12g4\"]",
                "[\"\\u0000\"]",
                "[\"\\ud800\"]",
                "[\"\\ud800\\u0041\"]",
                "[\"\\ud800x\"]",
                "[\"\\udc00\"]",
                "[\"\\",
                "[\"\\\"]",
                "[\"\x80\"]",
                "[\"\xc0\x80\"]",
                "[\"\xc1\xbf\"]",
                "[\"\xe0\x80\x80\"]",
                "[\"\xed\xa0\x80\"]",
                "[\"\xf0\x80\x80\x80\"]",
                "[\"\xf4\x90\x80\x80\"]",
                "[\"\xf5\x80\x80\x80\"]",
                "[\"\xe2\x82\"]",
                "[\"\xc3\"",
                "{\"Plaintext\":\"abc\"",
                "{\"Plaintext\":\"abc",
                "{\"Plaintext\":\"a\\",
                "{\"Plaintext\"\"abc\"}",
                "{\"Plaintext\":\"abc\" \"d\"}",
                "{\"Plaintext\":}",
                "[\f1]",
        };

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                ck_assert_msg(take(wrong[i]) == JSON_SECRET_E_INVALID, "case %zu: %s", i, wrong[i]);
        ck_assert_int_eq(take_bytes("{}\0", 3), JSON_SECRET_E_INVALID);
        ck_assert_int_eq(take_bytes("[\"\\\0\"]", 6), JSON_SECRET_E_INVALID);
}
END_TEST

START_TEST(text_that_is_cut_anywhere_is_refused)
{
        static const char text[] = "{\"KeyId\":\"arn:aws:kms\",\"Plaintext\":\"AQID\\/+8=\",\"x\":[{\"Plaintext\":\"\\u00e4\\ud83d\\ude00\"},"
                                   "-1.5e+3,true,false,null,{\"token\":\"\xc3\xa4\"}]}";

        for (size_t n = 1; n < sizeof(text) - 1; n++)
                ck_assert_int_eq(take_bytes(text, n), JSON_SECRET_E_INVALID);
        ck_assert_int_eq(take_bytes(text, sizeof(text) - 1), 0);
        ck_assert_uint_eq(n_taken, 3);
}
END_TEST

START_TEST(text_that_is_nested_too_deep_is_refused)
{
        char text[64];

        for (size_t depth = 15; depth <= 17; depth++) {
                memset(text, '[', depth);
                memset(text + depth, ']', depth);
                ck_assert_int_eq(take_bytes(text, 2 * depth), depth <= 16 ? 0 : JSON_SECRET_E_INVALID);
        }
        for (size_t i = 0; i < sizeof(text); i++)
                text[i] = '{';
        ck_assert_int_eq(take_bytes(text, sizeof(text)), JSON_SECRET_E_INVALID);
        ck_assert_int_eq(take("[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[[]]]"), 0);
}
END_TEST

START_TEST(too_many_secrets_are_refused)
{
        ck_assert_int_eq(take("[{\"token\":\"1\"},{\"token\":\"2\"},{\"token\":\"3\"},{\"token\":\"4\"}]"), 0);
        ck_assert_uint_eq(n_taken, 4);
        ck_assert_int_eq(take("[{\"token\":\"1\"},{\"token\":\"2\"},{\"token\":\"3\"},{\"token\":\"4\"},{\"token\":\"5\"}]"),
                         JSON_SECRET_E_TOO_MANY);
}
END_TEST

START_TEST(full_arena_wipes_what_was_taken)
{
        struct secret *full[32];
        size_t n = 0;

        while (n < ELEMENTSOF(full) && secret_new(&full[n], 1) == 0)
                n++;
        secret_unref(full[--n]);
        /* There is room for the first, and then none. */
        ck_assert_int_eq(take("{\"token\":\"first\",\"Plaintext\":\"second\",\"more\":\"so that this is no small slot\"}"), -ENOBUFS);
        while (n > 0)
                secret_unref(full[--n]);
}
END_TEST

START_TEST(secrets_are_taken_and_blanked)
{
        static const char text[] = " { \"KeyId\" : \"arn\" , \"Plaintext\" : \"c2VjcmV0\" , \"token\":\"hvs.1\" } \r\n";
        static const char left[] = " { \"KeyId\" : \"arn\" , \"Plaintext\" : \"        \" , \"token\":\"     \" } \r\n";
        json_t *json;

        ck_assert_int_eq(take(text), 0);
        ck_assert_uint_eq(n_taken, 2);
        ck_assert(is_taken(0, 0, 0, "c2VjcmV0"));
        ck_assert(is_taken(1, 1, 0, "hvs.1"));
        ck_assert(secret_is(body, left, sizeof(left) - 1));
        json = rest(JSON_REJECT_DUPLICATES);
        ck_assert_str_eq(json_string_value(json_object_get(json, "KeyId")), "arn");
        ck_assert_str_eq(json_string_value(json_object_get(json, "Plaintext")), "        ");
        json_decref(json);
}
END_TEST

START_TEST(escapes_become_what_they_stand_for)
{
        static const struct {
                const char *text, *value;
        } cases[] = {
                { "\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t" },
                { "ab\\/cd\\/ef==", "ab/cd/ef==" },
                { "\\u0041\\u00e4\\u20ac\\uD83D\\uDE00\\uffff", "A\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbf" },
                { "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\x7f", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\x7f" },
                { "", "" },
                { " ", " " },
                { "}],\\u007b", "}],{" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char text[128];
                json_t *json;

                snprintf(text, sizeof(text), "{\"a\":[\"%s\"],\"Plaintext\":\"%s\"}", cases[i].text, cases[i].text);
                ck_assert_int_eq(take(text), 0);
                ck_assert_uint_eq(n_taken, 1);
                ck_assert_msg(is_taken(0, 0, 0, cases[i].value), "case %zu", i);
                json = rest(JSON_REJECT_DUPLICATES); /* the other parser sees the same */
                ck_assert_str_eq(json_string_value(json_array_get(json_object_get(json, "a"), 0)), cases[i].value);
                ck_assert_uint_eq(strspn(json_string_value(json_object_get(json, "Plaintext")), " "), strlen(cases[i].text));
                json_decref(json);
        }
}
END_TEST

START_TEST(members_of_arrays_tell_their_place)
{
        ck_assert_int_eq(take("{\"data\":{\"batch\":[{\"Plaintext\":\"a\"},{\"error\":\"no\"},[{\"x\":1},{\"y\":{\"token\":\"b\"}}],"
                              "{\"Plaintext\":\"c\"}]},\"token\":\"d\"}"),
                         0);
        ck_assert_uint_eq(n_taken, 4);
        ck_assert(is_taken(0, 0, 0, "a"));
        ck_assert(is_taken(1, 1, 1, "b")); /* in the inner array */
        ck_assert(is_taken(2, 0, 3, "c"));
        ck_assert(is_taken(3, 1, 0, "d"));
}
END_TEST

START_TEST(only_strings_under_the_very_key_are_taken)
{
        ck_assert_int_eq(take("{\"plaintext\":\"a\",\"Plaintext \":\"b\",\"Plaintex\":\"c\",\"P\\u006caintext\":\"d\",\"Plaintext\":null,"
                              "\"token\":[\"e\",{\"f\":\"token\"}],\"g\":\"Plaintext\"}"),
                         0);
        ck_assert_uint_eq(n_taken, 0);
        ck_assert_int_eq(take("\"Plaintext\""), 0);
        ck_assert_int_eq(take("{\"Plaintext\":17,\"token\":{\"token\":\"x\"}}"), 0);
        ck_assert_uint_eq(n_taken, 1);
        ck_assert(is_taken(0, 1, 0, "x"));
}
END_TEST

START_TEST(duplicates_are_all_taken_and_left_for_the_parser_to_refuse)
{
        json_t *json;

        ck_assert_int_eq(take("{\"Plaintext\":\"a\",\"Plaintext\":\"b\"}"), 0);
        ck_assert_uint_eq(n_taken, 2);
        ck_assert(is_taken(0, 0, 0, "a") && is_taken(1, 0, 0, "b"));
        ck_assert_ptr_null(rest(JSON_REJECT_DUPLICATES));
        json = rest(0);
        ck_assert_str_eq(json_string_value(json_object_get(json, "Plaintext")), " ");
        json_decref(json);
}
END_TEST

START_TEST(base64_is_decoded_strictly_and_to_the_very_length)
{
        static const char *const wrong[] = {
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==",  /* 31 bytes */
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g",  /* 33 bytes */
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=",  /* bits behind the end */
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",   /* no padding */
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
                " AECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8-",
                "=",
        };
        struct secret *text = secret_of("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 44), *key = NULL;
        char expected[32];

        for (size_t i = 0; i < sizeof(expected); i++)
                expected[i] = (char)i;
        ck_assert_int_eq(secret_from_base64(&key, text, 32), 0);
        ck_assert(secret_is(key, expected, 32));
        secret_unref(key);
        key = NULL;
        ck_assert_int_eq(secret_from_base64(&key, text, 31), -EINVAL);
        ck_assert_int_eq(secret_from_base64(&key, text, 33), -EINVAL);
        ck_assert_int_eq(secret_from_base64(&key, text, 0), -EINVAL);
        secret_unref(text);
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                text = secret_of(wrong[i], strlen(wrong[i]));
                ck_assert_int_eq(secret_from_base64(&key, text, 32), -EINVAL);
                ck_assert_ptr_null(key);
                secret_unref(text);
        }
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { what_is_no_json_is_refused_and_wiped },
                { text_that_is_cut_anywhere_is_refused },
                { text_that_is_nested_too_deep_is_refused },
                { too_many_secrets_are_refused },
                { full_arena_wipes_what_was_taken },
                { secrets_are_taken_and_blanked },
                { escapes_become_what_they_stand_for },
                { members_of_arrays_tell_their_place },
                { only_strings_under_the_very_key_are_taken },
                { duplicates_are_all_taken_and_left_for_the_parser_to_refuse },
                { base64_is_decoded_strictly_and_to_the_very_length },
        };

        return suite_run("json-secret", setup, teardown, promises, ELEMENTSOF(promises));
}
