/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/session-kms.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "proto/frame.h"

enum { PEERS_MAX = 7, HEADER = 12, KEY_FIRST = 0xd0, WRAP_SIZE = KEY_SIZE + 8 };

static struct peer {
        int fd; /* 0: free */
        size_t n;
        uint8_t in[FRAME_ROOM];
} peers[PEERS_MAX];
static int listen_fd;
static enum session_mood mood;
static uint8_t mood_code;
static struct bytes mood_garbage;
static uint32_t n_keys;
static bool gave_garbage; /* in place of a new key: lkmd cannot know, and hands it out */

/* ---- frames ---- */

size_t frame_begin(uint8_t *frame, uint16_t number, uint32_t request_id)
{
        bytes_put_u16(frame + 4, number);
        bytes_put_u16(frame + 6, 0);
        bytes_put_u32(frame + 8, request_id);
        return HEADER;
}

size_t frame_field(uint8_t *frame, size_t n, uint16_t tag, struct bytes value)
{
        check(n + 6 + value.n <= FRAME_ROOM);
        bytes_put_u16(frame + n, tag);
        bytes_put_u32(frame + n + 2, (uint32_t)value.n);
        if (value.n > 0)
                memcpy(frame + n + 6, value.data, value.n);
        return n + 6 + value.n;
}

size_t frame_number(uint8_t *frame, size_t n, uint16_t tag, unsigned size, uint32_t value)
{
        uint8_t bytes[4];

        bytes_put_u32(bytes, value);
        return frame_field(frame, n, tag, (struct bytes){ bytes + 4 - size, size });
}

size_t frame_end(uint8_t *frame, size_t n)
{
        bytes_put_u32(frame, (uint32_t)n - 4);
        return n;
}

struct bytes frame_find(struct bytes frame, uint16_t tag)
{
        for (size_t at = HEADER; at + 6 <= frame.n;) {
                size_t n = bytes_get_u32(frame.data + at + 2);

                check(n <= frame.n - at - 6);
                if (bytes_get_u16(frame.data + at) == tag)
                        return (struct bytes){ frame.data + at + 6, n };
                at += 6 + n;
        }
        return (struct bytes){ 0 };
}

/* ---- keys ---- */

static void key_make(uint8_t key[KEY_SIZE], uint32_t number)
{
        for (uint8_t i = 0; i < KEY_SIZE - 4; i++)
                key[i] = (uint8_t)(KEY_FIRST + i);
        bytes_put_u32(key + KEY_SIZE - 4, number);
}

bool session_kms_is_key(const uint8_t *key)
{
        uint8_t expected[KEY_SIZE];

        key_make(expected, bytes_get_u32(key + KEY_SIZE - 4));
        return gave_garbage || (bytes_get_u32(key + KEY_SIZE - 4) < n_keys && bytes_equal((struct bytes){ key, KEY_SIZE }, (struct bytes){ expected, KEY_SIZE }));
}

/* The key, not hidden at all, and a sum of the context. */
static void wrap_make(uint8_t wrap[WRAP_SIZE], const uint8_t *key, struct bytes context)
{
        uint64_t sum = UINT64_C(14695981039346656037);

        for (size_t i = 0; i < context.n; i++)
                sum = (sum ^ context.data[i]) * UINT64_C(1099511628211);
        memcpy(wrap, key, KEY_SIZE);
        bytes_put_u64(wrap + KEY_SIZE, sum);
}

/* ---- answers ---- */

static size_t answer_error(uint8_t *out, uint32_t id, uint16_t code)
{
        size_t n = frame_begin(out, MESSAGE_ERROR, id);

        n = frame_number(out, n, 1, 2, code);
        return frame_field(out, n, 2, BYTES_LITERAL("as the input says"));
}

static size_t answer_generate(uint8_t *out, uint32_t id, struct bytes question)
{
        uint8_t key[KEY_SIZE], wrap[WRAP_SIZE];
        size_t n = frame_begin(out, MESSAGE_KMS_GENERATED, id);

        key_make(key, n_keys++);
        wrap_make(wrap, key, frame_find(question, 2));
        n = frame_field(out, n, 1, (struct bytes){ key, sizeof(key) });
        n = frame_field(out, n, 2, BYTES_LITERAL("kek-of-the-fuzzer"));
        return frame_field(out, n, 3, (struct bytes){ wrap, sizeof(wrap) });
}

static size_t answer_wrapped(uint8_t *out, uint32_t id, const uint8_t *key, struct bytes context)
{
        uint8_t wrap[WRAP_SIZE];
        size_t n = frame_begin(out, MESSAGE_KMS_WRAPPED, id);

        wrap_make(wrap, key, context);
        n = frame_field(out, n, 1, BYTES_LITERAL("kek-of-the-fuzzer"));
        return frame_field(out, n, 2, (struct bytes){ wrap, sizeof(wrap) });
}

