/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/session.h"

#include <errno.h>
#include <sys/socket.h>

#include "common/log.h"

enum {
        OUT_MAX = 256 * 1024, /* bytes of answers that may wait unsent */
        OUT_PAUSE = 32 * 1024, /* from here on no further request is begun until they are sent */
        READS_PER_TURN = 8, /* then the other sessions have their turn */
};

struct session *session_free(struct session *c)
{
        struct server *s = c->server;

        operation_orphan_all(c);
        list_unlink(&c->link);
        s->n_sessions--;
        if (c->readable)
                event_free(c->readable);
        if (c->writable)
                event_free(c->writable);
        stream_free(c->stream);
        close(c->fd);
        free(c);
        server_stop_if_drained(s);
        return NULL;
}

void session_answer(struct session *c, uint32_t request_id, const union message *message)
{
        int r = stream_queue(c->stream, message, request_id);

        if (r == 0)
                return;
        log_warning("cannot answer with %s: %s", message_name((uint16_t)message->number), strerror(-r));
        if (message->number == MESSAGE_ERROR)
                c->closing = true;
        else
                session_answer_error(
                        c, request_id, PROTO_ERROR_INTERNAL,
                        "the answer does not fit into what memory or the protocol leaves. Ask again when other requests have ended");
}

void session_answer_error(struct session *c, uint32_t request_id, enum proto_error error, const char *sentence)
{
        union message message = { .error = { .number_ = MESSAGE_ERROR,
                                             .code = (uint16_t)error,
                                             .sentence = bytes_from_string(sentence ? sentence
                                                                                    : proto_error_sentence(error)) } };

        session_answer(c, request_id, &message);
}

void session_settle(struct session *c)
{
        int r = stream_flush(c->stream, MSG_DONTWAIT);
        bool done = c->ended && !c->blocked && c->n_calls == 0;

        if (r < 0 || (r == 0 && (c->closing || done))) {
                session_free(c);
                return;
        }
        if (r == STREAM_E_AGAIN)
                event_add(c->writable, NULL);
        if (c->blocked || c->ended || c->closing)
                event_del(c->readable);
        else
                event_add(c->readable, NULL);
}

void session_end(struct session *c)
{
        c->ended = true;
        c->blocked = false;
        session_settle(c);
}

/* Begin the requests that have come in whole. Return: whether to go on reading. */
static bool session_take(struct session *c)
{
        struct frame_header header;
        const uint8_t *data;
        size_t n;
        int r;

        while (!c->closing) {
                c->blocked = stream_pending(c->stream) > OUT_PAUSE &&
                             stream_flush(c->stream, MSG_DONTWAIT) == STREAM_E_AGAIN;
                if (c->blocked)
                        return false;
                r = stream_next(c->stream, &header, &data, &n);
                if (r == STREAM_E_AGAIN)
                        return !c->ended;
                if (r == 0) {
                        operation_begin(c, &header, data, n);
                } else {
                        session_answer_error(c, 0, PROTO_ERROR_PROTOCOL, NULL);
                        c->closing = true;
                }
        }
        return false;
}

static void session_process(struct session *c)
{
        int r = 0;

        c->processing = true;
        for (unsigned i = 0; r == 0 && session_take(c) && i < READS_PER_TURN; i++) {
                r = stream_receive(c->stream, MSG_DONTWAIT);
                if (r == STREAM_E_CLOSED)
                        c->ended = true;
                else if (r != 0 && r != STREAM_E_AGAIN)
                        c->closing = true;
        }
        c->processing = false;
        session_settle(c);
        secret_wipe_stack();
}

static void on_ready(evutil_socket_t fd, short what, void *userdata)
{
        session_process(userdata);
}

int session_new(struct server *s, int fd)
{
        struct session *c = calloc(1, sizeof(*c));
        int r;

        if (!c) {
                close(fd);
                return -ENOMEM;
        }
        c->server = s;
        c->fd = fd;
        list_init(&c->link);
        list_init(&c->calls);
        list_append(&s->sessions, &c->link);
        s->n_sessions++;
        r = stream_new(&c->stream, fd, OUT_MAX);
        if (r == 0) {
                c->readable = event_new(s->base, fd, EV_READ | EV_PERSIST, on_ready, c);
                c->writable = event_new(s->base, fd, EV_WRITE, on_ready, c);
                if (!c->readable || !c->writable || event_add(c->readable, NULL) < 0)
                        r = -ENOMEM;
        }
        if (r < 0)
                session_free(c);
        return r;
}
