/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/listener.h>
#include <openssl/ssl.h>

#include "tests/mock-kms/control.h"
#include "tests/mock-kms/service.h"

enum { BODY_MAX = 1 << 20, HEADERS_MAX = 1 << 16, IDLE_SECONDS = 300 };

struct server {
        struct event_base *base;
        SSL_CTX *context;
        struct evhttp *plain, *tls;
        struct mock mock;
        struct faults faults;
        struct journal journal;
        struct list connections; /* that have asked for more than /mock/ */
        struct list exchanges;
};

struct connection {
        struct list link;
        struct server *server;
        struct evhttp_connection *http;
};

/** A request until its answer is given. */
struct exchange {
        struct list link;
        struct server *server;
        struct request request;
        struct answer answer;
        const struct service *service; /* NULL for /mock/ and what nobody claims */
        struct fault_plan plan;
        struct event *timer; /* NULL when there is no delay */
};

/* ---- connections ---- */

static void on_connection_closed(struct evhttp_connection *http, void *arg)
{
        struct connection *c = arg;

        list_unlink(&c->link);
        free(c);
}

/* A connection counts from its first request to a service. */
static void count_connection(struct server *s, struct evhttp_connection *http)
{
        struct connection *c;

        for (struct list *node = s->connections.next; node != &s->connections; node = node->next)
                if (list_entry(node, struct connection, link)->http == http)
                        return;
        c = memory_new(sizeof(*c));
        c->http = http;
        list_init(&c->link);
        list_append(&s->connections, &c->link);
        evhttp_connection_set_closecb(http, on_connection_closed, c);
        s->journal.n_connections++;
}

static struct bufferevent *on_accept_tls(struct event_base *base, void *arg)
{
        struct server *s = arg;
        SSL *tls = SSL_new(s->context);
        struct bufferevent *b =
                tls ? bufferevent_openssl_socket_new(base, -1, tls, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE)
                    : NULL;

        if (b)
                bufferevent_openssl_set_allow_dirty_shutdown(b, 1);
        return b;
}

/* ---- answers ---- */

static void exchange_free(struct exchange *e)
{
        list_unlink(&e->link);
        if (e->timer)
                event_free(e->timer);
        request_deinit(&e->request);
        answer_deinit(&e->answer);
        fault_plan_deinit(&e->plan);
        free(e);
}

static void put_date(struct server *s, struct evkeyvalq *headers)
{
        time_t now = (time_t)(mock_now_usec(&s->mock) / USEC_PER_SEC);
        struct tm tm;
        char text[64];

        gmtime_r(&now, &tm);
        evutil_date_rfc1123(text, sizeof(text), &tm);
        evhttp_add_header(headers, "Date", text);
}

static void send_answer(struct exchange *e)
{
        struct evhttp_request *http = e->request.http;
        struct evkeyvalq *headers = evhttp_request_get_output_headers(http);
        struct evbuffer *body = evbuffer_new();
        const struct answer *a = &e->answer;
        bool cut = e->plan.kind == FAULT_CUT && a->n_body > 0;

        if (!body || evbuffer_add(body, a->body, cut ? a->n_body / 2 : a->n_body) < 0)
                abort();
        put_date(e->server, headers);
        if (a->content_type && a->n_body)
                evhttp_add_header(headers, "Content-Type", a->content_type);
        for (size_t i = 0; i < a->n_headers; i++)
                evhttp_add_header(headers, a->headers[i].name, a->headers[i].value);
        if (cut) {
                _cleanup_(freep) char *promised = text_format("%zu", a->n_body);

                evhttp_add_header(headers, "Content-Length", promised);
                evhttp_add_header(headers, "Connection", "close");
        }
        evhttp_send_reply(http, a->status, NULL, body);
        evbuffer_free(body);
}

static void on_drop(evutil_socket_t fd, short what, void *arg)
{
        evhttp_connection_free(arg);
}

/* Not from inside evhttp's own callback, which goes on to use the connection. */
static void drop_connection(struct exchange *e)
{
        static const struct timeval now;
        struct evhttp_connection *http = evhttp_request_get_connection(e->request.http);

        if (event_base_once(e->server->base, -1, EV_TIMEOUT, on_drop, http, &now) < 0)
                abort();
}

static void exchange_finish(struct exchange *e)
{
        bool drop = e->plan.kind == FAULT_LOSE_REGION;

        if (!control_claims(&e->request))
                journal_end(&e->server->journal, e->service ? e->service->name : "none", e->request.operation,
                            e->request.region, drop ? 0 : e->answer.status,
                            e->plan.delay_msec && !e->plan.kind ? "delay" : fault_kind_name(e->plan.kind),
                            e->answer.request_id);
        if (drop)
                drop_connection(e);
        else
                send_answer(e);
        exchange_free(e);
}

/* ---- requests ---- */

