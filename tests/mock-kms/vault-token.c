/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/vault-token.h"

#include "common/clock.h"
#include "tests/mock-kms/duration.h"

#define TOKEN_LETTERS TEXT_UPPER TEXT_LOWER TEXT_DIGITS

void vault_tokens_init(struct vault_tokens *s)
{
        list_init(&s->tokens);
        list_init(&s->wrapped);
}

void vault_token_free(struct vault_token *t)
{
        list_unlink(&t->link);
        free(t->id);
        free(t->accessor);
        free(t->display_name);
        free(t->path);
        free(t->entity_id);
        json_decref(t->policies);
        json_decref(t->meta);
        free(t);
}

void vault_wrapped_free(struct vault_wrapped *w)
{
        list_unlink(&w->link);
        free(w->token);
        free(w->creation_path);
        json_decref(w->answer);
        free(w);
}

void vault_tokens_deinit(struct vault_tokens *s)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &s->tokens)
                vault_token_free(list_entry(node, struct vault_token, link));
        list_for_each_safe (node, following, &s->wrapped)
                vault_wrapped_free(list_entry(node, struct vault_wrapped, link));
}

/* ---- tokens ---- */

static struct vault_token *token_add(struct vault_tokens *s, char *id, const struct vault_grant *g, uint64_t now_usec)
{
        struct vault_token *t = memory_new(sizeof(*t));

        t->id = id;
        t->accessor = g->is_batch ? text_copy("") : text_random("", 24, TOKEN_LETTERS);
        t->display_name = text_copy(g->display_name);
        t->path = text_copy(g->path);
        t->entity_id = text_copy(g->entity_id ? g->entity_id : "");
        t->policies = json_take(json_array());
        t->meta = g->meta ? json_take(json_deep_copy(g->meta)) : NULL;
        t->created_usec = t->issued_usec = now_usec;
        t->ttl = g->ttl;
        t->max_ttl = g->max_ttl;
        t->explicit_max_ttl = g->explicit_max_ttl;
        t->period = g->period;
        t->uses = t->uses_at_start = g->uses;
        t->renewable = g->renewable;
        t->orphan = g->orphan;
        t->is_batch = g->is_batch;
        t->expires_usec = USEC_INFINITY;
        list_init(&t->link);
        list_append(&s->tokens, &t->link);
        return t;
}

void vault_token_root(struct vault_tokens *s, const char *id, uint64_t now_usec)
{
        struct vault_grant g = { .display_name = "token", .path = "auth/token/create", .orphan = true };
        struct vault_token *t = token_add(s, text_copy(id), &g, now_usec);

        json_array_append_new(t->policies, json_take(json_string("root")));
}

static void add_policy(json_t *policies, const char *name)
{
        json_t *value;
        size_t i;

        json_array_foreach(policies, i, value)
        {
                int order = strcmp(json_string_value(value), name);

                if (order == 0)
                        return;
                if (order > 0)
                        break;
        }
        if (json_array_insert_new(policies, i, json_take(json_string(name))) < 0)
                abort();
}

/* What a token may live in all, from its making. */
static uint64_t effective_max(const struct vault_token *t)
{
        uint64_t max = t->max_ttl && t->max_ttl < VAULT_TTL_STANDARD ? t->max_ttl : VAULT_TTL_STANDARD;

        if (t->period)
                max = UINT32_MAX;
        return t->explicit_max_ttl && t->explicit_max_ttl < max ? t->explicit_max_ttl : max;
}

static char *capped(uint64_t wanted, uint64_t given)
{
        _cleanup_(freep) char *wanted_text = duration_format(wanted), *given_text = duration_format(given);

        return text_format("TTL of \"%s\" exceeded the effective max_ttl of \"%s\"; TTL value is capped accordingly",
                           wanted_text, given_text);
}

