/* SPDX-License-Identifier: Apache-2.0 */
/* lease: the holder's end. Its session never blocks: lkm_lease_is_wanted() is asked between two transactions. */
#include "client/lease.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "client/database.h"
#include "common/clock.h"

enum {
        YIELD_MSEC = 10 * 60 * 1000,
        REFUSED_MSEC = 1000, /* after the daemon refused the lease, it is not asked again for so long, */
        REFUSALS_MAX = 6,    /* and each time twice as long, up to a minute */
        AWAY_MSEC = 20,      /* between two attempts to reach a daemon that is being restarted */
};

struct lkm_lease {
        struct lkm *session; /* its own; non-blocking */
        char *database_path;
        uint64_t timeout_usec; /* of the handle that it was made with */
        uint32_t id;           /* of the LEASE on this connection; 0: has to be sent */
        uint32_t yield_id;     /* of a YIELD that is unanswered, or 0 */
        bool held;             /* the LEASE is answered */
        bool wanted;           /* by what was told last */
        bool yielded;          /* and the daemon knows that the database is closed */
        int error;             /* why the LEASE was refused, or 0 */
        unsigned n_refusals;   /* one after the other */
        uint64_t again_usec;   /* when it may be sent again after that; CLOCK_BOOTTIME */
};

/* The connection is gone, and all that it was told. */
static int lease_lost(struct lkm_lease *l, int error)
{
        connection_close(l->session);
        l->id = l->yield_id = 0;
        l->held = l->wanted = l->yielded = false;
        return error;
}

static void lease_refused(struct lkm_lease *l, int error)
{
        l->id = 0;
        l->held = false;
        l->error = error;
        l->again_usec = clock_add(clock_boottime_usec(), (REFUSED_MSEC * USEC_PER_MSEC) << l->n_refusals);
        l->n_refusals += l->n_refusals < REFUSALS_MAX;
}

/* ---- without waiting ---- */

/* Events and answers come in the order in which the daemon decided: by the answer to YIELD, all that was told before is known, and what it
 * was told last says whether the YIELD counted. */
static void lease_take_answer(struct lkm_lease *l, uint32_t id, const union message *answer, int error)
{
        if (id == l->id && error) {
                lease_refused(l, error);
        } else if (id == l->id && answer->number == MESSAGE_DONE) {
                l->held = true;
                l->error = 0;
                l->n_refusals = 0;
        } else if (id == l->id && answer->number == MESSAGE_LEASE_EVENT) {
                l->wanted = answer->lease_event.event == 1;
                l->yielded = false;
        } else if (id == l->yield_id) {
                l->yield_id = 0;
                l->yielded = l->wanted && !error;
        }
}

static int lease_take_answers(struct lkm_lease *l)
{
        for (;;) {
                union message answer;
                uint32_t id;
                int error, r = connection_take(l->session, &id, &answer, &error);

                if (r == CONNECTION_E_AGAIN)
                        return 0;
                if (r)
                        return lease_lost(l, r);
                lease_take_answer(l, id, &answer, error);
                message_deinit(&answer);
        }
}

/* Send and receive what is possible. */
static int lease_turn(struct lkm_lease *l)
{
        struct lkm *session = l->session;
        int r = stream_flush(session->stream, MSG_DONTWAIT);

        if (r < 0 && r != -EPIPE)
                return lease_lost(l, connection_lost(session, r));
        for (;;) {
                r = stream_receive(session->stream, MSG_DONTWAIT);
                if (r == STREAM_E_AGAIN || r == -ENOBUFS) /* no slot of the arena is free: the bytes wait in the socket */
                        return 0;
                if (r == STREAM_E_INVALID)
                        return lease_lost(l, error_set_default(session, LKM_E_PROTOCOL));
                if (r)
                        return lease_lost(l, connection_lost(session, r == STREAM_E_CLOSED ? 0 : r));
                r = lease_take_answers(l);
                if (r)
                        return r;
        }
}

static int lease_ask(struct lkm_lease *l)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };
        union message request = { .lease = { .number_ = MESSAGE_LEASE } };
        int r = database_record_read(l->session, l->database_path, &record);

        if (r == 0) {
                request.lease.record = (struct bytes){ record.data, record.n };
                r = connection_queue(l->session, &request, &l->id);
        }
        if (r && l->session->fd >= 0)
                lease_refused(l, r);
        return r;
}

/* One step on: connect, ask for the lease, send, receive; whatever is to be done. Return: 0, or why there is no daemon. A refusal is in
 * l->error. */
static int lease_step(struct lkm_lease *l)
{
        int r = connection_open(l->session);

        if (r)
                return lease_lost(l, r);
        if (l->id == 0 && (!l->error || clock_boottime_usec() >= l->again_usec)) {
                r = lease_ask(l);
                if (r && l->session->fd < 0)
                        return lease_lost(l, r);
        }
        return lease_turn(l);
}

/* ---- waiting ---- */

static int left_msec(uint64_t now, uint64_t deadline)
{
        uint64_t msec = deadline > now ? (deadline - now + USEC_PER_MSEC - 1) / USEC_PER_MSEC : 0;

        return msec < YIELD_MSEC ? (int)msec : YIELD_MSEC;
}

static void lease_poll(const struct lkm_lease *l, int msec)
{
        struct pollfd p = { .fd = l->session->fd, .events = POLLIN };

        if (l->session->fd >= 0 && stream_pending(l->session->stream) > 0)
                p.events |= POLLOUT;
        poll(&p, 1, msec);
}

