/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message_unpack() on any bytes. What it takes, message_pack() gives back: the same message, and the same bytes when
 * nothing was skipped or left out of them. No secret stays behind.
 */
#include "proto/frame.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        static uint8_t again[FRAME_MAX];
        union message message;
        size_t n_again, used;

        if (secret_arena_backing() == SECRET_BACKING_NONE)
                check(secret_arena_init(4, 1, 0, NULL) == 0);
        if (message_unpack(&message, data, n) == 0) {
                union message second;
                struct frame_header header;

                check(frame_header_unpack(&header, data, n) == 0);
                check(message_pack(&message, header.request_id, again, sizeof(again), &n_again) == 0);
                check(n_again == message_size(&message) && n_again <= n);
                if (n_again == n)
                        check(bytes_equal((struct bytes){ data, n }, (struct bytes){ again, n_again }));
                check(message_unpack(&second, again, n_again) == 0);
                check(second.number == message.number && message_size(&second) == n_again);
                message_deinit(&second);
                message_deinit(&message);
        }
        secret_arena_usage(&used, NULL, NULL, NULL);
        check(used == 0);
        return 0;
}
