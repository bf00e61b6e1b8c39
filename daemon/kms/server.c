/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/server.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/kms/session.h"

enum {
        SESSIONS_MAX = 32,
        ACCEPTS_PER_TURN = 8,
        DRAIN_SECONDS = 5,
};

/* ---- accept ---- */

/* What comes over this socket is as good as the KEK. */
static bool peer_is_admitted(const struct server *s, int fd)
{
        struct ucred peer;
        socklen_t n = sizeof(peer);

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
                return false;
        if (s->client_uid != SERVER_CLIENT_SELF) {
                if (peer.uid == s->client_uid)
                        return true;
                log_warning("refused a connection of uid %u: --client says that only uid %u is served", peer.uid, s->client_uid);
                return false;
        }
        if (peer.uid == 0 || peer.uid == geteuid())
                return true;
        log_warning("refused a connection of uid %u: only root and uid %u are served; --client names another user", peer.uid, geteuid());
        return false;
}

/* Tell a peer that is not served why. */
static void refuse(int fd, enum proto_error error)
{
        _cleanup_(stream_freep) struct stream *stream = NULL;
        union message message = { .error = { .number_ = MESSAGE_ERROR,
                                             .code = (uint16_t)error,
                                             .sentence = bytes_from_string(proto_error_sentence(error)) } };

        if (stream_new(&stream, fd, FRAME_MAX) == 0 && stream_queue(stream, &message, 0) == 0)
                stream_flush(stream, MSG_DONTWAIT);
        stream = stream_free(stream);
        close(fd);
}

static void on_accept(evutil_socket_t listen_fd, short what, void *userdata)
{
        static const struct timeval pause = { .tv_sec = 1, .tv_usec = 0 };
        struct server *s = userdata;
        int r;

        for (unsigned i = 0; i < ACCEPTS_PER_TURN; i++) {
                int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
                        log_warning("cannot accept a connection: %s", strerror(errno));
                        event_del(s->listener);
                        event_add(s->accept_again, &pause);
                }
                if (fd < 0)
                        return;
                if (!peer_is_admitted(s, fd)) {
                        refuse(fd, PROTO_ERROR_DENIED);
                } else if (s->n_sessions >= SESSIONS_MAX) {
                        refuse(fd, PROTO_ERROR_QUOTA);
                } else {
                        r = session_new(s, fd);
                        if (r < 0)
                                log_warning("cannot serve a new connection: %s", strerror(-r));
                }
        }
}

static void on_accept_again(evutil_socket_t fd, short what, void *userdata)
{
        struct server *s = userdata;

        if (!s->draining)
                event_add(s->listener, NULL);
}

/* ---- idle ---- */

static void idle_arm(struct server *s)
{
        uint64_t limit = s->config->idle_exit_usec, passed = clock_boottime_usec() - s->last_request_usec, left;
        struct timeval tv;

        if (!s->idle_exit || limit == USEC_INFINITY || limit == 0) {
                event_del(s->idle);
                return;
        }
        left = passed < limit ? limit - passed : USEC_PER_MSEC;
        tv = (struct timeval){ .tv_sec = (time_t)(left / USEC_PER_SEC), .tv_usec = (suseconds_t)(left % USEC_PER_SEC) };
        event_add(s->idle, &tv);
}

/* Whether a request or a connection has come that this turn of the loop has not seen yet. */
static bool something_waits(const struct server *s)
{
        struct pollfd fds[SESSIONS_MAX + 1] = { { .fd = s->listen_fd, .events = POLLIN } };
        struct list *node, *following;
        nfds_t n = 1;

        list_for_each_safe (node, following, &s->sessions) {
                const struct session *c = list_entry(node, struct session, link);

                if (stream_pending(c->stream) > 0)
                        return true;
                fds[n++] = (struct pollfd){ .fd = c->fd, .events = POLLIN };
        }
        return s->n_calls > 0 || poll(fds, n, 0) != 0;
}

static void on_idle(evutil_socket_t fd, short what, void *userdata)
{
        struct server *s = userdata;

        if (clock_boottime_usec() - s->last_request_usec < s->config->idle_exit_usec || something_waits(s)) {
                idle_arm(s);
                return;
        }
        log_info("ending after %llu s without a request; the next one starts lkm-kms again",
                 (unsigned long long)(s->config->idle_exit_usec / USEC_PER_SEC));
        sd_notify(0, "STOPPING=1\nSTATUS=Idle");
        event_base_loopbreak(s->base);
}

/* ---- reload ---- */

