/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-call: the body is made once; each attempt signs it anew, with the credentials and the clock of its moment. Error answers hold no
 * key, so they may be parsed as they are; from all others the Plaintext is taken before jansson sees them.
 */
#include "daemon/kms/aws-call.h"

#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/aws-error.h"
#include "daemon/kms/json-secret.h"

/* From here on the clocks count as different; AWS takes signatures that are off by less. */
#define SKEW_USEC (300 * USEC_PER_SEC)

static const struct {
        const char *target, *permission;
        bool plaintext, blob; /* what the answer has to hold */
} operations[] = {
        [AWS_GENERATE_DATA_KEY] = { "TrentService.GenerateDataKey", "kms:GenerateDataKey", true, true },
        [AWS_DECRYPT] = { "TrentService.Decrypt", "kms:Decrypt", true, false },
        [AWS_ENCRYPT] = { "TrentService.Encrypt", "kms:Encrypt", false, true },
        [AWS_RE_ENCRYPT] = { "TrentService.ReEncrypt", "kms:ReEncryptFrom and kms:ReEncryptTo", false, true },
        [AWS_DESCRIBE_KEY] = { "TrentService.DescribeKey", "kms:DescribeKey", false, false },
};

const char *aws_operation_permission(enum aws_operation operation)
{
        return operations[operation].permission;
}

static struct aws_call *call_of(struct exchange *x)
{
        return list_entry(x, struct aws_call, exchange);
}

/* ---- the service ---- */

/* Only a host: the signature covers the path that is sent, and KMS has but one. */
static bool endpoint_has_path(const char *url)
{
        const char *slash = strchr(strstr(url, "://") + 3, '/');

        return slash && slash[1];
}

int aws_service_init(struct aws_service *s, const struct config_kek *config, const struct kms_environment *environment,
                     const char *region, struct sentence *ret_why)
{
        char own[AWS_URL_MAX], host[AWS_HOST_MAX + 8];
        const char *url = config->endpoint ? config->endpoint : own;
        int r;

        *s = (struct aws_service){ .config = config };
        snprintf(s->region, sizeof(s->region), "%s", region);
        if (aws_endpoint_url(own, "kms", region, config->fips, config->dual_stack) < 0 || endpoint_has_path(url) ||
            http_host(url, host, sizeof(host)) < 0) {
                sentence_set(ret_why,
                             "endpoint = %s of [kek %s] cannot be used: give https://HOST[:PORT], without a path", url,
                             config->name);
                return -EINVAL;
        }
        r = aws_credentials_source_new(&s->credentials, config, environment, ret_why);
        if (r < 0)
                return r;
        s->url = strdup(url);
        s->host = strdup(host);
        if (!s->url || !s->host) {
                aws_service_deinit(s);
                sentence_set(ret_why, "out of memory");
                return -ENOMEM;
        }
        if (environment->base) {
                exchange_queue_init(&s->queue, environment);
                s->has_queue = true;
        }
        return 0;
}

void aws_service_deinit(struct aws_service *s)
{
        if (s->has_queue)
                exchange_queue_deinit(&s->queue);
        sigv4_key_deinit(&s->key);
        aws_credentials_unref(s->key_owner);
        aws_credentials_source_free(s->credentials);
        free(s->host);
        free(s->url);
}

/* ---- one attempt ---- */

static void on_credentials(struct aws_credentials_call *waiting, struct aws_credentials *credentials,
                           enum proto_error error, const char *why)
{
        struct aws_call *c = list_entry(waiting, struct aws_call, waiting);

        c->waits = false;
        if (!credentials) {
                exchange_fail(&c->exchange, error, why);
                return;
        }
        aws_credentials_unref(c->credentials);
        c->credentials = aws_credentials_ref(credentials);
        c->credentials_are_new = true;
        exchange_ready(&c->exchange);
}

/* Whether there are some for this attempt, in @c->credentials; else they are asked for. */
static bool take_credentials(struct aws_call *c)
{
        struct aws_credentials *credentials;

        if (c->credentials_are_new) { /* not asked for again, lest two that disagree about them go round in circles */
                c->credentials_are_new = false;
                return true;
        }
        credentials = aws_credentials_now(c->service->credentials);
        if (credentials) {
                aws_credentials_ref(credentials);
                aws_credentials_unref(c->credentials);
                c->credentials = credentials;
                return true;
        }
        c->waiting.done = on_credentials;
        list_init(&c->waiting.link);
        c->waits = true;
        aws_credentials_get(c->service->credentials, &c->waiting);
        return false;
}

