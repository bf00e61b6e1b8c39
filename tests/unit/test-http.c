/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers of http. */
#include "tests/unit/http-ask.h"

/* No name server is asked for it: no label is that long. */
#define NO_NAME "a234567890123456789012345678901234567890123456789012345678901234567890.invalid"

/* ---- answers that are none ---- */

START_TEST(cut_body_is_no_answer)
{
        static const char *const cut[] = { "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345",
                                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
                                           "HTTP/1.1 200 OK\r\nContent-Le",
                                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n12345\r\n0\r\n\r\n",
                                           "220 mail.example ESMTP\r\n",
                                           "" };

        for (size_t i = 0; i < ELEMENTSOF(cut); i++) {
                struct outcome *o = ask_answered(cut[i], true);

                ck_assert_msg(o->failure == HTTP_FAILURE_CUT, "case %zu: %u %s", i, o->failure, o->what);
                ck_assert_ptr_null(o->body);
                ck_assert_ptr_nonnull(strstr(o->what, "127.0.0.1"));
                ck_assert_ptr_null(strstr(o->what, "version=3"));
                ck_assert_ptr_null(strstr(o->what, "12345"));
                outcome_free(o);
        }
}
END_TEST

START_TEST(too_large_answer_is_refused)
{
        static char large[HTTP_BODY_MAX + 512];
        static const char *const heads[] = { "Content-Length: 32769", "Connection: close" };

        for (size_t i = 0; i < ELEMENTSOF(heads); i++) {
                struct outcome *o;
                int n = snprintf(large, sizeof(large), "HTTP/1.1 200 OK\r\n%s\r\n\r\n", heads[i]);

                memset(large + n, 'x', HTTP_BODY_MAX + 1);
                large[n + HTTP_BODY_MAX + 1] = '\0';
                o = ask_answered(large, true);
                ck_assert_int_eq(o->failure, HTTP_FAILURE_TOO_LARGE);
                ck_assert_ptr_null(o->body);
                outcome_free(o);
        }
}
END_TEST

START_TEST(endless_headers_are_refused)
{
        static char endless[128 * 1024];
        size_t n = (size_t)snprintf(endless, sizeof(endless), "HTTP/1.1 200 OK\r\n");
        struct outcome *o;

        while (n < sizeof(endless) - 32)
                n += (size_t)snprintf(endless + n, sizeof(endless) - n, "X-More: of the same\r\n");
        o = ask_answered(endless, true);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_TOO_LARGE);
        outcome_free(o);
}
END_TEST

START_TEST(closed_port_is_nobody)
{
        struct http_request request = get();
        struct outcome *o;

        http_server_deinit(&server);
        o = ask(&request);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_CONNECT);
        ck_assert_ptr_nonnull(strstr(o->what, "nobody answers at 127.0.0.1:"));
        ck_assert_ptr_nonnull(strstr(o->what, "Connection refused"));
        outcome_free(o);
        use_server(false);
}
END_TEST

START_TEST(name_without_address_is_not_resolved)
{
        struct http_request request = get();
        struct outcome *o;

        request.url = "https://" NO_NAME "/v1/secret?token=abc";
        o = ask(&request);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_RESOLVE);
        ck_assert_ptr_nonnull(strstr(o->what, "cannot resolve " NO_NAME));
        ck_assert_ptr_null(strstr(o->what, "abc"));
        outcome_free(o);
}
END_TEST

START_TEST(silent_server_ends_by_timeout)
{
        static const struct http_server_reply nothing = { 0 };
        struct http_request request = get();
        struct outcome *o;

        answer_with(&nothing, 1);
        o = ask_in_vain(&request);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_TIMEOUT);
        ck_assert_ptr_nonnull(strstr(o->what, "did not answer within "));
        outcome_free(o);
        request.timeout_usec = 0; /* not "without limit" */
        o = ask(&request);
        ck_assert_int_ne(o->failure, HTTP_FAILURE_NONE);
        outcome_free(o);
}
END_TEST

START_TEST(plain_http_goes_nowhere_but_to_this_machine)
{
        static const char *const refused[] = {
                "http://kms.example/",        "http://169.254.169.253/",    "http://127.0.0.1.example/", "http://localhost.example/",
                "http://10.0.0.1/",           "http://[fd00:ec2::255]/",    "http://0.0.0.0/",           "http://[::]/",
                "http://[::ffff:127.0.0.1]/", "http://128.0.0.1/",          "ftp://127.0.0.1/",          "file:///etc/passwd",
                "https://user:pass@host/",    "https://user@host/",         "kms.example",               "",
                "https://",                   "http://127.0.0.1@evil.example/", "gopher://127.0.0.1/",   "http://[fe80::1%25lo]/",
        };

        for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
                struct http_request request = get();
                struct outcome *o;

                request.url = refused[i];
                o = ask(&request);
                ck_assert_msg(o->failure == HTTP_FAILURE_REFUSED, "%s: %u %s", refused[i], o->failure, o->what);
                ck_assert_ptr_null(strstr(o->what, "pass"));
                outcome_free(o);
        }
}
END_TEST

