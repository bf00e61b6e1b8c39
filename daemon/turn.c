/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turn: who is served next. Connections that have something to read queue up behind their user, and users take turns: in one round each gets one
 * turn of one of its connections, which is a few frames. So what one uid asks, over however many connections, delays another uid's request by no
 * more than one turn. Between two rounds the kernel is asked for what is new.
 *
 * A user that is over its rate, or has too many requests under way, is not refused but not read from until it may go on: its clients see answers
 * that take longer, and a client that waits for its answers never has to know that there is a limit. This is what sshd and dbus-broker do, and TCP:
 * an error would make the program that shares its uid with a flood fail, and makes the flood itself come faster.
 */
#include <errno.h>
#include <sys/timerfd.h>

#include <jansson.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/request.h"
#include "proto/stream.h"

enum {
        DESCRIPTORS_KEPT = 64, /* that connections may not take: audit log, worker, listeners, timers, a reload */
        TOP = 10,
        TELL_USEC = 60 * 1000000,
};

void turn_add(struct connection *c, bool first)
{
        struct usage_user *user = c->user;

        if (!list_is_empty(&c->link_ready))
                return;
        if (first)
                list_prepend(&user->ready, &c->link_ready);
        else
                list_append(&user->ready, &c->link_ready);
        if (list_is_empty(&user->turn))
                list_append(&c->daemon->turns, &user->turn);
}

void turn_tell(struct lkmd *d, struct usage_user *user, const struct peer *peer, enum usage_outcome outcome, uint64_t now)
{
        char sentence[USAGE_SENTENCE_MAX];
        struct audit_event event = { .event = "limit", .peer = peer, .reason = sentence, .weight = AUDIT_WEIGHT_NOTABLE };

        if (user->told_usec != 0 && now - user->told_usec < TELL_USEC)
                return;
        user->told_usec = now;
        usage_sentence(sentence, outcome, &d->limits, user->uid);
        log_warning("%s", sentence);
        lkmd_audit(d, &event);
}

/* One turn of @user. */
static void turn_take(struct lkmd *d, struct usage_user *user, uint64_t now)
{
        struct connection *c = list_entry(user->ready.next, struct connection, link_ready);
        int over = usage_may_ask(user, &d->limits, now);

        list_unlink(&user->turn);
        if (over) {
                list_append(&d->held, &user->turn);
                turn_tell(d, user, &c->peer, (enum usage_outcome)over, now);
                return;
        }
        list_append(&d->turns, &user->turn);
        connection_turn(c, now);
}

/* Whoever was held and may go on takes part in the round. */
static void turn_release(struct lkmd *d, uint64_t now)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &d->held) {
                struct usage_user *user = list_entry(node, struct usage_user, turn);

                if (!list_is_empty(&user->ready) && usage_may_ask(user, &d->limits, now))
                        continue;
                list_unlink(node);
                if (!list_is_empty(&user->ready))
                        list_append(&d->turns, node);
        }
}

static void turn_arm(struct lkmd *d)
{
        uint64_t at = USEC_INFINITY;
        struct itimerspec time = { 0 };
        struct list *node;

        if (!list_is_empty(&d->due))
                at = list_entry(d->due.next, struct connection, link_due)->due_usec;
        for (node = d->held.next; node != &d->held; node = node->next) {
                const struct usage_user *user = list_entry(node, struct usage_user, turn);

                if (user->n_requests < d->limits.user_requests && user->held_until_usec < at)
                        at = user->held_until_usec;
        }
        if (at >= d->turn_armed_usec)
                return;
        time.it_value.tv_sec = (time_t)(at / USEC_PER_SEC);
        time.it_value.tv_nsec = (long)(at % USEC_PER_SEC * 1000) + 1; /* zero would disarm */
        if (timerfd_settime(event_get_fd(d->turn), TFD_TIMER_ABSTIME, &time, NULL) == 0)
                d->turn_armed_usec = at;
}

