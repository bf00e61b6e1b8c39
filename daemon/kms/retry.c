/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/retry.h"

#include "common/clock.h"

#define DELAY_BASE_USEC (50 * USEC_PER_MSEC)
#define DELAY_BASE_THROTTLED_USEC USEC_PER_SEC
#define DELAY_MAX_USEC (20 * USEC_PER_SEC)
/* How much longer than we would a server can make us wait. */
#define DELAY_MORE_USEC (5 * USEC_PER_SEC)

static unsigned cost(bool throttled)
{
        return throttled ? 5 : 14;
}

void retry_budget_init(struct retry_budget *b)
{
        b->tokens = RETRY_TOKENS_MAX;
}

bool retry_budget_take(struct retry_budget *b, bool throttled)
{
        if (b->tokens < cost(throttled))
                return false;
        b->tokens -= cost(throttled);
        return true;
}

void retry_budget_give(struct retry_budget *b, unsigned n_repetitions, bool throttled)
{
        unsigned back = n_repetitions > 0 ? n_repetitions * cost(throttled) : 1;

        b->tokens = back > RETRY_TOKENS_MAX - b->tokens ? RETRY_TOKENS_MAX : b->tokens + back;
}

uint64_t retry_delay_usec(unsigned n_attempts, bool throttled, uint32_t retry_after_msec, uint32_t random)
{
        uint64_t most = throttled ? DELAY_BASE_THROTTLED_USEC : DELAY_BASE_USEC, delay, asked;

        for (unsigned i = 1; i < n_attempts && most < DELAY_MAX_USEC; i++)
                most *= 2;
        if (most > DELAY_MAX_USEC)
                most = DELAY_MAX_USEC;
        delay = most * random / UINT32_MAX;
        asked = retry_after_msec * USEC_PER_MSEC;
        if (asked > delay + DELAY_MORE_USEC)
                asked = delay + DELAY_MORE_USEC;
        return asked > delay ? asked : delay;
}

static bool is_open(const struct breaker *b)
{
        return b->n_failures >= BREAKER_FAILURES;
}

bool breaker_admits(struct breaker *b, uint64_t now)
{
        if (!is_open(b))
                return true;
        if (now < b->closed_again_usec)
                return false;
        /* Half open. Should this attempt never be noted, another one may be made after the same pause. */
        b->trying = true;
        b->closed_again_usec = clock_add(now, b->pause_usec);
        return true;
}

void breaker_note(struct breaker *b, bool outage, uint64_t now)
{
        if (!outage) {
                *b = (struct breaker){ 0 };
                return;
        }
        if (is_open(b) && !b->trying)
                return; /* of an attempt that was under way when it opened */
        if (is_open(b))
                b->pause_usec = b->pause_usec * 2 > BREAKER_PAUSE_MAX_USEC ? BREAKER_PAUSE_MAX_USEC : b->pause_usec * 2;
        else if (++b->n_failures < BREAKER_FAILURES)
                return;
        else
                b->pause_usec = BREAKER_PAUSE_MIN_USEC;
        b->trying = false;
        b->closed_again_usec = clock_add(now, b->pause_usec);
}

uint64_t breaker_wait_usec(const struct breaker *b, uint64_t now)
{
        return is_open(b) && b->closed_again_usec > now ? b->closed_again_usec - now : 0;
}
