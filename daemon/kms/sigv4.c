/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sigv4: the canonical request is built in one block of known size, which is wiped when it is freed: it holds the session token. The
 * path is percent-encoded once more than it was sent, as all services but S3 have it; the query is brought into its one form.
 */
#include "daemon/kms/sigv4.h"

#include <assert.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { HASH_SIZE = 32, HASH_TEXT = 2 * HASH_SIZE, QUERY_PAIRS_MAX = 64 };

static const char ALGORITHM[] = "AWS4-HMAC-SHA256", TERMINATOR[] = "aws4_request";

/* ---- text of known size ---- */

struct text {
        char *data;
        size_t n, n_max;
};

static void put(struct text *t, const void *data, size_t n)
{
        assert(n < t->n_max - t->n);
        if (n > 0)
                memcpy(t->data + t->n, data, n);
        t->n += n;
        t->data[t->n] = '\0';
}

static void put_char(struct text *t, char c)
{
        put(t, &c, 1);
}

static void put_bytes(struct text *t, struct bytes b)
{
        put(t, b.data, b.n);
}

static bool is_unreserved(uint8_t c)
{
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               c == '.' || c == '~';
}

static void put_encoded(struct text *t, uint8_t c)
{
        static const char digits[] = "0123456789ABCDEF";

        if (is_unreserved(c))
                put_char(t, (char)c);
        else
                put(t, (char[]){ '%', digits[c >> 4], digits[c & 15] }, 3);
}

