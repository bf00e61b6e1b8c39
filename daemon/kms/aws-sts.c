/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-sts.h"

#include <errno.h>
#include <sys/random.h>

#include "common/clock.h"
#include "daemon/kms/aws-error.h"
#include "daemon/kms/retry.h"
#include "daemon/kms/sigv4.h"

#define TIMEOUT_USEC (5 * USEC_PER_SEC)
#define SKEW_USEC (300 * (int64_t)USEC_PER_SEC)
#define CONTENT_TYPE "application/x-www-form-urlencoded; charset=utf-8"

enum { ATTEMPTS_MAX = 3, HOST_MAX = 256 };

struct aws_sts {
        const struct aws_surroundings *around;
        struct aws_sts_request request;
        struct aws_way_call *call;
        struct http_call http_call;
        struct event *timer;
        struct secret *body;
        struct sigv4_key key;
        char host[HOST_MAX], hash[65];
        unsigned n_attempts;
        bool clock_corrected;
};

/* ---- the form ---- */

/* Counts, as long as there is no place to write to. */
struct form {
        uint8_t *to;
        size_t n;
};

static void form_put(struct form *f, uint8_t c)
{
        if (f->to)
                f->to[f->n] = c;
        f->n++;
}

static void form_text(struct form *f, const char *text)
{
        for (; *text; text++)
                form_put(f, (uint8_t)*text);
}

static void form_value(struct form *f, const char *name, struct bytes value)
{
        static const char digits[] = "0123456789ABCDEF";

        form_text(f, name);
        for (size_t i = 0; i < value.n; i++) {
                uint8_t c = value.data[i];

                if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-_.~", c))) {
                        form_put(f, c);
                        continue;
                }
                form_put(f, '%');
                form_put(f, (uint8_t)digits[c >> 4]);
                form_put(f, (uint8_t)digits[c & 15]);
        }
}

/* Without the line's end that editors and `echo` leave. */
static struct bytes token_trim(struct bytes token)
{
        while (token.n > 0 && (token.data[token.n - 1] == '\n' || token.data[token.n - 1] == '\r' || token.data[token.n - 1] == ' '))
                token.n--;
        return token;
}

static void form_write(struct form *f, const struct aws_role *role, struct bytes token)
{
        char seconds[16];

        form_text(f, token.n > 0 ? "Action=AssumeRoleWithWebIdentity" : "Action=AssumeRole");
        form_text(f, "&Version=2011-06-15");
        form_value(f, "&RoleArn=", bytes_from_string(role->arn));
        form_value(f, "&RoleSessionName=", bytes_from_string(role->session_name ? role->session_name : "lkm-kms"));
        if (role->external_id && token.n == 0)
                form_value(f, "&ExternalId=", bytes_from_string(role->external_id));
        snprintf(seconds, sizeof(seconds), "%u", role->duration_seconds);
        if (role->duration_seconds > 0)
                form_value(f, "&DurationSeconds=", bytes_from_string(seconds));
        if (token.n > 0)
                form_value(f, "&WebIdentityToken=", token);
}

static int body_make(struct secret **ret_body, char ret_hash[65], const struct aws_sts_request *request)
{
        _cleanup_(secret_unrefp) struct secret *body = NULL;
        struct form form = { 0 };
        struct bytes token = { 0 };
        uint8_t *token_view = NULL, *view;
        int r;

        if (request->token) {
                token_view = secret_view_begin(request->token);
                token = token_trim((struct bytes){ token_view, secret_size(request->token) });
        }
        form_write(&form, request->role, token);
        r = secret_new(&body, form.n);
        if (r == 0) {
                view = secret_view_begin(body);
                form = (struct form){ .to = view };
                form_write(&form, request->role, token);
                r = sigv4_hash(ret_hash, (struct bytes){ view, form.n });
                secret_view_end(body, &view);
        }
        if (token_view)
                secret_view_end(request->token, &token_view);
        secret_wipe_stack();
        if (r == 0)
                *ret_body = TAKE_PTR(body);
        return r;
}

/* ---- asking ---- */

