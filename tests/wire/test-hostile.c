/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames that break one rule each. Every one is refused, none reads past its end (each lies at the end of a heap block
 * of its own, for the sanitizers), and none leaves a secret behind.
 */
#include <check.h>
#include <errno.h>

#include "tests/wire/golden.h"

static struct golden *vectors;
static size_t n_vectors;

static uint8_t frame[FRAME_MAX + 64];
static size_t n_frame;

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

static void begin(uint16_t number)
{
        memset(frame, 0, FRAME_HEADER_SIZE);
        bytes_put_u16(frame + 4, number);
        n_frame = FRAME_HEADER_SIZE;
        bytes_put_u32(frame, (uint32_t)n_frame - 4);
}

static void field(uint16_t tag, const void *value, size_t n)
{
        ck_assert_uint_le(n_frame + FRAME_FIELD_HEADER_SIZE + n, sizeof(frame));
        bytes_put_u16(frame + n_frame, tag);
        bytes_put_u32(frame + n_frame + 2, (uint32_t)n);
        if (value)
                memcpy(frame + n_frame + FRAME_FIELD_HEADER_SIZE, value, n);
        else
                memset(frame + n_frame + FRAME_FIELD_HEADER_SIZE, 'x', n);
        n_frame += FRAME_FIELD_HEADER_SIZE + n;
        bytes_put_u32(frame, (uint32_t)n_frame - 4);
}

static int unpack(const uint8_t *data, size_t n)
{
        _cleanup_(freep) uint8_t *copy = malloc(n > 0 ? n : 1);
        union message message;
        int r;

        if (n > 0)
                memcpy(copy, data, n);
        r = message_unpack(&message, copy, n);
        if (r == 0)
                message_deinit(&message);
        return r;
}

static int judge(void)
{
        return unpack(frame, n_frame);
}

START_TEST(a_frame_cut_short_anywhere_is_refused)
{
        for (size_t i = 0; i < n_vectors; i++) {
                for (size_t n = 0; n < vectors[i].n_frame; n++)
                        ck_assert_int_eq(unpack(vectors[i].frame, n), FRAME_E_INVALID);
        }
}
END_TEST

/* Cut, but with a length prefix that agrees: then fields are missing or cut. */
START_TEST(a_frame_that_lies_about_its_length_is_refused)
{
        for (size_t i = 0; i < n_vectors; i++) {
                for (size_t n = 0; n < vectors[i].n_frame; n++) {
                        union message message;
                        int r;

                        memcpy(frame, vectors[i].frame, n);
                        if (n >= 4)
                                bytes_put_u32(frame, (uint32_t)n - 4);
                        r = message_unpack(&message, frame, n);
                        /* Nothing but whole fields, of which some may be left out, makes a frame. */
                        ck_assert(r == FRAME_E_INVALID || (r == 0 && message_size(&message) == n));
                        if (r == 0)
                                message_deinit(&message);
                }
                memcpy(frame, vectors[i].frame, vectors[i].n_frame);
                frame[vectors[i].n_frame] = 0;
                ck_assert_int_eq(unpack(frame, vectors[i].n_frame + 1), FRAME_E_INVALID);
                bytes_put_u32(frame, (uint32_t)vectors[i].n_frame - 3);
                ck_assert_int_eq(unpack(frame, vectors[i].n_frame + 1), FRAME_E_INVALID);
        }
}
END_TEST

START_TEST(reserved_bits_are_refused)
{
        for (int bit = 0; bit < 16; bit++) {
                begin(MESSAGE_PING);
                ck_assert_int_eq(judge(), 0);
                bytes_put_u16(frame + 6, (uint16_t)(1 << bit));
                ck_assert_int_eq(judge(), FRAME_E_INVALID);
        }
}
END_TEST

START_TEST(a_doubled_tag_is_refused)
{
        begin(MESSAGE_GET);
        field(1, "{}", 2);
        ck_assert_int_eq(judge(), 0);
        field(1, "{}", 2);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);

        /* A secret that was made already is given back: teardown() looks. */
        begin(MESSAGE_KMS_UNWRAPPED);
        field(1, NULL, KEY_SIZE);
        ck_assert_int_eq(judge(), 0);
        field(1, NULL, KEY_SIZE);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);

        begin(MESSAGE_GET);
        field(1, "{}", 2);
        field(99, "new", 3);
        field(99, "new", 3);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
}
END_TEST

