/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-script: a server for unit tests, on the test's own event loop, that answers each path by a list of its own and keeps what it was asked. It
 * knows nothing of Vault.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

#define SCRIPT_RULES_MAX 24
#define SCRIPT_ANSWERS_MAX 12

struct script_answer {
        int status; /* 0: none, ever */
        const char *body, *location, *retry_after; /* NULL = none */
        /** make() - in place of @body: heap text for what was asked. */
        char *(*make)(const char *asked);
};

/** What one path is answered, and was asked. */
struct script_rule {
        const char *path; /* after /v1/ */
        size_t n_answers, n_asked;
        struct script_answer answers[SCRIPT_ANSWERS_MAX]; /* in order; the last one again and again */
        char method[8], token[300], namespace[64], is_request[8], body[32768]; /* of the last request */
};

struct script {
        struct event_base *base;
        void *http; /* struct evhttp */
        unsigned port;
        size_t n_rules, n_asked, n_unknown;
        struct script_rule rules[SCRIPT_RULES_MAX];
};

void script_init(struct script *s, struct event_base *base);
void script_deinit(struct script *s);
/** script_rule() - what @path is asked; made when it is new. */
struct script_rule *script_rule(struct script *s, const char *path);
/** script_answer() - add an answer; script_forget() - take all of @path's away. */
void script_answer(struct script *s, const char *path, int status, const char *body);
void script_answer_with(struct script *s, const char *path, struct script_answer answer);
void script_forget(struct script *s, const char *path);
