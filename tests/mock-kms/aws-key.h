/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-key: KMS keys with their replicas, states and aliases, the ways to name them, and the blobs made under them.
 */
#pragma once

#include "common/list.h"
#include "tests/mock-kms/gcm.h"
#include "tests/mock-kms/text.h"

enum { AWS_REPLICAS_MAX = 8, AWS_REGION_MAX = 31 };

enum {
        AWS_KEY_E_MISSING = 1, /* NotFoundException */
        AWS_KEY_E_FOREIGN, /* in an account that this one may not use */
        AWS_KEY_E_INVALID, /* a blob that is damaged, cut short, or of another context */
        AWS_KEY_E_EXISTS,
};

/** What a key is in one region. */
struct aws_replica {
        char region[AWS_REGION_MAX + 1];
        char *arn;
        const char *state; /* "Enabled" … */
        uint64_t deletion_usec;
};

struct aws_key {
        struct list link;
        char *id, *description;
        bool multi_region;
        uint64_t created_usec;
        uint8_t material[GCM_KEY_SIZE];
        char material_id[2 * SHA256_SIZE + 1];
        struct aws_replica replicas[AWS_REPLICAS_MAX]; /* the first is the primary */
        size_t n_replicas;
};

struct aws_keys {
        struct list keys, aliases;
};

/** A key in the region where it was found. */
struct aws_key_use {
        struct aws_key *key; /* NULL = none */
        struct aws_replica *replica;
};

void aws_keys_init(struct aws_keys *s);
void aws_keys_deinit(struct aws_keys *s);

/** aws_key_new() - @id: NULL for a random one, else of the form that @multi_region asks for. Return: NULL when it is not, or is taken. */
struct aws_key *aws_key_new(struct aws_keys *s, const char *id, bool multi_region, const char *description,
                            uint64_t now_usec);
/** aws_key_replicate() - Return: NULL when the region is there, too long, or one too many. */
struct aws_replica *aws_key_replicate(struct aws_key *k, const char *region);
struct aws_key *aws_key_find(const struct aws_keys *s, const char *id, size_t n_id); /* or NULL */
struct aws_replica *aws_key_in(struct aws_key *k, const char *region); /* or NULL */

/** aws_alias_new() - @name: "alias/…". Return: 0 or AWS_KEY_E_EXISTS. */
int aws_alias_new(struct aws_keys *s, const char *region, const char *name, struct aws_key *k);
char *aws_alias_arn(const char *region, const char *name);

/**
 * aws_key_resolve() - id, key ARN, alias or alias ARN, as sent to the endpoint of @region
 * @ret_problem: KMS's sentence on AWS_KEY_E_MISSING, to release with free()
 * Return: 0, AWS_KEY_E_MISSING or AWS_KEY_E_FOREIGN.
 */
int aws_key_resolve(struct aws_key_use *ret, const struct aws_keys *s, const char *region, const char *name,
                    char **ret_problem);

/** aws_state_find() - the static name of a key state, or NULL. */
const char *aws_state_find(const char *name);
/** aws_state_problem() - why KMS does not work with a key in that state: " is disabled." with its code; NULL when it does. */
const char *aws_state_problem(const char *state, const char **ret_code);

/** aws_blob_new() - a ciphertext blob, which carries the key's id. @aad: the encryption context in one form. */
uint8_t *aws_blob_new(size_t *ret_n, const struct aws_key *k, struct bytes aad, struct bytes plain);
/** aws_blob_id() - the id that a blob carries, borrowed from it. Return: 0 or AWS_KEY_E_INVALID. */
int aws_blob_id(const char **ret_id, size_t *ret_n, struct bytes blob);
/** aws_blob_open() - Return: 0 with the plaintext, to release with free(), or AWS_KEY_E_INVALID. */
int aws_blob_open(uint8_t **ret_plain, size_t *ret_n, const struct aws_key *k, struct bytes aad, struct bytes blob);
