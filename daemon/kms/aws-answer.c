/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-answer.h"

#include <errno.h>
#include <jansson.h>

#include "common/clock.h"
#include "daemon/kms/aws-xml.h"
#include "daemon/kms/json-secret.h"

/* ---- sets ---- */

struct aws_credentials *aws_credentials_ref(struct aws_credentials *c)
{
        c->n_refs++;
        return c;
}

struct aws_credentials *aws_credentials_unref(struct aws_credentials *c)
{
        if (!c || --c->n_refs > 0)
                return NULL;
        secret_unref(c->secret_access_key);
        secret_unref(c->session_token);
        free(c);
        return NULL;
}

static bool is_access_key_id(const char *id)
{
        size_t n = strlen(id);

        return n > 0 && n <= 128 && strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") == n;
}

int aws_credentials_new(struct aws_credentials **ret_credentials, const char *access_key_id, struct secret *secret_access_key,
                        struct secret *session_token, uint64_t expires_wall_usec, const char *source)
{
        struct aws_credentials *c;
        char *copy;

        if (!is_access_key_id(access_key_id))
                return -EINVAL;
        c = calloc(1, sizeof(*c) + strlen(source) + 1);
        if (!c)
                return -ENOMEM;
        copy = (char *)(c + 1);
        memcpy(copy, source, strlen(source) + 1);
        *c = (struct aws_credentials){ .n_refs = 1,
                                       .secret_access_key = secret_ref(secret_access_key),
                                       .session_token = session_token ? secret_ref(session_token) : NULL,
                                       .expires_wall_usec = expires_wall_usec,
                                       .source = copy };
        snprintf(c->access_key_id, sizeof(c->access_key_id), "%s", access_key_id);
        *ret_credentials = c;
        return 0;
}

/* ---- times ---- */

/* "Z", "+HH:MM", "-HHMM": what has to be taken off. */
static int zone_parse(int64_t *ret_seconds, const char *text)
{
        unsigned hours, minutes;
        int n = 0;

        *ret_seconds = 0;
        if (strcmp(text, "Z") == 0)
                return 0;
        if ((*text != '+' && *text != '-') || strspn(text + 1, "0123456789:") != strlen(text + 1) ||
            (sscanf(text + 1, "%2u:%2u%n", &hours, &minutes, &n) != 2 && sscanf(text + 1, "%2u%2u%n", &hours, &minutes, &n) != 2) ||
            (size_t)n != strlen(text + 1) || hours > 23 || minutes > 59)
                return -EINVAL;
        *ret_seconds = (int64_t)(hours * 3600 + minutes * 60) * (*text == '+' ? 1 : -1);
        return 0;
}

int aws_answer_time(uint64_t *ret_wall_usec, const char *text)
{
        char whole[CLOCK_TEXT_LENGTH + 1];
        const char *rest = text + CLOCK_TEXT_LENGTH - 1;
        int64_t zone;
        uint64_t usec;

        if (strlen(text) < CLOCK_TEXT_LENGTH || strlen(text) > 64)
                return -EINVAL;
        snprintf(whole, sizeof(whole), "%.*sZ", CLOCK_TEXT_LENGTH - 1, text);
        if (*rest == '.') {
                size_t n = strspn(rest + 1, "0123456789");

                if (n == 0)
                        return -EINVAL;
                rest += 1 + n;
        }
        if (zone_parse(&zone, rest) < 0 || clock_parse(&usec, whole) < 0 || (int64_t)(usec / USEC_PER_SEC) < zone)
                return -EINVAL;
        *ret_wall_usec = usec - (uint64_t)zone * USEC_PER_SEC;
        return 0;
}

/* ---- JSON ---- */

struct dialect {
        const char *access_key_id, *secret_access_key, *session_token, *expiration;
        const char *inside; /* the object that holds them; NULL = the outermost */
};

