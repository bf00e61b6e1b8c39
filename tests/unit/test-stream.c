/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/stream.h"

#include <check.h>
#include <errno.h>
#include <sys/socket.h>

enum { N_LARGE = 8, OUT_MAX = 4 * FRAME_MAX };

static int ends[2];
static struct stream *near, *far;
static uint8_t record[RECORD_MAX];

static void setup(void)
{
        ck_assert_int_eq(secret_arena_init(64, N_LARGE, 0, NULL), 0);
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        ck_assert_int_eq(stream_new(&near, ends[0], OUT_MAX), 0);
        ck_assert_int_eq(stream_new(&far, ends[1], OUT_MAX), 0);
        for (size_t i = 0; i < sizeof(record); i++)
                record[i] = (uint8_t)(i * 7);
}

static void teardown(void)
{
        size_t small, large;

        near = stream_free(near);
        far = stream_free(far);
        close(ends[0]);
        close(ends[1]);
        secret_arena_usage(&small, NULL, &large, NULL);
        ck_assert_uint_eq(small, 0);
        ck_assert_uint_eq(large, 0);
        secret_arena_deinit();
}

static size_t large_used(void)
{
        size_t used;

        secret_arena_usage(NULL, NULL, &used, NULL);
        return used;
}

static union message get_message(size_t n)
{
        return (union message){ .get = { .number_ = MESSAGE_GET, .record = { record, n } } };
}

static int queue_get(struct stream *s, size_t n, uint32_t id)
{
        union message message = get_message(n);

        return stream_queue(s, &message, id);
}

static void expect_get(struct stream *s, size_t n_record, uint32_t id)
{
        struct frame_header header;
        const uint8_t *data;
        union message message;
        size_t n;

        ck_assert_int_eq(stream_next(s, &header, &data, &n), 0);
        ck_assert_uint_eq(header.request_id, id);
        ck_assert_int_eq(message_unpack(&message, data, n), 0);
        ck_assert_uint_eq(message.number, MESSAGE_GET);
        ck_assert(bytes_equal(message.get.record, (struct bytes){ record, n_record }));
}

static int next(struct stream *s)
{
        struct frame_header header;
        const uint8_t *data;
        size_t n;

        return stream_next(s, &header, &data, &n);
}

START_TEST(an_idle_stream_holds_no_slot)
{
        ck_assert_uint_eq(large_used(), 0);
        ck_assert_int_eq(queue_get(near, 100, 1), 0);
        ck_assert_uint_eq(large_used(), 1);
        ck_assert_int_eq(stream_flush(near, MSG_DONTWAIT), 0);
        ck_assert_uint_eq(large_used(), 0);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert(stream_received_all(far));
        ck_assert_uint_eq(large_used(), 1);
        expect_get(far, 100, 1);
        ck_assert_uint_eq(large_used(), 1);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        ck_assert_uint_eq(large_used(), 0);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), STREAM_E_AGAIN);
        ck_assert_uint_eq(large_used(), 0);
}
END_TEST

START_TEST(many_frames_are_one_send_and_two_receives)
{
        uint8_t all[SECRET_LARGE_MAX];
        ssize_t n;

        for (uint32_t id = 0; id < 64; id++)
                ck_assert_int_eq(queue_get(near, 64, id), 0);
        ck_assert_uint_eq(large_used(), 1);
        ck_assert_int_eq(stream_flush(near, MSG_DONTWAIT), 0);
        n = recv(ends[1], all, sizeof(all), MSG_PEEK | MSG_DONTWAIT);
        ck_assert_int_eq(n, 64 * (FRAME_HEADER_SIZE + FRAME_FIELD_HEADER_SIZE + 64));
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0); /* a slot is used in part at first */
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        for (uint32_t id = 0; id < 64; id++)
                expect_get(far, 64, id);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
}
END_TEST

START_TEST(received_bytes_lie_in_the_arena_and_are_wiped)
{
        static const uint8_t zero[FRAME_HEADER_SIZE + FRAME_FIELD_HEADER_SIZE + 64];
        struct frame_header header;
        const uint8_t *first, *second;
        size_t n;

        ck_assert_int_eq(queue_get(near, 64, 1), 0);
        ck_assert_int_eq(queue_get(near, 64, 2), 0);
        ck_assert_int_eq(stream_flush(near, 0), 0);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert_int_eq(stream_next(far, &header, &first, &n), 0);
        ck_assert(secret_arena_contains(first));
        ck_assert_uint_eq(n, sizeof(zero));
        ck_assert_int_eq(stream_next(far, &header, &second, &n), 0);
        ck_assert(bytes_equal((struct bytes){ first, n }, (struct bytes){ zero, n }));
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        ck_assert(bytes_equal((struct bytes){ second, n }, (struct bytes){ zero, n }));
}
END_TEST

