/* SPDX-License-Identifier: Apache-2.0 */
/*
 * samples: durations of one operation, and what a table and bench.json say of them. Owned by the benchmark.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct samples {
        uint64_t *nsec;
        size_t n, capacity;
};

void samples_init(struct samples *s, size_t capacity);
void samples_deinit(struct samples *s);
/** samples_add() - one duration in nanoseconds; no more than the capacity. */
void samples_add(struct samples *s, uint64_t nsec);
/** samples_percentile() - by nearest rank; sorts. Return: microseconds. */
double samples_percentile(struct samples *s, unsigned percent);
/** samples_now() - CLOCK_MONOTONIC in nanoseconds. */
uint64_t samples_now(void);

/** One line of the table, and one object in bench.json. */
struct figure {
        const char *name, *target;
        double median_usec, p99_usec;
        double base_usec; /* what `ratio` is taken to: the floor, or the figure that the target names; 0 = none */
};

/** figure_of() - from @s, whose order is lost. */
struct figure figure_of(const char *name, struct samples *s, double base_usec, const char *target);
/** figure_print() - a line for people to standard output, and an object, one a line, to @json. */
void figure_print(const struct figure *f, FILE *json);
