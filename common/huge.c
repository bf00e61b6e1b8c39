/* SPDX-License-Identifier: Apache-2.0 */
#include "common/huge.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CACHE_LINE ((size_t)64)
#define PAGE ((size_t)4096)
#define HUGE_PAGE ((size_t)2 << 20)
#define SMALL (16 * PAGE)

void *huge_calloc(size_t n, size_t size)
{
        size_t n_bytes, unit;
        void *table;

        if (__builtin_mul_overflow(n, size, &n_bytes) || n_bytes > SIZE_MAX - HUGE_PAGE)
                return NULL;
        unit = n_bytes < SMALL ? CACHE_LINE : n_bytes < HUGE_PAGE ? PAGE : HUGE_PAGE;
        n_bytes = (n_bytes + unit) & ~(unit - 1);
        table = aligned_alloc(unit, n_bytes);
        if (!table)
                return NULL;
        if (unit == HUGE_PAGE)
                madvise(table, n_bytes, MADV_HUGEPAGE); /* merely a hint: an error means small pages */
        /* Given back to the kernel, pages are zero, and not resident until they are used. */
        if (unit == CACHE_LINE || madvise(table, n_bytes, MADV_DONTNEED) < 0)
                memset(table, 0, n_bytes);
        return table;
}