START_TEST(large_frames_pass_between_small_ones)
{
        static const size_t sizes[] = { 10, SECRET_LARGE_MAX, 20, RECORD_MAX, RECORD_MAX, 30, 8174, 8175, 8173, 1 };
        size_t received = 0;

        for (uint32_t i = 0; i < ELEMENTSOF(sizes); i++)
                ck_assert_int_eq(queue_get(near, sizes[i], i), 0);
        while (received < ELEMENTSOF(sizes)) {
                int r = stream_flush(near, MSG_DONTWAIT);
                struct frame_header header;
                const uint8_t *data;
                size_t n;

                ck_assert(r == 0 || r == STREAM_E_AGAIN);
                ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
                while ((r = stream_next(far, &header, &data, &n)) == 0) {
                        union message message;

                        ck_assert_uint_eq(header.request_id, received);
                        ck_assert_int_eq(message_unpack(&message, data, n), 0);
                        ck_assert(bytes_equal(message.get.record, (struct bytes){ record, sizes[received] }));
                        ck_assert(secret_arena_contains(data) == (n <= SECRET_LARGE_MAX));
                        received++;
                }
                ck_assert_int_eq(r, STREAM_E_AGAIN);
        }
        ck_assert_uint_eq(large_used(), 0);
        ck_assert_uint_eq(stream_pending(near), 0);
}
END_TEST

START_TEST(a_frame_that_straddles_the_end_of_the_slot_is_put_together)
{
        /* 5 frames of 3018 bytes: two and a part fit, and so on. */
        for (uint32_t id = 0; id < 5; id++)
                ck_assert_int_eq(queue_get(near, 3000, id), 0);
        ck_assert_int_eq(stream_flush(near, MSG_DONTWAIT), 0);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert(!stream_received_all(far));
        expect_get(far, 3000, 0);
        expect_get(far, 3000, 1);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        expect_get(far, 3000, 2);
        expect_get(far, 3000, 3);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert(stream_received_all(far));
        expect_get(far, 3000, 4);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
}
END_TEST

START_TEST(a_receive_before_the_frames_are_taken_loses_none)
{
        for (uint32_t id = 0; id < 3; id++)
                ck_assert_int_eq(queue_get(near, SECRET_LARGE_MAX / 2 - 18, id), 0);
        ck_assert_int_eq(stream_flush(near, MSG_DONTWAIT), 0);
        for (int i = 0; i < 3; i++)
                ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert(!stream_received_all(far));
        expect_get(far, SECRET_LARGE_MAX / 2 - 18, 0);
        expect_get(far, SECRET_LARGE_MAX / 2 - 18, 1);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        shutdown(ends[0], SHUT_WR);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), STREAM_E_CLOSED);
        expect_get(far, SECRET_LARGE_MAX / 2 - 18, 2);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), STREAM_E_CLOSED);
}
END_TEST

START_TEST(an_end_between_frames_is_orderly_and_inside_is_not)
{
        ck_assert_int_eq(queue_get(near, 64, 1), 0);
        ck_assert_int_eq(stream_flush(near, 0), 0);
        ck_assert_int_eq(send(ends[0], "\0\0\0", 3, 0), 3);
        shutdown(ends[0], SHUT_WR);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        expect_get(far, 64, 1);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), STREAM_E_INVALID);

        shutdown(ends[1], SHUT_WR);
        ck_assert_int_eq(stream_receive(near, MSG_DONTWAIT), STREAM_E_CLOSED);
        ck_assert_int_eq(stream_receive(near, MSG_DONTWAIT), STREAM_E_CLOSED);
}
END_TEST

START_TEST(an_end_inside_a_large_frame_is_not_orderly)
{
        uint8_t header[FRAME_HEADER_SIZE] = { 0, 0, 0x40, 0, 0, MESSAGE_GET };

        ck_assert_int_eq(send(ends[0], header, sizeof(header), 0), sizeof(header));
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        ck_assert_uint_eq(large_used(), 0);
        shutdown(ends[0], SHUT_WR);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), STREAM_E_INVALID);
}
END_TEST

