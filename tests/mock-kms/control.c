/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/control.h"

#include "tests/mock-kms/service.h"

#define PREFIX "/mock/"
enum { CLOCK_OFFSET_MAX = 10 * 366 * 24 * 3600, DELAY_MAX_MSEC = 600000 };

/** One request to /mock/. A handler returns the answer, or NULL after control_fail(). */
struct control_call {
        struct control *control;
        struct mock *mock;
        json_t *body;
        char *problem;
};

static json_t *refuse(struct control_call *c, const char *problem)
{
        text_set(&c->problem, problem);
        return NULL;
}

/* json_unpack() where every member must be known. Evaluates to false after the sentence is set. */
#define UNPACK(call, ...)                                                                                              \
        ({                                                                                                             \
                json_error_t _error;                                                                                   \
                bool _done = json_unpack_ex((call)->body, &_error, JSON_STRICT, __VA_ARGS__) == 0;                     \
                if (!_done)                                                                                            \
                        refuse((call), _error.text);                                                                   \
                _done;                                                                                                 \
        })

static json_t *done(void)
{
        return json_object();
}

static bool is_policy(const json_t *policy)
{
        json_t *action;
        size_t i;

        if (policy && !json_is_array(policy))
                return false;
        json_array_foreach(policy, i, action) if (!json_is_string(action)) return false;
        return true;
}

/* ---- AWS ---- */

static json_t *post_user(struct control_call *c)
{
        const char *id, *secret, *token = NULL, *name = "mock";
        json_t *policy = NULL;
        json_int_t expires_in = 0;
        _cleanup_(freep) char *arn = NULL;

        if (!UNPACK(c, "{s:s, s:s, s?s, s?I, s?o, s?s}", "access_key_id", &id, "secret_access_key", &secret,
                    "session_token", &token, "expires_in", &expires_in, "policy", &policy, "name", &name))
                return NULL;
        if (!is_policy(policy))
                return refuse(c, "policy must be a list of actions");
        arn = text_format("arn:aws:iam::" AWS_ACCOUNT ":user/%s", name);
        aws_user_put(&c->mock->identities, arn, id, secret, token,
                     json_object_get(c->body, "expires_in")
                             ? mock_now_usec(c->mock) + (uint64_t)(expires_in * (json_int_t)USEC_PER_SEC)
                             : USEC_INFINITY,
                     policy);
        return json_pack("{s:s}", "arn", arn);
}

static json_t *post_role(struct control_call *c)
{
        const char *arn, *external_id = NULL;
        json_t *policy = NULL;

        if (!UNPACK(c, "{s:s, s?s, s?o}", "role_arn", &arn, "external_id", &external_id, "policy", &policy))
                return NULL;
        if (!is_policy(policy))
                return refuse(c, "policy must be a list of actions");
        aws_role_put(&c->mock->identities, arn, external_id, policy);
        return done();
}

static json_t *post_grant(struct control_call *c)
{
        const char *token;
        json_t *actions;

        if (!UNPACK(c, "{s:s, s:o}", "grant_token", &token, "actions", &actions))
                return NULL;
        if (!json_is_array(actions) || !is_policy(actions))
                return refuse(c, "actions must be a list of actions");
        json_put(c->mock->identities.grants, token, json_deep_copy(actions));
        return done();
}

static json_t *key_report(const struct aws_key *k)
{
        json_t *arns = json_take(json_object());

        for (size_t i = 0; i < k->n_replicas; i++)
                json_put(arns, k->replicas[i].region, json_string(k->replicas[i].arn));
        return json_pack("{s:s, s:s, s:o}", "key_id", k->id, "arn", k->replicas[0].arn, "arns", arns);
}

/* In each of @regions, with @alias and @state where they are given. */
static bool spread_key(struct control_call *c, struct aws_key *k, const json_t *regions, const char *alias,
                       const char *state)
{
        json_t *value;
        size_t i;

        json_array_foreach(regions, i, value)
        {
                const char *region = json_string_value(value);
                struct aws_replica *r = region ? aws_key_replicate(k, region) : NULL;

                if (!r) {
                        refuse(c, "regions must be different names, and one alone for a key that is not multi-region");
                        return false;
                }
                if (state)
                        r->state = aws_state_find(state);
                if (alias && aws_alias_new(&c->mock->keys, region, alias, k)) {
                        refuse(c, "this alias is taken");
                        return false;
                }
        }
        return true;
}

