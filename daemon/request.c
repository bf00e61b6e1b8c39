/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/request.h"

#include <assert.h>
#include <errno.h>

#include "common/clock.h"
#include "daemon/stages.h"
#include "proto/stream.h"

/* The ways. Read this first. */

static const struct stage get_stages[] = {
        { STAGE_DECODE, stage_decode_get },
        { STAGE_AUTHORIZE, stage_authorize_use },
        { STAGE_CACHE, stage_cache },
        { STAGE_UNWRAP, stage_unwrap },
        { STAGE_VERIFY, stage_verify },
        { STAGE_STORE, stage_store },
        { STAGE_AUDIT, stage_audit_release },
        { STAGE_REPLY, stage_reply_key },
};

/* GET of a version that is not the current one: decode turns to this way. */
static const struct stage get_version_stages[] = {
        { STAGE_DECODE, stage_decode_get },
        { STAGE_AUTHORIZE, stage_authorize_read },
        { STAGE_CACHE, stage_cache_current },
        { STAGE_UNWRAP, stage_change },
        { STAGE_VERIFY, stage_verify_change },
        { STAGE_AUDIT, stage_audit_change },
        { STAGE_REPLY, stage_reply_version },
};

static const struct stage check_stages[] = {
        { STAGE_DECODE, stage_decode_check },
        { STAGE_AUTHORIZE, stage_authorize_check },
        { STAGE_CACHE, stage_cache },
        { STAGE_UNWRAP, stage_unwrap },
        { STAGE_VERIFY, stage_verify },
        { STAGE_STORE, stage_store },
        { STAGE_AUDIT, stage_audit },
        { STAGE_REPLY, report_check },
};

/* A refresh ahead of expiry enters at verify, once the KMS has answered; it has nobody to answer. */
static const struct stage refresh_stages[] = {
        { STAGE_VERIFY, stage_verify },
        { STAGE_STORE, stage_store },
        { STAGE_REPLY, stage_reply_nothing },
};

static const struct stage create_stages[] = {
        { STAGE_DECODE, stage_decode_create },
        { STAGE_AUTHORIZE, stage_authorize_create },
        { STAGE_UNWRAP, stage_generate },
        { STAGE_VERIFY, stage_verify },
        { STAGE_STORE, stage_store_new },
        { STAGE_AUDIT, stage_audit },
        { STAGE_REPLY, stage_reply_record },
};

static const struct stage upgrade_stages[] = {
        { STAGE_DECODE, stage_decode_upgrade },
        { STAGE_AUTHORIZE, stage_authorize_create },
        { STAGE_UNWRAP, stage_rewrap },
        { STAGE_VERIFY, stage_verify },
        { STAGE_STORE, stage_store_new },
        { STAGE_AUDIT, stage_audit },
        { STAGE_REPLY, stage_reply_record },
};

static const struct stage import_stages[] = {
        { STAGE_DECODE, stage_decode_import },
        { STAGE_AUTHORIZE, stage_authorize_create },
        { STAGE_UNWRAP, stage_import },
        { STAGE_VERIFY, stage_verify },
        { STAGE_STORE, stage_store_new },
        { STAGE_AUDIT, stage_audit },
        { STAGE_REPLY, stage_reply_record },
};

/* ROTATE, COMMIT, ABORT, REWRAP, REKEK: a record becomes the next one. */
static const struct stage change_stages[] = {
        { STAGE_DECODE, stage_decode_change },
        { STAGE_AUTHORIZE, stage_authorize_rotate },
        { STAGE_CACHE, stage_cache_current },
        { STAGE_UNWRAP, stage_change },
        { STAGE_VERIFY, stage_verify_change },
        { STAGE_STORE, stage_store_next },
        { STAGE_AUDIT, stage_audit_change },
        { STAGE_REPLY, stage_reply_change },
};

static const struct stage purge_stages[] = {
        { STAGE_DECODE, stage_decode_change },
        { STAGE_AUTHORIZE, stage_authorize_history },
        { STAGE_CACHE, stage_cache_current },
        { STAGE_UNWRAP, stage_change },
        { STAGE_VERIFY, stage_verify_change },
        { STAGE_STORE, stage_store_next },
        { STAGE_AUDIT, stage_audit_change },
        { STAGE_REPLY, stage_reply_change },
};

