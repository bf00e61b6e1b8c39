/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile-victim: what somebody notices who uses lkmd while another uid attacks it: cached gets on a kept connection, one each 200 us, and
 * a new connection with its first get for every hundredth. Prints one JSON object; times in microseconds.
 *
 *   hostile-victim SOCKET SECONDS
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/connection.h"
#include "tests/bench/samples.h"

enum { EACH_NSEC = 200000, PER_SECOND = 1000000000 / EACH_NSEC, CONNECT_EACH = 100 };

struct victim {
        const char *socket;
        struct lkm *lkm;
        uint8_t *record;
        size_t n_record;
        struct samples kept, connects;
        unsigned n_refused; /* any failure counts */
};

static struct lkm *victim_connect(struct victim *v)
{
        struct lkm_options options = { .socket = v->socket };
        struct lkm *lkm = NULL;

        if (lkm_connect(&lkm, &options) || lkm_ping(lkm)) {
                fprintf(stderr, "hostile-victim: %s\n", lkm_error_message(lkm));
                v->n_refused++;
                lkm_free(&lkm);
        }
        return lkm;
}

static void victim_get(struct victim *v, struct lkm *lkm)
{
        struct lkm_key *key;

        if (lkm && lkm_get(lkm, v->record, v->n_record, NULL, &key) == 0) {
                lkm_key_free(&key);
        } else if (lkm) {
                fprintf(stderr, "hostile-victim: %s\n", lkm_error_message(lkm));
                v->n_refused++;
        }
}

static void victim_begin(struct victim *v)
{
        union message request = { .create = { .number_ = MESSAGE_CREATE, .scope = BYTES_LITERAL("victim") } }, answer;

        v->lkm = victim_connect(v);
        if (!v->lkm || connection_call(v->lkm, &request, MESSAGE_RECORD, &answer)) {
                fprintf(stderr, "hostile-victim: no record: %s\n", lkm_error_message(v->lkm));
                exit(1);
        }
        v->n_record = answer.record.record.n;
        v->record = malloc(v->n_record);
        if (!v->record)
                abort();
        memcpy(v->record, answer.record.record.data, v->n_record);
        connection_settle(v->lkm);
        victim_get(v, v->lkm);
}

static void wait_until(uint64_t nsec)
{
        struct timespec at = { .tv_sec = (time_t)(nsec / 1000000000), .tv_nsec = (long)(nsec % 1000000000) };

        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) {
                /* a signal */
        }
}

static void victim_work(struct victim *v, unsigned seconds)
{
        uint64_t at = samples_now(), end = at + seconds * UINT64_C(1000000000);

        for (unsigned i = 1; at < end; i++) {
                uint64_t begin, now;

                wait_until(at);
                begin = samples_now();
                if (i % CONNECT_EACH == 0) {
                        struct lkm *lkm = victim_connect(v);

                        victim_get(v, lkm);
                        lkm_free(&lkm);
                } else {
                        victim_get(v, v->lkm);
                }
                now = samples_now();
                samples_add(i % CONNECT_EACH == 0 ? &v->connects : &v->kept, now - begin);
                /* Late: the next one comes at once, and none is left out. */
                at += EACH_NSEC;
        }
}

int main(int argc, char **argv)
{
        unsigned seconds = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
        struct victim v = { .socket = argc > 1 ? argv[1] : "" };

        if (seconds == 0) {
                fprintf(stderr, "usage: hostile-victim SOCKET SECONDS\n");
                return 2;
        }
        victim_begin(&v);
        samples_init(&v.kept, (size_t)seconds * PER_SECOND + 1);
        samples_init(&v.connects, (size_t)seconds * PER_SECOND / CONNECT_EACH + 1);
        victim_work(&v, seconds);
        printf("{\"gets\": %zu, \"median\": %.1f, \"p99\": %.1f, \"connects\": %zu, \"connect_median\": %.1f, \"connect_p99\": %.1f, \"refused\": %u}\n",
               v.kept.n, samples_percentile(&v.kept, 50), samples_percentile(&v.kept, 99), v.connects.n, samples_percentile(&v.connects, 50),
               samples_percentile(&v.connects, 99), v.n_refused);
        return 0;
}
