/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request is one recv(2) and one send(2): what came is parsed where it lies, and answers are packed one after the
 * other into the same block until stream_flush().
 */
#include "proto/stream.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/cleanup.h"
#include "common/list.h"

#define FLUSH_BLOCKS_MAX 16
/* What a slot is used of at first: nearly every request fits, and releasing the slot wipes no more than what was used. */
#define SLOT_USE 2048

/* Bytes that wait to be sent: a large slot of the arena, or heap when there is no key among them. */
struct block {
        struct list node;
        struct secret *secret; /* NULL: @data is heap */
        uint8_t *data; /* a view of @secret while the block lives */
        size_t begin; /* first byte not yet sent */
        size_t end;
        size_t capacity; /* a secret grows up to it */
};

struct stream {
        int fd;
        bool received_all;
        bool invalid; /* the peer broke the protocol: no way back to the begin of a frame */

        struct secret *in; /* NULL while nothing is buffered */
        uint8_t *in_data; /* a view of @in */
        size_t in_begin;
        size_t in_end;
        uint8_t start[FRAME_HEADER_SIZE]; /* the begin of a header, taken out of @in while nothing more comes */
        size_t n_start;

        uint8_t *big; /* a frame that does not fit @in, in heap; NULL otherwise */
        size_t big_size;
        size_t big_n; /* bytes of it received */

        size_t n_taken; /* length of the frame that stream_next() lent out, 0 when none */

        struct list out;
        size_t out_n;
        size_t out_max;
};

int stream_new(struct stream **ret_stream, int fd, size_t out_max)
{
        struct stream *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->fd = fd;
        s->received_all = true;
        s->out_max = out_max > FRAME_MAX ? out_max : FRAME_MAX;
        list_init(&s->out);
        *ret_stream = s;
        return 0;
}

static void block_free(struct block *b)
{
        list_unlink(&b->node);
        if (b->secret) {
                secret_view_end(b->secret, &b->data);
                secret_unref(b->secret);
        }
        free(b->data);
        free(b);
}

static void in_release(struct stream *s)
{
        if (!s->in)
                return;
        secret_view_end(s->in, &s->in_data);
        s->in = secret_unref(s->in);
        s->in_begin = s->in_end = 0;
}

static void big_release(struct stream *s)
{
        free(s->big);
        s->big = NULL;
        s->big_size = s->big_n = 0;
}

struct stream *stream_free(struct stream *s)
{
        struct list *node, *following;

        if (!s)
                return NULL;
        list_for_each_safe (node, following, &s->out)
                block_free(list_entry(node, struct block, node));
        in_release(s);
        big_release(s);
        free(s);
        return NULL;
}

/* ---- in ---- */

/* Take back the frame that stream_next() lent out. */
static void in_consume(struct stream *s)
{
        if (s->n_taken == 0)
                return;
        if (s->big) {
                big_release(s);
        } else {
                s->in_begin += s->n_taken;
                /* The release of the slot wipes it; what stays for the sake of later frames is wiped here. */
                if (s->in_begin == s->in_end)
                        in_release(s);
                else
                        secret_wipe(s->in_data + s->in_begin - s->n_taken, s->n_taken);
        }
        s->n_taken = 0;
}

/* Room for at least one more byte in the slot, unless whole frames fill it. */
static int in_prepare(struct stream *s)
{
        size_t n = s->in_end - s->in_begin;
        int r;

        if (!s->in) {
                r = secret_new(&s->in, SLOT_USE);
                if (r < 0)
                        return r;
                s->in_data = secret_view_begin(s->in);
                memcpy(s->in_data, s->start, s->n_start);
                s->in_end = s->n_start;
                s->n_start = 0;
        }
        if (!s->received_all)
                secret_resize(s->in, SECRET_LARGE_MAX);
        /* What is left is the begin of one frame: less than a frame is moved, and only when others came before it. */
        if (s->in_begin > 0) {
                memmove(s->in_data, s->in_data + s->in_begin, n);
                secret_wipe(s->in_data + n, s->in_begin);
                s->in_begin = 0;
                s->in_end = n;
        }
        return 0;
}

