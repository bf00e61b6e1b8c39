/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sigv4-suite: the cases of AWS's own test suite for Signature Version 4 (aws-c-auth, tests/aws-signing-test-suite/v4) in its header form,
 * read from one JSON file: its path is the argument or $LKM_SIGV4_SUITE. The file is data of others and not part of this project; without it
 * the test counts as skipped.
 */
#include <jansson.h>

#include "daemon/kms/sigv4.h"

enum { N_CASES = 38, SKIPPED = 77 };

struct signing {
        const char *name, *id, *secret, *token, *region, *service, *time;
        bool normalize, sign_body, omit_token;
};

/* A request in its text form, taken apart in place. */
struct parts {
        struct sigv4_request request;
        struct sigv4_header headers[SIGV4_HEADERS_MAX];
        struct bytes body;
};

static struct bytes between(const char *start, const char *end)
{
        return (struct bytes){ (const uint8_t *)start, (size_t)(end - start) };
}

/* METHOD TARGET HTTP/1.1; the target may hold spaces. */
static const char *parse_first_line(struct parts *p, const char *text)
{
        const char *target = strchr(text, ' ') + 1, *line_end = strchr(text, '\n'), *end = line_end;
        const char *query;

        while (*end != ' ')
                end--;
        query = memchr(target, '?', (size_t)(end - target));
        p->request.method = between(text, target - 1);
        p->request.path = between(target, query ? query : end);
        if (query)
                p->request.query = between(query + 1, end);
        return line_end + 1;
}

static void parse_request(struct parts *p, const char *text)
{
        const char *line = parse_first_line(p, text), *end, *colon;

        for (; *line && *line != '\n'; line = end + 1) {
                for (end = strchr(line, '\n'); end[1] == ' '; end = strchr(end + 1, '\n'))
                        ; /* a value that goes on in the next line */
                colon = strchr(line, ':');
                p->headers[p->request.n_headers++] =
                        (struct sigv4_header){ between(line, colon), between(colon + 1, end) };
        }
        if (*line)
                p->body = bytes_from_string(line + 1);
        p->request.headers = p->headers;
}

static void add_header(struct parts *p, const char *name, const char *value)
{
        p->headers[p->request.n_headers++] = (struct sigv4_header){ bytes_from_string(name), bytes_from_string(value) };
}

static struct secret *secret_of(const char *text)
{
        struct secret *s;
        uint8_t *view;

        if (secret_new(&s, strlen(text)) < 0)
                return NULL;
        view = secret_view_begin(s);
        memcpy(view, text, strlen(text));
        secret_view_end(s, &view);
        return s;
}

static bool equal(const char *what, const char *name, const char *is, const char *expected)
{
        if (strcmp(is, expected) == 0)
                return true;
        fprintf(stderr, "%s: %s is\n%s\ninstead of\n%s\n", name, what, is, expected);
        return false;
}

/* The value of the Authorization header that the suite expects in its signed request. */
static bool authorization_matches(const char *authorization, const char *signed_request)
{
        static const char name[] = "\nAuthorization:";
        const char *expected = strstr(signed_request, name);

        return expected && strncmp(expected + sizeof(name) - 1, authorization, strlen(authorization)) == 0 &&
               expected[sizeof(name) - 1 + strlen(authorization)] == '\n';
}

static bool case_passes(const struct signing *s, const char *text, const char *canonical_request,
                        const char *signed_request)
{
        struct sigv4_key key = { 0 };
        struct secret *secret = secret_of(s->secret);
        struct parts p = { 0 };
        char hash[65], authorization[SIGV4_AUTHORIZATION_MAX] = "", *canonical;
        bool good;

        parse_request(&p, text);
        add_header(&p, "X-Amz-Date", s->time);
        if (s->token && !s->omit_token)
                add_header(&p, "X-Amz-Security-Token", s->token);
        sigv4_hash(hash, p.body);
        if (s->sign_body)
                add_header(&p, "x-amz-content-sha256", hash);
        p.request.payload_hash = bytes_from_string(hash);
        p.request.normalize_path = s->normalize;

        canonical = sigv4_canonical_request(&p.request);
        good = canonical && secret && equal("canonical request", s->name, canonical, canonical_request) &&
               sigv4_sign(authorization, &key, &p.request, s->id, secret, s->region, s->service, s->time) == 0;
        if (good && !authorization_matches(authorization, signed_request))
                good = equal("Authorization", s->name, authorization, signed_request);
        secret_free(canonical);
        sigv4_key_deinit(&key);
        secret_unref(secret);
        return good;
}

/* "2015-08-30T12:36:00Z" without its dashes and colons. */
static void compact_time(char ret_time[SIGV4_TIME_SIZE], const char *timestamp)
{
        size_t n = 0;

        for (; *timestamp && n < SIGV4_TIME_SIZE - 1; timestamp++)
                if (*timestamp != '-' && *timestamp != ':')
                        ret_time[n++] = *timestamp;
        ret_time[n] = '\0';
}

static bool run_case(json_t *object)
{
        struct signing s = { 0 };
        const char *text, *canonical_request, *signed_request, *timestamp;
        char time[SIGV4_TIME_SIZE];
        int normalize, sign_body, omit = 0;

        if (json_unpack(object, "{s:s, s:s, s:s, s:s, s:{s:{s:s, s:s, s?s}, s:s, s:s, s:s, s:b, s:b, s?b}}", "name",
                        &s.name, "request", &text, "canonical_request", &canonical_request, "signed_request",
                        &signed_request, "context", "credentials", "access_key_id", &s.id, "secret_access_key",
                        &s.secret, "token", &s.token, "region", &s.region, "service", &s.service, "timestamp",
                        &timestamp, "normalize", &normalize, "sign_body", &sign_body, "omit_session_token",
                        &omit) < 0) {
                fprintf(stderr, "a case is not in the expected form\n");
                return false;
        }
        compact_time(time, timestamp);
        s.time = time;
        s.normalize = normalize;
        s.sign_body = sign_body;
        s.omit_token = omit;
        return case_passes(&s, text, canonical_request, signed_request);
}

int main(int argc, char **argv)
{
        const char *path = getenv("LKM_SIGV4_SUITE");
        json_t *suite, *cases;
        size_t n_passed = 0, i;
        json_t *object;

        path = path ? path : argc > 1 ? argv[1] : "";
        if (access(path, R_OK) < 0) {
                printf("skipped: the suite's cases are not at %s; LKM_SIGV4_SUITE=FILE names them\n", path);
                return SKIPPED;
        }
        suite = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
        cases = json_object_get(suite, "cases");
        if (secret_arena_init(64, 8, 0, NULL) < 0 || json_array_size(cases) != N_CASES) {
                fprintf(stderr, "%s does not hold the %d cases\n", path, N_CASES);
                return EXIT_FAILURE;
        }
        json_array_foreach(cases, i, object) n_passed += run_case(object);
        json_decref(suite);
        secret_arena_deinit();
        printf("%zu of %d cases passed\n", n_passed, N_CASES);
        return n_passed == N_CASES ? EXIT_SUCCESS : EXIT_FAILURE;
}