static struct bytes text(const char *s)
{
        return bytes_from_string(s);
}

/* The headers of the signature; also what is sent, but for the session token, which only http may see, and the host. */
static int sign(struct aws_call *c)
{
        struct aws_service *s = c->service;
        struct secret *token = c->credentials->session_token;
        uint8_t *view = token ? secret_view_begin(token) : NULL;
        struct sigv4_header headers[] = {
                { BYTES_LITERAL("content-type"), BYTES_LITERAL("application/x-amz-json-1.1") },
                { BYTES_LITERAL("host"), text(s->host) },
                { BYTES_LITERAL("x-amz-date"), text(c->time) },
                { BYTES_LITERAL("x-amz-target"), text(operations[c->operation].target) },
                { BYTES_LITERAL("x-amz-security-token"), { view, token ? secret_size(token) : 0 } },
        };
        struct sigv4_request request = { .method = BYTES_LITERAL("POST"),
                                         .path = BYTES_LITERAL("/"),
                                         .n_headers = token ? 5 : 4,
                                         .headers = headers,
                                         .payload_hash = text(c->payload_hash),
                                         .normalize_path = true };
        int r = sigv4_sign(c->authorization, &s->key, &request, c->credentials->access_key_id,
                           c->credentials->secret_access_key, s->region, "kms", c->time);

        if (token)
                secret_view_end(token, &view);
        return r;
}

static void add_header(struct http_request *request, const char *name, struct bytes value, struct secret *secret)
{
        request->headers[request->n_headers++] = (struct http_header){ name, value, secret };
}

static int call_prepare(struct exchange *x, struct http_request *ret_request)
{
        struct aws_call *c = call_of(x);
        struct aws_service *s = c->service;
        int r;

        if (!take_credentials(c))
                return EXCHANGE_WAIT;
        if (s->key_owner != c->credentials) {
                sigv4_key_deinit(&s->key);
                aws_credentials_unref(s->key_owner);
                s->key_owner = aws_credentials_ref(c->credentials);
        }
        sigv4_time(c->time, clock_wall_usec() + (uint64_t)s->clock_offset_usec);
        r = sign(c);
        if (r < 0)
                return r;
        *ret_request = (struct http_request){ .method = "POST",
                                              .url = s->url,
                                              .transport = { s->config->ca_file, s->config->client_certificate,
                                                             s->config->client_key, s->config->proxy },
                                              .body = text(c->body ? c->body : ""),
                                              .body_secret = c->body_secret };
        add_header(ret_request, "Content-Type", BYTES_LITERAL("application/x-amz-json-1.1"), NULL);
        add_header(ret_request, "X-Amz-Target", text(operations[c->operation].target), NULL);
        add_header(ret_request, "X-Amz-Date", text(c->time), NULL);
        if (c->credentials->session_token)
                add_header(ret_request, "X-Amz-Security-Token", (struct bytes){ 0 }, c->credentials->session_token);
        add_header(ret_request, "Authorization", text(c->authorization), NULL);
        return 0;
}

/* ---- the answer ---- */

/* Take over the server's clock. */
static void mend_clock(struct aws_service *s, uint64_t date_wall_usec)
{
        s->clock_offset_usec = (int64_t)(date_wall_usec - clock_wall_usec());
        aws_credentials_note_offset(s->credentials, s->clock_offset_usec);
}

static void note_date(struct aws_service *s, uint64_t date_wall_usec)
{
        int64_t skew;

        if (date_wall_usec == 0)
                return;
        skew = (int64_t)(date_wall_usec - clock_wall_usec()) - s->clock_offset_usec;
        if (skew >= (int64_t)SKEW_USEC || skew <= -(int64_t)SKEW_USEC)
                mend_clock(s, date_wall_usec);
}

/* What can be done about @remedy was not done before: do it. */
static bool remedy(struct aws_call *c, enum aws_error_remedy what, const struct http_response *response)
{
        bool again;

        if (what == AWS_REMEDY_NONE)
                return false;
        if (what == AWS_REMEDY_CLOCK && response->date_wall_usec > 0 && !c->clock_was_mended) {
                mend_clock(c->service, response->date_wall_usec);
                c->clock_was_mended = true;
                return true;
        }
        /* Where the clock is right, a signature that does not fit was made with the wrong secret: it may have been corrected. */
        aws_credentials_reject(c->service->credentials, c->credentials);
        again = !c->credentials_were_renewed;
        c->credentials_were_renewed = true;
        return again;
}

