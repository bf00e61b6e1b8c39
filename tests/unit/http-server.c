/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http-server.h"

#include <arpa/inet.h>
#include <check.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/listener.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "common/cleanup.h"

struct connection {
        struct http_server *server;
        struct bufferevent *stream;
        struct connection *next;
        bool closing;
};

static void connection_close(struct connection *c)
{
        struct connection **link = (struct connection **)&c->server->connections;

        while (*link != c)
                link = &(*link)->next;
        *link = c->next;
        bufferevent_free(c->stream);
        free(c);
}

static void reply(struct connection *c)
{
        struct http_server *s = c->server;
        size_t i = s->n_requests++;
        const struct http_server_reply *r;

        if (s->asked)
                s->asked(s);
        if (!s->script)
                return;
        r = &s->script[i < s->n_script ? i : s->n_script - 1];
        c->closing = r->close;
        if (r->text && *r->text)
                bufferevent_write(c->stream, r->text, strlen(r->text));
        else if (r->close)
                connection_close(c);
}

/* One whole request, or wait for more. */
static void on_read(struct bufferevent *stream, void *userdata)
{
        struct connection *c = userdata;
        struct http_server *s = c->server;
        struct evbuffer *input = bufferevent_get_input(stream);
        size_t n_body = 0, n_head;
        const char *length;
        char *end;

        n_head = (size_t)evbuffer_copyout(input, s->request, sizeof(s->request) - 1);
        s->request[n_head] = '\0';
        end = strstr(s->request, "\r\n\r\n");
        if (!end)
                return;
        length = strstr(s->request, "Content-Length: ");
        if (length && length < end)
                n_body = strtoul(length + strlen("Content-Length: "), NULL, 10);
        n_body += (size_t)(end + 4 - s->request);
        ck_assert_uint_lt(n_body, sizeof(s->request));
        if (evbuffer_get_length(input) < n_body)
                return;
        s->request[n_body] = '\0';
        evbuffer_drain(input, n_body);
        reply(c);
}

static void on_written(struct bufferevent *stream, void *userdata)
{
        struct connection *c = userdata;

        if (c->closing && evbuffer_get_length(bufferevent_get_output(stream)) == 0)
                connection_close(c);
}

static void on_event(struct bufferevent *stream, short what, void *userdata)
{
        if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
                connection_close(userdata);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int n, void *userdata)
{
        struct http_server *s = userdata;
        struct connection *c;

        if (s->slams) {
                close(fd);
                return;
        }
        c = calloc(1, sizeof(*c));
        ck_assert_ptr_nonnull(c);
        c->server = s;
        if (s->tls)
                c->stream = bufferevent_openssl_socket_new(s->base, fd, SSL_new(s->tls), BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
        else
                c->stream = bufferevent_socket_new(s->base, fd, BEV_OPT_CLOSE_ON_FREE);
        ck_assert_ptr_nonnull(c->stream);
        c->next = s->connections;
        s->connections = c;
        s->n_connections++;
        bufferevent_setcb(c->stream, on_read, on_written, on_event, c);
        bufferevent_enable(c->stream, EV_READ | EV_WRITE);
}

/* A key and a certificate for 127.0.0.1 that signs itself. */
static SSL_CTX *tls_new(const char *ca_file)
{
        SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509 *certificate = X509_new();
        X509_NAME *name = X509_get_subject_name(certificate);
        X509_EXTENSION *address = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
        _cleanup_(fclosep) FILE *f = fopen(ca_file, "we");

        ck_assert(tls && key && certificate && name && address && f);
        X509_set_version(certificate, 2);
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
        X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"unit test", -1, -1, 0);
        X509_set_issuer_name(certificate, name);
        X509_set_pubkey(certificate, key);
        ck_assert_int_eq(X509_add_ext(certificate, address, -1), 1);
        ck_assert_int_gt(X509_sign(certificate, key, EVP_sha256()), 0);
        ck_assert_int_eq(PEM_write_X509(f, certificate), 1);
        ck_assert_int_eq(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
        ck_assert_int_eq(SSL_CTX_use_certificate(tls, certificate), 1);
        ck_assert_int_eq(SSL_CTX_use_PrivateKey(tls, key), 1);
        X509_EXTENSION_free(address);
        X509_free(certificate);
        EVP_PKEY_free(key);
        return tls;
}

void http_server_init(struct http_server *s, struct event_base *base, const char *ca_file)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t n = sizeof(address);

        *s = (struct http_server){ .base = base, .tls = ca_file ? tls_new(ca_file) : NULL };
        s->listener = evconnlistener_new_bind(base, on_accept, s, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, -1,
                                              (struct sockaddr *)&address, sizeof(address));
        ck_assert_ptr_nonnull(s->listener);
        ck_assert_int_eq(getsockname(evconnlistener_get_fd(s->listener), (struct sockaddr *)&address, &n), 0);
        s->port = ntohs(address.sin_port);
}

void http_server_demand(struct http_server *s, const char *ca_file)
{
        ck_assert_int_eq(SSL_CTX_load_verify_file(s->tls, ca_file), 1);
        SSL_CTX_set_verify(s->tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

void http_server_drop(struct http_server *s)
{
        while (s->connections)
                connection_close(s->connections);
}

void http_server_deinit(struct http_server *s)
{
        http_server_drop(s);
        evconnlistener_free(s->listener);
        SSL_CTX_free(s->tls);
}
