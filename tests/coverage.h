/* SPDX-License-Identifier: Apache-2.0 */
/*
 * coverage: included before everything else in the build of tests/coverage, and in no other one. A child that ends by _exit(2) tells what it ran, too.
 */
#pragma once

#include <unistd.h>

extern void __gcov_dump(void);

static inline _Noreturn void coverage_exit(int status)
{
        __gcov_dump();
        (_exit)(status);
}
#define _exit(status) coverage_exit(status)
