/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http-server: a server for unit tests, on the test's own event loop. It keeps what it was asked and answers by a script. With a certificate
 * of its own making, when the test wants TLS.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>
#include <stddef.h>

/** One answer: what to send, byte for byte, and what to do then. */
struct http_server_reply {
        const char *text; /* NULL: nothing, ever */
        bool close;       /* end the connection after it */
};

struct http_server {
        struct event_base *base;
        unsigned port;
        bool slams; /* closes what it accepts */
        const struct http_server_reply *script; /* the last one is for all that follow; nothing is sent while this is NULL */
        size_t n_script;
        unsigned n_connections, n_requests;
        char request[65536]; /* the last one, with its body, and a NUL */
        void (*asked)(struct http_server *s); /* before each answer: may choose a script by what was asked; NULL = none */
        void *listener, *tls;
        void *connections; /* of those that are open */
};

/** http_server_init() - listen on a port of 127.0.0.1. @ca_file: where to write the certificate, for 127.0.0.1, and its key; NULL for plain HTTP. */
void http_server_init(struct http_server *s, struct event_base *base, const char *ca_file);
void http_server_deinit(struct http_server *s);
/** http_server_demand() - serve only clients that show the certificate in @ca_file. */
void http_server_demand(struct http_server *s, const char *ca_file);
/** http_server_drop() - close all connections. */
void http_server_drop(struct http_server *s);
