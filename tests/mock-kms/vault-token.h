/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-token: the tokens that Vault has given out, how long they live and what they may do; and the answers that are
 * wrapped until someone takes them.
 */
#pragma once

#include "common/list.h"
#include "tests/mock-kms/text.h"

enum { VAULT_TTL_STANDARD = 2764800 /* 32 days: also what nothing exceeds */ };

struct vault_token {
        struct list link;
        char *id, *accessor, *display_name, *path;
        char *entity_id; /* "" without one */
        json_t *policies, *meta; /* sorted array; object or NULL */
        uint64_t created_usec, issued_usec, expires_usec; /* by the server's clock; USEC_INFINITY = never */
        uint64_t ttl, max_ttl, explicit_max_ttl, period; /* seconds; 0 = not set */
        int64_t uses; /* that are left; 0 = any number */
        int64_t uses_at_start;
        bool renewable, orphan, is_batch;
};

/** What a new token shall be. */
struct vault_grant {
        const char *display_name, *path, *entity_id; /* entity_id: NULL for none */
        const json_t *policies; /* array; "default" is added */
        const json_t *meta; /* or NULL */
        uint64_t ttl, max_ttl, explicit_max_ttl, period;
        int64_t uses;
        bool renewable, orphan, is_batch, no_default_policy;
};

/** An answer that is kept for the one who has its token. */
struct vault_wrapped {
        struct list link;
        char *token, *creation_path;
        json_t *answer;
        uint64_t created_usec, ttl;
};

struct vault_tokens {
        struct list tokens, wrapped;
};

void vault_tokens_init(struct vault_tokens *s);
void vault_tokens_deinit(struct vault_tokens *s);
/** vault_token_root() - a token that may do everything and never ends. */
void vault_token_root(struct vault_tokens *s, const char *id, uint64_t now_usec);
/** vault_token_new() - @ret_warning: as vault_token_renew(); may be NULL. */
struct vault_token *vault_token_new(struct vault_tokens *s, const struct vault_grant *g, uint64_t now_usec,
                                    char **ret_warning);
/** vault_token_find() - one that is known and has not ended, or NULL. */
struct vault_token *vault_token_find(struct vault_tokens *s, const char *id, uint64_t now_usec);
void vault_token_free(struct vault_token *t);
bool vault_token_is_root(const struct vault_token *t);
/** vault_token_seconds() - how long it will live, rounded; 0 = for ever. */
uint64_t vault_token_seconds(const struct vault_token *t, uint64_t now_usec);
/**
 * vault_token_renew() - from now on for @increment seconds, or what it was made for
 * @ret_warning: Vault's sentence when less was given, to release with free(); else untouched
 */
void vault_token_renew(struct vault_token *t, uint64_t increment, uint64_t now_usec, char **ret_warning);
/** vault_tokens_expire() - all but root tokens end now. */
void vault_tokens_expire(struct vault_tokens *s);
/** vault_token_auth() - the "auth" of an answer. */
json_t *vault_token_auth(const struct vault_token *t, uint64_t now_usec);

/** vault_wrap() - takes @answer over. */
struct vault_wrapped *vault_wrap(struct vault_tokens *s, const char *creation_path, json_t *answer, uint64_t ttl,
                                 uint64_t now_usec);
struct vault_wrapped *vault_wrapped_find(struct vault_tokens *s, const char *token, uint64_t now_usec); /* or NULL */
void vault_wrapped_free(struct vault_wrapped *w);
