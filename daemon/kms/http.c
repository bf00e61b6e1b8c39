/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client: libcurl's multi handle on the event loop, and the life of a transfer.
 *
 * libcurl's callbacks never call back into libcurl, and call nobody else's code: the timer callback arms a timer, the socket callback makes
 * and frees events. done() is called when libcurl has returned, so that an owner may start and cancel what it likes there.
 */
#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/http-transfer.h"

/* Connections that are kept for later, to all hosts. */
#define CONNECTIONS_KEPT 64L

struct http {
        struct event_base *base;
        CURLM *multi;
        struct event *timer; /* libcurl's one timeout */
        struct event *refusal; /* active while @refused has something */
        struct list transfers; /* given to libcurl */
        struct list refused; /* ended before that: done() is still to be called */
        size_t n_transfers;
        bool ending;
        bool distrust; /* a kept connection has died silently (a suspended laptop, a firewall that forgot): none is reused until a
                          new one has answered */
};

int http_global_init(void)
{
        CURLcode code;

        /* libcurl would write the session keys of TLS there. */
        unsetenv("SSLKEYLOGFILE");
        code = curl_global_init_mem(CURL_GLOBAL_DEFAULT, secret_malloc, secret_free, secret_realloc, secret_strdup, secret_calloc);
        return code == CURLE_OK ? 0 : -EIO;
}

/* ---- the life of a transfer ---- */

/* Let go of all but the answer. libcurl's copies of headers and body go through the zeroing allocators. */
static void transfer_stop(struct http_transfer *t)
{
        if (t->easy) {
                curl_multi_remove_handle(t->http->multi, t->easy); /* refused with no effect when it is not in there */
                curl_easy_cleanup(t->easy);
                t->easy = NULL;
        }
        curl_slist_free_all(t->headers);
        t->headers = NULL;
        if (t->request_view)
                secret_view_end(t->request_body, &t->request_view);
        t->request_body = secret_unref(t->request_body);
        if (!list_is_empty(&t->link)) {
                list_unlink(&t->link);
                t->http->n_transfers--;
        }
}

static struct http_transfer *transfer_free(struct http_transfer *t)
{
        transfer_stop(t);
        secret_unref(t->body);
        free(t);
        return NULL;
}
DEFINE_CLEANUP(struct http_transfer *, transfer_free)

static void note_connection(struct http_transfer *t, enum http_failure failure)
{
        long n_new = 0;

        if (!t->easy || curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &n_new) != CURLE_OK)
                return;
        if (failure == HTTP_FAILURE_NONE && n_new > 0)
                t->http->distrust = false;
        else if (failure == HTTP_FAILURE_TIMEOUT && n_new == 0)
                t->http->distrust = true;
}

/* End @t: done() is called, and may free the call. */
static void transfer_end(struct http_transfer *t, CURLcode code)
{
        struct http_call *call = t->call;
        struct http_response response;

        transfer_answer(t, code, &response);
        note_connection(t, response.failure);
        transfer_stop(t);
        call->transfer = NULL;
        call->done(call, &response);
        transfer_free(t);
        secret_wipe_stack();
}

static void transfer_abort(struct http_transfer *t, enum http_failure failure, const char *what)
{
        t->failure = failure;
        snprintf(t->what, sizeof(t->what), "%s", what);
        transfer_end(t, CURLE_OK);
}

static void end_all(struct http *h, enum http_failure failure, const char *what)
{
        struct list all = LIST_INIT(all);

        /* Only these, and not what their owners start in turn. */
        while (!list_is_empty(&h->transfers)) {
                struct list *node = h->transfers.next;

                list_unlink(node);
                list_append(&all, node);
        }
        while (!list_is_empty(&all))
                transfer_abort(list_entry(all.next, struct http_transfer, link), failure, what);
}

/* ---- libcurl and the event loop ---- */

static void end_finished(struct http *h)
{
        CURLMsg *message;
        int n_left;

        while ((message = curl_multi_info_read(h->multi, &n_left))) {
                CURLcode code = message->data.result;
                char *private = NULL;

                if (message->msg != CURLMSG_DONE)
                        continue;
                curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
                transfer_end((struct http_transfer *)(void *)private, code);
        }
}

static void proceed(struct http *h, curl_socket_t fd, int what)
{
        int n_running;
        CURLMcode code = curl_multi_socket_action(h->multi, fd, what, &n_running);

        secret_wipe_stack(); /* of what was decrypted and copied */
        if (code != CURLM_OK)
                end_all(h, HTTP_FAILURE_LOCAL, curl_multi_strerror(code));
        else
                end_finished(h);
}

