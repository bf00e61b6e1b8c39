/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/usage.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/clock.h"

enum {
        BURST_USEC = 1000000, /* what may be asked at once: that of one second */
        PAUSE_USEC = 2000,    /* the least pause of a user over its rate */
};

void usage_init(struct usage *u)
{
        *u = (struct usage){ 0 };
        for (size_t i = 0; i < USAGE_BUCKETS; i++)
                list_init(&u->buckets[i]);
}

static void user_free(struct usage *u, struct usage_user *user)
{
        list_unlink(&user->link);
        list_unlink(&user->turn);
        free(user);
        u->n_users--;
}

void usage_deinit(struct usage *u)
{
        assert(u->n_connections == 0);
        for (size_t i = 0; i < USAGE_BUCKETS; i++) {
                while (!list_is_empty(&u->buckets[i]))
                        user_free(u, list_entry(u->buckets[i].next, struct usage_user, link));
        }
}

static struct list *bucket_of(struct usage *u, uint32_t uid)
{
        return &u->buckets[(uid * UINT32_C(0x9e3779b1)) >> 24];
}

static struct usage_user *user_find(struct usage *u, uint32_t uid)
{
        struct list *bucket = bucket_of(u, uid), *node, *following;

        list_for_each_safe (node, following, bucket) {
                struct usage_user *user = list_entry(node, struct usage_user, link);

                if (user->uid == uid)
                        return user;
        }
        return NULL;
}

static struct usage_user *user_new(struct usage *u, uint32_t uid)
{
        struct usage_user *user = calloc(1, sizeof(*user));

        if (!user)
                return NULL;
        user->uid = uid;
        list_init(&user->link);
        list_init(&user->ready);
        list_init(&user->turn);
        list_append(bucket_of(u, uid), &user->link);
        u->n_users++;
        return user;
}

/* ---- connections ---- */

static int connect_check(const struct usage *u, const struct usage_limits *limits, unsigned n_own)
{
        unsigned left = u->n_connections < limits->connections ? limits->connections - u->n_connections : 0;

        if (limits->user_connections > 0 && n_own >= limits->user_connections)
                return USAGE_E_USER_CONNECTIONS;
        return n_own >= left ? USAGE_E_CONNECTIONS : 0;
}

int usage_connect(struct usage *u, const struct usage_limits *limits, uint32_t uid, bool reserved, struct usage_user **ret_user)
{
        struct usage_user *user = user_find(u, uid);
        int r = connect_check(u, limits, user ? user->n_connections : 0);

        *ret_user = user;
        if (r != 0 && (!reserved || u->n_connections >= limits->connections + USAGE_RESERVE))
                return r;
        if (!user)
                *ret_user = user = user_new(u, uid);
        if (!user)
                return -ENOMEM;
        user->n_connections++;
        u->n_connections++;
        return 0;
}

void usage_refuse(struct usage *u, struct usage_user *user)
{
        u->n_refused++;
        if (user)
                user->n_refused++;
}

void usage_disconnect(struct usage *u, struct usage_user *user)
{
        assert(user->n_connections > 0);
        user->n_connections--;
        u->n_connections--;
}

void usage_forget(struct usage *u, uint64_t now)
{
        for (size_t i = 0; i < USAGE_BUCKETS; i++) {
                struct list *node, *following;

                list_for_each_safe (node, following, &u->buckets[i]) {
                        struct usage_user *user = list_entry(node, struct usage_user, link);

                        if (user->n_connections == 0 && user->n_requests == 0 && user->paid_until_usec <= now)
                                user_free(u, user);
                }
        }
}

/* ---- buffers ---- */

int usage_hold(struct usage *u, const struct usage_limits *limits, struct usage_user *user, struct usage_held *held, struct usage_held now_held)
{
        bool more_bytes = now_held.n_bytes > held->n_bytes, more_slots = now_held.n_slots > held->n_slots;

        user->n_bytes = user->n_bytes - held->n_bytes + now_held.n_bytes;
        user->n_slots = user->n_slots - held->n_slots + now_held.n_slots;
        u->n_slots = u->n_slots - held->n_slots + now_held.n_slots;
        *held = now_held;
        if (more_bytes && user->n_bytes > limits->user_bytes)
                return USAGE_E_BYTES;
        return more_slots && u->n_slots + user->n_slots > limits->slots ? USAGE_E_SLOTS : 0;
}