bool server_try_reload(struct server *s, struct sentence *ret_why)
{
        _cleanup_(config_unrefp) struct config *config = NULL;
        _cleanup_(kek_table_unrefp) struct kek_table *keks = NULL;
        struct config_error error;
        int r = config_read(&config, s->config_path, &error);

        if (r < 0) {
                sentence_set(ret_why, "%s", r == -ENOMEM ? "out of memory" : error.text);
                return false;
        }
        r = kek_table_new(&keks, config, s->environment);
        if (r < 0) {
                sentence_set(ret_why, "out of memory");
                return false;
        }
        for (size_t i = 0; i < keks->n; i++) {
                struct kek_entry *now = &keks->entries[i];
                struct kek_entry *before = kek_table_find(s->keks, bytes_from_string(now->config->name));

                /* What works is not given up for what does not. */
                if (!now->kek && before && before->kek) {
                        sentence_set(ret_why, "KEK %s: %s", now->config->name, now->why.text);
                        return false;
                }
        }
        config_unref(s->config);
        kek_table_unref(s->keks);
        s->config = TAKE_PTR(config);
        s->keks = TAKE_PTR(keks);
        log_set_max_level(s->config->log_level);
        idle_arm(s);
        return true;
}

void server_reload(struct server *s)
{
        struct sentence why;

        sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_monotonic_usec());
        if (server_try_reload(s, &why)) {
                log_notice("configuration reloaded");
                sd_notify(0, "READY=1\nSTATUS=Serving");
        } else {
                log_error("the old configuration stays in force: %s", why.text);
                sd_notifyf(0, "READY=1\nSTATUS=Reload failed, the old configuration is in force: %s", why.text);
        }
}

/* ---- begin and end ---- */

void server_stop_if_drained(struct server *s)
{
        if (s->draining && list_is_empty(&s->sessions) && s->n_calls == 0)
                event_base_loopbreak(s->base);
}

static void on_drained(evutil_socket_t fd, short what, void *userdata)
{
        struct server *s = userdata;

        log_warning("%zu requests were not answered in %d s", s->n_calls, DRAIN_SECONDS);
        event_base_loopbreak(s->base);
}

void server_drain(struct server *s)
{
        static const struct timeval limit = { .tv_sec = DRAIN_SECONDS, .tv_usec = 0 };
        struct list *node, *following;

        if (s->draining)
                return;
        s->draining = true;
        sd_notify(0, "STOPPING=1\nSTATUS=Stopping");
        event_del(s->listener);
        event_del(s->idle);
        event_add(s->drain, &limit);
        list_for_each_safe (node, following, &s->sessions)
                session_end(list_entry(node, struct session, link));
        server_stop_if_drained(s);
}

size_t server_n_calls(const struct server *s)
{
        return s->n_calls;
}

int server_new(struct server **ret_server, const struct kms_environment *environment, struct config *config,
               const char *config_path, int listen_fd, uid_t client_uid, bool idle_exit)
{
        struct event_base *base = environment->base;
        _cleanup_(server_freep) struct server *s = calloc(1, sizeof(*s));
        int r;

        if (!s) {
                close(listen_fd);
                return -ENOMEM;
        }
        list_init(&s->sessions);
        s->environment = environment;
        s->base = base;
        s->config = config_ref(config);
        s->config_path = config_path;
        s->listen_fd = listen_fd;
        s->client_uid = client_uid;
        s->idle_exit = idle_exit;
        s->last_request_usec = clock_boottime_usec();
        r = kek_table_new(&s->keks, config, environment);
        if (r < 0)
                return r;
        s->listener = event_new(base, listen_fd, EV_READ | EV_PERSIST, on_accept, s);
        s->idle = evtimer_new(base, on_idle, s);
        s->accept_again = evtimer_new(base, on_accept_again, s);
        s->drain = evtimer_new(base, on_drained, s);
        if (!s->listener || !s->idle || !s->accept_again || !s->drain || event_add(s->listener, NULL) < 0)
                return -ENOMEM;
        idle_arm(s);
        *ret_server = TAKE_PTR(s);
        return 0;
}

struct server *server_free(struct server *s)
{
        if (!s)
                return NULL;
        s->draining = false;
        while (!list_is_empty(&s->sessions))
                session_free(list_entry(s->sessions.next, struct session, link));
        if (s->listener)
                event_free(s->listener);
        if (s->idle)
                event_free(s->idle);
        if (s->accept_again)
                event_free(s->accept_again);
        if (s->drain)
                event_free(s->drain);
        kek_table_unref(s->keks);
        config_unref(s->config);
        close(s->listen_fd);
        free(s);
        return NULL;
}
