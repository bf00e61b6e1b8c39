/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of http that turns a request into an easy handle of libcurl. Every option is set here and for every request, so that neither the
 * environment nor libcurl's defaults decide: verification, protocols, proxies, timeouts.
 */
#include <errno.h>
#include <openssl/ssl.h>
#include <stdarg.h>

#include "common/clock.h"
#include "daemon/kms/http-transfer.h"

#define CA_FILE_DEFAULT "/etc/ssl/certs/ca-certificates.crt"
/* Of AWS's SDK defaults: longer than this no connection takes that is worth waiting for. */
#define CONNECT_MAX_MSEC 3100

/* The first option that fails decides. */
#define SET(option, value) (code = code == CURLE_OK ? curl_easy_setopt(t->easy, option, value) : code)

void transfer_refuse(struct http_transfer *t, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(t->what, sizeof(t->what), format, arguments);
        va_end(arguments);
        t->failure = HTTP_FAILURE_REFUSED;
}

/* Decrypted records are wiped when they were delivered, and not when the connection ends. */
static CURLcode harden_tls(CURL *easy, void *context, void *userdata)
{
        struct http_transfer *t = userdata;

        SSL_CTX_set_options(context, SSL_OP_CLEANSE_PLAINTEXT);
        t->met = true; /* this is called when there is a connection */
        return CURLE_OK;
}

static int on_connected(void *userdata, char *peer, char *own, int peer_port, int own_port)
{
        struct http_transfer *t = userdata;

        t->connected = true;
        return CURL_PREREQFUNC_OK;
}

static CURLcode set_tls(struct http_transfer *t, const struct http_transport *transport)
{
        const char *ca_file = transport->ca_file ? transport->ca_file : CA_FILE_DEFAULT;
        CURLcode code = CURLE_OK;

        snprintf(t->ca_file, sizeof(t->ca_file), "%s", ca_file);
        SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        SET(CURLOPT_SSL_VERIFYPEER, 1L);
        SET(CURLOPT_SSL_VERIFYHOST, 2L);
        SET(CURLOPT_CAINFO, ca_file);
        SET(CURLOPT_CAPATH, NULL); /* with a folder libcurl would not keep the parsed file for the next connection */
        SET(CURLOPT_SSL_CTX_FUNCTION, harden_tls);
        SET(CURLOPT_SSL_CTX_DATA, t);
        if (transport->client_certificate) {
                SET(CURLOPT_SSLCERT, transport->client_certificate);
                SET(CURLOPT_SSLKEY, transport->client_key);
                SET(CURLOPT_KEYPASSWD, ""); /* an encrypted key is an error, and no question on the terminal */
        }
        return code;
}

/* Environment variables never choose a proxy, nor what goes past it. */
static CURLcode set_proxy(struct http_transfer *t, const struct http_transport *transport, bool https)
{
        const char *proxy = https && transport->proxy ? transport->proxy : "", *host, *at;
        CURLcode code = CURLE_OK;

        SET(CURLOPT_PROXY, proxy);
        SET(CURLOPT_NOPROXY, "");
        if (!*proxy)
                return code;
        SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
        SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
        SET(CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        SET(CURLOPT_PROXY_SSL_VERIFYPEER, 1L);
        SET(CURLOPT_PROXY_SSL_VERIFYHOST, 2L);
        SET(CURLOPT_PROXY_CAINFO, t->ca_file);
        SET(CURLOPT_PROXY_CAPATH, NULL);
        /* For sentences: without the password that may stand in front of it. */
        host = strstr(proxy, "://");
        host = host ? host + 3 : proxy;
        at = strrchr(host, '@');
        host = at ? at + 1 : host;
        snprintf(t->proxy, sizeof(t->proxy), "%.*s", (int)strcspn(host, "/?#"), host);
        return code;
}

static CURLcode set_time(struct http_transfer *t)
{
        uint64_t total = t->timeout_usec / USEC_PER_MSEC, connect;
        CURLcode code = CURLE_OK;

        total = total < 1 ? 1 : total > INT32_MAX ? INT32_MAX : total; /* 0 would be no limit */
        connect = total * 2 / 3;
        connect = connect < 1 ? 1 : connect > CONNECT_MAX_MSEC ? CONNECT_MAX_MSEC : connect;
        SET(CURLOPT_TIMEOUT_MS, (long)total);
        SET(CURLOPT_CONNECTTIMEOUT_MS, (long)connect);
        SET(CURLOPT_TCP_KEEPALIVE, 1L);
        SET(CURLOPT_TCP_KEEPIDLE, 30L);
        SET(CURLOPT_TCP_KEEPINTVL, 10L);
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_QUICK_EXIT, 1L); /* what ends while a name is resolved does not wait for that */
        return code;
}

/* ---- headers ---- */

static bool is_field_value(const uint8_t *text, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if ((text[i] < 0x20 && text[i] != '\t') || text[i] == 0x7f)
                        return false;
        return true;
}

static int append_line(struct http_transfer *t, const char *line)
{
        struct curl_slist *longer = curl_slist_append(t->headers, line);

        if (!longer)
                return -ENOMEM;
        t->headers = longer;
        return 0;
}