/* ---- requests ---- */

void usage_waits(struct usage_user *user)
{
        user->n_requests++;
}

void usage_answered(struct usage_user *user)
{
        assert(user->n_requests > 0);
        user->n_requests--;
}

static void user_pay(struct usage_user *user, const struct usage_limits *limits, uint64_t n, uint64_t now)
{
        uint64_t from = user->paid_until_usec > now ? user->paid_until_usec : now;

        if (limits->user_rate > 0)
                user->paid_until_usec = from + n * USEC_PER_SEC / limits->user_rate;
}

void usage_pay(struct usage_user *user, const struct usage_limits *limits, size_t n_bytes, uint64_t now)
{
        user_pay(user, limits, n_bytes <= USAGE_LONG_BYTES ? 1 : (n_bytes + USAGE_PRICE_BYTES - 1) / USAGE_PRICE_BYTES, now);
}

void usage_pay_parse(struct usage_user *user, const struct usage_limits *limits, size_t n_bytes, uint64_t now)
{
        user_pay(user, limits, (uint64_t)n_bytes * n_bytes / (USAGE_PRICE_BYTES * USAGE_PRICE_BYTES), now);
}

int usage_may_ask(struct usage_user *user, const struct usage_limits *limits, uint64_t now)
{
        if (user->n_requests >= limits->user_requests)
                return USAGE_E_REQUESTS;
        if (limits->user_rate == 0)
                return 0;
        if (user->paid_until_usec > now + BURST_USEC && user->held_until_usec <= now)
                user->held_until_usec = user->paid_until_usec - BURST_USEC + PAUSE_USEC;
        return user->held_until_usec > now ? USAGE_E_RATE : 0;
}

/* ---- words and figures ---- */

void usage_sentence(char ret_text[USAGE_SENTENCE_MAX], enum usage_outcome outcome, const struct usage_limits *limits, uint32_t uid)
{
        static const char *const close_some = "Close some, or ask the administrator to raise it.";
        static const char *const finish = "in requests not sent in whole and answers not read. Finish and read them before you ask again.";

        switch (outcome) {
        case USAGE_E_CONNECTIONS:
                snprintf(ret_text, USAGE_SENTENCE_MAX, "uid %u has as many connections as max_connections = %u leaves for it beside others. %s", uid,
                         limits->connections, close_some);
                return;
        case USAGE_E_USER_CONNECTIONS:
                snprintf(ret_text, USAGE_SENTENCE_MAX, "uid %u has user_connections = %u connections. %s", uid, limits->user_connections, close_some);
                return;
        case USAGE_E_BYTES:
                snprintf(ret_text, USAGE_SENTENCE_MAX, "uid %u has more than user_bytes = %zu bytes %s", uid, limits->user_bytes, finish);
                return;
        case USAGE_E_SLOTS:
                snprintf(ret_text, USAGE_SENTENCE_MAX, "uid %u has too much locked memory %s", uid, finish);
                return;
        case USAGE_E_REQUESTS:
                snprintf(ret_text, USAGE_SENTENCE_MAX, "uid %u has user_requests = %u requests without an answer; its next ones wait", uid,
                         limits->user_requests);
                return;
        case USAGE_E_RATE:
                snprintf(ret_text, USAGE_SENTENCE_MAX, "uid %u asks more than user_rate = %u requests a second; they wait", uid, limits->user_rate);
                return;
        }
}

size_t usage_top(const struct usage *u, const struct usage_user **ret_users, size_t max)
{
        size_t n = 0;

        for (size_t i = 0; i < USAGE_BUCKETS; i++) {
                struct list *node;

                for (node = u->buckets[i].next; node != &u->buckets[i]; node = node->next) {
                        const struct usage_user *user = list_entry(node, struct usage_user, link);
                        size_t at = n < max ? n++ : max;

                        /* Insertion from behind; at == max: only if it pushes the last one out. */
                        for (; at > 0 && ret_users[at - 1]->n_connections < user->n_connections; at--) {
                                if (at < max)
                                        ret_users[at] = ret_users[at - 1];
                        }
                        if (at < max)
                                ret_users[at] = user;
                }
        }
        return n;
}
