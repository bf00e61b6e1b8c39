/* SPDX-License-Identifier: Apache-2.0 */
#include <jansson.h>

#include "daemon/record.h"
#include "tests/unit/suite.h"

static struct secret *key;
static char *text;
static size_t n_text;
static uint8_t blob[61] = { 1, 2, 3 };

static void build(const char *scope, uint32_t version)
{
        static char kek_id[] = "local:525835bd-ac9e-4218-9580-ba84ec28098a";
        struct record_wrap wrap = { .kek_id = kek_id, .wrapped = blob, .n_wrapped = sizeof(blob) };
        struct pairs context = { .n = 1, .pair = { { BYTES_LITERAL("purpose"), BYTES_LITERAL("medical-db") } } };
        uint8_t id[UUID_SIZE] = { 9, 8, 7 };
        struct record_template t = { .database_id = id, .scope = scope, .cipher = { "sqlcipher", 4, 4096 },
                                     .encryption_context = &context, .created_at_usec = UINT64_C(1700000000000000),
                                     .version = version, .n_wraps = 1, .wraps = &wrap };

        free(text);
        ck_assert_int_eq(record_new_text(&text, &n_text, &t, key), 0);
}

static void setup(void)
{
        secret_arena_init(16, 2, 0, NULL);
        ck_assert_int_eq(secret_new_random(&key, KEY_SIZE), 0);
        build("medical", 1);
}

static void teardown(void)
{
        free(text);
        text = NULL;
        key = secret_unref(key);
}

/* Return: 0 when @json parses and verifies, else the outcome. */
static int judge(const char *json, size_t n)
{
        _cleanup_(record_unrefp) struct record *r = NULL;
        const char *why;
        int result = record_parse(&r, (struct bytes){ (const uint8_t *)json, n }, &why);

        return result ? result : record_verify(r, key);
}

START_TEST(what_was_written_parses_and_verifies)
{
        _cleanup_(record_unrefp) struct record *r = NULL;
        const char *why;

        ck_assert_int_eq(record_parse(&r, (struct bytes){ (uint8_t *)text, n_text }, &why), 0);
        ck_assert_int_eq(record_verify(r, key), 0);
        ck_assert_str_eq(r->scope, "medical");
        ck_assert_uint_eq(record_current(r)->number, 1);
        ck_assert_uint_eq(record_current(r)->wraps[0].n_wrapped, sizeof(blob));
        ck_assert_uint_eq(r->cipher.page_size, 4096);
        ck_assert_ptr_eq(record_version_find(r, 0), record_current(r));
        ck_assert_ptr_null(record_version_find(r, 2));
}
END_TEST

START_TEST(another_key_does_not_verify)
{
        secret_unref(key);
        ck_assert_int_eq(secret_new_random(&key, KEY_SIZE), 0);
        ck_assert_int_eq(judge(text, n_text), RECORD_E_MAC);
}
END_TEST

START_TEST(white_space_and_order_of_members_do_not_matter)
{
        json_t *root = json_loads(text, 0, NULL);
        _cleanup_(freep) char *compact = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);

        json_decref(root);
        ck_assert_int_eq(judge(compact, strlen(compact)), 0);
}
END_TEST

START_TEST(every_member_edited_in_turn_is_refused)
{
        json_t *root = json_loads(text, 0, NULL), *value;
        const char *member;

        json_object_foreach (root, member, value) {
                json_t *edited = json_deep_copy(root);
                _cleanup_(freep) char *dump = NULL;

                if (json_is_integer(value))
                        json_object_set_new(edited, member, json_integer(json_integer_value(value) + 1));
                else if (json_is_null(value))
                        json_object_set_new(edited, member, json_string("2024-01-15T10:30:00Z"));
                else if (json_is_string(value)) {
                        _cleanup_(freep) char *changed = strdup(json_string_value(value));

                        changed[3] = changed[3] == '2' ? '3' : '2';
                        json_object_set_new(edited, member, json_string(changed));
                } else
                        json_object_set_new(edited, member, json_object());
                dump = json_dumps(edited, 0);
                ck_assert_msg(judge(dump, strlen(dump)) > 0, "edited %s passed", member);
                json_object_del(edited, member);
                free(dump);
                dump = json_dumps(edited, 0);
                ck_assert_msg(judge(dump, strlen(dump)) > 0, "without %s it passed", member);
                json_decref(edited);
        }
        json_decref(root);
}
END_TEST

