/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http-transfer: one request and its answer, inside of http: what the files http*.c share. Nobody else includes this.
 */
#pragma once

#include <curl/curl.h>

#include "common/list.h"
#include "daemon/kms/http.h"

/** "host:port", the longest: a name of 253 characters, or an address in brackets. */
#define HTTP_HOST_SIZE 264

/** A URL, taken apart. */
struct http_url {
        bool https;
        char name[256]; /* without port; an IPv6 address in brackets */
        char host[HTTP_HOST_SIZE]; /* as in the Host header */
};
/** http_url_parse() - Return: 0; -EINVAL for another scheme, a user name in it, or no URL at all. */
int http_url_parse(struct http_url *ret_url, const char *url);
/** http_url_allowed() - https, or http to this machine or to a metadata service. */
bool http_url_allowed(const struct http_url *url);

/** Response headers that are kept, and how much of them: a longer one is left out. */
struct http_kept_headers {
        char location[2048];
        char error_type[256];
        char request_id[128 + 1];
};

struct http_transfer {
        struct http *http;
        struct list link;
        struct http_call *call; /* its owner cancels it before it goes away */
        CURL *easy;
        struct curl_slist *headers; /* may hold secrets: gone as soon as the transfer has ended */
        struct secret *request_body;
        uint8_t *request_view; /* libcurl reads the body from here */
        uint64_t timeout_usec;

        bool met, connected; /* there was somebody to begin TLS with; the connection is ready for the request */
        bool has_head; /* the answer's headers are complete */
        struct secret *body;
        size_t n_body, n_room; /* bytes received; what the slot of @body holds */
        size_t n_header_bytes;
        struct http_kept_headers kept;
        uint64_t date_usec, retry_after_date_usec;
        uint32_t retry_after_msec, retry_after_amz_msec;

        enum http_failure failure; /* found by us and not by libcurl */
        char host[HTTP_HOST_SIZE];
        char proxy[HTTP_HOST_SIZE]; /* "" without */
        char ca_file[256]; /* for people: may be cut */
        char what[640];
        char error[CURL_ERROR_SIZE]; /* libcurl's: what went wrong with a connection or with TLS */
};

/** transfer_setup() - make the easy handle for @request. Return: 0, also when the request was refused (then @t->failure); -ENOMEM; -ENOBUFS. */
int transfer_setup(struct http_transfer *t, const struct http_request *request);
/** transfer_refuse() - end with HTTP_FAILURE_REFUSED and this sentence. */
void transfer_refuse(struct http_transfer *t, const char *format, ...) _printf_(2, 3);
/** transfer_listen() - have the answer's headers and body come here. Return: libcurl's. */
CURLcode transfer_listen(struct http_transfer *t);
/** transfer_answer() - what came out of it: fill *@ret_response, which borrows from @t. */
void transfer_answer(struct http_transfer *t, CURLcode code, struct http_response *ret_response);