static int append_value(struct http_transfer *t, const char *name, const uint8_t *value, size_t n)
{
        size_t n_name = strlen(name), n_line = n_name + 2 + n + 1;
        char *line;
        int r;

        if (!is_field_value(value, n)) {
                transfer_refuse(t, "the value for the header %s to %s has a line break or another control character in it", name,
                                t->host);
                return 0;
        }
        line = secret_malloc(n_line);
        if (!line)
                return -ENOMEM;
        snprintf(line, n_line, n > 0 ? "%s: " : "%s;", name); /* libcurl's way to say an empty one */
        if (n > 0) {
                memcpy(line + n_name + 2, value, n);
                line[n_line - 1] = '\0';
        }
        r = append_line(t, line);
        secret_free(line);
        return r;
}

static int append_header(struct http_transfer *t, const struct http_header *header)
{
        uint8_t *value;
        int r;

        if (!header->secret)
                return append_value(t, header->name, header->value.data, header->value.n);
        value = secret_view_begin(header->secret);
        r = append_value(t, header->name, value, secret_size(header->secret));
        secret_view_end(header->secret, &value);
        secret_wipe_stack();
        return r;
}

static int set_headers(struct http_transfer *t, const struct http_request *request)
{
        bool typed = false;
        int r = 0;

        for (size_t i = 0; i < request->n_headers && r == 0; i++) {
                typed = typed || strcasecmp(request->headers[i].name, "content-type") == 0;
                r = append_header(t, &request->headers[i]);
        }
        if (r == 0 && !typed)
                r = append_line(t, "Content-Type:"); /* none, where libcurl has one of its own */
        if (r == 0 && curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers) != CURLE_OK)
                r = -ENOMEM;
        return r;
}

/* ---- method and body ---- */

static int take_body(struct http_transfer *t, const struct http_request *request)
{
        uint8_t *view;
        int r;

        if (request->body_secret) {
                t->request_body = secret_ref(request->body_secret);
        } else if (request->body.n > 0) {
                r = secret_new(&t->request_body, request->body.n);
                if (r < 0)
                        return r == -EINVAL ? -ENOBUFS : r;
                view = secret_view_begin(t->request_body);
                memcpy(view, request->body.data, request->body.n);
                secret_view_end(t->request_body, &view);
        }
        return 0;
}

static CURLcode set_method(struct http_transfer *t, const char *method)
{
        bool posts = strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
        CURLcode code = CURLE_OK;

        if (posts) {
                SET(CURLOPT_POST, 1L);
                SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(t->request_body ? secret_size(t->request_body) : 0));
                /* Read where it lies, again after a reused connection has died: the view stays open until the transfer has ended. */
                if (t->request_body)
                        t->request_view = secret_view_begin(t->request_body);
                SET(CURLOPT_POSTFIELDS, t->request_view ? (const char *)t->request_view : "");
        } else {
                SET(CURLOPT_HTTPGET, 1L);
        }
        if (strcmp(method, "POST") != 0 && strcmp(method, "GET") != 0)
                SET(CURLOPT_CUSTOMREQUEST, method);
        return code;
}

static CURLcode set_request(struct http_transfer *t, const struct http_request *request, bool https)
{
        CURLcode code = CURLE_OK;

        SET(CURLOPT_PRIVATE, t);
        SET(CURLOPT_ERRORBUFFER, t->error);
        SET(CURLOPT_URL, request->url);
        SET(CURLOPT_PATH_AS_IS, 1L); /* as it was signed */
        SET(CURLOPT_PROTOCOLS_STR, https ? "https" : "http");
        SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        SET(CURLOPT_FOLLOWLOCATION, 0L);
        SET(CURLOPT_PREREQFUNCTION, on_connected);
        SET(CURLOPT_PREREQDATA, t);
        SET(CURLOPT_USERAGENT, "lkm/" LKM_VERSION);
        if (code == CURLE_OK)
                code = set_tls(t, &request->transport);
        if (code == CURLE_OK)
                code = set_proxy(t, &request->transport, https);
        if (code == CURLE_OK)
                code = set_time(t);
        if (code == CURLE_OK)
                code = set_method(t, request->method);
        return code;
}

int transfer_setup(struct http_transfer *t, const struct http_request *request)
{
        struct http_url url;
        int r;

        t->timeout_usec = request->timeout_usec;
        if (http_url_parse(&url, request->url) < 0) {
                transfer_refuse(t, "that is not a URL that can be asked: it has to be https://HOST[:PORT]/…, without a user name");
                return 0;
        }
        memcpy(t->host, url.host, sizeof(t->host));
        if (!http_url_allowed(&url)) {
                transfer_refuse(t,
                                "http:// is for this machine and for metadata services alone, and %s is neither. Use https://",
                                t->host);
                return 0;
        }
        t->easy = curl_easy_init();
        if (!t->easy)
                return -ENOMEM;
        r = take_body(t, request);
        if (r < 0)
                return r;
        if (set_request(t, request, url.https) != CURLE_OK || transfer_listen(t) != CURLE_OK)
                return -ENOMEM;
        return set_headers(t, request);
}
