/* SPDX-License-Identifier: Apache-2.0 */
/* connection: reading and writing of one client. Who it is was found in accept.c, when it is served in turn.c, what a frame means is request.c's. */
#include <errno.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/peer.h"
#include "daemon/request.h"
#include "proto/stream.h"

enum {
        OUT_LINGER = 64 * 1024,  /* a connection that is to be closed waits until no more than so many bytes are sent */
        FRAMES_PER_TURN = 8,     /* or */
        BYTES_PER_TURN = 4096,   /* in frames, then the other users have their turn */
        RELEASED_KEEP = 1024,    /* keys remembered although they were not asked for in the last minute */
};

void connection_close(struct connection *c)
{
        struct lkmd *d = c->daemon;

        while (!list_is_empty(&c->waiting))
                request_orphan(list_entry(c->waiting.next, struct request, link_connection));
        connection_give_up_leases(c);
        connection_sum_up_one(c);
        list_unlink(&c->link);
        list_unlink(&c->link_ready);
        list_unlink(&c->link_due);
        usage_hold(&d->usage, &d->limits, c->user, &c->held, (struct usage_held){ 0 });
        usage_disconnect(&d->usage, c->user);
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
        if (r < 0 || (r == 0 && over) || (c->closing && stream_pending(c->stream) > OUT_LINGER)) {
                connection_close(c);
                return false;
        }
        if (r == STREAM_E_AGAIN)
                event_add(c->writable, NULL);
        return true;
}

static void connection_mute(struct connection *c, bool muted)
{
        if (c->muted == muted)
                return;
        c->muted = muted;
        if (muted)
                event_del(c->readable);
        else
                event_add(c->readable, NULL);
}

/* ---- what it has in memory, and for how long ---- */

/* Too much. Who does not read his answers does not read this one either. */
static void connection_refuse_more(struct connection *c, enum usage_outcome outcome, uint64_t now)
{
        union message answer = { .error = { .number_ = MESSAGE_ERROR, .code = PROTO_ERROR_QUOTA, .retry_after_msec = USAGE_RETRY_MSEC } };
        char sentence[USAGE_SENTENCE_MAX];

        turn_tell(c->daemon, c->user, &c->peer, outcome, now);
        if (stream_pending(c->stream) == 0) {
                usage_sentence(sentence, outcome, &c->daemon->limits, c->user->uid);
                answer.error.sentence = bytes_from_string(sentence);
                if (stream_queue(c->stream, &answer, 0) == 0)
                        stream_flush(c->stream, MSG_DONTWAIT);
        }
        connection_close(c);
}

/* Count what @c has in buffers after it was served. Return: whether it is still there. */
static bool connection_account(struct connection *c, uint64_t now)
{
        struct usage_held held;
        int r;

        stream_held(c->stream, &held.n_bytes, &held.n_slots);
        if (held.n_bytes == 0 && c->held.n_bytes == 0)
                return true;
        r = usage_hold(&c->daemon->usage, &c->daemon->limits, c->user, &c->held, held);
        if (r == 0)
                return true;
        connection_refuse_more(c, (enum usage_outcome)r, now);
        return false;
}

/* What a client has begun it has to end in time: HELLO, a frame, the taking of its answers. @anew: it did so since. */
static void connection_watch(struct connection *c, bool anew, uint64_t now)
{
        bool owes = !c->greeted || stream_holds_input(c->stream) || stream_pending(c->stream) > 0;

        if (anew || !owes)
                list_unlink(&c->link_due);
        if (!owes || !list_is_empty(&c->link_due))
                return;
        c->due_usec = clock_add(now, c->daemon->config->frame_timeout_usec);
        list_append(&c->daemon->due, &c->link_due);
}

void connection_overdue(struct connection *c, uint64_t now)
{
        list_unlink(&c->link_due);
        if (!list_is_empty(&c->link_ready)) {
                connection_watch(c, true, now); /* its user is over a limit: it is not its fault */
                return;
        }
        log_debug("connection %llu of uid %u: no whole frame in time, or answers not read", (unsigned long long)c->number, c->peer.uid);
        connection_close(c);
}

void connection_flush(struct connection *c)
{
        uint64_t now = clock_boottime_usec();

        if (connection_send(c) && connection_account(c, now))
                connection_watch(c, false, now);
}

void connection_writable(evutil_socket_t fd, short what, void *userdata)
{
        struct connection *c = userdata;

        if (!connection_send(c) || !connection_account(c, clock_boottime_usec()) || stream_pending(c->stream) > 0)
                return;
        list_unlink(&c->link_due);
        if (c->muted && !c->closing && !c->ended)
                turn_add(c, false);
}

/* ---- its turn ---- */

void connection_readable(evutil_socket_t fd, short what, void *userdata)
{
        struct connection *c = userdata;

        /* It was told before, and could not be served yet: the kernel need not tell it over and over. */
        if (!list_is_empty(&c->link_ready))
                connection_mute(c, true);
        else
                turn_add(c, false);
}

/*
 * Take frames, as many as one turn may have. Return: 0, or why the connection must end (-EPROTO, STREAM_E_*).
 * @ret_n: frames; @ret_more: whether there may be more at once
 */
static int connection_take(struct connection *c, uint64_t now, unsigned *ret_n, bool *ret_more)
{
        struct frame_header header;
        bool received_all = false;
        size_t n, n_bytes = 0;
        const uint8_t *data;
        int r;

        for (*ret_n = 0; *ret_n < FRAMES_PER_TURN && n_bytes < BYTES_PER_TURN && usage_may_ask(c->user, &c->daemon->limits, now) == 0;) {
                r = stream_next(c->stream, &header, &data, &n);
                if (r == 0) {
                        ++*ret_n;
                        n_bytes += n;
                        usage_pay(c->user, &c->daemon->limits, n, now);
                        r = request_begin(c, &header, data, n, now);
                        if (r < 0)
                                return r;
                        if (c->closing)
                                return -ENOBUFS;
                        continue;
                }
                if (r != STREAM_E_AGAIN)
                        return r;
                if (!received_all)
                        r = stream_receive(c->stream, MSG_DONTWAIT);
                if (r == STREAM_E_AGAIN) {
                        *ret_more = false;
                        return stream_rest(c->stream);
                }
                if (r)
                        return r;
                received_all = stream_received_all(c->stream);
        }
        *ret_more = true;
        return 0;
}

void connection_turn(struct connection *c, uint64_t now)
{
        bool more = false;
        unsigned n = 0;
        int r = connection_take(c, now, &n, &more);

        list_unlink(&c->link_ready);
        if (r == STREAM_E_CLOSED && !list_is_empty(&c->waiting)) {
                /* The client may have shut down its sending half: it still gets its answers. */
                c->ended = true;
                connection_end_leases(c);
        } else if (r != 0) {
                c->closing = true;
        }
        if (!connection_send(c) || !connection_account(c, now))
                return;
        connection_watch(c, n > 0, now);
        if (c->closing || c->ended || stream_pending(c->stream) > 0) {
                connection_mute(c, true); /* answers that are not read are the end of questions */
        } else if (more) {
                turn_add(c, stream_holds_input(c->stream));
        } else {
                connection_mute(c, false);
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
