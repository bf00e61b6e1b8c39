/* SPDX-License-Identifier: Apache-2.0 */
/* stages: decode, authorize, cache, unwrap. What follows the KMS is in stages-after.c. */
#include "daemon/stages.h"

#include <errno.h>

#include "common/clock.h"

static int request_digest(struct request *r, struct bytes text)
{
        EVP_MD_CTX *context = r->daemon->sha256;

        /* The context keeps its algorithm: initialising again with none given is cheap. */
        if (EVP_DigestInit_ex2(context, NULL, NULL) != 1 || EVP_DigestUpdate(context, text.data, text.n) != 1 ||
            EVP_DigestFinal_ex(context, r->digest, NULL) != 1)
                return -EIO;
        return 0;
}

int request_parse(struct request *r, struct bytes text)
{
        const char *why = NULL;
        int error;

        if (r->connection)
                usage_pay_parse(r->connection->user, &r->daemon->limits, text.n, r->now_usec);
        error = record_parse(&r->record, text, &why);
        if (error == RECORD_E_NEWER)
                return request_refuse(r, PROTO_ERROR_RECORD_NEWER, NULL);
        if (error > 0)
                return request_refuse(r, PROTO_ERROR_RECORD_DAMAGED, why);
        return error < 0 ? error : STAGE_NEXT;
}

int request_find_scope(struct request *r, struct bytes name)
{
        char detail[128];

        r->scope = config_scope_find(r->config, name);
        if (r->scope)
                return STAGE_NEXT;
        snprintf(detail, sizeof(detail), "scope %.*s", (int)name.n, (const char *)name.data);
        return request_refuse(r, PROTO_ERROR_SCOPE_UNKNOWN, detail);
}

static struct bytes request_record(const struct request *r)
{
        const union message *m = r->message;

        switch (m->number) {
        case MESSAGE_CHECK:
                return m->check.record;
        case MESSAGE_LEASE:
                return m->lease.record;
        case MESSAGE_QUIESCE:
                return m->quiesce.record;
        default:
                return m->get.record;
        }
}

/* The scope of a record, or of the cache entry that was verified with the same bytes. A record of a scope that does not
 * exist here came from elsewhere. */
int request_find_record_scope(struct request *r, const char *name)
{
        r->scope = config_scope_find(r->config, bytes_from_string(name));
        if (!r->scope)
                return request_refuse(r, PROTO_ERROR_RECORD_FOREIGN, "its scope is not configured here");
        return STAGE_NEXT;
}

/* ---- decode ---- */

int request_decode(struct request *r, struct bytes text, struct bytes scope, bool parse)
{
        int result = request_digest(r, text);
        const char *name;

        if (result < 0)
                return result;
        r->entry = cache_find(r->daemon->cache, r->digest, r->now_usec);
        /* The bytes of a cached record were parsed and verified before: what they say is in the entry. */
        if (!r->entry || parse) {
                result = request_parse(r, text);
                if (result != STAGE_NEXT)
                        return result;
                if (r->record->format == 1)
                        return request_refuse(r, PROTO_ERROR_RECORD_OUTDATED, NULL);
        }
        name = r->entry ? r->entry->scope : r->record->scope;
        if (scope.n > 0 && !bytes_equal(scope, bytes_from_string(name)))
                return request_refuse(r, PROTO_ERROR_RECORD_FOREIGN, "it is not of the scope that was asked for");
        return request_find_record_scope(r, name);
}

int stage_decode_check(struct request *r)
{
        return request_decode(r, r->message->check.record, r->message->check.scope, true);
}

/* A version that is not the current one, and any one that is to recover a database, goes another way: past the cache, and by another right. */
int stage_decode_get(struct request *r)
{
        const struct message_get *m = &r->message->get;
        bool recover = m->purpose == GET_PURPOSE_RECOVER;
        int result;

        if (m->purpose > GET_PURPOSE_RECOVER)
                return request_refuse(r, PROTO_ERROR_PROTOCOL, "GET has no such purpose");
        result = request_decode(r, m->record, m->scope, recover);
        if (result != STAGE_NEXT)
                return result;
        if (!recover && (m->version == 0 || m->version == (r->entry ? r->entry->version : record_current(r->record)->number)))
                return result;
        if (!r->record)
                result = request_parse(r, m->record);
        if (result == STAGE_NEXT && m->version != 0 && !record_version_find(r->record, m->version))
                return request_refuse(r, PROTO_ERROR_VERSION_UNKNOWN, NULL);
        request_turn(r);
        return result;
}

int stage_decode_lease(struct request *r)
{
        const union message *m = r->message;

        if (m->number == MESSAGE_QUIESCE)
                r->quiesce_msec = m->quiesce.timeout_msec;
        return request_decode(r, request_record(r), (struct bytes){ 0 }, false);
}