START_TEST(unknown_and_doubled_members_are_refused)
{
        _cleanup_(freep) char *unknown = NULL, *doubled = NULL;

        ck_assert_int_gt(asprintf(&unknown, "{\"extra\":1,%s", text + 1), 0);
        ck_assert_int_gt(asprintf(&doubled, "{\"scope\":\"medical\",%s", text + 1), 0);
        ck_assert_int_eq(judge(unknown, strlen(unknown)), RECORD_E_DAMAGED);
        ck_assert_int_eq(judge(doubled, strlen(doubled)), RECORD_E_DAMAGED);
}
END_TEST

/* A mutation either is refused, or changed nothing that counts (white space, an escape for the same character). */
START_TEST(a_thousand_random_mutations_are_refused)
{
        json_t *original = json_loads(text, 0, NULL);
        uint64_t state = 42;

        for (unsigned i = 0; i < 1000; i++) {
                _cleanup_(freep) char *mutated = malloc(n_text);
                unsigned n_changes = 1 + i % 3;

                memcpy(mutated, text, n_text);
                for (unsigned j = 0; j < n_changes; j++) {
                        state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
                        mutated[(state >> 33) % n_text] = (char)(state >> 25);
                }
                if (judge(mutated, n_text) == 0) {
                        json_t *same = json_loadb(mutated, n_text, 0, NULL);

                        ck_assert_msg(json_equal(original, same), "mutation %u passed with another meaning", i);
                        json_decref(same);
                }
        }
        json_decref(original);
}
END_TEST

START_TEST(format_1_of_the_seed_parses_and_never_verifies)
{
        static const char seed[] = "{\"encrypted_dek\":\"AQID\",\"kek_id\":\"arn:x\",\"version\":1,\"created_at\":\"2024-01-15T10:30:00Z\","
                                   "\"rotated_at\":null,\"encryption_context\":{\"purpose\":\"medical-db\",\"environment\":\"production\"},"
                                   "\"dek_spec\":\"AES_256\"}";
        _cleanup_(record_unrefp) struct record *r = NULL;
        struct record_context_storage storage;
        struct pairs context;
        const char *why;

        ck_assert_int_eq(record_parse(&r, bytes_from_string(seed), &why), 0);
        ck_assert_uint_eq(r->format, 1);
        ck_assert_int_eq(record_verify(r, key), RECORD_E_MAC);
        record_context(&context, &storage, r, 1);
        ck_assert_uint_eq(context.n, 2); /* nothing of lkm's own */
        ck_assert(bytes_equal(context.pair[0].key, BYTES_LITERAL("environment")));
}
END_TEST

START_TEST(a_newer_format_is_told_apart)
{
        ck_assert_int_eq(judge("{\"format\":3}", 12), RECORD_E_NEWER);
        ck_assert_int_eq(judge("{\"format\":\"3\"}", 14), RECORD_E_DAMAGED);
}
END_TEST

START_TEST(context_holds_the_users_pairs_and_lkms_own)
{
        _cleanup_(record_unrefp) struct record *r = NULL;
        struct record_context_storage storage;
        struct pairs context;
        const char *why;

        ck_assert_int_eq(record_parse(&r, (struct bytes){ (uint8_t *)text, n_text }, &why), 0);
        record_context(&context, &storage, r, 7);
        ck_assert_uint_eq(context.n, 4);
        ck_assert(bytes_equal(context.pair[0].key, BYTES_LITERAL("lkm:database")));
        ck_assert(bytes_equal(context.pair[1].value, BYTES_LITERAL("medical")));
        ck_assert(bytes_equal(context.pair[2].value, BYTES_LITERAL("7")));
        ck_assert(bytes_equal(context.pair[3].key, BYTES_LITERAL("purpose")));
}
END_TEST

START_TEST(truncation_at_every_byte_is_refused)
{
        for (size_t n = 0; n + 2 < n_text; n++)
                ck_assert_int_gt(judge(text, n), 0);
}
END_TEST

int main(void)
{
        const struct promise all[] = { { what_was_written_parses_and_verifies },
                                       { another_key_does_not_verify },
                                       { white_space_and_order_of_members_do_not_matter },
                                       { every_member_edited_in_turn_is_refused },
                                       { unknown_and_doubled_members_are_refused },
                                       { a_thousand_random_mutations_are_refused },
                                       { format_1_of_the_seed_parses_and_never_verifies },
                                       { a_newer_format_is_told_apart },
                                       { context_holds_the_users_pairs_and_lkms_own },
                                       { truncation_at_every_byte_is_refused } };

        return suite_run("record", setup, teardown, all, ELEMENTSOF(all));
}
