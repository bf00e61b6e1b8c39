/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream on any bytes, in one piece and in two: both ways give the same frames and the same end. The first byte of the
 * input tells where the cut is. No slot of the arena stays behind.
 */
#include <sys/socket.h>

#include "proto/stream.h"
#include "tests/fuzz/fuzz.h"

/* What came out: enough to tell two runs apart. */
struct outcome {
        size_t n_frames;
        size_t n_bytes;
        uint64_t sum;
        int end;
};

static int take(struct stream *s, struct outcome *outcome)
{
        struct frame_header header;
        const uint8_t *data;
        size_t n;
        int r;

        while ((r = stream_next(s, &header, &data, &n)) == 0) {
                check(header.length == n);
                outcome->n_frames++;
                outcome->n_bytes += n;
                for (size_t i = 0; i < n; i++)
                        outcome->sum = outcome->sum * 31 + data[i];
        }
        return r;
}

static int receive_all(struct stream *s, struct outcome *outcome)
{
        for (;;) {
                int r = stream_receive(s, MSG_DONTWAIT);

                if (r == 0)
                        r = take(s, outcome);
                else if (r == STREAM_E_AGAIN)
                        return 0;
                if (r != STREAM_E_AGAIN)
                        return r;
        }
}

static struct outcome run(const uint8_t *data, size_t n, size_t cut)
{
        struct outcome outcome = { 0 };
        struct stream *s;
        int ends[2];

        check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        check(stream_new(&s, ends[1], 0) == 0);
        check(cut == 0 || send(ends[0], data, cut, MSG_DONTWAIT) == (ssize_t)cut);
        outcome.end = cut > 0 ? receive_all(s, &outcome) : 0;
        if (outcome.end == 0) {
                check(n == cut || send(ends[0], data + cut, n - cut, MSG_DONTWAIT) == (ssize_t)(n - cut));
                shutdown(ends[0], SHUT_WR);
                outcome.end = receive_all(s, &outcome);
        }
        stream_free(s);
        close(ends[0]);
        close(ends[1]);
        return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct outcome whole, cut;
        size_t used;

        if (secret_arena_backing() == SECRET_BACKING_NONE)
                check(secret_arena_init(4, 4, 0, NULL) == 0);
        /* More would not fit the socket's buffer. */
        if (n < 2 || n > 100000)
                return 0;
        whole = run(data + 1, n - 1, 0);
        cut = run(data + 1, n - 1, (size_t)data[0] * (n - 1) / 255);
        check(whole.n_frames == cut.n_frames && whole.n_bytes == cut.n_bytes && whole.sum == cut.sum);
        check(whole.end == cut.end);
        secret_arena_usage(NULL, NULL, &used, NULL);
        check(used == 0);
        return 0;
}