/* The scope named, or the only one that admits the caller. */
static int decode_scope(struct request *r, struct bytes name)
{
        size_t n = 0;

        if (name.n > 0)
                return request_find_scope(r, name);
        for (size_t i = 0; i < r->config->n_scopes; i++) {
                const struct config_scope *scope = &r->config->scopes[i];

                if (!policy_decide(r->config, scope, &r->connection->peer, POLICY_RIGHT_CREATE, NULL))
                        continue;
                r->scope = scope;
                n++;
        }
        if (n == 1)
                return STAGE_NEXT;
        if (n > 1)
                return request_refuse(r, PROTO_ERROR_SCOPE_NEEDED, NULL);
        r->scope = NULL;
        return STAGE_NEXT; /* authorize refuses, and the audit log says so */
}

static void decode_cipher(struct request *r, struct bytes library, uint8_t compatibility, uint32_t page_size)
{
        snprintf(r->cipher.library, sizeof(r->cipher.library), "%.*s", (int)library.n, library.n ? (const char *)library.data : "");
        r->cipher.compatibility = compatibility;
        r->cipher.page_size = page_size;
}

static void decode_label(struct request *r, struct bytes label)
{
        snprintf(r->label, sizeof(r->label), "%.*s", (int)label.n, label.n ? (const char *)label.data : "");
}

int stage_decode_create(struct request *r)
{
        const struct message_create *m = &r->message->create;

        decode_cipher(r, m->cipher_library, m->cipher_compatibility, m->page_size);
        decode_label(r, m->label);
        return decode_scope(r, m->scope);
}

int stage_decode_upgrade(struct request *r)
{
        const struct message_upgrade *m = &r->message->upgrade;
        int result = request_parse(r, m->record);

        if (result != STAGE_NEXT)
                return result;
        if (r->record->format != 1)
                return request_refuse(r, PROTO_ERROR_UNSUPPORTED, "the record has the newest format");
        decode_cipher(r, m->cipher_library, m->cipher_compatibility, m->page_size);
        return decode_scope(r, m->scope);
}

int stage_decode_import(struct request *r)
{
        const struct message_import *m = &r->message->import;

        decode_cipher(r, m->cipher_library, m->cipher_compatibility, m->page_size);
        decode_label(r, m->label);
        return decode_scope(r, m->scope);
}

int stage_decode_evict(struct request *r)
{
        const struct message_evict *m = &r->message->evict;

        if ((m->record.n > 0) == (m->database_id != NULL))
                return request_refuse(r, PROTO_ERROR_PROTOCOL, "EVICT takes a record or a database id");
        return m->database_id ? STAGE_NEXT : request_decode(r, m->record, (struct bytes){ 0 }, false);
}

/* ---- authorize ---- */

/* The policy would allow it, but not by this socket. */
static int refuse_socket(struct request *r)
{
        union message answer = { .error = { .number_ = MESSAGE_ERROR, .code = PROTO_ERROR_DENIED } };
        char sentence[256];

        snprintf(sentence, sizeof(sentence), "What is for administrators is answered on %s only. lkmctl asks there with --socket or LKM_ADMIN_SOCKET.",
                 r->daemon->listeners.admin_path);
        answer.error.sentence = bytes_from_string(sentence);
        return bytes_is_text(answer.error.sentence) ? request_answer(r, &answer) : request_refuse(r, PROTO_ERROR_DENIED, "not on this socket");
}

int request_authorize(struct request *r, enum policy_right right)
{
        struct audit_event event = { .event = "deny", .peer = &r->connection->peer, .connection = r->connection->number,
                                     .scope = r->scope ? r->scope->name : NULL, .decision = "deny",
                                     .reason = policy_right_name(right), .weight = AUDIT_WEIGHT_NOTABLE };
        bool allowed = right == POLICY_RIGHT_ADMIN || r->scope;
        bool by_socket = right != POLICY_RIGHT_ADMIN || !r->daemon->listeners.admin_path || r->connection->by_admin_socket;

        if (allowed)
                allowed = policy_decide(r->config, right == POLICY_RIGHT_ADMIN ? NULL : r->scope, &r->connection->peer, right,
                                        &r->rule);
        if (allowed && !by_socket) {
                event.reason = "admin socket";
                lkmd_audit(r->daemon, &event);
                return refuse_socket(r);
        }
        if (!allowed) {
                lkmd_audit(r->daemon, &event);
                return request_refuse(r, PROTO_ERROR_DENIED, r->scope && right != POLICY_RIGHT_ADMIN ? r->scope->name : policy_right_name(right));
        }
        if (right == POLICY_RIGHT_ADMIN)
                return STAGE_NEXT;
        if (r->daemon->draining)
                return request_refuse(r, PROTO_ERROR_SHUTTING_DOWN, NULL);
        if (r->daemon->locked)
                return request_refuse(r, PROTO_ERROR_LOCKED, NULL);
        return STAGE_NEXT;
}

