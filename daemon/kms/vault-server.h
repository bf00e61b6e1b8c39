/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-server: where a Vault is, how it is spoken to, and where it may send us. Owned by a KEK. Knows no token and no answer.
 */
#pragma once

#include "daemon/kms/http.h"
#include "daemon/kms/provider.h"
#include "daemon/kms/vault-error.h"

#define VAULT_HOST_MAX 300

struct vault_server {
        const struct config_kek *config; /* borrowed: address, namespace, mount, files of TLS, proxy, redirect_hosts */
        const struct kms_environment *environment; /* borrowed */
        char host[VAULT_HOST_MAX]; /* of the address, for people and for redirections */
        char *address; /* without a slash at its end */
        char *namespace; /* likewise; NULL = none */
        struct vault_names names; /* the permission is each call's own */
};

/** vault_server_init() - Return: 0; -EINVAL for an address that is no URL; -ENOMEM. */
int vault_server_init(struct vault_server *s, const struct config_kek *config, const struct kms_environment *environment);
void vault_server_deinit(struct vault_server *s);

/** vault_server_url() - ADDRESS/v1/PATH, to release with free(), or NULL when out of memory. */
char *vault_server_url(const struct vault_server *s, const char *path);
/** vault_server_request() - fill in all but url and body. @token: or NULL. */
void vault_server_request(const struct vault_server *s, struct http_request *ret_request, const char *method, struct secret *token);
/**
 * vault_server_may_follow() - whether a request for @path may be sent to @location instead: the same path there, the host one that the
 * configuration names, and never from https to http.
 */
bool vault_server_may_follow(const struct vault_server *s, const char *path, const char *location);
