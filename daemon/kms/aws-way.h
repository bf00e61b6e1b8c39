/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-way: what the ways to get credentials have in common: each asks once, from the event loop, and tells the outcome once. Internal to
 * aws-*.c.
 */
#pragma once

#include "daemon/kms/aws-answer.h"

/** What all ways of one source are given; outlives them. */
struct aws_surroundings {
        struct event_base *base;
        struct http *http;
        struct http_transport transport; /* to STS and SSO: authorities and proxy */
};

/** Who waits for a way; embedded. */
struct aws_way_call {
        /** done() - once, from the event loop, never inside the function that began it; @credentials borrowed, or NULL and @error and @why. The way has
         *  ended, and what it was may be used again. */
        void (*done)(struct aws_way_call *call, struct aws_credentials *credentials, enum proto_error error, const char *why);
};

/** aws_way_failure() - the class of an HTTP failure: outage, or something to be corrected. */
static inline enum proto_error aws_way_failure(enum http_failure failure)
{
        return failure == HTTP_FAILURE_TLS || failure == HTTP_FAILURE_REFUSED ? PROTO_ERROR_KMS_MISCONFIGURED : PROTO_ERROR_KMS_UNREACHABLE;
}
