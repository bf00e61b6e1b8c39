/* SPDX-License-Identifier: Apache-2.0 */
/* duration: lengths of time as Vault reads and writes them: "90s", "1h30m", or a number of seconds. */
#pragma once

#include "tests/mock-kms/text.h"

/** duration_parse() - Return: 0 or -EINVAL. */
int duration_parse(uint64_t *ret_seconds, const char *text);
/** duration_member() - a text or number of seconds. Return: 0 with @otherwise when it is absent, or -EINVAL. */
int duration_member(uint64_t *ret_seconds, const json_t *object, const char *name, uint64_t otherwise);
/** duration_format() - "1h", "1h30m", "20s"; to release with free(). */
char *duration_format(uint64_t seconds);
