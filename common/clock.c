/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"

#include <assert.h>
#include <errno.h>

/* The last second that four digits of a year can tell. */
#define SECONDS_MAX INT64_C(253402300799)

static uint64_t clock_read(clockid_t clock)
{
        struct timespec t;
        int r = clock_gettime(clock, &t);

        assert(r == 0);
        (void)r;
        return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / 1000;
}

uint64_t clock_boottime_usec(void)
{
        return clock_read(CLOCK_BOOTTIME);
}

uint64_t clock_wall_usec(void)
{
        return clock_read(CLOCK_REALTIME);
}

uint64_t clock_monotonic_usec(void)
{
        return clock_read(CLOCK_MONOTONIC);
}

uint64_t clock_add(uint64_t a, uint64_t b)
{
        uint64_t sum;

        return __builtin_add_overflow(a, b, &sum) ? USEC_INFINITY : sum;
}

void clock_format(char ret_text[CLOCK_TEXT_LENGTH + 1], uint64_t wall_usec)
{
        uint64_t seconds = wall_usec / USEC_PER_SEC;
        time_t t = seconds > (uint64_t)SECONDS_MAX ? SECONDS_MAX : (time_t)seconds;
        struct tm tm = { 0 };
        size_t n;

        gmtime_r(&t, &tm);
        n = strftime(ret_text, CLOCK_TEXT_LENGTH + 1, "%Y-%m-%dT%H:%M:%SZ", &tm);
        assert(n == CLOCK_TEXT_LENGTH);
        (void)n;
}

static int digits_parse(int *ret, const char *text, size_t n)
{
        int value = 0;

        for (size_t i = 0; i < n; i++) {
                if (text[i] < '0' || text[i] > '9')
                        return -EINVAL;
                value = value * 10 + (text[i] - '0');
        }
        *ret = value;
        return 0;
}

int clock_parse(uint64_t *ret_wall_usec, const char *text)
{
        struct tm tm = { 0 };
        char again[CLOCK_TEXT_LENGTH + 1];
        uint64_t usec;
        time_t t;

        if (strlen(text) != CLOCK_TEXT_LENGTH)
                return -EINVAL;
        if (digits_parse(&tm.tm_year, text, 4) < 0 || digits_parse(&tm.tm_mon, text + 5, 2) < 0 ||
            digits_parse(&tm.tm_mday, text + 8, 2) < 0 || digits_parse(&tm.tm_hour, text + 11, 2) < 0 ||
            digits_parse(&tm.tm_min, text + 14, 2) < 0 || digits_parse(&tm.tm_sec, text + 17, 2) < 0)
                return -EINVAL;
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        t = timegm(&tm);
        if (t < 0)
                return -EINVAL;

        /* timegm() takes a 31st of February for a day in March: only a date that reads the same again is one. */
        usec = (uint64_t)t * USEC_PER_SEC;
        clock_format(again, usec);
        if (strcmp(again, text) != 0)
                return -EINVAL;
        *ret_wall_usec = usec;
        return 0;
}
