/* SPDX-License-Identifier: Apache-2.0 */
#include "client/sidefile.h"

#include <errno.h>

#include "common/cleanup.h"
#include "tests/unit/suite.h"

#define HEX "73616c7473616c7473616c7473616c74" /* 16 bytes in hex, or 24 in base64, or 32 as they are */

static void nothing(void)
{
}

static bool is_salt(const struct sidefile_salt *salt, const char *text)
{
        return bytes_equal((struct bytes){ salt->bytes, salt->n }, bytes_from_string(text));
}

START_TEST(each_form_of_a_salt_is_read)
{
        static const struct {
                struct bytes content;
                size_t n_salts;
                const char *first;
                uint32_t rounds;
        } cases[] = {
                { BYTES_LITERAL(HEX), 3, "saltsaltsaltsalt", 0 },
                { BYTES_LITERAL(HEX "\n"), 3, "saltsaltsaltsalt", 0 },
                { BYTES_LITERAL("73616C7473616c74\r\n"), 3, "saltsalt", 0 },
                { BYTES_LITERAL("c2FsdHNhbHRzYWx0c2FsdA==\n"), 2, "saltsaltsaltsalt", 0 },
                { BYTES_LITERAL("salt-as-it-is!!!"), 1, "salt-as-it-is!!!", 0 },
                { BYTES_LITERAL("{\"salt\": \"c2FsdHNhbHRzYWx0c2FsdA==\"}"), 1, "saltsaltsaltsalt", 0 },
                { BYTES_LITERAL("{\"salt\": \"" HEX "\", \"iterations\": 4096, \"kdf\": \"pbkdf2\"}"), 2, "saltsaltsaltsalt", 4096 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct sidefile s;

                ck_assert_int_eq(sidefile_parse(&s, cases[i].content), 0);
                ck_assert_uint_eq(s.n_salts, cases[i].n_salts);
                ck_assert_uint_eq(s.rounds, cases[i].rounds);
                ck_assert(is_salt(&s.salts[0], cases[i].first));
        }
}
END_TEST

START_TEST(what_holds_no_salt_is_refused)
{
        static const struct bytes contents[] = {
                { NULL, 0 },
                BYTES_LITERAL("\n"),
                BYTES_LITERAL("short"),
                BYTES_LITERAL("far too long to be a salt, for it has more than the sixty-four bytes that one may have"),
                BYTES_LITERAL("{\"iterations\": 4096}"),
                BYTES_LITERAL("{\"salt\": 5}"),
                BYTES_LITERAL("{\"salt\": \"not hex, not base64\"}"),
                BYTES_LITERAL("{\"salt\": \"" HEX "\", \"iterations\": 0}"),
                BYTES_LITERAL("{\"salt\": \"" HEX "\", \"iterations\": \"4096\"}"),
                BYTES_LITERAL("{\"salt\": \"" HEX "\", \"iterations\": 4294967296}"),
        };
        struct sidefile s;

        for (size_t i = 0; i < ELEMENTSOF(contents); i++)
                ck_assert_int_eq(sidefile_parse(&s, contents[i]), SIDEFILE_E_INVALID);
        ck_assert_int_eq(sidefile_read(&s, "/nowhere/salt"), -ENOENT);
        ck_assert_int_eq(sidefile_read(&s, "/dev/zero"), SIDEFILE_E_INVALID);
}
END_TEST

int main(void)
{
        const struct promise promises[] = { { each_form_of_a_salt_is_read }, { what_holds_no_salt_is_refused } };

        return suite_run("sidefile", nothing, nothing, promises, ELEMENTSOF(promises));
}
