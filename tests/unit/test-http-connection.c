/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of http: kept ones, TLS, and how calls end. */
#include "tests/unit/http-ask.h"

/* ---- connections ---- */

START_TEST(connection_is_kept_for_the_next_request)
{
        for (int i = 0; i < 3; i++) {
                static const struct http_server_reply ok = { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false };
                struct http_request request = get();

                server.script = &ok;
                server.n_script = 1;
                outcome_free(ask(&request));
        }
        ck_assert_uint_eq(server.n_requests, 3);
        ck_assert_uint_eq(server.n_connections, 1);
}
END_TEST

START_TEST(kept_connection_that_was_closed_is_replaced)
{
        static const struct http_server_reply script[] = { { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false },
                                                           { "", true }, /* reads the request, and goes away */
                                                           { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false } };
        struct secret *body = secret_of("{\"once\":\"more\"}");
        struct http_request request = get();
        struct outcome *o;

        answer_with(script, ELEMENTSOF(script));
        request.method = "POST";
        request.body_secret = body;
        outcome_free(ask(&request));
        o = ask(&request);
        ck_assert_int_eq(o->status, 200);
        ck_assert_uint_eq(server.n_requests, 3);
        ck_assert_uint_eq(server.n_connections, 2);
        ck_assert_ptr_nonnull(strstr(server.request, "\r\n\r\n{\"once\":\"more\"}"));
        outcome_free(o);
        secret_unref(body);
}
END_TEST

START_TEST(after_a_silent_death_connections_are_new)
{
        static const struct http_server_reply script[] = { { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false },
                                                           { NULL, false },
                                                           { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false } };
        struct http_request request = get();
        struct outcome *first[2] = { outcome_new(), outcome_new() }, *o;

        server.script = script;
        server.n_script = 1;
        for (size_t i = 0; i < 2; i++)
                ck_assert_int_eq(http_start(http, &first[i]->call, &request), 0);
        for (size_t i = 0; i < 2; i++) {
                wait_for(first[i]);
                outcome_free(first[i]);
        }
        ck_assert_uint_eq(server.n_connections, 2);
        answer_with(script + 1, 2);
        o = ask_in_vain(&request);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_TIMEOUT);
        ck_assert_uint_eq(server.n_connections, 0); /* on one of the kept ones */
        outcome_free(o);
        request.timeout_usec = PLENTY;
        o = ask(&request);
        ck_assert_int_eq(o->status, 200);
        ck_assert_uint_eq(server.n_connections, 1); /* and not on the other */
        outcome_free(o);
}
END_TEST

START_TEST(unknown_authority_is_refused)
{
        static const struct http_server_reply ok = { "HTTP/1.1 204 No Content\r\n\r\n", false };
        struct http_request request = get();
        struct outcome *o;

        http_server_deinit(&server);
        use_server(true);
        answer_with(&ok, 1);
        o = ask(&request); /* Debian's authorities do not know it */
        ck_assert_int_eq(o->failure, HTTP_FAILURE_TLS);
        ck_assert_ptr_nonnull(strstr(o->what, "127.0.0.1"));
        outcome_free(o);

        request.transport.ca_file = ca_file;
        o = ask(&request);
        ck_assert_msg(o->status == 204, "%s", o->what);
        outcome_free(o);

        request.transport.ca_file = "/nonexistent/ca.pem";
        o = ask(&request);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_TLS);
        ck_assert_ptr_nonnull(strstr(o->what, "/nonexistent/ca.pem"));
        outcome_free(o);
        ck_assert_uint_eq(server.n_requests, 1);
}
END_TEST

START_TEST(certificate_for_another_name_is_refused)
{
        struct http_request request = get();
        struct outcome *o;
        char other[64];

        http_server_deinit(&server);
        use_server(true);
        snprintf(other, sizeof(other), "https://localhost:%u/", server.port);
        request.url = other;
        request.transport.ca_file = ca_file;
        o = ask(&request);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_TLS);
        ck_assert_msg(strstr(o->what, "another name") != NULL, "%s", o->what);
        ck_assert_uint_eq(server.n_requests, 0);
        outcome_free(o);
}
END_TEST

START_TEST(peer_that_never_begins_tls_ends_by_timeout)
{
        struct http_request request = get();
        struct outcome *o;
        char other[64];

        snprintf(other, sizeof(other), "https://127.0.0.1:%u/", server.port);
        request.url = other;
        o = ask_in_vain(&request); /* it waits for a request, and we for its handshake */
        ck_assert_int_eq(o->failure, HTTP_FAILURE_TIMEOUT);
        ck_assert_ptr_nonnull(strstr(o->what, "TLS handshake"));
        outcome_free(o);
}
END_TEST

START_TEST(server_that_goes_away_in_the_handshake_is_an_outage)
{
        struct http_request request = get();
        struct outcome *o;

        http_server_deinit(&server);
        use_server(true);
        request.transport.ca_file = ca_file;
        server.slams = true;
        o = ask(&request);
        ck_assert_msg(o->failure == HTTP_FAILURE_CUT, "%u %s", o->failure, o->what);
        outcome_free(o);
}
END_TEST

