/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/audit-line.h"

#include <errno.h>
#include <jansson.h>

#include "common/cleanup.h"
#include "tests/unit/suite.h"

static struct audit_hasher hasher;
static char scratch[AUDIT_LINE_MAX];

static void setup(void)
{
        ck_assert_int_eq(audit_hasher_init(&hasher), 0);
}

static void teardown(void)
{
        audit_hasher_deinit(&hasher);
}

static const struct audit_line smallest = { .seq = 1,
                                            .time_usec = UINT64_C(1767323045678901),
                                            .event = BYTES_LITERAL("start"),
                                            .prev = BYTES_LITERAL(AUDIT_HASH_NONE) };

static const struct audit_line fullest = { .seq = 7,
                                           .time_usec = UINT64_C(1709208000000001),
                                           .boottime_usec = 123456789,
                                           .boot_id = BYTES_LITERAL("0123456789abcdef0123456789abcdef"),
                                           .event = BYTES_LITERAL("release"),
                                           .has_peer = true,
                                           .uid = 0,
                                           .gid = 4294967294,
                                           .pid = 4711,
                                           .unit = BYTES_LITERAL("clinic@\"1\\.service"),
                                           .connection = 3,
                                           .scope = BYTES_LITERAL("medical"),
                                           .database_id = BYTES_LITERAL("6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
                                           .label = BYTES_LITERAL("Z\xc3\xbcrich \xf0\x9f\x94\x91\n"),
                                           .version = 2,
                                           .decision = BYTES_LITERAL("allow"),
                                           .reason = BYTES_LITERAL("user:clinic"),
                                           .kek = BYTES_LITERAL("aws-primary"),
                                           .kek_id = BYTES_LITERAL("arn:aws:kms:us-east-1:1:key/2"),
                                           .kms_request_id = BYTES_LITERAL("7a62c49f-347e-4fc4-9331-6e8e7a96fc73"),
                                           .count = 5,
                                           .stale = true,
                                           .prev = BYTES_LITERAL("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff") };

/* The hashes are from sha256sum(1). */
static const char smallest_text[] =
        "{\"seq\":1,\"time\":\"2026-01-02T03:04:05.678901Z\",\"event\":\"start\",\"prev\":\"" AUDIT_HASH_NONE
        "\",\"hash\":\"12dac41116ee4e5c482db98036c7510b655f687f0ffd5b180f8093c6bc467673\"}\n";
static const char fullest_text[] =
        "{\"seq\":7,\"time\":\"2024-02-29T12:00:00.000001Z\",\"boottime_usec\":123456789,"
        "\"boot_id\":\"0123456789abcdef0123456789abcdef\",\"event\":\"release\",\"uid\":0,\"gid\":4294967294,\"pid\":4711,"
        "\"unit\":\"clinic@\\\"1\\\\.service\",\"connection\":3,\"scope\":\"medical\","
        "\"database_id\":\"6ba7b810-9dad-41d1-80b4-00c04fd430c8\",\"label\":\"Z\\u00fcrich \\ud83d\\udd11\\u000a\",\"version\":2,"
        "\"decision\":\"allow\",\"reason\":\"user:clinic\",\"kek\":\"aws-primary\",\"kek_id\":\"arn:aws:kms:us-east-1:1:key/2\","
        "\"kms_request_id\":\"7a62c49f-347e-4fc4-9331-6e8e7a96fc73\",\"count\":5,\"stale\":true,"
        "\"prev\":\"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\",\"hash\":\"49bda7f5a0b29ae4e5a45993d6f5e146e7b740c51c1bdb225cb7cd9efe99d613\"}\n";

/* @text with its newline. */
static int parse(struct audit_line *ret_line, const char *text, size_t n)
{
        return audit_line_parse(ret_line, scratch, (struct bytes){ (const uint8_t *)text, n - 1 });
}

static size_t format(char *ret_text, const struct audit_line *line)
{
        char hash[AUDIT_HASH_LENGTH + 1];
        size_t n;

        ck_assert_int_eq(audit_line_format(&hasher, ret_text, &n, hash, line), 0);
        return n;
}

static void check_golden(const struct audit_line *line, const char *golden)
{
        char text[AUDIT_LINE_MAX], again[AUDIT_LINE_MAX];
        struct audit_line parsed;
        size_t n = format(text, line);

        text[n] = '\0';
        ck_assert_str_eq(text, golden);
        ck_assert_int_eq(parse(&parsed, golden, strlen(golden)), 0);
        ck_assert_int_eq(audit_line_check(&hasher, &parsed), 0);
        ck_assert_uint_eq(format(again, &parsed), n);
        again[n] = '\0';
        ck_assert_str_eq(again, golden);
        ck_assert_uint_eq(parsed.time_usec, line->time_usec);
        ck_assert(bytes_equal(parsed.label, line->label));
        ck_assert(bytes_equal(parsed.unit, line->unit));
}

START_TEST(a_line_has_the_text_that_is_written_down_here)
{
        check_golden(&smallest, smallest_text);
        check_golden(&fullest, fullest_text);
}
END_TEST

START_TEST(a_line_is_json_for_other_programs)
{
        json_t *root = json_loads(fullest_text, JSON_REJECT_DUPLICATES, NULL);

        ck_assert_ptr_nonnull(root);
        ck_assert_str_eq(json_string_value(json_object_get(root, "label")), "Z\xc3\xbcrich \xf0\x9f\x94\x91\n");
        ck_assert_str_eq(json_string_value(json_object_get(root, "unit")), "clinic@\"1\\.service");
        ck_assert_int_eq(json_integer_value(json_object_get(root, "gid")), 4294967294);
        json_decref(root);
}
END_TEST

START_TEST(every_change_of_a_byte_is_found)
{
        char text[sizeof(fullest_text)];
        struct audit_line line;

        for (size_t i = 0; i < sizeof(text) - 2; i++) {
                for (unsigned bit = 0; bit < 8; bit++) {
                        memcpy(text, fullest_text, sizeof(text));
                        text[i] = (char)(text[i] ^ (1 << bit));
                        if (parse(&line, text, sizeof(text) - 1) == 0)
                                ck_assert_int_eq(audit_line_check(&hasher, &line), -EBADMSG);
                }
        }
}
END_TEST

START_TEST(every_cut_and_every_addition_is_refused)
{
        char text[sizeof(fullest_text) + 1];
        struct audit_line line;

        for (size_t n = 0; n < sizeof(fullest_text) - 2; n++)
                ck_assert_int_eq(audit_line_parse(&line, scratch, (struct bytes){ (const uint8_t *)fullest_text, n }), -EBADMSG);
        for (size_t i = 0; i < sizeof(fullest_text) - 1; i++) {
                memcpy(text, fullest_text, i);
                text[i] = ' ';
                memcpy(text + i + 1, fullest_text + i, sizeof(fullest_text) - i);
                if (parse(&line, text, sizeof(fullest_text)) == 0) /* a space inside of a text */
                        ck_assert_int_eq(audit_line_check(&hasher, &line), -EBADMSG);
        }
}
END_TEST

/* Two texts for one line would be a way to change a line's bytes and not its meaning. */
START_TEST(what_the_formatter_would_not_write_is_refused)
{
        static const char *const replaced[][2] = {
                { "\"seq\":7", "\"seq\":07" },
                { "\"seq\":7", "\"seq\":0" },
                { "\"seq\":7", "\"seq\":-7" },
                { "\"seq\":7", "\"seq\":7.0" },
                { "\"seq\":7", "\"seq\":18446744073709551616" },
                { "\"count\":5", "\"count\":0" },
                { "\"stale\":true", "\"stale\":false" },
                { "\\u00fc", "\xc3\xbc" },
                { "\\u00fc", "\\u00FC" },
                { "\\u00fc", "\\u0041" },
                { "\\u00fc", "\\u0000" },
                { "\\u000a", "\\n" },
                { "\\u000a", "\n" },
                { "Z\\u00fc", "\001\\u00fc" },
                { "\\ud83d\\udd11", "\\ud83d" },
                { "\\ud83d\\udd11", "\\udd11\\ud83d" },
                { "\"medical\"", "\"\"" },
                { "\"medical\"", "null" },
                { "\"allow\"", "\"maybe\"" },
                { "\"release\"", "\"Release\"" },
                { "\"uid\":0,", "" },
                { "\"pid\":4711,", "" },
                { "02-29T12", "02-30T12" },
                { "2024-02-29", "2023-02-29" },
                { "2024-02-29", "2024-13-01" },
                { "2024-02-29", "2024-00-01" },
                { "2024-02-29", "2024-02-00" },
                { "T12:00:00", "T24:00:00" },
                { "T12:00:00", "T12:60:00" },
                { "T12:00:00", "T12:00:60" },
                { "6ba7b810", "6BA7B810" },
                { "0123456789abcdef0", "0123456789ABCDEF0" },
                { "0123456789abcdef0", "" },
                { "\"version\":2", "\"version\":2,\"version\":2" },
                { "\"kek\":\"aws-primary\",\"kek_id\"", "\"kek_id\":\"x\",\"kek\"" },
                { "{\"seq\"", "{ \"seq\"" },
        };
        char text[2 * sizeof(fullest_text)];
        struct audit_line line;

        for (size_t i = 0; i < ELEMENTSOF(replaced); i++) {
                const char *at = strstr(fullest_text, replaced[i][0]);
                int n;

                ck_assert_ptr_nonnull(at);
                n = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - fullest_text), fullest_text, replaced[i][1],
                             at + strlen(replaced[i][0]));
                ck_assert_msg(parse(&line, text, (size_t)n) == -EBADMSG, "%s for %s", replaced[i][1], replaced[i][0]);
        }
}
END_TEST