static int receive_failed(struct stream *s)
{
        int e = errno;

        if (s->in && s->in_begin == s->in_end)
                in_release(s);
        s->received_all = true;
        return e == EAGAIN || e == EWOULDBLOCK ? STREAM_E_AGAIN : -e;
}

/* The end is orderly when the bytes at hand are whole frames. */
static int receive_ended(struct stream *s)
{
        struct frame_header header;
        size_t at = s->in_begin;

        s->received_all = true;
        if (s->big)
                return STREAM_E_INVALID;
        while (at < s->in_end && frame_header_unpack(&header, s->in_data + at, s->in_end - at) == 0)
                at += header.length;
        if (at != s->in_end)
                return STREAM_E_INVALID;
        if (s->in && s->in_begin == s->in_end)
                in_release(s);
        return STREAM_E_CLOSED;
}

int stream_receive(struct stream *s, int flags)
{
        uint8_t *p;
        size_t room;
        ssize_t n;
        int r;

        in_consume(s);
        if (s->invalid)
                return STREAM_E_INVALID;
        if (s->big) {
                p = s->big + s->big_n;
                room = s->big_size - s->big_n;
        } else {
                r = in_prepare(s);
                if (r < 0)
                        return r;
                p = s->in_data + s->in_end;
                room = secret_size(s->in) - s->in_end;
        }
        if (room == 0) {
                s->received_all = false;
                return 0;
        }

        do
                n = recv(s->fd, p, room, flags);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return receive_failed(s);
        if (n == 0)
                return receive_ended(s);
        *(s->big ? &s->big_n : &s->in_end) += (size_t)n;
        s->received_all = (size_t)n < room;
        return 0;
}

/* A frame of @length, which no slot holds: it carries no key, so it goes on in heap. */
static int in_move_to_big(struct stream *s, size_t length)
{
        size_t n = s->in_end - s->in_begin;

        assert(n < length);
        s->big = malloc(length);
        if (!s->big)
                return -ENOMEM;
        memcpy(s->big, s->in_data + s->in_begin, n);
        s->big_size = length;
        s->big_n = n;
        in_release(s);
        return STREAM_E_AGAIN;
}

static int big_next(struct stream *s, struct frame_header *ret_header, const uint8_t **ret_data, size_t *ret_n)
{
        if (s->big_n < s->big_size)
                return STREAM_E_AGAIN;
        if (frame_header_unpack(ret_header, s->big, s->big_n) != 0)
                return STREAM_E_INVALID;
        *ret_data = s->big;
        *ret_n = s->n_taken = s->big_n;
        return 0;
}

int stream_next(struct stream *s, struct frame_header *ret_header, const uint8_t **ret_data, size_t *ret_n)
{
        struct frame_header header;
        size_t n;
        int r;

        in_consume(s);
        if (s->invalid)
                return STREAM_E_INVALID;
        if (s->big)
                return big_next(s, ret_header, ret_data, ret_n);
        n = s->in_end - s->in_begin;
        if (n == 0)
                return STREAM_E_AGAIN;

        r = frame_header_unpack(&header, s->in_data + s->in_begin, n);
        if (r == FRAME_E_INCOMPLETE)
                return STREAM_E_AGAIN;
        if (r != 0) {
                s->invalid = true;
                in_release(s);
                return STREAM_E_INVALID;
        }
        if (header.length > SECRET_LARGE_MAX)
                return in_move_to_big(s, header.length);
        if (header.length > n)
                return STREAM_E_AGAIN;
        *ret_header = header;
        *ret_data = s->in_data + s->in_begin;
        *ret_n = s->n_taken = header.length;
        return 0;
}

bool stream_received_all(const struct stream *s)
{
        return s->received_all;
}

int stream_rest(struct stream *s)
{
        struct frame_header header;
        size_t n;
        int r;

        in_consume(s);
        if (!s->in)
                return 0;
        n = s->in_end - s->in_begin;
        r = frame_header_unpack(&header, s->in_data + s->in_begin, n);
        if (r == FRAME_E_INCOMPLETE) {
                memcpy(s->start, s->in_data + s->in_begin, n);
                s->n_start = n;
                in_release(s);
        } else if (r == 0 && header.length > n && !(message_flags(header.number) & MESSAGE_FLAG_KEY)) {
                r = in_move_to_big(s, header.length);
                return r < 0 ? r : 0;
        }
        return 0;
}

