/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-call: one question to Vault: an exchange with Vault's headers, redirections and errors. Who asks is told of an answer that can be
 * read, and of the end. Where the token comes from is the business of authorize(), so that logins use this too.
 */
#pragma once

#include "daemon/kms/exchange.h"
#include "daemon/kms/vault-answer.h"
#include "daemon/kms/vault-server.h"

struct vault_token;

struct vault_call {
        /* ---- set by who asks, after vault_call_init() ---- */
        struct secret *body;  /* a JSON text, owned; NULL for none */
        struct secret *token; /* owned; NULL for none; authorize() sets it anew */
        const char *permission; /* what has to be allowed, for the sentence of a denial; borrowed */
        /** authorize() - see that @call has a token. NULL: it has what it needs. Return: 0; EXCHANGE_WAIT. */
        int (*authorize)(struct vault_call *call);
        /** is_in_doubt() - the token was refused. Return: whether to find out why and to try once more: authorize() comes next. May be NULL. */
        bool (*is_in_doubt)(struct vault_call *call);
        /** read() - take what is wanted from an answer of success, or of a batch; *verdict is a success to begin with. */
        void (*read)(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict);
        /** done() - as of exchange. The owner may free @call. */
        void (*done)(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec);
        void *userdata;

        /* ---- to be read ---- */
        int status; /* of the last answer; 0 = none yet */
        enum vault_special special; /* of the last answer, when it was no success */
        struct provider_request_id request_id; /* of the last answer */

        /* ---- of those who authorize ---- */
        struct vault_token *authority;
        struct list key_link, auth_link; /* in a list of those who wait */
        unsigned token_generation;
        bool doubts, doubted;
        struct sentence denial; /* what is said when the token is good: it may not */

        /* ---- private ---- */
        struct exchange exchange;
        const struct vault_server *server;
        enum vault_kind kind;
        const char *method;
        char *path, *url, *redirection;
        bool started;
};

/** vault_call_init() - @path: what follows /v1/, taken over and freed; NULL (out of memory) fails. Return: 0 or -ENOMEM. */
int vault_call_init(struct vault_call *c, const struct vault_server *server, enum vault_kind kind, const char *method, char *path);
/** vault_call_deinit() - nothing is under way. Allowed twice, and for a zeroed call. */
void vault_call_deinit(struct vault_call *c);
/** vault_call_start() - Return: 0 or -ENOMEM; done() never comes inside. */
int vault_call_start(struct vault_call *c, struct exchange_queue *queue, uint64_t deadline_usec);
/** vault_call_cancel() - end without done(). */
void vault_call_cancel(struct vault_call *c);

/** vault_call_ready(), vault_call_fail() - after EXCHANGE_WAIT. */
void vault_call_ready(struct vault_call *c);
void vault_call_fail(struct vault_call *c, enum proto_error error, const char *sentence);

/** vault_call_refuse() - for read(): the answer will not do. */
void vault_call_refuse(struct vault_call *c, struct exchange_verdict *verdict, enum proto_error error, enum exchange_action action,
                       const char *format, ...) _printf_(5, 6);
