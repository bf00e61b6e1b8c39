/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: the two listeners, plain and TLS, and the way of a request: which service, which fault, what answer, when.
 */
#pragma once

#include <event2/event.h>
#include <openssl/types.h>
#include <sys/socket.h>

struct server;

/** server_new() - @base and @context are borrowed; @context may be NULL without a TLS listener. */
struct server *server_new(struct event_base *base, SSL_CTX *context);
void server_free(struct server *s);
/**
 * server_listen() - one more address
 * @ret_port: the port that was taken, if the address asks for port 0
 * Return: 0 or -errno.
 */
int server_listen(struct server *s, const struct sockaddr *address, int n_address, int with_tls, unsigned *ret_port);
