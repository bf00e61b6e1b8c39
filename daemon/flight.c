/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/flight.h"

#include <errno.h>

#include "daemon/request.h"

static int flight_next(struct flight *f);

struct flight *flight_find(struct lkmd *d, const uint8_t *digest)
{
        struct list *node, *following;

        list_for_each_safe(node, following, &d->flights) {
                struct flight *f = list_entry(node, struct flight, link);

                if (f->kind == FLIGHT_UNWRAP &&
                    bytes_equal((struct bytes){ f->digest, CACHE_DIGEST_SIZE }, (struct bytes){ digest, CACHE_DIGEST_SIZE }))
                        return f;
        }
        return NULL;
}

static void flight_free(struct flight *f)
{
        list_unlink(&f->link);
        f->daemon->n_flights--;
        for (size_t i = 0; i < f->n_wraps; i++)
                record_wrap_deinit(&f->wraps[i]);
        secret_unref(f->key);
        origin_unref(f->origin);
        record_unref(f->record);
        config_unref(f->config);
        free(f);
}

unsigned flight_error_rank(unsigned error)
{
        switch (error) {
        case PROTO_ERROR_NONE:
                return 0;
        case PROTO_ERROR_KMS_NOT_MINE:
                return 1;
        case PROTO_ERROR_KMS_UNREACHABLE:
        case PROTO_ERROR_KMS_THROTTLED:
                return 2;
        case PROTO_ERROR_KMS_CORRUPT:
                return 4;
        case PROTO_ERROR_KMS_DENIED:
        case PROTO_ERROR_KMS_STATE:
                return 5;
        default:
                return 3;
        }
}

bool flight_is_outage(unsigned error)
{
        return flight_error_rank(error) == 2;
}

enum proto_error flight_refusal(unsigned error)
{
        switch (error) {
        case PROTO_ERROR_KMS_NOT_MINE:
                return PROTO_ERROR_RECORD_FOREIGN;
        case PROTO_ERROR_KMS_UNREACHABLE:
        case PROTO_ERROR_KMS_THROTTLED:
                return PROTO_ERROR_KEK_UNAVAILABLE;
        case PROTO_ERROR_KMS_CORRUPT:
                return PROTO_ERROR_RECORD_DAMAGED;
        case PROTO_ERROR_KMS_DENIED:
        case PROTO_ERROR_KMS_STATE:
                return PROTO_ERROR_KEK_DENIED;
        case PROTO_ERROR_INTERNAL:
                return PROTO_ERROR_INTERNAL;
        default:
                return PROTO_ERROR_KEK_MISCONFIGURED;
        }
}

static void flight_fail(struct flight *f, unsigned error, const char *sentence)
{
        if (flight_error_rank(error) < flight_error_rank(f->error))
                return;
        f->error = error;
        snprintf(f->sentence, sizeof(f->sentence), "%s", sentence);
}

/* Hand the outcome to those who wait, and go. */
static void flight_land(struct flight *f)
{
        struct lkmd *d = f->daemon;

        while (!list_is_empty(&f->waiters)) {
                struct request *r = list_entry(f->waiters.next, struct request, link);

                list_unlink(&r->link);
                request_resume(r, f);
        }
        flight_free(f);
        lkmd_stop_if_drained(d);
}

/* ---- the calls ---- */

static struct bytes kek_name(const struct flight *f)
{
        return bytes_from_string(f->scope->keks[f->i_kek]->name);
}

static void flight_fill(struct kms_call *call, union message *ret_message)
{
        struct flight *f = call->userdata;
        uint32_t timeout_msec = kms_call_left_msec(call);
        const struct record_wrap *wrap;

        switch (f->step) {
        case FLIGHT_STEP_UNWRAP:
                wrap = &record_current(f->record)->wraps[f->i_wrap];
                ret_message->kms_unwrap = (struct message_kms_unwrap){
                        .number_ = MESSAGE_KMS_UNWRAP,
                        .kek = kek_name(f),
                        .kek_id = bytes_from_string(wrap->kek_id),
                        .wrapped = { wrap->wrapped, wrap->n_wrapped },
                        .context = f->context,
                        .timeout_msec = timeout_msec,
                };
                return;
        case FLIGHT_STEP_GENERATE:
                ret_message->kms_generate = (struct message_kms_generate){
                        .number_ = MESSAGE_KMS_GENERATE, .kek = kek_name(f), .context = f->context, .timeout_msec = timeout_msec };
                return;
        case FLIGHT_STEP_WRAP:
                ret_message->kms_wrap = (struct message_kms_wrap){
                        .number_ = MESSAGE_KMS_WRAP, .key = f->key, .kek = kek_name(f), .context = f->context,
                        .timeout_msec = timeout_msec };
                return;
        }
}

static int flight_set_origin(struct flight *f, struct bytes kek_id, struct bytes request_id)
{
        if (!f->origin)
                f->origin = origin_new(f->scope->keks[f->i_kek]->name, kek_id, request_id);
        return f->origin ? 0 : -ENOMEM;
}

static int flight_add_wrap(struct flight *f, struct bytes kek_id, struct bytes wrapped)
{
        int r;

        if (f->n_wraps == RECORD_WRAPS_MAX || wrapped.n == 0)
                return -EMSGSIZE;
        r = record_wrap_copy(&f->wraps[f->n_wraps], kek_id, wrapped);
        f->n_wraps += r == 0;
        return r;
}

