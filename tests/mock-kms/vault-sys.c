/* SPDX-License-Identifier: Apache-2.0 */
/* Vault's core under sys/: health, seal, mounts, policies and wrapped answers. */
#include "tests/mock-kms/service.h"
#include "tests/mock-kms/vault-transit.h"
#include "tests/mock-kms/vault.h"

/* ---- health and seal: without an envelope ---- */

static void health(struct vault_call *c)
{
        const struct vault *v = c->vault;
        const char *replication = v->sealed ? "unknown" : "disabled";
        json_t *body;

        if (c->operation != VAULT_READ) {
                vault_error_nothing(c, 405);
                return;
        }
        body = json_take(json_pack("{s:b, s:b, s:b, s:s, s:s, s:I, s:s}", "initialized", true, "sealed", v->sealed,
                                   "standby", v->sealed, "replication_performance_mode", replication,
                                   "replication_dr_mode", replication, "server_time_utc",
                                   (json_int_t)(mock_now_usec(c->mock) / USEC_PER_SEC), "version", VAULT_VERSION));
        if (!v->sealed) {
                json_put(body, "cluster_name", json_string("vault-cluster-mock"));
                json_put(body, "cluster_id", json_string(v->cluster_id));
        }
        answer_json(c->answer, v->sealed ? 503 : 200, "application/json", body);
}

static void seal_status(struct vault_call *c)
{
        const struct vault *v = c->vault;
        json_t *body = json_take(json_pack("{s:s, s:b, s:b, s:i, s:i, s:i, s:s, s:b, s:s, s:s, s:b}", "type", "shamir",
                                           "initialized", true, "sealed", v->sealed, "t", 1, "n", 1, "progress", 0,
                                           "nonce", "", "recovery_seal", false, "version", VAULT_VERSION, "commit_date",
                                           "2026-10-26T20:32:27Z", "migration", false));

        if (!v->sealed) {
                json_put(body, "cluster_name", json_string("vault-cluster-mock"));
                json_put(body, "cluster_id", json_string(v->cluster_id));
        }
        json_put(body, "storage_type", json_string("inmem"));
        answer_json(c->answer, 200, "application/json", body);
}

static void leader(struct vault_call *c)
{
        answer_json(c->answer, 200, "application/json", json_pack("{s:b}", "ha_enabled", false));
}

static void seal(struct vault_call *c)
{
        c->vault->sealed = true;
        vault_reply_empty(c);
}

static void unseal(struct vault_call *c)
{
        const char *key = json_text(c->body, "key");
        uint8_t bytes[64];
        size_t n = 0;

        if (json_loose_flag(c->body, "reset", false) || !c->vault->sealed) {
                seal_status(c);
        } else if (!key) {
                vault_error(c, 400, "'key' must be specified in request body as JSON, or 'reset' set to true");
        } else if (strlen(key) > 64 || base64_parse(bytes, &n, key, strlen(key)) < 0) {
                vault_error(c, 400, "'key' must be a valid hex or base64 string");
        } else if (n < 16) {
                vault_error(c, 400, "invalid key: key is shorter than minimum 16 bytes");
        } else if (strcmp(key, VAULT_UNSEAL_KEY) != 0) {
                vault_error(c, 400,
                            "unable to retrieve stored keys: invalid key: failed to decrypt keys from storage: "
                            "cipher: message authentication failed");
        } else {
                c->vault->sealed = false;
                seal_status(c);
        }
}

/* ---- mounts ---- */

static void mount_at(struct vault_call *c, json_t *mounts, const char *const *types)
{
        _cleanup_(freep) char *path = text_format("%s/", c->parts[0]);
        const char *type = json_text(c->body, "type");

        for (; type && *types && strcmp(*types, type) != 0; types++)
                ;
        if (!type)
                vault_error(c, 400, "backend type must be specified as a string");
        else if (!*types)
                vault_error(c, 400, "plugin not found in the catalog: %s", type);
        else if (json_object_get(mounts, path))
                vault_error(c, 400, "path is already in use at %s", path);
        else {
                vault_mount(mounts, path, type);
                vault_reply_empty(c);
        }
}

static void mounts(struct vault_call *c)
{
        vault_reply_twice(c, json_deep_copy(c->vault->mounts));
}

static void auths(struct vault_call *c)
{
        vault_reply_twice(c, json_deep_copy(c->vault->auths));
}

static void mount_engine(struct vault_call *c)
{
        static const char *const types[] = { "transit", NULL };
        _cleanup_(freep) char *path = text_format("%s/", c->parts[0]);

        if (c->operation == VAULT_DELETE) {
                transit_keys_remove(c->vault, path);
                json_object_del(c->vault->mounts, path);
                vault_reply_empty(c);
        } else {
                mount_at(c, c->vault->mounts, types);
        }
}

static void mount_auth(struct vault_call *c)
{
        static const char *const types[] = { "approle", "kubernetes", "jwt", "cert", NULL };
        _cleanup_(freep) char *path = text_format("%s/", c->parts[0]);

        if (c->operation == VAULT_DELETE) {
                json_object_del(c->vault->auths, path);
                vault_reply_empty(c);
        } else {
                mount_at(c, c->vault->auths, types);
        }
}

/* ---- policies ---- */

