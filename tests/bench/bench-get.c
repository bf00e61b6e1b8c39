/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-get: how long a cached key takes, beside a bare ping-pong of the same sizes over AF_UNIX in the same run. Linked with the
 * inside of liblkm, because it makes records that belong to no database.
 *
 *   bench-get JSON-FILE get                     the floor, and one key by every road
 *   bench-get JSON-FILE keys SOCKET…            the same get with 10, 1,000 and 100,000 keys in the cache, one daemon for each
 *   bench-get JSON-FILE connections SOCKET…     the same get beside 1, 100 and 1,000 idle connections
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/connection.h"
#include "tests/bench/samples.h"

enum { ROUNDS = 20, IN_ROUND = 1000, DEPTH = 64 };
#define ANSWER_SIZE 110

/** Records made by this run. */
struct record_list {
        struct bytes *records;
        size_t n;
};

static _Noreturn void fail(const char *what, const char *why)
{
        fprintf(stderr, "bench-get: %s: %s\n", what, why);
        exit(1);
}

static void must(int error, const struct lkm *lkm)
{
        if (error)
                fail(lkm_error_name(error), lkm_error_message(lkm));
}

static struct lkm *connect_now(void)
{
        struct lkm *lkm;

        must(lkm_connect(&lkm, NULL), NULL);
        must(lkm_ping(lkm), lkm);
        return lkm;
}

static void get(struct lkm *lkm, struct bytes record)
{
        struct lkm_key *key;

        must(lkm_get(lkm, record.data, record.n, NULL, &key), lkm);
        lkm_key_free(&key);
}

static void record_list_grow(struct record_list *list, struct lkm *lkm, size_t n)
{
        union message request = { .create = { .number_ = MESSAGE_CREATE } }, answer;

        list->records = realloc(list->records, n * sizeof(struct bytes));
        if (!list->records)
                abort();
        for (; list->n < n; list->n++) {
                struct bytes *record = &list->records[list->n];
                uint8_t *copy;

                must(connection_call(lkm, &request, MESSAGE_RECORD, &answer), lkm);
                copy = malloc(answer.record.record.n);
                if (!copy)
                        abort();
                memcpy(copy, answer.record.record.data, answer.record.record.n);
                *record = (struct bytes){ copy, answer.record.record.n };
                connection_settle(lkm);
                get(lkm, *record);
        }
}

/* ---- the floor ---- */

struct floor {
        int fd;
        pid_t peer;
        size_t n_request, n_answer;
};

static bool transfer(int fd, uint8_t *data, size_t n, bool out)
{
        size_t done = 0;

        while (done < n) {
                ssize_t r = out ? send(fd, data + done, n - done, MSG_NOSIGNAL) : recv(fd, data + done, n - done, 0);

                if (r <= 0)
                        return false;
                done += (size_t)r;
        }
        return true;
}

static void floor_start(struct floor *f, size_t n_request, size_t n_answer)
{
        static uint8_t buffer[FRAME_MAX];
        int pair[2];

        *f = (struct floor){ .n_request = n_request, .n_answer = n_answer };
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 || (f->peer = fork()) < 0)
                fail("floor", "socketpair or fork failed");
        if (f->peer == 0) {
                close(pair[0]);
                while (transfer(pair[1], buffer, n_request, false) && transfer(pair[1], buffer, n_answer, true)) {
                        /* until the other side goes */
                }
                _exit(0);
        }
        close(pair[1]);
        f->fd = pair[0];
}

static void floor_round(struct floor *f, struct samples *s)
{
        static uint8_t buffer[FRAME_MAX];

        for (int i = 0; i < IN_ROUND; i++) {
                uint64_t begin = samples_now();

                if (!transfer(f->fd, buffer, f->n_request, true) || !transfer(f->fd, buffer, f->n_answer, false))
                        fail("floor", "the peer is gone");
                samples_add(s, samples_now() - begin);
        }
}

static void floor_end(struct floor *f)
{
        close(f->fd);
        waitpid(f->peer, NULL, 0);
}

/* ---- the roads to a key ---- */

static void get_round(struct lkm *lkm, const struct record_list *list, struct samples *s)
{
        static uint64_t state = 88172645463325252ULL; /* xorshift64, Marsaglia 2003 */
        static uint8_t
                in_hand[RECORD_MAX]; /* a client has just read its record: that it has many is this program's doing */

        for (int i = 0; i < IN_ROUND; i++) {
                struct bytes record;
                uint64_t begin;

                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                record = list->records[state % list->n];
                memcpy(in_hand, record.data, record.n);
                begin = samples_now();
                get(lkm, (struct bytes){ in_hand, record.n });
                samples_add(s, samples_now() - begin);
        }
}

static void connect_round(struct bytes record, struct samples *s)
{
        for (int i = 0; i < IN_ROUND / 10; i++) {
                uint64_t begin = samples_now();
                struct lkm *lkm;

                must(lkm_connect(&lkm, NULL), NULL);
                get(lkm, record);
                lkm_free(&lkm);
                samples_add(s, samples_now() - begin);
        }
}

static void count_answer(void *userdata, int error, const char *message, struct lkm_key *key)
{
        if (error)
                fail(lkm_error_name(error), message);
        lkm_key_free(&key);
        ++*(size_t *)userdata;
}

