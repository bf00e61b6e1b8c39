/* SPDX-License-Identifier: Apache-2.0 */
/* The part of secret.h that is about memory outside of the arena. */
#include "common/secret.h"

#include <malloc.h>

#define STACK_WIPE_SIZE (16 * 1024)

void secret_wipe(void *p, size_t n)
{
        if (n > 0)
                explicit_bzero(p, n);
}

__attribute__((__noinline__)) void secret_wipe_stack(void)
{
        uint8_t dead[STACK_WIPE_SIZE];

        explicit_bzero(dead, sizeof(dead));
        /* Keeps the array, and this frame, in being until here. */
        __asm__ volatile("" : : "r"(dead) : "memory");
}

/*
 * malloc_usable_size() rather than a header of our own: a block that a library hands out and a caller gives to plain
 * free(), or the other way round, then is merely not wiped instead of corrupting the heap. Not inlined, so that no
 * compiler holds the size that was asked for against the size that is wiped.
 */
__attribute__((__noinline__)) void secret_free(void *p)
{
        if (!p)
                return;
        explicit_bzero(p, malloc_usable_size(p));
        free(p);
}

__attribute__((__noinline__)) void *secret_malloc(size_t n)
{
        return malloc(n > 0 ? n : 1);
}

__attribute__((__noinline__)) void *secret_calloc(size_t n, size_t size)
{
        size_t n_bytes;

        if (__builtin_mul_overflow(n, size, &n_bytes))
                return NULL;
        return calloc(1, n_bytes > 0 ? n_bytes : 1);
}

__attribute__((__noinline__)) void *secret_realloc(void *p, size_t n)
{
        size_t n_old = p ? malloc_usable_size(p) : 0;
        void *moved;

        /* Never realloc(3): it may move the block and leave the old bytes behind. */
        moved = secret_malloc(n);
        if (!moved || !p)
                return moved;
        memcpy(moved, p, n < n_old ? n : n_old);
        secret_free(p);
        return moved;
}

char *secret_strdup(const char *s)
{
        size_t n = strlen(s) + 1;
        char *copy = secret_malloc(n);

        if (copy)
                memcpy(copy, s, n);
        return copy;
}
