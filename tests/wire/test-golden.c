/* SPDX-License-Identifier: Apache-2.0 */
/*
 * golden.json holds a frame of each message together with its fields. Packing the fields gives exactly those bytes, and
 * unpacking the bytes gives back the fields. golden.py makes the same comparison from messages.def alone.
 */
#include <check.h>

#include "tests/wire/golden.h"

enum { ARENA_N = 64, VALUE_MAX = 4096 };

static struct golden *vectors;
static size_t n_vectors;
/* The borrowed bytes of the message at hand. */
static uint8_t values[VALUE_MAX];
static size_t n_values;

static struct bytes value_from_hex(const char *hex)
{
        size_t n = strlen(hex) / 2;
        struct bytes value = { values + n_values, n };

        ck_assert_uint_le(n_values + n, VALUE_MAX);
        ck_assert_int_eq(hex_parse(values + n_values, n, hex, strlen(hex)), 0);
        n_values += n;
        return value;
}

static bool text_equals(json_t *v, struct bytes b)
{
        return bytes_equal(bytes_from_string(json_string_value(v)), b);
}

/* One pair of functions for each KIND: @v is NULL when the vector leaves the field out. */
#define INTEGER(KIND, type)                                                                                            \
        static void set_##KIND(type *member, json_t *v)                                                                \
        {                                                                                                              \
                *member = (type)json_integer_value(v);                                                                 \
        }                                                                                                              \
        static bool same_##KIND(const type *member, json_t *v)                                                         \
        {                                                                                                              \
                return *member == (type)json_integer_value(v);                                                         \
        }
INTEGER(U8, uint8_t)
INTEGER(U16, uint16_t)
INTEGER(U32, uint32_t)

static void set_UUID(const uint8_t **member, json_t *v)
{
        ck_assert_uint_le(n_values + UUID_SIZE, VALUE_MAX);
        if (!v)
                return;
        ck_assert_int_eq(uuid_parse(values + n_values, json_string_value(v), json_string_length(v)), 0);
        *member = values + n_values;
        n_values += UUID_SIZE;
}

static bool same_UUID(const uint8_t *const *member, json_t *v)
{
        char text[UUID_TEXT_LENGTH + 1];

        if (!v || !*member)
                return !v && !*member;
        uuid_format(text, *member);
        return strcmp(text, json_string_value(v)) == 0;
}

static void set_TEXT(struct bytes *member, json_t *v)
{
        *member = bytes_from_string(json_string_value(v));
}

static bool same_TEXT(const struct bytes *member, json_t *v)
{
        return v ? text_equals(v, *member) : !member->data && member->n == 0;
}
#define set_JSON set_TEXT
#define same_JSON same_TEXT

static void set_BYTES(struct bytes *member, json_t *v)
{
        if (v)
                *member = value_from_hex(json_string_value(v));
}

static bool same_BYTES(const struct bytes *member, json_t *v)
{
        return v ? bytes_equal(value_from_hex(json_string_value(v)), *member) : !member->data && member->n == 0;
}

static void set_PAIRS(struct pairs *member, json_t *v)
{
        const char *key;
        json_t *value;

        json_object_foreach(v, key, value)
        {
                member->pair[member->n].key = bytes_from_string(key);
                member->pair[member->n++].value = bytes_from_string(json_string_value(value));
        }
        ck_assert_int_eq(pairs_sort(member), 0);
}

static bool same_PAIRS(const struct pairs *member, json_t *v)
{
        if (member->n != json_object_size(v))
                return false;
        for (size_t i = 0; i < member->n; i++) {
                _cleanup_(freep) char *key = bytes_to_string(member->pair[i].key);

                if (!text_equals(json_object_get(v, key), member->pair[i].value))
                        return false;
        }
        return true;
}

static void set_SECRET(struct secret **member, json_t *v)
{
        struct bytes value;
        uint8_t *view;

        if (!v)
                return;
        value = value_from_hex(json_string_value(v));
        ck_assert_int_eq(secret_new(member, value.n), 0);
        view = secret_view_begin(*member);
        memcpy(view, value.data, value.n);
        secret_view_end(*member, &view);
}

