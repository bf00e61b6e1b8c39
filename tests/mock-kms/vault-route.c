/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a call of Vault: seal, body, mount, route, token, policy, parameters; then its handler. */
#include "tests/mock-kms/duration.h"
#include "tests/mock-kms/service.h"
#include "tests/mock-kms/vault.h"

/* ---- finding the route ---- */

/* The mount that begins @path, borrowed from @mounts; NULL for none. */
static const char *mount_of(json_t *mounts, const char *path)
{
        const char *name, *best = NULL;
        json_t *value;

        json_object_foreach(mounts, name, value) if (text_starts(path, name) && (!best || strlen(name) > strlen(best)))
                best = name;
        return best;
}

static bool pattern_matches(struct vault_call *c, const char *pattern, const char *path)
{
        _cleanup_(freep) char *pattern_copy = text_copy(pattern), *path_copy = text_copy(path);
        char *pattern_rest = pattern_copy, *path_rest = path_copy, *want, *have;
        char *found[VAULT_PARTS_MAX] = { NULL };
        size_t n = 0;

        do {
                want = strsep(&pattern_rest, "/");
                have = strsep(&path_rest, "/");
                if (!want || !have || !*have)
                        break;
                if (strcmp(want, "+") == 0)
                        found[n++] = have;
                else if (strcmp(want, have) != 0)
                        return false;
        } while (pattern_rest && path_rest);
        if (!want || !have || !*have || pattern_rest || path_rest)
                return false;
        for (size_t i = 0; i < n; i++)
                text_set(&c->parts[i], found[i]);
        return true;
}

static const struct vault_route *route_in(struct vault_call *c, const struct vault_route *routes, const char *type,
                                          const char *path)
{
        for (; routes->type; routes++)
                if (strcmp(routes->type, type) == 0 && pattern_matches(c, routes->pattern, path))
                        return routes;
        return NULL;
}

static const struct vault_route *route_of(struct vault_call *c, const char *type, const char *path)
{
        static const struct vault_route *const tables[] = { vault_routes_system, vault_routes_token, vault_routes_auth,
                                                            vault_routes_transit };

        for (size_t i = 0; i < ELEMENTSOF(tables); i++) {
                const struct vault_route *route = route_in(c, tables[i], type, path);

                if (route)
                        return route;
        }
        return NULL;
}

/* ---- who asks ---- */

static const char *token_of(const struct request *r)
{
        const char *token = request_header(r, "X-Vault-Token"), *bearer = request_header(r, "Authorization");

        return token ? token : text_starts(bearer, "Bearer ") ? bearer + strlen("Bearer ") : "";
}

static json_t *rules_of(struct vault_call *c)
{
        json_t *rules = json_take(json_array()), *name;
        size_t i;

        json_array_foreach(c->token->policies, i, name)
        {
                json_t *policy = json_object_get(c->vault->rules, json_string_value(name));

                if (policy && json_array_append(rules, policy) < 0)
                        abort();
        }
        return rules;
}

json_t *vault_capabilities(struct vault_call *c, const char *path)
{
        _cleanup_(json_decrefp) json_t *rules = rules_of(c);

        return vault_token_is_root(c->token) ? json_take(json_pack("[s]", "root")) : acl_names(acl_bits(rules, path));
}

/* @route: NULL for a path that is none; what may be done there is asked all the same. */
static bool is_allowed(struct vault_call *c, const struct vault_route *route)
{
        static const unsigned wanted[] = { [VAULT_READ] = ACL_READ,
                                           [VAULT_UPDATE] = ACL_UPDATE,
                                           [VAULT_DELETE] = ACL_DELETE,
                                           [VAULT_LIST] = ACL_LIST };
        unsigned need = wanted[c->operation];
        _cleanup_(json_decrefp) json_t *rules = NULL;

        if (vault_token_is_root(c->token))
                return true;
        if (c->operation == VAULT_UPDATE && route && route->is_new && route->is_new(c))
                need = ACL_CREATE;
        if (route && route->needs_sudo)
                need |= ACL_SUDO;
        rules = rules_of(c);
        return (acl_bits(rules, c->path) & need) == need;
}

bool vault_authorize(struct vault_call *c, const struct vault_route *route)
{
        const char *token = token_of(c->request);
        struct vault_wrapped *wrapped = vault_wrapped_find(&c->vault->tokens, token, mock_now_usec(c->mock));

        c->token = vault_token_find(&c->vault->tokens, token, mock_now_usec(c->mock));
        if (wrapped) {
                /* Good for one thing only; any other use spends it. */
                vault_wrapped_free(wrapped);
                vault_error_listed(c, 403, "permission denied");
                return false;
        }
        if (!c->token) {
                vault_error(c, 403, "permission denied");
                return false;
        }
        if (c->token->uses > 0 && --c->token->uses == 0)
                c->token->expires_usec = mock_now_usec(c->mock);
        if (is_allowed(c, route))
                return true;
        vault_error_listed(c, 403, "permission denied");
        return false;
}

