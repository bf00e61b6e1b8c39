/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A socket may hand over a run of frames in any pieces. Whatever the pieces, the stream gives the same frames: the run
 * of all golden frames is cut in two at every byte, and into single bytes; so is a run with frames too large for a slot.
 */
#include <check.h>
#include <sys/socket.h>

#include "proto/stream.h"
#include "tests/wire/golden.h"

enum { RUN_MAX = 256 * 1024 };

static struct golden *vectors;
static size_t n_vectors;
static uint8_t run[RUN_MAX];
static size_t n_run;
static int ends[2];

static void setup(void)
{
        int size = RUN_MAX * 2;

        ck_assert_int_eq(secret_arena_init(16, 4, 0, NULL), 0);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        ck_assert_int_eq(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
        n_run = 0;
}

static void teardown(void)
{
        size_t used;

        close(ends[0]);
        close(ends[1]);
        secret_arena_usage(NULL, NULL, &used, NULL);
        ck_assert_uint_eq(used, 0);
        secret_arena_deinit();
}

static void run_append(const uint8_t *data, size_t n)
{
        ck_assert_uint_le(n_run + n, RUN_MAX);
        memcpy(run + n_run, data, n);
        n_run += n;
}

/* Take every whole frame that has come and compare it with @run at *@at. */
static void take(struct stream *s, size_t *at)
{
        struct frame_header header;
        const uint8_t *data;
        size_t n;
        int r;

        while ((r = stream_next(s, &header, &data, &n)) == 0) {
                ck_assert_uint_eq(header.length, n);
                ck_assert_uint_le(*at + n, n_run);
                ck_assert(bytes_equal((struct bytes){ data, n }, (struct bytes){ run + *at, n }));
                *at += n;
        }
        ck_assert_int_eq(r, STREAM_E_AGAIN);
}

/* Send run[from..to) and receive until nothing is left. */
static void pass(struct stream *s, size_t from, size_t to, size_t *at)
{
        ck_assert_int_eq(send(ends[0], run + from, to - from, MSG_DONTWAIT), (ssize_t)(to - from));
        for (;;) {
                int r = stream_receive(s, MSG_DONTWAIT);

                if (r == STREAM_E_AGAIN)
                        return;
                ck_assert_int_eq(r, 0);
                take(s, at);
        }
}

static void all_golden_frames(void)
{
        for (size_t i = 0; i < n_vectors; i++)
                run_append(vectors[i].frame, vectors[i].n_frame);
}

START_TEST(a_cut_at_any_byte_changes_nothing)
{
        _cleanup_(stream_freep) struct stream *s = NULL;

        all_golden_frames();
        ck_assert_int_eq(stream_new(&s, ends[1], 0), 0);
        for (size_t cut = 1; cut < n_run; cut++) {
                size_t at = 0;

                pass(s, 0, cut, &at);
                ck_assert_uint_le(at, cut);
                pass(s, cut, n_run, &at);
                ck_assert_uint_eq(at, n_run);
        }
}
END_TEST

START_TEST(single_bytes_change_nothing)
{
        _cleanup_(stream_freep) struct stream *s = NULL;
        size_t at = 0;

        all_golden_frames();
        ck_assert_int_eq(stream_new(&s, ends[1], 0), 0);
        for (size_t i = 0; i < n_run; i++)
                pass(s, i, i + 1, &at);
        ck_assert_uint_eq(at, n_run);
}
END_TEST

START_TEST(cuts_of_frames_larger_than_a_slot_change_nothing)
{
        _cleanup_(stream_freep) struct stream *s = NULL;
        static const size_t sizes[] = { 12, 9000, 30, 8192, 8193, 70000, 100 };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                /* An unknown message: the stream passes it on, whatever its fields. */
                uint8_t header[FRAME_HEADER_SIZE] = { 0, 0, 0, 0, 0x77, 0x77, 0, 0, 0, 0, 0, 0 };

                bytes_put_u32(header, (uint32_t)sizes[i] - 4);
                bytes_put_u32(header + 8, (uint32_t)i);
                run_append(header, sizeof(header));
                for (size_t j = sizeof(header); j < sizes[i]; j++)
                        run_append(&(uint8_t){ (uint8_t)(j * 31 + i) }, 1);
        }
        ck_assert_int_eq(stream_new(&s, ends[1], 0), 0);
        for (size_t cut = 1; cut < n_run; cut += cut % 8192 < 40 || cut % 8192 > 8150 ? 1 : 61) {
                size_t at = 0;

                pass(s, 0, cut, &at);
                pass(s, cut, n_run, &at);
                ck_assert_uint_eq(at, n_run);
        }
}
END_TEST

int main(int argc, char **argv)
{
        Suite *suite = suite_create("split");
        TCase *c = tcase_create("split");
        SRunner *runner;
        int failed;

        if (argc != 2)
                return 2;
        vectors = golden_load(argv[1], &n_vectors);
        tcase_set_timeout(c, 100);
        tcase_add_checked_fixture(c, setup, teardown);
        tcase_add_test(c, a_cut_at_any_byte_changes_nothing);
        tcase_add_test(c, single_bytes_change_nothing);
        tcase_add_test(c, cuts_of_frames_larger_than_a_slot_change_nothing);
        suite_add_tcase(suite, c);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        golden_free(vectors, n_vectors);
        return failed > 0;
}
