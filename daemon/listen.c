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

int listen_take_over(int *ret_fd)
{
        int n = sd_listen_fds(1), flags, r;

        if (n < 0)
                return n;
        if (n == 0)
                return LISTEN_E_NONE;
        if (n > 1)
                return -E2BIG;
        r = sd_is_socket_unix(SD_LISTEN_FDS_START, SOCK_STREAM, 1, NULL, 0);
        if (r <= 0)
                return r < 0 ? r : -ENOTSOCK;
        flags = fcntl(SD_LISTEN_FDS_START, F_GETFL);
        if (flags < 0 || fcntl(SD_LISTEN_FDS_START, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        *ret_fd = SD_LISTEN_FDS_START;
        return 0;
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
