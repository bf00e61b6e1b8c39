/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-metadata.h"

#include <errno.h>
#include <sys/random.h>

#include "common/clock.h"

#define TOKEN_SECONDS "21600"
#define TOKEN_USEC (UINT64_C(21600) * USEC_PER_SEC)
#define TOKEN_MARGIN_USEC (5 * USEC_PER_SEC)
#define TIMEOUT_USEC USEC_PER_SEC
#define ATTEMPTS_MAX 2
#define ROLE_MAX 64
#define ROLES_PATH "/latest/meta-data/iam/security-credentials/"
#define WHO "instance metadata"

enum phase { PHASE_TOKEN, PHASE_ROLE, PHASE_KEYS };

struct aws_metadata {
        const struct aws_surroundings *around;
        char endpoint[256];
        struct secret *token;
        uint64_t token_until_usec; /* CLOCK_BOOTTIME */
        bool has_answered;
        /* of one question */
        struct aws_way_call *call;
        struct http_call http_call;
        enum phase phase;
        unsigned n_attempts; /* in this phase */
        bool renewed;        /* the token, since the service did not take it */
        char role[ROLE_MAX + 1];
};

uint64_t metadata_expiry(uint64_t now_wall_usec, uint64_t expires_wall_usec, uint32_t random)
{
        const uint64_t minute = 60 * USEC_PER_SEC;

        if (expires_wall_usec > now_wall_usec + 15 * minute)
                return expires_wall_usec;
        return now_wall_usec + 17 * minute + random % (8 * minute);
}

bool aws_metadata_has_answered(const struct aws_metadata *m)
{
        return m->has_answered;
}

static void ended(struct aws_metadata *m, struct aws_credentials *credentials, enum proto_error error, const char *why)
{
        struct aws_way_call *call = TAKE_PTR(m->call);

        call->done(call, credentials, error, why);
}

static void fail(struct aws_metadata *m, enum proto_error error, const char *format, ...) _printf_(3, 4);
static void fail(struct aws_metadata *m, enum proto_error error, const char *format, ...)
{
        char text[sizeof(((struct sentence *)NULL)->text)];
        struct sentence why;
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        sentence_set(&why, WHO ": %s", text);
        ended(m, NULL, error, why.text);
}

/* ---- asking ---- */

static int attempt(struct aws_metadata *m)
{
        char url[sizeof(m->endpoint) + sizeof(ROLES_PATH) + ROLE_MAX];
        struct http_request request = { .method = "GET", .url = url, .n_headers = 1, .timeout_usec = TIMEOUT_USEC };

        m->n_attempts++;
        if (m->phase == PHASE_TOKEN) {
                request.method = "PUT";
                request.headers[0] = (struct http_header){ .name = "x-aws-ec2-metadata-token-ttl-seconds", .value = BYTES_LITERAL(TOKEN_SECONDS) };
                snprintf(url, sizeof(url), "%s/latest/api/token", m->endpoint);
        } else {
                request.headers[0] = (struct http_header){ .name = "x-aws-ec2-metadata-token", .secret = m->token };
                snprintf(url, sizeof(url), "%s" ROLES_PATH "%s", m->endpoint, m->phase == PHASE_KEYS ? m->role : "");
        }
        return http_start(m->around->http, &m->http_call, &request);
}

static void phase_begin(struct aws_metadata *m, enum phase phase)
{
        m->phase = phase;
        m->n_attempts = 0;
        if (attempt(m) < 0)
                fail(m, PROTO_ERROR_KMS_UNREACHABLE, "no memory is left to ask. Try again when other requests have ended");
}

static void repeat_or_fail(struct aws_metadata *m, const char *what, const char *hint)
{
        if (m->n_attempts < ATTEMPTS_MAX && attempt(m) == 0)
                return;
        fail(m, PROTO_ERROR_KMS_UNREACHABLE, "%s. %s", what, hint);
}

static void take_failure(struct aws_metadata *m, const struct http_response *response)
{
        if (aws_way_failure(response->failure) != PROTO_ERROR_KMS_UNREACHABLE)
                fail(m, aws_way_failure(response->failure), "%s", response->what);
        else if (m->phase == PHASE_TOKEN && !m->has_answered) /* most likely no instance: nothing is gained by asking twice */
                fail(m, PROTO_ERROR_KMS_UNREACHABLE, "%s%s", response->what,
                     response->failure == HTTP_FAILURE_TIMEOUT || response->failure == HTTP_FAILURE_CONNECT
                             ? ". In a container on an EC2 instance, raise the instance's metadata response hop limit to 2"
                             : "");
        else
                repeat_or_fail(m, response->what, "They are asked again");
}

static void take_refusal(struct aws_metadata *m, const struct http_response *response)
{
        char what[64];

        if (response->status == 401 && m->phase != PHASE_TOKEN && !m->renewed) {
                m->renewed = true;
                m->token = secret_unref(m->token);
                phase_begin(m, PHASE_TOKEN);
        } else if (response->status >= 500 || response->status == 429) {
                snprintf(what, sizeof(what), "they answered with status %d", response->status);
                repeat_or_fail(m, what, "They are asked again");
        } else if (response->status == 404 && m->phase != PHASE_TOKEN) {
                fail(m, PROTO_ERROR_KMS_CREDENTIALS, "the instance has no role. Attach an instance profile with one");
        } else {
                fail(m, PROTO_ERROR_KMS_CREDENTIALS, "they answered with status %d%s. Check that they are enabled for this instance, version 2",
                     response->status, m->phase == PHASE_TOKEN ? " when asked for a session token" : "");
        }
}

