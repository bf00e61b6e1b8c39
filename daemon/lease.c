/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/lease.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"

/** A database that somebody holds a lease of, or quiesces; goes with the last of them. */
struct lease_database {
        struct list link; /* in its bucket */
        uint8_t id[UUID_SIZE];
        char scope[SCOPE_NAME_MAX + 1];
        struct list leases;
        size_t n_open;                /* leases that have not yielded */
        struct lease_holder *rotator; /* who wants it closed, or NULL */
};

struct lease {
        struct list link_database, link_holder;
        struct lease_database *database;
        struct lease_holder *holder;
        uint32_t id;
        bool told;    /* to close; LEASE_EVENT_REOPEN takes that back */
        bool yielded; /* since it was told */
};

static bool lease_owes(const struct lease *l)
{
        return l->told != (l->database->rotator != NULL);
}

void lease_table_init(struct lease_table *t, void (*wake)(struct lease_holder *holder), void (*quiet)(struct lease_holder *holder))
{
        *t = (struct lease_table){ .wake = wake, .quiet = quiet };
        for (size_t i = 0; i < LEASE_BUCKETS; i++)
                list_init(&t->buckets[i]);
}

/* ---- databases ---- */

static struct list *bucket_of(struct lease_table *t, const uint8_t *id)
{
        return &t->buckets[(size_t)(id[0] << 8 | id[1]) % LEASE_BUCKETS];
}

static struct lease_database *database_get(struct lease_table *t, const char *scope, const uint8_t *id)
{
        struct list *bucket = bucket_of(t, id), *node, *following;
        struct lease_database *d;

        list_for_each_safe(node, following, bucket) {
                d = list_entry(node, struct lease_database, link);
                if (strcmp(d->scope, scope) == 0 &&
                    bytes_equal((struct bytes){ d->id, UUID_SIZE }, (struct bytes){ id, UUID_SIZE }))
                        return d;
        }
        d = calloc(1, sizeof(*d));
        if (!d)
                return NULL;
        memcpy(d->id, id, UUID_SIZE);
        snprintf(d->scope, sizeof(d->scope), "%s", scope);
        list_init(&d->leases);
        list_init(&d->link);
        list_append(bucket, &d->link);
        t->n_databases++;
        return d;
}

static void database_put(struct lease_table *t, struct lease_database *d)
{
        if (d->rotator || !list_is_empty(&d->leases))
                return;
        list_unlink(&d->link);
        t->n_databases--;
        free(d);
}

/* Another @rotator, or none: what each holder has to be told may have changed. */
static void database_set_rotator(struct lease_table *t, struct lease_database *d, struct lease_holder *rotator)
{
        struct list *node, *following;

        d->rotator = rotator;
        list_for_each_safe(node, following, &d->leases) {
                struct lease *l = list_entry(node, struct lease, link_database);

                if (lease_owes(l)) {
                        l->holder->n_owed++;
                        t->wake(l->holder);
                } else {
                        l->holder->n_owed--; /* what it was to be told has not been sent, and is not true any more */
                }
        }
}

/* ---- holders ---- */

void lease_holder_init(struct lease_holder *h, const struct peer *peer)
{
        *h = (struct lease_holder){ .peer = peer };
        list_init(&h->leases);
}

static void lease_set_closed(struct lease_table *t, struct lease_database *d)
{
        d->n_open--;
        if (d->n_open == 0 && d->rotator)
                t->quiet(d->rotator);
}

static void lease_end(struct lease_table *t, struct lease *l)
{
        struct lease_database *d = l->database;

        list_unlink(&l->link_database);
        list_unlink(&l->link_holder);
        l->holder->n_leases--;
        l->holder->n_owed -= lease_owes(l);
        t->n_leases--;
        if (!l->yielded)
                lease_set_closed(t, d);
        database_put(t, d);
        free(l);
}

void lease_holder_deinit(struct lease_holder *h, struct lease_table *t)
{
        lease_resume(t, h);
        while (!list_is_empty(&h->leases))
                lease_end(t, list_entry(h->leases.next, struct lease, link_holder));
}