/* "AWS KMS, asked for kms:Decrypt on KEY with credentials of SOURCE: WHAT HAPPENED (CODE, request ID). AWS says: …" */
static void explain(struct sentence *ret_why, const struct aws_call *c, const char *what, const char *code,
                    const char *message, const struct http_response *response)
{
        const char *request_id = http_response_header(response, "x-amzn-requestid");
        char status[32] = "";

        if (!*code)
                snprintf(status, sizeof(status), "status %d", response->status);
        sentence_set(ret_why, "AWS KMS, asked for %s on %s with credentials of %s: %s (%s%s%s%.64s)%s%.300s",
                     operations[c->operation].permission, c->key_id,
                     c->credentials->source ? c->credentials->source : "an unknown source", what, *code ? code : status,
                     *request_id ? ", request " : "", "", request_id, *message ? ". AWS says: " : "", message);
}

static void judge_error(struct aws_call *c, const struct http_response *response, struct exchange_verdict *ret_verdict)
{
        char code[AWS_ERROR_CODE_MAX + 1];
        const struct aws_error_class *class;
        struct sentence message;

        aws_error_read(code, &message, response);
        class = aws_error_class(code, response->status);
        ret_verdict->error = class->error;
        ret_verdict->action = remedy(c, class->remedy, response) ? EXCHANGE_AT_ONCE : class->action;
        explain(&ret_verdict->why, c, class->text, code, class->may_quote ? message.text : "", response);
}

static void refuse_answer(struct aws_call *c, const struct http_response *response,
                          struct exchange_verdict *ret_verdict, const char *what)
{
        ret_verdict->error = PROTO_ERROR_KMS_MISCONFIGURED;
        ret_verdict->action = EXCHANGE_END;
        explain(&ret_verdict->why, c, what, "", "", response);
}

static void no_memory(struct exchange_verdict *ret_verdict)
{
        ret_verdict->error = PROTO_ERROR_INTERNAL;
        ret_verdict->action = EXCHANGE_END;
        sentence_set(&ret_verdict->why,
                     "no memory is left for the answer of AWS KMS. Ask again when other requests have ended");
}

/* Take the key out of @body. Return: 0; 1 when the body is no good answer; -errno. */
static int take_plaintext(struct aws_call *c, struct secret *body)
{
        static const char *const keys[] = { "Plaintext" };
        struct json_secret found = { 0 };
        size_t n = 0;
        int r = json_secret_take(body, keys, 1, &found, 1, &n);

        if (r != 0)
                return r < 0 ? r : 1;
        if (operations[c->operation].plaintext) {
                r = n == 1 && found.value ? secret_from_base64(&c->plaintext, found.value, KEY_SIZE) : -EINVAL;
                if (r == -EINVAL)
                        r = 1;
        }
        json_secret_deinit(&found, n);
        return r;
}

static int take_blob(struct aws_call *c, const json_t *answer)
{
        const json_t *blob = json_object_get(answer, "CiphertextBlob");
        size_t n = json_string_length(blob);

        if (!json_is_string(blob) || n == 0 || n > BASE64_LENGTH(WRAPPED_MAX))
                return 1;
        c->blob = malloc(n);
        if (!c->blob)
                return -ENOMEM;
        return base64_parse(c->blob, &c->n_blob, json_string_value(blob), n) < 0 ? 1 : 0;
}

static json_t *parse_body(struct secret *body)
{
        uint8_t *view = secret_view_begin(body);
        json_t *answer = json_loadb((const char *)view, secret_size(body), JSON_REJECT_DUPLICATES, NULL);

        secret_view_end(body, &view);
        if (json_is_object(answer))
                return answer;
        json_decref(answer);
        return NULL;
}

static void judge_answer(struct aws_call *c, const struct http_response *response, struct exchange_verdict *ret_verdict)
{
        json_t *answer;
        int r = response->body ? take_plaintext(c, response->body) : 1;

        if (r != 0) {
                if (r < 0)
                        no_memory(ret_verdict);
                else
                        refuse_answer(c, response, ret_verdict,
                                      operations[c->operation].plaintext
                                              ? "the answer holds no key of 32 bytes. Check endpoint and proxy"
                                              : "the answer is not in the form of KMS. Check endpoint and proxy");
                return;
        }
        answer = parse_body(response->body);
        r = !answer || (operations[c->operation].plaintext && !json_is_string(json_object_get(answer, "Plaintext")));
        if (r == 0 && operations[c->operation].blob)
                r = take_blob(c, answer);
        ret_verdict->action = EXCHANGE_END;
        if (r < 0)
                no_memory(ret_verdict);
        else if (r > 0)
                refuse_answer(c, response, ret_verdict,
                              "the answer is not in the form of KMS. Check endpoint and proxy");
        else
                ret_verdict->error = c->accept(c, answer, &ret_verdict->why);
        json_decref(answer);
}