static json_t *post_key(struct control_call *c)
{
        const char *id = NULL, *alias = NULL, *state = NULL;
        int multi_region = 0;
        json_t *regions = NULL;
        _cleanup_(json_decrefp) json_t *standard = json_take(json_pack("[s]", "us-east-1"));
        struct aws_key *k;

        if (!UNPACK(c, "{s?s, s?b, s?o, s?s, s?s}", "key_id", &id, "multi_region", &multi_region, "regions", &regions,
                    "alias", &alias, "state", &state))
                return NULL;
        if (regions && (!json_is_array(regions) || json_array_size(regions) == 0))
                return refuse(c, "regions must be a list of names");
        if (alias && !text_starts(alias, "alias/"))
                return refuse(c, "an alias begins with alias/");
        if (state && !aws_state_find(state))
                return refuse(c, "state is not a key state of KMS");
        k = aws_key_new(&c->mock->keys, id, multi_region, NULL, mock_now_usec(c->mock));
        if (!k)
                return refuse(c, "key_id must be new, and a UUID, or mrk- and 32 hex digits for a multi-region key");
        return spread_key(c, k, regions ? regions : standard, alias, state) ? key_report(k) : NULL;
}

/* @name: an id or ARN. */
static struct aws_key *key_named(struct control_call *c, const char *name)
{
        const char *id = strrchr(name, '/');

        id = id ? id + 1 : name;
        return aws_key_find(&c->mock->keys, id, strlen(id));
}

static json_t *post_key_state(struct control_call *c)
{
        const char *id, *region = NULL, *state;
        struct aws_key *k;
        size_t n = 0;

        if (!UNPACK(c, "{s:s, s:s, s?s}", "key_id", &id, "state", &state, "region", &region))
                return NULL;
        k = key_named(c, id);
        if (!k || !aws_state_find(state))
                return refuse(c, k ? "state is not a key state of KMS" : "no such key");
        for (size_t i = 0; i < k->n_replicas; i++) {
                if (region && strcmp(region, k->replicas[i].region) != 0)
                        continue;
                k->replicas[i].state = aws_state_find(state);
                k->replicas[i].deletion_usec = 0;
                n++;
        }
        return n ? done() : refuse(c, "the key is not in this region");
}

static json_t *post_web_identity(struct control_call *c)
{
        const char *token, *role_arn = NULL;
        int expired = 0;

        if (!UNPACK(c, "{s:s, s?s, s?b}", "token", &token, "role_arn", &role_arn, "expired", &expired))
                return NULL;
        json_put(c->mock->identities.web_identity, token,
                 json_pack("{s:s?, s:b}", "role_arn", role_arn, "expired", expired));
        return done();
}

static json_t *post_metadata(struct control_call *c)
{
        struct metadata *s = &c->mock->metadata;
        const char *role = NULL, *region = NULL, *token = NULL, *code = NULL;
        json_int_t expires_in = 0;
        json_t *policy = NULL;

        if (!UNPACK(c, "{s?s, s?s, s?s, s?s, s?I, s?o}", "role", &role, "region", &region, "container_token", &token,
                    "code", &code, "expires_in", &expires_in, "policy", &policy))
                return NULL;
        if (!is_policy(policy))
                return refuse(c, "policy must be a list of actions");
        text_set(&s->role, role ? role : s->role);
        text_set(&s->region, region ? region : s->region);
        text_set(&s->code, code ? code : s->code);
        text_set(&s->container_token, token ? token : s->container_token);
        if (expires_in > 0)
                s->expires_in_usec = (uint64_t)expires_in * USEC_PER_SEC;
        if (policy) {
                json_decref(s->policy);
                s->policy = json_take(json_deep_copy(policy));
        }
        /* The next that asks gets new ones. */
        text_set(&s->current, NULL);
        return done();
}

/* ---- Vault ---- */

static json_t *post_vault_root(struct control_call *c)
{
        const char *token;

        if (!UNPACK(c, "{s:s}", "token", &token))
                return NULL;
        vault_token_root(&c->mock->vault.tokens, token, mock_now_usec(c->mock));
        return done();
}

static json_t *post_vault_jwt(struct control_call *c)
{
        const char *jwt, *role = NULL;
        int expired = 0;

        if (!UNPACK(c, "{s:s, s?s, s?b}", "jwt", &jwt, "role", &role, "expired", &expired))
                return NULL;
        json_put(c->mock->vault.jwts, jwt, json_pack("{s:s?, s:b}", "role", role, "expired", expired));
        return done();
}

static json_t *post_vault_product(struct control_call *c)
{
        const char *product;

        if (!UNPACK(c, "{s:s}", "product", &product))
                return NULL;
        if (strcmp(product, "vault") != 0 && strcmp(product, "openbao") != 0)
                return refuse(c, "product must be vault or openbao");
        c->mock->vault.knows_no_datakey_aad = strcmp(product, "vault") == 0;
        return done();
}

/* ---- faults, clock, journal ---- */

