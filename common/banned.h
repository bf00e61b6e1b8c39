/* SPDX-License-Identifier: Apache-2.0 */
/*
 * banned: functions that this project does not use; each use is a compile error. Included before everything else by the
 * build, so the system headers that declare them come first. Instead: snprintf, memcpy with a checked length,
 * bytes_equal_secret() or bytes_equal(), strtoul with a check of its end, clock_format().
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#ifdef LKM_WITH_CHECK /* set for the unit tests, whose framework has memcmp() in a macro */
#include <check.h>
#endif

/* Macros in glibc's fortified <stdio.h> under clang, which does not poison macros. */
#undef sprintf
#undef vsprintf

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets memcmp bcmp atoi atol atoll strtok
#pragma GCC poison gmtime localtime ctime asctime mktemp tmpnam tempnam
