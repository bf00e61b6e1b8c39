/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/aws-auth.h"

#include <event2/keyvalq_struct.h>

#include "tests/mock-kms/gcm.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
enum { AMZ_DATE_LENGTH = 16 /* 20150830T123600Z */ };

/** The Authorization header, cut into its parts; they lie in @text. */
struct authorization {
        char *text;
        char *access_key_id, *date, *region, *service, *ending;
        char *signed_headers, *signature;
};

static void authorization_deinit(struct authorization *a)
{
        free(a->text);
}

/* Return: the missing parts in AWS's words, or NULL when it is whole. */
static char *authorization_parse(struct authorization *ret, const char *header)
{
        struct authorization a = { .text = text_copy(header + strlen(ALGORITHM)) };
        char *rest = a.text, *credential = NULL, *part, *problem;

        while ((part = strsep(&rest, ","))) {
                part += strspn(part, " ");
                if (text_starts(part, "Credential="))
                        credential = part + strlen("Credential=");
                else if (text_starts(part, "SignedHeaders="))
                        a.signed_headers = part + strlen("SignedHeaders=");
                else if (text_starts(part, "Signature="))
                        a.signature = part + strlen("Signature=");
        }
        problem = text_format("%s%s%s", credential ? "" : "Authorization header requires 'Credential' parameter. ",
                              a.signature ? "" : "Authorization header requires 'Signature' parameter. ",
                              a.signed_headers ? "" : "Authorization header requires 'SignedHeaders' parameter. ");
        if (credential) {
                a.access_key_id = strsep(&credential, "/");
                a.date = strsep(&credential, "/");
                a.region = strsep(&credential, "/");
                a.service = strsep(&credential, "/");
                a.ending = credential;
        }
        *ret = a;
        if (!*problem && !a.ending) {
                free(problem);
                return text_format(
                        "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.");
        }
        if (*problem)
                return problem;
        free(problem);
        return NULL;
}

static const char *authorization_header(const struct request *r)
{
        const char *header = request_header(r, "Authorization");

        return text_starts(header, ALGORITHM " ") ? header : NULL;
}

void aws_auth_region(char *ret_region, size_t n, const struct request *r)
{
        __attribute__((__cleanup__(authorization_deinit))) struct authorization a = { 0 };
        const char *header = authorization_header(r);

        if (header)
                free(authorization_parse(&a, header));
        snprintf(ret_region, n, "%s", a.region ? a.region : "");
}

/* ---- the canonical request ---- */

/* Without white space at the ends, and with single blanks inside. */
static void put_trimmed(FILE *out, const char *value)
{
        bool gap = false, begun = false;

        for (; *value; value++) {
                if (*value == ' ' || *value == '\t') {
                        gap = begun;
                        continue;
                }
                if (gap)
                        putc(' ', out);
                putc(*value, out);
                gap = false;
                begun = true;
        }
}

static void put_header(FILE *out, const struct request *r, const char *name)
{
        const struct evkeyvalq *headers = evhttp_request_get_input_headers(r->http);
        const struct evkeyval *header;
        bool first = true;

        fprintf(out, "%s:", name);
        for (header = headers->tqh_first; header; header = header->next.tqe_next) {
                if (strcasecmp(header->key, name) != 0)
                        continue;
                if (!first)
                        putc(',', out);
                put_trimmed(out, header->value);
                first = false;
        }
        putc('\n', out);
}

/* Path and query as they came: KMS and STS are called at "/" without a query, where every encoding is the same. */
static void canonical_digest(char ret_hex[2 * SHA256_SIZE + 1], const struct request *r, const char *signed_headers)
{
        _cleanup_(freep) char *text = NULL, *names = text_copy(signed_headers);
        uint8_t digest[SHA256_SIZE];
        char body[2 * SHA256_SIZE + 1], *rest = names, *name;
        size_t n = 0;
        FILE *out = open_memstream(&text, &n);

        if (!out)
                abort();
        fprintf(out, "%s\n%s\n%s\n", r->method, r->path, r->query);
        while ((name = strsep(&rest, ";")))
                put_header(out, r, name);
        sha256(digest, r->body);
        hex_format(body, digest, sizeof(digest));
        fprintf(out, "\n%s\n%s", signed_headers, body);
        fclose(out);
        sha256(digest, (struct bytes){ (const uint8_t *)text, n });
        hex_format(ret_hex, digest, sizeof(digest));
}

static void next_key(uint8_t key[SHA256_SIZE], const char *text)
{
        uint8_t previous[SHA256_SIZE];

        memcpy(previous, key, sizeof(previous));
        hmac_sha256(key, (struct bytes){ previous, sizeof(previous) }, bytes_from_string(text));
}

static bool signature_is_right(const struct request *r, const struct authorization *a, const char *secret,
                               const char *amz_date)
{
        _cleanup_(freep) char *first = text_format("AWS4%s", secret), *to_sign = NULL;
        char canonical[2 * SHA256_SIZE + 1], wanted[2 * SHA256_SIZE + 1];
        uint8_t key[SHA256_SIZE];

        canonical_digest(canonical, r, a->signed_headers);
        to_sign = text_format(ALGORITHM "\n%s\n%s/%s/%s/aws4_request\n%s", amz_date, a->date, a->region, a->service,
                              canonical);
        hmac_sha256(key, bytes_from_string(first), bytes_from_string(a->date));
        next_key(key, a->region);
        next_key(key, a->service);
        next_key(key, "aws4_request");
        next_key(key, to_sign);
        hex_format(wanted, key, sizeof(key));
        return strcmp(wanted, a->signature) == 0;
}

/* ---- what must hold besides ---- */