START_TEST(tags_out_of_order_are_refused)
{
        begin(MESSAGE_GET);
        field(2, "scope", 5);
        field(1, "{}", 2);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);

        begin(MESSAGE_GET);
        field(1, "{}", 2);
        field(3, "\0\0\0\1", 4);
        field(2, "scope", 5);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);

        begin(MESSAGE_PING);
        field(0, "", 0);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
}
END_TEST

START_TEST(unknown_tags_are_skipped)
{
        begin(MESSAGE_GET);
        field(1, "{}", 2);
        field(2, "scope", 5);
        field(99, "later", 5);
        field(65535, NULL, 1000);
        ck_assert_int_eq(judge(), 0);
        begin(MESSAGE_PING);
        field(7, "later", 5);
        ck_assert_int_eq(judge(), 0);
}
END_TEST

START_TEST(a_missing_field_that_must_be_there_is_refused)
{
        begin(MESSAGE_GET);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
        field(2, "scope", 5);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
        begin(MESSAGE_KMS_GENERATED);
        field(1, NULL, KEY_SIZE);
        field(3, "wrap", 4);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
        begin(MESSAGE_KMS_GENERATED);
        field(1, NULL, KEY_SIZE);
        field(2, "kek", 3);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
}
END_TEST

START_TEST(a_field_that_reaches_past_the_frame_is_refused)
{
        static const uint32_t lengths[] = { 3, 4, 0x7fffffff, 0x80000000, 0xfffffffa, 0xffffffff };

        for (size_t i = 0; i < ELEMENTSOF(lengths); i++) {
                begin(MESSAGE_GET);
                field(1, "{}", 2);
                bytes_put_u32(frame + FRAME_HEADER_SIZE + 2, lengths[i]);
                ck_assert_int_eq(judge(), FRAME_E_INVALID);
        }
}
END_TEST

START_TEST(integers_and_uuids_have_one_length)
{
        for (size_t n = 0; n <= 20; n++) {
                begin(MESSAGE_HELLO);
                field(1, "\0\1", 2);
                field(2, NULL, n);
                ck_assert_int_eq(judge(), n == 2 ? 0 : FRAME_E_INVALID);
                begin(MESSAGE_CREATE);
                field(3, NULL, n);
                ck_assert_int_eq(judge(), n == 1 ? 0 : FRAME_E_INVALID);
                begin(MESSAGE_CREATE);
                field(4, NULL, n);
                ck_assert_int_eq(judge(), n == 4 ? 0 : FRAME_E_INVALID);
                begin(MESSAGE_LIST);
                field(1, NULL, n);
                ck_assert_int_eq(judge(), n == UUID_SIZE ? 0 : FRAME_E_INVALID);
        }
}
END_TEST

START_TEST(keys_have_one_length)
{
        for (size_t n = 0; n <= 64; n++) {
                begin(MESSAGE_KMS_UNWRAPPED);
                field(1, NULL, n);
                ck_assert_int_eq(judge(), n == KEY_SIZE ? 0 : FRAME_E_INVALID);
        }
}
END_TEST

enum { U8, U16, U32, U64, UUID, BYTES, TEXT, JSON, PAIRS, SECRET };

static const struct field_limit {
        uint16_t number, tag;
        int kind;
        size_t maximum;
} limits[] = {
#define MESSAGE(NAME, name, number, flags, text)
#define FIELD(NAME, name, member, tag, kind, flags, maximum, text) { MESSAGE_##NAME, tag, kind, maximum },
#define MESSAGE_END(NAME, name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END
};

/* The golden frame @g with one field exchanged for @n characters. */
static void exchange(const struct golden *g, const struct field_limit *limit, size_t n)
{
        const uint8_t *p = g->frame + FRAME_HEADER_SIZE, *end = g->frame + g->n_frame;
        bool done = false;

        begin(limit->number);
        while (p < end) {
                uint16_t tag = bytes_get_u16(p);
                uint32_t n_value = bytes_get_u32(p + 2);

                if (!done && tag >= limit->tag) {
                        field(limit->tag, NULL, n);
                        done = true;
                }
                if (tag != limit->tag)
                        field(tag, p + FRAME_FIELD_HEADER_SIZE, n_value);
                p += FRAME_FIELD_HEADER_SIZE + n_value;
        }
        if (!done)
                field(limit->tag, NULL, n);
        if (limit->kind == JSON) {
                frame[FRAME_HEADER_SIZE + FRAME_FIELD_HEADER_SIZE] = '{';
                frame[n_frame - 1] = '}';
        }
}

