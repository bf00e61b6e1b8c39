/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"

#include <check.h>
#include <errno.h>

#include "common/cleanup.h"

START_TEST(dates_format_and_parse_back)
{
        static const struct {
                uint64_t seconds;
                const char *text;
        } dates[] = {
                { 0, "1970-01-01T00:00:00Z" },
                { 1705314600, "2024-01-15T10:30:00Z" },
                { 951782400, "2000-02-29T00:00:00Z" },
                { 4102444799, "2099-12-31T23:59:59Z" },
                { 253402300799, "9999-12-31T23:59:59Z" },
        };

        for (size_t i = 0; i < ELEMENTSOF(dates); i++) {
                char text[CLOCK_TEXT_LENGTH + 1];
                uint64_t usec;

                clock_format(text, dates[i].seconds * USEC_PER_SEC + 999999);
                ck_assert_str_eq(text, dates[i].text);
                ck_assert_int_eq(clock_parse(&usec, dates[i].text), 0);
                ck_assert_uint_eq(usec, dates[i].seconds * USEC_PER_SEC);
        }
}
END_TEST

START_TEST(a_time_beyond_four_digit_years_is_cut_to_the_last)
{
        char text[CLOCK_TEXT_LENGTH + 1];

        clock_format(text, USEC_INFINITY);
        ck_assert_str_eq(text, "9999-12-31T23:59:59Z");
}
END_TEST

START_TEST(other_forms_are_refused_and_leave_the_output)
{
        static const char *const wrong[] = {
                "",
                "2024-01-15",
                "2024-01-15T10:30:00",
                "2024-01-15T10:30:00z",
                "2024-01-15 10:30:00Z",
                "2024-01-15T10:30:00Zx",
                "2024-01-15T10:30:60Z",
                "2024-01-15T24:30:00Z",
                "2024-13-15T10:30:00Z",
                "2024-00-15T10:30:00Z",
                "2023-02-29T10:30:00Z",
                "2024-01-00T10:30:00Z",
                "1969-12-31T23:59:59Z",
                "0000-01-01T00:00:00Z",
                "2024-01-15T10:30:0 Z",
                "-024-01-15T10:30:00Z",
                "2024-01-15T10:30:00+",
        };

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                uint64_t usec = 7;

                ck_assert_msg(clock_parse(&usec, wrong[i]) == -EINVAL, "%s", wrong[i]);
                ck_assert_uint_eq(usec, 7);
        }
}
END_TEST

START_TEST(add_saturates)
{
        ck_assert_uint_eq(clock_add(1, 2), 3);
        ck_assert_uint_eq(clock_add(USEC_INFINITY, 1), USEC_INFINITY);
        ck_assert_uint_eq(clock_add(1, USEC_INFINITY), USEC_INFINITY);
        ck_assert_uint_eq(clock_add(USEC_INFINITY - 1, 1), USEC_INFINITY);
}
END_TEST

START_TEST(clocks_do_not_go_back)
{
        uint64_t boot = clock_boottime_usec(), monotonic = clock_monotonic_usec();

        ck_assert_uint_ge(clock_boottime_usec(), boot);
        ck_assert_uint_ge(clock_monotonic_usec(), monotonic);
        /* Boot time counts sleep, the monotonic clock does not. */
        ck_assert_uint_ge(clock_boottime_usec(), monotonic);
        ck_assert_uint_gt(clock_wall_usec(), UINT64_C(1700000000) * USEC_PER_SEC);
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("clock");
        TCase *c = tcase_create("clock");
        SRunner *runner;
        int failed;

        tcase_add_test(c, dates_format_and_parse_back);
        tcase_add_test(c, a_time_beyond_four_digit_years_is_cut_to_the_last);
        tcase_add_test(c, other_forms_are_refused_and_leave_the_output);
        tcase_add_test(c, add_saturates);
        tcase_add_test(c, clocks_do_not_go_back);
        suite_add_tcase(suite, c);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed > 0;
}