struct aws_sts *aws_sts_free(struct aws_sts *sts)
{
        if (!sts)
                return NULL;
        http_cancel(sts->around->http, &sts->http_call);
        if (sts->timer)
                event_free(sts->timer);
        secret_unref(sts->body);
        secret_unref(sts->request.token);
        aws_credentials_unref(sts->request.signer);
        sigv4_key_deinit(&sts->key);
        free(sts);
        return NULL;
}

static const char *path_of(const char *url)
{
        const char *authority = strstr(url, "://"), *path = authority ? strchr(authority + 3, '/') : NULL;

        return path ? path : "/";
}

static int sign(struct aws_sts *sts, char ret_authorization[SIGV4_AUTHORIZATION_MAX], const char *time)
{
        struct aws_credentials *signer = sts->request.signer;
        struct sigv4_header headers[] = {
                { BYTES_LITERAL("content-type"), BYTES_LITERAL(CONTENT_TYPE) },
                { BYTES_LITERAL("host"), bytes_from_string(sts->host) },
                { BYTES_LITERAL("x-amz-date"), bytes_from_string(time) },
                { BYTES_LITERAL("x-amz-security-token"), { 0 } },
        };
        struct sigv4_request request = { .method = BYTES_LITERAL("POST"),
                                         .path = bytes_from_string(path_of(sts->request.url)),
                                         .n_headers = signer->session_token ? 4 : 3,
                                         .headers = headers,
                                         .payload_hash = bytes_from_string(sts->hash),
                                         .normalize_path = true };
        uint8_t *view = NULL;
        int r;

        if (signer->session_token) {
                view = secret_view_begin(signer->session_token);
                headers[3].value = (struct bytes){ view, secret_size(signer->session_token) };
        }
        r = sigv4_sign(ret_authorization, &sts->key, &request, signer->access_key_id, signer->secret_access_key, sts->request.region, "sts", time);
        if (view)
                secret_view_end(signer->session_token, &view);
        secret_wipe_stack();
        return r;
}

static uint64_t server_wall_usec(const struct aws_sts *sts)
{
        int64_t now = (int64_t)clock_wall_usec() + *sts->request.offset_usec;

        return now < 0 ? 0 : (uint64_t)now;
}

static int attempt(struct aws_sts *sts)
{
        char authorization[SIGV4_AUTHORIZATION_MAX], time[SIGV4_TIME_SIZE];
        struct http_request request = { .method = "POST",
                                        .url = sts->request.url,
                                        .transport = sts->around->transport,
                                        .n_headers = 1,
                                        .headers = { { .name = "Content-Type", .value = BYTES_LITERAL(CONTENT_TYPE) } },
                                        .body_secret = sts->body,
                                        .timeout_usec = TIMEOUT_USEC };
        int r;

        sts->n_attempts++;
        if (sts->request.signer) {
                sigv4_time(time, server_wall_usec(sts));
                r = sign(sts, authorization, time);
                if (r < 0)
                        return r;
                request.headers[request.n_headers++] = (struct http_header){ .name = "X-Amz-Date", .value = bytes_from_string(time) };
                request.headers[request.n_headers++] = (struct http_header){ .name = "Authorization", .value = bytes_from_string(authorization) };
                if (sts->request.signer->session_token)
                        request.headers[request.n_headers++] =
                                (struct http_header){ .name = "X-Amz-Security-Token", .secret = sts->request.signer->session_token };
        }
        return http_start(sts->around->http, &sts->http_call, &request);
}

static void fail(struct aws_sts *sts, enum proto_error error, const struct sentence *why)
{
        sts->call->done(sts->call, NULL, error, why->text);
}

static void attempt_or_fail(struct aws_sts *sts)
{
        struct sentence why;

        if (attempt(sts) == 0)
                return;
        sentence_set(&why, "STS cannot be asked: no memory is left. Try again when other requests have ended");
        fail(sts, PROTO_ERROR_KMS_UNREACHABLE, &why);
}

static void on_pause(evutil_socket_t fd, short what, void *userdata)
{
        attempt_or_fail(userdata);
}

