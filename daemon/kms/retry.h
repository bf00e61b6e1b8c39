/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retry: when to ask a KMS again. Pure: time and randomness are passed in. The numbers are those of the AWS SDKs' retry behaviour of 2026:
 * 50 ms base, 1 s for throttling, doubled up to 20 s, full jitter; a bucket of 500 tokens, 14 for a repetition, 5 after throttling.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RETRY_TOKENS_MAX 500
#define RETRY_ATTEMPTS_MAX 3

/** A budget of repetitions, so that an outage does not multiply the load. */
struct retry_budget {
        unsigned tokens;
};
void retry_budget_init(struct retry_budget *b);
/** retry_budget_take() - pay for a repetition. Return: whether there was enough. */
bool retry_budget_take(struct retry_budget *b, bool throttled);
/** retry_budget_give() - after a success: gives back what its repetitions have cost, or one token. */
void retry_budget_give(struct retry_budget *b, unsigned n_repetitions, bool throttled);

/** retry_delay_usec() - the pause before attempt @n_attempts + 1. @random: uniform in 0..UINT32_MAX. @retry_after_msec: what the server asked
 *  for, 0 = nothing; honoured up to 5 s over the computed pause. */
uint64_t retry_delay_usec(unsigned n_attempts, bool throttled, uint32_t retry_after_msec, uint32_t random);

/** A breaker: after BREAKER_FAILURES outages in a row nothing is sent for a while, then one attempt at a time finds out. */
#define BREAKER_FAILURES 5
#define BREAKER_PAUSE_MIN_USEC UINT64_C(5000000)
#define BREAKER_PAUSE_MAX_USEC UINT64_C(30000000)
struct breaker {
        unsigned n_failures;
        uint64_t closed_again_usec; /* CLOCK_BOOTTIME; when one may try */
        uint64_t pause_usec;
        bool trying;
};
/** breaker_admits() - whether an attempt may be made at @now; when half open, the one that is admitted has to be noted. */
bool breaker_admits(struct breaker *b, uint64_t now);
/** breaker_note() - how an attempt ended. An answer of any kind but an outage closes the breaker. */
void breaker_note(struct breaker *b, bool outage, uint64_t now);
/** breaker_wait_usec() - until one may try; 0 = now. */
uint64_t breaker_wait_usec(const struct breaker *b, uint64_t now);