START_TEST(a_broken_frame_ends_the_stream_for_good)
{
        uint8_t header[FRAME_HEADER_SIZE] = { 0, 0, 0x40, 0, 0x80, 0x11 }; /* a KEY of 16 KiB */

        ck_assert_int_eq(send(ends[0], header, sizeof(header), 0), sizeof(header));
        ck_assert_int_eq(queue_get(near, 64, 1), 0);
        ck_assert_int_eq(stream_flush(near, 0), 0);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert_int_eq(next(far), STREAM_E_INVALID);
        ck_assert_int_eq(next(far), STREAM_E_INVALID);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), STREAM_E_INVALID);
        ck_assert_uint_eq(large_used(), 0);
}
END_TEST

START_TEST(what_waits_unsent_is_bounded)
{
        uint32_t id = 0;
        int r;

        while ((r = queue_get(near, RECORD_MAX, id)) == 0)
                id++;
        ck_assert_int_eq(r, -ENOBUFS);
        ck_assert_uint_eq(id, OUT_MAX / (RECORD_MAX + FRAME_HEADER_SIZE + FRAME_FIELD_HEADER_SIZE));
        ck_assert_uint_le(stream_pending(near), OUT_MAX);
}
END_TEST

START_TEST(a_slow_reader_gets_every_byte_in_order)
{
        uint32_t sent = 0, received = 0;
        int sndbuf = 4096;

        setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
        while (received < 100) {
                struct frame_header header;
                const uint8_t *data;
                size_t n;
                int r;

                for (; sent < 100 && stream_pending(near) < 3 * SECRET_LARGE_MAX; sent++)
                        ck_assert_int_eq(queue_get(near, 1 + sent * 97, sent), 0);
                r = stream_flush(near, MSG_DONTWAIT);
                ck_assert(r == 0 || r == STREAM_E_AGAIN);
                ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
                while (stream_next(far, &header, &data, &n) == 0) {
                        ck_assert_uint_eq(header.request_id, received);
                        ck_assert_uint_eq(n, 18 + 1 + received * 97);
                        received++;
                }
        }
        ck_assert_uint_eq(large_used(), 0);
}
END_TEST

START_TEST(without_a_slot_keys_wait_and_other_answers_do_not)
{
        struct secret *slots[N_LARGE], *key;
        static const uint8_t id[UUID_SIZE] = { 1 };
        union message done = { .done = { .number_ = MESSAGE_DONE } }, message;

        ck_assert_int_eq(secret_new_random(&key, KEY_SIZE), 0);
        for (size_t i = 0; i < N_LARGE; i++)
                ck_assert_int_eq(secret_new(&slots[i], SECRET_LARGE_MAX), 0);
        message = (union message){
                .key = { .number_ = MESSAGE_KEY, .key = key, .database_id = id, .scope = BYTES_LITERAL("s") }
        };
        ck_assert_int_eq(stream_queue(near, &done, 1), 0);
        ck_assert_int_eq(stream_queue(near, &message, 2), -ENOBUFS);
        secret_unref(slots[0]);
        ck_assert_int_eq(stream_queue(near, &message, 2), 0);
        ck_assert_int_eq(stream_flush(near, 0), 0);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert_int_eq(next(far), 0);
        ck_assert_int_eq(next(far), 0);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        secret_unref(key);
        for (size_t i = 1; i < N_LARGE; i++)
                secret_unref(slots[i]);
}
END_TEST

/* The begin of a frame, and nothing more for now. */
static void send_begin(const uint8_t *frame, size_t n)
{
        ck_assert_int_eq(send(ends[0], frame, n, 0), (ssize_t)n);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
        ck_assert_int_eq(stream_rest(far), 0);
}

START_TEST(the_begin_of_a_frame_holds_no_slot_at_any_length)
{
        static uint8_t frame[FRAME_MAX];
        union message message = get_message(1500);
        size_t n, bytes;
        unsigned slots;

        ck_assert_int_eq(message_pack(&message, 9, frame, sizeof(frame), &n), 0);
        for (size_t i = 1; i < n; i += i < 40 ? 1 : 211) {
                send_begin(frame, i);
                ck_assert_uint_eq(large_used(), 0);
                ck_assert(stream_holds_input(far));
                stream_held(far, &bytes, &slots);
                ck_assert_uint_eq(slots, 0);
                ck_assert_uint_eq(bytes, i < FRAME_HEADER_SIZE ? 0 : n); /* counted in whole before it is there */
                ck_assert_int_eq(send(ends[0], frame + i, n - i, 0), (ssize_t)(n - i));
                ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
                expect_get(far, 1500, 9);
                ck_assert_int_eq(next(far), STREAM_E_AGAIN);
                ck_assert_int_eq(stream_rest(far), 0);
                ck_assert(!stream_holds_input(far));
        }
}
END_TEST

