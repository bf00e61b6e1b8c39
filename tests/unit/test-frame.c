/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame.h"

#include <check.h>
#include <errno.h>

static const uint8_t database_id[UUID_SIZE] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
static uint8_t frame[FRAME_MAX + 1];
static uint8_t big[RECORD_MAX + 1];

static void setup(void)
{
        ck_assert_int_eq(secret_arena_init(16, 4, 0, NULL), 0);
}

static void teardown(void)
{
        size_t used;

        secret_arena_usage(&used, NULL, NULL, NULL);
        ck_assert_uint_eq(used, 0);
        secret_arena_deinit();
}

static union message key_message(struct secret *key)
{
        return (union message){ .key = { .number_ = MESSAGE_KEY,
                                         .key = key,
                                         .database_id = database_id,
                                         .version = 3,
                                         .scope = BYTES_LITERAL("medical"),
                                         .cipher_library = BYTES_LITERAL("sqlcipher"),
                                         .cipher_compatibility = 4,
                                         .flags = 1 } };
}

START_TEST(a_key_comes_back_in_a_secret_of_its_own)
{
        _cleanup_(secret_unrefp) struct secret *key = NULL;
        union message message, back;
        size_t n;

        ck_assert_int_eq(secret_new_random(&key, KEY_SIZE), 0);
        message = key_message(key);
        ck_assert_int_eq(message_pack(&message, 77, frame, sizeof(frame), &n), 0);
        ck_assert_uint_eq(n, message_size(&message));
        ck_assert_int_eq(message_unpack(&back, frame, n), 0);
        ck_assert_uint_eq(back.number, MESSAGE_KEY);
        ck_assert_ptr_ne(back.key.key, key);
        ck_assert(secret_equal(back.key.key, key));
        ck_assert(bytes_equal((struct bytes){ back.key.database_id, UUID_SIZE },
                              (struct bytes){ database_id, UUID_SIZE }));
        ck_assert(bytes_equal(back.key.scope, BYTES_LITERAL("medical")));
        ck_assert(back.key.version == 3 && back.key.cipher_compatibility == 4 && back.key.flags == 1);
        ck_assert(back.key.page_size == 0);
        message_deinit(&back);
        ck_assert_ptr_null(back.key.key);
        message_deinit(&back);
}
END_TEST

START_TEST(a_key_of_another_size_is_refused)
{
        _cleanup_(secret_unrefp) struct secret *key = NULL;
        union message message;
        size_t n;

        ck_assert_int_eq(secret_new_random(&key, KEY_SIZE - 1), 0);
        message = key_message(key);
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), -EMSGSIZE);
        ck_assert_uint_eq(message_size(&message), 0);
}
END_TEST

START_TEST(a_full_arena_fails_the_unpack_and_leaves_the_output)
{
        struct secret *key, *others[15];
        union message message, back = { .number = MESSAGE_PING };
        size_t n;

        ck_assert_int_eq(secret_new_random(&key, KEY_SIZE), 0);
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                ck_assert_int_eq(secret_new(&others[i], KEY_SIZE), 0);
        message = key_message(key);
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), 0);
        ck_assert_int_eq(message_unpack(&back, frame, n), -ENOBUFS);
        ck_assert_uint_eq(back.number, MESSAGE_PING);
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                secret_unref(others[i]);
        secret_unref(key);
}
END_TEST

START_TEST(fields_that_must_be_there_are_asked_for)
{
        union message message = { .record = { .number_ = MESSAGE_RECORD, .version = 1 } };
        size_t n;

        message.record.scope = BYTES_LITERAL("s");
        message.record.database_id = database_id;
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), -EINVAL);
        message.record.record = BYTES_LITERAL("{}");
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), 0);
        message.record.database_id = NULL;
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), -EINVAL);
        /* An integer that must be there is there, also as 0. */
        message = (union message){ .error = { .number_ = MESSAGE_ERROR, .sentence = BYTES_LITERAL("") } };
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), 0);
        ck_assert_uint_eq(n, FRAME_HEADER_SIZE + 2 * FRAME_FIELD_HEADER_SIZE + 2);
        ck_assert_int_eq(message_unpack(&message, frame, n), 0);
        message = (union message){ .number = (enum message_number)0x7777 };
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), -EINVAL);
        ck_assert_uint_eq(message_size(&message), 0);
}
END_TEST