static void answer_by_plan(struct exchange *e)
{
        const struct fault_plan *p = &e->plan;
        _cleanup_(freep) char *location = NULL, *seconds = text_format("%d", p->retry_after);

        if (p->retry_after > 0)
                answer_header(&e->answer, "Retry-After", seconds);
        switch (p->kind) {
        case FAULT_THROTTLE:
                e->service->throttle(&e->request, &e->answer);
                break;
        case FAULT_STATUS:
                if (p->body)
                        answer_text(&e->answer, p->status, "application/json", p->body);
                else
                        e->service->fail(&e->request, &e->answer, p->status);
                break;
        case FAULT_REDIRECT:
                location = text_format("%s%s%s%s", p->location, e->request.path, *e->request.query ? "?" : "",
                                       e->request.query);
                answer_text(&e->answer, p->status ? p->status : 307, NULL, "");
                answer_header(&e->answer, "Location", location);
                break;
        case FAULT_GARBAGE:
                answer_text(&e->answer, p->status ? p->status : 200, "text/html",
                            p->body ? p->body : "<html><body>It works!</body></html>");
                break;
        case FAULT_LOSE_REGION:
                break;
        default:
                e->service->handle(&e->server->mock, &e->request, &e->answer);
        }
}

static void exchange_serve(struct exchange *e)
{
        struct server *s = e->server;

        e->service = service_of(&e->request);
        journal_begin(&s->journal);
        count_connection(s, evhttp_request_get_connection(e->request.http));
        if (!e->service) {
                answer_text(&e->answer, 404, "text/plain", "No service of lkm-mock-kms is here.\n");
                return;
        }
        e->service->identify(&e->request);
        fault_take(&e->plan, &s->faults, e->service->name, &e->request);
        answer_by_plan(e);
}

static void on_delay(evutil_socket_t fd, short what, void *arg)
{
        exchange_finish(arg);
}

static void exchange_delay(struct exchange *e)
{
        struct timeval delay = { .tv_sec = (time_t)(e->plan.delay_msec / 1000),
                                 .tv_usec = (suseconds_t)(e->plan.delay_msec % 1000 * 1000) };

        e->timer = evtimer_new(e->server->base, on_delay, e);
        if (!e->timer || evtimer_add(e->timer, &delay) < 0)
                abort();
}

static void on_request(struct evhttp_request *http, void *arg)
{
        struct server *s = arg;
        struct control control = { &s->mock, &s->faults, &s->journal };
        struct exchange *e = memory_new(sizeof(*e));

        e->server = s;
        list_init(&e->link);
        list_append(&s->exchanges, &e->link);
        if (request_init(&e->request, http) < 0) {
                evhttp_send_error(http, 400, NULL);
                exchange_free(e);
                return;
        }
        if (control_claims(&e->request))
                control_handle(&control, &e->request, &e->answer);
        else
                exchange_serve(e);
        if (e->plan.delay_msec)
                exchange_delay(e);
        else
                exchange_finish(e);
}

/* ---- the server ---- */

static struct evhttp *http_new(struct server *s)
{
        struct evhttp *http = evhttp_new(s->base);

        if (!http)
                abort();
        evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
                                                 EVHTTP_REQ_HEAD);
        evhttp_set_max_body_size(http, BODY_MAX);
        evhttp_set_max_headers_size(http, HEADERS_MAX);
        evhttp_set_timeout(http, IDLE_SECONDS);
        evhttp_set_default_content_type(http, NULL);
        evhttp_set_gencb(http, on_request, s);
        return http;
}

struct server *server_new(struct event_base *base, SSL_CTX *context)
{
        struct server *s = memory_new(sizeof(*s));

        s->base = base;
        s->context = context;
        mock_init(&s->mock);
        faults_init(&s->faults);
        journal_init(&s->journal);
        list_init(&s->connections);
        list_init(&s->exchanges);
        s->plain = http_new(s);
        s->tls = http_new(s);
        evhttp_set_bevcb(s->tls, on_accept_tls, s);
        return s;
}

void server_free(struct server *s)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &s->exchanges)
                exchange_free(list_entry(node, struct exchange, link));
        evhttp_free(s->plain);
        evhttp_free(s->tls);
        mock_deinit(&s->mock);
        faults_deinit(&s->faults);
        journal_deinit(&s->journal);
        free(s);
}

int server_listen(struct server *s, const struct sockaddr *address, int n_address, int with_tls, unsigned *ret_port)
{
        struct evconnlistener *listener = evconnlistener_new_bind(
                s->base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, 128, address,
                n_address);
        struct sockaddr_storage bound;
        socklen_t n_bound = sizeof(bound);
        const int yes = 1;

        if (!listener)
                return errno ? -errno : -EIO;
        /* What is accepted inherits it. Else the second piece of each answer would wait for the client's delayed acknowledgement. */
        if (setsockopt(evconnlistener_get_fd(listener), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) < 0) {
                evconnlistener_free(listener);
                return -errno;
        }
        if (!evhttp_bind_listener(with_tls ? s->tls : s->plain, listener)) {
                evconnlistener_free(listener);
                return -ENOMEM;
        }
        if (getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&bound, &n_bound) < 0)
                return -errno;
        *ret_port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                      : ((struct sockaddr_in *)&bound)->sin_port);
        return 0;
}