START_TEST(redirect_is_not_followed)
{
        struct outcome *o = ask_answered("HTTP/1.1 307 Temporary Redirect\r\nLocation: https://other.example/v1?x=1\r\n"
                                         "Content-Length: 0\r\n\r\n",
                                         false);

        ck_assert_int_eq(o->status, 307);
        ck_assert_str_eq(o->location, "https://other.example/v1?x=1");
        ck_assert_ptr_null(o->body);
        ck_assert_uint_eq(server.n_requests, 1);
        outcome_free(o);
}
END_TEST

START_TEST(full_arena_fails_the_call_not_the_process)
{
        struct secret *taken[16];
        struct http_request request = get();
        struct outcome *o = outcome_new();
        size_t n = 0;

        while (n < ELEMENTSOF(taken) && secret_new(&taken[n], SECRET_LARGE_MAX) == 0)
                n++;
        request.method = "POST";
        request.body = BYTES_LITERAL("a body that has no place in one of the small slots of the arena");
        ck_assert_int_eq(http_start(http, &o->call, &request), -ENOBUFS);
        ck_assert_ptr_null(o->call.transfer);
        outcome_free(o);
        o = ask_answered("HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"
                         "123456789.123456789.123456789.123456789.123456789.123456789.",
                         false);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_LOCAL);
        while (n > 0)
                secret_unref(taken[--n]);
        outcome_free(o);
}
END_TEST

START_TEST(header_with_a_line_break_is_refused)
{
        struct secret *token = secret_of("hvs.abc\nX-Other: 1");
        struct http_request request = get();
        struct outcome *o;

        request.n_headers = 1;
        request.headers[0] = (struct http_header){ .name = "X-Vault-Token", .secret = token };
        o = ask(&request);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_REFUSED);
        ck_assert_ptr_nonnull(strstr(o->what, "X-Vault-Token"));
        ck_assert_ptr_null(strstr(o->what, "hvs"));
        outcome_free(o);
        secret_unref(token);
}
END_TEST

/* ---- answers ---- */

START_TEST(answer_comes_with_status_body_and_known_headers)
{
        struct outcome *o = ask_answered("HTTP/1.1 100 Continue\r\nx-amzn-RequestId: not this\r\n\r\n"
                                         "HTTP/1.1 400 Bad Request\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 17\r\n"
                                         "X-Amzn-ErrorType: ThrottlingException\r\nx-amzn-requestid:  r-1 \r\nSet-Cookie: a=b\r\n"
                                         "Retry-After: 3\r\nContent-Type: application/x-amz-json-1.1\r\n\r\n{\"__type\":\"abcd\"}",
                                         false);

        ck_assert_int_eq(o->status, 400);
        ck_assert(body_is(o, "{\"__type\":\"abcd\"}"));
        ck_assert_str_eq(o->error_type, "ThrottlingException");
        ck_assert_str_eq(o->request_id, "r-1");
        ck_assert_str_eq(o->location, "");
        ck_assert_uint_eq(o->date_wall_usec, 784111777 * USEC_PER_SEC);
        ck_assert_uint_eq(o->retry_after_msec, 3000);
        outcome_free(o);
}
END_TEST

