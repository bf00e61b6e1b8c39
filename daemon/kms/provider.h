/* SPDX-License-Identifier: Apache-2.0 */
/*
 * provider: what a kind of KMS has to be able to do. One table for each kind; server.c knows no more of it than this.
 * A provider must not know of connections, frames or policy.
 *
 * Asynchronous by contract: an operation ends by exactly one call of provider_call.done, from inside the operation or
 * later from the event loop. Everything that an operation is given is borrowed until the operation's function returns:
 * a provider that ends later copies what it still needs (secrets by secret_ref()).
 */
#pragma once

#include <event2/event.h>

#include "common/bytes.h"
#include "common/secret.h"
#include "daemon/config.h"
#include "proto/frame.h"

/** A sentence for people: what happened and what to do next. One line, valid UTF-8. */
struct sentence {
        char text[800];
};
/** sentence_set() - as snprintf(3); control characters and broken UTF-8 become '?'. */
void sentence_set(struct sentence *s, const char *format, ...) _printf_(2, 3);

/** What the log of a KMS calls one question. */
struct provider_request_id {
        char text[KMS_REQUEST_ID_MAX + 1]; /* "" = not known */
};
/** provider_request_id_set() - keep what a server said: 1 to KMS_REQUEST_ID_MAX printable ASCII characters, no space at either end. Anything else
 *  is no id, and *@ret_id becomes "". */
void provider_request_id_set(struct provider_request_id *ret_id, struct bytes said);
/** provider_request_id_get() - for a result. Borrowed. */
struct bytes provider_request_id_get(const struct provider_request_id *id);

/** How an operation ended. Borrowed by done() for the call. */
struct provider_result {
        enum proto_error
                error; /* PROTO_ERROR_NONE or one of PROTO_ERROR_KMS_*; the class alone decides what lkmd does */
        const char *sentence; /* with an error; NULL = the error list's own */
        uint32_t retry_after_msec;
        struct secret *key; /* of generate and unwrap */
        struct bytes kek_id; /* of generate, wrap and rewrap: resolved */
        struct bytes wrapped; /* of generate, wrap and rewrap */
        struct bytes request_id; /* what the log of the KMS calls the question; of provider_request_id_set(), or none */
};

/** The asker's side of one operation; embedded in what the asker needs. */
struct provider_call {
        void (*done)(struct provider_call *call, const struct provider_result *result);
        uint64_t deadline_usec; /* CLOCK_BOOTTIME: nobody waits longer; the operation ends by then */
};

/** What is known of a KEK. Borrowed from it. */
struct provider_description {
        const char *kek_id; /* resolved; "" while it is not known yet */
        uint32_t version; /* the one that wraps; 0 while it is not known */
        const char *why; /* why it cannot be used, as far as is known; NULL when nothing stands against it */
        const char *note; /* what an administrator may want to change though it works; NULL for nothing */
};

/** What an operation needs leave for, for `lkmctl kek check`. */
enum provider_operation {
        PROVIDER_GENERATE,
        PROVIDER_UNWRAP,
        PROVIDER_WRAP,
        PROVIDER_REWRAP,
        PROVIDER_OPERATION_COUNT,
};

/** What the providers of one process share. */
struct kms_environment {
        struct event_base *base; /* NULL in lkm-kms --check-config, where nothing is asked of a KMS */
        struct http *http; /* likewise */
};

/** A provider's KEK; each provider embeds nothing here and casts its own type. */
struct kek;

struct provider {
        enum kms_type type;
        /** kek_new() - asks nothing of the KMS yet, and does not wait. Return: 0; -EINVAL or another -errno with *ret_why filled.
         *  @config and @environment outlive the KEK. */
        int (*kek_new)(struct kek **ret_kek, const struct config_kek *config, const struct kms_environment *environment,
                       struct sentence *ret_why);
        /** kek_free() - no call is under way. */
        struct kek *(*kek_free)(struct kek *kek);
        void (*describe)(const struct kek *kek, struct provider_description *ret_description);
        void (*generate)(struct kek *kek, struct provider_call *call, const struct pairs *context);
        /** unwrap(), rewrap() - @kek_id is what the record gives; KMS_NOT_MINE when this KEK is another. */
        void (*unwrap)(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped,
                       const struct pairs *context);
        void (*wrap)(struct kek *kek, struct provider_call *call, struct secret *key, const struct pairs *context);
        void (*rewrap)(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped,
                       const struct pairs *context);
        /** permission() - what the KMS has to allow for @operation, in its own words; NULL when there is no such thing. */
        const char *(*permission)(const struct kek *kek, enum provider_operation operation);
        /** policy() - the least policy for this KEK, ready to be pasted at the KMS. Return: heap text to release with free(), or
         *  NULL when out of memory. NULL in the table where a KMS has no policies. */
        char *(*policy)(const struct kek *kek);
};

extern const struct provider provider_aws, provider_local, provider_socket, provider_vault;

/** provider_find() - by type, or NULL. */
const struct provider *provider_find(enum kms_type type);
/** provider_fail() - end @call with @error. */
void provider_fail(struct provider_call *call, enum proto_error error, const char *sentence);
