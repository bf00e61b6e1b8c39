/* SPDX-License-Identifier: Apache-2.0 */
/*
 * provider-socket: a KEK of somebody else's provider, a program that serves the provider's half of the protocol on a Unix socket
 * (PROTOCOL.md, "Providers"). Each operation is passed on as the message that lkm-kms itself would be asked by, and its answer is
 * checked before it counts. One connection for each KEK, made at first use.
 */
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "daemon/kms-link.h"
#include "daemon/kms/provider.h"

static const char PEER[] = "the provider";

struct socket_kek {
        const struct config_kek *config;
        struct event_base *base;
        struct kms_link *link; /* NULL until first use */
        struct kms_call describe; /* asked once, at first use */
        bool is_described;
        char kek_id[KEK_ID_MAX + 1];
        uint32_t version;
};

/** One operation under way. */
struct socket_call {
        struct kms_call call;
        struct socket_kek *kek;
        struct provider_call *asker;
        enum message_number number;
        struct secret *key; /* of KMS_WRAP */
        struct pairs context; /* in context_data */
        size_t n_kek_id, n_wrapped, n_context;
        uint8_t kek_id[KEK_ID_MAX], wrapped[WRAPPED_MAX];
        uint8_t context_data[2 + PAIRS_MAX * (4 + PAIR_KEY_MAX + PAIR_VALUE_MAX)];
};

static struct socket_kek *of(struct kek *kek)
{
        return (struct socket_kek *)(void *)kek;
}

/* ---- what the provider tells about the KEK ---- */

static void keep_kek_id(struct socket_kek *kek, struct bytes id)
{
        if (id.n == 0 || id.n > KEK_ID_MAX || !bytes_is_text(id))
                return;
        memcpy(kek->kek_id, id.data, id.n);
        kek->kek_id[id.n] = '\0';
}

static void describe_fill(struct kms_call *call, union message *ret_message)
{
        const struct socket_kek *kek = call->userdata;

        ret_message->kms_describe =
                (struct message_kms_describe){ .number_ = MESSAGE_KMS_DESCRIBE, .kek = bytes_from_string(kek->config->name) };
}

static void describe_done(struct kms_call *call, unsigned error, const union message *reply, const char *sentence)
{
        struct socket_kek *kek = call->userdata;
        json_t *report, *about, *version;
        const char *id;

        kek->is_described = error != PROTO_ERROR_KMS_UNREACHABLE; /* else it is asked again */
        if (error || reply->number != MESSAGE_REPORT)
                return;
        report = json_loadb((const char *)reply->report.json.data, reply->report.json.n, 0, NULL);
        about = json_array_get(json_object_get(report, "keks"), 0);
        id = json_string_value(json_object_get(about, "kek_id"));
        version = json_object_get(about, "version");
        if (id)
                keep_kek_id(kek, bytes_from_string(id));
        if (json_integer_value(version) > 0 && json_integer_value(version) <= UINT32_MAX)
                kek->version = (uint32_t)json_integer_value(version);
        json_decref(report);
}

static void describe_begin(struct socket_kek *kek, uint64_t timeout_usec)
{
        if (kek->is_described || kek->describe.timer)
                return;
        kek->describe.fill = describe_fill;
        kek->describe.done = describe_done;
        kek->describe.userdata = kek;
        kms_link_call(kek->link, &kek->describe, timeout_usec);
}

/* ---- one operation ---- */

static void socket_call_free(struct socket_call *s)
{
        secret_unref(s->key);
        free(s);
}

static void socket_fill(struct kms_call *call, union message *m)
{
        const struct socket_call *s = list_entry(call, struct socket_call, call);
        struct bytes kek = bytes_from_string(s->kek->config->name), kek_id = { s->kek_id, s->n_kek_id };
        struct bytes wrapped = { s->wrapped, s->n_wrapped };
        uint32_t left_msec = kms_call_left_msec(call);

        switch (s->number) {
        case MESSAGE_KMS_GENERATE:
                m->kms_generate = (struct message_kms_generate){
                        .number_ = s->number, .kek = kek, .context = s->context, .timeout_msec = left_msec };
                return;
        case MESSAGE_KMS_WRAP:
                m->kms_wrap = (struct message_kms_wrap){
                        .number_ = s->number, .key = s->key, .kek = kek, .context = s->context, .timeout_msec = left_msec };
                return;
        case MESSAGE_KMS_UNWRAP:
                m->kms_unwrap = (struct message_kms_unwrap){ .number_ = s->number, .kek = kek, .kek_id = kek_id, .wrapped = wrapped,
                                                             .context = s->context, .timeout_msec = left_msec };
                return;
        default:
                m->kms_rewrap = (struct message_kms_rewrap){ .number_ = s->number, .kek = kek, .kek_id = kek_id, .wrapped = wrapped,
                                                             .context = s->context, .timeout_msec = left_msec };
        }
}

