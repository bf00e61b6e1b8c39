/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/metadata.h"

#include "tests/mock-kms/service.h"

#define META "/latest/meta-data/"
#define CREDENTIALS META "iam/security-credentials/"
enum { TTL_MAX = 21600, TOKENS_MAX = 1000 };

void metadata_init(struct metadata *s)
{
        *s = (struct metadata){ .role = text_copy("mock-role"),
                                .region = text_copy("us-east-1"),
                                .code = text_copy("Success"),
                                .expires_in_usec = 6 * 3600 * USEC_PER_SEC,
                                .tokens = json_take(json_object()) };
}

void metadata_deinit(struct metadata *s)
{
        free(s->role);
        free(s->region);
        free(s->container_token);
        free(s->code);
        free(s->current);
        json_decref(s->policy);
        json_decref(s->tokens);
}

/* The same credentials as long as they live, as the real ones do. */
static const struct aws_user *credentials(struct mock *m)
{
        struct metadata *s = &m->metadata;
        const struct aws_user *u = s->current ? aws_user_find(&m->identities, s->current) : NULL;
        _cleanup_(freep) char *arn = NULL;

        if (u && u->expires_usec > mock_now_usec(m))
                return u;
        arn = text_format("arn:aws:sts::" AWS_ACCOUNT ":assumed-role/%s/i-0123456789abcdef0", s->role);
        u = aws_session_new(&m->identities, arn, mock_now_usec(m) + s->expires_in_usec, s->policy);
        text_set(&s->current, u->access_key_id);
        return u;
}

static json_t *credentials_json(struct mock *m)
{
        const struct aws_user *u = credentials(m);
        char expiration[CLOCK_TEXT_LENGTH + 1];

        clock_format(expiration, u->expires_usec);
        return json_take(json_pack("{s:s, s:s, s:s, s:s}", "AccessKeyId", u->access_key_id, "SecretAccessKey",
                                   u->secret, "Token", u->session_token, "Expiration", expiration));
}

/* ---- IMDSv2 ---- */

static void put_token(struct mock *m, const struct request *r, struct answer *a)
{
        const char *wanted = request_header(r, "x-aws-ec2-metadata-token-ttl-seconds");
        uint64_t ttl;
        _cleanup_(freep) char *token = NULL;

        if (!text_number(&ttl, wanted, TTL_MAX) || ttl < 1) {
                answer_text(a, 400, "text/plain", "");
                return;
        }
        if (json_object_size(m->metadata.tokens) >= TOKENS_MAX)
                json_object_clear(m->metadata.tokens);
        token = text_random("AQAEA", 51, TEXT_UPPER TEXT_LOWER TEXT_DIGITS "-_");
        json_put(m->metadata.tokens, token, json_integer((json_int_t)(mock_now_usec(m) + ttl * USEC_PER_SEC)));
        answer_header(a, "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", wanted);
        answer_text(a, 200, "text/plain", token);
}

static void answer_credentials(struct mock *m, struct answer *a)
{
        json_t *body;
        char now[CLOCK_TEXT_LENGTH + 1];

        if (strcmp(m->metadata.code, "Success") != 0) {
                body = json_pack("{s:s, s:s}", "Code", m->metadata.code, "Message",
                                 "The role cannot be assumed by this instance.");
        } else {
                clock_format(now, mock_now_usec(m));
                body = credentials_json(m);
                json_put(body, "Code", json_string("Success"));
                json_put(body, "Type", json_string("AWS-HMAC"));
                json_put(body, "LastUpdated", json_string(now));
        }
        answer_json(a, 200, "text/plain", body);
}

static void get_metadata(struct mock *m, const struct request *r, struct answer *a)
{
        const char *token = request_header(r, "x-aws-ec2-metadata-token");
        const struct metadata *s = &m->metadata;
        _cleanup_(freep) char *zone = text_format("%sa", s->region);

        if (!token || json_number(s->tokens, token, 0) <= (int64_t)mock_now_usec(m))
                answer_text(
                        a, 401, "text/html",
                        "<html><head><title>401 - Unauthorized</title></head><body>401 - Unauthorized</body></html>");
        else if (strcmp(r->path, CREDENTIALS) == 0)
                answer_text(a, *s->role ? 200 : 404, "text/plain", s->role);
        else if (*s->role && text_starts(r->path, CREDENTIALS) && strcmp(r->path + strlen(CREDENTIALS), s->role) == 0)
                answer_credentials(m, a);
        else if (strcmp(r->path, META "placement/availability-zone") == 0 ||
                 strcmp(r->path, META "placement/availability-zone/") == 0)
                answer_text(a, 200, "text/plain", zone);
        else if (strcmp(r->path, META "placement/region") == 0)
                answer_text(a, 200, "text/plain", s->region);
        else
                answer_text(a, 404, "text/html",
                            "<html><head><title>404 - Not Found</title></head><body>404 - Not Found</body></html>");
}

/* ---- containers ---- */

static bool is_container(const struct request *r)
{
        return text_starts(r->path, "/v2/credentials/") || strcmp(r->path, "/v1/credentials") == 0;
}

static void get_container_credentials(struct mock *m, const struct request *r, struct answer *a)
{
        const struct metadata *s = &m->metadata;
        _cleanup_(freep) char *role = text_format("arn:aws:iam::" AWS_ACCOUNT ":role/%s", s->role);
        json_t *body;

        if (s->container_token && !text_equal(s->container_token, request_header(r, "Authorization"))) {
                answer_json(a, 401, "application/json",
                            json_pack("{s:s, s:s}", "code", "AccessDenied", "message",
                                      "Invalid or missing authorization token"));
                return;
        }
        body = credentials_json(m);
        json_put(body, "RoleArn", json_string(role));
        answer_json(a, 200, "application/json", body);
}

/* ---- the service ---- */

static bool claims(const struct request *r)
{
        return text_starts(r->path, "/latest/") || is_container(r);
}

static void identify(struct request *r)
{
        const char *operation = "metadata";

        if (is_container(r))
                operation = "container-credentials";
        else if (strcmp(r->path, "/latest/api/token") == 0)
                operation = "token";
        else if (strcmp(r->path, CREDENTIALS) == 0)
                operation = "role";
        else if (text_starts(r->path, CREDENTIALS))
                operation = "credentials";
        snprintf(r->operation, sizeof(r->operation), "%s", operation);
}

static void handle(struct mock *m, struct request *r, struct answer *a)
{
        bool is_token = strcmp(r->operation, "token") == 0;

        if (strcmp(r->method, is_token ? "PUT" : "GET") != 0)
                answer_text(a, 405, "text/plain", "");
        else if (is_token)
                put_token(m, r, a);
        else if (is_container(r))
                get_container_credentials(m, r, a);
        else
                get_metadata(m, r, a);
}

static void throttle(const struct request *r, struct answer *a)
{
        answer_text(a, 429, "text/plain", "");
}

static void fail_status(const struct request *r, struct answer *a, int status)
{
        answer_text(a, status, "text/plain", "");
}

static void expire(struct mock *m)
{
        json_object_clear(m->metadata.tokens);
}

const struct service service_metadata = { .name = "imds",
                                          .claims = claims,
                                          .identify = identify,
                                          .handle = handle,
                                          .throttle = throttle,
                                          .fail = fail_status,
                                          .expire = expire };