/* KMS_UNWRAP and KMS_REWRAP. */
static size_t answer_unwrap(uint8_t *out, uint32_t id, struct bytes question, bool again, bool other_key)
{
        struct bytes wrapped = frame_find(question, 3), context = frame_find(question, 4);
        uint8_t wrap[WRAP_SIZE], key[KEY_SIZE];
        size_t n;

        if (wrapped.n != WRAP_SIZE)
                return answer_error(out, id, PROTO_ERROR_KMS_CORRUPT);
        wrap_make(wrap, wrapped.data, context);
        if (!bytes_equal(wrapped, (struct bytes){ wrap, WRAP_SIZE }))
                return answer_error(out, id, PROTO_ERROR_KMS_CORRUPT);
        if (again)
                return answer_wrapped(out, id, wrapped.data, context);
        memcpy(key, wrapped.data, KEY_SIZE);
        key[0] ^= other_key;
        n = frame_begin(out, MESSAGE_KMS_UNWRAPPED, id);
        return frame_field(out, n, 1, (struct bytes){ key, KEY_SIZE });
}

static size_t answer_hello(uint8_t *out, uint32_t id)
{
        size_t n = frame_begin(out, MESSAGE_WELCOME, id);

        n = frame_number(out, n, 1, 2, 1);
        n = frame_field(out, n, 2, BYTES_LITERAL("fuzz"));
        n = frame_number(out, n, 4, 4, FRAME_MAX);
        return frame_number(out, n, 5, 4, 64);
}

static size_t answer(uint8_t *out, struct bytes question, enum session_mood how)
{
        uint16_t number = bytes_get_u16(question.data + 4);
        uint32_t id = bytes_get_u32(question.data + 8);

        if (number == MESSAGE_HELLO)
                return answer_hello(out, id);
        if (how == MOOD_ERROR)
                return answer_error(out, id, mood_code);
        switch (number) {
        case MESSAGE_KMS_GENERATE:
                return answer_generate(out, id, question);
        case MESSAGE_KMS_UNWRAP:
        case MESSAGE_KMS_REWRAP:
                return answer_unwrap(out, id, question, number == MESSAGE_KMS_REWRAP, how == MOOD_OTHER_KEY);
        case MESSAGE_KMS_WRAP:
                check(frame_find(question, 1).n == KEY_SIZE);
                return answer_wrapped(out, id, frame_find(question, 1).data, frame_find(question, 3));
        case MESSAGE_KMS_RELOAD:
                return frame_begin(out, MESSAGE_DONE, id);
        default:
                return frame_field(out, frame_begin(out, MESSAGE_REPORT, id), 1, BYTES_LITERAL("{\"ready\":true}"));
        }
}

static void peer_close(struct peer *p)
{
        close(p->fd);
        p->fd = 0;
        p->n = 0;
}

static void peer_answer(struct peer *p, struct bytes question)
{
        static uint8_t out[FRAME_ROOM];
        bool greets = bytes_get_u16(question.data + 4) == MESSAGE_HELLO;
        enum session_mood how = greets ? MOOD_GOOD : mood;
        size_t n = answer(out, question, how);

        if (!greets)
                mood = MOOD_GOOD;
        if (how == MOOD_CLOSE) {
                peer_close(p);
                return;
        }
        n = frame_end(out, n);
        for (size_t i = 0; how == MOOD_GARBAGE && i < mood_garbage.n && 4 + i < n; i++)
                out[4 + i * 5 % (n - 4)] ^= mood_garbage.data[i];
        gave_garbage |= how == MOOD_GARBAGE && bytes_get_u16(question.data + 4) == MESSAGE_KMS_GENERATE;
        if (send(p->fd, out, n, MSG_NOSIGNAL) != (ssize_t)n)
                peer_close(p);
}

/* ---- the sockets ---- */

static bool peer_read(struct peer *p)
{
        ssize_t n = recv(p->fd, p->in + p->n, sizeof(p->in) - p->n, MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN)
                return false;
        if (n <= 0) {
                peer_close(p);
                return true;
        }
        p->n += (size_t)n;
        while (p->fd && p->n >= 4 && p->n >= 4 + (size_t)bytes_get_u32(p->in)) {
                size_t length = 4 + (size_t)bytes_get_u32(p->in);

                peer_answer(p, (struct bytes){ p->in, length });
                if (p->fd) {
                        memmove(p->in, p->in + length, p->n - length);
                        p->n -= length;
                }
        }
        return true;
}

bool session_kms_serve(void)
{
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        bool something = fd >= 0;

        for (size_t i = 0; i < PEERS_MAX && fd >= 0; i++)
                if (!peers[i].fd) {
                        peers[i].fd = fd;
                        fd = -1;
                }
        check(fd < 0);
        for (size_t i = 0; i < PEERS_MAX; i++)
                something |= peers[i].fd && peer_read(&peers[i]);
        return something;
}

size_t session_kms_poll(struct pollfd *ret_fds)
{
        size_t n = 0;

        ret_fds[n++] = (struct pollfd){ .fd = listen_fd, .events = POLLIN };
        for (size_t i = 0; i < PEERS_MAX; i++)
                if (peers[i].fd)
                        ret_fds[n++] = (struct pollfd){ .fd = peers[i].fd, .events = POLLIN };
        return n;
}

void session_kms_set_mood(enum session_mood next, uint8_t code, struct bytes garbage)
{
        mood = next;
        mood_code = code;
        mood_garbage = garbage;
}

void session_kms_forget(void)
{
        gave_garbage = false;
}

void session_kms_listen(const char *path)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        check(strlen(path) < sizeof(address.sun_path));
        memcpy(address.sun_path, path, strlen(path));
        listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        check(bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listen_fd, 8) == 0);
}
