/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flight: one piece of work at the KMS that requests wait for: unwrap a record's key, make and wrap a new one, or wrap a
 * known one. Requests for the same record join the flight that is under way: many askers, one unwrap. Runs a list of
 * calls over kms-link, one after the other, and hands the outcome to every waiting request. Knows no sockets.
 */
#pragma once

#include "daemon/lkmd.h"
#include "daemon/record.h"

struct request;

enum flight_kind {
        FLIGHT_UNWRAP,   /* GET, CHECK: the current key of a record */
        FLIGHT_GENERATE, /* CREATE: a new key, wrapped under every KEK of the scope */
        FLIGHT_REWRAP,   /* UPGRADE: the key of an old record, wrapped anew under every KEK of the scope */
        FLIGHT_IMPORT,   /* IMPORT: a key that the client has, wrapped under every KEK of the scope */
};

struct flight {
        struct lkmd *daemon;
        struct list link, waiters; /* of struct request */
        enum flight_kind kind;
        struct config *config;
        const struct config_scope *scope;
        struct record *record; /* what is unwrapped; NULL for FLIGHT_GENERATE and FLIGHT_IMPORT */
        uint8_t digest[CACHE_DIGEST_SIZE];
        uint8_t database_id[UUID_SIZE]; /* of the record to be made */
        uint32_t version;
        /* progress */
        struct kms_call call;
        enum { FLIGHT_STEP_UNWRAP, FLIGHT_STEP_GENERATE, FLIGHT_STEP_WRAP } step;
        size_t i_kek, i_wrap;
        struct pairs context;
        struct record_context_storage context_storage;
        /* outcome */
        struct secret *key;
        struct origin *origin; /* of @key: the wrap that was unwrapped, or the first that was made */
        size_t n_wraps;
        struct record_wrap wraps[RECORD_WRAPS_MAX];
        unsigned error; /* PROTO_ERROR_*, 0 when it worked; the KMS_* ones are translated by flight_refusal() */
        char sentence[512];
        bool verified, stored; /* the first waiter did it for all */
};

/** flight_find() - the FLIGHT_UNWRAP under way for @digest, or NULL. */
struct flight *flight_find(struct lkmd *d, const uint8_t *digest);
/**
 * flight_start() - begin; never ends inside this function
 * @scope:  borrowed from @config, which is referenced
 * @record: referenced; NULL for FLIGHT_GENERATE and FLIGHT_IMPORT
 * @digest: of the record's text; NULL where there is none
 * @key:    referenced; what FLIGHT_IMPORT wraps, NULL for the others
 * Return: 0, -ENOMEM, or -errno of getrandom(2).
 */
int flight_start(struct flight **ret_flight, struct lkmd *d, enum flight_kind kind, struct config *config,
                 const struct config_scope *scope, struct record *record, const uint8_t *digest, struct secret *key);
/** flight_error_rank() - of a provider's error: what several failures amount to is the one that says most about the key. */
unsigned flight_error_rank(unsigned error);
/** flight_is_outage() - the KMS is away (unreachable, throttled): the one case in which a stale key may serve. */
bool flight_is_outage(unsigned error);
/** flight_refusal() - the client's error number for a provider's. */
enum proto_error flight_refusal(unsigned error);
