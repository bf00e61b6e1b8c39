/* SPDX-License-Identifier: Apache-2.0 */
/* The paths under auth/token/. */
#include "tests/mock-kms/duration.h"
#include "tests/mock-kms/service.h"
#include "tests/mock-kms/vault.h"

static json_t *token_report(const struct vault_call *c, const struct vault_token *t)
{
        uint64_t now = mock_now_usec(c->mock);
        _cleanup_(freep) char *issued = vault_time_format(t->created_usec),
                              *renewed = vault_time_format(t->issued_usec), *expires = NULL;
        json_t *data;

        if (t->expires_usec != USEC_INFINITY)
                expires = vault_time_format(t->expires_usec);
        data = json_take(
                json_pack("{s:s, s:I, s:I, s:s, s:s, s:s?, s:I, s:s, s:s, s:O?, s:I, s:b, s:s, s:O, s:b, s:I, s:s}",
                          "accessor", t->accessor, "creation_time", (json_int_t)(t->created_usec / USEC_PER_SEC),
                          "creation_ttl", (json_int_t)t->ttl, "display_name", t->display_name, "entity_id",
                          t->entity_id, "expire_time", expires, "explicit_max_ttl", (json_int_t)t->explicit_max_ttl,
                          "id", t->id, "issue_time", issued, "meta", t->meta, "num_uses", (json_int_t)t->uses, "orphan",
                          t->orphan, "path", t->path, "policies", t->policies, "renewable", t->renewable, "ttl",
                          (json_int_t)vault_token_seconds(t, now), "type", t->is_batch ? "batch" : "service"));
        if (t->issued_usec != t->created_usec) {
                json_put(data, "last_renewal", json_string(renewed));
                json_put(data, "last_renewal_time", json_integer((json_int_t)(t->issued_usec / USEC_PER_SEC)));
        }
        if (t->period)
                json_put(data, "period", json_integer((json_int_t)t->period));
        return data;
}

static void lookup_self(struct vault_call *c)
{
        vault_reply(c, token_report(c, c->token));
}

static void lookup(struct vault_call *c)
{
        const char *id = json_text(c->body, "token");
        const struct vault_token *t = id ? vault_token_find(&c->vault->tokens, id, mock_now_usec(c->mock)) : NULL;

        if (t)
                vault_reply(c, token_report(c, t));
        else
                vault_error(c, id ? 403 : 400, id ? "bad token" : "missing token ID");
}

static void renew_self(struct vault_call *c)
{
        uint64_t increment, now = mock_now_usec(c->mock);
        _cleanup_(freep) char *warning = NULL;

        if (duration_member(&increment, c->body, "increment", 0) < 0) {
                vault_error(c, 400, "Field validation failed: error converting input for field \"increment\"");
        } else if (!c->token->renewable || c->token->expires_usec == USEC_INFINITY) {
                vault_error(c, 400, c->token->is_batch ? "batch tokens cannot be renewed" : "lease is not renewable");
        } else {
                vault_token_renew(c->token, increment, now, &warning);
                if (warning)
                        vault_warn(c, warning);
                vault_reply_auth(c, c->token);
        }
}

static void revoke_self(struct vault_call *c)
{
        vault_token_free(TAKE_PTR(c->token));
        vault_reply_empty(c);
}

/* ---- create ---- */

/* Return: false after the error. */
static bool read_grant(struct vault_call *c, struct vault_grant *g)
{
        int64_t uses = json_loose_number(c->body, "num_uses", 0);

        if (duration_member(&g->ttl, c->body, "ttl", 0) < 0 ||
            duration_member(&g->explicit_max_ttl, c->body, "explicit_max_ttl", 0) < 0 ||
            duration_member(&g->period, c->body, "period", 0) < 0 || uses < 0) {
                vault_error(c, 400, "error parsing a duration or number of uses");
                return false;
        }
        g->uses = uses;
        g->is_batch = text_equal(json_text(c->body, "type"), "batch");
        g->renewable = json_loose_flag(c->body, "renewable", true) && !g->is_batch;
        g->orphan = json_loose_flag(c->body, "no_parent", false) || text_ends(c->path, "create-orphan");
        g->no_default_policy = json_loose_flag(c->body, "no_default_policy", false);
        g->meta = json_object_get(c->body, "meta");
        return true;
}

static bool array_has(const json_t *array, const char *text)
{
        json_t *value;
        size_t i;

        json_array_foreach(array, i, value) if (text_equal(json_string_value(value), text)) return true;
        return false;
}

/* Those it has itself; a root token, any. */
static bool may_give(const struct vault_call *c, const json_t *policies)
{
        json_t *name;
        size_t i;

        if (vault_token_is_root(c->token))
                return true;
        json_array_foreach(policies, i, name) if (!array_has(c->token->policies, json_string_value(name))) return false;
        return true;
}

static void create(struct vault_call *c)
{
        const json_t *wanted = json_object_get(c->body, "policies");
        _cleanup_(json_decrefp) json_t *policies = wanted ? vault_names(wanted) : json_deep_copy(c->token->policies);
        const char *name = json_text(c->body, "display_name");
        _cleanup_(freep) char *display_name = text_format("token%s%s", name ? "-" : "", name ? name : ""),
                              *warning = NULL;
        const struct vault_token *made;
        struct vault_grant g = { .display_name = display_name, .path = c->path, .policies = policies };
        json_t *policy;
        size_t i;

        if (!read_grant(c, &g))
                return;
        if (!may_give(c, policies)) {
                vault_error(c, 400, "child policies must be subset of parent");
                return;
        }
        json_array_foreach(policies, i, policy)
        {
                _cleanup_(freep) char *unknown = text_format("Policy \"%s\" does not exist", json_string_value(policy));

                if (!json_object_get(c->vault->rules, json_string_value(policy)) &&
                    !text_equal(json_string_value(policy), "root"))
                        vault_warn(c, unknown);
        }
        made = vault_token_new(&c->vault->tokens, &g, mock_now_usec(c->mock), &warning);
        if (warning)
                vault_warn(c, warning);
        vault_reply_auth(c, made);
}

#define CREATE_FIELDS                                                                                                          \
        "id policies ttl lease explicit_max_ttl period num_uses renewable display_name meta no_parent no_default_policy type " \
        "entity_alias"
#define UPDATE VAULT_MAY(VAULT_UPDATE)
const struct vault_route vault_routes_token[] = {
        { "token", "lookup-self", VAULT_MAY(VAULT_READ) | UPDATE, "token", lookup_self },
        { "token", "lookup", VAULT_MAY(VAULT_READ) | UPDATE, "token", lookup },
        { "token", "renew-self", UPDATE, "token increment", renew_self },
        { "token", "revoke-self", UPDATE, "token", revoke_self },
        { "token", "create", UPDATE, CREATE_FIELDS, create },
        { "token", "create-orphan", UPDATE, CREATE_FIELDS, create },
        { NULL },
};