static const struct dialect dialects[] = {
        [AWS_ANSWER_METADATA] = { "AccessKeyId", "SecretAccessKey", "Token", "Expiration" },
        [AWS_ANSWER_CONTAINER] = { "AccessKeyId", "SecretAccessKey", "Token", "Expiration" },
        [AWS_ANSWER_PROCESS] = { "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration" },
        [AWS_ANSWER_SSO] = { "accessKeyId", "secretAccessKey", "sessionToken", "expiration", "roleCredentials" },
};

/* How many members with a secret an answer may have; more than one of a kind is refused later. */
enum { TAKEN_MAX = 4, KEY_SECRET = 0, KEY_TOKEN = 1 };

static int refuse(struct sentence *ret_why, const char *what)
{
        sentence_set(ret_why, "%s", what);
        return -EINVAL;
}

/* The one that was taken by @i_key. Return: 0, *ret_secret being NULL when there is none; -EINVAL when there are more. */
static int taken_find(struct secret **ret_secret, const struct json_secret *taken, size_t n, size_t i_key)
{
        *ret_secret = NULL;
        for (size_t i = 0; i < n; i++) {
                if (taken[i].i_key != i_key || !taken[i].value)
                        continue;
                if (*ret_secret)
                        return -EINVAL;
                *ret_secret = taken[i].value;
        }
        return 0;
}

/* The answer's own word on whether it is one. */
static int check_frame(const json_t *json, enum aws_answer_kind kind, struct sentence *ret_why)
{
        const char *code = json_string_value(json_object_get(json, "Code")), *message = json_string_value(json_object_get(json, "Message"));

        if (kind == AWS_ANSWER_METADATA && code && strcmp(code, "Success") != 0) {
                sentence_set(ret_why, "answered with %.64s%s%.300s", code, message ? ": " : "", message ? message : "");
                return -EINVAL;
        }
        if (kind == AWS_ANSWER_PROCESS && json_integer_value(json_object_get(json, "Version")) != 1)
                return refuse(ret_why, "gave JSON whose \"Version\" is not 1");
        return 0;
}

static int expiration_get(uint64_t *ret_wall_usec, const json_t *value, enum aws_answer_kind kind)
{
        if (kind == AWS_ANSWER_SSO) {
                json_int_t msec = json_integer_value(value);

                *ret_wall_usec = (uint64_t)msec * USEC_PER_MSEC;
                return msec > 0 && msec < INT64_MAX / 1000 ? 0 : -EINVAL;
        }
        if (kind == AWS_ANSWER_PROCESS && (!value || json_is_null(value))) {
                *ret_wall_usec = USEC_INFINITY;
                return 0;
        }
        return json_is_string(value) ? aws_answer_time(ret_wall_usec, json_string_value(value)) : -EINVAL;
}

static int set_from_json(struct aws_credentials **ret_credentials, const json_t *json, enum aws_answer_kind kind, struct secret *secret,
                         struct secret *token, const char *source, struct sentence *ret_why)
{
        const struct dialect *dialect = &dialects[kind];
        const json_t *object = dialect->inside ? json_object_get(json, dialect->inside) : json;
        const char *id = json_string_value(json_object_get(object, dialect->access_key_id));
        uint64_t expires;
        int r = check_frame(json, kind, ret_why);

        if (r < 0)
                return r;
        if (!id || !secret)
                return refuse(ret_why, "gave JSON without an access key id or a secret access key");
        if (!token && kind != AWS_ANSWER_PROCESS)
                return refuse(ret_why, "gave JSON without a session token");
        if (expiration_get(&expires, json_object_get(object, dialect->expiration), kind) < 0)
                return refuse(ret_why, "gave JSON without a valid time of expiration");
        r = aws_credentials_new(ret_credentials, id, secret, token, expires, source);
        return r == -EINVAL ? refuse(ret_why, "gave an access key id that cannot be one") : r;
}

