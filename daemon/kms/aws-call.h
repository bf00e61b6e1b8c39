/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-call: one question to AWS KMS: its body, a signature for each attempt, and what the answer says. Knows KMS's operations and their
 * members; nothing of KEKs, records or who asks.
 */
#pragma once

#include <jansson.h>

#include "common/list.h"
#include "daemon/kms/aws-credentials.h"
#include "daemon/kms/aws-endpoint.h"
#include "daemon/kms/exchange.h"
#include "daemon/kms/sigv4.h"

enum aws_operation {
        AWS_GENERATE_DATA_KEY,
        AWS_DECRYPT,
        AWS_ENCRYPT,
        AWS_RE_ENCRYPT,
        AWS_DESCRIBE_KEY,
};
/** aws_operation_permission() - "kms:Decrypt" */
const char *aws_operation_permission(enum aws_operation operation);

/** The KMS of one region as one KEK reaches it. Embedded in the KEK. */
struct aws_service {
        const struct config_kek *config; /* borrowed from the KEK */
        char region[AWS_REGION_MAX + 1];
        char *url, *host;
        struct aws_credentials_source *credentials;
        struct exchange_queue queue; /* only with an event base */
        bool has_queue;
        int64_t clock_offset_usec; /* the server's clock less our own; for X-Amz-Date alone */
        struct sigv4_key key;
        struct aws_credentials *key_owner; /* whose secret @key was derived from: a new set may have the same id */
};

/** aws_service_init() - @region is valid. Return: 0; -EINVAL or -errno with *ret_why filled (then it needs no deinit). */
int aws_service_init(struct aws_service *s, const struct config_kek *config, const struct kms_environment *environment,
                     const char *region, struct sentence *ret_why);
/** aws_service_deinit() - no call is under way. */
void aws_service_deinit(struct aws_service *s);

/** One question. Embedded. */
struct aws_call {
        /** accept() - @answer is an object, strictly parsed, with a blank Plaintext: compare what it says. Return: PROTO_ERROR_NONE; else *ret_why
         *  is filled. */
        enum proto_error (*accept)(struct aws_call *call, const json_t *answer, struct sentence *ret_why);
        /** done() - once, from the event loop; the owner may deinit and free @call. @sentence: "" without an error. */
        void (*done)(struct aws_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec);
        /* What the answer holds, as far as the operation has it; set before accept(). */
        struct secret *plaintext; /* KEY_SIZE bytes */
        uint8_t *blob;
        size_t n_blob;
        struct provider_request_id request_id; /* of the last answer */
        /* private */
        struct aws_service *service;
        enum aws_operation operation;
        char *key_id; /* for people */
        struct exchange exchange;
        char *body;
        struct secret *body_secret; /* in place of @body when it carries a key */
        char payload_hash[65], time[SIGV4_TIME_SIZE], authorization[SIGV4_AUTHORIZATION_MAX];
        struct aws_credentials *credentials; /* what the attempt under way is signed with, or what was waited for */
        bool credentials_are_new; /* @credentials were waited for: the next attempt takes them */
        struct aws_credentials_call waiting;
        bool waits; /* @waiting is with the source */
        bool clock_was_mended, credentials_were_renewed; /* each is tried once */
};

/**
 * aws_call_start() - ask @service
 * @request:   members of the question, without Plaintext; borrowed
 * @key_id:    for people: which key it is about; borrowed
 * @plaintext: for Encrypt, a key of KEY_SIZE; borrowed
 * Return: 0; -E2BIG for a question over HTTP_BODY_MAX; -ENOMEM, -ENOBUFS, -EIO. In each case aws_call_deinit() is due.
 */
int aws_call_start(struct aws_call *call, struct aws_service *service, enum aws_operation operation,
                   const json_t *request, const char *key_id, struct secret *plaintext, uint64_t deadline_usec);
/** aws_call_cancel() - end it without done(). Allowed when nothing is under way. */
void aws_call_cancel(struct aws_call *call);
/** aws_call_deinit() - nothing is under way. */
void aws_call_deinit(struct aws_call *call);