static void pipeline_round(struct lkm *lkm, struct bytes record, struct samples *s)
{
        for (int i = 0; i < IN_ROUND / DEPTH; i++) {
                size_t n = 0;
                uint64_t begin = samples_now();

                for (int k = 0; k < DEPTH; k++)
                        must(lkm_get_begin(lkm, record.data, record.n, NULL, count_answer, &n), lkm);
                while (n < DEPTH) {
                        struct pollfd fd = { .fd = lkm_fd(lkm), .events = lkm_events(lkm) };

                        poll(&fd, 1, lkm_timeout_msec(lkm));
                        must(lkm_dispatch(lkm), lkm);
                }
                samples_add(s, (samples_now() - begin) / DEPTH);
        }
}

static size_t get_size(struct bytes record)
{
        union message request = { .get = { .number_ = MESSAGE_GET, .record = record } };

        size_t n;

        if (message_measure(&request, &n) < 0)
                fail("floor", "a record does not fit a frame");
        return n;
}

static void bench_get(FILE *json)
{
        struct record_list list = {};
        struct samples bare, kept, once, deep;
        struct lkm *lkm = connect_now();
        struct figure figure;
        struct floor f;
        double base;

        record_list_grow(&list, lkm, 1);
        lkm_free(&lkm);
        floor_start(&f, get_size(list.records[0]), ANSWER_SIZE);
        lkm = connect_now();
        samples_init(&bare, (size_t)ROUNDS * IN_ROUND);
        samples_init(&kept, (size_t)ROUNDS * IN_ROUND);
        samples_init(&once, (size_t)ROUNDS * IN_ROUND);
        samples_init(&deep, (size_t)ROUNDS * IN_ROUND);
        for (int round = 0; round < ROUNDS; round++) {
                floor_round(&f, &bare);
                get_round(lkm, &list, &kept);
                connect_round(list.records[0], &once);
                pipeline_round(lkm, list.records[0], &deep);
        }
        floor_end(&f);
        figure = figure_of("floor: ping-pong over AF_UNIX", &bare, 0, "");
        base = figure.median_usec;
        figure.base_usec = base;
        figure_print(&figure, json);
        figure = figure_of("cached get, kept connection", &kept, base, "<= 1.5 x floor");
        figure_print(&figure, json);
        figure = figure_of("connect + cached get + close", &once, base, "");
        figure_print(&figure, json);
        figure = figure_of("cached get, 64 in flight, each", &deep, base, "");
        figure_print(&figure, json);
        lkm_free(&lkm);
}

/* ---- the same get of three daemons, round by round, so that a drift of the machine meets all three ---- */

enum { SIDES = 3 };

struct side {
        const char *name, *target;
        struct lkm *lkm;
        struct record_list list;
        struct samples samples;
};

static struct lkm *connect_to(const char *socket)
{
        struct lkm_options options = { .socket = socket };
        struct lkm *lkm;

        must(lkm_connect(&lkm, &options), NULL);
        must(lkm_ping(lkm), lkm);
        return lkm;
}

static void compare(FILE *json, struct side *sides)
{
        double base = 0;

        for (size_t i = 0; i < SIDES; i++)
                samples_init(&sides[i].samples, (size_t)ROUNDS * IN_ROUND);
        for (int round = 0; round < ROUNDS; round++) {
                for (size_t i = 0; i < SIDES; i++)
                        get_round(sides[i].lkm, &sides[i].list, &sides[i].samples);
        }
        for (size_t i = 0; i < SIDES; i++) {
                struct figure figure = figure_of(sides[i].name, &sides[i].samples, base, sides[i].target);

                if (i == 0)
                        base = figure.base_usec = figure.median_usec;
                figure_print(&figure, json);
                lkm_free(&sides[i].lkm);
        }
}

static void bench_keys(FILE *json, char **sockets)
{
        static const size_t sizes[SIDES] = { 10, 1000, 100000 };
        struct side sides[SIDES] = { { .name = "cached get, 10 keys", .target = "" },
                                     { .name = "cached get, 1,000 keys", .target = "" },
                                     { .name = "cached get, 100,000 keys", .target = "<= 1.1 x that at 10" } };

        for (size_t i = 0; i < SIDES; i++) {
                sides[i].lkm = connect_to(sockets[i]);
                record_list_grow(&sides[i].list, sides[i].lkm, sizes[i]);
        }
        compare(json, sides);
}

static void bench_connections(FILE *json, char **sockets)
{
        static const size_t counts[SIDES] = { 1, 100, 1000 };
        struct side sides[SIDES] = { { .name = "cached get, 1 idle connection", .target = "" },
                                     { .name = "cached get, 100 idle connections", .target = "" },
                                     { .name = "cached get, 1,000 idle connections", .target = "<= 1.1 x that at 1" } };

        for (size_t i = 0; i < SIDES; i++) {
                sides[i].lkm = connect_to(sockets[i]);
                record_list_grow(&sides[i].list, sides[i].lkm, 1);
                for (size_t k = 0; k < counts[i]; k++)
                        connect_to(sockets[i]); /* until this process ends */
        }
        compare(json, sides);
}

int main(int argc, char **argv)
{
        FILE *json = argc > 2 ? fopen(argv[1], "ae") : NULL;

        if (!json)
                fail("usage", "bench-get JSON-FILE get | keys SOCKET SOCKET SOCKET | connections SOCKET SOCKET SOCKET");
        if (argc == 3 && strcmp(argv[2], "get") == 0)
                bench_get(json);
        else if (argc == 3 + SIDES && strcmp(argv[2], "keys") == 0)
                bench_keys(json, argv + 3);
        else if (argc == 3 + SIDES && strcmp(argv[2], "connections") == 0)
                bench_connections(json, argv + 3);
        return fclose(json) == 0 ? 0 : 1;
}
