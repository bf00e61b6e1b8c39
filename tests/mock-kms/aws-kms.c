/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/aws-kms.h"

#include <stdarg.h>

#include "tests/mock-kms/aws-auth.h"
#include "tests/mock-kms/service.h"

#define TARGET_PREFIX "TrentService."
#define CONTENT_TYPE "application/x-amz-json-1.1"
enum { SKEW_MINUTES = 5, KEY_ID_MAX = 2048, GRANTS_MAX = 10, GRANT_TOKEN_MAX = 8192 };

static const struct {
        const char *name;
        int (*run)(struct kms_call *c);
} operations[] = {
        { "GenerateDataKey", kms_generate_data_key },
        { "GenerateDataKeyWithoutPlaintext", kms_generate_data_key_without_plaintext },
        { "Encrypt", kms_encrypt },
        { "Decrypt", kms_decrypt },
        { "ReEncrypt", kms_re_encrypt },
        { "DescribeKey", kms_describe_key },
        { "CreateKey", kms_create_key },
        { "CreateAlias", kms_create_alias },
        { "EnableKey", kms_enable_key },
        { "DisableKey", kms_disable_key },
        { "ScheduleKeyDeletion", kms_schedule_key_deletion },
};

/* ---- errors ---- */

static int fail(struct kms_call *c, const char *code, const char *message_name, char *message)
{
        free(c->message);
        c->status = strcmp(code, "KMSInternalException") == 0 ? 500 : 400;
        c->code = code;
        c->message_name = message_name;
        c->message = message;
        return KMS_E_FAILED;
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

int kms_fail(struct kms_call *c, const char *code, const char *format, ...)
{
        char *message = FORMATTED(format);

        return fail(c, code, "message", message);
}

int kms_deny(struct kms_call *c, const char *format, ...)
{
        char *message = FORMATTED(format);

        return fail(c, "AccessDeniedException", "Message", message);
}

int kms_fail_silently(struct kms_call *c, const char *code)
{
        return fail(c, code, NULL, NULL);
}

static void answer_error(struct answer *a, int status, const char *code, const char *message_name, const char *message)
{
        _cleanup_(json_decrefp) json_t *body = json_take(json_object());

        json_put(body, "__type", json_string(code));
        if (message_name && message)
                json_put(body, message_name, json_string(message));
        answer_json(a, status, CONTENT_TYPE, json_incref(body));
}

/* ---- parameters ---- */

/* The name of a member as KMS's validation sentences have it: "KeyId" is 'keyId'. */
static char *member(const char *name)
{
        char *text = text_copy(name);

        if (text[0] >= 'A' && text[0] <= 'Z')
                text[0] = (char)(text[0] - 'A' + 'a');
        return text;
}

static int missing(struct kms_call *c, const char *name)
{
        _cleanup_(freep) char *shown = member(name);

        return kms_fail(
                c, "ValidationException",
                "1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null",
                shown);
}

int kms_text(struct kms_call *c, const char **ret_text, const char *name, bool required, size_t max)
{
        const json_t *value = json_object_get(c->body, name);
        _cleanup_(freep) char *shown = member(name);

        *ret_text = NULL;
        if (!value || json_is_null(value))
                return required ? missing(c, name) : 0;
        if (!json_is_string(value))
                return kms_fail_silently(c, "SerializationException");
        if (json_string_length(value) < 1 || json_string_length(value) > max)
                return kms_fail(c, "ValidationException",
                                "1 validation error detected: Value '%.64s' at '%s' failed to satisfy constraint: "
                                "Member must have length %s than or equal to %zu",
                                json_string_value(value), shown, json_string_length(value) ? "less" : "greater",
                                json_string_length(value) ? max : 1);
        *ret_text = json_string_value(value);
        return 0;
}

int kms_blob(struct kms_call *c, uint8_t **ret_data, size_t *ret_n, const char *name, size_t max)
{
        const json_t *value = json_object_get(c->body, name);
        _cleanup_(freep) char *shown = member(name);
        _cleanup_(freep) uint8_t *data = NULL;
        size_t n_text = json_string_length(value);

        if (!value || json_is_null(value))
                return missing(c, name);
        data = memory_new(n_text / 4 * 3);
        if (!json_is_string(value) || base64_parse(data, ret_n, json_string_value(value), n_text) < 0)
                return kms_fail_silently(c, "SerializationException");
        if (*ret_n < 1 || *ret_n > max)
                return kms_fail(c, "ValidationException",
                                "1 validation error detected: Value at '%s' failed to satisfy constraint: "
                                "Member must have length %s than or equal to %zu",
                                shown, *ret_n ? "less" : "greater", *ret_n ? max : 1);
        *ret_data = TAKE_PTR(data);
        return 0;
}

/* The value of a context pair as KMS takes it: text, and other scalars by their text. Return: NULL for a list or map. */
static char *scalar_text(const json_t *value)
{
        if (json_is_string(value))
                return text_copy(json_string_value(value));
        return json_is_object(value) || json_is_array(value) || json_is_null(value)
                       ? NULL
                       : json_dumps(value, JSON_ENCODE_ANY);
}

int kms_context(struct kms_call *c, uint8_t **ret_aad, size_t *ret_n, const char *name)
{
        json_t *value = json_object_get(c->body, name), *pair;
        _cleanup_(json_decrefp) json_t *texts = json_take(json_object());
        const char *key;

        *ret_aad = NULL;
        *ret_n = 0;
        if (!value || json_is_null(value))
                return 0;
        if (!json_is_object(value))
                return kms_fail_silently(c, "SerializationException");
        json_object_foreach(value, key, pair)
        {
                _cleanup_(freep) char *text = scalar_text(pair);

                if (!text)
                        return kms_fail_silently(c, "SerializationException");
                json_put(texts, key, json_string(text));
        }
        /* An empty context is the same as none. */
        if (json_object_size(texts) == 0)
                return 0;
        *ret_aad = (uint8_t *)json_dumps(texts, JSON_COMPACT | JSON_SORT_KEYS);
        if (!*ret_aad)
                abort();
        *ret_n = strlen((char *)*ret_aad);
        return 0;
}

int kms_grants(struct kms_call *c)
{
        const json_t *tokens = json_object_get(c->body, "GrantTokens");
        json_t *token;
        size_t i;

        if (!tokens || json_is_null(tokens))
                return 0;
        if (!json_is_array(tokens))
                return kms_fail_silently(c, "SerializationException");
        if (json_array_size(tokens) > GRANTS_MAX)
                return kms_fail(c, "ValidationException",
                                "1 validation error detected: Value at 'grantTokens' failed to satisfy constraint: "
                                "Member must have length less than or equal to 10");
        json_array_foreach(tokens, i, token)
        {
                if (!json_is_string(token))
                        return kms_fail_silently(c, "SerializationException");
                if (json_string_length(token) < 1 || json_string_length(token) > GRANT_TOKEN_MAX ||
                    !json_object_get(c->mock->identities.grants, json_string_value(token)))
                        return kms_fail_silently(c, "InvalidGrantTokenException");
        }
        return 0;
}

/* ---- keys ---- */

static bool granted(const struct kms_call *c, const char *action)
{
        const json_t *tokens = json_object_get(c->body, "GrantTokens");
        json_t *token;
        size_t i;

        json_array_foreach(tokens, i, token)
        {
                const json_t *actions = json_object_get(c->mock->identities.grants, json_string_value(token));

                if (actions && aws_policy_allows(actions, action))
                        return true;
        }
        return false;
}

int kms_allowed(struct kms_call *c, const char *action, const char *resource)
{
        if (aws_policy_allows(c->user->policy, action) || granted(c, action))
                return 0;
        return kms_deny(
                c,
                "User: %s is not authorized to perform: %s on resource: %s because no identity-based policy allows the %s action",
                c->user->arn, action, resource, action);
}

int kms_key(struct kms_call *c, struct aws_key_use *ret, const char *name, const char *action)
{
        _cleanup_(freep) char *problem = NULL;
        const char *id;
        int outcome = kms_text(c, &id, name, true, KEY_ID_MAX), found;

        if (outcome)
                return outcome;
        found = aws_key_resolve(ret, &c->mock->keys, c->region, id, &problem);
        outcome = kms_allowed(c, action, ret->replica ? ret->replica->arn : id);
        if (outcome)
                return outcome;
        if (found == AWS_KEY_E_FOREIGN)
                return kms_deny(
                        c,
                        "User: %s is not authorized to perform: %s on resource: %s because no resource-based policy allows the %s action",
                        c->user->arn, action, id, action);
        return found ? kms_fail(c, "NotFoundException", "%s", problem) : 0;
}

int kms_usable(struct kms_call *c, const struct aws_key_use *use)
{
        const char *code = NULL, *problem = aws_state_problem(use->replica->state, &code);

        return problem ? kms_fail(c, code, "%s%s", use->replica->arn, problem) : 0;
}

int kms_dry_run(struct kms_call *c)
{
        if (!json_flag(c->body, "DryRun", false))
                return 0;
        return kms_fail(c, "DryRunOperationException",
                        "The request would have succeeded, but the DryRun option is set.");
}

/* ---- the service ---- */

static bool claims(const struct request *r)
{
        return strcmp(r->path, "/") == 0 && text_starts(request_header(r, "X-Amz-Target"), TARGET_PREFIX);
}

static void identify(struct request *r)
{
        snprintf(r->operation, sizeof(r->operation), "%s", request_header(r, "X-Amz-Target") + strlen(TARGET_PREFIX));
        aws_auth_region(r->region, sizeof(r->region), r);
}

static void answer_unauthenticated(struct answer *a, int outcome, const char *reason)
{
        switch (outcome) {
        case AWS_AUTH_E_MISSING:
                answer_error(a, 400, "MissingAuthenticationTokenException", "message", "Missing Authentication Token");
                break;
        case AWS_AUTH_E_INCOMPLETE:
                answer_error(a, 400, "IncompleteSignatureException", "message", reason);
                break;
        case AWS_AUTH_E_UNKNOWN:
                answer_error(a, 400, "UnrecognizedClientException", "message",
                             "The security token included in the request is invalid.");
                break;
        case AWS_AUTH_E_EXPIRED:
                answer_error(a, 400, "ExpiredTokenException", "message",
                             "The security token included in the request is expired");
                break;
        default:
                answer_error(a, 400, "InvalidSignatureException", "message", reason);
        }
}

static int run(struct kms_call *c, const char *operation)
{
        if (!c->body)
                return kms_fail_silently(c, "SerializationException");
        for (size_t i = 0; i < ELEMENTSOF(operations); i++)
                if (strcmp(operations[i].name, operation) == 0)
                        return operations[i].run(c);
        return kms_fail_silently(c, "UnknownOperationException");
}

static void handle(struct mock *m, struct request *r, struct answer *a)
{
        _cleanup_(freep) char *id = text_uuid(), *reason = NULL;
        _cleanup_(json_decrefp) json_t *body = NULL;
        struct kms_call c = { .mock = m, .region = r->region };
        int outcome;

        answer_header(a, "x-amzn-RequestId", id);
        answer_request_id(a, id);
        outcome = aws_auth_check(m, r, "kms", SKEW_MINUTES, &c.user, &reason);
        if (outcome) {
                answer_unauthenticated(a, outcome, reason);
                return;
        }
        body = request_json(r);
        c.body = body;
        c.result = json_take(json_object());
        if (run(&c, r->operation))
                answer_error(a, c.status, c.code, c.message_name, c.message);
        else if (json_object_size(c.result))
                answer_json(a, 200, CONTENT_TYPE, json_incref(c.result));
        else
                answer_text(a, 200, CONTENT_TYPE, "");
        json_decref(c.result);
        free(c.message);
}

static void throttle(const struct request *r, struct answer *a)
{
        answer_error(a, 400, "ThrottlingException", "message",
                     "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.");
}

static void fail_status(const struct request *r, struct answer *a, int status)
{
        answer_error(a, status, status == 503 ? "DependencyTimeoutException" : "KMSInternalException", "message", "");
}

static void expire(struct mock *m)
{
        aws_sessions_expire(&m->identities, mock_now_usec(m));
}

const struct service service_kms = { .name = "kms",
                                     .claims = claims,
                                     .identify = identify,
                                     .handle = handle,
                                     .throttle = throttle,
                                     .fail = fail_status,
                                     .expire = expire };
