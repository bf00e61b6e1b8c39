/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/request.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/keyvalq_struct.h>

static const char *method_name(enum evhttp_cmd_type type)
{
        switch (type) {
        case EVHTTP_REQ_GET:
                return "GET";
        case EVHTTP_REQ_POST:
                return "POST";
        case EVHTTP_REQ_PUT:
                return "PUT";
        case EVHTTP_REQ_DELETE:
                return "DELETE";
        case EVHTTP_REQ_HEAD:
                return "HEAD";
        default:
                return NULL;
        }
}

int request_init(struct request *r, struct evhttp_request *http)
{
        const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(http);
        struct evbuffer *input = evhttp_request_get_input_buffer(http);
        const char *path = uri ? evhttp_uri_get_path(uri) : NULL, *query = uri ? evhttp_uri_get_query(uri) : NULL;

        *r = (struct request){ .http = http, .method = method_name(evhttp_request_get_command(http)) };
        if (!r->method || !path)
                return -EINVAL;
        r->path = text_copy(*path ? path : "/");
        r->query = text_copy(query ? query : "");
        r->body.n = evbuffer_get_length(input);
        r->body.data = evbuffer_pullup(input, -1);
        r->tls = bufferevent_openssl_get_ssl(evhttp_connection_get_bufferevent(evhttp_request_get_connection(http)));
        return 0;
}

void request_deinit(struct request *r)
{
        free(r->path);
        free(r->query);
}

const char *request_header(const struct request *r, const char *name)
{
        return evhttp_find_header(evhttp_request_get_input_headers(r->http), name);
}

json_t *request_json(const struct request *r)
{
        json_t *body;

        if (r->body.n == 0)
                return json_take(json_object());
        body = json_loadb((const char *)r->body.data, r->body.n,
                          JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);
        if (json_is_null(body))
                return json_take(json_object());
        if (body && !json_is_object(body)) {
                json_decref(body);
                return NULL;
        }
        return body;
}

char *request_query(const struct request *r, const char *name)
{
        struct evkeyvalq pairs;
        const char *value;
        char *copy;

        if (evhttp_parse_query_str(r->query, &pairs) < 0)
                return NULL;
        value = evhttp_find_header(&pairs, name);
        copy = value ? text_copy(value) : NULL;
        evhttp_clear_headers(&pairs);
        return copy;
}

void answer_deinit(struct answer *a)
{
        free(a->body);
        for (size_t i = 0; i < a->n_headers; i++)
                free(a->headers[i].value);
        *a = (struct answer){ 0 };
}

void answer_text(struct answer *a, int status, const char *content_type, const char *text)
{
        a->status = status;
        a->content_type = content_type;
        text_set(&a->body, text);
        a->n_body = strlen(text);
}

void answer_json(struct answer *a, int status, const char *content_type, json_t *body)
{
        _cleanup_(freep) char *text = json_dumps(json_take(body), JSON_COMPACT);

        if (!text)
                abort();
        json_decref(body);
        answer_text(a, status, content_type, text);
}

void answer_request_id(struct answer *a, const char *id)
{
        snprintf(a->request_id, sizeof(a->request_id), "%s", id);
}

void answer_header(struct answer *a, const char *name, const char *value)
{
        if (a->n_headers == ANSWER_HEADERS_MAX)
                abort();
        a->headers[a->n_headers].name = name;
        a->headers[a->n_headers++].value = text_copy(value);
}