static void turn_round(struct lkmd *d)
{
        uint64_t now = clock_boottime_usec();
        struct list round;

        lkmd_expire(d, now);
        while (!list_is_empty(&d->due) && list_entry(d->due.next, struct connection, link_due)->due_usec <= now)
                connection_overdue(list_entry(d->due.next, struct connection, link_due), now);
        turn_release(d, now);
        /* Those that are there now: who has more queues up for the next round. */
        list_init(&round);
        while (!list_is_empty(&d->turns)) {
                struct list *node = d->turns.next;

                list_unlink(node);
                list_append(&round, node);
        }
        while (!list_is_empty(&round)) {
                struct usage_user *user = list_entry(round.next, struct usage_user, turn);

                if (list_is_empty(&user->ready))
                        list_unlink(&user->turn);
                else
                        turn_take(d, user, now);
        }
        turn_arm(d);
}

int turn_run(struct lkmd *d)
{
        for (;;) {
                int r = event_base_loop(d->base, EVLOOP_ONCE | (list_is_empty(&d->turns) ? 0 : EVLOOP_NONBLOCK));

                if (r != 0 || event_base_got_exit(d->base))
                        return r < 0 ? r : 0;
                turn_round(d);
        }
}

/* ---- start, reload, end ---- */

static void on_turn(evutil_socket_t fd, short what, void *userdata)
{
        struct lkmd *d = userdata;
        uint64_t n;

        if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
                log_error("cannot read a timer: %s", strerror(errno));
        d->turn_armed_usec = USEC_INFINITY; /* the round that follows sees what is due */
}

int turn_start(struct lkmd *d)
{
        int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);

        if (fd < 0)
                return -errno;
        d->turn = event_new(d->base, fd, EV_READ | EV_PERSIST, on_turn, d);
        if (!d->turn) {
                close(fd);
                return -ENOMEM;
        }
        d->spare_fd = accept_spare();
        turn_configure(d);
        return event_add(d->turn, NULL) < 0 ? -ENOMEM : 0;
}

void turn_configure(struct lkmd *d)
{
        const struct config *c = d->config;
        uint64_t needed = (uint64_t)c->max_connections + USAGE_RESERVE + DESCRIPTORS_KEPT;
        size_t slots;

        secret_arena_usage(NULL, NULL, NULL, &slots);
        d->limits = (struct usage_limits){ .connections = c->max_connections,
                                           .slots = (unsigned)slots,
                                           .user_connections = c->user_connections,
                                           .user_requests = c->user_requests,
                                           .user_rate = c->user_rate,
                                           .user_bytes = c->user_bytes };
        if (d->n_descriptors >= needed)
                return;
        d->limits.connections = d->n_descriptors > USAGE_RESERVE + DESCRIPTORS_KEPT ? (unsigned)(d->n_descriptors - USAGE_RESERVE - DESCRIPTORS_KEPT) : 1;
        log_warning("max_connections = %u needs LimitNOFILE=%llu; with %llu descriptors it is %u", c->max_connections, (unsigned long long)needed,
                    (unsigned long long)d->n_descriptors, d->limits.connections);
}

void turn_stop(struct lkmd *d)
{
        if (d->turn) {
                close(event_get_fd(d->turn));
                event_free(d->turn);
        }
        if (d->spare_fd >= 0)
                close(d->spare_fd);
}

/* ---- status ---- */

void *turn_report(const struct lkmd *d)
{
        const struct usage_user *top[TOP];
        size_t n = usage_top(&d->usage, top, TOP);
        json_t *users = json_array();

        for (size_t i = 0; i < n; i++)
                json_array_append_new(users, json_pack("{s:I, s:I, s:I, s:I, s:I}", "uid", (json_int_t)top[i]->uid, "connections",
                                                       (json_int_t)top[i]->n_connections, "requests", (json_int_t)top[i]->n_requests, "bytes",
                                                       (json_int_t)top[i]->n_bytes, "refused", (json_int_t)top[i]->n_refused));
        return json_pack("{s:o, s:I, s:I, s:I}", "top", users, "count", (json_int_t)d->usage.n_users, "refused",
                         (json_int_t)d->usage.n_refused, "accept_failures", (json_int_t)d->n_accept_failures);
}