static char lower(uint8_t c)
{
        return (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

/* ---- the canonical request ---- */

/* Up to the next @separator of *rest, which then begins after it. Return: false at the end. */
static bool next_part(struct bytes *rest, char separator, struct bytes *ret_part)
{
        const uint8_t *end;

        if (!rest->data)
                return false;
        end = rest->n > 0 ? memchr(rest->data, separator, rest->n) : NULL;
        *ret_part = (struct bytes){ rest->data, end ? (size_t)(end - rest->data) : rest->n };
        *rest = end ? (struct bytes){ end + 1, rest->n - ret_part->n - 1 } : (struct bytes){ 0 };
        return true;
}

static bool is_text(struct bytes b, const char *text)
{
        return bytes_equal(b, bytes_from_string(text));
}

static void put_segment(struct text *t, struct bytes segment, bool encode_percent)
{
        for (size_t i = 0; i < segment.n; i++) {
                if (segment.data[i] == '%' && !encode_percent)
                        put_char(t, '%');
                else
                        put_encoded(t, segment.data[i]);
        }
}

static void put_path(struct text *t, struct bytes path, bool normalize)
{
        size_t start = t->n;
        struct bytes segment;
        bool folder = true; /* what was put last is a folder: "/", "/a/", "/a/." */

        if (path.n > 0 && *path.data == '/')
                path = (struct bytes){ path.data + 1, path.n - 1 };
        put_char(t, '/');
        while (next_part(&path, '/', &segment)) {
                if (!normalize) {
                        put_segment(t, segment, false);
                        if (path.data)
                                put_char(t, '/');
                        continue;
                }
                folder = segment.n == 0 || is_text(segment, ".") || is_text(segment, "..");
                if (is_text(segment, "..")) {
                        while (t->n > start && t->data[--t->n] != '/')
                                ;
                        t->data[t->n] = '\0';
                }
                if (folder)
                        continue;
                if (t->n == start || t->data[t->n - 1] != '/')
                        put_char(t, '/');
                put_segment(t, segment, true);
        }
        if (normalize && folder && (t->n == start || t->data[t->n - 1] != '/'))
                put_char(t, '/');
}

static int hex_digit(uint8_t c)
{
        return c >= '0' && c <= '9' ? c - '0' : lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
}

/* A query's name or value: what is encoded already stays so, in capital digits and no more than has to be. */
static void put_query_part(struct text *t, struct bytes part)
{
        for (size_t i = 0; i < part.n; i++) {
                int high = i + 2 < part.n && part.data[i] == '%' ? hex_digit(part.data[i + 1]) : -1;
                int low = high >= 0 ? hex_digit(part.data[i + 2]) : -1;

                put_encoded(t, low >= 0 ? (uint8_t)(high << 4 | low) : part.data[i]);
                if (low >= 0)
                        i += 2;
        }
}

static int compare_bytes(struct bytes a, struct bytes b)
{
        for (size_t i = 0; i < a.n && i < b.n; i++)
                if (a.data[i] != b.data[i])
                        return a.data[i] < b.data[i] ? -1 : 1;
        return a.n < b.n ? -1 : a.n > b.n;
}

/* Encoded into @scratch first, since the order is that of the encoded text. */
static void put_query(struct text *t, struct bytes query, struct text *scratch)
{
        struct {
                struct bytes name, value;
        } pairs[QUERY_PAIRS_MAX], moved;
        struct bytes pair, name;
        size_t n = 0, at;

        for (struct bytes rest = query; query.n > 0 && next_part(&rest, '&', &pair);) {
                if (pair.n == 0 || !next_part(&pair, '=', &name))
                        continue;
                at = scratch->n;
                put_query_part(scratch, name);
                moved.name = (struct bytes){ (const uint8_t *)scratch->data + at, scratch->n - at };
                at = scratch->n;
                put_query_part(scratch, pair);
                moved.value = (struct bytes){ (const uint8_t *)scratch->data + at, scratch->n - at };
                for (at = n++; at > 0; at--) {
                        int order = compare_bytes(pairs[at - 1].name, moved.name);

                        if (order < 0 || (order == 0 && compare_bytes(pairs[at - 1].value, moved.value) <= 0))
                                break;
                        pairs[at] = pairs[at - 1];
                }
                pairs[at] = moved;
        }
        for (size_t i = 0; i < n; i++) {
                if (i > 0)
                        put_char(t, '&');
                put_bytes(t, pairs[i].name);
                put_char(t, '=');
                put_bytes(t, pairs[i].value);
        }
}

static int compare_names(struct bytes a, struct bytes b)
{
        for (size_t i = 0; i < a.n && i < b.n; i++)
                if (lower(a.data[i]) != lower(b.data[i]))
                        return (uint8_t)lower(a.data[i]) < (uint8_t)lower(b.data[i]) ? -1 : 1;
        return a.n < b.n ? -1 : a.n > b.n;
}

/* By name; those of one name stay in their order. */
static void sort_headers(const struct sigv4_header *sorted[SIGV4_HEADERS_MAX], const struct sigv4_request *request)
{
        for (size_t i = 0; i < request->n_headers; i++) {
                const struct sigv4_header *h = &request->headers[i];
                size_t at = i;

                for (; at > 0 && compare_names(sorted[at - 1]->name, h->name) > 0; at--)
                        sorted[at] = sorted[at - 1];
                sorted[at] = h;
        }
}

static bool is_space(uint8_t c)
{
        return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Without white space at the ends, and with one space for each run of it between. */
static void put_value(struct text *t, struct bytes value)
{
        size_t start = t->n;
        bool space = false;

        for (size_t i = 0; i < value.n; i++) {
                if (is_space(value.data[i])) {
                        space = true;
                        continue;
                }
                if (space && t->n > start)
                        put_char(t, ' ');
                space = false;
                put_char(t, (char)value.data[i]);
        }
}

static void put_name(struct text *t, struct bytes name)
{
        for (size_t i = 0; i < name.n; i++)
                put_char(t, lower(name.data[i]));
}

static void put_headers(struct text *t, const struct sigv4_header *const *sorted, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && compare_names(sorted[i - 1]->name, sorted[i]->name) == 0) {
                        t->data[t->n - 1] = ','; /* in place of the line's end */
                } else {
                        put_name(t, sorted[i]->name);
                        put_char(t, ':');
                }
                put_value(t, sorted[i]->value);
                put_char(t, '\n');
        }
}

static void put_signed_headers(struct text *t, const struct sigv4_header *const *sorted, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && compare_names(sorted[i - 1]->name, sorted[i]->name) == 0)
                        continue;
                if (i > 0)
                        put_char(t, ';');
                put_name(t, sorted[i]->name);
        }
}

static bool has_header(const struct sigv4_request *request, const char *name)
{
        for (size_t i = 0; i < request->n_headers; i++)
                if (compare_names(request->headers[i].name, bytes_from_string(name)) == 0)
                        return true;
        return false;
}

static size_t count(struct bytes b, uint8_t c)
{
        size_t n = 0;

        for (size_t i = 0; i < b.n; i++)
                n += b.data[i] == c;
        return n;
}

