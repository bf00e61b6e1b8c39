/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The methods by which a program logs in to Vault. A role is kept as it was written. Kubernetes and JWT take the tokens
 * that a test has told of; this server has no cluster and no issuer to ask.
 */
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "tests/mock-kms/duration.h"
#include "tests/mock-kms/service.h"
#include "tests/mock-kms/vault.h"

DEFINE_CLEANUP(X509 *, X509_free)
DEFINE_CLEANUP(BIO *, BIO_free_all)
DEFINE_CLEANUP(X509_STORE *, X509_STORE_free)
DEFINE_CLEANUP(X509_STORE_CTX *, X509_STORE_CTX_free)

/* ---- roles ---- */

static const char *const durations[] = { "token_ttl", "token_max_ttl", "token_explicit_max_ttl", "token_period",
                                         "secret_id_ttl" };

/* The path of the role that a request names, as the key of vault->roles; to release with free(). */
static char *role_path(const struct vault_call *c, const char *folder, const char *name)
{
        return text_format("%s%s/%s", c->mount, folder, name);
}

static const json_t *role_of(const struct vault_call *c, const char *folder, const char *name)
{
        _cleanup_(freep) char *path = role_path(c, folder, name);

        return json_object_get(c->vault->roles, path);
}

/* Return: the role with its lists and durations in one form, or NULL after the error. */
static json_t *read_role(struct vault_call *c)
{
        _cleanup_(json_decrefp) json_t *role = json_take(json_deep_copy(c->body));
        const json_t *policies = json_object_get(role, "token_policies");

        json_put(role, "token_policies", vault_names(policies ? policies : json_object_get(role, "policies")));
        json_object_del(role, "policies");
        for (size_t i = 0; i < ELEMENTSOF(durations); i++) {
                uint64_t seconds;

                if (duration_member(&seconds, role, durations[i], 0) < 0) {
                        vault_error(c, 400, "Field validation failed: error converting input for field \"%s\"",
                                    durations[i]);
                        return NULL;
                }
                json_put(role, durations[i], json_integer((json_int_t)seconds));
        }
        return TAKE_PTR(role);
}

static void role(struct vault_call *c)
{
        json_t *known = json_object_get(c->vault->roles, c->path), *written;

        if (c->operation == VAULT_UPDATE) {
                written = read_role(c);
                if (!written)
                        return;
                json_put(c->vault->roles, c->path, written);
                vault_reply_empty(c);
        } else if (c->operation == VAULT_DELETE) {
                json_object_del(c->vault->roles, c->path);
                vault_reply_empty(c);
        } else if (!known) {
                vault_error_nothing(c, 404);
        } else {
                vault_reply(c, json_deep_copy(known));
        }
}

static bool is_new_role(const struct vault_call *c)
{
        return !json_object_get(c->vault->roles, c->path);
}

static void config(struct vault_call *c)
{
        vault_reply_empty(c);
}

/* A token as @role gives it. */
static void log_in(struct vault_call *c, const json_t *role, const char *display_name, const json_t *meta)
{
        _cleanup_(freep) char *entity = text_uuid();
        bool is_batch = text_equal(json_text(role, "token_type"), "batch");
        struct vault_grant g = { .display_name = display_name,
                                 .path = c->path,
                                 .entity_id = entity,
                                 .orphan = true,
                                 .is_batch = is_batch,
                                 .renewable = !is_batch,
                                 .policies = json_object_get(role, "token_policies"),
                                 .meta = meta,
                                 .ttl = (uint64_t)json_loose_number(role, "token_ttl", 0),
                                 .max_ttl = (uint64_t)json_loose_number(role, "token_max_ttl", 0),
                                 .explicit_max_ttl = (uint64_t)json_loose_number(role, "token_explicit_max_ttl", 0),
                                 .period = (uint64_t)json_loose_number(role, "token_period", 0),
                                 .uses = json_loose_number(role, "token_num_uses", 0),
                                 .no_default_policy = json_loose_flag(role, "token_no_default_policy", false) };

        vault_reply_auth(c, vault_token_new(&c->vault->tokens, &g, mock_now_usec(c->mock), NULL));
}

