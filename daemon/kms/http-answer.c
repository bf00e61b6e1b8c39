/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of http that takes an answer: its body into locked memory as it comes, the few headers that matter, and a sentence for each way
 * to fail. Sentences hold a host and a cause, never a query, a header's value or bytes of a body.
 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/x509.h>

#include "common/clock.h"
#include "daemon/kms/http-transfer.h"

/* All header lines of an answer together. */
#define HEADER_BYTES_MAX 65536

/* ---- body ---- */

static size_t room_for(size_t n)
{
        return n <= SECRET_SMALL_MAX ? SECRET_SMALL_MAX : n <= SECRET_LARGE_MAX ? SECRET_LARGE_MAX : SECRET_BODY_MAX;
}

/* Make @t->body hold @n bytes, at most HTTP_BODY_MAX, in the smallest slot that will do for the length that was announced. */
static int body_grow(struct http_transfer *t, size_t n)
{
        struct secret *larger;
        curl_off_t announced = -1;
        size_t n_room;

        if (t->body && n <= t->n_room) {
                secret_resize(t->body, n);
                return 0;
        }
        curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
        if (announced > 0 && announced <= HTTP_BODY_MAX && (size_t)announced >= n)
                n_room = room_for((size_t)announced);
        else
                n_room = room_for(n > SECRET_SMALL_MAX ? n : SECRET_SMALL_MAX + 1);
        if (secret_new(&larger, n_room) < 0)
                return -ENOBUFS;
        secret_resize(larger, n);
        if (t->body) {
                uint8_t *to = secret_view_begin(larger), *from = secret_view_begin(t->body);

                memcpy(to, from, t->n_body);
                secret_view_end(t->body, &from);
                secret_view_end(larger, &to);
                secret_unref(t->body);
        }
        t->body = larger;
        t->n_room = n_room;
        return 0;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
        struct http_transfer *t = userdata;
        uint8_t *view;

        if (n == 0)
                return 0;
        if (n > HTTP_BODY_MAX - t->n_body) {
                t->failure = HTTP_FAILURE_TOO_LARGE;
                return 0; /* libcurl ends the transfer */
        }
        if (body_grow(t, t->n_body + n) < 0) {
                t->failure = HTTP_FAILURE_LOCAL;
                return 0;
        }
        view = secret_view_begin(t->body);
        memcpy(view + t->n_body, data, n);
        secret_view_end(t->body, &view);
        t->n_body += n;
        return n;
}

/* ---- headers ---- */

struct line {
        struct bytes name, value;
};

static bool line_parse(struct line *ret_line, const char *data, size_t n)
{
        const char *colon = memchr(data, ':', n), *value, *end = data + n;

        if (!colon || colon == data)
                return false;
        for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
                ;
        while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ' || end[-1] == '\t'))
                end--;
        *ret_line = (struct line){ { (const uint8_t *)data, (size_t)(colon - data) },
                                   { (const uint8_t *)value, (size_t)(end - value) } };
        return true;
}

static bool is_named(const struct line *line, const char *name)
{
        return line->name.n == strlen(name) && strncasecmp((const char *)line->name.data, name, line->name.n) == 0;
}

static void keep(char *ret_text, size_t n, struct bytes value)
{
        *ret_text = '\0';
        if (value.n >= n || !bytes_is_text(value))
                return;
        memcpy(ret_text, value.data, value.n);
        ret_text[value.n] = '\0';
}

/* Return: whether it is a number; saturates. */
static bool number_parse(uint32_t *ret_number, struct bytes value, uint32_t factor)
{
        uint64_t number = 0;

        for (size_t i = 0; i < value.n; i++) {
                if (value.data[i] < '0' || value.data[i] > '9')
                        return false;
                number = number * 10 + (uint64_t)(value.data[i] - '0');
                if (number > UINT32_MAX)
                        number = UINT32_MAX;
        }
        number *= factor;
        *ret_number = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
        return value.n > 0;
}

/* 0 = not a date. */
static uint64_t date_parse(struct bytes value)
{
        char text[64];
        time_t seconds;

        keep(text, sizeof(text), value);
        seconds = *text ? curl_getdate(text, NULL) : -1;
        return seconds > 0 ? (uint64_t)seconds * USEC_PER_SEC : 0;
}

static void take_line(struct http_transfer *t, const struct line *line)
{
        if (is_named(line, "date"))
                t->date_usec = date_parse(line->value);
        else if (is_named(line, "x-amz-retry-after"))
                number_parse(&t->retry_after_amz_msec, line->value, 1);
        else if (is_named(line, "location"))
                keep(t->kept.location, sizeof(t->kept.location), line->value);
        else if (is_named(line, "x-amzn-errortype"))
                keep(t->kept.error_type, sizeof(t->kept.error_type), line->value);
        else if (is_named(line, "x-amzn-requestid"))
                keep(t->kept.request_id, sizeof(t->kept.request_id), line->value);
        else if (is_named(line, "retry-after") && !number_parse(&t->retry_after_msec, line->value, 1000))
                t->retry_after_date_usec = date_parse(line->value);
}

