/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/aws-identity.h"

#include "common/clock.h"

static void user_free(struct aws_user *u)
{
        list_unlink(&u->link);
        free(u->arn);
        free(u->access_key_id);
        free(u->secret);
        free(u->session_token);
        json_decref(u->policy);
        free(u);
}

static void role_free(struct aws_role *r)
{
        list_unlink(&r->link);
        free(r->arn);
        free(r->external_id);
        json_decref(r->policy);
        free(r);
}

void aws_identities_init(struct aws_identities *s)
{
        list_init(&s->users);
        list_init(&s->roles);
        s->grants = json_take(json_object());
        s->web_identity = json_take(json_object());
        aws_user_put(s, "arn:aws:iam::" AWS_ACCOUNT ":user/first", AWS_FIRST_KEY_ID, AWS_FIRST_SECRET, NULL,
                     USEC_INFINITY, NULL);
}

void aws_identities_deinit(struct aws_identities *s)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &s->users)
                user_free(list_entry(node, struct aws_user, link));
        list_for_each_safe (node, following, &s->roles)
                role_free(list_entry(node, struct aws_role, link));
        json_decref(s->grants);
        json_decref(s->web_identity);
}

struct aws_user *aws_user_put(struct aws_identities *s, const char *arn, const char *access_key_id, const char *secret,
                              const char *session_token, uint64_t expires_usec, const json_t *policy)
{
        struct aws_user *u = aws_user_find(s, access_key_id);

        if (u)
                user_free(u);
        u = memory_new(sizeof(*u));
        u->arn = text_copy(arn);
        u->access_key_id = text_copy(access_key_id);
        u->secret = text_copy(secret);
        u->session_token = session_token ? text_copy(session_token) : NULL;
        u->expires_usec = expires_usec;
        u->policy = policy ? json_take(json_deep_copy(policy)) : NULL;
        list_init(&u->link);
        list_append(&s->users, &u->link);
        return u;
}

struct aws_user *aws_session_new(struct aws_identities *s, const char *arn, uint64_t expires_usec, const json_t *policy)
{
        _cleanup_(freep) char *id = text_random("ASIA", 16, TEXT_UPPER "234567");
        _cleanup_(freep) char *secret = text_random("", 40, TEXT_UPPER TEXT_LOWER TEXT_DIGITS "+/");
        _cleanup_(freep) char *token = text_random("IQoJ", 236, TEXT_UPPER TEXT_LOWER TEXT_DIGITS "+/");

        return aws_user_put(s, arn, id, secret, token, expires_usec, policy);
}

struct aws_user *aws_user_find(const struct aws_identities *s, const char *access_key_id)
{
        for (struct list *node = s->users.next; node != &s->users; node = node->next) {
                struct aws_user *u = list_entry(node, struct aws_user, link);

                if (strcmp(u->access_key_id, access_key_id) == 0)
                        return u;
        }
        return NULL;
}

void aws_sessions_expire(struct aws_identities *s, uint64_t now_usec)
{
        for (struct list *node = s->users.next; node != &s->users; node = node->next) {
                struct aws_user *u = list_entry(node, struct aws_user, link);

                if (u->session_token && u->expires_usec > now_usec)
                        u->expires_usec = now_usec;
        }
}

bool aws_policy_allows(const json_t *policy, const char *action)
{
        size_t i;
        json_t *value;

        if (!policy)
                return true;
        json_array_foreach(policy, i, value)
        {
                const char *allowed = json_string_value(value);
                size_t n = allowed ? strlen(allowed) : 0;

                if (n &&
                    (strcmp(allowed, action) == 0 || (allowed[n - 1] == '*' && strncmp(allowed, action, n - 1) == 0)))
                        return true;
        }
        return false;
}

void aws_role_put(struct aws_identities *s, const char *arn, const char *external_id, const json_t *policy)
{
        struct list *node, *following;
        struct aws_role *r;

        list_for_each_safe (node, following, &s->roles) {
                r = list_entry(node, struct aws_role, link);
                if (strcmp(r->arn, arn) == 0)
                        role_free(r);
        }
        r = memory_new(sizeof(*r));
        r->arn = text_copy(arn);
        r->external_id = external_id ? text_copy(external_id) : NULL;
        r->policy = policy ? json_take(json_deep_copy(policy)) : NULL;
        list_init(&r->link);
        list_append(&s->roles, &r->link);
}

const struct aws_role *aws_role_find(const struct aws_identities *s, const char *arn)
{
        for (struct list *node = s->roles.next; node != &s->roles; node = node->next) {
                const struct aws_role *r = list_entry(node, struct aws_role, link);

                if (strcmp(r->arn, arn) == 0)
                        return r;
        }
        return NULL;
}
