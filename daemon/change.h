/* SPDX-License-Identifier: Apache-2.0 */
/*
 * change: the work at the KMS that turns a record into the one that follows it (rotate, commit, abort, purge, rewrap, rekek), or reads a key
 * version that is not the current one. One request waits for each, and owns it. The current key comes first, out of the cache or unwrapped,
 * and verifies the record; then one call after the other over kms-link until nothing is missing. Each wrap that is made is unwrapped again,
 * since it may take the place of the only one that is known to work. A change is made whole or not at all.
 * Knows no sockets, policy or cache.
 */
#pragma once

#include "daemon/lkmd.h"
#include "daemon/record.h"

struct request;

enum change_kind {
        CHANGE_READ,   /* the key of one version, pending or retired */
        CHANGE_RECOVER, /* the key of one version in whatever state, to put a damaged database together */
        CHANGE_ROTATE, /* a new key, pending, wrapped under every KEK of the scope */
        CHANGE_COMMIT, /* the pending version becomes the current one */
        CHANGE_ABORT,  /* the pending version is retired */
        CHANGE_PURGE,  /* the wraps of a retired version go */
        CHANGE_REWRAP, /* every wrap anew, under the newest version of its own KEK */
        CHANGE_REKEK,  /* every version under exactly the KEKs of the scope */
};

/** What a change is about. The record and the key are borrowed. */
struct change_order {
        enum change_kind kind;
        struct config *config;
        const struct config_scope *scope; /* of @config */
        struct record *record;            /* format 2 */
        uint32_t version;                 /* READ, RECOVER, COMMIT, ABORT, PURGE: the one it is about */
        bool restore_wal;                 /* ROTATE */
        struct secret *current;           /* the current key, where it is known; NULL = unwrap it */
        struct origin *origin;            /* of @current, referenced */
};

/** The wraps that a change has made for one version. */
struct change_wraps {
        size_t n, n_proved; /* made; and unwrapped again to the same key */
        struct record_wrap wraps[RECORD_WRAPS_MAX];
};

struct change {
        struct lkmd *daemon;
        struct list waiters; /* of struct request: its owner, while it waits */
        enum change_kind kind;
        struct config *config;
        const struct config_scope *scope;
        struct record *record;
        uint32_t version; /* the version it is about; of a ROTATE the new one */
        /* progress: what is missing decides the next step */
        struct kms_call call;
        bool under_way; /* counted by the daemon */
        uint64_t now_wall;
        enum change_step { CHANGE_STEP_UNWRAP, CHANGE_STEP_GENERATE, CHANGE_STEP_WRAP, CHANGE_STEP_REWRAP, CHANGE_STEP_PROVE } step;
        size_t n_keks; /* that may unwrap: those of the scope, then all others of the configuration */
        const struct config_kek **keks;
        size_t i_version, i_kek, i_wrap;
        struct secret *key; /* of the version at i_version */
        struct pairs context;
        struct record_context_storage context_storage;
        struct change_wraps *made; /* for each of @next, what replaces its wraps */
        /* outcome */
        struct secret *current; /* of the record, verified */
        struct secret *read;    /* READ, RECOVER, COMMIT: the key of @version; NULL for the others */
        struct origin *current_origin;
        struct origin *origin; /* READ, RECOVER, COMMIT: of @read; otherwise of the first wrap that was made; NULL when nothing was asked for that */
        size_t n_next;
        struct record_version *next; /* the versions of the next record; borrows from @record and @made */
        uint64_t rotated_at_usec;
        unsigned error; /* PROTO_ERROR_*, 0 when it worked; the KMS_* ones are translated by flight_refusal() */
        bool current_failed; /* @error is about the record's current key */
        char sentence[512];
};

/** Named outcomes of change_start(). */
enum {
        CHANGE_E_DONE = 1, /* nothing had to be asked: the outcome is there */
};

/** change_refusal() - why the states of the record's versions do not allow @order, or PROTO_ERROR_NONE. Asks nobody, verifies nothing. */
enum proto_error change_refusal(const struct change_order *order);
/**
 * change_start() - begin
 * @ret_change: the caller's, also when it has failed to ask; release with change_free() once it has ended
 * @now_wall:   what the next record says about when it happened
 *
 * Return: 0: it goes on, and ends with request_resume() of the one in @waiters; CHANGE_E_DONE; -ENOMEM, -errno: *@ret_change untouched.
 */
int change_start(struct change **ret_change, struct lkmd *d, const struct change_order *order, uint64_t now_wall);
/** change_free() - it has ended, or nobody waits for it. NULL is allowed. */
struct change *change_free(struct change *c);
/** change_signer() - the key that is current in the next record. Borrowed. */
struct secret *change_signer(const struct change *c);
/** change_signer_origin() - where it came from. Borrowed; NULL when it is not known. */
struct origin *change_signer_origin(const struct change *c);
/** change_text() - of a kind, for the audit log: "rotate", "commit", … */
const char *change_text(enum change_kind kind);
