/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <jansson.h>

#include "daemon/record.h"
#include "tests/unit/suite.h"

static struct secret *key;
static char *text;
static size_t n_text;
static const char *label = "Ward 3, Z\xc3\xbcrich";
static uint8_t blob[61] = { 1, 2, 3 };

static void build(const char *scope, uint32_t version)
{
        static char kek_id[] = "local:525835bd-ac9e-4218-9580-ba84ec28098a";
        struct record_wrap wrap = { .kek_id = kek_id, .wrapped = blob, .n_wrapped = sizeof(blob) };
        struct pairs context = { .n = 1, .pair = { { BYTES_LITERAL("purpose"), BYTES_LITERAL("medical-db") } } };
        uint8_t id[UUID_SIZE] = { 9, 8, 7 };
        struct record_template t = { .database_id = id, .scope = scope, .label = label, .cipher = { "sqlcipher", 4, 4096 },
                                     .encryption_context = &context, .created_at_usec = UINT64_C(1700000000000000), .version = version,
                                     .n_wraps = 1, .wraps = &wrap };

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
        ck_assert_str_eq(r->label, label);
        ck_assert_uint_eq(record_current(r)->number, 1);
        ck_assert_uint_eq(record_current(r)->wraps[0].n_wrapped, sizeof(blob));
        ck_assert_uint_eq(r->cipher.page_size, 4096);
        ck_assert_ptr_eq(record_version_find(r, 0), record_current(r));
        ck_assert_ptr_null(record_version_find(r, 2));
}
END_TEST

START_TEST(label_is_short_text_or_is_not_there)
{
        static const char *const bad[] = { "0123456789012345678901234567890123456789012345678901234567890123456", "a\nb", "\x1b[2J" };
        json_t *root = json_loads(text, 0, NULL);

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_(freep) char *dump = (json_object_set_new(root, "label", json_string(bad[i])), json_dumps(root, 0));

                ck_assert_int_eq(judge(dump, strlen(dump)), RECORD_E_DAMAGED);
        }
        json_decref(root);
        label = "";
        build("medical", 1);
        ck_assert(!strstr(text, "label") && judge(text, n_text) == 0);
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
                dump = (free(dump), json_dumps(edited, 0));
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

