/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/manager.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"

int manager_open(int *ret_fd)
{
        const char *path = getenv("NOTIFY_SOCKET");
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_(closep) int fd = -1;
        size_t n = path ? strlen(path) : 0;

        *ret_fd = -1;
        if (n == 0)
                return 0;
        if (*path != '/' && *path != '@')
                return -EAFNOSUPPORT;
        if (n >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, path, n);
        if (*path == '@')
                address.sun_path[0] = '\0'; /* the abstract name space, where the length counts */
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (const struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
                return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

void manager_tell(int fd, const char *text)
{
        if (fd < 0)
                return;
        while (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 && errno == EINTR)
                ;
}
