/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/vault-call.h"

#include <errno.h>
#include <stdarg.h>

static struct vault_call *call_of(struct exchange *x)
{
        return list_entry(x, struct vault_call, exchange);
}

void vault_call_refuse(struct vault_call *c, struct exchange_verdict *verdict, enum proto_error error, enum exchange_action action,
                       const char *format, ...)
{
        char text[600];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        verdict->error = error;
        verdict->action = action;
        sentence_set(&verdict->why, "Vault at %s: %s", c->server->host, text);
}

/* ---- one attempt ---- */

static int call_prepare(struct exchange *x, struct http_request *ret_request)
{
        struct vault_call *c = call_of(x);
        int r = c->authorize ? c->authorize(c) : 0;

        if (r != 0)
                return r;
        vault_server_request(c->server, ret_request, c->method, c->token);
        ret_request->url = c->redirection ? c->redirection : c->url;
        ret_request->body_secret = c->body;
        return 0;
}

/* Another node is to be asked: once, and only where the configuration allows. It is then asked for the rest of this call. */
static void follow(struct vault_call *c, const struct http_response *response, struct exchange_verdict *verdict)
{
        const char *location = http_response_header(response, "location");

        if (!c->redirection && vault_server_may_follow(c->server, c->path, location) && (c->redirection = strdup(location))) {
                verdict->error = PROTO_ERROR_KMS_UNREACHABLE; /* where it is not granted any more: nodes that send to and fro */
                return;
        }
        if (c->redirection)
                vault_call_refuse(c, verdict, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT,
                                  "the node that it sends to is a standby too. The cluster is choosing an active node; check `vault status`");
        else
                vault_call_refuse(c, verdict, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END,
                                  "it is a standby and sends lkm-kms to \"%.200s\", which is not followed. Add that host to redirect_hosts "
                                  "if it is a node of this Vault",
                                  location);
}

static void judge_failure(struct vault_call *c, const struct http_response *response, const struct vault_answer *answer,
                          struct exchange_verdict *verdict)
{
        const struct vault_meaning *meaning = vault_error_find(c->kind, response->status, answer->text);
        struct vault_names names = c->server->names;

        names.permission = c->permission ? c->permission : "";
        verdict->error = meaning->error;
        verdict->action = meaning->action;
        c->special = meaning->special;
        vault_error_sentence(&verdict->why, meaning, &names, response->status, answer->text);
        switch (meaning->special) {
        case VAULT_SPECIAL_FOLLOW:
                follow(c, response, verdict);
                break;
        case VAULT_SPECIAL_TOKEN:
                c->denial = verdict->why;
                if (!c->is_in_doubt || !c->is_in_doubt(c))
                        verdict->action = EXCHANGE_END;
                break;
        case VAULT_SPECIAL_ALARM:
        case VAULT_SPECIAL_NONE:
                break;
        }
}

static void judge_answer(struct vault_call *c, const struct http_response *response, const struct vault_answer *answer,
                         struct exchange_verdict *verdict)
{
        bool success = response->status >= 200 && response->status < 300;

        /* A batch of which some or all items failed has status 400, and no errors but those of the items. */
        if (!(success && (answer->root || !response->body)) && !answer->batch) {
                judge_failure(c, response, answer, verdict);
                return;
        }
        if (*answer->ignored) {
                vault_call_refuse(c, verdict, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END,
                                  "it ignored a part of the request (%s), so nothing that it gave is used. Update Vault, and check that %s is a "
                                  "transit engine",
                                  answer->ignored, c->server->names.mount);
                return;
        }
        c->read(c, answer, verdict);
}

static void call_judge(struct exchange *x, const struct http_response *response, struct exchange_verdict *ret_verdict)
{
        struct vault_call *c = call_of(x);
        struct vault_answer answer;

        c->status = response->status;
        c->special = VAULT_SPECIAL_NONE;
        *ret_verdict = (struct exchange_verdict){ .error = PROTO_ERROR_NONE };
        if (vault_answer_parse(&answer, response->body) < 0)
                vault_call_refuse(c, ret_verdict, PROTO_ERROR_INTERNAL, EXCHANGE_END,
                                  "no locked memory is left for its answer. Ask again when other requests have ended");
        else
                judge_answer(c, response, &answer, ret_verdict);
        provider_request_id_set(&c->request_id, vault_answer_request_id(&answer));
        vault_answer_deinit(&answer);
        if (ret_verdict->error && ret_verdict->action == EXCHANGE_REPEAT) {
                free(c->redirection);
                c->redirection = NULL;
        }
        secret_wipe_stack();
}

static void call_done(struct exchange *x, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct vault_call *c = call_of(x);

        c->started = false;
        list_unlink(&c->key_link);
        list_unlink(&c->auth_link);
        c->done(c, error, sentence, retry_after_msec);
}

/* ---- begin and end ---- */

int vault_call_init(struct vault_call *c, const struct vault_server *server, enum vault_kind kind, const char *method, char *path)
{
        *c = (struct vault_call){ .server = server, .kind = kind, .method = method, .path = path };
        list_init(&c->key_link);
        list_init(&c->auth_link);
        c->url = path ? vault_server_url(server, path) : NULL;
        if (c->url)
                return 0;
        vault_call_deinit(c);
        return -ENOMEM;
}

void vault_call_deinit(struct vault_call *c)
{
        c->body = secret_unref(c->body);
        c->token = secret_unref(c->token);
        free(TAKE_PTR(c->path));
        free(TAKE_PTR(c->url));
        free(TAKE_PTR(c->redirection));
}

int vault_call_start(struct vault_call *c, struct exchange_queue *queue, uint64_t deadline_usec)
{
        int r;

        c->exchange = (struct exchange){ .prepare = call_prepare, .judge = call_judge, .done = call_done, .deadline_usec = deadline_usec };
        r = exchange_start(queue, &c->exchange);
        c->started = r == 0;
        return r;
}

void vault_call_cancel(struct vault_call *c)
{
        if (!c->started)
                return;
        c->started = false;
        list_unlink(&c->key_link);
        list_unlink(&c->auth_link);
        exchange_cancel(&c->exchange);
}

void vault_call_ready(struct vault_call *c)
{
        exchange_ready(&c->exchange);
}

void vault_call_fail(struct vault_call *c, enum proto_error error, const char *sentence)
{
        exchange_fail(&c->exchange, error, sentence);
}
