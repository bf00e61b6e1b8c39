/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/listener.h"

#include <errno.h>
#include <jansson.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/log.h"
#include "daemon/lkmd.h"

/* The path of a listening socket, as its clients know it. Return: heap, or NULL when it has none. */
static char *socket_path(int fd)
{
        struct sockaddr_un address = { 0 };
        socklen_t n = sizeof(address) - 1;

        if (getsockname(fd, (struct sockaddr *)&address, &n) < 0 || *address.sun_path != '/')
                return NULL;
        return strdup(address.sun_path);
}

int listeners_open(struct lkmd *d)
{
        struct listeners *l = &d->listeners;
        const struct config *c = l->config = config_ref(d->config);
        const char *why = "";
        int r;

        l->sockets[LISTENER_ORDINARY] = (struct listen_socket){ .name = "lkm", .path = c->socket, .mode = (mode_t)c->socket_mode };
        l->sockets[LISTENER_ADMIN] = (struct listen_socket){ .name = "lkm-admin", .path = c->admin_socket, .mode = (mode_t)c->admin_socket_mode };
        r = listen_sockets(l->sockets, LISTENER_COUNT, &why);
        if (r < 0) {
                log_error("cannot listen: %s: %s", why,
                          r == -EADDRINUSE ? "another daemon serves it"
                          : r == -EINVAL   ? "FileDescriptorName= of the socket units has to be lkm, and lkm-admin for administrators"
                                           : strerror(-r));
                return r;
        }
        l->path = socket_path(l->sockets[LISTENER_ORDINARY].fd);
        if (l->sockets[LISTENER_ADMIN].fd < 0)
                return 0;
        /* Handed over without a line in the configuration it counts all the same: whoever made that socket wants it to be the only one. */
        l->admin_path = socket_path(l->sockets[LISTENER_ADMIN].fd);
        if (!l->admin_path)
                l->admin_path = strdup(c->admin_socket ? c->admin_socket : "the socket for administrators");
        return l->admin_path ? 0 : -ENOMEM;
}

static void on_again(evutil_socket_t fd, short what, void *userdata)
{
        listeners_go_on(userdata);
}

int listeners_start(struct lkmd *d)
{
        struct listeners *l = &d->listeners;

        l->again = evtimer_new(d->base, on_again, d);
        if (!l->again)
                return -ENOMEM;
        for (unsigned i = 0; i < LISTENER_COUNT; i++) {
                struct listener *each = &l->each[i];

                if (l->sockets[i].fd < 0)
                        continue;
                *each = (struct listener){ .daemon = d, .is_admin = i == LISTENER_ADMIN };
                each->event = event_new(d->base, l->sockets[i].fd, EV_READ | EV_PERSIST, connection_accept, each);
                if (!each->event || event_add(each->event, NULL) < 0)
                        return -ENOMEM;
        }
        return 0;
}

void listeners_end(struct lkmd *d)
{
        for (unsigned i = 0; i < LISTENER_COUNT; i++) {
                if (d->listeners.each[i].event)
                        event_del(d->listeners.each[i].event);
        }
        event_del(d->listeners.again);
}

void listeners_pause(struct lkmd *d)
{
        static const struct timeval pause = { .tv_sec = 1, .tv_usec = 0 };

        listeners_end(d);
        event_add(d->listeners.again, &pause);
}

void listeners_go_on(struct lkmd *d)
{
        if (d->draining)
                return;
        for (unsigned i = 0; i < LISTENER_COUNT; i++) {
                if (d->listeners.each[i].event)
                        event_add(d->listeners.each[i].event, NULL);
        }
}

void listeners_deinit(struct lkmd *d)
{
        struct listeners *l = &d->listeners;

        for (unsigned i = 0; i < LISTENER_COUNT; i++) {
                if (l->each[i].event)
                        event_free(l->each[i].event);
                l->each[i].event = NULL;
        }
        if (l->again)
                event_free(l->again);
        l->again = NULL;
        if (l->config)
                listen_close(l->sockets, LISTENER_COUNT);
        l->config = config_unref(l->config);
        free(TAKE_PTR(l->path));
        free(TAKE_PTR(l->admin_path));
}

static bool is_same(const char *a, const char *b)
{
        return a && b ? strcmp(a, b) == 0 : a == b;
}

void listeners_check(const struct lkmd *d)
{
        const struct config *before = d->listeners.config, *now = d->config;

        if (!is_same(before->socket, now->socket) || !is_same(before->admin_socket, now->admin_socket))
                log_warning("`socket` or `admin_socket` has changed: that takes effect when lkmd is restarted");
}

void *listeners_report(const struct lkmd *d)
{
        return json_pack("{s:s?, s:s?}", "ordinary", d->listeners.path, "admin", d->listeners.admin_path);
}
