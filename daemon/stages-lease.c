/* SPDX-License-Identifier: Apache-2.0 */
/* stages: LEASE, YIELD, QUIESCE, RESUME. Who holds what is lease.c's; here it meets connections and time. */
#include "daemon/stages.h"

#include <errno.h>

#include "common/clock.h"

enum { QUIESCE_MAX_MSEC = 60000 };

/** A connection's QUIESCE. Nothing asks again and again: it is answered by one of two events. */
struct quiesce {
        struct list waiters; /* of struct request: the QUIESCE while it is unanswered, one at most */
        struct event *timeout;
        struct event *ready; /* activated when there may be nothing left to wait for */
};

/* ---- told by the table, in the middle of its work: everything is done by the event loop, afterwards ---- */

static void on_wake(struct lease_holder *holder)
{
        struct connection *c = list_entry(holder, struct connection, leases);

        event_active(c->writable, EV_WRITE, 0);
}

static void on_quiet(struct lease_holder *holder)
{
        struct connection *c = list_entry(holder, struct connection, leases);

        if (c->quiesce)
                event_active(c->quiesce->ready, EV_TIMEOUT, 0);
}

void leases_start(struct lkmd *d)
{
        lease_table_init(&d->leases, on_wake, on_quiet);
}

void leases_drain(struct lkmd *d)
{
        struct list *node, *following;

        list_for_each_safe(node, following, &d->connections)
                on_quiet(&list_entry(node, struct connection, link)->leases);
}

/* ---- waiting ---- */

/* The connection, and @q with it, may be gone afterwards. */
static void quiesce_answer(struct quiesce *q)
{
        struct request *r;

        event_del(q->timeout);
        if (list_is_empty(&q->waiters))
                return;
        r = list_entry(q->waiters.next, struct request, link);
        list_unlink(&r->link);
        request_resume(r, NULL);
}

static void on_timeout(evutil_socket_t fd, short what, void *userdata)
{
        struct connection *c = userdata;

        quiesce_answer(c->quiesce);
}

static void on_ready(evutil_socket_t fd, short what, void *userdata)
{
        struct connection *c = userdata;

        /* Somebody may have taken a lease since. */
        if (!c->leases.quiesced || lease_is_quiet(&c->leases) || c->daemon->draining)
                quiesce_answer(c->quiesce);
}

static void quiesce_free(struct quiesce *q)
{
        if (!q)
                return;
        if (q->timeout)
                event_free(q->timeout);
        if (q->ready)
                event_free(q->ready);
        free(q);
}

static int quiesce_new(struct quiesce **ret_quiesce, struct connection *c)
{
        struct quiesce *q = calloc(1, sizeof(*q));

        if (!q)
                return -ENOMEM;
        list_init(&q->waiters);
        q->timeout = evtimer_new(c->daemon->base, on_timeout, c);
        q->ready = evtimer_new(c->daemon->base, on_ready, c);
        if (!q->timeout || !q->ready) {
                quiesce_free(q);
                return -ENOMEM;
        }
        *ret_quiesce = q;
        return 0;
}

void connection_end_leases(struct connection *c)
{
        lease_holder_deinit(&c->leases, &c->daemon->leases);
        on_quiet(&c->leases); /* its own QUIESCE is answered, should somebody still read that */
}

void connection_give_up_leases(struct connection *c)
{
        lease_holder_deinit(&c->leases, &c->daemon->leases);
        if (c->quiesce)
                quiesce_answer(c->quiesce); /* an orphan, which answers nobody */
        quiesce_free(TAKE_PTR(c->quiesce));
}

/* ---- quiesce ---- */

static int quiesce_refuse(struct request *r, int outcome)
{
        switch (outcome) {
        case LEASE_E_WANTED:
                return request_refuse(r, PROTO_ERROR_ROTATION_IN_PROGRESS, "another connection quiesces the database");
        case LEASE_E_OTHER:
                return request_refuse(r, PROTO_ERROR_QUOTA, "this connection quiesces another database, which RESUME ends");
        default:
                return outcome;
        }
}

int stage_quiesce(struct request *r)
{
        struct connection *c = r->connection;
        uint32_t msec = r->quiesce_msec < QUIESCE_MAX_MSEC ? r->quiesce_msec : QUIESCE_MAX_MSEC;
        struct timeval timeout = { .tv_sec = msec / 1000, .tv_usec = (suseconds_t)(msec % 1000 * USEC_PER_MSEC) };
        int result;

        if (!c || c->ended)
                return STAGE_DONE;
        if (c->quiesce && !list_is_empty(&c->quiesce->waiters))
                return request_refuse(r, PROTO_ERROR_ROTATION_IN_PROGRESS, "an earlier QUIESCE of this connection is unanswered");
        if (!c->quiesce) {
                result = quiesce_new(&c->quiesce, c);
                if (result < 0)
                        return result;
        }
        result = lease_quiesce(&r->daemon->leases, &c->leases, r->scope->name, r->entry->database_id);
        if (result)
                return quiesce_refuse(r, result);
        if (msec == 0 || lease_is_quiet(&c->leases))
                return STAGE_NEXT;
        if (event_add(c->quiesce->timeout, &timeout) < 0)
                return -ENOMEM;
        return request_wait(r, &c->quiesce->waiters);
}

/* ---- reply ---- */

int stage_lease(struct request *r)
{
        int result;

        if (!r->connection)
                return STAGE_DONE;
        result = lease_take(&r->daemon->leases, &r->connection->leases, r->id, r->scope->name, r->entry->database_id);
        if (result == LEASE_E_QUOTA)
                return request_refuse(r, PROTO_ERROR_QUOTA, "a connection may hold 64 leases");
        if (result == LEASE_E_EXISTS)
                return request_refuse(r, PROTO_ERROR_PROTOCOL, "the request id names a lease of this connection");
        if (result < 0)
                return result;
        result = stage_reply_done(r);
        connection_tell(r->connection); /* with DONE, in one write: its holder need not guess whether an event follows */
        return result;
}

int stage_yield(struct request *r)
{
        if (lease_yield(&r->daemon->leases, &r->connection->leases, r->message->yield.lease) == LEASE_E_NONE)
                return request_refuse(r, PROTO_ERROR_PROTOCOL, "this connection holds no such lease");
        return stage_reply_done(r);
}

int stage_resume(struct request *r)
{
        lease_resume(&r->daemon->leases, &r->connection->leases);
        on_quiet(&r->connection->leases); /* a QUIESCE that still waits waits for nothing now */
        return stage_reply_done(r);
}