static void repeat_or_fail(struct aws_sts *sts, enum proto_error error, bool throttled, uint32_t retry_after_msec, const struct sentence *why)
{
        uint32_t random = 0;
        uint64_t pause;
        struct timeval time;

        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
                random = UINT32_MAX;
        pause = retry_delay_usec(sts->n_attempts, throttled, retry_after_msec, random);
        time = (struct timeval){ .tv_sec = (time_t)(pause / USEC_PER_SEC), .tv_usec = (suseconds_t)(pause % USEC_PER_SEC) };
        if (sts->n_attempts >= ATTEMPTS_MAX || evtimer_add(sts->timer, &time) < 0)
                fail(sts, error, why);
}

/* ---- answers ---- */

/* What STS has of its own; the rest is as with KMS. */
static const struct refusal {
        const char *code;
        enum proto_error error;
        bool repeat, quote;
        const char *hint;
} refusals[] = {
        { "AccessDenied", PROTO_ERROR_KMS_DENIED, false, true, "Allow sts:AssumeRole to these credentials, and them in the role's trust policy" },
        { "ExpiredTokenException", PROTO_ERROR_KMS_CREDENTIALS, false, false, "Renew the token or the credentials that ask" },
        { "ExpiredToken", PROTO_ERROR_KMS_CREDENTIALS, false, false, "Renew the credentials that ask" },
        { "InvalidIdentityToken", PROTO_ERROR_KMS_CREDENTIALS, true, false, "Check the token file, and the identity provider in IAM" },
        { "IDPCommunicationError", PROTO_ERROR_KMS_UNREACHABLE, true, false, "AWS does not reach the identity provider" },
        { "IDPRejectedClaim", PROTO_ERROR_KMS_DENIED, false, true, "The identity provider does not stand by the token" },
        { "RegionDisabledException", PROTO_ERROR_KMS_MISCONFIGURED, false, false, "Enable STS for the region in the account's settings" },
        { "ValidationError", PROTO_ERROR_KMS_MISCONFIGURED, false, true, "Correct the role's ARN, external id, session name or duration" },
        { "MalformedPolicyDocument", PROTO_ERROR_KMS_MISCONFIGURED, false, true, "Correct the role" },
        { "PackedPolicyTooLarge", PROTO_ERROR_KMS_MISCONFIGURED, false, true, "Correct the role" },
        { "InvalidClientTokenId", PROTO_ERROR_KMS_CREDENTIALS, false, false, "The access key that asks is unknown or inactive. Renew it" },
        { "SignatureDoesNotMatch", PROTO_ERROR_KMS_CREDENTIALS, false, false, "Check the secret access key that belongs to the access key, and the clock" },
};

static struct refusal refusal_of(const char *code, int status)
{
        const struct aws_error_class *class;
        struct refusal other = { .hint = "Check the role, the credentials that ask, and sts_endpoint" };

        for (size_t i = 0; i < ELEMENTSOF(refusals); i++)
                if (strcmp(refusals[i].code, code) == 0)
                        return refusals[i];
        class = aws_error_class(code, status);
        other.repeat = class->action == EXCHANGE_REPEAT;
        if (other.repeat || class->error == PROTO_ERROR_KMS_UNREACHABLE) {
                other.error = PROTO_ERROR_KMS_UNREACHABLE;
                other.hint = "It is asked again";
        } else if (class->error == PROTO_ERROR_KMS_DENIED || class->error == PROTO_ERROR_KMS_CREDENTIALS) {
                other.error = class->error;
        } else {
                other.error = PROTO_ERROR_KMS_MISCONFIGURED;
        }
        return other;
}

/* Whether the server's clock is another than we thought, so that a new signature may help. Once. */
static bool correct_clock(struct aws_sts *sts, const char *code, const struct http_response *response)
{
        int64_t offset, difference;

        if (!sts->request.signer || sts->clock_corrected || response->date_wall_usec == 0 ||
            aws_error_class(code, response->status)->remedy != AWS_REMEDY_CLOCK)
                return false;
        offset = (int64_t)response->date_wall_usec - (int64_t)clock_wall_usec();
        difference = offset - *sts->request.offset_usec;
        if (difference < SKEW_USEC && difference > -SKEW_USEC)
                return false;
        sts->clock_corrected = true;
        *sts->request.offset_usec = offset;
        return true;
}