static size_t on_header(char *data, size_t size, size_t n, void *userdata)
{
        struct http_transfer *t = userdata;
        struct line line;

        t->n_header_bytes += n;
        if (t->n_header_bytes > HEADER_BYTES_MAX) {
                t->failure = HTTP_FAILURE_TOO_LARGE;
                return 0;
        }
        if (n >= 5 && strncmp(data, "HTTP/", 5) == 0) {
                /* What came with an interim answer (100 Continue) is not of the real one. */
                memset(&t->kept, 0, sizeof(t->kept));
                t->date_usec = t->retry_after_date_usec = 0;
                t->retry_after_msec = t->retry_after_amz_msec = 0;
                t->has_head = false;
        } else if (n <= 2) {
                t->has_head = true;
        } else if (line_parse(&line, data, n)) {
                take_line(t, &line);
        }
        return n;
}

static uint32_t retry_after(const struct http_transfer *t)
{
        uint64_t now, msec;

        if (t->retry_after_amz_msec > 0)
                return t->retry_after_amz_msec;
        if (t->retry_after_date_usec == 0)
                return t->retry_after_msec;
        now = t->date_usec > 0 ? t->date_usec : clock_wall_usec();
        msec = t->retry_after_date_usec > now ? (t->retry_after_date_usec - now) / USEC_PER_MSEC : 0;
        return msec > UINT32_MAX ? UINT32_MAX : (uint32_t)msec;
}

const char *http_response_header(const struct http_response *r, const char *name)
{
        const struct http_transfer *t = r->transfer_;

        if (t && strcasecmp(name, "location") == 0)
                return t->kept.location;
        if (t && strcasecmp(name, "x-amzn-errortype") == 0)
                return t->kept.error_type;
        if (t && strcasecmp(name, "x-amzn-requestid") == 0)
                return t->kept.request_id;
        return "";
}

CURLcode transfer_listen(struct http_transfer *t)
{
        CURLcode code = curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);

        if (code == CURLE_OK)
                code = curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
        if (code == CURLE_OK)
                code = curl_easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
        if (code == CURLE_OK)
                code = curl_easy_setopt(t->easy, CURLOPT_HEADERDATA, t);
        if (code == CURLE_OK)
                code = curl_easy_setopt(t->easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)HTTP_BODY_MAX);
        return code;
}

/* ---- how it ended ---- */

static const char *os_error(const struct http_transfer *t)
{
        long number = 0;

        curl_easy_getinfo(t->easy, CURLINFO_OS_ERRNO, &number);
        return number > 0 ? strerrordesc_np((int)number) : NULL;
}

#define SAY(...) snprintf(t->what, sizeof(t->what), __VA_ARGS__)

static enum http_failure say_timeout(struct http_transfer *t)
{
        uint64_t msec = t->timeout_usec / USEC_PER_MSEC;
        curl_off_t resolved = 0;

        curl_easy_getinfo(t->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
        if (resolved == 0 && !t->connected) {
                SAY("cannot resolve %s: the name servers did not answer in time", *t->proxy ? t->proxy : t->host);
                return HTTP_FAILURE_RESOLVE;
        }
        if (!t->met && !t->connected) {
                SAY("nobody answers at %s: no connection came about in time", *t->proxy ? t->proxy : t->host);
                return HTTP_FAILURE_CONNECT;
        }
        if (!t->connected)
                SAY("%s takes connections, but the TLS handshake with it did not end within %" PRIu64 " ms", t->host, msec);
        else
                SAY("%s did not answer within %" PRIu64 " ms", t->host, msec);
        return HTTP_FAILURE_TIMEOUT;
}

static enum http_failure say_connect(struct http_transfer *t)
{
        const char *why = os_error(t);

        SAY("nobody answers at %s%s%s", *t->proxy ? t->proxy : t->host, why ? ": " : "", why ? why : "");
        return HTTP_FAILURE_CONNECT;
}

static enum http_failure say_cut(struct http_transfer *t)
{
        long status = 0;

        if (curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &status) == CURLE_OK && status != 0 && status / 100 != 2) {
                SAY("the proxy %s does not let us through to %s: it answers with status %ld", t->proxy, t->host, status);
                return HTTP_FAILURE_CONNECT;
        }
        SAY("the connection to %s ended before a whole answer was there, or what it sends is not HTTP", t->host);
        return HTTP_FAILURE_CUT;
}

