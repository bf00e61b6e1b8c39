/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t clock_usec(clockid_t id)
{
        struct timespec now;

        clock_gettime(id, &now); /* cannot fail for the ids below */
        return (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_boottime_usec(void)
{
        return clock_usec(CLOCK_BOOTTIME);
}

uint64_t clock_wall_usec(void)
{
        return clock_usec(CLOCK_REALTIME);
}

uint64_t clock_monotonic_usec(void)
{
        return clock_usec(CLOCK_MONOTONIC);
}

uint64_t clock_add(uint64_t a, uint64_t b)
{
        return a > USEC_INFINITY - b ? USEC_INFINITY : a + b;
}

void clock_format(char ret_text[CLOCK_TEXT_LENGTH + 1], uint64_t wall_usec)
{
        time_t seconds = (time_t)(wall_usec / USEC_PER_SEC);
        struct tm date;

        if (!gmtime_r(&seconds, &date) || strftime(ret_text, CLOCK_TEXT_LENGTH + 1, "%Y-%m-%dT%H:%M:%SZ", &date) == 0)
                snprintf(ret_text, CLOCK_TEXT_LENGTH + 1, "9999-12-31T23:59:59Z"); /* past what the form can say */
}

int clock_parse(uint64_t *ret_wall_usec, const char *text)
{
        char again[CLOCK_TEXT_LENGTH + 1];
        struct tm date = { 0 };
        const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &date);
        time_t seconds;

        if (!end || *end != '\0')
                return -EINVAL;
        seconds = timegm(&date);
        if (seconds < 0)
                return -EINVAL;
        /* strptime() takes more than the one form: what formats differently was another form, or no such day. */
        clock_format(again, (uint64_t)seconds * USEC_PER_SEC);
        if (strcmp(again, text) != 0)
                return -EINVAL;
        *ret_wall_usec = (uint64_t)seconds * USEC_PER_SEC;
        return 0;
}
