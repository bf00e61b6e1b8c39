/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vault-script.h"

#include <arpa/inet.h>
#include <check.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "common/cleanup.h"

struct script_rule *script_rule(struct script *s, const char *path)
{
        for (size_t i = 0; i < s->n_rules; i++)
                if (strcmp(s->rules[i].path, path) == 0)
                        return &s->rules[i];
        ck_assert_uint_lt(s->n_rules, SCRIPT_RULES_MAX);
        s->rules[s->n_rules].path = path;
        return &s->rules[s->n_rules++];
}

void script_answer_with(struct script *s, const char *path, struct script_answer answer)
{
        struct script_rule *rule = script_rule(s, path);

        ck_assert_uint_lt(rule->n_answers, SCRIPT_ANSWERS_MAX);
        rule->answers[rule->n_answers++] = answer;
}

void script_answer(struct script *s, const char *path, int status, const char *body)
{
        script_answer_with(s, path, (struct script_answer){ .status = status, .body = body });
}

void script_forget(struct script *s, const char *path)
{
        struct script_rule *rule = script_rule(s, path);

        *rule = (struct script_rule){ .path = rule->path };
}

static void keep(char *ret_text, size_t n, const char *text)
{
        snprintf(ret_text, n, "%s", text ? text : "");
}

static void note(struct script_rule *rule, struct evhttp_request *request)
{
        static const struct {
                enum evhttp_cmd_type command;
                const char *name;
        } methods[] = { { EVHTTP_REQ_GET, "GET" }, { EVHTTP_REQ_POST, "POST" } };
        struct evkeyvalq *headers = evhttp_request_get_input_headers(request);
        struct evbuffer *body = evhttp_request_get_input_buffer(request);
        size_t n = evbuffer_get_length(body);

        rule->n_asked++;
        ck_assert_uint_lt(n, sizeof(rule->body));
        evbuffer_copyout(body, rule->body, n);
        rule->body[n] = '\0';
        keep(rule->token, sizeof(rule->token), evhttp_find_header(headers, "X-Vault-Token"));
        keep(rule->namespace, sizeof(rule->namespace), evhttp_find_header(headers, "X-Vault-Namespace"));
        keep(rule->is_request, sizeof(rule->is_request), evhttp_find_header(headers, "X-Vault-Request"));
        for (size_t i = 0; i < ELEMENTSOF(methods); i++)
                if (methods[i].command == evhttp_request_get_command(request))
                        keep(rule->method, sizeof(rule->method), methods[i].name);
}

static void on_request(struct evhttp_request *request, void *userdata)
{
        struct script *s = userdata;
        const char *uri = evhttp_request_get_uri(request);
        struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
        const struct script_answer *answer;
        struct script_rule *rule = NULL;
        struct evbuffer *body;
        size_t i;

        s->n_asked++;
        for (i = 0; i < s->n_rules && !rule; i++)
                if (strncmp(uri, "/v1/", 4) == 0 && strcmp(uri + 4, s->rules[i].path) == 0 && s->rules[i].n_answers > 0)
                        rule = &s->rules[i];
        if (!rule) {
                s->n_unknown++;
                evhttp_send_reply(request, 404, NULL, NULL);
                return;
        }
        note(rule, request);
        answer = &rule->answers[rule->n_asked <= rule->n_answers ? rule->n_asked - 1 : rule->n_answers - 1];
        if (answer->status == 0)
                return; /* the request goes away with the connection */
        body = evbuffer_new();
        if (answer->location)
                evhttp_add_header(headers, "Location", answer->location);
        if (answer->retry_after)
                evhttp_add_header(headers, "Retry-After", answer->retry_after);
        if (answer->make) {
                _cleanup_(freep) char *text = answer->make(rule->body);

                evbuffer_add(body, text, strlen(text));
        } else if (answer->body) {
                evbuffer_add(body, answer->body, strlen(answer->body));
        }
        evhttp_send_reply(request, answer->status, NULL, body);
        evbuffer_free(body);
}

void script_init(struct script *s, struct event_base *base)
{
        struct evhttp_bound_socket *socket;
        struct evhttp *http = evhttp_new(base);

        *s = (struct script){ .base = base, .http = http };
        ck_assert_ptr_nonnull(http);
        evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
        evhttp_set_gencb(http, on_request, s);
        socket = evhttp_bind_socket_with_handle(http, "127.0.0.1", 0);
        ck_assert_ptr_nonnull(socket);
        {
                struct sockaddr_in address;
                socklen_t n = sizeof(address);

                ck_assert_int_eq(getsockname(evhttp_bound_socket_get_fd(socket), (struct sockaddr *)&address, &n), 0);
                s->port = ntohs(address.sin_port);
        }
}

void script_deinit(struct script *s)
{
        evhttp_free(s->http);
}