static void on_socket(evutil_socket_t fd, short what, void *userdata)
{
        proceed(userdata, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
        proceed(userdata, CURL_SOCKET_TIMEOUT, 0);
}

static void on_refusal(evutil_socket_t fd, short what, void *userdata)
{
        struct http *h = userdata;

        while (!list_is_empty(&h->refused))
                transfer_end(list_entry(h->refused.next, struct http_transfer, link), CURLE_OK);
}

/* libcurl: watch @fd for this from now on. The event is what libcurl keeps for us with the descriptor. */
static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_userdata)
{
        struct http *h = userdata;
        struct event *event = socket_userdata;
        short mask = EV_PERSIST;

        if (what != CURL_POLL_REMOVE) {
                mask = (short)(mask | (what != CURL_POLL_OUT ? EV_READ : 0) | (what != CURL_POLL_IN ? EV_WRITE : 0));
                if (event && event_get_events(event) == mask)
                        return 0;
        }
        if (event)
                event_free(event);
        event = NULL;
        if (what != CURL_POLL_REMOVE) {
                event = event_new(h->base, fd, mask, on_socket, h);
                if (event && event_add(event, NULL) < 0) {
                        event_free(event);
                        event = NULL;
                }
        }
        curl_multi_assign(h->multi, fd, event);
        return event || what == CURL_POLL_REMOVE ? 0 : -1;
}

/* libcurl: call again after this time, in place of what was said before. */
static int watch_timer(CURLM *multi, long msec, void *userdata)
{
        struct http *h = userdata;
        struct timeval time = { .tv_sec = msec / 1000, .tv_usec = msec % 1000 * 1000 };

        if (msec < 0)
                return evtimer_del(h->timer);
        return evtimer_add(h->timer, &time);
}

/* ---- requests ---- */

int http_start(struct http *h, struct http_call *call, const struct http_request *request)
{
        _cleanup_(transfer_freep) struct http_transfer *t = NULL;
        int r;

        if (h->ending || h->n_transfers >= HTTP_CALLS_MAX)
                return -ENOBUFS;
        t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        t->http = h;
        t->call = call;
        list_init(&t->link);
        r = transfer_setup(t, request);
        if (r < 0)
                return r;
        if (t->failure == HTTP_FAILURE_NONE) {
                if (curl_easy_setopt(t->easy, CURLOPT_FRESH_CONNECT, h->distrust ? 1L : 0L) != CURLE_OK ||
                    curl_multi_add_handle(h->multi, t->easy) != CURLM_OK)
                        return -ENOMEM;
                list_append(&h->transfers, &t->link);
        } else {
                list_append(&h->refused, &t->link);
                event_active(h->refusal, EV_TIMEOUT, 0);
        }
        h->n_transfers++;
        call->transfer = TAKE_PTR(t);
        return 0;
}

void http_cancel(struct http *h, struct http_call *call)
{
        if (call->transfer)
                transfer_free(call->transfer);
        call->transfer = NULL;
}

/* ---- the client ---- */

int http_new(struct http **ret_http, struct event_base *base)
{
        _cleanup_(http_freep) struct http *h = calloc(1, sizeof(*h));

        if (!h)
                return -ENOMEM;
        h->base = base;
        list_init(&h->transfers);
        list_init(&h->refused);
        h->timer = evtimer_new(base, on_timer, h);
        h->refusal = evtimer_new(base, on_refusal, h);
        if (!h->timer || !h->refusal)
                return -ENOMEM;
        h->multi = curl_multi_init();
        if (!h->multi || curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, watch_socket) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, watch_timer) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h) != CURLM_OK ||
            curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_KEPT) != CURLM_OK)
                return -EIO;
        *ret_http = TAKE_PTR(h);
        return 0;
}

struct http *http_free(struct http *h)
{
        if (!h)
                return NULL;
        h->ending = true;
        end_all(h, HTTP_FAILURE_ENDED, "lkm-kms is stopping");
        while (!list_is_empty(&h->refused))
                transfer_end(list_entry(h->refused.next, struct http_transfer, link), CURLE_OK);
        curl_multi_cleanup(h->multi); /* calls watch_socket() and watch_timer() */
        if (h->timer)
                event_free(h->timer);
        if (h->refusal)
                event_free(h->refusal);
        free(h);
        return NULL;
}