int stage_authorize_use(struct request *r)
{
        return request_authorize(r, POLICY_RIGHT_USE);
}

/* Whoever may recover a database has to know its versions. */
int stage_authorize_check(struct request *r)
{
        bool recovers = !policy_decide(r->config, r->scope, &r->connection->peer, POLICY_RIGHT_USE, NULL) &&
                        policy_decide(r->config, r->scope, &r->connection->peer, POLICY_RIGHT_RECOVER, NULL);

        return request_authorize(r, recovers ? POLICY_RIGHT_RECOVER : POLICY_RIGHT_USE);
}

int stage_authorize_create(struct request *r)
{
        return request_authorize(r, POLICY_RIGHT_CREATE);
}

int stage_authorize_admin(struct request *r)
{
        return request_authorize(r, POLICY_RIGHT_ADMIN);
}

int stage_authorize_evict(struct request *r)
{
        return request_authorize(r, r->message->evict.database_id ? POLICY_RIGHT_ADMIN : POLICY_RIGHT_USE);
}

/* ---- cache ---- */

int stage_cache(struct request *r)
{
        struct cache *cache = r->daemon->cache;

        if (!r->entry || !cache_entry_is_fresh(r->entry, r->now_usec))
                return STAGE_NEXT;
        cache_count(cache, true, false);
        cache_touch(cache, r->entry, r->now_usec);
        if (r->now_usec >= r->entry->refresh_at_usec && !r->entry->refreshing)
                r->entry->refreshing = request_refresh(r) == 0;
        r->key = secret_ref(r->entry->key);
        return STAGE_NEXT;
}

/* ---- unwrap ---- */

static int unwrap_start(struct request *r, enum flight_kind kind, struct secret *key)
{
        struct flight *f;
        int error = flight_start(&f, r->daemon, kind, r->config, r->scope, r->record, r->digest, key);

        return error < 0 ? error : request_wait(r, &f->waiters);
}

int stage_unwrap(struct request *r)
{
        struct flight *f;
        int result;

        if (r->key)
                return STAGE_NEXT;
        cache_count(r->daemon->cache, false, false);
        f = flight_find(r->daemon, r->digest);
        if (f)
                return request_wait(r, &f->waiters);
        if (!r->record) { /* stale in the cache: the entry has no wraps */
                result = request_parse(r, request_record(r));
                if (result != STAGE_NEXT)
                        return result;
        }
        return unwrap_start(r, FLIGHT_UNWRAP, NULL);
}

int stage_generate(struct request *r)
{
        return unwrap_start(r, FLIGHT_GENERATE, NULL);
}

int stage_import(struct request *r)
{
        return unwrap_start(r, FLIGHT_IMPORT, r->message->import.key);
}

int stage_rewrap(struct request *r)
{
        const struct pairs *theirs = &r->record->encryption_context, *ours = &r->scope->encryption_context;
        bool same = theirs->n == ours->n;

        for (size_t i = 0; same && i < ours->n; i++)
                same = bytes_equal(theirs->pair[i].key, ours->pair[i].key) && bytes_equal(theirs->pair[i].value, ours->pair[i].value);
        /* The first format binds a wrap by these pairs alone: they have to be the scope's. */
        if (!same)
                return request_refuse(r, PROTO_ERROR_RECORD_FOREIGN, "its encryption context is not the scope's");
        return unwrap_start(r, FLIGHT_REWRAP, NULL);
}

int stage_ask_kms(struct request *r)
{
        enum { CHECK_TIMEOUTS = 3 }; /* a check is several calls, one after the other */
        const union message *m = r->message;
        uint64_t timeout_usec = r->config->kms_timeout_usec;
        struct question *q;
        int error;

        if (r->number == MESSAGE_KEK_CHECK) /* the message is gone when its line had to become durable */
                error = question_start(&q, r->daemon, MESSAGE_KMS_CHECK, bytes_from_string(r->kek), CHECK_TIMEOUTS * timeout_usec);
        else if (m->number == MESSAGE_KEK_POLICY)
                error = question_start(&q, r->daemon, MESSAGE_KMS_POLICY, m->kek_policy.kek, timeout_usec);
        else
                error = question_start(&q, r->daemon, MESSAGE_KMS_DESCRIBE, m->kek_describe.kek, timeout_usec);
        return error < 0 ? error : request_wait(r, &q->waiters);
}