/* Take what an answer brings. Return: 0, or -errno when it is not what was asked for. */
static int flight_take(struct flight *f, const union message *reply)
{
        switch (f->step) {
        case FLIGHT_STEP_UNWRAP:
                if (reply->number != MESSAGE_KMS_UNWRAPPED || secret_size(reply->kms_unwrapped.key) != KEY_SIZE)
                        return -EPROTO;
                f->key = secret_ref(reply->kms_unwrapped.key);
                return flight_set_origin(f, bytes_from_string(record_current(f->record)->wraps[f->i_wrap].kek_id),
                                         reply->kms_unwrapped.request_id);
        case FLIGHT_STEP_GENERATE:
                if (reply->number != MESSAGE_KMS_GENERATED || secret_size(reply->kms_generated.key) != KEY_SIZE)
                        return -EPROTO;
                f->key = secret_ref(reply->kms_generated.key);
                if (flight_set_origin(f, reply->kms_generated.kek_id, reply->kms_generated.request_id) < 0)
                        return -ENOMEM;
                return flight_add_wrap(f, reply->kms_generated.kek_id, reply->kms_generated.wrapped);
        case FLIGHT_STEP_WRAP:
                if (reply->number != MESSAGE_KMS_WRAPPED)
                        return -EPROTO;
                if (flight_set_origin(f, reply->kms_wrapped.kek_id, reply->kms_wrapped.request_id) < 0)
                        return -ENOMEM;
                return flight_add_wrap(f, reply->kms_wrapped.kek_id, reply->kms_wrapped.wrapped);
        }
        return -EPROTO;
}

/* The context of the wraps to be made: the scope's pairs and lkm's own. */
static void flight_new_context(struct flight *f)
{
        struct record claim = { .format = 2, .encryption_context = f->scope->encryption_context };

        memcpy(claim.database_id, f->database_id, UUID_SIZE);
        snprintf(claim.scope, sizeof(claim.scope), "%s", f->scope->name);
        record_context(&f->context, &f->context_storage, &claim, f->version);
        /* lkm:scope borrows from the claim, which ends here: let it borrow from the configuration. */
        for (size_t i = 0; i < f->context.n; i++) {
                if (bytes_equal(f->context.pair[i].key, BYTES_LITERAL("lkm:scope")))
                        f->context.pair[i].value = bytes_from_string(f->scope->name);
        }
}

/* The step after a good answer. Return: true when all is done. */
static bool flight_advance(struct flight *f)
{
        switch (f->step) {
        case FLIGHT_STEP_UNWRAP:
                if (f->kind == FLIGHT_UNWRAP)
                        return true;
                f->i_kek = 0;
                flight_new_context(f);
                break;
        case FLIGHT_STEP_GENERATE:
        case FLIGHT_STEP_WRAP:
                f->i_kek++;
                break;
        }
        f->step = FLIGHT_STEP_WRAP;
        return f->i_kek >= f->scope->n_keks;
}

/* After a failure: another wrap or KEK to try. A new record is made whole or not at all. Return: false when none is left. */
static bool flight_try_another(struct flight *f)
{
        if (f->step != FLIGHT_STEP_UNWRAP)
                return false;
        if (++f->i_wrap < record_current(f->record)->n_wraps)
                return true;
        f->i_wrap = 0;
        return ++f->i_kek < f->scope->n_keks;
}

static void flight_answered(struct kms_call *call, unsigned error, const union message *reply, const char *sentence)
{
        struct flight *f = call->userdata;
        bool go_on;
        int r;

        if (error == 0) {
                r = flight_take(f, reply);
                if (r == -ENOMEM) {
                        flight_fail(f, PROTO_ERROR_INTERNAL, "out of memory");
                        flight_land(f);
                        return;
                }
                if (r < 0) {
                        error = PROTO_ERROR_KMS_MISCONFIGURED;
                        sentence = "the KMS worker gave an answer that does not fit the request";
                }
        }
        if (error == 0) {
                f->error = 0;
                go_on = !flight_advance(f);
        } else {
                flight_fail(f, error, sentence);
                go_on = flight_try_another(f);
        }
        if (go_on) {
                r = flight_next(f);
                if (r == 0)
                        return;
                flight_fail(f, PROTO_ERROR_INTERNAL, "out of memory");
        }
        flight_land(f);
}

static int flight_next(struct flight *f)
{
        f->call.fill = flight_fill;
        f->call.done = flight_answered;
        f->call.userdata = f;
        return kms_link_call(f->daemon->kms, &f->call, f->config->kms_timeout_usec);
}

int flight_start(struct flight **ret_flight, struct lkmd *d, enum flight_kind kind, struct config *config,
                 const struct config_scope *scope, struct record *record, const uint8_t *digest, struct secret *key)
{
        struct flight *f = calloc(1, sizeof(*f));
        int r = 0;

        if (!f)
                return -ENOMEM;
        f->daemon = d;
        f->kind = kind;
        f->config = config_ref(config);
        f->scope = scope;
        f->version = 1;
        list_init(&f->waiters);
        list_init(&f->link);
        list_append(&d->flights, &f->link);
        d->n_flights++;
        if (digest)
                memcpy(f->digest, digest, CACHE_DIGEST_SIZE);
        if (record) {
                f->record = record_ref(record);
                f->version = record_current(record)->number;
                memcpy(f->database_id, record->database_id, UUID_SIZE);
                record_context(&f->context, &f->context_storage, record, f->version);
        }
        if (kind != FLIGHT_UNWRAP)
                r = uuid_random(f->database_id);
        f->step = kind == FLIGHT_GENERATE ? FLIGHT_STEP_GENERATE : kind == FLIGHT_IMPORT ? FLIGHT_STEP_WRAP : FLIGHT_STEP_UNWRAP;
        if (key)
                f->key = secret_ref(key);
        if (!record)
                flight_new_context(f);
        if (r == 0)
                r = flight_next(f);
        if (r < 0) {
                flight_free(f);
                return r;
        }
        *ret_flight = f;
        return 0;
}