static bool is_signed(const char *signed_headers, const char *name)
{
        _cleanup_(freep) char *copy = text_copy(signed_headers);
        char *rest = copy, *part;

        while ((part = strsep(&rest, ";")))
                if (strcasecmp(part, name) == 0)
                        return true;
        return false;
}

/* Host, the type of the body and every x-amz-* must be signed; the list must be sorted and in lower case. */
static char *unsigned_header(const struct request *r, const char *signed_headers)
{
        const struct evkeyvalq *headers = evhttp_request_get_input_headers(r->http);
        const struct evkeyval *header;

        if (!is_signed(signed_headers, "host"))
                return text_copy("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.");
        for (header = headers->tqh_first; header; header = header->next.tqe_next)
                if ((strncasecmp(header->key, "x-amz-", 6) == 0 || strcasecmp(header->key, "content-type") == 0) &&
                    !is_signed(signed_headers, header->key))
                        return text_format("'%s' must be a 'SignedHeader' in the AWS Authorization.", header->key);
        return NULL;
}

static void amz_date_format(char ret[AMZ_DATE_LENGTH + 1], uint64_t usec)
{
        time_t seconds = (time_t)(usec / USEC_PER_SEC);
        struct tm tm;

        gmtime_r(&seconds, &tm);
        strftime(ret, AMZ_DATE_LENGTH + 1, "%Y%m%dT%H%M%SZ", &tm);
}

/* Return: false for another form. */
static bool amz_date_parse(uint64_t *ret_usec, const char *text)
{
        struct tm tm = { 0 };
        const char *end = strlen(text) == AMZ_DATE_LENGTH ? strptime(text, "%Y%m%dT%H%M%SZ", &tm) : NULL;
        char again[AMZ_DATE_LENGTH + 1];

        if (!end || *end)
                return false;
        *ret_usec = (uint64_t)timegm(&tm) * USEC_PER_SEC;
        amz_date_format(again, *ret_usec);
        return strcmp(again, text) == 0;
}

/* Return: what is wrong with the time, in AWS's words, or NULL. */
static char *time_problem(const struct mock *m, const char *amz_date, uint64_t usec, unsigned minutes)
{
        uint64_t now = mock_now_usec(m) / USEC_PER_SEC * USEC_PER_SEC, tolerance = minutes * 60 * USEC_PER_SEC;
        char now_text[AMZ_DATE_LENGTH + 1], limit[AMZ_DATE_LENGTH + 1];

        amz_date_format(now_text, now);
        if (usec + tolerance < now) {
                amz_date_format(limit, now - tolerance);
                return text_format("Signature expired: %s is now earlier than %s (%s - %u min.)", amz_date, limit,
                                   now_text, minutes);
        }
        if (usec > now + tolerance) {
                amz_date_format(limit, now + tolerance);
                return text_format("Signature not yet current: %s is still later than %s (%s + %u min.)", amz_date,
                                   limit, now_text, minutes);
        }
        return NULL;
}

/* Return: what is wrong with the credential's scope, in AWS's words, or NULL. */
static char *scope_problem(const struct authorization *a, const char *service, const char *amz_date)
{
        if (strcmp(a->service, service) != 0)
                return text_format("Credential should be scoped to correct service: '%s'. ", service);
        if (strcmp(a->ending, "aws4_request") != 0)
                return text_format("Credential should be scoped with a valid terminator: 'aws4_request', not '%s'. ",
                                   a->ending);
        if (!*a->region)
                return text_format("Credential should be scoped to a valid region, not '%s'. ", a->region);
        if (strncmp(a->date, amz_date, 8) != 0 || strlen(a->date) != 8)
                return text_format(
                        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                        "'%s' != '%.8s', from '%s'.",
                        a->date, amz_date, amz_date);
        return NULL;
}

static int check_signature(const struct mock *m, const struct request *r, const struct authorization *a,
                           const char *service, unsigned minutes, const struct aws_user *user, char **ret_reason)
{
        const char *amz_date = request_header(r, "X-Amz-Date"), *token = request_header(r, "X-Amz-Security-Token");
        uint64_t usec;

        if (!amz_date || !amz_date_parse(&usec, amz_date)) {
                *ret_reason = text_copy(
                        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.");
                return AWS_AUTH_E_INCOMPLETE;
        }
        *ret_reason = scope_problem(a, service, amz_date);
        if (!*ret_reason)
                *ret_reason = unsigned_header(r, a->signed_headers);
        if (!*ret_reason)
                *ret_reason = time_problem(m, amz_date, usec, minutes);
        if (*ret_reason)
                return AWS_AUTH_E_SIGNATURE;
        if (!user || !text_equal(token, user->session_token))
                return AWS_AUTH_E_UNKNOWN;
        if (!signature_is_right(r, a, user->secret, amz_date)) {
                *ret_reason = text_copy(
                        "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                        "Access Key and signing method. Consult the service documentation for details.");
                return AWS_AUTH_E_SIGNATURE;
        }
        return mock_now_usec(m) >= user->expires_usec ? AWS_AUTH_E_EXPIRED : 0;
}

int aws_auth_check(const struct mock *m, const struct request *r, const char *service, unsigned minutes,
                   const struct aws_user **ret_user, char **ret_reason)
{
        __attribute__((__cleanup__(authorization_deinit))) struct authorization a = { 0 };
        const char *header = authorization_header(r);
        const struct aws_user *user;
        int outcome;

        if (!header)
                return AWS_AUTH_E_MISSING;
        *ret_reason = authorization_parse(&a, header);
        if (*ret_reason)
                return AWS_AUTH_E_INCOMPLETE;
        user = aws_user_find(&m->identities, a.access_key_id);
        outcome = check_signature(m, r, &a, service, minutes, user, ret_reason);
        if (outcome == 0)
                *ret_user = user;
        return outcome;
}