START_TEST(server_says_when_to_ask_again)
{
        static const struct {
                const char *headers;
                uint32_t msec;
        } cases[] = {
                { "Retry-After: 120\r\n", 120000 },
                { "Retry-After: 99999999999999999999999\r\n", UINT32_MAX },
                { "x-amz-retry-after: 1500\r\nRetry-After: 60\r\n", 1500 },
                { "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:47 GMT\r\n", 10000 },
                { "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:27 GMT\r\n", 0 },
                { "Retry-After: soon\r\n", 0 },
                { "Retry-After: -5\r\n", 0 },
                { "Retry-After:\r\n", 0 },
                { "", 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char text[512];
                struct outcome *o;

                snprintf(text, sizeof(text), "HTTP/1.1 503 Busy\r\n%sContent-Length: 0\r\n\r\n", cases[i].headers);
                o = ask_answered(text, false);
                ck_assert_int_eq(o->status, 503);
                ck_assert_msg(o->retry_after_msec == cases[i].msec, "%s: %u", cases[i].headers, o->retry_after_msec);
                outcome_free(o);
        }
}
END_TEST

START_TEST(bodies_of_each_size_arrive)
{
        static const size_t sizes[] = { 1, 48, 49, 8191, 8192, 8193, 20000, 32768 };
        static char text[HTTP_BODY_MAX + 256], body[HTTP_BODY_MAX + 1];

        for (size_t i = 0; i < ELEMENTSOF(sizes) * 2; i++) {
                bool announced = i % 2;
                size_t n = sizes[i / 2];
                char head[64];
                struct outcome *o;

                for (size_t j = 0; j < n; j++)
                        body[j] = (char)('a' + j % 26);
                body[n] = '\0';
                snprintf(head, sizeof(head), announced ? "Content-Length: %zu" : "Connection: close", n);
                snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n%s\r\n\r\n%s", head, body);
                o = ask_answered(text, !announced);
                ck_assert_int_eq(o->status, 200);
                ck_assert_uint_eq(secret_size(o->body), n);
                ck_assert(body_is(o, body));
                outcome_free(o);
        }
}
END_TEST

START_TEST(over_long_header_is_left_out_whole)
{
        static char text[4096];
        struct outcome *o;
        size_t n = (size_t)snprintf(text, sizeof(text), "HTTP/1.1 307 Go\r\nContent-Length: 0\r\nLocation: https://a.example/");

        memset(text + n, 'x', 2048);
        snprintf(text + n + 2048, sizeof(text) - n - 2048, "\r\n\r\n");
        o = ask_answered(text, false);
        ck_assert_int_eq(o->status, 307);
        ck_assert_str_eq(o->location, "");
        outcome_free(o);
}
END_TEST

/* ---- requests ---- */

START_TEST(request_arrives_as_it_was_given)
{
        static const struct http_server_reply ok = { "HTTP/1.1 204 No Content\r\n\r\n", false };
        struct secret *token = secret_of("hvs.CAESIsecret"), *body = secret_of("{\"jwt\":\"eyJ\"}");
        struct http_request request = get();
        struct outcome *o;

        answer_with(&ok, 1);
        request.method = "PUT";
        request.n_headers = 3;
        request.headers[0] = (struct http_header){ .name = "X-Vault-Token", .secret = token };
        request.headers[1] = (struct http_header){ .name = "X-Amz-Target", .value = BYTES_LITERAL("TrentService.Decrypt") };
        request.headers[2] = (struct http_header){ .name = "X-Empty" };
        request.body_secret = body;
        o = ask(&request);
        ck_assert_int_eq(o->status, 204);
        ck_assert_ptr_null(o->body);
        ck_assert_int_eq(strncmp(server.request, "PUT /v1/key?version=3 HTTP/1.1\r\n", 32), 0);
        ck_assert_ptr_nonnull(strstr(server.request, "\r\nX-Vault-Token: hvs.CAESIsecret\r\n"));
        ck_assert_ptr_nonnull(strstr(server.request, "\r\nX-Amz-Target: TrentService.Decrypt\r\n"));
        ck_assert_ptr_nonnull(strstr(server.request, "\r\nX-Empty:\r\n"));
        ck_assert_ptr_nonnull(strstr(server.request, "\r\nContent-Length: 13\r\n"));
        ck_assert_ptr_nonnull(strstr(server.request, "\r\n\r\n{\"jwt\":\"eyJ\"}"));
        ck_assert_ptr_null(strstr(server.request, "Content-Type"));
        ck_assert_ptr_null(strstr(server.request, "Accept-Encoding"));
        ck_assert_ptr_null(strstr(server.request, "Expect"));
        outcome_free(o);
        secret_unref(token);
        secret_unref(body);

        request = get();
        request.method = "POST"; /* without a body */
        o = ask(&request);
        ck_assert_ptr_nonnull(strstr(server.request, "\r\nContent-Length: 0\r\n"));
        outcome_free(o);

        request.method = "LIST";
        o = ask(&request);
        ck_assert_int_eq(strncmp(server.request, "LIST /v1/key?version=3 ", 23), 0);
        outcome_free(o);
}
END_TEST

START_TEST(body_outlives_what_it_was_copied_from)
{
        static const struct http_server_reply ok = { "HTTP/1.1 204 No Content\r\n\r\n", false };
        struct http_request request = get();
        char body[] = "{\"KeyId\":\"alias/lkm\"}", name[64], host[64];
        struct outcome *o = outcome_new();

        answer_with(&ok, 1);
        request.method = "POST";
        request.body = bytes_from_string(body);
        request.n_headers = 1;
        request.headers[0] = (struct http_header){ .name = name, .value = bytes_from_string(host) };
        snprintf(name, sizeof(name), "Content-Type");
        snprintf(host, sizeof(host), "application/x-amz-json-1.1");
        request.headers[0].value = bytes_from_string(host);
        ck_assert_int_eq(http_start(http, &o->call, &request), 0);
        memset(body, 'x', sizeof(body));
        memset(host, 'x', sizeof(host));
        memset(name, 'x', sizeof(name));
        wait_for(o);
        ck_assert_int_eq(o->status, 204);
        ck_assert_ptr_nonnull(strstr(server.request, "\r\nContent-Type: application/x-amz-json-1.1\r\n"));
        ck_assert_ptr_nonnull(strstr(server.request, "\r\n\r\n{\"KeyId\":\"alias/lkm\"}"));
        outcome_free(o);
}
END_TEST

START_TEST(path_is_sent_as_it_stands)
{
        static const struct http_server_reply ok = { "HTTP/1.1 204 No Content\r\n\r\n", false };
        struct http_request request = get();
        char path[128];

        answer_with(&ok, 1);
        snprintf(path, sizeof(path), "http://127.0.0.1:%u/a/../b//c%%2fd/./e", server.port);
        request.url = path;
        outcome_free(ask(&request));
        ck_assert_int_eq(strncmp(server.request, "GET /a/../b//c%2fd/./e HTTP/1.1\r\n", 33), 0);
}
END_TEST

START_TEST(environment_chooses_no_proxy)
{
        static const struct http_server_reply ok = { "HTTP/1.1 204 No Content\r\n\r\n", false };
        struct http_request request = get();
        struct outcome *o;

        answer_with(&ok, 1);
        setenv("http_proxy", "http://127.0.0.1:1", 1);
        setenv("https_proxy", "http://127.0.0.1:1", 1);
        setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
        o = ask(&request);
        ck_assert_int_eq(o->status, 204);
        outcome_free(o);
}
END_TEST

START_TEST(proxy_that_refuses_is_named_without_its_password)
{
        static const struct http_server_reply no = { "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", true };
        struct http_request request = get();
        struct outcome *o;
        char proxy[128], named[64];

        answer_with(&no, 1);
        snprintf(proxy, sizeof(proxy), "http://clinic:hunter2@127.0.0.1:%u", server.port);
        snprintf(named, sizeof(named), "proxy 127.0.0.1:%u", server.port);
        request.url = "https://kms.example/";
        request.transport.proxy = proxy;
        setenv("no_proxy", "*", 1);
        o = ask(&request);
        ck_assert_int_eq(strncmp(server.request, "CONNECT kms.example:443 ", 24), 0);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_CONNECT);
        ck_assert_ptr_nonnull(strstr(o->what, named));
        ck_assert_ptr_nonnull(strstr(o->what, "403"));
        ck_assert_ptr_null(strstr(o->what, "hunter2"));
        outcome_free(o);
}
END_TEST

