/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-get: credentials by one GET whose answer is JSON: from a container's endpoint, from SSO. Repeated a few times when nobody answers or the server
 * has a fault of its own.
 */
#pragma once

#include "daemon/kms/aws-way.h"

#define AWS_GET_URL_MAX 2048

struct aws_get;

/** What to ask. Borrowed for aws_get_start(). */
struct aws_get_request {
        const char *url;
        const struct http_transport *transport;
        const char *header;   /* that carries @value; NULL = none */
        struct secret *value;
        enum aws_answer_kind kind;
        unsigned n_attempts;
        uint64_t timeout_usec, pause_usec; /* of one attempt, and between them */
        const char *who;    /* whom we ask, for sentences; static */
        const char *hint;   /* what to do when it refuses; static */
        const char *source; /* for people */
};

/** aws_get_start() - Return: 0 or -errno with *ret_why filled. */
int aws_get_start(struct aws_get **ret_get, const struct aws_surroundings *around, const struct aws_get_request *request,
                  struct aws_way_call *call, struct sentence *ret_why);
/** aws_get_free() - @call is not told. */
struct aws_get *aws_get_free(struct aws_get *get);
DEFINE_CLEANUP(struct aws_get *, aws_get_free)
