/* SPDX-License-Identifier: Apache-2.0 */
#include "common/bytes.h"

#include <check.h>
#include <errno.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include "common/cleanup.h"

START_TEST(base64_has_the_vectors_of_rfc_4648)
{
        static const char *const vectors[][2] = {
                { "", "" },
                { "f", "Zg==" },
                { "fo", "Zm8=" },
                { "foo", "Zm9v" },
                { "foob", "Zm9vYg==" },
                { "fooba", "Zm9vYmE=" },
                { "foobar", "Zm9vYmFy" },
        };

        for (size_t i = 0; i < ELEMENTSOF(vectors); i++) {
                struct bytes plain = bytes_from_string(vectors[i][0]);
                char text[16];
                uint8_t data[16];
                size_t n;

                base64_format(text, plain.data, plain.n);
                ck_assert_str_eq(text, vectors[i][1]);
                ck_assert_uint_eq(strlen(text), BASE64_LENGTH(plain.n));
                ck_assert_int_eq(base64_parse(data, &n, text, strlen(text)), 0);
                ck_assert(bytes_equal((struct bytes){ data, n }, plain));
        }
}
END_TEST

START_TEST(base64_agrees_with_openssl_for_every_length)
{
        for (size_t n = 1; n <= 300; n++) {
                uint8_t data[300], parsed[303];
                char text[BASE64_LENGTH(300) + 1], theirs[BASE64_LENGTH(300) + 1];
                size_t n_parsed;

                ck_assert_int_eq(getrandom(data, n < 256 ? n : 256, 0), (int)(n < 256 ? n : 256));
                for (size_t i = 256; i < n; i++)
                        data[i] = (uint8_t)i;
                base64_format(text, data, n);
                EVP_EncodeBlock((unsigned char *)theirs, data, (int)n);
                ck_assert_str_eq(text, theirs);
                ck_assert_int_eq(base64_parse(parsed, &n_parsed, text, strlen(text)), 0);
                ck_assert(bytes_equal((struct bytes){ parsed, n_parsed }, (struct bytes){ data, n }));
                /* In place. */
                ck_assert_int_eq(base64_parse((uint8_t *)text, &n_parsed, text, strlen(text)), 0);
                ck_assert(bytes_equal((struct bytes){ (uint8_t *)text, n_parsed }, (struct bytes){ data, n }));
        }
}
END_TEST

START_TEST(base64_takes_one_form_only)
{
        static const char *const wrong[] = { "Z",    "Zg",   "Zg=",   "Zh==",   "Zm9=",  "Zm8",     "Zg==Zg==",
                                             "=",    "====", "Z===",  "Zg==\n", " Zg==", "Z g=",    "Zm9v\n",
                                             "Zm-v", "Zm_v", "Zm9v=", "=m9v",   "Zg=v",  "Zm9\xc3", "Zm9vZg=g" };
        uint8_t data[16];
        size_t n;

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                ck_assert_msg(base64_parse(data, &n, wrong[i], strlen(wrong[i])) == -EINVAL, "%s", wrong[i]);
        }
}
END_TEST

START_TEST(base64_has_exactly_64_characters)
{
        unsigned n_valid = 0;

        for (int c = 0; c < 256; c++) {
                char text[] = { (char)c, 'A', 'A', 'A' };
                uint8_t data[3];
                size_t n;

                if (base64_parse(data, &n, text, 4) == 0)
                        n_valid++;
        }
        ck_assert_uint_eq(n_valid, 64);
}
END_TEST

START_TEST(hex_round_trips_and_takes_both_cases)
{
        uint8_t data[256], parsed[256];
        char text[513];

        for (size_t i = 0; i < 256; i++)
                data[i] = (uint8_t)i;
        hex_format(text, data, 256);
        ck_assert_uint_eq(strlen(text), 512);
        ck_assert_int_eq(strncmp(text, "000102030405060708090a0b0c0d0e0f10", 34), 0);
        ck_assert_int_eq(hex_parse(parsed, 256, text, 512), 0);
        ck_assert(bytes_equal((struct bytes){ data, 256 }, (struct bytes){ parsed, 256 }));
        ck_assert_int_eq(hex_parse(parsed, 2, "ABcD", 4), 0);
        ck_assert(parsed[0] == 0xab && parsed[1] == 0xcd);
}
END_TEST

START_TEST(hex_has_exactly_22_characters_and_one_length)
{
        uint8_t byte;
        unsigned n_valid = 0;

        for (int c = 0; c < 256; c++) {
                char text[] = { (char)c, '0' };

                if (hex_parse(&byte, 1, text, 2) == 0)
                        n_valid++;
        }
        ck_assert_uint_eq(n_valid, 22);
        ck_assert_int_eq(hex_parse(&byte, 1, "0", 1), -EINVAL);
        ck_assert_int_eq(hex_parse(&byte, 1, "000", 3), -EINVAL);
        ck_assert_int_eq(hex_parse(&byte, 1, "0000", 4), -EINVAL);
        ck_assert_int_eq(hex_parse(&byte, SIZE_MAX / 2 + 2, "00", 2), -EINVAL);
}
END_TEST

