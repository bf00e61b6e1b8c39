/* SPDX-License-Identifier: Apache-2.0 */
#include "common/secret.h"
#include "tests/fuzz/fuzz.h"

void check(bool ok)
{
        if (!ok)
                abort();
}

void check_arena(void)
{
        size_t small, large;

        if (secret_arena_backing() == SECRET_BACKING_NONE)
                check(secret_arena_init(64, 64, 64, NULL) == 0);
        secret_arena_usage(&small, NULL, &large, NULL);
        check(small + large == 0);
}

struct bytes fuzz_take(struct bytes *input, size_t n)
{
        struct bytes taken = { input->data, n < input->n ? n : input->n };

        input->data += taken.n;
        input->n -= taken.n;
        return taken;
}

uint8_t fuzz_byte(struct bytes *input)
{
        struct bytes taken = fuzz_take(input, 1);

        return taken.n > 0 ? *taken.data : 0;
}

struct bytes fuzz_until(struct bytes *input, uint8_t end)
{
        const uint8_t *found = input->n > 0 ? memchr(input->data, end, input->n) : NULL;
        struct bytes taken = fuzz_take(input, found ? (size_t)(found - input->data) : input->n);

        fuzz_take(input, found ? 1 : 0);
        return taken;
}