START_TEST(every_day_of_eight_centuries_is_read_back)
{
        const uint64_t day_usec = UINT64_C(86400000000);
        char text[AUDIT_LINE_MAX];
        struct audit_line line = smallest, parsed;

        for (uint64_t day = 0; day < 293000; day++) {
                line.time_usec = day * day_usec + day % day_usec;
                ck_assert_int_eq(parse(&parsed, text, format(text, &line)), 0);
                ck_assert_uint_eq(parsed.time_usec, line.time_usec);
        }
}
END_TEST

START_TEST(a_byte_that_is_no_text_is_written_as_the_replacement_character)
{
        static const struct bytes bad[] = { BYTES_LITERAL("\xff"), BYTES_LITERAL("\xc3"), BYTES_LITERAL("\xc0\x80"), BYTES_LITERAL("\0"),
                                            BYTES_LITERAL("\xed\xa0\x80"), BYTES_LITERAL("\xf4\x90\x80\x80") };
        char text[AUDIT_LINE_MAX];
        struct audit_line line = smallest, parsed;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                line.reason = bad[i];
                ck_assert_int_eq(parse(&parsed, text, format(text, &line)), 0);
                ck_assert_uint_eq(parsed.reason.n, 3 * bad[i].n);
                ck_assert(bytes_equal((struct bytes){ parsed.reason.data, 3 }, BYTES_LITERAL("\xef\xbf\xbd")));
        }
}
END_TEST