bool stream_holds_input(const struct stream *s)
{
        return s->big || s->n_start > 0 || s->in_end - s->in_begin > s->n_taken;
}

void stream_held(const struct stream *s, size_t *ret_bytes, unsigned *ret_slots)
{
        size_t heap = s->big_size;
        unsigned slots = s->in != NULL;
        struct list *node;

        for (node = s->out.next; node != &s->out; node = node->next) {
                const struct block *b = list_entry(node, struct block, node);

                if (b->secret)
                        slots++;
                else
                        heap += b->capacity;
        }
        *ret_bytes = heap + slots * (size_t)SECRET_LARGE_MAX;
        *ret_slots = slots;
}

/* ---- out ---- */

static int block_new(struct block **ret_block, size_t size, bool key)
{
        struct block *b = calloc(1, sizeof(*b));
        int r = -ENOBUFS;

        if (!b)
                return -ENOMEM;
        list_init(&b->node);
        if (size <= SECRET_LARGE_MAX) {
                r = secret_new(&b->secret, size > SLOT_USE ? SECRET_LARGE_MAX : SLOT_USE);
                if (r == 0) {
                        b->data = secret_view_begin(b->secret);
                        b->capacity = SECRET_LARGE_MAX;
                }
        }
        /* Without a key in it, an answer need not wait for the arena. */
        if (r < 0 && !key) {
                b->data = malloc(size);
                b->capacity = size;
                r = b->data ? 0 : -ENOMEM;
        }
        if (r < 0) {
                free(b);
                return r;
        }
        *ret_block = b;
        return 0;
}

/* The last block if @size more bytes fit there and may lie there, else NULL. */
static struct block *out_last(struct stream *s, size_t size, bool key)
{
        struct block *b;

        if (list_is_empty(&s->out))
                return NULL;
        b = list_entry(s->out.previous, struct block, node);
        return b->capacity - b->end >= size && (b->secret || !key) ? b : NULL;
}

int stream_queue(struct stream *s, const union message *message, uint32_t request_id)
{
        size_t size, n;
        bool key = message_flags((uint16_t)message->number) & MESSAGE_FLAG_KEY;
        struct block *b;
        int r = message_measure(message, &size);

        if (r < 0)
                return r;
        if (size > s->out_max - s->out_n)
                return -ENOBUFS;
        b = out_last(s, size, key);
        if (!b) {
                r = block_new(&b, size, key);
                if (r < 0)
                        return r;
                list_append(&s->out, &b->node);
        }
        if (b->secret && b->end + size > secret_size(b->secret))
                secret_resize(b->secret, SECRET_LARGE_MAX);
        r = message_pack(message, request_id, b->data + b->end, b->capacity - b->end, &n);
        assert(r == 0 && n == size);
        b->end += n;
        s->out_n += n;
        return r;
}

/* @n bytes of the first blocks were sent. */
static void out_sent(struct stream *s, size_t n)
{
        s->out_n -= n;
        while (n > 0) {
                struct block *b = list_entry(s->out.next, struct block, node);
                size_t waiting = b->end - b->begin;

                if (n < waiting) {
                        b->begin += n;
                        return;
                }
                n -= waiting;
                block_free(b);
        }
}

int stream_flush(struct stream *s, int flags)
{
        while (s->out_n > 0) {
                struct iovec parts[FLUSH_BLOCKS_MAX];
                struct msghdr header = { .msg_iov = parts };
                struct list *node;
                ssize_t n;

                for (node = s->out.next; node != &s->out && header.msg_iovlen < FLUSH_BLOCKS_MAX; node = node->next) {
                        struct block *b = list_entry(node, struct block, node);

                        parts[header.msg_iovlen++] = (struct iovec){ b->data + b->begin, b->end - b->begin };
                }
                n = header.msg_iovlen == 1 ? send(s->fd, parts->iov_base, parts->iov_len, flags | MSG_NOSIGNAL) :
                                             sendmsg(s->fd, &header, flags | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN || errno == EWOULDBLOCK ? STREAM_E_AGAIN : -errno;
                out_sent(s, (size_t)n);
        }
        return 0;
}

size_t stream_pending(const struct stream *s)
{
        return s->out_n;
}
