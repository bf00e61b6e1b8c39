/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/samples.h"

#include <stdlib.h>
#include <time.h>

void samples_init(struct samples *s, size_t capacity)
{
        *s = (struct samples){ .nsec = calloc(capacity, sizeof(uint64_t)), .capacity = capacity };
        if (!s->nsec)
                abort();
}

void samples_deinit(struct samples *s)
{
        free(s->nsec);
}

void samples_add(struct samples *s, uint64_t nsec)
{
        if (s->n < s->capacity)
                s->nsec[s->n++] = nsec;
}

static int compare(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

double samples_percentile(struct samples *s, unsigned percent)
{
        qsort(s->nsec, s->n, sizeof(uint64_t), compare);
        return s->n ? (double)s->nsec[(s->n - 1) * percent / 100] / 1000 : 0;
}

uint64_t samples_now(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

struct figure figure_of(const char *name, struct samples *s, double base_usec, const char *target)
{
        return (struct figure){ .name = name,
                                .target = target,
                                .median_usec = samples_percentile(s, 50),
                                .p99_usec = samples_percentile(s, 99),
                                .base_usec = base_usec };
}

void figure_print(const struct figure *f, FILE *json)
{
        char ratio[32] = "";

        if (f->base_usec > 0)
                snprintf(ratio, sizeof(ratio), "%.2f", f->median_usec / f->base_usec);
        printf("%-46s %11.1f us %11.1f us %7s  %s\n", f->name, f->median_usec, f->p99_usec, ratio, f->target);
        fflush(stdout);
        fprintf(json, "{\"name\": \"%s\", \"unit\": \"us\", \"median\": %.3f, \"p99\": %.3f, \"ratio\": %s}\n", f->name,
                f->median_usec, f->p99_usec, *ratio ? ratio : "null");
}
