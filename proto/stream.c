/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/stream.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/list.h"

enum { IOVECS_MAX = 16 };

/* A run of bytes to send: frames in a slot of the arena, or one large frame without a key in heap. */
struct segment {
        struct list link;
        struct secret *slot; /* or NULL: the bytes follow in heap */
        size_t n, n_sent;
        uint8_t heap[];
};

struct stream {
        int fd;
        size_t out_max, n_pending;
        struct list segments;
        /* Received: in the slot, or in heap for a frame that is larger and has no key. */
        struct secret *slot;
        uint8_t *heap;
        size_t n_heap; /* size of the heap buffer */
        size_t start, end;
        bool full; /* the last recv(2) filled the buffer */
};

int stream_new(struct stream **ret_stream, int fd, size_t out_max)
{
        struct stream *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->fd = fd;
        s->out_max = out_max;
        list_init(&s->segments);
        *ret_stream = s;
        return 0;
}

static void segment_free(struct segment *segment)
{
        list_unlink(&segment->link);
        secret_unref(segment->slot);
        free(segment);
}

/* Nothing unread is left: an idle stream holds no memory. */
static void stream_release_input(struct stream *s)
{
        s->slot = secret_unref(s->slot);
        free(s->heap);
        s->heap = NULL;
        s->start = s->end = s->n_heap = 0;
}

struct stream *stream_free(struct stream *s)
{
        if (!s)
                return NULL;
        while (!list_is_empty(&s->segments))
                segment_free(list_entry(s->segments.next, struct segment, link));
        stream_release_input(s);
        free(s);
        return NULL;
}

/* ---- receiving ---- */

static uint8_t *stream_buffer(struct stream *s, size_t *ret_size)
{
        *ret_size = s->heap ? s->n_heap : SECRET_LARGE_MAX;
        return s->heap ? s->heap : secret_view_begin(s->slot);
}

/* Make room behind what is unread. */
static int stream_make_room(struct stream *s)
{
        size_t size;
        uint8_t *buffer;
        int r;

        if (!s->slot && !s->heap) {
                r = secret_new(&s->slot, SECRET_LARGE_MAX);
                if (r < 0)
                        return r;
        }
        buffer = stream_buffer(s, &size);
        if (s->end == size && s->start > 0) {
                memmove(buffer, buffer + s->start, s->end - s->start);
                s->end -= s->start;
                s->start = 0;
        }
        return 0;
}

int stream_receive(struct stream *s, int flags)
{
        size_t size;
        uint8_t *buffer;
        ssize_t n;
        int r = stream_make_room(s);

        if (r < 0)
                return r;
        buffer = stream_buffer(s, &size);
        do {
                n = recv(s->fd, buffer + s->end, size - s->end, flags);
        } while (n < 0 && errno == EINTR);
        r = n < 0 ? -errno : 0;
        if (n <= 0 && s->start == s->end) {
                stream_release_input(s);
                if (n == 0)
                        return STREAM_E_CLOSED;
        }
        if (r == -EAGAIN)
                return STREAM_E_AGAIN;
        if (r < 0)
                return r;
        if (n == 0)
                return STREAM_E_INVALID; /* closed inside a frame */
        s->end += (size_t)n;
        s->full = s->end == size;
        return 0;
}

bool stream_received_all(const struct stream *s)
{
        return !s->full;
}

/* A frame that does not fit the slot: it has no key, or its header was refused. */
static int stream_move_to_heap(struct stream *s, size_t length)
{
        uint8_t *view;

        s->heap = malloc(length);
        if (!s->heap)
                return -ENOMEM;
        view = secret_view_begin(s->slot);
        memcpy(s->heap, view + s->start, s->end - s->start);
        secret_view_end(s->slot, &view);
        s->end -= s->start;
        s->start = 0;
        s->n_heap = length;
        s->slot = secret_unref(s->slot);
        return 0;
}

