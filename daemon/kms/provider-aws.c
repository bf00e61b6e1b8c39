/* SPDX-License-Identifier: Apache-2.0 */
/*
 * provider-aws: DEKs wrapped by a key in AWS KMS.
 *
 * Which key a KEK is: aws-kek.h. This file: the provider's table, and each operation as one question (aws-call.h), whose answer has to name
 * the key that was asked. KeyId is sent always: without it KMS would unwrap under whatever key of the account a blob names.
 */
#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/aws-kek.h"

/** One request of lkmd. */
struct operation {
        struct aws_call call;
        struct aws_kek_call resolving;
        struct aws_kek *kek;
        struct provider_call *asker;
        enum aws_operation number;
        json_t *request; /* without the key that it is about */
        struct secret *key; /* to be wrapped */
        char *record_id; /* ARN that the record gives; NULL when there is no record */
        char asked_id[KEK_ID_MAX + 1], answered_id[KEK_ID_MAX + 1];
};

static struct aws_kek *aws(struct kek *kek)
{
        return (struct aws_kek *)(void *)kek;
}

/* ---- begin and end of an operation ---- */

static void operation_free(struct operation *o)
{
        aws_call_deinit(&o->call);
        json_decref(o->request);
        secret_unref(o->key);
        free(o->record_id);
        free(o);
}

static void operation_end(struct operation *o, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct provider_result result = { .error = error, .sentence = sentence, .retry_after_msec = retry_after_msec };

        if (error == PROTO_ERROR_NONE) {
                result.sentence = NULL;
                result.request_id = provider_request_id_get(&o->call.request_id);
                result.key = o->call.plaintext;
                if (o->number != AWS_DECRYPT) {
                        result.kek_id = bytes_from_string(o->answered_id);
                        result.wrapped = (struct bytes){ o->call.blob, o->call.n_blob };
                }
        }
        o->asker->done(o->asker, &result);
        operation_free(o);
}

static void operation_refuse(struct operation *o, int r)
{
        if (r == -E2BIG)
                operation_end(
                        o, PROTO_ERROR_KMS_MISCONFIGURED,
                        "the encryption context and the grant tokens are longer than a request to AWS KMS may be. Shorten them",
                        0);
        else
                operation_end(o, PROTO_ERROR_INTERNAL,
                              "no memory is left for a request to AWS KMS. Ask again when other requests have ended",
                              0);
}

static void on_done(struct aws_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct operation *o = list_entry(call, struct operation, call);

        aws_kek_note(o->kek, o->asked_id, error);
        operation_end(o, error, sentence, retry_after_msec);
}

/* ---- the answer ---- */

/* The member @name of @answer as the ARN of the key that was asked for. */
static bool answer_names_key(const struct operation *o, const json_t *answer, const char *name,
                             char ret_arn[KEK_ID_MAX + 1])
{
        const char *arn = json_string_value(json_object_get(answer, name));

        if (!arn || strlen(arn) > KEK_ID_MAX || !aws_kek_fits(o->kek, o->asked_id, arn))
                return false;
        snprintf(ret_arn, KEK_ID_MAX + 1, "%s", arn);
        return true;
}

static enum proto_error on_answer(struct aws_call *call, const json_t *answer, struct sentence *ret_why)
{
        struct operation *o = list_entry(call, struct operation, call);
        const char *source = o->number == AWS_RE_ENCRYPT ? "SourceKeyId" : "KeyId";
        char unwrapped_by[KEK_ID_MAX + 1];

        if (!answer_names_key(o, answer, "KeyId", o->answered_id) ||
            !answer_names_key(o, answer, source, unwrapped_by)) {
                sentence_set(
                        ret_why,
                        "AWS KMS, asked for %s on %s, answers in the name of another key. Check kek_id, endpoint and proxy of [kek %s]",
                        aws_operation_permission(o->number), o->asked_id, o->kek->config->name);
                return PROTO_ERROR_KMS_MISCONFIGURED;
        }
        aws_kek_learn(o->kek, o->asked_id, o->answered_id);
        /* Asked by its alias alone, the key may turn out to be another than the record's. */
        if (o->record_id && !aws_arn_is_same_key(bytes_from_string(unwrapped_by), bytes_from_string(o->record_id))) {
                aws_kek_not_mine(o->kek, o->record_id, ret_why);
                return PROTO_ERROR_KMS_NOT_MINE;
        }
        return PROTO_ERROR_NONE;
}

