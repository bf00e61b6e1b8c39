/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole lkmd, started once in a thread of its own, and a client that does what the input says: sound requests on the record that it was last given,
 * the same with a byte changed, any frame, any bytes; and a KMS that answers well, badly or not at all. After each input another client finds lkmd
 * well, and makes it forget. No key leaves but those that the KMS made, and none for a record that was changed.
 *
 * An input is a list of steps: a byte that names one of `steps`, and what that takes.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "proto/frame.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"
#include "tests/fuzz/session-kms.h"

enum { STEPS_MAX = 64, HEADER = 12, CHANGED = 0x8000 };

int lkmd_main(int argc, char **argv);
/* What is held by the thread of lkmd to the end of the process is no leak. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "detect_leaks=0";
}

struct client {
        int fd; /* -1: closed */
        size_t n;
        uint32_t n_done; /* answers to PING */
        uint8_t in[2 * FRAME_ROOM];
};
static struct client client, keeper; /* the keeper is always there, and an administrator */
static uint8_t record[RECORD_MAX];
static size_t n_record;
static uint32_t next_id, n_imported;
static uint8_t out[FRAME_ROOM];

/* ---- the daemon ---- */

static void *daemon_run(void *unused)
{
        static char name[] = "lkmd", option[] = "--config";
        static char path[256];

        snprintf(path, sizeof(path), "%s", scratch_path("lkmd.conf"));
        lkmd_main(3, (char *[]){ name, option, path, NULL });
        abort(); /* it says why */
}

static int connect_to(const char *path)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        memcpy(address.sun_path, path, strlen(path));
        while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
                check(errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN);
                poll(NULL, 0, 1); /* it is starting */
        }
        return fd;
}

static void daemon_start(void)
{
        char text[1024];
        pthread_t thread;

        snprintf(text, sizeof(text),
                 "[lkmd]\nsocket = %s\nkms_socket = %s\naudit_file = %s\naudit_sync = batch\ncache_keys = 64\nuser_rate = 0\nlog_level = error\nkms_timeout = 2s\n"
                 "admin = uid:%u\n[kek k]\nkms_type = socket\nprovider_socket = /nonexistent\n[kek l]\nkms_type = socket\nprovider_socket = /nonexistent\n"
                 "[scope s]\nkeks = k\nencryption_context = a=b\nallow = uid:%u\nallow_history = uid:%u\n[scope t]\nkeks = l, k\nallow = uid:%u\n",
                 scratch_path("lkm.sock"), scratch_path("kms.sock"), scratch_path("audit.jsonl"), getuid(), getuid(), getuid(), getuid());
        scratch_write("lkmd.conf", bytes_from_string(text));
        session_kms_listen(scratch_path("kms.sock"));
        check(pthread_create(&thread, NULL, daemon_run, NULL) == 0);
}

/* ---- talking to it ---- */

static void client_close(struct client *c)
{
        if (c->fd >= 0)
                close(c->fd);
        c->fd = -1;
        c->n = 0;
}

static void client_send(struct client *c, struct bytes data)
{
        while (c->fd >= 0 && data.n > 0) {
                ssize_t n = send(c->fd, data.data, data.n, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0)
                        return; /* it has gone, or does not read on: what follows tells */
                data.data += n;
                data.n -= (size_t)n;
        }
}

static void take_answer(struct client *c, struct bytes frame)
{
        uint16_t number = bytes_get_u16(frame.data + 4);
        uint32_t id = bytes_get_u32(frame.data + 8);
        struct bytes value = frame_find(frame, 1);

        check(number & 0x8000);
        if (number == MESSAGE_KEY) {
                check(value.n == KEY_SIZE && c == &client);
                check(!(id & CHANGED));
                check(session_kms_is_key(value.data) || n_imported > 0);
        }
        if (number == MESSAGE_RECORD && c == &client) {
                check(value.n > 0 && value.n <= RECORD_MAX);
                memcpy(record, value.data, value.n);
                n_record = value.n;
        }
        c->n_done += number == MESSAGE_DONE;
        if (c == &keeper && number != MESSAGE_DONE && number != MESSAGE_WELCOME) {
                value = frame_find(frame, 2);
                fprintf(stderr, "the keeper is told: %.*s\n", (int)value.n, (const char *)value.data);
                abort();
        }
}

