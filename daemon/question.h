/* SPDX-License-Identifier: Apache-2.0 */
/*
 * question: an administrator's question about a KEK, which lkmd passes on to the KMS worker. One request waits for each; it may lose its
 * connection meanwhile. Knows no sockets, and nothing of what the answer says.
 */
#pragma once

#include "daemon/lkmd.h"

struct request;

struct question {
        struct lkmd *daemon;
        struct list waiters; /* of struct request: the one that asked */
        enum message_number number; /* KMS_DESCRIBE, KMS_CHECK or KMS_POLICY */
        char kek[SCOPE_NAME_MAX + 1]; /* "" for all */
        struct kms_call call;
        /* outcome; borrowed from the answer for the call of request_resume() */
        unsigned error; /* PROTO_ERROR_*, 0 when it worked; translated by flight_refusal() */
        const char *sentence;
        struct bytes json;
};

/** question_start() - begin; never ends inside this function. @kek: at most SCOPE_NAME_MAX bytes. Return: 0 or -ENOMEM. */
int question_start(struct question **ret_question, struct lkmd *d, enum message_number number, struct bytes kek, uint64_t timeout_usec);
