/* SPDX-License-Identifier: Apache-2.0 */
/* stages: audit. The line is written first; with audit_sync = always, the request then waits until it is durable. */
#include "daemon/stages.h"

#include <errno.h>

struct audit_event request_event(const struct request *r, const char *name)
{
        struct audit_event event = { .event = name, .peer = &r->connection->peer, .connection = r->connection->number,
                                     .decision = "allow", .reason = r->rule, .stale = r->stale };

        if (r->scope)
                event.scope = r->scope->name;
        if (r->entry) {
                event.database_id = r->entry->database_id;
                event.label = r->entry->label;
                event.version = r->entry->version;
                request_event_origin(&event, r->entry->origin);
        }
        return event;
}

void request_event_origin(struct audit_event *event, const struct origin *origin)
{
        if (!origin)
                return;
        event->kek = origin->kek;
        event->kek_id = origin->kek_id;
        event->kms_request_id = origin->request_id;
}

int request_wait_durable(struct request *r, uint64_t sequence)
{
        struct lkmd *d = r->daemon;
        int result;

        if (r->config->audit_sync == AUDIT_SYNC_BATCH || sequence <= d->audit_durable)
                return STAGE_NEXT;
        if (d->audit_error < 0)
                return request_refuse(r, PROTO_ERROR_AUDIT_UNAVAILABLE, audit_error_text(d->audit_error));
        if (r->entry && !r->kept) {
                r->kept = aligned_alloc(_Alignof(struct cache_entry), sizeof(*r->kept));
                if (!r->kept)
                        return -ENOMEM;
                *r->kept = *r->entry;
                r->kept->key = NULL;
                origin_ref(r->kept->origin);
        }
        r->audit_sequence = sequence;
        result = request_wait(r, &d->audit_waiters);
        d->n_audit_waiters += result == STAGE_WAIT;
        return result;
}

int request_audit(struct request *r, const struct audit_event *event)
{
        if (lkmd_audit(r->daemon, event) < 0)
                return request_refuse(r, PROTO_ERROR_AUDIT_UNAVAILABLE, audit_error_text(r->daemon->audit_error));
        return request_wait_durable(r, audit_sequence(r->daemon->audit));
}

/* One line for each key that a connection is given; what it is given again is counted. */
int stage_audit_release(struct request *r)
{
        struct released *released;
        struct released_key *key;
        struct audit_event event;
        struct lkmd *d = r->daemon;

        if (!r->connection)
                return STAGE_DONE;
        released = &r->connection->released;
        key = released_find(released, r->entry->serial);
        if (key && !auditing_has_lost(d, key->audit_sequence)) {
                key->n_repeats++;
                return request_wait_durable(r, key->audit_sequence); /* of the first answer, which may still wait */
        }
        event = request_event(r, "release");
        if (!key && released_reserve(released) < 0)
                return -ENOMEM;
        if (lkmd_audit(d, &event) < 0)
                return request_refuse(r, PROTO_ERROR_AUDIT_UNAVAILABLE, audit_error_text(d->audit_error));
        if (!key) {
                released_add(released, &(struct released_key){ .serial = r->entry->serial, .version = r->entry->version });
                key = released_find(released, r->entry->serial);
                memcpy(key->database_id, r->entry->database_id, UUID_SIZE);
        }
        key->audit_sequence = audit_sequence(d->audit);
        return request_wait_durable(r, key->audit_sequence);
}

int stage_audit(struct request *r)
{
        struct audit_event event;
        const char *name = r->number == MESSAGE_CREATE    ? "create"
                           : r->number == MESSAGE_IMPORT  ? "import"
                           : r->number == MESSAGE_UPGRADE ? "upgrade"
                           : r->number == MESSAGE_CHECK   ? "check"
                           : r->number == MESSAGE_LEASE   ? "lease"
                           : r->number == MESSAGE_QUIESCE ? "quiesce"
                           : r->number == MESSAGE_LOCK    ? "lock"
                           : r->number == MESSAGE_UNLOCK  ? "unlock"
                                                          : "kek-check";

        if (!r->connection)
                return STAGE_DONE;
        event = request_event(r, name);
        if (r->number == MESSAGE_KEK_CHECK) {
                struct bytes asked = r->message->kek_check.kek;

                snprintf(r->kek, sizeof(r->kek), "%.*s", (int)asked.n, (const char *)asked.data);
                event.kek = r->kek;
        }
        if (r->number != MESSAGE_LOCK)
                return request_audit(r, &event);
        /* Locking protects: it is done whether the log can be written or not. */
        event.weight = AUDIT_WEIGHT_LAST;
        lkmd_audit(r->daemon, &event);
        return STAGE_NEXT;
}