/* Return: whether something came. */
static bool client_read(struct client *c)
{
        ssize_t n = c->fd < 0 ? 0 : recv(c->fd, c->in + c->n, sizeof(c->in) - c->n, MSG_DONTWAIT);

        if (c->fd < 0 || (n < 0 && errno == EAGAIN))
                return false;
        if (n <= 0) {
                check(c == &client);
                client_close(c);
                return true;
        }
        c->n += (size_t)n;
        while (c->n >= 4 && c->n >= 4 + (size_t)bytes_get_u32(c->in)) {
                size_t length = 4 + (size_t)bytes_get_u32(c->in);

                check(length >= HEADER && length <= FRAME_MAX);
                take_answer(c, (struct bytes){ c->in, length });
                memmove(c->in, c->in + length, c->n - length);
                c->n -= length;
        }
        return true;
}

static void ask_keeper(uint16_t number)
{
        uint32_t n_before = keeper.n_done;

        client_send(&keeper, (struct bytes){ out, frame_end(out, frame_begin(out, number, 1)) });
        while (keeper.n_done == n_before) {
                struct pollfd fds[10];
                size_t n = session_kms_poll(fds);
                int n_ready;

                fds[n++] = (struct pollfd){ .fd = keeper.fd, .events = POLLIN };
                n_ready = poll(fds, n, 20000);
                check(n_ready > 0 || (n_ready < 0 && errno == EINTR)); /* by libFuzzer's own timer */
                session_kms_serve();
                client_read(&keeper);
        }
}

/* Until lkmd has read what was sent, has asked what it wants to ask, and has answered. */
static void settle(void)
{
        bool something;

        do {
                ask_keeper(MESSAGE_PING);
                ask_keeper(MESSAGE_PING);
                something = session_kms_serve();
                something |= client_read(&client);
        } while (something);
}

/* ---- the steps ---- */

static void greet(struct client *c)
{
        size_t n = frame_begin(out, MESSAGE_HELLO, ++next_id);

        n = frame_number(out, n, 1, 2, 1);
        n = frame_number(out, n, 2, 2, 1);
        client_send(c, (struct bytes){ out, frame_end(out, n) });
}

static void step_connect(struct bytes *input)
{
        client_close(&client);
        client.fd = connect_to(scratch_path("lkm.sock"));
        greet(&client);
}

static void step_bytes(struct bytes *input)
{
        client_send(&client, fuzz_take(input, fuzz_byte(input)));
}

/* Any fields of any message, but framed. */
static void step_frame(struct bytes *input)
{
        uint16_t number = (uint16_t)(fuzz_byte(input) << 8 | fuzz_byte(input));
        size_t n = frame_begin(out, number, ++next_id);
        struct bytes fields = fuzz_take(input, fuzz_byte(input));

        if (fields.n > 0)
                memcpy(out + n, fields.data, fields.n);
        n_imported += number == MESSAGE_IMPORT;
        client_send(&client, (struct bytes){ out, frame_end(out, n + fields.n) });
}

static void step_create(struct bytes *input)
{
        size_t n = frame_begin(out, MESSAGE_CREATE, ++next_id);

        n = frame_field(out, n, 1, fuzz_byte(input) & 1 ? BYTES_LITERAL("t") : BYTES_LITERAL("s"));
        client_send(&client, (struct bytes){ out, frame_end(out, n) });
}