START_TEST(uuid_has_one_text_form)
{
        static const char *const wrong[] = { "",
                                             "123e4567-e89b-42d3-a456-42661417400",
                                             "123e4567-e89b-42d3-a456-4266141740000",
                                             "123E4567-e89b-42d3-a456-426614174000",
                                             "123e4567ae89b-42d3-a456-426614174000",
                                             "123e4567-e89b-42d3-a456-42661417400g",
                                             "{23e4567-e89b-42d3-a456-426614174000" };
        const char *text = "123e4567-e89b-42d3-a456-426614174000";
        char again[UUID_TEXT_LENGTH + 1];
        uint8_t uuid[UUID_SIZE];

        ck_assert_int_eq(uuid_parse(uuid, text, strlen(text)), 0);
        ck_assert(uuid[0] == 0x12 && uuid[15] == 0x00 && uuid[6] == 0x42);
        uuid_format(again, uuid);
        ck_assert_str_eq(again, text);
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                ck_assert_int_eq(uuid_parse(uuid, wrong[i], strlen(wrong[i])), -EINVAL);
}
END_TEST

START_TEST(random_uuids_are_version_4_and_differ)
{
        uint8_t a[UUID_SIZE], b[UUID_SIZE];

        for (int i = 0; i < 64; i++) {
                ck_assert_int_eq(uuid_random(a), 0);
                ck_assert_int_eq(uuid_random(b), 0);
                ck_assert((a[6] & 0xf0) == 0x40 && (a[8] & 0xc0) == 0x80);
                ck_assert(!bytes_equal((struct bytes){ a, UUID_SIZE }, (struct bytes){ b, UUID_SIZE }));
        }
}
END_TEST

START_TEST(integers_are_big_endian)
{
        uint8_t p[8];

        bytes_put_u16(p, 0xfedc);
        ck_assert(p[0] == 0xfe && p[1] == 0xdc && bytes_get_u16(p) == 0xfedc);
        bytes_put_u32(p, 0xfedcba98);
        ck_assert(p[0] == 0xfe && p[3] == 0x98 && bytes_get_u32(p) == 0xfedcba98);
        bytes_put_u64(p, UINT64_C(0xfedcba9876543210));
        ck_assert(p[0] == 0xfe && p[7] == 0x10 && bytes_get_u64(p) == UINT64_C(0xfedcba9876543210));
}
END_TEST

START_TEST(equality_sees_every_byte)
{
        for (size_t n = 0; n <= 40; n++) {
                uint8_t a[40] = { 0 }, b[40] = { 0 };

                ck_assert(bytes_equal((struct bytes){ a, n }, (struct bytes){ b, n }));
                ck_assert(!bytes_equal((struct bytes){ a, n }, (struct bytes){ b, n + 1 }));
                for (size_t i = 0; i < n; i++) {
                        b[i] = 0x80;
                        ck_assert(!bytes_equal((struct bytes){ a, n }, (struct bytes){ b, n }));
                        ck_assert(!bytes_equal_secret((struct bytes){ a, n }, (struct bytes){ b, n }));
                        b[i] = 0;
                }
        }
        ck_assert(bytes_equal((struct bytes){ NULL, 0 }, BYTES_LITERAL("")));
}
END_TEST

START_TEST(text_is_utf8_without_control_characters)
{
        static const char *const right[] = { "",
                                             "a b~",
                                             "\xc3\xa4",
                                             "\xe2\x82\xac",
                                             "\xf0\x9f\x94\x91",
                                             "\xf4\x8f\xbf\xbf",
                                             "\xed\x9f\xbf",
                                             "\xee\x80\x80" };
        static const char *const wrong[] = {
                "\n",
                "\x1f",
                "\x7f",
                "a\tb",
                "\x80",
                "\xc3",
                "\xc0\xaf",
                "\xc1\xbf",
                "\xe0\x9f\xbf",
                "\xed\xa0\x80",
                "\xf0\x8f\xbf\xbf",
                "\xf4\x90\x80\x80",
                "\xf5\x80\x80\x80",
                "\xe2\x82",
                "\xe2\x28\xa1",
                "\xf0\x9f\x94\x41",
                "\xff",
        };

        for (size_t i = 0; i < ELEMENTSOF(right); i++)
                ck_assert_msg(bytes_is_text(bytes_from_string(right[i])), "%s", right[i]);
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                ck_assert_msg(!bytes_is_text(bytes_from_string(wrong[i])), "number %zu", i);
        ck_assert(!bytes_is_text((struct bytes){ (const uint8_t *)"a\0b", 3 }));
}
END_TEST

START_TEST(to_string_ends_with_a_nul)
{
        _cleanup_(freep) char *text = bytes_to_string((struct bytes){ (const uint8_t *)"abcdef", 3 });
        _cleanup_(freep) char *empty = bytes_to_string((struct bytes){ NULL, 0 });

        ck_assert_str_eq(text, "abc");
        ck_assert_str_eq(empty, "");
        ck_assert_uint_eq(bytes_from_string(NULL).n, 0);
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("bytes");
        TCase *c = tcase_create("bytes");
        SRunner *runner;
        int failed;

        tcase_add_test(c, base64_has_the_vectors_of_rfc_4648);
        tcase_add_test(c, base64_agrees_with_openssl_for_every_length);
        tcase_add_test(c, base64_takes_one_form_only);
        tcase_add_test(c, base64_has_exactly_64_characters);
        tcase_add_test(c, hex_round_trips_and_takes_both_cases);
        tcase_add_test(c, hex_has_exactly_22_characters_and_one_length);
        tcase_add_test(c, uuid_has_one_text_form);
        tcase_add_test(c, random_uuids_are_version_4_and_differ);
        tcase_add_test(c, integers_are_big_endian);
        tcase_add_test(c, equality_sees_every_byte);
        tcase_add_test(c, text_is_utf8_without_control_characters);
        tcase_add_test(c, to_string_ends_with_a_nul);
        suite_add_tcase(suite, c);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed > 0;
}