static const struct stage evict_stages[] = {
        { STAGE_DECODE, stage_decode_evict },
        { STAGE_AUTHORIZE, stage_authorize_evict },
        { STAGE_REPLY, stage_evict },
};

static const struct stage explain_stages[] = {
        { STAGE_DECODE, stage_decode_explain },
        { STAGE_AUTHORIZE, stage_authorize_explain },
        { STAGE_REPLY, stage_reply_explain },
};

static const struct stage status_stages[] = {
        { STAGE_AUTHORIZE, stage_authorize_admin },
        { STAGE_REPLY, report_status },
};

static const struct stage list_stages[] = {
        { STAGE_AUTHORIZE, stage_authorize_admin },
        { STAGE_REPLY, report_list },
};

static const struct stage lock_stages[] = {
        { STAGE_AUTHORIZE, stage_authorize_admin },
        { STAGE_AUDIT, stage_audit },
        { STAGE_REPLY, stage_lock },
};

/* What lkmd asks of lkm-kms for an administrator. */
static const struct stage kek_stages[] = {
        { STAGE_AUTHORIZE, stage_authorize_admin },
        { STAGE_UNWRAP, stage_ask_kms },
        { STAGE_REPLY, report_question },
};

/* A check uses the KEK: that is written down before. */
static const struct stage kek_check_stages[] = {
        { STAGE_AUTHORIZE, stage_authorize_admin },
        { STAGE_AUDIT, stage_audit },
        { STAGE_UNWRAP, stage_ask_kms },
        { STAGE_REPLY, report_question },
};

/* A lease is as good as its record's proof. */
static const struct stage lease_stages[] = {
        { STAGE_DECODE, stage_decode_lease },
        { STAGE_AUTHORIZE, stage_authorize_use },
        { STAGE_CACHE, stage_cache },
        { STAGE_UNWRAP, stage_unwrap },
        { STAGE_VERIFY, stage_verify },
        { STAGE_STORE, stage_store },
        { STAGE_AUDIT, stage_audit },
        { STAGE_REPLY, stage_lease },
};

static const struct stage quiesce_stages[] = {
        { STAGE_DECODE, stage_decode_lease },
        { STAGE_AUTHORIZE, stage_authorize_rotate },
        { STAGE_CACHE, stage_cache },
        { STAGE_UNWRAP, stage_unwrap },
        { STAGE_VERIFY, stage_verify },
        { STAGE_STORE, stage_store },
        { STAGE_AUDIT, stage_audit },
        { STAGE_QUIESCE, stage_quiesce },
        { STAGE_REPLY, report_quiesce },
};

/* These two are about what the connection holds already. */
static const struct stage yield_stages[] = {
        { STAGE_REPLY, stage_yield },
};

static const struct stage resume_stages[] = {
        { STAGE_REPLY, stage_resume },
};

static const struct stage ping_stages[] = {
        { STAGE_REPLY, stage_reply_done },
};

static const struct way {
        enum message_number number;
        const struct stage *stages;
} ways[] = {
        { MESSAGE_GET, get_stages },         { MESSAGE_CREATE, create_stages },   { MESSAGE_UPGRADE, upgrade_stages },
        { MESSAGE_CHECK, check_stages },     { MESSAGE_EVICT, evict_stages },     { MESSAGE_EXPLAIN, explain_stages },
        { MESSAGE_STATUS, status_stages },   { MESSAGE_LIST, list_stages },       { MESSAGE_LOCK, lock_stages },
        { MESSAGE_UNLOCK, lock_stages },     { MESSAGE_PING, ping_stages },       { MESSAGE_KEK_DESCRIBE, kek_stages },
        { MESSAGE_KEK_CHECK, kek_check_stages }, { MESSAGE_KEK_POLICY, kek_stages },
        { MESSAGE_LEASE, lease_stages },     { MESSAGE_YIELD, yield_stages },     { MESSAGE_QUIESCE, quiesce_stages },
        { MESSAGE_RESUME, resume_stages },
        { MESSAGE_ROTATE, change_stages },   { MESSAGE_COMMIT, change_stages },   { MESSAGE_ABORT, change_stages },
        { MESSAGE_REWRAP, change_stages },   { MESSAGE_REKEK, change_stages },    { MESSAGE_PURGE, purge_stages },
        { MESSAGE_IMPORT, import_stages },
};

