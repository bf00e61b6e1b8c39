/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request: one HTTP request as the services see it, and the answer that they make for it. It knows no service.
 */
#pragma once

#include <event2/http.h>
#include <openssl/types.h>

#include "tests/mock-kms/text.h"

enum { REQUEST_NAME_MAX = 160, ANSWER_HEADERS_MAX = 4 };

struct request {
        struct evhttp_request *http; /* borrowed */
        const char *method; /* "GET" … */
        char *path; /* as it came, without the query */
        char *query; /* "" without one */
        struct bytes body; /* borrowed from @http */
        SSL *tls; /* borrowed; NULL on the plain listener */

        /* What the service says that it is, before it decides anything: for faults and the log. */
        char operation[REQUEST_NAME_MAX];
        char region[32]; /* "" where there is none */
};

struct answer {
        int status;
        const char *content_type; /* static */
        char *body;
        size_t n_body;
        struct {
                const char *name; /* static */
                char *value;
        } headers[ANSWER_HEADERS_MAX];
        size_t n_headers;
        char request_id[40]; /* that the service gave out with it, for the log; "" where there is none */
};

/** request_init() - Return: 0, or -EINVAL for a method or target that no service could take. */
int request_init(struct request *r, struct evhttp_request *http);
void request_deinit(struct request *r);
/** request_header() - the first header of that name in any case, or NULL. */
const char *request_header(const struct request *r, const char *name);
/** request_json() - the body as a JSON object; {} for an empty one and for null. Return: a new reference, or NULL. */
json_t *request_json(const struct request *r);
/** request_query() - the decoded value of a parameter of the query, to release with free(), or NULL. */
char *request_query(const struct request *r, const char *name);

void answer_deinit(struct answer *a);
/** answer_text() - replaces what was said before; @text is copied. */
void answer_text(struct answer *a, int status, const char *content_type, const char *text);
/** answer_json() - takes @body over. */
void answer_json(struct answer *a, int status, const char *content_type, json_t *body);
/** answer_request_id() - for the log: by what name the client knows the answer. */
void answer_request_id(struct answer *a, const char *id);
void answer_header(struct answer *a, const char *name, const char *value);
