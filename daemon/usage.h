/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: what each uid has of lkmd at this moment, and whether it may have more, so that no uid can take what another one needs. Owned by
 * the daemon. Must not know of sockets, requests or clocks: the time is passed in.
 *
 * Two things are shared by all: connections, and the slots of locked memory that frames lie in. Of each a uid may take one more only while it
 * has fewer than are left. So one greedy uid gets half and leaves half, two get a third each and leave a third, and who comes later always finds
 * some; nothing has to be set aside for users who are not there. What a uid may have alone is in the limits.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"

enum {
        USAGE_BUCKETS = 256,
        USAGE_RESERVE = 16,         /* connections beyond all limits, for administrators: they have to see who took the others */
        USAGE_LONG_BYTES = 4096,    /* a longer request, and so hardly any, pays once for each */
        USAGE_PRICE_BYTES = 1024,   /* so many bytes that it begins */
        USAGE_RETRY_MSEC = 1000,    /* what a refusal asks to wait */
};

/** What is in force, from the configuration; a reload may change it at any time. */
struct usage_limits {
        unsigned connections;      /* of all uids together */
        unsigned slots;            /* of locked memory, for frames */
        unsigned user_connections; /* of one uid; 0: no other limit than what is left */
        unsigned user_requests;    /* that wait for an answer */
        unsigned user_rate;        /* requests a second; 0: any number */
        size_t user_bytes;         /* buffered by lkmd, in and out */
};

/** Named outcomes; usage_sentence() has words for each. */
enum usage_outcome {
        USAGE_E_CONNECTIONS = 1, /* a connection: all are taken, but for those that are left to others */
        USAGE_E_USER_CONNECTIONS,
        USAGE_E_BYTES, /* buffers */
        USAGE_E_SLOTS,
        USAGE_E_REQUESTS, /* another request: it has to wait */
        USAGE_E_RATE,
};

/** One uid, from its first connection until nothing is left of it: no connection, no request, and no debt of the rate. */
struct usage_user {
        struct list link;  /* in a bucket */
        struct list ready; /* what of it waits to be served: whoever serves puts it there, */
        struct list turn;  /* and this user among those that have something ready */
        uint32_t uid;
        bool is_admin; /* a connection of it had the right `admin` */
        unsigned n_connections, n_requests;
        size_t n_bytes;
        unsigned n_slots;
        uint64_t n_refused;      /* connections, since it is known */
        uint64_t paid_until_usec; /* its requests so far would have taken until then at exactly its rate */
        uint64_t held_until_usec; /* not served before: it was over its rate */
        uint64_t told_usec;       /* when the log was last told that it is over a limit; 0: never */
};

struct usage {
        struct list buckets[USAGE_BUCKETS]; /* of struct usage_user */
        size_t n_users;
        unsigned n_connections, n_slots;
        uint64_t n_refused; /* connections */
};

/** What one connection has in buffers. */
struct usage_held {
        size_t n_bytes;
        unsigned n_slots;
};

void usage_init(struct usage *u);
/** usage_deinit() - every connection has to have gone. */
void usage_deinit(struct usage *u);

/**
 * usage_connect() - count one more connection of @uid
 * @reserved: of an administrator, who may take it from the reserve
 * @ret_user: valid until usage_forget() after its last usage_disconnect() and usage_answered(); when refused, NULL if nothing is known of @uid
 * Return: 0; USAGE_E_CONNECTIONS, USAGE_E_USER_CONNECTIONS; -ENOMEM.
 */
int usage_connect(struct usage *u, const struct usage_limits *limits, uint32_t uid, bool reserved, struct usage_user **ret_user);
/** usage_refuse() - count a connection that was not taken. @user: or NULL. */
void usage_refuse(struct usage *u, struct usage_user *user);
void usage_disconnect(struct usage *u, struct usage_user *user);
/** usage_forget() - free whoever has nothing left at @now. */
void usage_forget(struct usage *u, uint64_t now);

/** usage_hold() - @held, of one connection of @user, becomes @now_held, be it too much or not. Return: 0; USAGE_E_BYTES or USAGE_E_SLOTS when it grew
 *  and is too much now. */
int usage_hold(struct usage *u, const struct usage_limits *limits, struct usage_user *user, struct usage_held *held,
               struct usage_held now_held);

/** usage_waits(), usage_answered() - a request of @user waits; has ended. */
void usage_waits(struct usage_user *user);
void usage_answered(struct usage_user *user);

/** usage_pay() - @user asked something in a frame of @n_bytes. A token bucket that holds what one second fills. */
void usage_pay(struct usage_user *user, const struct usage_limits *limits, size_t n_bytes, uint64_t now);
/** usage_pay_parse() - lkmd has to parse a record of @n_bytes for it, which holds up everybody: that costs (@n_bytes in KiB)² more. A record of 1 KiB takes
 *  some 30 us and costs what any request does; one of 64 KiB takes up to 2.5 ms, and may take no more than a hundredth of lkmd's time. */
void usage_pay_parse(struct usage_user *user, const struct usage_limits *limits, size_t n_bytes, uint64_t now);
/**
 * usage_may_ask() - whether to read on
 * A user over its rate is held until it may ask for some requests at once, so that not each one is a pause of its own: held_until_usec.
 * Return: 0, USAGE_E_REQUESTS, USAGE_E_RATE.
 */
int usage_may_ask(struct usage_user *user, const struct usage_limits *limits, uint64_t now);

#define USAGE_SENTENCE_MAX 256
/** usage_sentence() - which limit, and what to do next. */
void usage_sentence(char ret_text[USAGE_SENTENCE_MAX], enum usage_outcome outcome, const struct usage_limits *limits, uint32_t uid);

/** usage_top() - the users with the most connections, most first. Return: how many, @max at most. */
size_t usage_top(const struct usage *u, const struct usage_user **ret_users, size_t max);
