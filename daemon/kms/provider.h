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

/** How an operation ended. Borrowed by done() for the call. */
struct provider_result {
        enum proto_error
                error; /* PROTO_ERROR_NONE or one of PROTO_ERROR_KMS_*; the class alone decides what lkmd does */
        const char *sentence; /* with an error; NULL = the error list's own */
        uint32_t retry_after_msec;
        struct secret *key; /* of generate and unwrap */
        struct bytes kek_id; /* of generate, wrap and rewrap: resolved */
        struct bytes wrapped; /* of generate, wrap and rewrap */
};

/** The asker's side of one operation; embedded in what the asker needs. */
struct provider_call {
        void (*done)(struct provider_call *call, const struct provider_result *result);
};

/** What is known of a usable KEK. Borrowed from it. */
struct provider_description {
        const char *kek_id;
        uint32_t version; /* the one that wraps */
};

/** A provider's KEK; each provider embeds nothing here and casts its own type. */
struct kek;

struct provider {
        const char *name; /* as in kms_type = */
        /** kek_new() - Return: 0; -EINVAL or another -errno with *ret_why filled. May use @base for its I/O. */
        int (*kek_new)(struct kek **ret_kek, const struct config_kek *config, struct event_base *base,
                       struct sentence *ret_why);
        struct kek *(*kek_free)(struct kek *kek);
        void (*describe)(const struct kek *kek, struct provider_description *ret_description);
        /** owns() - whether a wrap whose record names @kek_id can be this KEK's. */
        bool (*owns)(const struct kek *kek, struct bytes kek_id);
        void (*generate)(struct kek *kek, struct provider_call *call, const struct pairs *context);
        void (*unwrap)(struct kek *kek, struct provider_call *call, struct bytes wrapped, const struct pairs *context);
        void (*wrap)(struct kek *kek, struct provider_call *call, struct secret *key, const struct pairs *context);
        void (*rewrap)(struct kek *kek, struct provider_call *call, struct bytes wrapped, const struct pairs *context);
};

extern const struct provider provider_local;

/** provider_find() - by kms_type, or NULL. */
const struct provider *provider_find(const char *kms_type);
/** provider_fail() - end @call with @error. */
void provider_fail(struct provider_call *call, enum proto_error error, const char *sentence);
