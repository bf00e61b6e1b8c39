/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "daemon/kms/sigv4.h"
#include "suite.h"

#define KEY_ID "AKIDEXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define TIME "20150830T123600Z"
#define JSON "application/x-amz-json-1.1"

static struct secret *secret_access_key;
static struct sigv4_key key;

static struct secret *secret_of(const char *text)
{
        struct secret *s;
        uint8_t *view;

        ck_assert_int_eq(secret_new(&s, strlen(text)), 0);
        view = secret_view_begin(s);
        memcpy(view, text, strlen(text));
        secret_view_end(s, &view);
        return s;
}

static void setup(void)
{
        ck_assert_int_eq(secret_arena_init(64, 8, 0, NULL), 0);
        secret_access_key = secret_of(SECRET);
}

static void teardown(void)
{
        sigv4_key_deinit(&key);
        secret_access_key = secret_unref(secret_access_key);
        secret_arena_deinit();
}

static struct sigv4_header header(const char *name, const char *value)
{
        return (struct sigv4_header){ bytes_from_string(name), bytes_from_string(value) };
}

/* A request to "/" with @headers. */
static struct sigv4_request post(const struct sigv4_header *headers, size_t n, const char *hash)
{
        return (struct sigv4_request){ .method = BYTES_LITERAL("POST"),
                                       .path = BYTES_LITERAL("/"),
                                       .n_headers = n,
                                       .headers = headers,
                                       .payload_hash = bytes_from_string(hash),
                                       .normalize_path = true };
}

struct vector {
        const char *service, *region, *body, *body_hash, *canonical_hash, *signature, *names;
        size_t n;
        struct sigv4_header headers[6];
};

static void check_vector(const struct vector *v)
{
        char hash[65], canonical_hash[65], authorization[SIGV4_AUTHORIZATION_MAX], expected[SIGV4_AUTHORIZATION_MAX],
                *canonical;
        struct sigv4_request request;

        ck_assert_int_eq(sigv4_hash(hash, bytes_from_string(v->body)), 0);
        if (v->body_hash)
                ck_assert_str_eq(hash, v->body_hash);
        request = post(v->headers, v->n, hash);
        canonical = sigv4_canonical_request(&request);
        ck_assert_ptr_nonnull(canonical);
        ck_assert_int_eq(sigv4_hash(canonical_hash, bytes_from_string(canonical)), 0);
        ck_assert_str_eq(canonical_hash, v->canonical_hash);
        secret_free(canonical);
        ck_assert_int_eq(
                sigv4_sign(authorization, &key, &request, KEY_ID, secret_access_key, v->region, v->service, TIME), 0);
        snprintf(expected, sizeof(expected),
                 "AWS4-HMAC-SHA256 Credential=" KEY_ID "/20150830/%s/%s/aws4_request, SignedHeaders=%s, Signature=%s",
                 v->region, v->service, v->names, v->signature);
        ck_assert_str_eq(authorization, expected);
}

#define GENERATE_BODY                                                                                                  \
        "{\"KeyId\":\"alias/lkmd-test\",\"KeySpec\":\"AES_256\",\"EncryptionContext\":{\"purpose\":\"unit-test\"}}"
#define GENERATE_HASH "d7dae863dbd10794a9636e079395f2372125060d23b3a6a7014d91c9ee3e9700"

static const struct vector *generate_vector(void)
{
        static struct vector v;

        v = (struct vector){ .service = "kms",
                             .region = "us-east-1",
                             .body = GENERATE_BODY,
                             .body_hash = GENERATE_HASH,
                             .canonical_hash = "de81e3e8c6b4fda32325eb61cabc6b2c5bc81c0a1bb8336201b9fb26d70b706a",
                             .signature = "eae66016854742b569133b5cafb165f350654948315be0d8262b0234f41aafb2",
                             .names = "content-type;host;x-amz-date;x-amz-target",
                             .n = 4,
                             .headers = { header("Content-Type", JSON), header("Host", "kms.us-east-1.amazonaws.com"),
                                          header("X-Amz-Date", TIME),
                                          header("X-Amz-Target", "TrentService.GenerateDataKey") } };
        return &v;
}

START_TEST(data_key_request_is_signed_as_computed_elsewhere)
{
        check_vector(generate_vector());
}
END_TEST

