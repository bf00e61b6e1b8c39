/* SPDX-License-Identifier: Apache-2.0 */
/*
 * huge: tables that may hold 100,000 things, at random reached. Those of several megabytes ask the kernel for huge pages, without
 * which nearly every access misses the processor's table of pages. Not for secrets.
 */
#pragma once

#include <stddef.h>

/** huge_calloc() - @n zeroed members of @size bytes, at a cache line's begin. Return: release with free(); NULL when memory is short. */
void *huge_calloc(size_t n, size_t size);