START_TEST(what_the_peer_would_not_take_is_not_packed)
{
        union message message = { .get = { .number_ = MESSAGE_GET, .record = { big, RECORD_MAX } } };
        size_t n;

        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), 0);
        ck_assert_int_eq(message_unpack(&message, frame, n), 0);
        ck_assert_int_eq(message_pack(&message, 1, frame + FRAME_HEADER_SIZE, n - 1, &n), -EMSGSIZE);
        message.get.record = (struct bytes){ big, RECORD_MAX + 1 };
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), -EMSGSIZE);
        message.get.record = BYTES_LITERAL("{}");
        message.get.scope = BYTES_LITERAL("line\nbreak");
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), -EINVAL);
        message.get.scope = (struct bytes){ big, SCOPE_NAME_MAX + 1 };
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), -EMSGSIZE);

        message = (union message){ .report = { .number_ = MESSAGE_REPORT, .json = BYTES_LITERAL("[]") } };
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), -EINVAL);
        message.report.json = BYTES_LITERAL("{\n\t\"a\": 1\r\n}");
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), 0);
        message.report.json = BYTES_LITERAL("{\x01}");
        ck_assert_int_eq(message_pack(&message, 1, frame, sizeof(frame), &n), -EINVAL);
}
END_TEST

START_TEST(the_largest_generate_answer_fits_one_slot)
{
        _cleanup_(secret_unrefp) struct secret *key = NULL;
        union message message;

        ck_assert_int_eq(secret_new_random(&key, KEY_SIZE), 0);
        memset(big, 'k', KEK_ID_MAX);
        message = (union message){ .kms_generated = { .number_ = MESSAGE_KMS_GENERATED,
                                                      .key = key,
                                                      .kek_id = { big, KEK_ID_MAX },
                                                      .wrapped = { big, WRAPPED_MAX } } };
        ck_assert_uint_gt(message_size(&message), 0);
        ck_assert_uint_le(message_size(&message), FRAME_KEY_MAX);
        memset(big, 0, KEK_ID_MAX);
}
END_TEST

START_TEST(headers_are_judged_as_early_as_possible)
{
        struct frame_header header;
        uint8_t data[FRAME_HEADER_SIZE] = { 0, 0, 0, 8, 0, 2, 0, 0, 0, 0, 0, 9 };

        for (size_t n = 0; n < FRAME_HEADER_SIZE; n++)
                ck_assert_int_eq(frame_header_unpack(&header, data, n), FRAME_E_INCOMPLETE);
        ck_assert_int_eq(frame_header_unpack(&header, data, FRAME_HEADER_SIZE), 0);
        ck_assert(header.length == 12 && header.number == MESSAGE_PING && header.request_id == 9);
        data[3] = 7;
        ck_assert_int_eq(frame_header_unpack(&header, data, 4), FRAME_E_INVALID);
        bytes_put_u32(data, FRAME_MAX - 4);
        ck_assert_int_eq(frame_header_unpack(&header, data, FRAME_HEADER_SIZE), 0);
        bytes_put_u32(data, FRAME_MAX - 3);
        ck_assert_int_eq(frame_header_unpack(&header, data, 4), FRAME_E_INVALID);
        bytes_put_u32(data, UINT32_MAX);
        ck_assert_int_eq(frame_header_unpack(&header, data, 4), FRAME_E_INVALID);
        bytes_put_u32(data, 8);
        data[7] = 1;
        ck_assert_int_eq(frame_header_unpack(&header, data, FRAME_HEADER_SIZE), FRAME_E_INVALID);
        data[7] = 0;
        bytes_put_u16(data + 4, MESSAGE_KEY);
        bytes_put_u32(data, FRAME_KEY_MAX - 4);
        ck_assert_int_eq(frame_header_unpack(&header, data, FRAME_HEADER_SIZE), 0);
        bytes_put_u32(data, FRAME_KEY_MAX - 3);
        ck_assert_int_eq(frame_header_unpack(&header, data, FRAME_HEADER_SIZE), FRAME_E_INVALID);
}
END_TEST

