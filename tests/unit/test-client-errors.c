/* SPDX-License-Identifier: Apache-2.0 */
#include "client/error.h"
#include "tests/unit/suite.h"

static const int codes[] = {
#define PROTO_ERROR(NAME, number, sentence) number,
#include "proto/errors.def"
#undef PROTO_ERROR
#define CLIENT_ERROR(NAME, number, sentence) number,
#include "client/errors.def"
#undef CLIENT_ERROR
};

START_TEST(every_error_has_a_text_and_a_name)
{
        for (size_t i = 0; i < ELEMENTSOF(codes); i++) {
                size_t n = strlen(lkm_strerror(codes[i]));

                ck_assert_uint_gt(n, 20);
                ck_assert_int_eq(lkm_strerror(codes[i])[n - 1], '.');
                ck_assert_str_ne(lkm_error_name(codes[i]), "?");
        }
}
END_TEST

START_TEST(no_two_errors_share_a_number_or_a_text)
{
        for (size_t i = 0; i < ELEMENTSOF(codes); i++) {
                for (size_t k = 0; k < i; k++) {
                        ck_assert_int_ne(codes[i], codes[k]);
                        ck_assert_str_ne(lkm_strerror(codes[i]), lkm_strerror(codes[k]));
                        ck_assert_str_ne(lkm_error_name(codes[i]), lkm_error_name(codes[k]));
                }
        }
}
END_TEST

START_TEST(unknown_numbers_have_a_text_too)
{
        static const int unknown[] = { -1, 99, 999, 70000, -2147483647 - 1, 2147483647 };

        for (size_t i = 0; i < ELEMENTSOF(unknown); i++) {
                ck_assert_uint_gt(strlen(lkm_strerror(unknown[i])), 0);
                ck_assert_str_eq(lkm_error_name(unknown[i]), "?");
        }
        ck_assert_str_eq(lkm_error_name(0), "OK");
}
END_TEST

START_TEST(the_daemon_cannot_send_the_librarys_own_errors)
{
        static const unsigned numbers[] = { 0, 100, 103, 60000 };

        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                struct message_error m = { .code = (uint16_t)numbers[i], .sentence = BYTES_LITERAL("x") };

                ck_assert_int_eq(error_set_wire(NULL, &m), LKM_E_PROTOCOL);
        }
}
END_TEST

START_TEST(the_daemons_sentence_is_handed_on)
{
        struct message_error m = { .code = LKM_E_DENIED, .sentence = BYTES_LITERAL("not you") };

        ck_assert_int_eq(error_set_wire(NULL, &m), LKM_E_DENIED);
        ck_assert_str_eq(lkm_error_message(NULL), "not you");
}
END_TEST

START_TEST(wrong_arguments_are_refused)
{
        struct lkm *lkm = NULL;
        struct lkm_key *key = NULL;
        const uint8_t *bytes;
        size_t n;

        ck_assert_int_eq(lkm_connect(NULL, NULL), LKM_E_ARGUMENT);
        ck_assert_int_eq(lkm_get(NULL, "x", 1, NULL, &key), LKM_E_ARGUMENT);
        ck_assert_int_eq(lkm_load(NULL, "x", NULL, &key), LKM_E_ARGUMENT);
        ck_assert_int_eq(lkm_initialize(NULL, "x", NULL, &key), LKM_E_ARGUMENT);
        ck_assert_int_eq(lkm_get_begin(NULL, "x", 1, NULL, NULL, NULL), LKM_E_ARGUMENT);
        ck_assert_int_eq(lkm_dispatch(NULL), LKM_E_ARGUMENT);
        ck_assert_int_eq(lkm_ping(NULL), LKM_E_ARGUMENT);
        ck_assert_int_eq(lkm_key_view_begin(NULL, LKM_FORMAT_RAW, &bytes, &n), LKM_E_ARGUMENT);
        lkm_key_view_end(NULL, NULL);
        lkm_key_free(&key);
        lkm_key_free(NULL);
        lkm_free(&lkm);
        lkm_free(NULL);
        ck_assert_int_eq(lkm_fd(NULL), -1);
        ck_assert_int_eq(lkm_timeout_msec(NULL), -1);
}
END_TEST

START_TEST(a_missing_daemon_is_named_with_its_socket)
{
        struct lkm_options options = { .socket = "/nonexistent/lkm.sock" };
        struct lkm *lkm = NULL;

        ck_assert_int_eq(lkm_connect(&lkm, &options), LKM_E_NO_DAEMON);
        ck_assert_ptr_null(lkm);
        ck_assert_ptr_nonnull(strstr(lkm_error_message(NULL), "/nonexistent/lkm.sock"));
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { every_error_has_a_text_and_a_name },         { no_two_errors_share_a_number_or_a_text },
                { unknown_numbers_have_a_text_too },           { the_daemon_cannot_send_the_librarys_own_errors },
                { the_daemons_sentence_is_handed_on },         { wrong_arguments_are_refused },
                { a_missing_daemon_is_named_with_its_socket },
        };

        return suite_run("client-errors", NULL, NULL, promises, ELEMENTSOF(promises));
}