/* ---- taking answers ---- */

static void take_token(struct aws_metadata *m, struct secret *body)
{
        if (!body) {
                fail(m, PROTO_ERROR_KMS_CREDENTIALS, "they gave an empty session token");
                return;
        }
        m->token = secret_ref(body);
        m->token_until_usec = clock_boottime_usec() + TOKEN_USEC - TOKEN_MARGIN_USEC;
        phase_begin(m, PHASE_ROLE);
}

/* The first line, which becomes a part of a path. */
static bool role_parse(char ret_role[ROLE_MAX + 1], struct bytes text)
{
        size_t n = 0;

        while (n < text.n && text.data[n] != '\n' && text.data[n] != '\r')
                n++;
        if (n == 0 || n > ROLE_MAX)
                return false;
        memcpy(ret_role, text.data, n);
        ret_role[n] = '\0';
        return strspn(ret_role, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=,.@-") == n && *ret_role != '.';
}

static void take_role(struct aws_metadata *m, struct secret *body)
{
        bool good = false;
        uint8_t *view;

        if (body) {
                view = secret_view_begin(body);
                good = role_parse(m->role, (struct bytes){ view, secret_size(body) });
                secret_view_end(body, &view);
        }
        if (good)
                phase_begin(m, PHASE_KEYS);
        else
                fail(m, PROTO_ERROR_KMS_CREDENTIALS, "the instance has no role, or one whose name cannot be one. Attach an instance profile");
}

static void take_keys(struct aws_metadata *m, struct secret *body)
{
        _cleanup_(aws_credentials_unrefp) struct aws_credentials *credentials = NULL;
        struct sentence what;
        uint32_t random = 0;
        char source[ROLE_MAX + 32];

        snprintf(source, sizeof(source), WHO ", role %s", m->role);
        if (aws_answer_json(&credentials, body, AWS_ANSWER_METADATA, source, &what) < 0) {
                fail(m, PROTO_ERROR_KMS_CREDENTIALS, "role %s %s", m->role, what.text);
                return;
        }
        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
                random = (uint32_t)clock_boottime_usec();
        credentials->expires_wall_usec = metadata_expiry(clock_wall_usec(), credentials->expires_wall_usec, random);
        ended(m, credentials, PROTO_ERROR_NONE, "");
}

static void on_answer(struct http_call *call, const struct http_response *response)
{
        struct aws_metadata *m = list_entry(call, struct aws_metadata, http_call);

        if (response->failure != HTTP_FAILURE_NONE) {
                take_failure(m, response);
                return;
        }
        if (response->status != 200) {
                take_refusal(m, response);
                return;
        }
        m->has_answered = true;
        switch (m->phase) {
        case PHASE_TOKEN:
                take_token(m, response->body);
                return;
        case PHASE_ROLE:
                take_role(m, response->body);
                return;
        case PHASE_KEYS:
                take_keys(m, response->body);
                return;
        }
}

/* ---- the client ---- */

int aws_metadata_new(struct aws_metadata **ret_metadata, const struct aws_surroundings *around, const struct aws_environment *environment)
{
        const char *endpoint = aws_environment_text(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
        const char *mode = aws_environment_text(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
        struct aws_metadata *m = calloc(1, sizeof(*m));
        size_t n;

        if (!m)
                return -ENOMEM;
        m->around = around;
        m->http_call.done = on_answer;
        if (!endpoint)
                endpoint = mode && strcasecmp(mode, "IPv6") == 0 ? "http://[fd00:ec2::254]" : "http://169.254.169.254";
        snprintf(m->endpoint, sizeof(m->endpoint), "%s", endpoint);
        n = strlen(m->endpoint);
        if (n > 0 && m->endpoint[n - 1] == '/')
                m->endpoint[n - 1] = '\0';
        *ret_metadata = m;
        return 0;
}

struct aws_metadata *aws_metadata_free(struct aws_metadata *m)
{
        if (!m)
                return NULL;
        aws_metadata_cancel(m);
        secret_unref(m->token);
        free(m);
        return NULL;
}

void aws_metadata_cancel(struct aws_metadata *m)
{
        if (m->http_call.transfer)
                http_cancel(m->around->http, &m->http_call);
        m->call = NULL;
}

int aws_metadata_start(struct aws_metadata *m, struct aws_way_call *call, struct sentence *ret_why)
{
        int r;

        if (m->token && clock_boottime_usec() >= m->token_until_usec)
                m->token = secret_unref(m->token);
        m->renewed = false;
        m->n_attempts = 0;
        m->phase = m->token ? PHASE_ROLE : PHASE_TOKEN;
        r = attempt(m);
        if (r < 0)
                sentence_set(ret_why, WHO ": no memory is left to ask. Try again when other requests have ended");
        else
                m->call = call;
        return r;
}