START_TEST(pairs_are_sorted_and_unique)
{
        struct pairs pairs = { .n = 4,
                               .pair = { { BYTES_LITERAL("b"), BYTES_LITERAL("1") },
                                         { BYTES_LITERAL("ab"), BYTES_LITERAL("2") },
                                         { BYTES_LITERAL("a"), BYTES_LITERAL("") },
                                         { BYTES_LITERAL("\xc3\xa4"), BYTES_LITERAL("4") } } };
        static const uint8_t packed[] = "\0\4\0\1a\0\0\0\2ab\0\1"
                                        "2\0\1b\0\1"
                                        "1\0\2\xc3\xa4\0\1"
                                        "4";
        uint8_t data[64];
        size_t n;

        ck_assert_int_eq(pairs_pack(&pairs, data, sizeof(data), &n), -EINVAL);
        ck_assert_int_eq(pairs_sort(&pairs), 0);
        ck_assert_int_eq(pairs_pack(&pairs, data, sizeof(data), &n), 0);
        ck_assert_uint_eq(n, pairs_pack_size(&pairs));
        ck_assert(bytes_equal((struct bytes){ data, n }, (struct bytes){ packed, sizeof(packed) - 1 }));
        ck_assert_int_eq(pairs_pack(&pairs, data, n - 1, &n), -EMSGSIZE);
        pairs.pair[3].key = BYTES_LITERAL("b");
        ck_assert_int_eq(pairs_sort(&pairs), -EEXIST);
        pairs.pair[3].key = BYTES_LITERAL("");
        ck_assert_int_eq(pairs_pack(&pairs, data, sizeof(data), &n), -EINVAL);
        pairs.n = PAIRS_MAX + 1;
        ck_assert_int_eq(pairs_pack(&pairs, data, sizeof(data), &n), -EMSGSIZE);
        pairs.n = 1;
        pairs.pair[0].value = (struct bytes){ big, PAIR_VALUE_MAX + 1 };
        ck_assert_int_eq(pairs_pack(&pairs, data, sizeof(data), &n), -EMSGSIZE);
}
END_TEST

START_TEST(names_and_sentences_exist_for_every_number)
{
        static const unsigned codes[] = {
#define PROTO_ERROR(NAME, number, sentence) number,
#include "proto/errors.def"
#undef PROTO_ERROR
        };

        ck_assert_str_eq(message_name(MESSAGE_GET), "GET");
        ck_assert_uint_eq(message_flags(MESSAGE_KEY), MESSAGE_FLAG_REPLY | MESSAGE_FLAG_KEY);
        ck_assert_uint_eq(message_flags(MESSAGE_PING), MESSAGE_FLAG_REQUEST);
        ck_assert_str_ne(message_summary(MESSAGE_GET), "");
        ck_assert_str_eq(message_name(0x7777), "?");
        ck_assert_uint_eq(message_flags(0x7777), 0);
        ck_assert_str_eq(message_summary(0x7777), "");
        ck_assert_str_eq(proto_error_name(PROTO_ERROR_DENIED), "DENIED");
        ck_assert_str_eq(proto_error_name(59), "?");
        ck_assert_str_ne(proto_error_sentence(59), "");
        for (size_t i = 0; i < ELEMENTSOF(codes); i++) {
                ck_assert_str_ne(proto_error_name(codes[i]), "?");
                ck_assert_ptr_nonnull(strchr(proto_error_sentence(codes[i]), '.'));
        }
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("frame");
        TCase *c = tcase_create("frame");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_add_test(c, a_key_comes_back_in_a_secret_of_its_own);
        tcase_add_test(c, a_key_of_another_size_is_refused);
        tcase_add_test(c, a_full_arena_fails_the_unpack_and_leaves_the_output);
        tcase_add_test(c, fields_that_must_be_there_are_asked_for);
        tcase_add_test(c, what_the_peer_would_not_take_is_not_packed);
        tcase_add_test(c, the_largest_generate_answer_fits_one_slot);
        tcase_add_test(c, headers_are_judged_as_early_as_possible);
        tcase_add_test(c, pairs_are_sorted_and_unique);
        tcase_add_test(c, names_and_sentences_exist_for_every_number);
        suite_add_tcase(suite, c);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed > 0;
}