struct vault_token *vault_token_new(struct vault_tokens *s, const struct vault_grant *g, uint64_t now_usec,
                                    char **ret_warning)
{
        struct vault_token *t = token_add(
                s, g->is_batch ? text_random("b.AAAAAQ", 120, TOKEN_LETTERS) : text_random("s.", 24, TOKEN_LETTERS), g,
                now_usec);
        uint64_t seconds = t->period ? t->period : t->ttl ? t->ttl : VAULT_TTL_STANDARD, max = effective_max(t);
        json_t *value;
        size_t i;

        json_array_foreach(g->policies, i, value) add_policy(t->policies, json_string_value(value));
        if (!g->no_default_policy && !vault_token_is_root(t))
                add_policy(t->policies, "default");
        if (vault_token_is_root(t) && !g->ttl)
                return t;
        if (seconds > max && ret_warning)
                *ret_warning = capped(seconds, max);
        t->ttl = seconds < max ? seconds : max;
        t->expires_usec = now_usec + t->ttl * USEC_PER_SEC;
        return t;
}

struct vault_token *vault_token_find(struct vault_tokens *s, const char *id, uint64_t now_usec)
{
        for (struct list *node = s->tokens.next; node != &s->tokens; node = node->next) {
                struct vault_token *t = list_entry(node, struct vault_token, link);

                if (strcmp(t->id, id) == 0)
                        return t->expires_usec > now_usec ? t : NULL;
        }
        return NULL;
}

bool vault_token_is_root(const struct vault_token *t)
{
        return json_array_size(t->policies) == 1 &&
               strcmp(json_string_value(json_array_get(t->policies, 0)), "root") == 0;
}

uint64_t vault_token_seconds(const struct vault_token *t, uint64_t now_usec)
{
        return t->expires_usec == USEC_INFINITY ? 0 : (t->expires_usec - now_usec + USEC_PER_SEC / 2) / USEC_PER_SEC;
}

void vault_token_renew(struct vault_token *t, uint64_t increment, uint64_t now_usec, char **ret_warning)
{
        uint64_t seconds = t->period ? t->period : increment ? increment : t->ttl;
        uint64_t end = t->created_usec + effective_max(t) * USEC_PER_SEC,
                 left = (end - now_usec + USEC_PER_SEC / 2) / USEC_PER_SEC;

        if (seconds > left) {
                *ret_warning = capped(seconds, left);
                seconds = left;
        }
        t->issued_usec = now_usec;
        t->expires_usec = now_usec + seconds * USEC_PER_SEC;
}

void vault_tokens_expire(struct vault_tokens *s)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &s->tokens) {
                struct vault_token *t = list_entry(node, struct vault_token, link);

                if (!vault_token_is_root(t))
                        vault_token_free(t);
        }
        list_for_each_safe (node, following, &s->wrapped)
                vault_wrapped_free(list_entry(node, struct vault_wrapped, link));
}

json_t *vault_token_auth(const struct vault_token *t, uint64_t now_usec)
{
        return json_take(json_pack("{s:s, s:s, s:O, s:O, s:O?, s:I, s:b, s:s, s:s, s:b, s:n, s:I}", "client_token",
                                   t->id, "accessor", t->accessor, "policies", t->policies, "token_policies",
                                   t->policies, "metadata", t->meta, "lease_duration",
                                   (json_int_t)vault_token_seconds(t, now_usec), "renewable", t->renewable, "entity_id",
                                   t->entity_id, "token_type", t->is_batch ? "batch" : "service", "orphan", t->orphan,
                                   "mfa_requirement", "num_uses", (json_int_t)t->uses_at_start));
}

/* ---- wrapped answers ---- */

struct vault_wrapped *vault_wrap(struct vault_tokens *s, const char *creation_path, json_t *answer, uint64_t ttl,
                                 uint64_t now_usec)
{
        struct vault_wrapped *w = memory_new(sizeof(*w));

        w->token = text_random("s.", 24, TOKEN_LETTERS);
        w->creation_path = text_copy(creation_path);
        w->answer = answer;
        w->created_usec = now_usec;
        w->ttl = ttl;
        list_init(&w->link);
        list_append(&s->wrapped, &w->link);
        return w;
}

struct vault_wrapped *vault_wrapped_find(struct vault_tokens *s, const char *token, uint64_t now_usec)
{
        for (struct list *node = s->wrapped.next; node != &s->wrapped; node = node->next) {
                struct vault_wrapped *w = list_entry(node, struct vault_wrapped, link);

                if (strcmp(w->token, token) == 0)
                        return w->created_usec + w->ttl * USEC_PER_SEC > now_usec ? w : NULL;
        }
        return NULL;
}
