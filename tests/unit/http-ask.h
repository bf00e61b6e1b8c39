/* SPDX-License-Identifier: Apache-2.0 */
/* http-ask: the fixture of the tests of http: a client, a server, and one way to ask. */
#pragma once

#include <check.h>
#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/http.h"
#include "tests/unit/http-server.h"
#include "tests/unit/suite.h"

/* One request and how it ended. */
struct outcome {
        struct http_call call;
        unsigned n;
        enum http_failure failure;
        int status;
        struct secret *body;
        char what[1024], location[2200], error_type[300], request_id[300];
        uint64_t date_wall_usec;
        uint32_t retry_after_msec;
        void (*then)(struct outcome *o);
};

#define PLENTY (30 * USEC_PER_SEC)

extern struct event_base *base;
extern struct http *http;
extern struct http_server server;
extern char url[256], ca_file[128];

/** setup() - arena, loop, client, and a server of plain HTTP at @url. */
void setup(void);
/** teardown() - checks that no secret is left. */
void teardown(void);
/** use_server() - another one, at @url; with @tls, @ca_file is its authority. */
void use_server(bool tls);

struct outcome *outcome_new(void);
void outcome_free(struct outcome *o);
/** wait_for() - let the loop run until @o has ended. */
void wait_for(struct outcome *o);
/** get() - a request for @url. */
struct http_request get(void);
/** ask() - from beginning to end. */
struct outcome *ask(const struct http_request *request);
/** ask_in_vain() - where connections are taken but nothing is answered: short, and longer where this machine is too slow even for the connection. */
struct outcome *ask_in_vain(struct http_request *request);
/** answer_with() - the server's script from now on; it counts from 0 again. */
void answer_with(const struct http_server_reply *script, size_t n);
/** ask_answered() - ask one question that is answered by these bytes. */
struct outcome *ask_answered(const char *text, bool close);
bool body_is(const struct outcome *o, const char *text);
struct secret *secret_of(const char *text);