/* The class of an error of the provider's. It may answer with any number of the list; what is no provider's says that it cannot be used. */
static enum proto_error class_of(unsigned error)
{
        if (error >= PROTO_ERROR_KMS_NOT_MINE && error <= PROTO_ERROR_KMS_MISCONFIGURED)
                return (enum proto_error)error;
        switch (error) {
        case PROTO_ERROR_QUOTA:
                return PROTO_ERROR_KMS_THROTTLED;
        case PROTO_ERROR_SHUTTING_DOWN:
                return PROTO_ERROR_KMS_UNREACHABLE;
        default:
                return PROTO_ERROR_KMS_MISCONFIGURED;
        }
}

/* What a good answer brings. Lengths of keys and texts were checked when the frame was unpacked. Return: whether it fits the request. */
static bool take_answer(const struct socket_call *s, const union message *reply, struct provider_result *ret_result)
{
        if (s->number == MESSAGE_KMS_UNWRAP) {
                if (reply->number != MESSAGE_KMS_UNWRAPPED)
                        return false;
                *ret_result = (struct provider_result){ .key = reply->kms_unwrapped.key, .request_id = reply->kms_unwrapped.request_id };
                return true;
        }
        if (s->number == MESSAGE_KMS_GENERATE) {
                if (reply->number != MESSAGE_KMS_GENERATED)
                        return false;
                *ret_result = (struct provider_result){ .key = reply->kms_generated.key,
                                                        .kek_id = reply->kms_generated.kek_id,
                                                        .wrapped = reply->kms_generated.wrapped,
                                                        .request_id = reply->kms_generated.request_id };
        } else {
                if (reply->number != MESSAGE_KMS_WRAPPED)
                        return false;
                *ret_result = (struct provider_result){ .kek_id = reply->kms_wrapped.kek_id,
                                                        .wrapped = reply->kms_wrapped.wrapped,
                                                        .request_id = reply->kms_wrapped.request_id };
        }
        return ret_result->kek_id.n > 0 && ret_result->wrapped.n > 0;
}

static void socket_done(struct kms_call *call, unsigned error, const union message *reply, const char *sentence)
{
        struct socket_call *s = list_entry(call, struct socket_call, call);
        struct socket_kek *kek = s->kek;
        struct provider_call *asker = s->asker;
        struct provider_result result = { .error = PROTO_ERROR_NONE };
        enum message_number number = s->number;
        struct sentence why;
        struct provider_request_id request_id;
        bool fits = error == 0 && take_answer(s, reply, &result);

        socket_call_free(s);
        if (error) {
                sentence_set(&why, "%s", *sentence ? sentence : proto_error_sentence(error));
                provider_fail(asker, class_of(error), why.text);
        } else if (!fits) {
                sentence_set(&why, "the provider at %s answered %s with %s, or with an empty field. Update it, or tell who made it",
                             kek->config->provider_socket, message_name((uint16_t)number), message_name((uint16_t)reply->number));
                provider_fail(asker, PROTO_ERROR_KMS_MISCONFIGURED, why.text);
        } else {
                keep_kek_id(kek, result.kek_id);
                provider_request_id_set(&request_id, result.request_id);
                result.request_id = provider_request_id_get(&request_id);
                asker->done(asker, &result);
        }
}

/* Whoever can put a socket there can hand out keys that he knows. Return: whether nobody else can. */
static bool folder_is_safe(const struct socket_kek *kek, struct sentence *ret_why)
{
        const char *path = kek->config->provider_socket;
        char folder[PATH_MAX];
        struct stat st;

        snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path + 1), path);
        if (stat(folder, &st) < 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) == 0)
                return true; /* what is not there is told by connect(2) */
        sentence_set(ret_why, "others than its owner may write to %s, and so put a provider of their own there: chmod go-w %s", folder, folder);
        return false;
}

/* Ready to call. Return: false when @asker has ended. */
static bool socket_connect(struct socket_kek *kek, struct provider_call *asker)
{
        struct sentence why;

        if (!folder_is_safe(kek, &why)) {
                provider_fail(asker, PROTO_ERROR_KMS_MISCONFIGURED, why.text);
                return false;
        }
        if (kek->link || (kek->base && kms_link_new(&kek->link, kek->base, kek->config->provider_socket, "lkm-kms " LKM_VERSION, PEER) == 0))
                return true;
        provider_fail(asker, PROTO_ERROR_INTERNAL, NULL);
        return false;
}