/* ---- the question ---- */

static int set_text(json_t *object, const char *name, const char *value)
{
        return json_object_set_new(object, name, json_string(value)) < 0 ? -ENOMEM : 0;
}

static int set_blob(json_t *object, const char *name, struct bytes blob)
{
        char *text = malloc(BASE64_LENGTH(blob.n) + 1);
        int r = -ENOMEM;

        if (text) {
                base64_format(text, blob.data, blob.n);
                r = set_text(object, name, text);
        }
        free(text);
        return r;
}

/* Strings always: KMS takes other values for strings too, which others would not. */
static int set_context(json_t *object, const char *name, const struct pairs *context)
{
        json_t *map = json_object();

        for (size_t i = 0; map && i < context->n; i++) {
                struct bytes key = context->pair[i].key, value = context->pair[i].value;

                if (json_object_setn_new(map, (const char *)key.data, key.n,
                                         json_stringn(value.n > 0 ? (const char *)value.data : "", value.n)) < 0) {
                        json_decref(map);
                        map = NULL;
                }
        }
        return !map || json_object_set_new(object, name, map) < 0 ? -ENOMEM : 0;
}

/* Everything but the key that it is about. */
static int request_fill(struct operation *o, struct bytes wrapped, const struct pairs *context)
{
        bool both = o->number == AWS_RE_ENCRYPT;
        int r = 0;

        o->request = json_object();
        if (!o->request)
                return -ENOMEM;
        if (o->number == AWS_GENERATE_DATA_KEY)
                r = set_text(o->request, "KeySpec", "AES_256");
        if (r == 0 && wrapped.n > 0)
                r = set_blob(o->request, "CiphertextBlob", wrapped);
        if (r == 0 && context->n > 0)
                r = set_context(o->request, both ? "SourceEncryptionContext" : "EncryptionContext", context);
        if (r == 0 && context->n > 0 && both)
                r = set_context(o->request, "DestinationEncryptionContext", context);
        if (r == 0 && o->kek->grant_tokens && json_object_set(o->request, "GrantTokens", o->kek->grant_tokens) < 0)
                r = -ENOMEM;
        return r;
}

static int ask(struct operation *o)
{
        int r;

        aws_kek_id_for(o->kek, o->record_id, o->asked_id);
        r = set_text(o->request, o->number == AWS_RE_ENCRYPT ? "SourceKeyId" : "KeyId", o->asked_id);
        if (r == 0 && o->number == AWS_RE_ENCRYPT)
                r = set_text(o->request, "DestinationKeyId", o->asked_id);
        if (r == 0)
                r = aws_call_start(&o->call, &o->kek->service, o->number, o->request, o->asked_id, o->key,
                                   o->asker->deadline_usec);
        return r;
}

static void on_resolved(struct aws_kek_call *resolving, enum proto_error error, const char *sentence,
                        uint32_t retry_after_msec)
{
        struct operation *o = list_entry(resolving, struct operation, resolving);
        struct sentence why;
        int r;

        if (error) {
                operation_end(o, error, sentence, retry_after_msec);
        } else if (aws_kek_owns(o->kek, bytes_from_string(o->record_id)) == AWS_KEK_OTHER) {
                aws_kek_not_mine(o->kek, o->record_id, &why);
                operation_end(o, PROTO_ERROR_KMS_NOT_MINE, why.text, 0);
        } else {
                r = ask(o);
                if (r < 0)
                        operation_refuse(o, r);
        }
}

/* @record_id: of the record that is worked on, without bytes when there is none. */
static void operation_begin(struct aws_kek *kek, struct provider_call *asker, enum aws_operation number,
                            struct bytes record_id, struct bytes wrapped, const struct pairs *context,
                            struct secret *key)
{
        struct pairs sorted = *context;
        struct operation *o;
        int r;

