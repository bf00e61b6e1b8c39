/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-identity: who may call AWS here: users and sessions with their keys and policies, roles, grants and the tokens of
 * a web identity provider. A policy is a JSON array of actions ("kms:Decrypt", "kms:*"); none at all allows everything.
 */
#pragma once

#include "common/list.h"
#include "tests/mock-kms/text.h"

#define AWS_ACCOUNT "123456789012"
/* AWS's own example pair: what is known when the server starts. */
#define AWS_FIRST_KEY_ID "AKIAIOSFODNN7EXAMPLE"
#define AWS_FIRST_SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

struct aws_user {
        struct list link;
        char *arn;
        char *access_key_id, *secret;
        char *session_token; /* NULL for a user, whose keys stay */
        uint64_t expires_usec; /* by the server's clock; USEC_INFINITY = never */
        json_t *policy; /* or NULL */
};

struct aws_role {
        struct list link;
        char *arn;
        char *external_id; /* or NULL */
        json_t *policy; /* or NULL */
};

struct aws_identities {
        struct list users, roles;
        json_t *grants; /* token: array of actions */
        json_t *web_identity; /* token: { "role_arn"?, "expired"? } */
};

void aws_identities_init(struct aws_identities *s);
void aws_identities_deinit(struct aws_identities *s);

/** aws_user_put() - a user or session; one with the same access key id is replaced. Texts are copied, @policy is borrowed. */
struct aws_user *aws_user_put(struct aws_identities *s, const char *arn, const char *access_key_id, const char *secret,
                              const char *session_token, uint64_t expires_usec, const json_t *policy);
/** aws_session_new() - temporary credentials with random keys. */
struct aws_user *aws_session_new(struct aws_identities *s, const char *arn, uint64_t expires_usec,
                                 const json_t *policy);
struct aws_user *aws_user_find(const struct aws_identities *s, const char *access_key_id); /* or NULL */
/** aws_sessions_expire() - end every session at @now_usec. */
void aws_sessions_expire(struct aws_identities *s, uint64_t now_usec);
bool aws_policy_allows(const json_t *policy, const char *action);

void aws_role_put(struct aws_identities *s, const char *arn, const char *external_id, const json_t *policy);
const struct aws_role *aws_role_find(const struct aws_identities *s, const char *arn); /* or NULL */
