/* SPDX-License-Identifier: Apache-2.0 */
/* stages: verify, store, reply. What is between the latter two is in stages-audit.c. */
#include "daemon/stages.h"

#include <errno.h>

#include <jansson.h>

#include "common/clock.h"

static const uint64_t usec_per_day = UINT64_C(86400) * USEC_PER_SEC;

/* ---- verify ---- */

/* An outage may be bridged by a key whose grace has not ended; any other failure ends the key. */
static int verify_failed(struct request *r, struct flight *f)
{
        struct cache *cache = r->daemon->cache;
        struct cache_entry *entry = f->kind == FLIGHT_UNWRAP ? cache_find(cache, f->digest, r->now_usec) : NULL;

        if (entry && flight_is_outage(f->error)) {
                entry->refreshing = false;
                r->stale = !cache_entry_is_fresh(entry, r->now_usec);
                cache_count(cache, !r->stale, r->stale);
                cache_touch(cache, entry, r->now_usec);
                r->entry = entry;
                r->key = secret_ref(entry->key);
                return STAGE_NEXT;
        }
        if (entry)
                cache_evict(cache, entry, CACHE_REASON_DENIED);
        return request_refuse(r, flight_refusal(f->error), f->sentence);
}

int stage_verify(struct request *r)
{
        struct flight *f = r->flight;
        int error;

        if (!f) /* out of the cache: verified when it came in */
                return STAGE_NEXT;
        if (f->error)
                return verify_failed(r, f);
        if (f->kind == FLIGHT_UNWRAP && !f->verified) {
                error = record_verify(f->record, f->key);
                secret_wipe_stack();
                if (error < 0)
                        return error;
                if (error == RECORD_E_MAC) {
                        f->error = PROTO_ERROR_KMS_CORRUPT;
                        snprintf(f->sentence, sizeof(f->sentence), "its mac does not fit its content");
                        return verify_failed(r, f);
                }
                f->verified = true;
        }
        r->key = secret_ref(f->key);
        return STAGE_NEXT;
}

/* ---- store ---- */

static struct cache_times scope_times(const struct config_scope *scope)
{
        return (struct cache_times){ .ttl_usec = scope->cache_ttl_usec,
                                     .stale_grace_usec = scope->stale_grace_usec,
                                     .max_age_usec = scope->cache_max_age_usec };
}

int request_store(struct request *r, const struct cache_item *from)
{
        struct cache_times times = scope_times(r->scope);
        struct cache_item item = *from;

        if (r->daemon->locked) /* since the request began */
                return request_refuse(r, PROTO_ERROR_LOCKED, NULL);
        item.key = r->key;
        item.rotation_due_usec = USEC_INFINITY;
        if (r->scope->rotation_enabled)
                item.rotation_due_usec = clock_add(item.rotated_wall_usec, r->scope->rotation_period_days * usec_per_day);
        r->entry = cache_store(r->daemon->cache, &item, &times, r->now_usec);
        lkmd_expire(r->daemon, r->now_usec);
        return STAGE_NEXT;
}

int stage_store(struct request *r)
{
        const struct record_version *pending;
        struct flight *f = r->flight;

        if (!f || f->error)
                return STAGE_NEXT;
        if (f->stored) {
                r->entry = cache_find(r->daemon->cache, f->digest, r->now_usec);
                if (r->entry)
                        return STAGE_NEXT;
        }
        f->stored = true;
        pending = record_pending(f->record);
        return request_store(r, &(struct cache_item){ .digest = f->digest,
                                                      .origin = f->origin,
                                                      .database_id = f->record->database_id,
                                                      .version = f->version,
                                                      .pending = pending ? pending->number : 0,
                                                      .scope = f->record->scope,
                                                      .label = f->record->label,
                                                      .cipher = f->record->cipher,
                                                      .rotated_wall_usec = record_current(f->record)->created_at_usec });
}

/* Build the record of a new or upgraded key; it is in the cache before the client has it. */
int stage_store_new(struct request *r)
{
        struct flight *f = r->flight;
        struct record_template t = { .database_id = f->database_id,
                                     .scope = r->scope->name,
                                     .label = r->label,
                                     .cipher = r->cipher,
                                     .encryption_context = &r->scope->encryption_context,
                                     .created_at_usec = r->record ? r->record->created_at_usec : clock_wall_usec(),
                                     .rotated_at_usec = r->record ? r->record->rotated_at_usec : 0,
                                     .version = f->version,
                                     .n_wraps = f->n_wraps,
                                     .wraps = f->wraps };
        struct cache_item item = { .digest = r->digest, .database_id = f->database_id, .version = f->version,
                                   .scope = r->scope->name, .label = r->label, .cipher = r->cipher, .origin = f->origin };
        int error = record_new_text(&r->text, &r->n_text, &t, r->key);

        secret_wipe_stack();
        if (error < 0)
                return error;
        if (EVP_Digest(r->text, r->n_text, r->digest, NULL, EVP_sha256(), NULL) != 1)
                return -EIO;
        item.rotated_wall_usec = t.rotated_at_usec ? t.rotated_at_usec : t.created_at_usec;
        return request_store(r, &item);
}

/* ---- reply ---- */

enum { KEY_FLAG_STALE = 1, KEY_FLAG_ROTATION_DUE = 2 };

int stage_reply_key(struct request *r)
{
        const struct cache_entry *entry = r->entry;
        union message answer = { .key = { .number_ = MESSAGE_KEY,
                                          .key = r->key,
                                          .database_id = entry->database_id,
                                          .version = entry->version,
                                          .scope = bytes_from_string(entry->scope),
                                          .cipher_library = bytes_from_string(entry->cipher.library),
                                          .cipher_compatibility = entry->cipher.compatibility,
                                          .page_size = entry->cipher.page_size,
                                          .pending = entry->pending } };

        if (r->stale)
                answer.key.flags |= KEY_FLAG_STALE;
        if (entry->rotation_due_usec != USEC_INFINITY && clock_wall_usec() >= entry->rotation_due_usec)
                answer.key.flags |= KEY_FLAG_ROTATION_DUE;
        return request_answer(r, &answer);
}

int stage_reply_record(struct request *r)
{
        union message answer = { .record = { .number_ = MESSAGE_RECORD,
                                             .record = { (const uint8_t *)r->text, r->n_text },
                                             .database_id = r->entry->database_id,
                                             .version = r->entry->version,
                                             .scope = bytes_from_string(r->entry->scope),
                                             .pending = r->entry->pending } };

        return request_answer(r, &answer);
}

int stage_reply_done(struct request *r)
{
        union message answer = { .done = { .number_ = MESSAGE_DONE } };

        return request_answer(r, &answer);
}

int stage_reply_nothing(struct request *r)
{
        return STAGE_DONE;
}

int stage_lock(struct request *r)
{
        struct lkmd *d = r->daemon;

        d->locked = r->number == MESSAGE_LOCK;
        if (d->locked)
                lkmd_wipe_all(d, "lock");
        return stage_reply_done(r);
}

int stage_evict(struct request *r)
{
        const struct message_evict *m = &r->message->evict;
        size_t n = 0;

        if (m->database_id) {
                n = cache_evict_database(r->daemon->cache, m->database_id, NULL);
        } else if (r->entry) {
                cache_evict(r->daemon->cache, TAKE_PTR(r->entry), CACHE_REASON_ASKED);
                n = 1;
        }
        return n > 0 ? request_report(r, json_pack("{s:I}", "evicted", (json_int_t)n))
                     : request_refuse(r, PROTO_ERROR_NOT_CACHED, NULL);
}
