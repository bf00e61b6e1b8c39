/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/run/notify.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"

int notify_init(struct notify *n)
{
        static const int on = 1;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        socklen_t length = sizeof(address);

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
                return -errno;
        /* The kernel chooses an unused abstract name, unix(7): NUL and five hexadecimal digits. */
        if (bind(fd, (const struct sockaddr *)&address, sizeof(sa_family_t)) < 0 ||
            getsockname(fd, (struct sockaddr *)&address, &length) < 0)
                return -errno;
        length -= (socklen_t)offsetof(struct sockaddr_un, sun_path);
        if (length < 2 || length > sizeof(n->address) - 1)
                return -EPROTO;
        memcpy(n->address, address.sun_path, length);
        n->address[0] = '@';
        n->address[length] = '\0';
        n->fd = TAKE_FD(fd);
        return 0;
}

void notify_deinit(struct notify *n)
{
        if (n->fd >= 0)
                close(TAKE_FD(n->fd));
}

static pid_t message_sender(struct msghdr *message)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
                struct ucred credentials;

                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
                        memcpy(&credentials, CMSG_DATA(c), sizeof(credentials));
                        return credentials.pid;
                }
        }
        return 0;
}

int notify_take(struct notify *n, pid_t pid)
{
        char text[4096];
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(struct ucred))];
        } control = { 0 };
        struct iovec part = { .iov_base = text, .iov_len = sizeof(text) - 1 };
        struct msghdr message = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        ssize_t length = recvmsg(n->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (length <= 0 || pid <= 0 || message_sender(&message) != pid)
                return 0;
        text[length] = '\0';
        for (char *line = text, *next; line; line = next) {
                next = strchr(line, '\n');
                if (next)
                        *next++ = '\0';
                if (strcmp(line, "READY=1") == 0)
                        return NOTIFY_E_READY;
        }
        return 0;
}