static bool is_within_limits(const struct sigv4_request *request)
{
        size_t n = request->path.n + request->query.n + request->method.n;

        if (request->n_headers > SIGV4_HEADERS_MAX || request->payload_hash.n != HASH_TEXT || request->method.n == 0 ||
            count(request->query, '&') >= QUERY_PAIRS_MAX || count(request->method, 0) > 0)
                return false;
        for (size_t i = 0; i < request->n_headers; i++) {
                if (request->headers[i].name.n == 0 || count(request->headers[i].name, 0) > 0 ||
                    count(request->headers[i].value, 0) > 0)
                        return false;
                n += request->headers[i].name.n + request->headers[i].value.n;
        }
        return n <= SECRET_BODY_MAX && has_header(request, "host") && has_header(request, "x-amz-date");
}

/* What each part can grow to: three characters for an encoded one, two copies of a name, and the lines' ends. */
static size_t size_of(const struct sigv4_request *request)
{
        size_t n = request->method.n + 3 * (request->path.n + request->query.n) + 2 * QUERY_PAIRS_MAX + HASH_TEXT + 16;

        for (size_t i = 0; i < request->n_headers; i++)
                n += 2 * request->headers[i].name.n + request->headers[i].value.n + 4;
        return n;
}

char *sigv4_canonical_request(const struct sigv4_request *request)
{
        const struct sigv4_header *sorted[SIGV4_HEADERS_MAX];
        struct text t = { 0 }, scratch = { 0 };

        if (!is_within_limits(request))
                return NULL;
        t.n_max = size_of(request);
        t.data = secret_malloc(t.n_max);
        scratch.n_max = 3 * request->query.n + 1;
        scratch.data = secret_malloc(scratch.n_max);
        if (!t.data || !scratch.data) {
                secret_free(scratch.data);
                secret_free(t.data);
                return NULL;
        }
        sort_headers(sorted, request);
        put_bytes(&t, request->method);
        put_char(&t, '\n');
        put_path(&t, request->path, request->normalize_path);
        put_char(&t, '\n');
        put_query(&t, request->query, &scratch);
        secret_free(scratch.data);
        put_char(&t, '\n');
        put_headers(&t, sorted, request->n_headers);
        put_char(&t, '\n');
        put_signed_headers(&t, sorted, request->n_headers);
        put_char(&t, '\n');
        put_bytes(&t, request->payload_hash);
        return t.data;
}

/* ---- hashes and the derived key ---- */

int sigv4_hash(char ret_hash[65], struct bytes data)
{
        uint8_t hash[HASH_SIZE];

        if (EVP_Digest(data.n > 0 ? (const void *)data.data : "", data.n, hash, NULL, EVP_sha256(), NULL) != 1)
                return -EIO;
        hex_format(ret_hash, hash, sizeof(hash));
        return 0;
}

static int hmac(uint8_t ret_mac[HASH_SIZE], const uint8_t *key, size_t n_key, const char *text)
{
        return HMAC(EVP_sha256(), key, (int)n_key, (const uint8_t *)text, strlen(text), ret_mac, NULL) ? 0 : -EIO;
}

/* HMAC("AWS4" + secret access key, @day). */
static int hmac_day(uint8_t ret_mac[HASH_SIZE], struct secret *secret_access_key, const char *day)
{
        _cleanup_(secret_unrefp) struct secret *prefixed = NULL;
        size_t n = secret_size(secret_access_key);
        uint8_t *to, *from;
        int r = secret_new(&prefixed, 4 + n);

        if (r < 0)
                return r;
        to = secret_view_begin(prefixed);
        from = secret_view_begin(secret_access_key);
        memcpy(to, "AWS4", 4);
        memcpy(to + 4, from, n);
        secret_view_end(secret_access_key, &from);
        r = hmac(ret_mac, to, 4 + n, day);
        secret_view_end(prefixed, &to);
        return r;
}

static int derive(struct secret **ret_key, struct secret *secret_access_key, const struct sigv4_key *of)
{
        _cleanup_(secret_unrefp) struct secret *key = NULL;
        uint8_t a[HASH_SIZE], b[HASH_SIZE], *k4;
        int r = secret_new(&key, HASH_SIZE);

        if (r < 0)
                return r;
        r = hmac_day(a, secret_access_key, of->day);
        if (r == 0)
                r = hmac(b, a, sizeof(a), of->region);
        if (r == 0)
                r = hmac(a, b, sizeof(b), of->service);
        if (r == 0) {
                k4 = secret_view_begin(key);
                r = hmac(k4, a, sizeof(a), TERMINATOR);
                secret_view_end(key, &k4);
        }
        secret_wipe(a, sizeof(a));
        secret_wipe(b, sizeof(b));
        if (r == 0)
                *ret_key = TAKE_PTR(key);
        return r;
}