START_TEST(host_is_as_in_the_header)
{
        static const struct {
                const char *url, *host;
        } cases[] = {
                { "https://kms.us-east-1.amazonaws.com/", "kms.us-east-1.amazonaws.com" },
                { "https://vault.example:8200/v1", "vault.example:8200" },
                { "https://vault.example:443", "vault.example" },
                { "http://localhost:80/", "localhost" },
                { "http://[::1]:8200/", "[::1]:8200" },
                { "https://", NULL },
                { "vault.example", NULL },
                { "ftp://vault.example/", NULL },
        };
        char host[64];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                ck_assert_int_eq(http_host(cases[i].url, host, sizeof(host)), cases[i].host ? 0 : -EINVAL);
                if (cases[i].host)
                        ck_assert_str_eq(host, cases[i].host);
        }
        ck_assert_int_eq(http_host("https://a.example/", host, 9), -EINVAL);
        ck_assert_int_eq(http_host("https://a.example/", host, 10), 0);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { cut_body_is_no_answer },
                { too_large_answer_is_refused },
                { endless_headers_are_refused },
                { closed_port_is_nobody },
                { name_without_address_is_not_resolved },
                { silent_server_ends_by_timeout },
                { plain_http_goes_nowhere_but_to_this_machine },
                { redirect_is_not_followed },
                { full_arena_fails_the_call_not_the_process },
                { header_with_a_line_break_is_refused },
                { answer_comes_with_status_body_and_known_headers },
                { server_says_when_to_ask_again },
                { bodies_of_each_size_arrive },
                { over_long_header_is_left_out_whole },
                { request_arrives_as_it_was_given },
                { body_outlives_what_it_was_copied_from },
                { path_is_sent_as_it_stands },
                { environment_chooses_no_proxy },
                { proxy_that_refuses_is_named_without_its_password },
                { host_is_as_in_the_header },
        };

        return suite_run("http", setup, teardown, promises, ELEMENTSOF(promises));
}