static struct socket_call *socket_call_new(struct socket_kek *kek, struct provider_call *asker, enum message_number number,
                                           const struct pairs *context)
{
        struct socket_call *s = calloc(1, sizeof(*s));
        struct pairs sorted = *context;

        if (!s) {
                provider_fail(asker, PROTO_ERROR_INTERNAL, NULL);
                return NULL;
        }
        s->kek = kek;
        s->asker = asker;
        s->number = number;
        s->call.fill = socket_fill;
        s->call.done = socket_done;
        if (pairs_sort(&sorted) < 0 || pairs_pack(&sorted, s->context_data, sizeof(s->context_data), &s->n_context) < 0 ||
            pairs_unpack(&s->context, (struct bytes){ s->context_data, s->n_context }) < 0) {
                free(s);
                provider_fail(asker, PROTO_ERROR_PROTOCOL, "the encryption context is outside of the protocol's limits");
                return NULL;
        }
        return s;
}

static void socket_begin(struct socket_call *s)
{
        uint64_t now = clock_boottime_usec(), deadline = s->asker->deadline_usec;
        uint64_t left_usec = deadline > now ? deadline - now : USEC_PER_MSEC;
        struct provider_call *asker = s->asker;

        if (kms_link_call(s->kek->link, &s->call, left_usec) == 0) {
                describe_begin(s->kek, left_usec);
                return;
        }
        socket_call_free(s);
        provider_fail(asker, PROTO_ERROR_INTERNAL, NULL);
}

static void socket_generate(struct kek *kek, struct provider_call *call, const struct pairs *context)
{
        struct socket_call *s;

        if (socket_connect(of(kek), call) && (s = socket_call_new(of(kek), call, MESSAGE_KMS_GENERATE, context)))
                socket_begin(s);
}

static void socket_wrap(struct kek *kek, struct provider_call *call, struct secret *key, const struct pairs *context)
{
        struct socket_call *s;

        if (!socket_connect(of(kek), call) || !(s = socket_call_new(of(kek), call, MESSAGE_KMS_WRAP, context)))
                return;
        s->key = secret_ref(key);
        socket_begin(s);
}

static void socket_take_wrap(struct kek *kek, struct provider_call *call, enum message_number number, struct bytes kek_id,
                             struct bytes wrapped, const struct pairs *context)
{
        struct socket_call *s;

        if (kek_id.n > KEK_ID_MAX || wrapped.n > WRAPPED_MAX) {
                provider_fail(call, PROTO_ERROR_PROTOCOL, "the wrapped key is outside of the protocol's limits");
                return;
        }
        if (!socket_connect(of(kek), call) || !(s = socket_call_new(of(kek), call, number, context)))
                return;
        memcpy(s->kek_id, kek_id.data, kek_id.n);
        memcpy(s->wrapped, wrapped.data, wrapped.n);
        s->n_kek_id = kek_id.n;
        s->n_wrapped = wrapped.n;
        socket_begin(s);
}

static void socket_unwrap(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped,
                          const struct pairs *context)
{
        socket_take_wrap(kek, call, MESSAGE_KMS_UNWRAP, kek_id, wrapped, context);
}

static void socket_rewrap(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped,
                          const struct pairs *context)
{
        socket_take_wrap(kek, call, MESSAGE_KMS_REWRAP, kek_id, wrapped, context);
}

/* ---- the provider's table ---- */

static int socket_new(struct kek **ret_kek, const struct config_kek *config, const struct kms_environment *environment,
                      struct sentence *ret_why)
{
        struct socket_kek *kek = calloc(1, sizeof(*kek));

        if (!kek) {
                sentence_set(ret_why, "out of memory");
                return -ENOMEM;
        }
        kek->config = config;
        kek->base = environment->base;
        *ret_kek = (struct kek *)(void *)kek;
        return 0;
}

static struct kek *socket_free(struct kek *kek)
{
        kms_link_cancel(&of(kek)->describe);
        kms_link_free(of(kek)->link);
        free(kek);
        return NULL;
}

static void socket_describe(const struct kek *kek, struct provider_description *ret_description)
{
        const struct socket_kek *k = (const struct socket_kek *)(const void *)kek;

        *ret_description = (struct provider_description){ .kek_id = k->kek_id, .version = k->version };
}

static const char *socket_permission(const struct kek *kek, enum provider_operation operation)
{
        return NULL;
}

const struct provider provider_socket = {
        .type = KMS_TYPE_SOCKET,
        .kek_new = socket_new,
        .kek_free = socket_free,
        .describe = socket_describe,
        .generate = socket_generate,
        .unwrap = socket_unwrap,
        .wrap = socket_wrap,
        .rewrap = socket_rewrap,
        .permission = socket_permission,
};