static bool same_SECRET(struct secret *const *member, json_t *v)
{
        _cleanup_(secret_unrefp) struct secret *wanted = NULL;

        set_SECRET(&wanted, v);
        return wanted && *member && secret_equal(wanted, *member);
}

static void message_from_json(union message *ret, const struct golden *g)
{
        memset(ret, 0, sizeof(*ret));
#define MESSAGE(NAME, name, number_, flags, text)                                                                      \
        if (strcmp(g->message, #NAME) == 0) {                                                                          \
                struct message_##name *m = &ret->name;                                                                 \
                ret->number = MESSAGE_##NAME;                                                                          \
                (void)m;
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text)                                                      \
        set_##kind(&m->field, json_object_get(g->fields, #field));
#define MESSAGE_END(NAME, name) }
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END
        ck_assert_msg(ret->number != 0, "no message %s", g->message);
}

static void message_expect(const union message *message, const struct golden *g)
{
        ck_assert_str_eq(message_name((uint16_t)message->number), g->message);
#define MESSAGE(NAME, name, number_, flags, text)                                                                      \
        if (strcmp(g->message, #NAME) == 0) {                                                                          \
                const struct message_##name *m = &message->name;                                                       \
                (void)m;
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text)                                                      \
        ck_assert_msg(same_##kind(&m->field, json_object_get(g->fields, #field)), #NAME " " #field);
#define MESSAGE_END(NAME, name) }
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END
}

static void setup(void)
{
        ck_assert_int_eq(secret_arena_init(ARENA_N, 4, 0, NULL), 0);
}

START_TEST(packing_the_fields_gives_exactly_the_frame)
{
        for (size_t i = 0; i < n_vectors; i++) {
                static uint8_t frame[FRAME_MAX];
                union message message;
                size_t n;

                n_values = 0;
                message_from_json(&message, &vectors[i]);
                ck_assert_int_eq(message_pack(&message, vectors[i].request_id, frame, sizeof(frame), &n), 0);
                ck_assert_uint_eq(n, message_size(&message));
                ck_assert_msg(
                        bytes_equal((struct bytes){ frame, n }, (struct bytes){ vectors[i].frame, vectors[i].n_frame }),
                        "%s", vectors[i].message);
                message_deinit(&message);
        }
}
END_TEST

START_TEST(unpacking_the_frame_gives_back_the_fields)
{
        for (size_t i = 0; i < n_vectors; i++) {
                union message message;
                struct frame_header header;

                n_values = 0;
                ck_assert_int_eq(frame_header_unpack(&header, vectors[i].frame, vectors[i].n_frame), 0);
                ck_assert_uint_eq(header.request_id, vectors[i].request_id);
                ck_assert_uint_eq(header.length, vectors[i].n_frame);
                ck_assert_int_eq(message_unpack(&message, vectors[i].frame, vectors[i].n_frame), 0);
                message_expect(&message, &vectors[i]);
                message_deinit(&message);
        }
}
END_TEST

START_TEST(every_message_has_a_frame){
#define MESSAGE(NAME, name, number, flags, text)                                                                       \
        {                                                                                                              \
                size_t found = 0;                                                                                      \
                for (size_t i = 0; i < n_vectors; i++)                                                                 \
                        found += strcmp(vectors[i].message, #NAME) == 0;                                               \
                ck_assert_msg(found > 0, "golden.json has no frame of " #NAME);                                        \
        }
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text)
#define MESSAGE_END(NAME, name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END
} END_TEST

        int main(int argc, char **argv)
{
        Suite *suite = suite_create("golden");
        TCase *c = tcase_create("golden");
        SRunner *runner;
        int failed;

        if (argc != 2)
                return 2;
        vectors = golden_load(argv[1], &n_vectors);
        tcase_add_checked_fixture(c, setup, secret_arena_deinit);
        tcase_add_test(c, packing_the_fields_gives_exactly_the_frame);
        tcase_add_test(c, unpacking_the_frame_gives_back_the_fields);
        tcase_add_test(c, every_message_has_a_frame);
        suite_add_tcase(suite, c);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        golden_free(vectors, n_vectors);
        return failed > 0;
}