        if (sorted.n > PAIRS_MAX || pairs_sort(&sorted) < 0 || (key && secret_size(key) != KEY_SIZE)) {
                provider_fail(asker, PROTO_ERROR_PROTOCOL,
                              "the key or its encryption context is outside of the protocol's limits");
                return;
        }
        o = calloc(1, sizeof(*o));
        if (!o) {
                provider_fail(asker, PROTO_ERROR_INTERNAL, NULL);
                return;
        }
        o->kek = kek;
        o->asker = asker;
        o->number = number;
        o->call.accept = on_answer;
        o->call.done = on_done;
        o->key = key ? secret_ref(key) : NULL;
        r = request_fill(o, wrapped, &sorted);
        if (r == 0 && record_id.n > 0 && !(o->record_id = bytes_to_string(record_id)))
                r = -ENOMEM;
        if (r == 0 && record_id.n > 0 && aws_kek_owns(kek, record_id) == AWS_KEK_UNKNOWN) {
                o->resolving.done = on_resolved;
                r = aws_kek_resolve(kek, &o->resolving, asker->deadline_usec);
                if (r == 0)
                        return;
        }
        if (r >= 0)
                r = ask(o);
        if (r < 0)
                operation_refuse(o, r);
}

/* Whether it can be a wrap of this KEK; else @call has ended. */
static bool is_mine(struct aws_kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped)
{
        _cleanup_(freep) char *id = NULL;
        struct sentence why;

        if (aws_kek_owns(kek, kek_id) == AWS_KEK_OTHER) {
                id = bytes_to_string(kek_id);
                aws_kek_not_mine(kek, id ? id : "another KEK", &why);
                provider_fail(call, PROTO_ERROR_KMS_NOT_MINE, why.text);
                return false;
        }
        if (wrapped.n == 0 || wrapped.n > WRAPPED_MAX) {
                provider_fail(
                        call, PROTO_ERROR_KMS_CORRUPT,
                        "the wrapped key is damaged: it has no length of AWS KMS. Restore the .key file from a backup");
                return false;
        }
        return true;
}

/* ---- the provider's table ---- */

static int aws_new(struct kek **ret_kek, const struct config_kek *config, const struct kms_environment *environment,
                   struct sentence *ret_why)
{
        struct aws_kek *kek;
        int r = aws_kek_new(&kek, config, environment, ret_why);

        if (r == 0)
                *ret_kek = (struct kek *)(void *)kek;
        return r;
}

static struct kek *aws_free(struct kek *kek)
{
        aws_kek_free(aws(kek));
        return NULL;
}

static void aws_describe(const struct kek *kek, struct provider_description *ret_description)
{
        const struct aws_kek *k = (const struct aws_kek *)(const void *)kek;

        *ret_description = (struct provider_description){ .kek_id = k->arn, .why = *k->why.text ? k->why.text : NULL };
}

static void aws_generate(struct kek *kek, struct provider_call *call, const struct pairs *context)
{
        operation_begin(aws(kek), call, AWS_GENERATE_DATA_KEY, (struct bytes){ 0 }, (struct bytes){ 0 }, context, NULL);
}

static void aws_unwrap(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped,
                       const struct pairs *context)
{
        if (is_mine(aws(kek), call, kek_id, wrapped))
                operation_begin(aws(kek), call, AWS_DECRYPT, kek_id, wrapped, context, NULL);
}

static void aws_wrap(struct kek *kek, struct provider_call *call, struct secret *key, const struct pairs *context)
{
        operation_begin(aws(kek), call, AWS_ENCRYPT, (struct bytes){ 0 }, (struct bytes){ 0 }, context, key);
}

static void aws_rewrap(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped,
                       const struct pairs *context)
{
        if (is_mine(aws(kek), call, kek_id, wrapped))
                operation_begin(aws(kek), call, AWS_RE_ENCRYPT, kek_id, wrapped, context, NULL);
}

static const char *aws_permission(const struct kek *kek, enum provider_operation operation)
{
        switch (operation) {
        case PROVIDER_GENERATE:
                return aws_operation_permission(AWS_GENERATE_DATA_KEY);
        case PROVIDER_UNWRAP:
                return aws_operation_permission(AWS_DECRYPT);
        case PROVIDER_WRAP:
                return aws_operation_permission(AWS_ENCRYPT);
        case PROVIDER_REWRAP:
                return aws_operation_permission(AWS_RE_ENCRYPT);
        case PROVIDER_OPERATION_COUNT:
                break;
        }
        return NULL;
}

static char *aws_policy(const struct kek *kek)
{
        return aws_kek_policy((const struct aws_kek *)(const void *)kek);
}

const struct provider provider_aws = {
        .type = KMS_TYPE_AWS,
        .kek_new = aws_new,
        .kek_free = aws_free,
        .describe = aws_describe,
        .generate = aws_generate,
        .unwrap = aws_unwrap,
        .wrap = aws_wrap,
        .rewrap = aws_rewrap,
        .permission = aws_permission,
        .policy = aws_policy,
};
