/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock: the two clocks lkm uses, in microseconds. Deadlines are CLOCK_BOOTTIME, so that sleep counts; the wall clock
 * is only for dates that people read.
 */
#pragma once

#include <stdint.h>

#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_INFINITY UINT64_MAX

uint64_t clock_boottime_usec(void);
uint64_t clock_wall_usec(void);
/** clock_monotonic_usec() - CLOCK_MONOTONIC, only for the MONOTONIC_USEC= of sd_notify(3). */
uint64_t clock_monotonic_usec(void);
/** clock_add() - a + b, saturating at USEC_INFINITY. */
uint64_t clock_add(uint64_t a, uint64_t b);

#define CLOCK_TEXT_LENGTH 20
/** clock_format() - RFC 3339 in UTC with whole seconds, "2024-01-15T10:30:00Z". */
void clock_format(char ret_text[CLOCK_TEXT_LENGTH + 1], uint64_t wall_usec);
/** clock_parse() - the same form only. Return: 0 or -EINVAL. */
int clock_parse(uint64_t *ret_wall_usec, const char *text);