void sigv4_key_deinit(struct sigv4_key *key)
{
        secret_unref(key->key);
        *key = (struct sigv4_key){ 0 };
}

static bool fill(char *to, size_t n, const char *text)
{
        return snprintf(to, n, "%s", text) < (int)n;
}

/* Make @key fit. Return: 0; -EINVAL for a name that is too long; what secret_new() returns; -EIO. */
static int key_update(struct sigv4_key *key, const char *access_key_id, struct secret *secret_access_key,
                      const char *region, const char *service, const char *time)
{
        struct sigv4_key wanted = { 0 };
        int r;

        snprintf(wanted.day, sizeof(wanted.day), "%.8s", time);
        if (!fill(wanted.region, sizeof(wanted.region), region) ||
            !fill(wanted.service, sizeof(wanted.service), service) ||
            !fill(wanted.access_key_id, sizeof(wanted.access_key_id), access_key_id))
                return -EINVAL;
        if (key->key && strcmp(key->day, wanted.day) == 0 && strcmp(key->region, region) == 0 &&
            strcmp(key->service, service) == 0 && strcmp(key->access_key_id, access_key_id) == 0)
                return 0;
        r = derive(&wanted.key, secret_access_key, &wanted);
        if (r < 0)
                return r;
        sigv4_key_deinit(key);
        *key = wanted;
        return 0;
}

/* ---- the signature ---- */

void sigv4_time(char ret_time[SIGV4_TIME_SIZE], uint64_t wall_usec)
{
        time_t t = (time_t)(wall_usec / 1000000);
        struct tm tm = { 0 };

        if (!gmtime_r(&t, &tm) || strftime(ret_time, SIGV4_TIME_SIZE, "%Y%m%dT%H%M%SZ", &tm) != SIGV4_TIME_SIZE - 1)
                snprintf(ret_time, SIGV4_TIME_SIZE, "99991231T235959Z"); /* past the years of four digits */
}

/* Between the request's last two line ends. */
static struct bytes signed_headers_of(const char *canonical)
{
        const char *end = strrchr(canonical, '\n'), *start = end;

        while (start[-1] != '\n')
                start--;
        return (struct bytes){ (const uint8_t *)start, (size_t)(end - start) };
}

static int sign(char ret_authorization[SIGV4_AUTHORIZATION_MAX], struct sigv4_key *key, const char *canonical,
                const char *time)
{
        char hash[HASH_TEXT + 1], scope[sizeof(*key) + sizeof(TERMINATOR)];
        char to_sign[sizeof(ALGORITHM) + SIGV4_TIME_SIZE + sizeof(scope) + sizeof(hash)];
        struct bytes names = signed_headers_of(canonical);
        uint8_t mac[HASH_SIZE], *k4;
        int r = sigv4_hash(hash, bytes_from_string(canonical));

        if (r < 0)
                return r;
        snprintf(scope, sizeof(scope), "%s/%s/%s/%s", key->day, key->region, key->service, TERMINATOR);
        snprintf(to_sign, sizeof(to_sign), "%s\n%s\n%s\n%s", ALGORITHM, time, scope, hash);
        k4 = secret_view_begin(key->key);
        r = hmac(mac, k4, HASH_SIZE, to_sign);
        secret_view_end(key->key, &k4);
        if (r < 0)
                return r;
        hex_format(hash, mac, sizeof(mac));
        r = snprintf(ret_authorization, SIGV4_AUTHORIZATION_MAX,
                     "%s Credential=%s/%s, SignedHeaders=%.*s, Signature=%s", ALGORITHM, key->access_key_id, scope,
                     (int)names.n, (const char *)names.data, hash);
        return r < SIGV4_AUTHORIZATION_MAX ? 0 : -EINVAL;
}

int sigv4_sign(char ret_authorization[SIGV4_AUTHORIZATION_MAX], struct sigv4_key *key,
               const struct sigv4_request *request, const char *access_key_id, struct secret *secret_access_key,
               const char *region, const char *service, const char *time)
{
        char *canonical;
        int r;

        if (strlen(time) != SIGV4_TIME_SIZE - 1 || !is_within_limits(request))
                return -EINVAL;
        canonical = sigv4_canonical_request(request);
        if (!canonical)
                return -ENOMEM;
        r = key_update(key, access_key_id, secret_access_key, region, service, time);
        if (r == 0)
                r = sign(ret_authorization, key, canonical, time);
        secret_free(canonical);
        secret_wipe_stack();
        return r;
}