static int lease_say_yielded(struct lkm_lease *l)
{
        union message request = { .yield = { .number_ = MESSAGE_YIELD, .lease = l->id } };
        int r = connection_queue(l->session, &request, &l->yield_id);

        return r ? lease_lost(l, r) : 0;
}

/* The database is closed: wait until the lease is held and nobody wants the database. @away_usec: how long to wait for a daemon that is not
 * there. */
static int lease_wait(struct lkm_lease *l, uint64_t deadline, uint64_t away_usec)
{
        uint64_t away_until = 0;

        for (;;) {
                uint64_t now;
                int r = lease_step(l);

                if (r == 0 && l->held && !l->wanted)
                        return 0;
                if (r == 0 && l->id == 0 && l->error && l->error != LKM_E_SHUTTING_DOWN)
                        return l->error;
                if (r == 0 && l->wanted && !l->yielded && l->yield_id == 0) {
                        r = lease_say_yielded(l);
                        if (r == 0)
                                continue;
                }
                now = clock_boottime_usec();
                if (r == 0 && now >= deadline)
                        return l->wanted ? error_set(l->session, LKM_E_TIMEOUT,
                                                     "the rotation of %s has not ended. Yield again, and keep the database closed.",
                                                     l->database_path)
                                         : error_set_default(l->session, LKM_E_TIMEOUT);
                if (r && r != LKM_E_NO_DAEMON && r != LKM_E_TIMEOUT && r != LKM_E_SHUTTING_DOWN && r != LKM_E_NO_MEMORY)
                        return r;
                if (r == 0) {
                        away_until = 0;
                        lease_poll(l, left_msec(now, deadline));
                        continue;
                }
                if (away_until == 0)
                        away_until = clock_add(now, away_usec);
                if (now >= away_until || now >= deadline)
                        return r;
                poll(NULL, 0, AWAY_MSEC);
        }
}

/* ---- lkm.h ---- */

static int lease_make(struct lkm_lease **ret_lease, const struct lkm *lkm, const char *database_path)
{
        struct lkm_options options = { .socket = lkm->socket, .software = lkm->software };
        struct lkm_lease *l = calloc(1, sizeof(*l));
        int r = 0;

        if (!l)
                return -ENOMEM;
        l->database_path = strdup(database_path);
        l->timeout_usec = lkm->timeout_usec;
        r = l->database_path ? connection_new(&l->session, &options) : -ENOMEM;
        if (r < 0) {
                lkm_lease_free(&l);
                return r;
        }
        l->session->blocks_not = true;
        l->session->timeout_usec = 0;
        *ret_lease = l;
        return 0;
}

/* A record of the first format has no identity to lease by. */
static int lease_upgrade(struct lkm *lkm, const char *database_path)
{
        struct lkm_key *key = NULL;
        int r = lkm_load(lkm, database_path, NULL, &key);

        lkm_key_free(&key);
        return r;
}

int lkm_lease_new(struct lkm *lkm, const char *database_path, struct lkm_lease **ret_lease)
{
        struct lkm_lease *l;
        uint64_t deadline;
        int r = connection_check(lkm);

        if (r)
                return r;
        if (!database_path || !*database_path || !ret_lease)
                return error_set_default(lkm, LKM_E_ARGUMENT);
        r = lease_make(&l, lkm, database_path);
        if (r < 0)
                return error_set_errno(lkm, r, "lkm_lease_new");
        deadline = clock_add(clock_boottime_usec(), l->timeout_usec);
        r = lease_wait(l, deadline, 0);
        if (r == LKM_E_RECORD_OUTDATED) {
                r = lease_upgrade(lkm, database_path);
                l->error = 0;
                if (r == 0)
                        r = lease_wait(l, deadline, 0);
                else
                        error_write(l->session, "%s", lkm->message);
        }
        if (r == LKM_E_TIMEOUT && l->wanted)
                r = error_set(l->session, LKM_E_ROTATION_IN_PROGRESS, "%s is being rotated. %s", database_path,
                              lkm_strerror(LKM_E_ROTATION_IN_PROGRESS));
        if (r) {
                error_write(lkm, "%s", l->session->message);
                lkm_lease_free(&l);
                return r;
        }
        *ret_lease = l;
        return 0;
}

void lkm_lease_free(struct lkm_lease **lease)
{
        struct lkm_lease *l = lease ? TAKE_PTR(*lease) : NULL;

        if (!l)
                return;
        lkm_free(&l->session);
        free(l->database_path);
        free(l);
}

int lkm_lease_fd(const struct lkm_lease *lease)
{
        return lease && !secret_arena_forked() ? lease->session->fd : -1;
}

int lkm_lease_is_wanted(struct lkm_lease *lease)
{
        if (!lease || secret_arena_forked())
                return 0;
        if (lease_step(lease) != 0)
                lease_step(lease); /* the daemon hung up since the last time: perhaps there is another one already */
        return lease->wanted;
}

int lkm_lease_yield(struct lkm_lease *lease, uint32_t timeout_msec)
{
        uint64_t timeout_usec = (timeout_msec ? timeout_msec : YIELD_MSEC) * USEC_PER_MSEC;
        int r;

        if (!lease)
                return LKM_E_ARGUMENT;
        if (secret_arena_forked())
                return error_set_default(NULL, LKM_E_FORKED);
        r = lease_wait(lease, clock_add(clock_boottime_usec(), timeout_usec), lease->timeout_usec);
        return r ? error_set(NULL, r, "%s", lease->session->message) : 0;
}
