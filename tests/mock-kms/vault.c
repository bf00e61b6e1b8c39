/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/vault.h"

#include <stdarg.h>

#include "tests/mock-kms/duration.h"
#include "tests/mock-kms/service.h"
#include "tests/mock-kms/vault-transit.h"

#define PREFIX "/v1/"
#define CONTENT_TYPE "application/json"

static const char default_policy[] = "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }\n"
                                     "path \"auth/token/renew-self\" { capabilities = [\"update\"] }\n"
                                     "path \"auth/token/revoke-self\" { capabilities = [\"update\"] }\n"
                                     "path \"sys/capabilities-self\" { capabilities = [\"update\"] }\n"
                                     "path \"sys/wrapping/lookup\" { capabilities = [\"update\"] }\n"
                                     "path \"sys/wrapping/unwrap\" { capabilities = [\"update\"] }\n";

static json_t *mount_new(const char *type)
{
        _cleanup_(freep) char *accessor = text_random("", 8, "0123456789abcdef"),
                              *named = text_format("%s_%s", type, accessor), *uuid = text_uuid();

        return json_take(json_pack("{s:s, s:{s:i, s:b, s:i}, s:s, s:b, s:b, s:{}, s:s, s:s, s:b, s:s, s:s}", "accessor",
                                   named, "config", "default_lease_ttl", 0, "force_no_cache", false, "max_lease_ttl", 0,
                                   "description", "", "external_entropy_access", false, "local", false, "options",
                                   "plugin_version", "", "running_plugin_version", "v" VAULT_VERSION "+builtin.mock",
                                   "seal_wrap", false, "type", type, "uuid", uuid));
}

void vault_mount(json_t *mounts, const char *path, const char *type)
{
        json_put(mounts, path, mount_new(type));
}

void vault_init(struct vault *v, uint64_t now_usec)
{
        char *problem = NULL;

        *v = (struct vault){ .mounts = json_take(json_object()),
                             .auths = json_take(json_object()),
                             .policies = json_take(json_object()),
                             .rules = json_take(json_object()),
                             .roles = json_take(json_object()),
                             .role_ids = json_take(json_object()),
                             .secret_ids = json_take(json_object()),
                             .jwts = json_take(json_object()),
                             .cluster_id = text_uuid() };
        list_init(&v->keys);
        vault_tokens_init(&v->tokens);
        vault_token_root(&v->tokens, "root", now_usec);
        vault_mount(v->mounts, "sys/", "system");
        vault_mount(v->auths, "token/", "token");
        json_put(v->policies, "default", json_string(default_policy));
        json_put(v->rules, "default", acl_parse(default_policy, &problem));
}

void vault_deinit(struct vault *v)
{
        json_decref(v->mounts);
        json_decref(v->auths);
        json_decref(v->policies);
        json_decref(v->rules);
        json_decref(v->roles);
        json_decref(v->role_ids);
        json_decref(v->secret_ids);
        json_decref(v->jwts);
        free(v->cluster_id);
        vault_tokens_deinit(&v->tokens);
        transit_keys_deinit(v);
}

/* ---- answers ---- */

static json_t *envelope(struct vault_call *c, json_t *data, json_t *auth)
{
        _cleanup_(freep) char *id = text_uuid();

        answer_request_id(c->answer, id);
        return json_take(json_pack("{s:s, s:s, s:b, s:i, s:o, s:n, s:O?, s:o}", "request_id", id, "lease_id", "",
                                   "renewable", false, "lease_duration", 0, "data", data, "wrap_info", "warnings",
                                   c->warnings, "auth", auth));
}

static void answer_wrapped(struct vault_call *c, json_t *inner, uint64_t ttl)
{
        struct vault_wrapped *w = vault_wrap(&c->vault->tokens, c->path, inner, ttl, mock_now_usec(c->mock));
        _cleanup_(freep) char *time = vault_time_format(w->created_usec),
                              *accessor = text_random("", 24, TEXT_UPPER TEXT_LOWER TEXT_DIGITS);
        const char *wrapped = json_text(json_object_get(inner, "data"), "secret_id_accessor");
        json_t *info = json_take(json_pack("{s:s, s:s, s:I, s:s, s:s}", "token", w->token, "accessor", accessor, "ttl",
                                           (json_int_t)ttl, "creation_time", time, "creation_path", w->creation_path));

        if (wrapped)
                json_put(info, "wrapped_accessor", json_string(wrapped));
        answer_json(c->answer, 200, CONTENT_TYPE,
                    json_pack("{s:s, s:s, s:b, s:i, s:n, s:o, s:n, s:n}", "request_id", "", "lease_id", "", "renewable",
                              false, "lease_duration", 0, "data", "wrap_info", info, "warnings", "auth"));
}

static void reply(struct vault_call *c, int status, json_t *data, json_t *auth)
{
        const char *wrap_ttl = request_header(c->request, "X-Vault-Wrap-TTL");
        uint64_t ttl = 0;

        if (wrap_ttl && duration_parse(&ttl, wrap_ttl) == 0 && ttl > 0)
                answer_wrapped(c, envelope(c, data, auth), ttl);
        else
                answer_json(c->answer, status, CONTENT_TYPE, envelope(c, data, auth));
}