const char *stage_text(enum stage_name stage)
{
        static const char *const names[] = {
                [STAGE_DECODE] = "decode", [STAGE_AUTHORIZE] = "authorize", [STAGE_CACHE] = "cache", [STAGE_UNWRAP] = "unwrap",
                [STAGE_VERIFY] = "verify", [STAGE_STORE] = "store",         [STAGE_AUDIT] = "audit", [STAGE_QUIESCE] = "quiesce",
                [STAGE_REPLY] = "reply",
        };

        return names[stage];
}

/* ---- running ---- */

static void request_deinit(struct request *r)
{
        if (r->connection) {
                list_unlink(&r->link_connection);
                r->connection->n_waiting -= r->waits;
        }
        if (r->waits)
                usage_answered(r->user);
        list_unlink(&r->link);
        change_free(r->change);
        secret_unref(r->key);
        record_unref(r->record);
        config_unref(r->config);
        free(r->text);
        if (r->kept)
                origin_unref(r->kept->origin);
        free(r->kept);
}

/* Return: whether the request has ended. */
static bool request_run(struct request *r)
{
        int result;

        assert(r->stage);
        for (;; r->stage++) {
                r->daemon->stages[r->stage->name]++;
                result = r->stage->run(r);
                if (result < 0)
                        result = request_refuse(r, PROTO_ERROR_INTERNAL, strerror(-result));
                if (result == STAGE_DONE)
                        return true;
                if (result == STAGE_WAIT) {
                        r->stage++;
                        return false;
                }
        }
}

int request_wait(struct request *r, struct list *waiters)
{
        struct request *waiting = malloc(sizeof(*waiting));

        if (!waiting)
                return -ENOMEM;
        *waiting = *r;
        list_init(&waiting->link);
        list_init(&waiting->link_connection);
        list_append(waiters, &waiting->link);
        list_append(&r->connection->waiting, &waiting->link_connection);
        r->connection->n_waiting++;
        waiting->user = r->connection->user;
        usage_waits(waiting->user);
        waiting->message = NULL;
        waiting->entry = waiting->kept;
        waiting->flight = NULL;
        waiting->waits = true;
        waiting->stage++;
        /* What it owned has moved. */
        r->key = NULL;
        r->record = NULL;
        r->config = NULL;
        r->text = NULL;
        r->change = NULL;
        r->kept = NULL;
        return STAGE_WAIT;
}

void request_resume(struct request *r, struct flight *f)
{
        struct connection *c = r->connection;

        r->flight = f;
        r->now_usec = clock_boottime_usec();
        request_run(r);
        request_deinit(r);
        free(r);
        if (c)
                connection_flush(c);
}

void request_resume_durable(struct request *r, int error)
{
        struct connection *c = r->connection;

        r->now_usec = clock_boottime_usec();
        if (error < 0)
                request_refuse(r, PROTO_ERROR_AUDIT_UNAVAILABLE, audit_error_text(error));
        else if (r->key && r->daemon->locked) /* since the line was written */
                request_refuse(r, PROTO_ERROR_LOCKED, NULL);
        else
                request_run(r);
        request_deinit(r);
        free(r);
        if (c)
                connection_flush(c);
}

void request_turn(struct request *r)
{
        r->stage = get_version_stages;
}

int request_refresh(struct request *r)
{
        struct flight *f;
        struct request *refresh;
        const char *why;
        int error;

        if (!r->record) { /* CHECK has parsed it */
                error = record_parse(&r->record, r->message->get.record, &why);
                if (error)
                        return error < 0 ? error : -EBADMSG;
        }
        refresh = calloc(1, sizeof(*refresh));
        if (!refresh)
                return -ENOMEM;
        error = flight_start(&f, r->daemon, FLIGHT_UNWRAP, r->config, r->scope, r->record, r->digest, NULL);
        if (error < 0) {
                free(refresh);
                return error;
        }
        refresh->daemon = r->daemon;
        refresh->number = MESSAGE_GET;
        refresh->stage = refresh_stages;
        refresh->config = config_ref(r->config);
        refresh->scope = r->scope;
        refresh->record = record_ref(r->record);
        memcpy(refresh->digest, r->digest, CACHE_DIGEST_SIZE);
        list_init(&refresh->link);
        list_append(&f->waiters, &refresh->link);
        return 0;
}