static void write_policy(struct vault_call *c, const char *name)
{
        const char *text = json_text(c->body, "policy");
        _cleanup_(freep) char *problem = NULL;
        json_t *rules = text ? acl_parse(text, &problem) : NULL;

        if (!text || !*text) {
                vault_error(c, 400, "'policy' parameter not supplied or empty");
        } else if (!rules) {
                vault_error(c, 400, "%s", problem);
        } else {
                json_put(c->vault->policies, name, json_string(text));
                json_put(c->vault->rules, name, rules);
                vault_reply_empty(c);
        }
}

static void policy(struct vault_call *c)
{
        const char *name = c->parts[0], *text = json_text(c->vault->policies, name);

        if (c->operation == VAULT_UPDATE) {
                write_policy(c, name);
        } else if (c->operation == VAULT_DELETE) {
                json_object_del(c->vault->policies, name);
                json_object_del(c->vault->rules, name);
                vault_reply_empty(c);
        } else if (!text) {
                vault_error_nothing(c, 404);
        } else {
                vault_reply(c, json_pack("{s:s, s:s}", "name", name, "policy", text));
        }
}

static void capabilities_self(struct vault_call *c)
{
        _cleanup_(json_decrefp) json_t *paths =
                vault_names(json_object_get(c->body, json_object_get(c->body, "paths") ? "paths" : "path"));
        json_t *data = json_take(json_object()), *path;
        size_t i;

        json_array_foreach(paths, i, path)
                json_put(data, json_string_value(path), vault_capabilities(c, json_string_value(path)));
        if (json_array_size(paths) == 1)
                json_put(data, "capabilities",
                         json_incref(json_object_get(data, json_string_value(json_array_get(paths, 0)))));
        vault_reply_twice(c, data);
}

/* ---- wrapped answers ---- */

static struct vault_wrapped *wrapped_find(struct vault_call *c, const char *token)
{
        return token ? vault_wrapped_find(&c->vault->tokens, token, mock_now_usec(c->mock)) : NULL;
}

static void wrapping_lookup(struct vault_call *c)
{
        const char *given = json_text(c->body, "token");
        const struct vault_wrapped *w = wrapped_find(c, given ? given : request_header(c->request, "X-Vault-Token"));
        _cleanup_(freep) char *time = w ? vault_time_format(w->created_usec) : NULL;

        if (w)
                vault_reply(c, json_pack("{s:s, s:s, s:I}", "creation_path", w->creation_path, "creation_time", time,
                                         "creation_ttl", (json_int_t)w->ttl));
        else
                vault_error(c, 400, "wrapping token is not valid or does not exist");
}

/* Either the request is made with the wrapping token, or it is made with another and names the wrapping token. */
static void wrapping_unwrap(struct vault_call *c)
{
        const char *given = json_text(c->body, "token");
        struct vault_wrapped *own = wrapped_find(c, request_header(c->request, "X-Vault-Token")), *w = own;

        if (own && given) {
                /* Both at once spends the token before it is looked at. */
                vault_wrapped_free(own);
                vault_error_listed(
                        c, 500,
                        "error decrementing wrapping token's use-count: invalid token entry provided for use count decrementing");
                return;
        }
        if (!own && given && !vault_authorize(c, NULL))
                return;
        if (!own)
                w = wrapped_find(c, given);
        if (!w) {
                vault_error(c, 400, "wrapping token is not valid or does not exist");
                return;
        }
        answer_json(c->answer, 200, "application/json", json_incref(w->answer));
        vault_wrapped_free(w);
}

const struct vault_route vault_routes_system[] = {
        { "system", "health", VAULT_MAY(VAULT_READ) | VAULT_MAY(VAULT_UPDATE), NULL, health, .needs_no_token = true },
        { "system", "seal-status", VAULT_MAY(VAULT_READ), NULL, seal_status, .needs_no_token = true },
        { "system", "leader", VAULT_MAY(VAULT_READ), NULL, leader, .needs_no_token = true },
        { "system", "unseal", VAULT_MAY(VAULT_UPDATE), NULL, unseal, .needs_no_token = true },
        { "system", "seal", VAULT_MAY(VAULT_UPDATE), NULL, seal, .needs_sudo = true },
        { "system", "mounts", VAULT_MAY(VAULT_READ), NULL, mounts },
        { "system", "mounts/+", VAULT_MAY(VAULT_UPDATE) | VAULT_MAY(VAULT_DELETE),
          "type description config local seal_wrap options", mount_engine },
        { "system", "auth", VAULT_MAY(VAULT_READ), NULL, auths },
        { "system", "auth/+", VAULT_MAY(VAULT_UPDATE) | VAULT_MAY(VAULT_DELETE),
          "type description config local seal_wrap options", mount_auth, .needs_sudo = true },
        { "system", "policies/acl/+", VAULT_MAY(VAULT_READ) | VAULT_MAY(VAULT_UPDATE) | VAULT_MAY(VAULT_DELETE),
          "policy name ttl cas cas_required", policy },
        { "system", "policy/+", VAULT_MAY(VAULT_READ) | VAULT_MAY(VAULT_UPDATE) | VAULT_MAY(VAULT_DELETE),
          "policy rules name", policy },
        { "system", "capabilities-self", VAULT_MAY(VAULT_UPDATE), "token path paths", capabilities_self },
        { "system", "wrapping/lookup", VAULT_MAY(VAULT_READ) | VAULT_MAY(VAULT_UPDATE), "token", wrapping_lookup,
          .needs_no_token = true },
        { "system", "wrapping/unwrap", VAULT_MAY(VAULT_UPDATE), "token", wrapping_unwrap, .needs_no_token = true },
        { NULL },
};
