/* SPDX-License-Identifier: Apache-2.0 */
/* aws-refresh: when credentials are renewed, and how long a failure stands. Pure. */
#pragma once

#include <stdint.h>

#include "common/clock.h"

/** How long those who ask are given the last error, at most. */
#define CREDENTIALS_HOLD_USEC (15 * USEC_PER_SEC)

/** How long keys that AWS did not take are not served: a new access key takes a while to be known everywhere, and a clock may be mended. */
#define CREDENTIALS_REJECTED_USEC (60 * USEC_PER_SEC)

/** credentials_refresh_at() - 15 minutes ahead of the end and up to 2 more, so that not all machines ask at once; at half of the time that is left
 *  where that is later, and not before 5 seconds have passed. @random: uniform. Return: wall clock; USEC_INFINITY for what never ends. */
static inline uint64_t credentials_refresh_at(uint64_t now, uint64_t expires, uint32_t random)
{
        uint64_t ahead = (15 * 60 + random % 121) * USEC_PER_SEC, left = expires > now ? expires - now : 0;

        if (expires == USEC_INFINITY)
                return USEC_INFINITY;
        if (ahead > left / 2)
                ahead = left / 2;
        return left - ahead < 5 * USEC_PER_SEC ? now + 5 * USEC_PER_SEC : expires - ahead;
}

/** credentials_pause_usec() - after @n_failures in a row: 1 s, doubled up to 60 s, less up to a quarter. @random: uniform. */
static inline uint64_t credentials_pause_usec(unsigned n_failures, uint32_t random)
{
        uint64_t pause = n_failures > 6 ? 60 : UINT64_C(1) << (n_failures > 0 ? n_failures - 1 : 0);

        pause *= USEC_PER_SEC;
        return pause - pause / 4 * (random % 1024) / 1024;
}