static struct lease *lease_find(const struct lease_holder *h, uint32_t id)
{
        struct list *node, *following;

        list_for_each_safe(node, following, &h->leases) {
                struct lease *l = list_entry(node, struct lease, link_holder);

                if (l->id == id)
                        return l;
        }
        return NULL;
}

int lease_take(struct lease_table *t, struct lease_holder *h, uint32_t id, const char *scope, const uint8_t *database_id)
{
        struct lease *l;

        if (lease_find(h, id))
                return LEASE_E_EXISTS;
        if (h->n_leases >= LEASES_PER_CONNECTION)
                return LEASE_E_QUOTA;
        l = calloc(1, sizeof(*l));
        if (!l)
                return -ENOMEM;
        l->database = database_get(t, scope, database_id);
        if (!l->database) {
                free(l);
                return -ENOMEM;
        }
        l->id = id;
        l->holder = h;
        list_init(&l->link_database);
        list_init(&l->link_holder);
        list_append(&l->database->leases, &l->link_database);
        list_append(&h->leases, &l->link_holder);
        l->database->n_open++;
        h->n_leases++;
        t->n_leases++;
        if (lease_owes(l)) {
                h->n_owed++;
                t->wake(h);
        }
        return 0;
}

int lease_yield(struct lease_table *t, struct lease_holder *h, uint32_t id)
{
        struct lease *l = lease_find(h, id);

        if (!l)
                return LEASE_E_NONE;
        if (l->told && !l->yielded) {
                l->yielded = true;
                lease_set_closed(t, l->database);
        }
        return 0;
}

bool lease_next_event(struct lease_holder *h, uint32_t *ret_id, enum lease_event *ret_event)
{
        struct list *node, *following;

        if (h->n_owed == 0)
                return false;
        list_for_each_safe(node, following, &h->leases) {
                struct lease *l = list_entry(node, struct lease, link_holder);

                if (!lease_owes(l))
                        continue;
                l->told = !l->told;
                h->n_owed--;
                if (!l->told && l->yielded) {
                        l->yielded = false;
                        l->database->n_open++;
                }
                *ret_id = l->id;
                *ret_event = l->told ? LEASE_EVENT_CLOSE : LEASE_EVENT_REOPEN;
                return true;
        }
        return false;
}

/* ---- rotators ---- */

int lease_quiesce(struct lease_table *t, struct lease_holder *h, const char *scope, const uint8_t *database_id)
{
        struct lease_database *d = database_get(t, scope, database_id);
        int r = 0;

        if (!d)
                return -ENOMEM;
        if (d->rotator && d->rotator != h)
                return LEASE_E_WANTED;
        if (h->quiesced && h->quiesced != d)
                r = LEASE_E_OTHER;
        if (r == 0 && !d->rotator) {
                h->quiesced = d;
                t->n_quiesced++;
                database_set_rotator(t, d, h);
        }
        database_put(t, d);
        return r;
}

bool lease_is_quiet(const struct lease_holder *h)
{
        return h->quiesced && h->quiesced->n_open == 0;
}

void lease_resume(struct lease_table *t, struct lease_holder *h)
{
        struct lease_database *d = h->quiesced;

        if (!d)
                return;
        h->quiesced = NULL;
        t->n_quiesced--;
        database_set_rotator(t, d, NULL);
        database_put(t, d);
}

void lease_each(const struct lease_holder *h, bool (*visit)(void *userdata, const struct peer *peer, bool yielded), void *userdata)
{
        struct list *node, *following;

        if (!h->quiesced)
                return;
        for (int yielded = 0; yielded <= 1; yielded++) {
                list_for_each_safe(node, following, &h->quiesced->leases) {
                        const struct lease *l = list_entry(node, struct lease, link_database);

                        if (l->yielded == yielded && !visit(userdata, l->holder->peer, l->yielded))
                                return;
                }
        }
}