/* ---- what is asked ---- */

static bool read_operation(struct vault_call *c)
{
        const struct request *r = c->request;
        _cleanup_(freep) char *list = request_query(r, "list");

        if (strcmp(r->method, "GET") == 0 || strcmp(r->method, "HEAD") == 0)
                c->operation = text_equal(list, "true") ? VAULT_LIST : VAULT_READ;
        else
                c->operation = strcmp(r->method, "DELETE") == 0 ? VAULT_DELETE : VAULT_UPDATE;
        c->body = c->operation == VAULT_UPDATE ? request_json(r) : json_take(json_object());
        if (!c->body)
                vault_error(c, 400, "failed to decode JSON input: %s",
                            r->body.data[0] == '[' ? "json: cannot unmarshal array into Go value of type "
                                                     "map[string]interface {}"
                                                   : "the body is not a JSON object");
        return c->body;
}

static bool knows_field(const char *fields, const char *name)
{
        size_t n = strlen(name);

        for (const char *at = fields; (at = strstr(at, name)); at += n)
                if ((at == fields || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\0'))
                        return true;
        return false;
}

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What Vault does not know, it ignores, and says so where few look. */
static void warn_of_ignored(struct vault_call *c, const struct vault_route *route)
{
        _cleanup_(freep) const char **ignored = memory_new(json_object_size(c->body) * sizeof(*ignored));
        _cleanup_(freep) char *text = NULL;
        size_t n = 0, n_text;
        const char *name;
        json_t *value;
        FILE *out;

        json_object_foreach(c->body, name, value) if (route->fields && !knows_field(route->fields, name)) ignored[n++] =
                name;
        if (n == 0)
                return;
        out = open_memstream(&text, &n_text);
        if (!out)
                abort();
        qsort(ignored, n, sizeof(*ignored), compare_names);
        for (size_t i = 0; i < n; i++)
                fprintf(out, "%s%s", i ? " " : "Endpoint ignored these unrecognized parameters: [", ignored[i]);
        fprintf(out, "]");
        fclose(out);
        vault_warn(c, text);
}

static bool wrap_is_valid(struct vault_call *c)
{
        const char *wrap_ttl = request_header(c->request, "X-Vault-Wrap-TTL");
        uint64_t seconds;

        if (!wrap_ttl || duration_parse(&seconds, wrap_ttl) == 0)
                return true;
        vault_error(c, 400, "error parsing X-Vault-Wrap-TTL header: time: invalid duration \"%s\"", wrap_ttl);
        return false;
}

static bool works_while_sealed(const char *path)
{
        return strcmp(path, "sys/health") == 0 || strcmp(path, "sys/seal-status") == 0 ||
               strcmp(path, "sys/leader") == 0 || strcmp(path, "sys/unseal") == 0;
}

/* There is the root namespace alone; and OpenBao has no health in any, not even in that. */
static bool namespace_is_there(struct vault_call *c)
{
        const char *name = request_header(c->request, "X-Vault-Namespace");

        if (!name || !*name)
                return true;
        if (strcmp(c->path, "sys/health") == 0) {
                vault_error(c, 400, "operation unavailable in namespaces");
                return false;
        }
        if (works_while_sealed(c->path) || strcmp(name, "/") == 0 || strcmp(name, "root") == 0 ||
            strcmp(name, "root/") == 0)
                return true;
        vault_error(c, 404, "namespace not found");
        return false;
}

void vault_route_call(struct vault_call *c)
{
        bool is_auth = text_starts(c->path, "auth/");
        json_t *mounts = is_auth ? c->vault->auths : c->vault->mounts;
        const struct vault_route *route = NULL;
        const char *inside = is_auth ? c->path + strlen("auth/") : c->path, *mount;
        _cleanup_(freep) char *mount_path = NULL;

        if (c->vault->sealed && !works_while_sealed(c->path)) {
                vault_error(c, 503, "Vault is sealed");
                return;
        }
        if (!namespace_is_there(c) || !read_operation(c) || !wrap_is_valid(c))
                return;
        mount = mount_of(mounts, inside);
        if (mount) {
                c->mount = mount_path = text_format("%s%s", is_auth ? "auth/" : "", mount);
                route = route_of(c, json_text(json_object_get(mounts, mount), "type"), inside + strlen(mount));
        }
        if (!(route && route->needs_no_token) && !vault_authorize(c, route))
                return;
        if (!mount)
                vault_error(c, 404, "no handler for route \"%s\". route entry not found.", c->path);
        else if (!route)
                vault_error_listed(c, 404, "unsupported path");
        else if (!(route->operations & VAULT_MAY(c->operation)))
                vault_error_listed(c, 405, "unsupported operation");
        else {
                warn_of_ignored(c, route);
                route->handle(c);
        }
}