START_TEST(what_follows_a_zero_byte_is_not_overlooked)
{
        _cleanup_(freep) char *longer = calloc(1, n_text + 8);

        memcpy(longer, text, n_text);
        ck_assert_int_eq(judge(longer, n_text + 1), RECORD_E_DAMAGED);
        memcpy(longer + n_text + 1, "more", 4);
        ck_assert_int_eq(judge(longer, n_text + 5), RECORD_E_DAMAGED);
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

/* ---- versions ---- */

static char kek_id[] = "local:525835bd-ac9e-4218-9580-ba84ec28098a";
static uint8_t large_blob[WRAPPED_MAX] = { 4, 5, 6 };

/* Versions 1 to @n with one wrap each, none for destroyed ones. */
static void fill(struct record_version *versions, size_t n, const enum record_state *states)
{
        memset(versions, 0, n * sizeof(*versions));
        for (size_t i = 0; i < n; i++) {
                versions[i].number = (uint32_t)i + 1;
                versions[i].state = states[i];
                versions[i].created_at_usec = UINT64_C(1700000000000000);
                versions[i].n_wraps = states[i] != RECORD_STATE_DESTROYED;
                versions[i].wraps[0] = (struct record_wrap){ .kek_id = kek_id, .wrapped = blob, .n_wrapped = sizeof(blob) };
                if (states[i] == RECORD_STATE_RETIRED || states[i] == RECORD_STATE_DESTROYED)
                        versions[i].ended_at_usec = UINT64_C(1710000000000000);
        }
}

static struct record *parsed(const char *json)
{
        struct record *r = NULL;
        const char *why = "";

        ck_assert_msg(record_parse(&r, bytes_from_string(json), &why) == 0, "%s", why);
        return r;
}

/* record_next_text() on the record of setup(); the text replaces the one that the tests look at. */
static int make_next(const struct record_version *versions, size_t n)
{
        _cleanup_(record_unrefp) struct record *r = parsed(text);
        struct record_next next = { .n_versions = n, .versions = versions, .rotated_at_usec = UINT64_C(1720000000000000) };
        char *made = NULL;
        int result = record_next_text(&made, &n_text, r, &next, key);

        if (result == 0) {
                free(text);
                text = made;
        }
        return result;
}

START_TEST(each_combination_of_states_is_allowed_or_refused_by_the_rules)
{
        unsigned n_allowed = 0;

        /* Three versions in each of four states. Made by hand: record_next_text() takes good ones only. */
        for (unsigned i = 0; i < 64; i++) {
                enum record_state states[3] = { i & 3, i >> 2 & 3, i >> 4 & 3 };
                json_t *root = json_loads(text, 0, NULL), *first = json_array_get(json_object_get(root, "versions"), 0), *versions = json_array();
                _cleanup_(record_unrefp) struct record *r = NULL;
                unsigned n_current = 0, current = 0;
                bool pending_inside = false, allowed;
                _cleanup_(freep) char *dump = NULL;
                const char *why;

                for (unsigned j = 0; j < 3; j++) {
                        json_t *version = json_deep_copy(first);

                        json_object_set_new(version, "number", json_integer(j + 1));
                        json_object_set_new(version, "state", json_string(record_state_text(states[j])));
                        if (states[j] == RECORD_STATE_DESTROYED)
                                json_object_set_new(version, "wraps", json_array());
                        json_array_append_new(versions, version);
                        n_current += states[j] == RECORD_STATE_CURRENT;
                        current = states[j] == RECORD_STATE_CURRENT ? j + 1 : current;
                        pending_inside |= j < 2 && states[j] == RECORD_STATE_PENDING;
                }
                json_object_set_new(root, "versions", versions);
                json_object_set_new(root, "version", json_integer(current ? current : 1));
                dump = json_dumps(root, 0);
                json_decref(root);
                allowed = n_current == 1 && !pending_inside;
                n_allowed += allowed;
                ck_assert_int_eq(record_parse(&r, bytes_from_string(dump), &why), allowed ? 0 : RECORD_E_DAMAGED);
                if (!allowed)
                        continue;
                ck_assert_uint_eq(record_current(r)->number, current);
                ck_assert_ptr_eq(record_pending(r), states[2] == RECORD_STATE_PENDING ? &r->versions[2] : NULL);
        }
        ck_assert_uint_eq(n_allowed, 4 + 4 + 4 + 4);
}
END_TEST

START_TEST(a_version_has_wraps_unless_it_was_destroyed)
{
        for (unsigned i = RECORD_STATE_PENDING; i <= RECORD_STATE_DESTROYED; i++) {
                enum record_state states[2] = { i == RECORD_STATE_CURRENT ? RECORD_STATE_RETIRED : RECORD_STATE_CURRENT, i };
                struct record_version versions[2];
                _cleanup_(freep) char *dump = NULL;
                json_t *root, *version;

                build("medical", 1);
                fill(versions, 2, states);
                ck_assert_int_eq(make_next(versions, 2), 0);
                ck_assert_int_eq(judge(text, n_text), 0);
                root = json_loads(text, 0, NULL);
                version = json_array_get(json_object_get(root, "versions"), 1);
                json_object_set_new(version, "wraps", i == RECORD_STATE_DESTROYED
                                                              ? json_deep_copy(json_object_get(json_array_get(json_object_get(root, "versions"), 0), "wraps"))
                                                              : json_array());
                dump = json_dumps(root, 0);
                json_decref(root);
                ck_assert_int_eq(judge(dump, strlen(dump)), RECORD_E_DAMAGED);
        }
}
END_TEST

START_TEST(the_next_record_says_what_it_was_told)
{
        enum record_state states[4] = { RECORD_STATE_DESTROYED, RECORD_STATE_RETIRED, RECORD_STATE_CURRENT, RECORD_STATE_PENDING };
        _cleanup_(record_unrefp) struct record *r = NULL, *before = parsed(text);
        struct record_version versions[4];

        fill(versions, 4, states);
        versions[3].restore_wal = true;
        versions[3].n_wraps = 2;
        versions[3].wraps[1] = versions[3].wraps[0];
        ck_assert_int_eq(make_next(versions, 4), 0);
        ck_assert_int_eq(judge(text, n_text), 0);
        r = parsed(text);
        ck_assert(bytes_equal((struct bytes){ r->database_id, UUID_SIZE }, (struct bytes){ before->database_id, UUID_SIZE }));
        ck_assert_str_eq(r->scope, before->scope);
        ck_assert_mem_eq(&r->cipher, &before->cipher, sizeof(r->cipher));
        ck_assert_uint_eq(r->created_at_usec, before->created_at_usec);
        ck_assert_uint_eq(r->rotated_at_usec, UINT64_C(1720000000000000));
        ck_assert_uint_eq(r->encryption_context.n, 1);
        ck_assert_uint_eq(r->n_versions, 4);
        for (unsigned i = 0; i < 4; i++) {
                ck_assert_uint_eq(r->versions[i].number, i + 1);
                ck_assert_int_eq(r->versions[i].state, states[i]);
                ck_assert_uint_eq(r->versions[i].ended_at_usec, versions[i].ended_at_usec);
                ck_assert_uint_eq(r->versions[i].n_wraps, versions[i].n_wraps);
                ck_assert_int_eq(r->versions[i].restore_wal, i == 3);
        }
        ck_assert_uint_eq(record_pending(r)->number, 4);
}
END_TEST

START_TEST(a_rotation_ends_with_one_current_version)
{
        enum record_state states[3] = { RECORD_STATE_RETIRED, RECORD_STATE_CURRENT, RECORD_STATE_PENDING };
        struct record_version versions[3];

        for (unsigned commit = 0; commit < 2; commit++) {
                const unsigned current = commit ? 2 : 1, retired = commit ? 1 : 2;

                fill(versions, 3, states);
                versions[2].restore_wal = true;
                record_versions_end(versions, 3, commit, 7000000);
                ck_assert_int_eq(versions[0].state, RECORD_STATE_RETIRED);
                ck_assert_uint_ne(versions[0].ended_at_usec, 7000000);
                ck_assert_int_eq(versions[current].state, RECORD_STATE_CURRENT);
                ck_assert_uint_eq(versions[current].ended_at_usec, 0);
                ck_assert_int_eq(versions[retired].state, RECORD_STATE_RETIRED);
                ck_assert_uint_eq(versions[retired].ended_at_usec, 7000000);
                ck_assert_uint_eq(versions[retired].n_wraps, 1);
                ck_assert(!versions[2].restore_wal);
        }
}
END_TEST

/* Set @member of version @i to @value (taken), or remove it with NULL. Return: what judge() says then. */
static int judge_with(unsigned i, const char *member, json_t *value)
{
        json_t *root = json_loads(text, 0, NULL), *version = json_array_get(json_object_get(root, "versions"), i);
        _cleanup_(freep) char *dump = NULL;

        if (value)
                json_object_set_new(version, member, value);
        else
                json_object_del(version, member);
        dump = json_dumps(root, 0);
        json_decref(root);
        return judge(dump, strlen(dump));
}

START_TEST(ended_at_and_journal_mode_belong_to_their_states)
{
        enum record_state states[4] = { RECORD_STATE_DESTROYED, RECORD_STATE_RETIRED, RECORD_STATE_CURRENT, RECORD_STATE_PENDING };
        struct record_version versions[4];

        fill(versions, 4, states);
        versions[3].restore_wal = true;
        ck_assert_int_eq(make_next(versions, 4), 0);
        for (unsigned i = 0; i < 4; i++) {
                /* Where one may be, another value or none parses, and the mac tells. */
                ck_assert_int_eq(judge_with(i, "ended_at", json_string("2024-01-15T10:30:00Z")), i < 2 ? RECORD_E_MAC : RECORD_E_DAMAGED);
                ck_assert_int_eq(judge_with(i, "ended_at", NULL), i < 2 ? RECORD_E_MAC : 0);
                ck_assert_int_eq(judge_with(i, "ended_at", json_string("yesterday")), RECORD_E_DAMAGED);
                ck_assert_int_eq(judge_with(i, "ended_at", json_null()), RECORD_E_DAMAGED);
                ck_assert_int_eq(judge_with(i, "ended_at", json_integer(1)), RECORD_E_DAMAGED);
                ck_assert_int_eq(judge_with(i, "journal_mode", json_string("wal")), i < 3 ? RECORD_E_DAMAGED : 0);
                ck_assert_int_eq(judge_with(i, "journal_mode", NULL), i < 3 ? 0 : RECORD_E_MAC);
                ck_assert_int_eq(judge_with(i, "journal_mode", json_string("delete")), RECORD_E_DAMAGED);
                ck_assert_int_eq(judge_with(i, "journal_mode", json_string("wa")), RECORD_E_DAMAGED);
                ck_assert_int_eq(judge_with(i, "journal_mode", json_true()), RECORD_E_DAMAGED);
                ck_assert_int_eq(judge_with(i, "joke", json_true()), RECORD_E_DAMAGED);
        }
        ck_assert_int_eq(judge_with(1, "state", json_string("destroyed")), RECORD_E_DAMAGED);
        ck_assert_int_eq(judge_with(1, "state", json_string("Retired")), RECORD_E_DAMAGED);
        ck_assert_int_eq(judge_with(1, "state", json_string("pending")), RECORD_E_DAMAGED);
}
END_TEST

START_TEST(the_oldest_destroyed_versions_make_room_and_the_last_number_stays)
{
        enum { N = RECORD_VERSIONS_MAX + 1 };
        enum record_state states[N];
        struct record_version versions[N];
        _cleanup_(record_unrefp) struct record *r = NULL;

        for (unsigned i = 0; i < N; i++)
                states[i] = RECORD_STATE_RETIRED;
        states[0] = RECORD_STATE_CURRENT;
        fill(versions, N, states);
        ck_assert_int_eq(make_next(versions, N), -EMSGSIZE);
        /* The last one's number tells what the next one's is: it does not go. */
        states[N - 1] = RECORD_STATE_DESTROYED;
        fill(versions, N, states);
        ck_assert_int_eq(make_next(versions, N), -EMSGSIZE);
        states[5] = states[9] = RECORD_STATE_DESTROYED;
        fill(versions, N, states);
        ck_assert_int_eq(make_next(versions, N), 0);
        ck_assert_int_eq(judge(text, n_text), 0);
        r = parsed(text);
        ck_assert_uint_eq(r->n_versions, RECORD_VERSIONS_MAX);
        ck_assert_ptr_null(record_version_find(r, 6));
        ck_assert_int_eq(record_version_find(r, 10)->state, RECORD_STATE_DESTROYED);
        ck_assert_int_eq(record_version_find(r, N)->state, RECORD_STATE_DESTROYED);
}
END_TEST

/* Seven large wraps, and then one of a size to be found: the largest with which @fits. */
static size_t find_size(bool (*fits)(size_t n))
{
        size_t low = 3, high = sizeof(large_blob);

        ck_assert(fits(low));
        ck_assert(!fits(high));
        while (high - low > 3) {
                size_t middle = (low + high) / 6 * 3;

                if (fits(middle))
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

static struct record_version full[10];

static void fill_full(const enum record_state *states, size_t i_first, size_t i_found, size_t n)
{
        fill(full, 10, states);
        for (size_t i = i_first; i < i_first + 7; i++)
                full[i].wraps[0] = (struct record_wrap){ .kek_id = kek_id, .wrapped = large_blob, .n_wrapped = sizeof(large_blob) };
        full[i_found].wraps[0] = (struct record_wrap){ .kek_id = kek_id, .wrapped = large_blob, .n_wrapped = n };
}

static const enum record_state one_destroyed[10] = { RECORD_STATE_DESTROYED, RECORD_STATE_CURRENT, RECORD_STATE_RETIRED, RECORD_STATE_RETIRED,
                                                     RECORD_STATE_RETIRED,   RECORD_STATE_RETIRED, RECORD_STATE_RETIRED, RECORD_STATE_RETIRED,
                                                     RECORD_STATE_RETIRED,   RECORD_STATE_RETIRED };

/* Whether it fits, and the destroyed version does not have to go. */
static bool fits_whole(size_t n)
{
        _cleanup_(record_unrefp) struct record *r = NULL;

        fill_full(one_destroyed, 2, 9, n);
        if (make_next(full, 10) < 0)
                return false;
        r = parsed(text);
        return r->n_versions == 10;
}

START_TEST(sixty_four_kib_are_the_limit_and_destroyed_versions_make_room)
{
        _cleanup_(record_unrefp) struct record *r = NULL;
        size_t n = find_size(fits_whole);

        ck_assert(fits_whole(n));
        ck_assert_uint_le(n_text, RECORD_MAX);
        ck_assert_uint_gt(n_text + 4, RECORD_MAX);
        /* A little more: the destroyed version goes. Much more: it is too much. */
        ck_assert(!fits_whole(n + 3));
        ck_assert_int_eq(judge(text, n_text), 0);
        r = parsed(text);
        ck_assert_uint_eq(r->n_versions, 9);
        ck_assert_uint_eq(r->versions[0].number, 2);
        fill_full(one_destroyed, 2, 9, n + 300);
        ck_assert_int_eq(make_next(full, 10), -EMSGSIZE);
}
END_TEST

static char long_id[KEK_ID_MAX + 1];

static bool fits_pending(size_t n)
{
        enum record_state states[10];

        for (unsigned i = 0; i < 10; i++)
                states[i] = RECORD_STATE_RETIRED;
        states[8] = RECORD_STATE_CURRENT;
        states[9] = RECORD_STATE_PENDING;
        fill_full(states, 0, 7, n);
        /* The pending version's wrap is larger than the current one's: as the mirror on top it takes more room. */
        memset(long_id, 'k', KEK_ID_MAX);
        full[9].wraps[0] = (struct record_wrap){ .kek_id = long_id, .wrapped = blob, .n_wrapped = sizeof(blob) };
        return make_next(full, 10) == 0;
}

START_TEST(a_rotation_that_has_no_room_to_end_does_not_begin)
{
        size_t n = find_size(fits_pending);

        for (unsigned i = 0; i < 30; i++, n -= 3) {
                _cleanup_(record_unrefp) struct record *r = NULL;

                build("medical", 1);
                ck_assert(fits_pending(n));
                if (i == 0) { /* it leaves as much as the ends need, and not much more */
                        ck_assert_uint_le(n_text + KEK_ID_MAX - strlen(kek_id), RECORD_MAX);
                        ck_assert_uint_gt(n_text + KEK_ID_MAX + 200, RECORD_MAX);
                }
                r = parsed(text);
                for (unsigned commit = 0; commit < 2; commit++) {
                        struct record_version ended[10];
                        struct record_next next = { .n_versions = 10, .versions = ended, .rotated_at_usec = UINT64_C(1720000000000000) };
                        _cleanup_(freep) char *last = NULL;
                        size_t n_last;

                        memcpy(ended, full, sizeof(ended));
                        record_versions_end(ended, 10, commit, UINT64_C(1720000000000000));
                        ck_assert_int_eq(record_next_text(&last, &n_last, r, &next, key), 0);
                }
        }
}
END_TEST

int main(void)
{
        const struct promise all[] = { { what_was_written_parses_and_verifies },
                                       { label_is_short_text_or_is_not_there },
                                       { another_key_does_not_verify },
                                       { white_space_and_order_of_members_do_not_matter },
                                       { every_member_edited_in_turn_is_refused },
                                       { unknown_and_doubled_members_are_refused },
                                       { what_follows_a_zero_byte_is_not_overlooked },
                                       { a_thousand_random_mutations_are_refused },
                                       { format_1_of_the_seed_parses_and_never_verifies },
                                       { a_newer_format_is_told_apart },
                                       { context_holds_the_users_pairs_and_lkms_own },
                                       { truncation_at_every_byte_is_refused },
                                       { each_combination_of_states_is_allowed_or_refused_by_the_rules },
                                       { a_version_has_wraps_unless_it_was_destroyed },
                                       { the_next_record_says_what_it_was_told },
                                       { a_rotation_ends_with_one_current_version },
                                       { ended_at_and_journal_mode_belong_to_their_states },
                                       { the_oldest_destroyed_versions_make_room_and_the_last_number_stays },
                                       { sixty_four_kib_are_the_limit_and_destroyed_versions_make_room },
                                       { a_rotation_that_has_no_room_to_end_does_not_begin } };

        return suite_run("record", setup, teardown, all, ELEMENTSOF(all));
}
