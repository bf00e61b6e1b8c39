/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream: frames over one connected non-blocking or blocking SOCK_STREAM socket, for all three programs that speak the
 * protocol. Received bytes lie in secret memory from the first byte, and are wiped as they are consumed; frames of
 * messages without the KEY flag that exceed one large slot move to heap. Owns buffers, not the descriptor. An idle
 * stream holds no slot of the arena.
 */
#pragma once

#include "proto/frame.h"

struct stream;

/** Named outcomes. */
enum {
        STREAM_E_AGAIN = 1, /* nothing more without waiting */
        STREAM_E_CLOSED,    /* orderly end by the peer, between frames */
        STREAM_E_INVALID,   /* the peer broke the protocol, or closed inside a frame */
};

/**
 * stream_new()
 * @fd:      borrowed; must outlive the stream
 * @out_max: bytes that may wait unsent; more is -ENOBUFS (at least FRAME_MAX)
 */
int stream_new(struct stream **ret_stream, int fd, size_t out_max);
struct stream *stream_free(struct stream *s);
DEFINE_CLEANUP(struct stream *, stream_free)

/**
 * stream_receive() - one recv(2) into the stream's buffer
 * @flags: MSG_DONTWAIT or 0
 * Return: 0 when bytes came, or when whole frames that nobody took leave no room; STREAM_E_AGAIN, STREAM_E_CLOSED,
 *         STREAM_E_INVALID; -ENOBUFS when the arena is full; -errno.
 */
int stream_receive(struct stream *s, int flags);
/**
 * stream_next() - the next whole frame among the bytes received
 * @ret_data, @ret_n: the frame, header included, borrowed until the next call on this stream
 * Return: 0; STREAM_E_AGAIN when no whole frame is there; STREAM_E_INVALID; -ENOMEM.
 */
int stream_next(struct stream *s, struct frame_header *ret_header, const uint8_t **ret_data, size_t *ret_n);
/** stream_received_all() - whether the last recv(2) left room in the buffer, so that another call would most likely
 *  find nothing. */
bool stream_received_all(const struct stream *s);

/**
 * stream_rest() - the peer has sent nothing more for now: give back the slot of the arena
 * What is there of a frame that carries no key moves to heap, where its whole length is allocated; the begin of a frame with a key, and whole
 * frames that nobody took, keep the slot. Return: 0 or -ENOMEM.
 */
int stream_rest(struct stream *s);
/** stream_holds_input() - whether bytes were received that nobody took: the begin of a frame, or whole ones. */
bool stream_holds_input(const struct stream *s);
/** stream_held() - what the stream has in memory, both ways: bytes, slots included, and slots of the arena. */
void stream_held(const struct stream *s, size_t *ret_bytes, unsigned *ret_slots);

/** stream_queue() - pack @message for sending. Return: 0; -ENOBUFS when @out_max or the arena is exhausted; as message_pack(). */
int stream_queue(struct stream *s, const union message *message, uint32_t request_id);
/** stream_flush() - send what waits. @flags: MSG_DONTWAIT or 0; MSG_NOSIGNAL is added. Return: 0 when all is sent; STREAM_E_AGAIN; -errno. */
int stream_flush(struct stream *s, int flags);
/** stream_pending() - bytes that wait unsent. */
size_t stream_pending(const struct stream *s);