int stream_next(struct stream *s, struct frame_header *ret_header, const uint8_t **ret_data, size_t *ret_n)
{
        size_t size;
        uint8_t *buffer;
        int r;

        if (s->start == s->end) {
                stream_release_input(s);
                return STREAM_E_AGAIN;
        }
        buffer = stream_buffer(s, &size);
        r = frame_header_unpack(ret_header, buffer + s->start, s->end - s->start);
        if (r == FRAME_E_INCOMPLETE)
                return STREAM_E_AGAIN;
        if (r)
                return STREAM_E_INVALID;
        if (ret_header->length > s->end - s->start) {
                if (ret_header->length > size) {
                        r = stream_move_to_heap(s, ret_header->length);
                        if (r < 0)
                                return r;
                }
                return STREAM_E_AGAIN;
        }
        *ret_data = buffer + s->start;
        *ret_n = ret_header->length;
        s->start += ret_header->length;
        return 0;
}

/* ---- sending ---- */

static struct segment *segment_new(struct stream *s, size_t n_heap)
{
        struct segment *segment = calloc(1, sizeof(*segment) + n_heap);

        if (!segment)
                return NULL;
        list_init(&segment->link);
        list_append(&s->segments, &segment->link);
        return segment;
}

/* The last segment, when a frame of @n bytes still fits its slot. */
static struct segment *stream_tail(struct stream *s, size_t n)
{
        struct segment *tail = list_entry(s->segments.previous, struct segment, link);

        if (list_is_empty(&s->segments) || !tail->slot || SECRET_LARGE_MAX - tail->n < n)
                return NULL;
        return tail;
}

static int stream_queue_small(struct stream *s, const union message *message, uint32_t request_id, size_t n)
{
        struct segment *segment = stream_tail(s, n);
        uint8_t *view;
        int r;

        if (!segment) {
                segment = segment_new(s, 0);
                if (!segment)
                        return -ENOMEM;
                r = secret_new(&segment->slot, SECRET_LARGE_MAX);
                if (r < 0) {
                        segment_free(segment);
                        return r;
                }
        }
        view = secret_view_begin(segment->slot);
        r = message_pack(message, request_id, view + segment->n, SECRET_LARGE_MAX - segment->n, &n);
        secret_view_end(segment->slot, &view);
        if (r == 0) {
                segment->n += n;
                s->n_pending += n;
        } else if (segment->n == 0) {
                segment_free(segment);
        }
        return r;
}

int stream_queue(struct stream *s, const union message *message, uint32_t request_id)
{
        size_t n = message_size(message);
        struct segment *segment;
        int r;

        if (n == 0)
                return -EMSGSIZE;
        if (s->n_pending + n > s->out_max)
                return -ENOBUFS;
        if (n <= SECRET_LARGE_MAX)
                return stream_queue_small(s, message, request_id, n);
        segment = segment_new(s, n);
        if (!segment)
                return -ENOMEM;
        r = message_pack(message, request_id, segment->heap, n, &segment->n);
        if (r < 0)
                segment_free(segment);
        else
                s->n_pending += segment->n;
        return r;
}

static void stream_sent(struct stream *s, size_t n)
{
        s->n_pending -= n;
        while (n > 0) {
                struct segment *first = list_entry(s->segments.next, struct segment, link);
                size_t left = first->n - first->n_sent;

                if (n < left) {
                        first->n_sent += n;
                        return;
                }
                n -= left;
                segment_free(first);
        }
}

int stream_flush(struct stream *s, int flags)
{
        while (s->n_pending > 0) {
                struct iovec vectors[IOVECS_MAX];
                struct msghdr header = { .msg_iov = vectors };
                struct list *node, *following;
                ssize_t n;

                list_for_each_safe(node, following, &s->segments) {
                        struct segment *segment = list_entry(node, struct segment, link);
                        uint8_t *bytes = segment->slot ? secret_view_begin(segment->slot) : segment->heap;

                        if (header.msg_iovlen == IOVECS_MAX)
                                break;
                        vectors[header.msg_iovlen++] = (struct iovec){ bytes + segment->n_sent, segment->n - segment->n_sent };
                }
                n = sendmsg(s->fd, &header, flags | MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? STREAM_E_AGAIN : -errno;
                stream_sent(s, (size_t)n);
        }
        return 0;
}

size_t stream_pending(const struct stream *s)
{
        return s->n_pending;
}