static json_t *expire_tokens(struct control_call *c, const char *service)
{
        for (size_t i = 0; services[i]; i++)
                if (!service || strcmp(services[i]->name, service) == 0)
                        services[i]->expire(c->mock);
        return done();
}

static json_t *post_fault(struct control_call *c)
{
        json_int_t count = -1, delay_msec = 0;
        const char *kind;
        struct fault f = { 0 };

        if (!UNPACK(c, "{s?{s?s, s?s}, s:s, s?I, s?I, s?i, s?i, s?s, s?s, s?s}", "match", "service", &f.service,
                    "operation", &f.operation, "kind", &kind, "count", &count, "delay_msec", &delay_msec, "status",
                    &f.status, "retry_after", &f.retry_after, "body", &f.body, "region", &f.region, "location",
                    &f.location))
                return NULL;
        f.kind = fault_kind_parse(kind);
        f.count = count;
        f.delay_msec = (uint64_t)delay_msec;
        if (f.kind == FAULT_NONE || (f.service && !service_named(f.service)))
                return refuse(c, f.kind == FAULT_NONE ? "unknown kind" : "unknown service");
        if (count == 0 || count < -1 || delay_msec < 0 || delay_msec > DELAY_MAX_MSEC)
                return refuse(c, "count must be at least 1, and delay_msec from 0 to 600000");
        if ((f.kind == FAULT_DELAY && !delay_msec) || (f.kind == FAULT_REDIRECT && !f.location))
                return refuse(c, "a delay needs delay_msec, and a redirect location");
        if (f.kind == FAULT_STATUS && (f.status < 200 || f.status > 599))
                return refuse(c, "status must be from 200 to 599");
        if (f.kind == FAULT_EXPIRE_TOKENS)
                return expire_tokens(c, f.service);
        fault_add(c->control->faults, &f);
        return done();
}

static json_t *delete_fault(struct control_call *c)
{
        faults_deinit(c->control->faults);
        return done();
}

static json_t *post_clock(struct control_call *c)
{
        json_int_t offset;

        if (!UNPACK(c, "{s:I}", "offset_seconds", &offset))
                return NULL;
        if (offset < -CLOCK_OFFSET_MAX || offset > CLOCK_OFFSET_MAX)
                return refuse(c, "offset_seconds must be within ten years");
        c->mock->clock_offset_usec = offset * (int64_t)USEC_PER_SEC;
        return done();
}

static json_t *get_log(struct control_call *c)
{
        return journal_report(c->control->journal);
}

static json_t *delete_log(struct control_call *c)
{
        journal_clear(c->control->journal);
        return done();
}

static json_t *post_reset(struct control_call *c)
{
        faults_deinit(c->control->faults);
        journal_clear(c->control->journal);
        mock_reset(c->mock);
        return done();
}

/* ---- */

static const struct {
        const char *method, *path;
        json_t *(*handle)(struct control_call *c);
} handlers[] = {
        { "POST", "aws/user", post_user },       { "POST", "aws/role", post_role },
        { "POST", "aws/grant", post_grant },     { "POST", "aws/key", post_key },
        { "POST", "key-state", post_key_state }, { "POST", "sts/web-identity", post_web_identity },
        { "POST", "metadata", post_metadata },   { "POST", "vault/root", post_vault_root },
        { "POST", "vault/jwt", post_vault_jwt }, { "POST", "vault/product", post_vault_product },
        { "POST", "fault", post_fault },         { "DELETE", "fault", delete_fault },
        { "POST", "clock", post_clock },         { "GET", "log", get_log },
        { "DELETE", "log", delete_log },         { "POST", "reset", post_reset },
};

bool control_claims(const struct request *r)
{
        return text_starts(r->path, PREFIX);
}

static void refused(struct answer *a, int status, const char *problem)
{
        answer_json(a, status, "application/json", json_pack("{s:s}", "error", problem));
}

void control_handle(struct control *control, const struct request *r, struct answer *a)
{
        _cleanup_(json_decrefp) json_t *body = request_json(r);
        struct control_call c = { .control = control, .mock = control->mock, .body = body };

        if (!body) {
                refused(a, 400, "the body is not a JSON object");
                return;
        }
        for (size_t i = 0; i < ELEMENTSOF(handlers); i++) {
                json_t *result;

                if (strcmp(r->path + strlen(PREFIX), handlers[i].path) != 0 ||
                    strcmp(r->method, handlers[i].method) != 0)
                        continue;
                result = handlers[i].handle(&c);
                if (c.problem)
                        refused(a, 400, c.problem);
                else
                        answer_json(a, 200, "application/json", result);
                free(c.problem);
                return;
        }
        refused(a, 404, "no such request; see lkm-mock-kms(1)");
}