static void take_refusal(struct aws_sts *sts, const struct http_response *response)
{
        char code[AWS_ERROR_CODE_MAX + 1];
        struct sentence message, why;
        struct refusal refusal;

        aws_error_read(code, &message, response);
        if (correct_clock(sts, code, response)) {
                attempt_or_fail(sts);
                return;
        }
        refusal = refusal_of(code, response->status);
        sentence_set(&why, "STS at %s does not give credentials of %.256s: %s (status %d)%s%.200s. %s", sts->host, sts->request.role->arn,
                     *code ? code : "no reason", response->status, refusal.quote && *message.text ? ": " : "", refusal.quote ? message.text : "",
                     refusal.hint);
        if (refusal.repeat)
                repeat_or_fail(sts, refusal.error, aws_error_class(code, response->status)->error == PROTO_ERROR_KMS_THROTTLED,
                               response->retry_after_msec, &why);
        else
                fail(sts, refusal.error, &why);
}

/* A lifetime is as long here as it is there: where the clocks differ much, the end moves with ours. */
static void expiry_correct(struct aws_credentials *credentials, uint64_t date_wall_usec)
{
        int64_t offset = (int64_t)date_wall_usec - (int64_t)clock_wall_usec(), expires;

        if (date_wall_usec == 0 || (offset < SKEW_USEC && offset > -SKEW_USEC) || credentials->expires_wall_usec > INT64_MAX / 2)
                return;
        expires = (int64_t)credentials->expires_wall_usec - offset;
        credentials->expires_wall_usec = expires < 0 ? 0 : (uint64_t)expires;
}

static void on_answer(struct http_call *call, const struct http_response *response)
{
        struct aws_sts *sts = list_entry(call, struct aws_sts, http_call);
        _cleanup_(aws_credentials_unrefp) struct aws_credentials *credentials = NULL;
        struct sentence what, why;

        if (response->failure != HTTP_FAILURE_NONE) {
                enum proto_error error = aws_way_failure(response->failure);

                sentence_set(&why, "STS: %s", response->what);
                if (error == PROTO_ERROR_KMS_UNREACHABLE)
                        repeat_or_fail(sts, error, false, 0, &why);
                else
                        fail(sts, error, &why);
                return;
        }
        if (response->status != 200) {
                take_refusal(sts, response);
                return;
        }
        if (aws_answer_xml(&credentials, response->body, sts->request.source, &what) < 0) {
                sentence_set(&why, "STS at %s %s. Check sts_endpoint", sts->host, what.text);
                fail(sts, PROTO_ERROR_KMS_MISCONFIGURED, &why);
                return;
        }
        expiry_correct(credentials, response->date_wall_usec);
        sts->call->done(sts->call, credentials, PROTO_ERROR_NONE, "");
}

int aws_sts_start(struct aws_sts **ret_sts, const struct aws_surroundings *around, const struct aws_sts_request *request,
                  struct aws_way_call *call, struct sentence *ret_why)
{
        _cleanup_(aws_sts_freep) struct aws_sts *sts = calloc(1, sizeof(*sts));
        int r = -ENOMEM;

        if (sts) {
                sts->around = around;
                sts->request = *request;
                sts->request.signer = request->signer ? aws_credentials_ref(request->signer) : NULL;
                sts->request.token = request->token ? secret_ref(request->token) : NULL;
                sts->call = call;
                sts->http_call.done = on_answer;
                sts->timer = evtimer_new(around->base, on_pause, sts);
                r = !sts->timer ? -ENOMEM : http_host(request->url, sts->host, sizeof(sts->host));
        }
        if (r == 0)
                r = body_make(&sts->body, sts->hash, request);
        if (r == 0)
                r = attempt(sts);
        if (r < 0) {
                sentence_set(ret_why, "STS cannot be asked: %s",
                             r == -EINVAL ? "its endpoint is no URL, or the web identity token is too long"
                                          : "no memory is left. Try again when other requests have ended");
                return r;
        }
        *ret_sts = TAKE_PTR(sts);
        return 0;
}