/* The peer went away inside the handshake, as servers do that start or stop: that says nothing about certificates. */
static bool is_cut_handshake(const struct http_transfer *t)
{
        static const char *const texts[] = { "SSL_connect: ", "unexpected eof", "Send failure: ", "Recv failure: " }; /* of libcurl 7.88 to 8.14 */

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                if (strstr(t->error, texts[i]))
                        return true;
        return false;
}

static enum http_failure say_tls(struct http_transfer *t, CURLcode code)
{
        long verdict = X509_V_OK;

        curl_easy_getinfo(t->easy, CURLINFO_SSL_VERIFYRESULT, &verdict);
        if (code == CURLE_SSL_CONNECT_ERROR && is_cut_handshake(t))
                return say_cut(t);
        if (code == CURLE_PEER_FAILED_VERIFICATION && verdict > X509_V_ERR_UNSPECIFIED)
                SAY("the certificate of %s is not valid: %s. The authorities that count are in %s", t->host,
                    X509_verify_cert_error_string(verdict), t->ca_file);
        else if (code == CURLE_PEER_FAILED_VERIFICATION && strstr(t->error, "subject name"))
                SAY("the certificate of %s is not valid: it was made for another name", t->host);
        else if (code == CURLE_SSL_CACERT_BADFILE)
                SAY("cannot read the certificates of authorities in %s. Install ca-certificates, or set ca_file", t->ca_file);
        else if (code == CURLE_SSL_CERTPROBLEM)
                SAY("cannot use the client certificate or its key for %s: %s", t->host, t->error);
        else
                SAY("no TLS connection to %s: %s", t->host, *t->error ? t->error : curl_easy_strerror(code));
        return HTTP_FAILURE_TLS;
}

static enum http_failure say_too_large(struct http_transfer *t)
{
        SAY("the answer of %s is larger than %d bytes, so it is none of a key management service", t->host, HTTP_BODY_MAX);
        return HTTP_FAILURE_TOO_LARGE;
}

static enum http_failure say_local(struct http_transfer *t)
{
        SAY("out of memory, or no locked memory is left for the answer of %s", t->host);
        return HTTP_FAILURE_LOCAL;
}

static enum http_failure say_refused(struct http_transfer *t)
{
        SAY("the URL of %s is not one that can be asked", t->host);
        return HTTP_FAILURE_REFUSED;
}

static enum http_failure classify(struct http_transfer *t, CURLcode code)
{
        if (t->failure == HTTP_FAILURE_TOO_LARGE)
                return say_too_large(t);
        if (t->failure == HTTP_FAILURE_LOCAL)
                return say_local(t);
        if (t->failure != HTTP_FAILURE_NONE)
                return t->failure; /* with its sentence */
        switch (code) {
        case CURLE_OK: /* which libcurl says when the connection ends inside the headers, too */
                return t->has_head ? HTTP_FAILURE_NONE : say_cut(t);
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
                SAY("cannot resolve %s: the name has no address, or no name server answers",
                    code == CURLE_COULDNT_RESOLVE_PROXY ? t->proxy : t->host);
                return HTTP_FAILURE_RESOLVE;
        case CURLE_COULDNT_CONNECT:
        case CURLE_INTERFACE_FAILED:
                return say_connect(t);
        case CURLE_OPERATION_TIMEDOUT:
                return say_timeout(t);
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CLIENTCERT:
        case CURLE_SSL_CIPHER:
        case CURLE_SSL_CRL_BADFILE:
        case CURLE_SSL_ENGINE_INITFAILED:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_INVALIDCERTSTATUS:
                return say_tls(t, code);
        case CURLE_FILESIZE_EXCEEDED:
                return say_too_large(t);
        case CURLE_OUT_OF_MEMORY:
        case CURLE_FAILED_INIT:
                return say_local(t);
        case CURLE_UNSUPPORTED_PROTOCOL: /* also of a peer that does not speak HTTP */
                return t->connected ? say_cut(t) : say_refused(t);
        case CURLE_URL_MALFORMAT:
                return say_refused(t);
        default:
                /* TLS 1.3 refuses a client's certificate only after the handshake. */
                return strstr(t->error, " alert ") ? say_tls(t, code) : say_cut(t);
        }
}

void transfer_answer(struct http_transfer *t, CURLcode code, struct http_response *ret_response)
{
        long status = 0;

        *ret_response = (struct http_response){ .failure = classify(t, code), .transfer_ = t };
        if (ret_response->failure != HTTP_FAILURE_NONE) {
                ret_response->what = t->what;
                return;
        }
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        ret_response->status = (int)status;
        ret_response->body = t->body;
        ret_response->date_wall_usec = t->date_usec;
        ret_response->retry_after_msec = retry_after(t);
}