START_TEST(one_byte_at_a_time_is_a_frame_in_the_end)
{
        static uint8_t frame[FRAME_MAX];
        union message message = get_message(100);
        size_t n;

        ck_assert_int_eq(message_pack(&message, 9, frame, sizeof(frame), &n), 0);
        for (size_t i = 0; i + 1 < n; i++)
                send_begin(frame + i, 1);
        ck_assert_int_eq(send(ends[0], frame + n - 1, 1, 0), 1);
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), 0);
        expect_get(far, 100, 9);
        ck_assert_int_eq(next(far), STREAM_E_AGAIN);
}
END_TEST

START_TEST(an_end_inside_a_header_that_rests_is_not_orderly)
{
        send_begin((const uint8_t[]){ 0, 0 }, 2);
        close(ends[0]);
        ends[0] = -1;
        ck_assert_int_eq(stream_receive(far, MSG_DONTWAIT), STREAM_E_INVALID);
}
END_TEST

START_TEST(the_begin_of_a_frame_with_a_key_stays_in_the_arena)
{
        static uint8_t frame[FRAME_MAX];
        struct secret *key;
        union message message = { .import = { .number_ = MESSAGE_IMPORT } };
        size_t n, bytes;
        unsigned slots;

        ck_assert_int_eq(secret_new_random(&key, KEY_SIZE), 0);
        message.import.key = key;
        ck_assert_int_eq(message_pack(&message, 9, frame, sizeof(frame), &n), 0);
        secret_unref(key);
        send_begin(frame, n - 1);
        ck_assert_uint_eq(large_used(), 1);
        stream_held(far, &bytes, &slots);
        ck_assert_uint_eq(slots, 1);
        ck_assert_uint_eq(bytes, SECRET_LARGE_MAX);
}
END_TEST

START_TEST(a_message_that_cannot_be_packed_says_why)
{
        union message message = { .get = { .number_ = MESSAGE_GET } };

        ck_assert_int_eq(stream_queue(near, &message, 1), -EINVAL);
        message.get.record = (struct bytes){ record, RECORD_MAX + 1 };
        ck_assert_int_eq(stream_queue(near, &message, 1), -EMSGSIZE);
        ck_assert_uint_eq(stream_pending(near), 0);
        ck_assert_int_eq(stream_flush(near, 0), 0);
}
END_TEST

START_TEST(a_peer_that_is_gone_is_an_error_and_no_signal)
{
        close(ends[1]);
        ends[1] = -1;
        ck_assert_int_eq(queue_get(near, 64, 1), 0);
        ck_assert_int_eq(stream_flush(near, 0), -EPIPE);
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("stream");
        TCase *c = tcase_create("stream");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_add_test(c, an_idle_stream_holds_no_slot);
        tcase_add_test(c, many_frames_are_one_send_and_two_receives);
        tcase_add_test(c, received_bytes_lie_in_the_arena_and_are_wiped);
        tcase_add_test(c, large_frames_pass_between_small_ones);
        tcase_add_test(c, a_frame_that_straddles_the_end_of_the_slot_is_put_together);
        tcase_add_test(c, a_receive_before_the_frames_are_taken_loses_none);
        tcase_add_test(c, an_end_between_frames_is_orderly_and_inside_is_not);
        tcase_add_test(c, an_end_inside_a_large_frame_is_not_orderly);
        tcase_add_test(c, a_broken_frame_ends_the_stream_for_good);
        tcase_add_test(c, what_waits_unsent_is_bounded);
        tcase_add_test(c, a_slow_reader_gets_every_byte_in_order);
        tcase_add_test(c, without_a_slot_keys_wait_and_other_answers_do_not);
        tcase_add_test(c, the_begin_of_a_frame_holds_no_slot_at_any_length);
        tcase_add_test(c, one_byte_at_a_time_is_a_frame_in_the_end);
        tcase_add_test(c, an_end_inside_a_header_that_rests_is_not_orderly);
        tcase_add_test(c, the_begin_of_a_frame_with_a_key_stays_in_the_arena);
        tcase_add_test(c, a_message_that_cannot_be_packed_says_why);
        tcase_add_test(c, a_peer_that_is_gone_is_an_error_and_no_signal);
        suite_add_tcase(suite, c);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed > 0;
}
