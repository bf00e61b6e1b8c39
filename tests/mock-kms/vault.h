/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault: the state of the Vault that this server is, and one call of it: what every engine and auth method shares to read
 * its parameters and to answer in Vault's envelope. A handler of a route answers by one of the vault_reply functions.
 */
#pragma once

#include "tests/mock-kms/vault-acl.h"
#include "tests/mock-kms/vault-token.h"

struct mock;
struct request;
struct answer;

/* What unseals it; no secret, as nothing here is. */
#define VAULT_UNSEAL_KEY "bG9jay1tb2NrLWttcyB1bnNlYWxzIHdpdGggdGhpcyE="
#define VAULT_VERSION "2.7.2"

enum vault_operation { VAULT_READ, VAULT_UPDATE, VAULT_DELETE, VAULT_LIST };
#define VAULT_MAY(operation) (1u << (operation))

struct vault {
        bool sealed;
        bool knows_no_datakey_aad; /* as HashiCorp's; OpenBao takes associated_data there */
        json_t *mounts, *auths; /* "transit/": { type … } */
        json_t *policies, *rules; /* name: text; name: acl_parse() of it */
        json_t *roles; /* "auth/approle/role/NAME": what was written there */
        json_t *role_ids, *secret_ids; /* id: { "role": path, "uses"?, "ends"? } */
        json_t *jwts; /* token: { "role"?, "expired"? } */
        char *cluster_id;
        struct vault_tokens tokens;
        struct list keys; /* of Transit */
};

void vault_init(struct vault *v, uint64_t now_usec);
void vault_deinit(struct vault *v);

enum { VAULT_PARTS_MAX = 3 };

struct vault_route;

struct vault_call {
        struct mock *mock;
        struct vault *vault;
        const struct request *request;
        struct answer *answer;
        enum vault_operation operation;
        const char *path; /* without /v1/ */
        const char *mount; /* "transit/", "auth/approle/" */
        char *parts[VAULT_PARTS_MAX]; /* what stands for "+" in the route */
        json_t *body;
        struct vault_token *token; /* NULL where none is needed */
        json_t *warnings; /* NULL without any */
};

/** A path of an engine. */
struct vault_route {
        const char *type; /* of the mount: "transit", "approle" …, "system" */
        const char *pattern; /* "+" stands for one part */
        unsigned operations; /* VAULT_MAY() of those that there are */
        const char *fields; /* names of parameters between blanks; others are ignored with a warning. NULL = any */
        void (*handle)(struct vault_call *c);
        bool needs_no_token;
        bool needs_sudo;
        /** what would be updated is not there: needs "create" instead of "update"; or NULL */
        bool (*is_new)(const struct vault_call *c);
};

extern const struct vault_route vault_routes_system[], vault_routes_token[], vault_routes_auth[],
        vault_routes_transit[]; /* type NULL ends them */

/** vault_route_call() - find the route, check token and policy, and let it answer. */
void vault_route_call(struct vault_call *c);
/** vault_authorize() - by token and policy. @route: NULL for a path that is none. Return: false after the error. */
bool vault_authorize(struct vault_call *c, const struct vault_route *route);
/** vault_capabilities() - an array of what the caller may do with @path, for sys/capabilities-self. */
json_t *vault_capabilities(struct vault_call *c, const char *path);
/** vault_mount() - at @path, which ends in a slash. */
void vault_mount(json_t *mounts, const char *path, const char *type);

void vault_reply(struct vault_call *c, json_t *data); /* takes @data over */
void vault_reply_status(struct vault_call *c, int status, json_t *data); /* the same with another status */
void vault_reply_twice(struct vault_call *c, json_t *data); /* in "data" and around it, as old calls of sys/ do */
void vault_reply_auth(struct vault_call *c, const struct vault_token *t);
void vault_reply_empty(struct vault_call *c); /* 204 */
void vault_error(struct vault_call *c, int status, const char *format, ...) _printf_(3, 4);
/** vault_error_listed() - the form in which most errors of Vault's core come: "1 error occurred: …". */
void vault_error_listed(struct vault_call *c, int status, const char *format, ...) _printf_(3, 4);
void vault_error_nothing(struct vault_call *c, int status); /* without a sentence */
void vault_warn(struct vault_call *c, const char *text);

/** vault_time_format() - RFC 3339 with fractions, to release with free(). */
char *vault_time_format(uint64_t usec);
/** vault_names() - a list or a text with commas, as an array of texts; empty for none. */
json_t *vault_names(const json_t *value);
