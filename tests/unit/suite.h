/* SPDX-License-Identifier: Apache-2.0 */
/* suite: the main() of a unit test, given its table of tests. */
#pragma once

#include <check.h>

struct promise {
        const TTest *test;
};

static inline int suite_run(const char *name, SFun setup, SFun teardown, const struct promise *promises, size_t n)
{
        Suite *suite = suite_create(name);
        TCase *tcase = tcase_create(name);
        SRunner *runner;
        int failed;

        tcase_set_timeout(tcase, 0); /* meson's limit is the only one: valgrind is slow */
        tcase_add_checked_fixture(tcase, setup, teardown);
        for (size_t i = 0; i < n; i++)
                tcase_add_test(tcase, promises[i].test);
        suite_add_tcase(suite, tcase);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
