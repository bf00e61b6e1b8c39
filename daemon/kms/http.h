/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http: HTTP requests on the event loop, by libcurl's multi socket interface, for what lkm-kms asks of a KMS and of those who give it
 * credentials. One client for the process, which keeps connections warm. TLS 1.2 or newer, always verified; no redirect is followed;
 * the environment's proxies are ignored. Answers lie in locked memory. Knows nothing of what it carries, and does not repeat:
 * exchange.h does.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>

#include "common/bytes.h"
#include "common/secret.h"

/** Largest body of an answer, in bytes. */
#define HTTP_BODY_MAX SECRET_BODY_MAX
#define HTTP_CALLS_MAX 64

struct http;

/** http_global_init() - hand libcurl the zeroing allocators; before any other call of it, and before threads. Return: 0 or -EIO. */
int http_global_init(void);
/** http_new() - Return: 0, -ENOMEM or -EIO. */
int http_new(struct http **ret_http, struct event_base *base);
/** http_free() - ends what is under way: each call's done() comes with HTTP_FAILURE_ENDED. */
struct http *http_free(struct http *h);
DEFINE_CLEANUP(struct http *, http_free)

/** Where a request goes and how the connection is made. Borrowed for the call of http_start(). */
struct http_transport {
        const char *ca_file;      /* PEM; NULL: Debian's bundle of public authorities */
        const char *client_certificate, *client_key; /* PEM, or NULL both */
        const char *proxy;        /* URL, or NULL */
};

/** One header line. @secret: its value is a secret, in place of @value. */
struct http_header {
        const char *name;
        struct bytes value;
        struct secret *secret;
};

#define HTTP_HEADERS_MAX 12

struct http_request {
        const char *method; /* "GET", "POST", "PUT", "LIST" */
        const char *url;    /* https://; http:// only to loopback and to the link-local addresses of metadata services (C6, C7 of
                               their documentation: 169.254.169.254, 169.254.170.2, 169.254.170.23, fd00:ec2::254, fd00:ec2::23) */
        struct http_transport transport;
        size_t n_headers;
        struct http_header headers[HTTP_HEADERS_MAX];
        struct bytes body;   /* copied into locked memory by http_start() … */
        struct secret *body_secret; /* … or referenced: what carries a secret */
        uint64_t timeout_usec; /* for all of it; the connection is given a part of that */
};

enum http_failure {
        HTTP_FAILURE_NONE,
        HTTP_FAILURE_RESOLVE, /* the name has no address */
        HTTP_FAILURE_CONNECT, /* nobody answers there */
        HTTP_FAILURE_TLS,     /* not the server it claims to be, or no common TLS */
        HTTP_FAILURE_TIMEOUT,
        HTTP_FAILURE_CUT,     /* the connection ended inside the answer, or the answer is not HTTP */
        HTTP_FAILURE_TOO_LARGE,
        HTTP_FAILURE_REFUSED, /* the URL is not allowed: a bug, or a server that sends us elsewhere */
        HTTP_FAILURE_LOCAL,   /* want of memory */
        HTTP_FAILURE_ENDED,   /* cancelled */
};

/** What came back. Borrowed for the call of done(). */
struct http_response {
        enum http_failure failure;
        const char *what;     /* with a failure: what went wrong and with which host, for people; never a secret */
        int status;           /* 0 with a failure */
        struct secret *body;  /* NULL when empty; take a reference to keep it */
        const struct http_transfer *transfer_; /* private; NULL in an answer that was made by hand */
        uint64_t date_wall_usec; /* of the Date header; 0 = none. Only with a status, so from a verified peer */
        uint32_t retry_after_msec; /* Retry-After or x-amz-retry-after; 0 = none */
};
/** http_response_header() - a header that lkm knows (x-amzn-errortype, x-amzn-requestid, location), or "". Borrowed. */
const char *http_response_header(const struct http_response *r, const char *name);

/** One request under way; embedded by its owner. */
struct http_call {
        /** done() - once, from the event loop; the owner may free the call, and start others. */
        void (*done)(struct http_call *call, const struct http_response *response);
        struct http_transfer *transfer; /* private; NULL when nothing is under way */
};

/** http_start() - begin @request; never ends inside this function. Return: 0, -ENOMEM, -ENOBUFS (no locked memory, or HTTP_CALLS_MAX). */
int http_start(struct http *h, struct http_call *call, const struct http_request *request);
/** http_cancel() - end @call without done(). Allowed when nothing is under way. */
void http_cancel(struct http *h, struct http_call *call);

/** http_host() - the host of @url, with ":PORT" when that is not the scheme's own, as the Host header has it. Return: 0, or -EINVAL when it is no
 *  URL or does not fit. */
int http_host(const char *url, char *ret_host, size_t n);
