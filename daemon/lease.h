/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease: who has which database open, and which databases a rotation wants closed. A lease gives its holder nothing but the promise to be
 * told; that the record was proved, and who may ask, was decided before. One table, owned by the daemon; a holder is a part of its
 * connection. Must not know of sockets, requests, keys or clocks.
 *
 * What a lease has to be told is a state and no queue: whether its database is wanted, against what it was told last. So somebody who does
 * not listen owes nothing more than one event for each lease, however often rotations come and go.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"
#include "daemon/policy.h"

enum {
        LEASES_PER_CONNECTION = 64,
        LEASE_BUCKETS = 1024,
};

/** What a lease is told; the numbers of LEASE_EVENT. */
enum lease_event { LEASE_EVENT_CLOSE = 1, LEASE_EVENT_REOPEN = 2 };

/** Named outcomes. */
enum {
        LEASE_E_QUOTA = 1, /* the connection has as many leases as it may */
        LEASE_E_EXISTS,    /* the connection has a lease of that id */
        LEASE_E_NONE,      /* it has none */
        LEASE_E_WANTED,    /* another connection quiesces the database */
        LEASE_E_OTHER,     /* the connection quiesces another database */
};

/** The leases of one connection, and the database that it quiesces. */
struct lease_holder {
        const struct peer *peer; /* the connection's; lives as long as this */
        struct list leases;
        size_t n_leases;
        size_t n_owed; /* leases that have to be told something */
        struct lease_database *quiesced;
};

struct lease_table {
        struct list buckets[LEASE_BUCKETS]; /* of struct lease_database, by id: random numbers, since a record has to be proved */
        size_t n_databases, n_leases, n_quiesced;
        /* Called inside the functions below; must not call any of them. */
        void (*wake)(struct lease_holder *holder);  /* n_owed is not 0 any more */
        void (*quiet)(struct lease_holder *holder); /* the last one has yielded or gone, of the database that @holder quiesces */
};

void lease_table_init(struct lease_table *t, void (*wake)(struct lease_holder *holder), void (*quiet)(struct lease_holder *holder));

void lease_holder_init(struct lease_holder *h, const struct peer *peer);
/** lease_holder_deinit() - give up every lease, and resume. */
void lease_holder_deinit(struct lease_holder *h, struct lease_table *t);

/**
 * lease_take() - a lease of a database, which need not exist in the table
 * @id: of the request; names the lease on its connection
 * When the database is quiesced, the lease has to be told so at once, and counts as open.
 * Return: 0, LEASE_E_QUOTA, LEASE_E_EXISTS, -ENOMEM.
 */
int lease_take(struct lease_table *t, struct lease_holder *h, uint32_t id, const char *scope, const uint8_t *database_id);
/** lease_yield() - the holder has closed the database. It stays so until it is told LEASE_EVENT_REOPEN; without effect when it was not told
 *  LEASE_EVENT_CLOSE before. Return: 0 or LEASE_E_NONE. */
int lease_yield(struct lease_table *t, struct lease_holder *h, uint32_t id);
/** lease_next_event() - the next event that is to be sent now; it counts as told. Return: whether there is one. */
bool lease_next_event(struct lease_holder *h, uint32_t *ret_id, enum lease_event *ret_event);

/** lease_quiesce() - want a database closed, until lease_resume(); harmless when @h does so already. Return: 0, LEASE_E_WANTED, LEASE_E_OTHER,
 *  -ENOMEM. */
int lease_quiesce(struct lease_table *t, struct lease_holder *h, const char *scope, const uint8_t *database_id);
/** lease_is_quiet() - whether nobody has the database open that @h quiesces. False when it quiesces none. */
bool lease_is_quiet(const struct lease_holder *h);
/** lease_resume() - harmless when @h quiesces nothing. */
void lease_resume(struct lease_table *t, struct lease_holder *h);
/** lease_each() - who holds leases of the database that @h quiesces, once for each: first those who have it open. @visit returns false to stop. */
void lease_each(const struct lease_holder *h, bool (*visit)(void *userdata, const struct peer *peer, bool yielded), void *userdata);
