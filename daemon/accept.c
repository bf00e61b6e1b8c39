/* SPDX-License-Identifier: Apache-2.0 */
/* accept: new connections. Each is counted for its uid before anything is made for it, and refused quickly when that is too many. */
#include <errno.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/peer.h"
#include "daemon/request.h"
#include "proto/stream.h"

enum {
        ACCEPTS_PER_ROUND = 2, /* between two rounds of turns: a flood of connections must not keep those that are there waiting */
        OUT_MAX = 256 * 1024,  /* bytes of answers that may wait unsent; more closes the connection */
        ERROR_FRAME_MAX = 512,
        TELL_USEC = 60 * 1000000,
};

static int connection_open(struct connection *c)
{
        int r = peer_read(&c->peer, c->fd);

        if (r == PEER_E_PROC && !c->daemon->units_hidden) {
                log_warning("/proc hides the processes of clients, so no rule by unit matches. Mount it without hidepid=, and set ProtectProc=default");
                c->daemon->units_hidden = true;
        }
        if (r >= 0)
                r = stream_new(&c->stream, c->fd, OUT_MAX);
        if (r < 0)
                return r;
        if (policy_decide(c->daemon->config, NULL, &c->peer, POLICY_RIGHT_ADMIN, NULL))
                c->user->is_admin = true;
        c->readable = event_new(c->daemon->base, c->fd, EV_READ | EV_PERSIST, connection_readable, c);
        c->writable = event_new(c->daemon->base, c->fd, EV_WRITE, connection_writable, c);
        if (!c->readable || !c->writable || event_add(c->readable, NULL) < 0)
                return -ENOMEM;
        return 0;
}

static void connection_begin(const struct listener *listener, int fd, struct usage_user *user, uint64_t now)
{
        struct lkmd *d = listener->daemon;
        struct connection *c = calloc(1, sizeof(*c));
        int r;

        if (!c) {
                usage_disconnect(&d->usage, user);
                close(fd);
                return;
        }
        c->daemon = d;
        c->fd = fd;
        c->user = user;
        c->number = ++d->next_connection;
        c->by_admin_socket = listener->is_admin;
        list_init(&c->link);
        list_init(&c->link_ready);
        list_init(&c->link_due);
        list_init(&c->waiting);
        lease_holder_init(&c->leases, &c->peer);
        list_append(&d->connections, &c->link);
        r = connection_open(c);
        if (r < 0) {
                log_warning("cannot serve a new connection: %s", strerror(-r));
                connection_close(c);
                return;
        }
        c->due_usec = clock_add(now, d->config->frame_timeout_usec); /* for HELLO */
        list_append(&d->due, &c->link_due);
}

/* Say why and close, in two system calls and without memory for it: this is what a flood has lkmd do. */
static void accept_refuse(int fd, enum usage_outcome outcome, const struct usage_limits *limits, uint32_t uid)
{
        union message answer = { .error = { .number_ = MESSAGE_ERROR, .code = PROTO_ERROR_QUOTA, .retry_after_msec = USAGE_RETRY_MSEC } };
        char sentence[USAGE_SENTENCE_MAX];
        uint8_t frame[ERROR_FRAME_MAX];
        size_t n;

        usage_sentence(sentence, outcome, limits, uid);
        answer.error.sentence = bytes_from_string(sentence);
        if (message_pack(&answer, 0, frame, sizeof(frame), &n) == 0)
                send(fd, frame, n, MSG_DONTWAIT | MSG_NOSIGNAL); /* it has an empty buffer, or is gone */
        close(fd);
}

static bool peer_is_admin(const struct lkmd *d, int fd)
{
        struct peer peer = { 0 };
        bool yes = peer_read(&peer, fd) >= 0 && policy_decide(d->config, NULL, &peer, POLICY_RIGHT_ADMIN, NULL);

        peer_deinit(&peer);
        return yes;
}

/* Where there is a socket for administrators, who comes by it is one; else who has the right. */
static bool is_reserved(const struct listener *listener, const struct usage_user *user, int fd)
{
        if (listener->daemon->listeners.admin_path)
                return listener->is_admin;
        return user ? user->is_admin : peer_is_admin(listener->daemon, fd);
}

static void accept_one(const struct listener *listener, int fd, uint64_t now)
{
        struct lkmd *d = listener->daemon;
        struct ucred credentials;
        socklen_t n = sizeof(credentials);
        struct usage_user *user;
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &n) < 0) {
                close(fd);
                return;
        }
        r = usage_connect(&d->usage, &d->limits, credentials.uid, false, &user);
        if (r > 0 && is_reserved(listener, user, fd))
                r = usage_connect(&d->usage, &d->limits, credentials.uid, true, &user);
        if (r == 0) {
                connection_begin(listener, fd, user, now);
        } else if (r > 0) {
                usage_refuse(&d->usage, user);
                if (user)
                        turn_tell(d, user, &(struct peer){ .uid = credentials.uid, .gid = credentials.gid, .pid = credentials.pid },
                                  (enum usage_outcome)r, now);
                accept_refuse(fd, (enum usage_outcome)r, &d->limits, credentials.uid);
        } else {
                close(fd);
        }
}

/* There is no descriptor for it: it is taken with the spare one, and sent away, so that it neither waits for ever nor wakes lkmd all the time. */
static bool accept_and_close(struct lkmd *d, int listener)
{
        int fd;

        if (d->spare_fd < 0)
                return false;
        close(d->spare_fd);
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
                d->n_accept_failures++;
                usage_refuse(&d->usage, NULL);
                close(fd);
        } else if (errno == EAGAIN) {
                fd = 0; /* nobody waits: accept4(2) looks for a descriptor first */
        }
        d->spare_fd = accept_spare();
        return fd >= 0;
}

int accept_spare(void)
{
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

void connection_accept(evutil_socket_t fd, short what, void *userdata)
{
        struct listener *listener = userdata;
        struct lkmd *d = listener->daemon;
        uint64_t now = clock_boottime_usec();

        usage_forget(&d->usage, now);
        for (unsigned i = 0; i < ACCEPTS_PER_ROUND; i++) {
                int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

                if (client >= 0) {
                        accept_one(listener, client, now);
                        continue;
                }
                if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM)
                        return;
                if (now >= d->accept_tell_usec)
                        log_warning("cannot accept more connections: %s. Raise LimitNOFILE= or lower max_connections", strerror(errno));
                d->accept_tell_usec = now >= d->accept_tell_usec ? clock_add(now, TELL_USEC) : d->accept_tell_usec;
                if (!accept_and_close(d, fd)) {
                        /* Accepting again at once would spin: wait for a close, or a second. */
                        d->n_accept_failures++;
                        listeners_pause(d);
                }
                return;
        }
}