void request_orphan(struct request *r)
{
        list_unlink(&r->link_connection);
        r->connection = NULL;
}

/* ---- answers ---- */

int request_answer(struct request *r, const union message *message)
{
        int error;

        if (!r->connection)
                return STAGE_DONE;
        error = stream_queue(r->connection->stream, message, r->id);
        if (error < 0)
                r->connection->closing = true; /* nothing more fits: the client does not read its answers */
        return STAGE_DONE;
}

int request_refuse(struct request *r, enum proto_error code, const char *detail)
{
        char sentence[1024];
        union message answer = { .error = { .number_ = MESSAGE_ERROR, .code = (uint16_t)code } };

        if (detail && *detail)
                snprintf(sentence, sizeof(sentence), "%s (%s)", proto_error_sentence(code), detail);
        else
                snprintf(sentence, sizeof(sentence), "%s", proto_error_sentence(code));
        answer.error.sentence = bytes_from_string(sentence);
        if (!bytes_is_text(answer.error.sentence))
                answer.error.sentence = bytes_from_string(proto_error_sentence(code));
        return request_answer(r, &answer);
}

/* ---- the beginning ---- */

static int request_greet(struct connection *c, uint32_t id, const struct message_hello *hello)
{
        struct request r = { .daemon = c->daemon, .connection = c, .id = id };
        union message welcome = { .welcome = { .number_ = MESSAGE_WELCOME,
                                               .version = PROTOCOL_VERSION_MAX,
                                               .features = BYTES_LITERAL("create get upgrade check evict explain status list lock kek "
                                                                         "rotate import purge rewrap history lease recover"),
                                               .software = BYTES_LITERAL("lkmd " LKM_VERSION),
                                               .frame_max = FRAME_MAX,
                                               .in_flight_max = IN_FLIGHT_MAX } };

        if (hello->version_min > PROTOCOL_VERSION_MAX || hello->version_max < PROTOCOL_VERSION_MIN ||
            hello->version_min > hello->version_max) {
                request_refuse(&r, PROTO_ERROR_VERSION, NULL);
                return -EPROTO;
        }
        c->greeted = true;
        request_answer(&r, &welcome);
        return 0;
}

static const struct stage *way_find(uint16_t number)
{
        for (size_t i = 0; i < ELEMENTSOF(ways); i++) {
                if (ways[i].number == number)
                        return ways[i].stages;
        }
        return NULL;
}

static void request_start(struct request *r)
{
        r->config = config_ref(r->daemon->config);
        list_init(&r->link);
        list_init(&r->link_connection);
        request_run(r);
        request_deinit(r);
}

int request_begin(struct connection *c, const struct frame_header *header, const uint8_t *data, size_t n, uint64_t now)
{
        union message message;
        struct request r = { .daemon = c->daemon, .connection = c, .id = header->request_id, .number = header->number,
                             .now_usec = now, .stage = way_find(header->number), .message = &message };
        int result = message_unpack(&message, data, n);

        if (result == FRAME_E_UNKNOWN || (result == 0 && !r.stage && header->number != MESSAGE_HELLO)) {
                if (result == 0)
                        message_deinit(&message);
                list_init(&r.link);
                request_refuse(&r, PROTO_ERROR_UNSUPPORTED, NULL);
                return 0;
        }
        if (result < 0) {
                request_refuse(&r, PROTO_ERROR_INTERNAL, "no room in locked memory");
                return 0;
        }
        if (result > 0 || (header->number == MESSAGE_HELLO) == c->greeted) {
                if (result == 0)
                        message_deinit(&message);
                request_refuse(&r, PROTO_ERROR_PROTOCOL,
                               result == 0 ? "HELLO comes first, and once" : "a frame that its message's fields do not allow");
                return -EPROTO;
        }
        if (header->number == MESSAGE_HELLO)
                return request_greet(c, header->request_id, &message.hello);
        if (c->n_waiting >= IN_FLIGHT_MAX)
                request_refuse(&r, PROTO_ERROR_QUOTA, NULL);
        else
                request_start(&r);
        message_deinit(&message);
        return 0;
}