void vault_reply_status(struct vault_call *c, int status, json_t *data)
{
        reply(c, status, json_take(data), json_null());
}

void vault_reply(struct vault_call *c, json_t *data)
{
        vault_reply_status(c, 200, data);
}

void vault_reply_twice(struct vault_call *c, json_t *data)
{
        json_t *body = envelope(c, json_take(data), json_null());

        if (json_object_update_missing(body, data) < 0)
                abort();
        answer_json(c->answer, 200, CONTENT_TYPE, body);
}

void vault_reply_auth(struct vault_call *c, const struct vault_token *t)
{
        reply(c, 200, json_null(), vault_token_auth(t, mock_now_usec(c->mock)));
}

void vault_reply_empty(struct vault_call *c)
{
        /* A warning needs a body. */
        if (c->warnings)
                reply(c, 200, json_null(), json_null());
        else
                answer_text(c->answer, 204, CONTENT_TYPE, "");
}

static void answer_error(struct answer *a, int status, const char *text)
{
        answer_json(a, status, CONTENT_TYPE,
                    text ? json_pack("{s:[s]}", "errors", text) : json_pack("{s:[]}", "errors"));
}

#define FORMATTED(format)                                                                                              \
        ({                                                                                                             \
                va_list _list;                                                                                         \
                char *_text = NULL;                                                                                    \
                                                                                                                       \
                va_start(_list, format);                                                                               \
                if (vasprintf(&_text, format, _list) < 0)                                                              \
                        abort();                                                                                       \
                va_end(_list);                                                                                         \
                _text;                                                                                                 \
        })

void vault_error(struct vault_call *c, int status, const char *format, ...)
{
        _cleanup_(freep) char *text = FORMATTED(format);

        answer_error(c->answer, status, text);
}

void vault_error_listed(struct vault_call *c, int status, const char *format, ...)
{
        _cleanup_(freep) char *text = FORMATTED(format), *listed = text_format("1 error occurred:\n\t* %s\n\n", text);

        answer_error(c->answer, status, listed);
}

void vault_error_nothing(struct vault_call *c, int status)
{
        answer_error(c->answer, status, NULL);
}

void vault_warn(struct vault_call *c, const char *text)
{
        if (!c->warnings)
                c->warnings = json_take(json_array());
        if (json_array_append_new(c->warnings, json_take(json_string(text))) < 0)
                abort();
}

char *vault_time_format(uint64_t usec)
{
        char seconds[CLOCK_TEXT_LENGTH + 1];

        clock_format(seconds, usec);
        return text_format("%.19s.%06uZ", seconds, (unsigned)(usec % USEC_PER_SEC));
}

json_t *vault_names(const json_t *value)
{
        json_t *names;
        char *rest, *name;
        _cleanup_(freep) char *text = NULL;

        if (json_is_array(value))
                return json_take(json_deep_copy(value));
        names = json_take(json_array());
        rest = text = text_copy(json_is_string(value) ? json_string_value(value) : "");
        while ((name = strsep(&rest, ","))) {
                name += strspn(name, " ");
                if (*name && json_array_append_new(names, json_take(json_string(name))) < 0)
                        abort();
        }
        return names;
}

/* ---- the service ---- */

static bool claims(const struct request *r)
{
        return text_starts(r->path, PREFIX);
}

static void identify(struct request *r)
{
        snprintf(r->operation, sizeof(r->operation), "%s", r->path + strlen(PREFIX));
}

static void handle(struct mock *m, struct request *r, struct answer *a)
{
        struct vault_call c = {
                .mock = m, .vault = &m->vault, .request = r, .answer = a, .path = r->path + strlen(PREFIX)
        };

        answer_header(a, "Cache-Control", "no-store");
        vault_route_call(&c);
        json_decref(c.body);
        json_decref(c.warnings);
        for (size_t i = 0; i < VAULT_PARTS_MAX; i++)
                free(c.parts[i]);
}

static void throttle(const struct request *r, struct answer *a)
{
        _cleanup_(freep) char *text = text_format("request path \"%s\": rate limit quota exceeded", r->operation);

        answer_error(a, 429, text);
}

static void fail_status(const struct request *r, struct answer *a, int status)
{
        switch (status) {
        case 500:
                answer_error(a, status, "1 error occurred:\n\t* internal error\n\n");
                break;
        case 503:
                answer_error(a, status, "Vault is sealed");
                break;
        case 412:
                answer_error(a, status, "required index state not present");
                break;
        default:
                answer_error(a, status, NULL);
        }
}

static void expire(struct mock *m)
{
        vault_tokens_expire(&m->vault.tokens);
}

const struct service service_vault = { .name = "vault",
                                       .claims = claims,
                                       .identify = identify,
                                       .handle = handle,
                                       .throttle = throttle,
                                       .fail = fail_status,
                                       .expire = expire };
