/* SPDX-License-Identifier: Apache-2.0 */
/* chance: numbers by chance that a seed gives again, on every machine (splitmix64). */
#pragma once

#include <stdint.h>

struct chance {
        uint64_t state;
};

static inline uint64_t chance_mix(uint64_t x)
{
        x += 0x9e3779b97f4a7c15;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
        x = (x ^ x >> 27) * 0x94d049bb133111eb;
        return x ^ x >> 31;
}

static inline struct chance chance_init(uint64_t seed)
{
        return (struct chance){ chance_mix(seed) };
}

static inline uint64_t chance_next(struct chance *c)
{
        c->state += 0x9e3779b97f4a7c15;
        return chance_mix(c->state);
}

/** chance_below() - from 0 to @n - 1; @n is not 0. */
static inline uint64_t chance_below(struct chance *c, uint64_t n)
{
        return chance_next(c) % n;
}
