/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "common/cleanup.h"
#include "daemon/durable.h"

/* What was handed over at @fd: listening, and from now on non-blocking. Return: 0, -ENOTSOCK, -errno. */
static int take_over(int fd)
{
        int flags, r = sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0);

        if (r <= 0)
                return r < 0 ? r : -ENOTSOCK;
        flags = fcntl(fd, F_GETFL);
        return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int listen_take_over(int *ret_fd)
{
        int n = sd_listen_fds(1), r;

        if (n < 0)
                return n;
        if (n == 0)
                return LISTEN_E_NONE;
        if (n > 1)
                return -E2BIG;
        r = take_over(SD_LISTEN_FDS_START);
        if (r == 0)
                *ret_fd = SD_LISTEN_FDS_START;
        return r;
}

/* Return: 0 when @address is free, a stale socket file having been removed. */
static int address_clear(const struct sockaddr_un *address)
{
        _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
                return -EADDRINUSE; /* EAGAIN: its backlog is full */
        if (errno == ENOENT)
                return 0;
        if (errno != ECONNREFUSED)
                return -errno;
        if (lstat(address->sun_path, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                return -ENOTSOCK;
        return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

int listen_bind(int *ret_fd, const char *path, mode_t mode)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_(closep) int directory_fd = -1;
        _cleanup_(closep) int fd = -1;
        mode_t mask;
        int r;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, strlen(path) + 1);
        /* Two that start at once must not take each other's fresh socket for a stale one. */
        directory_fd = durable_directory_open(path);
        if (directory_fd < 0)
                return directory_fd;
        if (flock(directory_fd, LOCK_EX) < 0)
                return -errno;
        r = address_clear(&address);
        if (r < 0)
                return r;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        mask = umask(0777 & ~mode);
        r = bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
        umask(mask);
        if (r < 0)
                return r;
        if (listen(fd, SOMAXCONN) < 0) {
                r = -errno;
                unlink(path);
                return r;
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int listen_socket(int *ret_fd, bool *ret_bound, const char *path, mode_t mode)
{
        int r = listen_take_over(ret_fd);

        if (r <= 0) {
                *ret_bound = false;
                return r;
        }
        r = listen_bind(ret_fd, path, mode);
        *ret_bound = r == 0;
        return r;
}

/* ---- several ---- */

static struct listen_socket *socket_named(struct listen_socket *sockets, size_t n, const char *name)
{
        for (size_t i = 0; i < n; i++) {
                if (strcmp(sockets[i].name, name) == 0)
                        return &sockets[i];
        }
        return NULL;
}

static int take_over_named(struct listen_socket *sockets, size_t n, const char **ret_why)
{
        char **names = NULL;
        int n_fds = sd_listen_fds_with_names(1, &names), r = n_fds < 0 ? n_fds : 0;

        if (r < 0)
                *ret_why = "what the service manager says about its sockets cannot be read";
        for (int i = 0; i < n_fds; i++) {
                struct listen_socket *s = socket_named(sockets, n, names[i]);
                int fd = SD_LISTEN_FDS_START + i;

                if (!s && n_fds == 1)
                        s = sockets; /* systemd names it as its unit, when nothing else is said */
                if (r == 0 && (!s || s->fd >= 0)) {
                        *ret_why = s ? "the service manager passes two sockets of the same name"
                                     : "the service manager passes several sockets, and one has a name that is not known here";
                        r = -EINVAL;
                }
                if (r == 0) {
                        *ret_why = "what the service manager passes is no listening Unix stream socket";
                        r = take_over(fd);
                }
                if (r == 0)
                        s->fd = fd;
                else
                        close(fd);
                free(names[i]);
        }
        free(names);
        return r;
}

int listen_sockets(struct listen_socket *sockets, size_t n, const char **ret_why)
{
        int r;

        for (size_t i = 0; i < n; i++) {
                sockets[i].fd = -1;
                sockets[i].bound = false;
        }
        r = take_over_named(sockets, n, ret_why);
        for (size_t i = 0; i < n && r == 0; i++) {
                if (sockets[i].fd >= 0 || !sockets[i].path)
                        continue;
                *ret_why = sockets[i].path;
                r = listen_bind(&sockets[i].fd, sockets[i].path, sockets[i].mode);
                sockets[i].bound = r == 0;
        }
        if (r < 0)
                listen_close(sockets, n);
        return r;
}

void listen_close(struct listen_socket *sockets, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (sockets[i].bound)
                        unlink(sockets[i].path);
                closep(&sockets[i].fd);
                sockets[i].fd = -1;
                sockets[i].bound = false;
        }
}