/* ---- AppRole ---- */

static void approle_role(struct vault_call *c)
{
        _cleanup_(json_decrefp) json_t *data = NULL;

        if (c->operation != VAULT_READ || is_new_role(c)) {
                role(c);
                return;
        }
        data = json_take(json_pack("{s:b, s:b, s:n, s:i, s:i, s:[], s:i, s:i, s:b, s:i, s:i, s:b, s:i, s:s}",
                                   "bind_secret_id", true, "local_secret_ids", false, "secret_id_bound_cidrs",
                                   "secret_id_num_uses", 0, "secret_id_ttl", 0, "token_bound_cidrs",
                                   "token_explicit_max_ttl", 0, "token_max_ttl", 0, "token_no_default_policy", false,
                                   "token_num_uses", 0, "token_period", 0, "token_strictly_bind_ip", false, "token_ttl",
                                   0, "token_type", "default"));
        if (json_object_update(data, json_object_get(c->vault->roles, c->path)) < 0)
                abort();
        vault_reply(c, TAKE_PTR(data));
}

/* The id of a role, made when it is first asked for; borrowed. */
static const char *role_id_of(struct vault_call *c, const char *path)
{
        json_t *role = json_object_get(c->vault->roles, path), *value;
        _cleanup_(freep) char *id = NULL;
        const char *known;

        json_object_foreach(c->vault->role_ids, known,
                            value) if (text_equal(json_string_value(value), path)) return known;
        if (!role)
                return NULL;
        id = text_uuid();
        json_put(c->vault->role_ids, id, json_string(path));
        return role_id_of(c, path);
}

static void approle_role_id(struct vault_call *c)
{
        _cleanup_(freep) char *path = role_path(c, "role", c->parts[0]);
        const char *known = role_id_of(c, path), *wanted = json_text(c->body, "role_id");

        if (!known) {
                vault_error_nothing(c, 404);
        } else if (c->operation == VAULT_READ) {
                vault_reply(c, json_pack("{s:s}", "role_id", known));
        } else if (!wanted || !*wanted) {
                vault_error(c, 400, "missing role_id");
        } else {
                json_object_del(c->vault->role_ids, known);
                json_put(c->vault->role_ids, wanted, json_string(path));
                vault_reply_empty(c);
        }
}

static void approle_secret_id(struct vault_call *c)
{
        _cleanup_(freep) char *path = role_path(c, "role", c->parts[0]), *id = text_uuid(), *accessor = text_uuid();
        const json_t *role = json_object_get(c->vault->roles, path);
        json_int_t uses = json_loose_number(role, "secret_id_num_uses", 0),
                   ttl = json_loose_number(role, "secret_id_ttl", 0);
        json_int_t ends = ttl ? (json_int_t)mock_now_usec(c->mock) + ttl * (json_int_t)USEC_PER_SEC : 0;

        if (!role) {
                vault_error(c, 404, "role \"%s\" does not exist", c->parts[0]);
                return;
        }
        json_put(c->vault->secret_ids, id, json_pack("{s:s, s:I, s:I}", "role", path, "uses", uses, "ends", ends));
        vault_reply(c, json_pack("{s:s, s:s, s:I, s:I}", "secret_id", id, "secret_id_accessor", accessor,
                                 "secret_id_num_uses", uses, "secret_id_ttl", ttl));
}

/* Whether the secret id is one of the role at @path; it counts as used. */
static bool use_secret_id(struct vault_call *c, const char *path, const char *id)
{
        json_t *secret = json_object_get(c->vault->secret_ids, id);
        json_int_t uses = json_loose_number(secret, "uses", 0), ends = json_loose_number(secret, "ends", 0);

        if (!secret || strcmp(json_text(secret, "role"), path) != 0 ||
            (ends && ends <= (json_int_t)mock_now_usec(c->mock)))
                return false;
        if (uses == 1)
                json_object_del(c->vault->secret_ids, id);
        else if (uses > 1)
                json_put(secret, "uses", json_integer(uses - 1));
        return true;
}