START_TEST(a_line_that_does_not_fit_is_refused)
{
        static uint8_t much[AUDIT_LINE_MAX];
        char text[AUDIT_LINE_MAX], hash[AUDIT_HASH_LENGTH + 1];
        struct audit_line line = smallest, parsed;
        size_t n, most = 0;

        memset(much, 'x', sizeof(much));
        line.reason.data = much;
        for (line.reason.n = AUDIT_LINE_MAX - 400; line.reason.n < AUDIT_LINE_MAX; line.reason.n++) {
                if (audit_line_format(&hasher, text, &n, hash, &line) == 0) {
                        most = n;
                        ck_assert_int_eq(parse(&parsed, text, n), 0);
                }
        }
        ck_assert_uint_eq(most, AUDIT_LINE_MAX);
        ck_assert_int_eq(audit_line_format(&hasher, text, &n, hash, &line), -EMSGSIZE);
        line = smallest;
        line.seq = 0;
        ck_assert_int_eq(audit_line_format(&hasher, text, &n, hash, &line), -EINVAL);
}
END_TEST

int main(void)
{
        const struct promise all[] = { { a_line_has_the_text_that_is_written_down_here },
                                       { a_line_is_json_for_other_programs },
                                       { every_change_of_a_byte_is_found },
                                       { every_cut_and_every_addition_is_refused },
                                       { what_the_formatter_would_not_write_is_refused },
                                       { every_day_of_eight_centuries_is_read_back },
                                       { a_byte_that_is_no_text_is_written_as_the_replacement_character },
                                       { a_line_that_does_not_fit_is_refused } };

        return suite_run("audit-line", setup, teardown, all, ELEMENTSOF(all));
}