START_TEST(session_token_is_signed)
{
        struct vector v = *generate_vector();

        v.headers[v.n++] = header("X-Amz-Security-Token", "SESSIONTOKENEXAMPLE");
        v.names = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target";
        v.canonical_hash = "cd231c868e7bbd1d2389216aa1cb82c71aa7f702d2254844684d642969cb5e79";
        v.signature = "21ec614bcc7c6fa23ca274237201daefedf92258265010b39f0955c0f39ef66f";
        check_vector(&v);
}
END_TEST

START_TEST(host_with_port_is_signed_as_it_is_sent)
{
        check_vector(&(struct vector){
                .service = "kms",
                .region = "eu-central-1",
                .body = "{}",
                .canonical_hash = "ba952f5ccd764e926119289644dce822c5a6e57ee1dd57afc42e6cf278fe349a",
                .signature = "bec5636aba63833613723fe9150418c0b7ff3be9499388aef14609b6447732a0",
                .names = "content-type;host;x-amz-date;x-amz-target",
                .n = 4,
                .headers = { header("content-type", JSON), header("host", "127.0.0.1:5000"), header("x-amz-date", TIME),
                             header("x-amz-target", "TrentService.Decrypt") } });
}
END_TEST

START_TEST(sts_request_is_signed_as_computed_elsewhere)
{
        check_vector(&(struct vector){
                .service = "sts",
                .region = "us-east-1",
                .body = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Flkmd&RoleSessionName=lkmd-1",
                .body_hash = "e1bfc17ed0efccf8e8db58bbcfff5faf9b0ad8f09e67749dfd60d0b89c3c087b",
                .canonical_hash = "26b62a0270591b119aa56ba64c3e4a4a16fe4a8dc4e4e42622f7cf3d60c2daad",
                .signature = "c3cd30067b06f0a028303694808ea5696ca5bf3b849e88533e6d52e723be1322",
                .names = "content-type;host;x-amz-date",
                .n = 3,
                .headers = { header("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                             header("host", "sts.us-east-1.amazonaws.com"), header("x-amz-date", TIME) } });
}
END_TEST

START_TEST(derived_key_is_the_one_computed_elsewhere_and_lies_in_the_arena)
{
        char text[65];
        uint8_t *view;

        check_vector(generate_vector());
        ck_assert_uint_eq(secret_size(key.key), 32);
        view = secret_view_begin(key.key);
        ck_assert(secret_arena_contains(view));
        hex_format(text, view, 32);
        secret_view_end(key.key, &view);
        ck_assert_str_eq(text, "daf4bdf807b2e75aeddb12d90af33760aa260ac37875a093af71f7f0ddda481e");
}
END_TEST

/* Sign with the cache as it is. */
static void sign_again(char authorization[SIGV4_AUTHORIZATION_MAX], struct secret *secret, const char *id,
                       const char *region, const char *service, const char *time)
{
        struct sigv4_header headers[] = { header("host", "h"), header("x-amz-date", time) };
        struct sigv4_request request = post(headers, ELEMENTSOF(headers), GENERATE_HASH);

        ck_assert_int_eq(sigv4_sign(authorization, &key, &request, id, secret, region, service, time), 0);
}

START_TEST(derived_key_is_made_anew_when_its_day_region_service_or_owner_changes)
{
        static const char *const uses[][4] = { { "A", "us-east-1", "kms", TIME },
                                               { "A", "us-east-1", "kms", "20150831T000000Z" },
                                               { "A", "us-east-2", "kms", "20150831T000000Z" },
                                               { "A", "us-east-2", "sts", "20150831T000000Z" },
                                               { "B", "us-east-2", "sts", "20150831T000000Z" } };
        char cached[SIGV4_AUTHORIZATION_MAX], fresh[SIGV4_AUTHORIZATION_MAX];
        struct secret *before = NULL;

        for (size_t i = 0; i < ELEMENTSOF(uses); i++) {
                sign_again(cached, secret_access_key, uses[i][0], uses[i][1], uses[i][2], uses[i][3]);
                ck_assert_ptr_ne(key.key, before);
                secret_unref(before);
                before = secret_ref(key.key);
                sign_again(fresh, secret_access_key, uses[i][0], uses[i][1], uses[i][2], uses[i][3]);
                ck_assert_ptr_eq(key.key, before); /* and not more often */
                ck_assert_str_eq(cached, fresh);
                sigv4_key_deinit(&key);
                sign_again(fresh, secret_access_key, uses[i][0], uses[i][1], uses[i][2], uses[i][3]);
                ck_assert_str_eq(cached, fresh);
        }
        secret_unref(before);
}
END_TEST

START_TEST(other_secret_gives_another_signature_once_the_key_is_dropped)
{
        char one[SIGV4_AUTHORIZATION_MAX], two[SIGV4_AUTHORIZATION_MAX];
        struct secret *other = secret_of("another-secret-access-key-that-is-longer-than-a-small-slot-takes");

        sign_again(one, secret_access_key, KEY_ID, "us-east-1", "kms", TIME);
        sigv4_key_deinit(&key);
        sign_again(two, other, KEY_ID, "us-east-1", "kms", TIME);
        ck_assert_str_ne(one, two);
        secret_unref(other);
}
END_TEST

static void expect_canonical(const struct sigv4_request *request, const char *expected)
{
        char *canonical = sigv4_canonical_request(request);

        ck_assert_ptr_nonnull(canonical);
        ck_assert_str_eq(canonical, expected);
        secret_free(canonical);
}

START_TEST(headers_are_trimmed_joined_and_sorted_by_name)
{
        struct sigv4_header headers[] = { header("X-Amz-Date", TIME), header("b-c", "2"), header("B", "  x \t  y  "),
                                          header("host", "h"),        header("b", ""),    header("B", "z"),
                                          header("a", " \r\n ") };
        struct sigv4_request request = post(headers, ELEMENTSOF(headers), GENERATE_HASH);

        expect_canonical(&request, "POST\n/\n\na:\nb:x y,,z\nb-c:2\nhost:h\nx-amz-date:" TIME
                                   "\n\na;b;b-c;host;x-amz-date\n" GENERATE_HASH);
}
END_TEST

START_TEST(paths_have_one_form)
{
        static const char *const paths[][3] = { /* as sent, normalized, as it is */
                                                { "", "/", "/" },
                                                { "/", "/", "/" },
                                                { "//", "/", "//" },
                                                { "/a/b/..", "/a/", "/a/b/.." },
                                                { "/a/../../b", "/b", "/a/../../b" },
                                                { "/./a/./b/.", "/a/b/", "/./a/./b/." },
                                                { "//a//b//", "/a/b/", "//a//b//" },
                                                { "/..", "/", "/.." },
                                                { "/...", "/...", "/..." },
                                                { "/a%20b", "/a%2520b", "/a%20b" },
                                                { "/a b+\xc3\xbc", "/a%20b%2B%C3%BC", "/a%20b%2B%C3%BC" }
        };
        struct sigv4_header headers[] = { header("host", "h"), header("x-amz-date", TIME) };
        struct sigv4_request request = post(headers, ELEMENTSOF(headers), GENERATE_HASH);
        char expected[512];

        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                for (size_t as_sent = 0; as_sent < 2; as_sent++) {
                        request.path = bytes_from_string(paths[i][0]);
                        request.normalize_path = !as_sent;
                        snprintf(expected, sizeof(expected),
                                 "POST\n%s\n\nhost:h\nx-amz-date:" TIME "\n\nhost;x-amz-date\n" GENERATE_HASH,
                                 paths[i][1 + as_sent]);
                        expect_canonical(&request, expected);
                }
        }
}
END_TEST

START_TEST(queries_have_one_form)
{
        static const char *const queries[][2] = { { "", "" },
                                                  { "b=2&a=1", "a=1&b=2" },
                                                  { "a-b=1&a=2",
                                                    "a=2&a-b=1" }, /* by name, and not by the pair as a string */
                                                  { "a=2&a=1&a", "a=&a=1&a=2" },
                                                  { "a=b=c", "a=b%3Dc" },
                                                  { "a=%c3%bC%41%zz%4", "a=%C3%BCA%25zz%254" },
                                                  { "&&a&", "a=" } };
        struct sigv4_header headers[] = { header("host", "h"), header("x-amz-date", TIME) };
        struct sigv4_request request = post(headers, ELEMENTSOF(headers), GENERATE_HASH);
        char expected[512];

        for (size_t i = 0; i < ELEMENTSOF(queries); i++) {
                request.query = bytes_from_string(queries[i][0]);
                snprintf(expected, sizeof(expected),
                         "POST\n/\n%s\nhost:h\nx-amz-date:" TIME "\n\nhost;x-amz-date\n" GENERATE_HASH, queries[i][1]);
                expect_canonical(&request, expected);
        }
}
END_TEST

START_TEST(time_is_utc_in_the_basic_form)
{
        char time[SIGV4_TIME_SIZE];

        sigv4_time(time, UINT64_C(1440938160999999));
        ck_assert_str_eq(time, TIME);
        sigv4_time(time, 0);
        ck_assert_str_eq(time, "19700101T000000Z");
        sigv4_time(time, UINT64_MAX);
        ck_assert_str_eq(time, "99991231T235959Z");
}
END_TEST

static int sign_with(const struct sigv4_request *request, const char *id, const char *region, const char *time)
{
        char authorization[SIGV4_AUTHORIZATION_MAX];

        return sigv4_sign(authorization, &key, request, id, secret_access_key, region, "kms", time);
}

START_TEST(requests_over_the_limits_are_refused)
{
        static char long_text[SECRET_BODY_MAX + 1], long_id[200], many_pairs[200];
        struct sigv4_header headers[SIGV4_HEADERS_MAX + 1];
        struct sigv4_request good, request;

        headers[0] = header("host", "h");
        headers[1] = header("x-amz-date", TIME);
        for (size_t i = 2; i < ELEMENTSOF(headers); i++)
                headers[i] = header("x", "y");
        memset(long_text, 'x', sizeof(long_text) - 1);
        memset(long_id, 'A', sizeof(long_id) - 1);
        memset(many_pairs, '&', sizeof(many_pairs) - 1);
        good = post(headers, 2, GENERATE_HASH);
        ck_assert_int_eq(sign_with(&good, KEY_ID, "us-east-1", TIME), 0);

        ck_assert_int_eq(sign_with(&good, long_id, "us-east-1", TIME), -EINVAL);
        ck_assert_int_eq(sign_with(&good, KEY_ID, long_id, TIME), -EINVAL);
        ck_assert_int_eq(sign_with(&good, KEY_ID, "us-east-1", "20150830"), -EINVAL);
        for (unsigned i = 0; i < 8; i++) {
                static const uint8_t zero[] = { 'a', 0 };

                request = good;
                request.n_headers = i == 0 ? ELEMENTSOF(headers) : i == 1 ? 1 : 2;
                request.headers = i == 2 ? headers + 1 : headers;
                headers[1].value = i == 3 ? (struct bytes){ zero, 2 } : bytes_from_string(TIME);
                headers[0].name = i == 4 ? (struct bytes){ 0 } : bytes_from_string("host");
                request.payload_hash = i == 5 ? BYTES_LITERAL("abc") : bytes_from_string(GENERATE_HASH);
                request.path = i == 6 ? bytes_from_string(long_text) : BYTES_LITERAL("/");
                request.query = i == 7 ? bytes_from_string(many_pairs) : (struct bytes){ 0 };
                ck_assert_int_eq(sign_with(&request, KEY_ID, "us-east-1", TIME), -EINVAL);
                ck_assert_ptr_null(sigv4_canonical_request(&request));
        }
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { data_key_request_is_signed_as_computed_elsewhere },
                { session_token_is_signed },
                { host_with_port_is_signed_as_it_is_sent },
                { sts_request_is_signed_as_computed_elsewhere },
                { derived_key_is_the_one_computed_elsewhere_and_lies_in_the_arena },
                { derived_key_is_made_anew_when_its_day_region_service_or_owner_changes },
                { other_secret_gives_another_signature_once_the_key_is_dropped },
                { headers_are_trimmed_joined_and_sorted_by_name },
                { paths_have_one_form },
                { queries_have_one_form },
                { time_is_utc_in_the_basic_form },
                { requests_over_the_limits_are_refused },
        };

        return suite_run("sigv4", setup, teardown, promises, ELEMENTSOF(promises));
}