START_TEST(every_maximum_is_a_limit)
{
        size_t n_tried = 0;

        for (size_t i = 0; i < ELEMENTSOF(limits); i++) {
                if (limits[i].kind != BYTES && limits[i].kind != TEXT && limits[i].kind != JSON)
                        continue;
                for (size_t j = 0; j < n_vectors; j++) {
                        if (bytes_get_u16(vectors[j].frame + 4) != limits[i].number)
                                continue;
                        exchange(&vectors[j], &limits[i], limits[i].maximum);
                        ck_assert_msg(judge() == 0, "%s %u", vectors[j].message, limits[i].tag);
                        exchange(&vectors[j], &limits[i], limits[i].maximum + 1);
                        ck_assert_msg(judge() == FRAME_E_INVALID, "%s %u", vectors[j].message, limits[i].tag);
                        n_tried++;
                }
        }
        ck_assert_uint_ge(n_tried, 40);
}
END_TEST

START_TEST(text_that_is_not_text_is_refused)
{
        static const char *const wrong[] = { "a\nb", "\x7f", "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xe2\x82" };

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                begin(MESSAGE_CREATE);
                field(1, wrong[i], strlen(wrong[i]));
                ck_assert_int_eq(judge(), FRAME_E_INVALID);
        }
        begin(MESSAGE_CREATE);
        field(1, "a\0b", 3);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
        begin(MESSAGE_REPORT);
        field(1, "[]", 2);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
        begin(MESSAGE_REPORT);
        field(1, "{\"\xff\"}", 5);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
        begin(MESSAGE_REPORT);
        field(1, "{", 1);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
}
END_TEST

#define PAIRS_CASE(text)                                                                                               \
        {                                                                                                              \
                (const uint8_t *)(text), sizeof(text) - 1                                                              \
        }

START_TEST(contexts_that_are_not_canonical_are_refused)
{
        static const struct bytes right[] = {
                PAIRS_CASE("\0\0"),
                PAIRS_CASE("\0\1\0\1k\0\0"),
                PAIRS_CASE("\0\2\0\1a\0\1v\0\1b\0\1v"),
                PAIRS_CASE("\0\2\0\1a\0\1v\0\2aa\0\1v"),
        };
        static const struct bytes wrong[] = {
                PAIRS_CASE(""),
                PAIRS_CASE("\0"),
                PAIRS_CASE("\0\1"),
                PAIRS_CASE("\0\0x"),
                PAIRS_CASE("\0\1\0\1k"),
                PAIRS_CASE("\0\1\0\1k\0"),
                PAIRS_CASE("\0\1\0\1k\0\1"),
                PAIRS_CASE("\0\1\0\0\0\1v"),
                PAIRS_CASE("\0\1\0\1k\0\0x"),
                PAIRS_CASE("\0\2\0\1b\0\1v\0\1a\0\1v"),
                PAIRS_CASE("\0\2\0\1a\0\1v\0\1a\0\1w"),
                PAIRS_CASE("\0\1\xff\xffk\0\1v"),
                PAIRS_CASE("\0\1\0\1\n\0\1v"),
                PAIRS_CASE("\0\1\0\1k\0\1\xff"),
                PAIRS_CASE("\xff\xff\0\1k\0\1v"),
        };

        for (size_t i = 0; i < ELEMENTSOF(right) + ELEMENTSOF(wrong); i++) {
                bool good = i < ELEMENTSOF(right);
                struct bytes value = good ? right[i] : wrong[i - ELEMENTSOF(right)];

                begin(MESSAGE_KMS_GENERATE);
                field(1, "kek", 3);
                field(2, value.data, value.n);
                ck_assert_msg(judge() == (good ? 0 : FRAME_E_INVALID), "number %zu", i);
        }
}
END_TEST

