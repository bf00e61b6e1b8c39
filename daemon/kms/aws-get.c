/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-get.h"

#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/aws-error.h"

struct aws_get {
        const struct aws_surroundings *around;
        struct aws_get_request request; /* url, value and source are owned */
        struct aws_way_call *call;
        struct http_call http_call;
        struct event *timer;
        unsigned n_attempts;
};

struct aws_get *aws_get_free(struct aws_get *get)
{
        if (!get)
                return NULL;
        http_cancel(get->around->http, &get->http_call);
        if (get->timer)
                event_free(get->timer);
        secret_unref(get->request.value);
        free((char *)(uintptr_t)get->request.url);
        free((char *)(uintptr_t)get->request.source);
        free(get);
        return NULL;
}

static int attempt(struct aws_get *get)
{
        struct http_request request = { .method = "GET",
                                        .url = get->request.url,
                                        .transport = *get->request.transport,
                                        .n_headers = 1,
                                        .headers = { { .name = "Accept", .value = BYTES_LITERAL("application/json") } },
                                        .timeout_usec = get->request.timeout_usec };

        if (get->request.header)
                request.headers[request.n_headers++] = (struct http_header){ .name = get->request.header, .secret = get->request.value };
        get->n_attempts++;
        return http_start(get->around->http, &get->http_call, &request);
}

static void fail(struct aws_get *get, enum proto_error error, const struct sentence *why)
{
        get->call->done(get->call, NULL, error, why->text);
}

/* Go on later, or end. */
static void repeat(struct aws_get *get, enum proto_error error, const struct sentence *why)
{
        struct timeval pause = { .tv_sec = (time_t)(get->request.pause_usec / USEC_PER_SEC),
                                 .tv_usec = (suseconds_t)(get->request.pause_usec % USEC_PER_SEC) };

        if (error != PROTO_ERROR_KMS_UNREACHABLE || get->n_attempts >= get->request.n_attempts || evtimer_add(get->timer, &pause) < 0)
                fail(get, error, why);
}

static void on_pause(evutil_socket_t fd, short what, void *userdata)
{
        struct aws_get *get = userdata;
        struct sentence why;

        if (attempt(get) == 0)
                return;
        sentence_set(&why, "%s cannot be asked: no memory is left. Try again when other requests have ended", get->request.who);
        fail(get, PROTO_ERROR_KMS_UNREACHABLE, &why);
}

static void take_refusal(struct aws_get *get, const struct http_response *response)
{
        bool fault = response->status >= 500 || response->status == 429;
        char code[AWS_ERROR_CODE_MAX + 1];
        struct sentence message, why;

        aws_error_read(code, &message, response);
        sentence_set(&why, "%s answered with status %d%s%s%s%.200s. %s", get->request.who, response->status, *code ? ", " : "", code,
                     *message.text ? ": " : "", message.text, fault ? "It is asked again" : get->request.hint);
        repeat(get, fault ? PROTO_ERROR_KMS_UNREACHABLE : PROTO_ERROR_KMS_CREDENTIALS, &why);
}

static void on_answer(struct http_call *call, const struct http_response *response)
{
        struct aws_get *get = list_entry(call, struct aws_get, http_call);
        _cleanup_(aws_credentials_unrefp) struct aws_credentials *credentials = NULL;
        struct sentence what, why;

        if (response->failure != HTTP_FAILURE_NONE) {
                sentence_set(&why, "%s: %s", get->request.who, response->what);
                repeat(get, aws_way_failure(response->failure), &why);
                return;
        }
        if (response->status != 200) {
                take_refusal(get, response);
                return;
        }
        if (aws_answer_json(&credentials, response->body, get->request.kind, get->request.source, &what) < 0) {
                sentence_set(&why, "%s %s", get->request.who, what.text);
                fail(get, PROTO_ERROR_KMS_CREDENTIALS, &why);
                return;
        }
        get->call->done(get->call, credentials, PROTO_ERROR_NONE, "");
}

int aws_get_start(struct aws_get **ret_get, const struct aws_surroundings *around, const struct aws_get_request *request,
                  struct aws_way_call *call, struct sentence *ret_why)
{
        _cleanup_(aws_get_freep) struct aws_get *get = calloc(1, sizeof(*get));
        int r = -ENOMEM;

        if (get) {
                get->around = around;
                get->request = *request;
                get->request.url = strdup(request->url);
                get->request.source = strdup(request->source);
                get->request.value = request->value ? secret_ref(request->value) : NULL;
                get->call = call;
                get->http_call.done = on_answer;
                get->timer = evtimer_new(around->base, on_pause, get);
                if (get->request.url && get->request.source && get->timer)
                        r = attempt(get);
        }
        if (r < 0) {
                sentence_set(ret_why, "%s cannot be asked: no memory is left. Try again when other requests have ended", request->who);
                return r;
        }
        *ret_get = TAKE_PTR(get);
        return 0;
}