static void approle_login(struct vault_call *c)
{
        const char *role_id = json_text(c->body, "role_id"), *secret_id = json_text(c->body, "secret_id");
        const char *path = role_id ? json_text(c->vault->role_ids, role_id) : NULL;
        const json_t *role = path ? json_object_get(c->vault->roles, path) : NULL;
        _cleanup_(json_decrefp) json_t *meta = NULL;

        if (!role_id || !*role_id) {
                vault_error(c, 500, "missing role_id");
        } else if (!role || !text_starts(path, c->mount)) {
                vault_error(c, 400, "invalid role or secret ID");
        } else if (json_loose_flag(role, "bind_secret_id", true) && (!secret_id || !*secret_id)) {
                vault_error(c, 400, "missing secret_id");
        } else if (json_loose_flag(role, "bind_secret_id", true) && !use_secret_id(c, path, secret_id)) {
                vault_error(c, 400, "invalid role or secret ID");
        } else {
                meta = json_take(json_pack("{s:s}", "role_name", strrchr(path, '/') + 1));
                log_in(c, role, "approle", meta);
        }
}

/* ---- Kubernetes and JWT ---- */

static bool jwt_is_known(const struct vault_call *c, const char *jwt, const char *role)
{
        const json_t *known = json_object_get(c->vault->jwts, jwt);
        const char *bound = json_text(known, "role");

        return known && !json_loose_flag(known, "expired", false) && (!bound || strcmp(bound, role) == 0);
}

static void kubernetes_login(struct vault_call *c)
{
        const char *name = json_text(c->body, "role"), *jwt = json_text(c->body, "jwt");
        const json_t *role = name ? role_of(c, "role", name) : NULL;
        _cleanup_(json_decrefp) json_t *meta = NULL;

        if (!name || !*name) {
                vault_error(c, 400, "missing role");
        } else if (!jwt || !*jwt) {
                vault_error(c, 400, "missing jwt");
        } else if (!role) {
                vault_error(c, 400, "invalid role name \"%s\"", name);
        } else if (!jwt_is_known(c, jwt, name)) {
                vault_error(c, 403, "permission denied");
        } else {
                meta = json_take(json_pack("{s:s, s:s, s:s, s:s, s:s}", "role", name, "service_account_name", "lkm",
                                           "service_account_namespace", "default", "service_account_secret_name", "",
                                           "service_account_uid", c->vault->cluster_id));
                log_in(c, role, "kubernetes-default-lkm", meta);
        }
}

static void jwt_login(struct vault_call *c)
{
        const char *name = json_text(c->body, "role"), *jwt = json_text(c->body, "jwt");
        const json_t *role = name ? role_of(c, "role", name) : NULL;
        _cleanup_(json_decrefp) json_t *meta = NULL;

        if (!name || !*name) {
                vault_error(c, 400, "missing role");
        } else if (!role) {
                vault_error(c, 400, "role \"%s\" could not be found", name);
        } else if (!jwt || !*jwt) {
                vault_error(c, 400, "missing token");
        } else if (json_loose_flag(json_object_get(c->vault->jwts, jwt), "expired", false)) {
                vault_error(c, 400, "error validating token: invalid expiration time (exp) claim: token is expired");
        } else if (!jwt_is_known(c, jwt, name)) {
                vault_error(
                        c, 400,
                        "error validating token: error verifying token signature: no known key successfully validated the token signature");
        } else {
                meta = json_take(json_pack("{s:s}", "role", name));
                log_in(c, role, "jwt-lkm", meta);
        }
}

/* ---- TLS certificates ---- */