START_TEST(contexts_have_limits)
{
        static const struct {
                size_t n, n_key, n_value;
                int outcome;
        } cases[] = {
                { PAIRS_MAX, PAIR_KEY_MAX, PAIR_VALUE_MAX, 0 },
                { PAIRS_MAX + 1, 2, 1, FRAME_E_INVALID },
                { 1, PAIR_KEY_MAX + 1, 1, FRAME_E_INVALID },
                { 1, 1, PAIR_VALUE_MAX + 1, FRAME_E_INVALID },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                static uint8_t value[16384];
                uint8_t *p = value + 2;

                bytes_put_u16(value, (uint16_t)cases[i].n);
                for (size_t j = 0; j < cases[i].n; j++) {
                        bytes_put_u16(p, (uint16_t)cases[i].n_key);
                        memset(p + 2, 'k', cases[i].n_key);
                        p[2] = (uint8_t)('A' + j);
                        p += 2 + cases[i].n_key;
                        bytes_put_u16(p, (uint16_t)cases[i].n_value);
                        memset(p + 2, 'v', cases[i].n_value);
                        p += 2 + cases[i].n_value;
                }
                begin(MESSAGE_KMS_GENERATE);
                field(1, "kek", 3);
                field(2, value, (size_t)(p - value));
                ck_assert_int_eq(judge(), cases[i].outcome);
        }
}
END_TEST

START_TEST(frames_over_the_limits_are_refused)
{
        begin(MESSAGE_GET);
        field(1, "{}", 2);
        field(9, NULL, FRAME_MAX - n_frame - FRAME_FIELD_HEADER_SIZE);
        ck_assert_uint_eq(n_frame, FRAME_MAX);
        ck_assert_int_eq(judge(), 0);
        begin(MESSAGE_GET);
        field(1, "{}", 2);
        field(9, NULL, FRAME_MAX - n_frame - FRAME_FIELD_HEADER_SIZE + 1);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);

        begin(MESSAGE_KMS_UNWRAPPED);
        field(1, NULL, KEY_SIZE);
        field(9, NULL, FRAME_KEY_MAX - n_frame - FRAME_FIELD_HEADER_SIZE);
        ck_assert_int_eq(judge(), 0);
        begin(MESSAGE_KMS_UNWRAPPED);
        field(1, NULL, KEY_SIZE);
        field(9, NULL, FRAME_KEY_MAX - n_frame - FRAME_FIELD_HEADER_SIZE + 1);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
}
END_TEST

START_TEST(an_unknown_message_is_told_from_a_broken_one)
{
        begin(0x7777);
        field(1, NULL, 100);
        ck_assert_int_eq(judge(), FRAME_E_UNKNOWN);
        begin(0);
        ck_assert_int_eq(judge(), FRAME_E_UNKNOWN);
        begin(0xffff);
        ck_assert_int_eq(judge(), FRAME_E_UNKNOWN);
        bytes_put_u16(frame + 6, 1);
        ck_assert_int_eq(judge(), FRAME_E_INVALID);
}
END_TEST

int main(int argc, char **argv)
{
        Suite *suite = suite_create("hostile");
        TCase *c = tcase_create("hostile");
        SRunner *runner;
        int failed;

        if (argc != 2)
                return 2;
        vectors = golden_load(argv[1], &n_vectors);
        tcase_add_checked_fixture(c, setup, teardown);
        tcase_add_test(c, a_frame_cut_short_anywhere_is_refused);
        tcase_add_test(c, a_frame_that_lies_about_its_length_is_refused);
        tcase_add_test(c, reserved_bits_are_refused);
        tcase_add_test(c, a_doubled_tag_is_refused);
        tcase_add_test(c, tags_out_of_order_are_refused);
        tcase_add_test(c, unknown_tags_are_skipped);
        tcase_add_test(c, a_missing_field_that_must_be_there_is_refused);
        tcase_add_test(c, a_field_that_reaches_past_the_frame_is_refused);
        tcase_add_test(c, integers_and_uuids_have_one_length);
        tcase_add_test(c, keys_have_one_length);
        tcase_add_test(c, every_maximum_is_a_limit);
        tcase_add_test(c, text_that_is_not_text_is_refused);
        tcase_add_test(c, contexts_that_are_not_canonical_are_refused);
        tcase_add_test(c, contexts_have_limits);
        tcase_add_test(c, frames_over_the_limits_are_refused);
        tcase_add_test(c, an_unknown_message_is_told_from_a_broken_one);
        suite_add_tcase(suite, c);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        golden_free(vectors, n_vectors);
        return failed > 0;
}
