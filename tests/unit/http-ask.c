/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/http-ask.h"

struct event_base *base;
struct http *http;
struct http_server server;
char url[256], ca_file[128];
static char directory[64];

static void take(struct http_call *call, const struct http_response *r)
{
        struct outcome *o = (struct outcome *)(void *)call;

        o->n++;
        o->failure = r->failure;
        o->status = r->status;
        o->body = r->body ? secret_ref(r->body) : NULL;
        o->date_wall_usec = r->date_wall_usec;
        o->retry_after_msec = r->retry_after_msec;
        snprintf(o->what, sizeof(o->what), "%s", r->what ? r->what : "");
        snprintf(o->location, sizeof(o->location), "%s", http_response_header(r, "Location"));
        snprintf(o->error_type, sizeof(o->error_type), "%s", http_response_header(r, "x-amzn-ErrorType"));
        snprintf(o->request_id, sizeof(o->request_id), "%s", http_response_header(r, "x-amzn-RequestId"));
        ck_assert_str_eq(http_response_header(r, "set-cookie"), "");
        ck_assert_int_eq(o->failure != 0, *o->what != '\0');
        ck_assert_int_eq(o->failure == 0, o->status != 0);
        ck_assert_ptr_null(call->transfer);
        if (o->then)
                o->then(o);
}

struct outcome *outcome_new(void)
{
        struct outcome *o = calloc(1, sizeof(*o));

        ck_assert_ptr_nonnull(o);
        o->call.done = take;
        return o;
}

void outcome_free(struct outcome *o)
{
        secret_unref(o->body);
        free(o);
}

void wait_for(struct outcome *o)
{
        while (o->n == 0)
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        ck_assert_uint_eq(o->n, 1);
}

struct http_request get(void)
{
        return (struct http_request){ .method = "GET", .url = url, .timeout_usec = PLENTY };
}

struct outcome *ask(const struct http_request *request)
{
        struct outcome *o = outcome_new();

        ck_assert_int_eq(http_start(http, &o->call, request), 0);
        ck_assert_uint_eq(o->n, 0);
        wait_for(o);
        return o;
}

struct outcome *ask_in_vain(struct http_request *request)
{
        struct outcome *o;

        for (request->timeout_usec = 60 * USEC_PER_MSEC;; request->timeout_usec *= 2) {
                o = ask(request);
                ck_assert_int_ne(o->failure, HTTP_FAILURE_NONE);
                if (o->failure != HTTP_FAILURE_CONNECT || request->timeout_usec > PLENTY)
                        return o;
                outcome_free(o);
        }
}

void answer_with(const struct http_server_reply *script, size_t n)
{
        server.script = script;
        server.n_script = n;
        server.n_requests = server.n_connections = 0;
}

struct outcome *ask_answered(const char *text, bool close)
{
        static struct http_server_reply reply;
        struct http_request request = get();

        reply = (struct http_server_reply){ text, close };
        answer_with(&reply, 1);
        return ask(&request);
}

bool body_is(const struct outcome *o, const char *text)
{
        uint8_t *view;
        bool same;

        if (!o->body)
                return !*text;
        view = secret_view_begin(o->body);
        same = secret_arena_contains(view) && bytes_equal((struct bytes){ view, secret_size(o->body) }, bytes_from_string(text));
        secret_view_end(o->body, &view);
        return same;
}

struct secret *secret_of(const char *text)
{
        struct secret *s;
        uint8_t *view;

        ck_assert_int_eq(secret_new(&s, strlen(text)), 0);
        view = secret_view_begin(s);
        memcpy(view, text, strlen(text));
        secret_view_end(s, &view);
        return s;
}

void use_server(bool tls)
{
        http_server_init(&server, base, tls ? ca_file : NULL);
        snprintf(url, sizeof(url), "%s://127.0.0.1:%u/v1/key?version=3", tls ? "https" : "http", server.port);
}

void setup(void)
{
        ck_assert_int_eq(secret_arena_init(64, 16, 4, NULL), 0);
        ck_assert_int_eq(http_global_init(), 0);
        snprintf(directory, sizeof(directory), "/tmp/lkm-http-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(ca_file, sizeof(ca_file), "%s/ca.pem", directory);
        base = event_base_new();
        ck_assert_ptr_nonnull(base);
        ck_assert_int_eq(http_new(&http, base), 0);
        use_server(false);
}

void teardown(void)
{
        size_t small, large;

        http = http_free(http);
        http_server_deinit(&server);
        event_base_free(base);
        unlink(ca_file);
        ck_assert_int_eq(rmdir(directory), 0);
        secret_arena_usage(&small, NULL, &large, NULL);
        ck_assert_uint_eq(small + large, 0);
        secret_arena_deinit();
}