static X509 *certificate_parse(const char *pem)
{
        _cleanup_(BIO_free_allp) BIO *input = pem ? BIO_new_mem_buf(pem, -1) : NULL;

        return input ? PEM_read_bio_X509(input, NULL, NULL, NULL) : NULL;
}

static bool is_issued_by(X509 *certificate, const json_t *role)
{
        _cleanup_(X509_freep) X509 *trusted = certificate_parse(json_text(role, "certificate"));
        _cleanup_(X509_STORE_freep) X509_STORE *store = X509_STORE_new();
        _cleanup_(X509_STORE_CTX_freep) X509_STORE_CTX *context = X509_STORE_CTX_new();

        if (!trusted || !store || !context || X509_STORE_add_cert(store, trusted) != 1 ||
            X509_STORE_set_purpose(store, X509_PURPOSE_SSL_CLIENT) != 1 ||
            X509_STORE_CTX_init(context, store, certificate, NULL) != 1)
                return false;
        return X509_verify_cert(context) == 1;
}

static void cert_certs(struct vault_call *c)
{
        _cleanup_(X509_freep) X509 *certificate = certificate_parse(json_text(c->body, "certificate"));

        if (c->operation == VAULT_UPDATE && !certificate)
                vault_error(c, 400, "failed to parse certificate");
        else
                role(c);
}

static json_t *certificate_meta(X509 *certificate, const char *name)
{
        char common_name[128] = "";

        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, common_name, sizeof(common_name));
        return json_take(json_pack("{s:s, s:s}", "cert_name", name, "common_name", common_name));
}

static void cert_login(struct vault_call *c)
{
        _cleanup_(X509_freep) X509 *certificate = c->request->tls ? SSL_get1_peer_certificate(c->request->tls) : NULL;
        _cleanup_(freep) char *folder = text_format("%scerts/", c->mount);
        const char *wanted = json_text(c->body, "name"), *path;
        json_t *role;

        if (!certificate) {
                vault_error(c, 400, "no client certificate found");
                return;
        }
        json_object_foreach(c->vault->roles, path, role)
        {
                const char *name = text_starts(path, folder) ? path + strlen(folder) : NULL;
                _cleanup_(json_decrefp) json_t *meta = NULL;

                if (!name || (wanted && *wanted && strcmp(wanted, name) != 0) || !is_issued_by(certificate, role))
                        continue;
                meta = certificate_meta(certificate, name);
                log_in(c, role, name, meta);
                return;
        }
        vault_error(c, 400, "invalid certificate or no client certificate supplied");
}

#define READ VAULT_MAY(VAULT_READ)
#define UPDATE VAULT_MAY(VAULT_UPDATE)
#define ALL (READ | UPDATE | VAULT_MAY(VAULT_DELETE))
const struct vault_route vault_routes_auth[] = {
        { "approle", "role/+", ALL, NULL, approle_role, .is_new = is_new_role },
        { "approle", "role/+/role-id", READ | UPDATE, "role_id role_name", approle_role_id },
        { "approle", "role/+/secret-id", UPDATE, "metadata cidr_list token_bound_cidrs num_uses ttl role_name",
          approle_secret_id },
        { "approle", "login", UPDATE, "role_id secret_id", approle_login, .needs_no_token = true },
        { "kubernetes", "config", UPDATE, NULL, config },
        { "kubernetes", "role/+", ALL, NULL, role },
        { "kubernetes", "login", UPDATE, "role jwt", kubernetes_login, .needs_no_token = true },
        { "jwt", "config", UPDATE, NULL, config },
        { "jwt", "role/+", ALL, NULL, role },
        { "jwt", "login", UPDATE, "role jwt", jwt_login, .needs_no_token = true },
        { "cert", "config", UPDATE, NULL, config },
        { "cert", "certs/+", ALL, NULL, cert_certs },
        { "cert", "login", UPDATE, "name", cert_login, .needs_no_token = true },
        { NULL },
};
