/* SPDX-License-Identifier: Apache-2.0 */
/* stages: from a record to the one that follows it, and to the keys of versions that are not the current one. */
#include "daemon/stages.h"

#include <errno.h>

#include "common/clock.h"

enum { ROTATE_FLAG_WAL = 1 };

/* What the message asks for, but for what the request knows itself. @ret_record: the text of the record. */
static struct change_order order_of(const union message *m, struct bytes *ret_record)
{
        switch (m->number) {
        case MESSAGE_ROTATE:
                *ret_record = m->rotate.record;
                return (struct change_order){ .kind = CHANGE_ROTATE, .restore_wal = m->rotate.flags & ROTATE_FLAG_WAL };
        case MESSAGE_COMMIT:
                *ret_record = m->commit.record;
                return (struct change_order){ .kind = CHANGE_COMMIT, .version = m->commit.version };
        case MESSAGE_ABORT:
                *ret_record = m->abort.record;
                return (struct change_order){ .kind = CHANGE_ABORT, .version = m->abort.version };
        case MESSAGE_PURGE:
                *ret_record = m->purge.record;
                return (struct change_order){ .kind = CHANGE_PURGE, .version = m->purge.version };
        case MESSAGE_REWRAP:
                *ret_record = m->rewrap.record;
                return (struct change_order){ .kind = CHANGE_REWRAP };
        case MESSAGE_REKEK:
                *ret_record = m->rekek.record;
                return (struct change_order){ .kind = CHANGE_REKEK };
        default: /* GET */
                *ret_record = m->get.record;
                return (struct change_order){ .kind = m->get.purpose == GET_PURPOSE_RECOVER ? CHANGE_RECOVER : CHANGE_READ, .version = m->get.version };
        }
}

int stage_decode_change(struct request *r)
{
        struct bytes text;

        order_of(r->message, &text);
        return request_decode(r, text, (struct bytes){ 0 }, true);
}

/* ---- authorize ---- */

int stage_authorize_rotate(struct request *r)
{
        return request_authorize(r, POLICY_RIGHT_ROTATE);
}

int stage_authorize_history(struct request *r)
{
        return request_authorize(r, POLICY_RIGHT_HISTORY);
}

/* Which right a version needs is the record's claim; it is verified before the key goes out. */
int stage_authorize_read(struct request *r)
{
        const struct record_version *v = record_version_find(r->record, r->message->get.version);

        if (r->message->get.purpose == GET_PURPOSE_RECOVER)
                return request_authorize(r, POLICY_RIGHT_RECOVER);
        return request_authorize(r, v->state == RECORD_STATE_PENDING ? POLICY_RIGHT_ROTATE : POLICY_RIGHT_HISTORY);
}

/* ---- cache, unwrap ---- */

/* A stale key opens databases; it makes no records, and no old key goes out by it. */
int stage_cache_current(struct request *r)
{
        if (!r->entry || !cache_entry_is_fresh(r->entry, r->now_usec)) {
                cache_count(r->daemon->cache, false, false);
                return STAGE_NEXT;
        }
        cache_count(r->daemon->cache, true, false);
        cache_touch(r->daemon->cache, r->entry, r->now_usec);
        r->key = secret_ref(r->entry->key);
        return STAGE_NEXT;
}

int stage_change(struct request *r)
{
        struct bytes text;
        struct change_order order = order_of(r->message, &text);
        enum proto_error refusal;
        int result;

        order.config = r->config;
        order.scope = r->scope;
        order.record = r->record;
        order.current = r->key;
        order.origin = r->key ? r->entry->origin : NULL;
        if (order.kind == CHANGE_RECOVER && order.version == 0)
                order.version = record_current(r->record)->number;
        refusal = change_refusal(&order);
        if (refusal != PROTO_ERROR_NONE)
                return request_refuse(r, refusal, NULL);
        result = change_start(&r->change, r->daemon, &order, clock_wall_usec());
        if (result < 0)
                return result;
        return result == CHANGE_E_DONE ? STAGE_NEXT : request_wait(r, &r->change->waiters);
}

/* ---- verify, store ---- */

int stage_verify_change(struct request *r)
{
        const struct change *c = r->change;
        struct cache_entry *entry;

        if (!c->error) /* locked since the request began? */
                return r->daemon->locked ? request_refuse(r, PROTO_ERROR_LOCKED, NULL) : STAGE_NEXT;
        entry = cache_find(r->daemon->cache, r->digest, r->now_usec);
        if (entry && c->current_failed && !flight_is_outage(c->error))
                cache_evict(r->daemon->cache, entry, CACHE_REASON_DENIED);
        return request_refuse(r, flight_refusal(c->error), c->sentence);
}

/* The next record; its key is in the cache before the client has it. */
int stage_store_next(struct request *r)
{
        const struct change *c = r->change;
        struct record_next next = { .n_versions = c->n_next, .versions = c->next, .rotated_at_usec = c->rotated_at_usec };
        const struct record_version *current = c->next, *last = &c->next[c->n_next - 1];
        struct cache_item item = { .digest = r->digest, .database_id = c->record->database_id, .scope = c->record->scope, .label = c->record->label,
                                   .cipher = c->record->cipher };
        int error;

        secret_unref(r->key);
        r->key = secret_ref(change_signer(c));
        error = record_next_text(&r->text, &r->n_text, c->record, &next, r->key);
        secret_wipe_stack();
        if (error == -EMSGSIZE)
                return request_refuse(r, PROTO_ERROR_RECORD_FULL, NULL);
        if (error < 0)
                return error;
        if (EVP_Digest(r->text, r->n_text, r->digest, NULL, EVP_sha256(), NULL) != 1)
                return -EIO;
        while (current->state != RECORD_STATE_CURRENT)
                current++;
        item.origin = change_signer_origin(c);
        item.version = current->number;
        item.pending = last->state == RECORD_STATE_PENDING ? last->number : 0;
        item.rotated_wall_usec = current->created_at_usec;
        return request_store(r, &item);
}

/* ---- audit, reply ---- */

int stage_audit_change(struct request *r)
{
        const struct change *c = r->change;
        struct audit_event event;

        if (!r->connection)
                return STAGE_DONE;
        event = request_event(r, change_text(c->kind));
        event.database_id = c->record->database_id;
        event.label = c->record->label;
        request_event_origin(&event, c->origin ? c->origin : c->current_origin);
        event.version = c->version ? c->version : record_current(c->record)->number;
        return request_audit(r, &event);
}

int stage_reply_change(struct request *r)
{
        /* Whoever still has the record of before asks the KMS: the key that it names has had its day. */
        if (r->change->kind == CHANGE_COMMIT || r->change->kind == CHANGE_PURGE)
                cache_evict_database(r->daemon->cache, r->entry->database_id, r->digest);
        return stage_reply_record(r);
}

enum { KEY_FLAG_RESTORE_WAL = 4 };

int stage_reply_version(struct request *r)
{
        const struct change *c = r->change;
        const struct record_version *v = record_version_find(c->record, c->version), *pending = record_pending(c->record);
        union message answer = { .key = { .number_ = MESSAGE_KEY,
                                          .key = c->read,
                                          .database_id = c->record->database_id,
                                          .version = c->version,
                                          .scope = bytes_from_string(c->record->scope),
                                          .cipher_library = bytes_from_string(c->record->cipher.library),
                                          .cipher_compatibility = c->record->cipher.compatibility,
                                          .page_size = c->record->cipher.page_size,
                                          .flags = v->restore_wal ? KEY_FLAG_RESTORE_WAL : 0,
                                          .pending = pending ? pending->number : 0 } };

        return request_answer(r, &answer);
}
