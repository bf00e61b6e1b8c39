/* SPDX-License-Identifier: Apache-2.0 */
/* connection: accept, credentials, reading and writing of one client. What a frame means is request.c's. */
#include <errno.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/peer.h"
#include "daemon/request.h"
#include "proto/stream.h"

enum {
        OUT_MAX = 256 * 1024,    /* bytes of answers that may wait unsent; more closes the connection */
        OUT_PAUSE = 64 * 1024,   /* from here on nothing more is read until they are sent */
        READS_PER_TURN = 8,      /* then the other clients have their turn */
        ACCEPTS_PER_TURN = 32,
        RELEASED_KEEP = 1024,    /* keys remembered although they were not asked for in the last minute */
};

static void connection_close(struct connection *c)
{
        struct lkmd *d = c->daemon;

        while (!list_is_empty(&c->waiting))
                request_orphan(list_entry(c->waiting.next, struct request, link_connection));
        connection_give_up_leases(c);
        connection_sum_up_one(c);
        list_unlink(&c->link);
        d->n_connections--;
        if (c->readable)
                event_free(c->readable);
        if (c->writable)
                event_free(c->writable);
        stream_free(c->stream);
        if (c->fd >= 0)
                close(c->fd);
        peer_deinit(&c->peer);
        released_deinit(&c->released);
        free(c);
        listeners_go_on(d); /* there is a descriptor again */
        lkmd_stop_if_drained(d);
}

void connection_close_all(struct lkmd *d)
{
        while (!list_is_empty(&d->connections))
                connection_close(list_entry(d->connections.next, struct connection, link));
}

void connection_tell(struct connection *c)
{
        union message event = { .lease_event = { .number_ = MESSAGE_LEASE_EVENT } };
        enum lease_event what;
        uint32_t id;

        while (!c->closing && lease_next_event(&c->leases, &id, &what)) {
                event.lease_event.event = (uint8_t)what;
                if (stream_queue(c->stream, &event, id) < 0)
                        c->closing = true; /* untold it would be trusted */
        }
}

/* Send what waits. Return: whether @c is still there. */
static bool connection_send(struct connection *c)
{
        int r = stream_flush(c->stream, MSG_DONTWAIT);
        bool over;

        /* Only when all else is sent: who does not read is told nothing more. */
        if (r == 0 && c->leases.n_owed > 0) {
                connection_tell(c);
                r = stream_flush(c->stream, MSG_DONTWAIT);
        }
        over = c->closing || (c->ended && list_is_empty(&c->waiting));
        if (r < 0 || (r == 0 && over) || (c->closing && stream_pending(c->stream) > OUT_PAUSE)) {
                connection_close(c);
                return false;
        }
        if (r == STREAM_E_AGAIN)
                event_add(c->writable, NULL);
        if (stream_pending(c->stream) > OUT_PAUSE)
                event_del(c->readable);
        return true;
}

void connection_flush(struct connection *c)
{
        connection_send(c);
}

static void connection_writable(evutil_socket_t fd, short what, void *userdata)
{
        struct connection *c = userdata;

        if (connection_send(c) && stream_pending(c->stream) <= OUT_PAUSE && !c->closing && !c->ended)
                event_add(c->readable, NULL);
}

/* Take all whole frames. Return: 0, or why the connection must end (-EPROTO, STREAM_E_*). */
static int connection_take(struct connection *c, uint64_t now)
{
        struct frame_header header;
        const uint8_t *data;
        size_t n;
        int r;

        for (;;) {
                r = stream_next(c->stream, &header, &data, &n);
                if (r)
                        return r == STREAM_E_AGAIN ? 0 : r;
                r = request_begin(c, &header, data, n, now);
                if (r < 0)
                        return r;
                if (c->closing)
                        return -ENOBUFS;
        }
}

static void connection_readable(evutil_socket_t fd, short what, void *userdata)
{
        struct connection *c = userdata;
        uint64_t now = clock_boottime_usec();
        int r = 0;

        lkmd_expire(c->daemon, now);
        for (unsigned i = 0; i < READS_PER_TURN && r == 0; i++) {
                r = stream_receive(c->stream, MSG_DONTWAIT);
                if (r == 0)
                        r = connection_take(c, now);
                if (r == 0 && stream_received_all(c->stream))
                        break;
        }
        if (r == STREAM_E_CLOSED && !list_is_empty(&c->waiting)) {
                /* The client may have shut down its sending half: it still gets its answers. */
                event_del(c->readable);
                c->ended = true;
                connection_end_leases(c);
        } else if (r != 0 && r != STREAM_E_AGAIN) {
                c->closing = true;
                event_del(c->readable);
        }
        connection_send(c);
}