static bool is_space(uint8_t c)
{
        return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* A request with the last record: as it was given, or with one byte changed; a number as field 2. */
static void step_record(struct bytes *input)
{
        static const uint16_t numbers[] = { MESSAGE_GET,   MESSAGE_CHECK, MESSAGE_EVICT,  MESSAGE_EXPLAIN, MESSAGE_ROTATE, MESSAGE_COMMIT, MESSAGE_ABORT,
                                            MESSAGE_PURGE, MESSAGE_REWRAP, MESSAGE_REKEK, MESSAGE_LEASE,   MESSAGE_QUIESCE, MESSAGE_UPGRADE };
        uint16_t number = numbers[fuzz_byte(input) % ELEMENTSOF(numbers)];
        uint8_t at = fuzz_byte(input), changed = fuzz_byte(input), value = fuzz_byte(input);
        size_t i = n_record > 0 ? (size_t)at * n_record / 256 : 0, n;
        uint8_t before = n_record > 0 ? record[i] : 0;

        record[i] ^= changed;
        n = frame_begin(out, number, ++next_id | (changed && n_record > 0 && !(is_space(before) && is_space(record[i])) ? CHANGED : 0));
        n = frame_field(out, n, 1, (struct bytes){ record, n_record });
        if (number == MESSAGE_GET && value)
                n = frame_number(out, n, 3, 4, value);
        else if (number == MESSAGE_COMMIT || number == MESSAGE_ABORT || number == MESSAGE_PURGE || number == MESSAGE_ROTATE)
                n = frame_number(out, n, 2, 4, value);
        record[i] = before;
        client_send(&client, (struct bytes){ out, frame_end(out, n) });
}

static void step_plain(struct bytes *input)
{
        static const uint16_t numbers[] = { MESSAGE_PING, MESSAGE_STATUS, MESSAGE_LIST, MESSAGE_LOCK, MESSAGE_UNLOCK, MESSAGE_RESUME, MESSAGE_KEK_DESCRIBE };
        size_t n = frame_begin(out, numbers[fuzz_byte(input) % ELEMENTSOF(numbers)], ++next_id);

        client_send(&client, (struct bytes){ out, frame_end(out, n) });
}

static void step_kek(struct bytes *input)
{
        size_t n = frame_begin(out, fuzz_byte(input) & 1 ? MESSAGE_KEK_CHECK : MESSAGE_KEK_POLICY, ++next_id);

        n = frame_field(out, n, 1, BYTES_LITERAL("k"));
        client_send(&client, (struct bytes){ out, frame_end(out, n) });
}

static void step_yield(struct bytes *input)
{
        size_t n = frame_begin(out, MESSAGE_YIELD, ++next_id);

        n = frame_number(out, n, 1, 4, next_id - fuzz_byte(input));
        client_send(&client, (struct bytes){ out, frame_end(out, n) });
}

static void step_kms(struct bytes *input)
{
        enum session_mood mood = fuzz_byte(input) % MOOD_COUNT;
        uint8_t code = fuzz_byte(input);

        session_kms_set_mood(mood, code, fuzz_take(input, mood == MOOD_GARBAGE ? 4 : 0));
}

static void step_end(struct bytes *input)
{
        if (client.fd >= 0)
                shutdown(client.fd, SHUT_WR);
}

static void (*const steps[])(struct bytes *input) = { step_connect, step_bytes, step_frame, step_create, step_record, step_plain,
                                                      step_kek,     step_yield, step_kms,   step_end };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct bytes input = { data, n };

        if (keeper.fd <= 0) {
                daemon_start();
                keeper.fd = connect_to(scratch_path("lkm.sock"));
                greet(&keeper);
        }
        next_id = 0;
        session_kms_forget();
        n_imported = 0;
        n_record = 0;
        step_connect(&input);
        for (size_t i = 0; i < STEPS_MAX && input.n > 0; i++) {
                uint8_t step = fuzz_byte(&input);

                steps[step % ELEMENTSOF(steps)](&input);
                if (!(step & 0x80)) /* else the next one follows at once */
                        settle();
        }
        settle();
        client_close(&client);
        session_kms_set_mood(MOOD_GOOD, 0, (struct bytes){ 0 });
        settle();
        ask_keeper(MESSAGE_LOCK);
        ask_keeper(MESSAGE_UNLOCK);
        return 0;
}