int aws_answer_json(struct aws_credentials **ret_credentials, struct secret *body, enum aws_answer_kind kind, const char *source,
                    struct sentence *ret_why)
{
        const char *keys[] = { dialects[kind].secret_access_key, dialects[kind].session_token };
        struct json_secret taken[TAKEN_MAX];
        struct secret *secret, *token;
        size_t n = 0;
        json_t *json;
        uint8_t *view;
        int r = body ? json_secret_take(body, keys, ELEMENTSOF(keys), taken, TAKEN_MAX, &n) : JSON_SECRET_E_INVALID;

        if (r > 0)
                return refuse(ret_why, "gave something that is no JSON of this kind");
        if (r < 0) {
                sentence_set(ret_why, "gave an answer for which no locked memory is left. Try again when other requests have ended");
                return r;
        }
        view = secret_view_begin(body);
        json = json_loadb((const char *)view, secret_size(body), JSON_REJECT_DUPLICATES, NULL);
        secret_view_end(body, &view);
        if (!json_is_object(json) || taken_find(&secret, taken, n, KEY_SECRET) < 0 || taken_find(&token, taken, n, KEY_TOKEN) < 0)
                r = refuse(ret_why, "gave something that is no JSON of this kind");
        else
                r = set_from_json(ret_credentials, json, kind, secret, token, source, ret_why);
        json_decref(json);
        json_secret_deinit(taken, n);
        secret_wipe_stack();
        if (r == -ENOMEM)
                sentence_set(ret_why, "gave an answer for which no memory is left");
        return r;
}

/* ---- XML ---- */

static int secret_from_text(struct secret **ret_secret, struct bytes text)
{
        _cleanup_(secret_unrefp) struct secret *secret = NULL;
        uint8_t *view;
        size_t n;
        int r;

        r = secret_new(&secret, text.n);
        if (r < 0)
                return r;
        view = secret_view_begin(secret);
        r = aws_xml_unescape(view, &n, text);
        secret_view_end(secret, &view);
        if (r < 0)
                return r;
        secret_resize(secret, n);
        *ret_secret = TAKE_PTR(secret);
        return 0;
}

static int set_from_xml(struct aws_credentials **ret_credentials, struct bytes xml, const char *source)
{
        enum { ID, SECRET, TOKEN, EXPIRATION };
        struct aws_xml_text texts[] = { { "AccessKeyId" }, { "SecretAccessKey" }, { "SessionToken" }, { "Expiration" } };
        _cleanup_(secret_unrefp) struct secret *secret = NULL, *token = NULL;
        char id[129], expiration[65];
        uint64_t expires;
        int r = aws_xml_find(xml, "Credentials", texts, ELEMENTSOF(texts));

        if (r < 0)
                return r;
        if (texts[ID].text.n >= sizeof(id) || texts[EXPIRATION].text.n >= sizeof(expiration))
                return -EINVAL;
        snprintf(id, sizeof(id), "%.*s", (int)texts[ID].text.n, (const char *)texts[ID].text.data);
        snprintf(expiration, sizeof(expiration), "%.*s", (int)texts[EXPIRATION].text.n, (const char *)texts[EXPIRATION].text.data);
        r = aws_answer_time(&expires, expiration);
        if (r == 0)
                r = secret_from_text(&secret, texts[SECRET].text);
        if (r == 0)
                r = secret_from_text(&token, texts[TOKEN].text);
        return r == 0 ? aws_credentials_new(ret_credentials, id, secret, token, expires, source) : r;
}

int aws_answer_xml(struct aws_credentials **ret_credentials, struct secret *body, const char *source, struct sentence *ret_why)
{
        uint8_t *view;
        int r = -EINVAL;

        if (body) {
                view = secret_view_begin(body);
                r = set_from_xml(ret_credentials, (struct bytes){ view, secret_size(body) }, source);
                secret_view_end(body, &view);
                secret_wipe_stack();
        }
        if (r < 0)
                sentence_set(ret_why, "%s", r == -EINVAL ? "gave something that is no XML with credentials"
                                                         : "gave an answer for which no memory is left. Try again when other requests have ended");
        return r;
}