/* ---- accept ---- */

static int connection_open(struct connection *c)
{
        int r = peer_read(&c->peer, c->fd);

        if (r == PEER_E_PROC && !c->daemon->units_hidden) {
                log_warning("/proc hides the processes of clients, so no rule by unit matches. Mount it without hidepid=, and set ProtectProc=default");
                c->daemon->units_hidden = true;
        }
        if (r >= 0)
                r = stream_new(&c->stream, c->fd, OUT_MAX);
        if (r < 0)
                return r;
        c->readable = event_new(c->daemon->base, c->fd, EV_READ | EV_PERSIST, connection_readable, c);
        c->writable = event_new(c->daemon->base, c->fd, EV_WRITE, connection_writable, c);
        if (!c->readable || !c->writable || event_add(c->readable, NULL) < 0)
                return -ENOMEM;
        return 0;
}

static void connection_refuse(struct connection *c)
{
        union message answer = { .error = { .number_ = MESSAGE_ERROR,
                                            .code = PROTO_ERROR_QUOTA,
                                            .sentence = bytes_from_string(proto_error_sentence(PROTO_ERROR_QUOTA)) } };

        if (stream_queue(c->stream, &answer, 0) == 0)
                stream_flush(c->stream, MSG_DONTWAIT);
        connection_close(c);
}

static void connection_begin(const struct listener *listener, int fd)
{
        struct lkmd *d = listener->daemon;
        struct connection *c = calloc(1, sizeof(*c));
        int r;

        if (!c) {
                close(fd);
                return;
        }
        c->daemon = d;
        c->fd = fd;
        c->number = ++d->next_connection;
        c->by_admin_socket = listener->is_admin;
        list_init(&c->link);
        list_init(&c->waiting);
        lease_holder_init(&c->leases, &c->peer);
        list_append(&d->connections, &c->link);
        d->n_connections++;
        r = connection_open(c);
        if (r < 0) {
                log_warning("cannot serve a new connection: %s", strerror(-r));
                connection_close(c);
        } else if (d->n_connections > d->config->max_connections && !c->by_admin_socket) {
                connection_refuse(c);
        }
}

void connection_accept(evutil_socket_t fd, short what, void *userdata)
{
        struct listener *listener = userdata;

        for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
                int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (client >= 0) {
                        connection_begin(listener, client);
                        continue;
                }
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                        /* Accepting again at once would spin: wait for a close, or a second. */
                        log_warning("cannot accept more connections: %s. Raise LimitNOFILE= or lower max_connections",
                                    strerror(errno));
                        listeners_pause(listener->daemon);
                }
                return;
        }
}

/* ---- the minute ---- */

void connection_sum_up_one(struct connection *c)
{
        struct released *released = &c->released;
        struct released kept = { 0 };

        for (size_t i = 0; i < released->n_places; i++) {
                struct released_key *key = &released->places[i];
                struct audit_event event = { .event = "repeat", .peer = &c->peer, .connection = c->number,
                                             .database_id = key->database_id, .version = key->version, .count = key->n_repeats, .weight = AUDIT_WEIGHT_NOTABLE };

                if (key->serial == 0)
                        continue;
                /* Not written: it stays counted, and is tried again. */
                if (key->n_repeats > 0 && lkmd_audit(c->daemon, &event) == 0)
                        key->n_repeats = 0;
                else if (key->n_repeats == 0 && released->n > RELEASED_KEEP)
                        continue;
                if (released->n > RELEASED_KEEP && released_reserve(&kept) == 0)
                        released_add(&kept, key);
        }
        if (released->n > RELEASED_KEEP) {
                released_deinit(released);
                *released = kept;
        }
}

void connection_sum_up(struct lkmd *d)
{
        struct list *node, *following;

        list_for_each_safe(node, following, &d->connections)
                connection_sum_up_one(list_entry(node, struct connection, link));
}