static void call_judge(struct exchange *x, const struct http_response *response, struct exchange_verdict *ret_verdict)
{
        struct aws_call *c = call_of(x);

        note_date(c->service, response->date_wall_usec);
        provider_request_id_set(&c->request_id, text(http_response_header(response, "x-amzn-requestid")));
        if (response->status == 200)
                judge_answer(c, response, ret_verdict);
        else
                judge_error(c, response, ret_verdict);
        secret_wipe_stack();
}

/* ---- begin and end ---- */

static void call_done(struct exchange *x, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct aws_call *c = call_of(x);

        if (c->waits)
                aws_credentials_cancel(c->service->credentials, &c->waiting);
        c->waits = false;
        c->done(c, error, sentence, retry_after_msec);
}

/* {"Plaintext":"…", and then @rest without its brace. */
static int body_with_key(struct secret **ret_body, const char *rest, struct secret *key)
{
        static const char head[] = "{\"Plaintext\":\"", tail[] = "\",";
        size_t n_head = sizeof(head) - 1, n_text = BASE64_LENGTH(KEY_SIZE), n_tail = sizeof(tail) - 1,
               n_rest = strlen(rest) - 1;
        uint8_t *to, *from;
        int r = n_head + n_text + n_tail + n_rest > HTTP_BODY_MAX
                        ? -E2BIG
                        : secret_new(ret_body, n_head + n_text + n_tail + n_rest);

        if (r < 0)
                return r;
        to = secret_view_begin(*ret_body);
        from = secret_view_begin(key);
        memcpy(to, head, n_head);
        base64_format((char *)to + n_head, from, KEY_SIZE); /* its NUL is written over */
        memcpy(to + n_head + n_text, tail, n_tail);
        memcpy(to + n_head + n_text + n_tail, rest + 1, n_rest);
        secret_view_end(key, &from);
        secret_view_end(*ret_body, &to);
        secret_wipe_stack();
        return 0;
}

static int body_make(struct aws_call *c, const json_t *request, struct secret *plaintext)
{
        char *dumped = json_dumps(request, JSON_COMPACT);
        uint8_t *view;
        int r;

        if (!dumped)
                return -ENOMEM;
        if (!plaintext) {
                c->body = dumped;
                return strlen(dumped) > HTTP_BODY_MAX ? -E2BIG : sigv4_hash(c->payload_hash, text(dumped));
        }
        r = body_with_key(&c->body_secret, dumped, plaintext);
        secret_free(dumped);
        if (r < 0)
                return r;
        view = secret_view_begin(c->body_secret);
        r = sigv4_hash(c->payload_hash, (struct bytes){ view, secret_size(c->body_secret) });
        secret_view_end(c->body_secret, &view);
        return r;
}

int aws_call_start(struct aws_call *c, struct aws_service *service, enum aws_operation operation, const json_t *request,
                   const char *key_id, struct secret *plaintext, uint64_t deadline_usec)
{
        int r;

        c->service = service;
        c->operation = operation;
        c->key_id = strdup(key_id);
        if (!c->key_id)
                return -ENOMEM;
        r = body_make(c, request, plaintext);
        if (r < 0)
                return r;
        c->exchange.prepare = call_prepare;
        c->exchange.judge = call_judge;
        c->exchange.done = call_done;
        c->exchange.deadline_usec = deadline_usec;
        return exchange_start(&service->queue, &c->exchange);
}

void aws_call_cancel(struct aws_call *c)
{
        if (c->waits)
                aws_credentials_cancel(c->service->credentials, &c->waiting);
        c->waits = false;
        exchange_cancel(&c->exchange);
}

void aws_call_deinit(struct aws_call *c)
{
        secret_unref(c->plaintext);
        secret_unref(c->body_secret);
        aws_credentials_unref(c->credentials);
        secret_free(c->body); /* jansson's allocator is set to it */
        free(c->blob);
        free(c->key_id);
}