START_TEST(client_certificate_is_shown_where_it_is_asked_for)
{
        static const struct http_server_reply ok = { "HTTP/1.1 204 No Content\r\n\r\n", false };
        struct http_request request = get();
        struct outcome *o;

        http_server_deinit(&server);
        use_server(true);
        http_server_demand(&server, ca_file);
        answer_with(&ok, 1);
        request.transport.ca_file = ca_file;
        o = ask(&request);
        ck_assert_msg(o->failure == HTTP_FAILURE_TLS, "%u %s", o->failure, o->what);
        outcome_free(o);

        request.transport.client_certificate = "/nonexistent/cert.pem";
        request.transport.client_key = ca_file;
        o = ask(&request);
        ck_assert_int_eq(o->failure, HTTP_FAILURE_TLS);
        ck_assert_ptr_nonnull(strstr(o->what, "client certificate"));
        outcome_free(o);

        request.transport.client_certificate = ca_file;
        o = ask(&request);
        ck_assert_msg(o->status == 204, "%s", o->what);
        outcome_free(o);
}
END_TEST

/* ---- ends ---- */

START_TEST(cancelled_call_never_ends)
{
        static const struct http_server_reply nothing = { 0 };
        struct http_request requests[4] = { get(), get(), get(), get() };

        answer_with(&nothing, 1);
        requests[1].url = "https://nobody.invalid/"; /* while it is resolved, in a thread of libcurl's */
        requests[2].url = "ftp://refused.example/";
        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                struct outcome *o = outcome_new();

                ck_assert_int_eq(http_start(http, &o->call, &requests[i]), 0);
                if (i == 1)
                        event_base_loop(base, EVLOOP_ONCE);
                else if (i == 3)
                        while (server.n_requests == 0)
                                event_base_loop(base, EVLOOP_ONCE);
                http_cancel(http, &o->call);
                ck_assert_ptr_null(o->call.transfer);
                http_cancel(http, &o->call);
                ck_assert_uint_eq(o->n, 0);
                outcome_free(o);
        }
        event_base_loop(base, EVLOOP_NONBLOCK);
}
END_TEST

START_TEST(end_of_the_client_ends_each_call_once)
{
        static const struct http_server_reply nothing = { 0 };
        struct http_request requests[4] = { get(), get(), get(), get() };
        struct outcome *o[4];

        answer_with(&nothing, 1);
        requests[1].url = "https://nobody.invalid/";
        requests[2].url = "http://refused.example/";
        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                o[i] = outcome_new();
                ck_assert_int_eq(http_start(http, &o[i]->call, &requests[i]), 0);
        }
        http = http_free(http);
        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                ck_assert_uint_eq(o[i]->n, 1);
                ck_assert_int_eq(o[i]->failure, i == 2 ? HTTP_FAILURE_REFUSED : HTTP_FAILURE_ENDED);
                outcome_free(o[i]);
        }
}
END_TEST

static struct outcome *followed;

static void start_next(struct outcome *o)
{
        struct http_request request = get();

        o->then = NULL;
        followed = outcome_new();
        ck_assert_int_eq(http_start(http, &followed->call, &request), 0);
        outcome_free(o); /* its owner may go away here */
}

START_TEST(call_may_be_freed_and_another_started_when_it_ends)
{
        static const struct http_server_reply ok = { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false };
        struct outcome *o = outcome_new();
        struct http_request request = get();

        answer_with(&ok, 1);
        o->then = start_next;
        ck_assert_int_eq(http_start(http, &o->call, &request), 0);
        while (!followed)
                event_base_loop(base, EVLOOP_ONCE);
        wait_for(followed);
        ck_assert_int_eq(followed->status, 200);
        outcome_free(followed);
        ck_assert_uint_eq(server.n_connections, 1);
}
END_TEST

START_TEST(calls_over_the_limit_are_refused)
{
        static struct outcome *o[HTTP_CALLS_MAX + 1];
        struct http_request request = get();

        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                o[i] = outcome_new();
                ck_assert_int_eq(http_start(http, &o[i]->call, &request), i < HTTP_CALLS_MAX ? 0 : -ENOBUFS);
        }
        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                http_cancel(http, &o[i]->call);
                outcome_free(o[i]);
        }
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { connection_is_kept_for_the_next_request },
                { kept_connection_that_was_closed_is_replaced },
                { after_a_silent_death_connections_are_new },
                { unknown_authority_is_refused },
                { certificate_for_another_name_is_refused },
                { peer_that_never_begins_tls_ends_by_timeout },
                { server_that_goes_away_in_the_handshake_is_an_outage },
                { client_certificate_is_shown_where_it_is_asked_for },
                { cancelled_call_never_ends },
                { end_of_the_client_ends_each_call_once },
                { call_may_be_freed_and_another_started_when_it_ends },
                { calls_over_the_limit_are_refused },
        };

        return suite_run("http-connection", setup, teardown, promises, ELEMENTSOF(promises));
}
