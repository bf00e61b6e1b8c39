/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "daemon/unit.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5, include/uapi/asm-generic/socket.h; not in the headers of Debian 12 */
#endif

enum {
        CGROUP_MAX = 16384, /* bytes of /proc/PID/cgroup: a path for each hierarchy; a longer text counts as none */
        FDINFO_MAX = 1024,
};

static int peer_read_groups(struct peer *peer, int fd)
{
        socklen_t n = 0;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &n) == 0)
                return 0;
        if (errno != ERANGE)
                return -errno;
        peer->groups = malloc(n);
        if (!peer->groups)
                return -ENOMEM;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &n) < 0)
                return -errno;
        peer->n_groups = n / sizeof(*peer->groups);
        return 0;
}

/* All of a file in /proc. Return: how many bytes; -E2BIG when they are more than @size; -errno. */
static ssize_t proc_read(char *text, size_t size, const char *path)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        size_t n = 0;
        ssize_t more;

        if (fd < 0)
                return -errno;
        do {
                more = read(fd, text + n, size - n);
                if (more < 0)
                        return -errno;
                n += (size_t)more;
        } while (more > 0 && n < size);
        return n == size ? -E2BIG : (ssize_t)n;
}

/* The number of the process behind @pidfd, in the process namespace that /proc shows. Return: it; 0 when it is in none that can be seen;
 * -ESRCH when the process has been waited for; -errno. */
static int pidfd_number(int pidfd)
{
        char path[64], text[FDINFO_MAX];
        const char *line;
        ssize_t n;
        long number;

        snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
        n = proc_read(text, sizeof(text) - 1, path);
        if (n < 0)
                return (int)n;
        text[n] = '\0';
        line = strstr(text, "\nPid:");
        if (!line)
                return -EBADMSG;
        number = strtol(line + strlen("\nPid:"), NULL, 10);
        if (number < 0)
                return -ESRCH;
        return number > INT32_MAX ? -EBADMSG : (int)number;
}

/* Between the two looks at the handle the number was this process's, and so was what /proc said under it. */
static int peer_read_unit(struct peer *peer, int pidfd)
{
        char path[64], text[CGROUP_MAX], unit[UNIT_NAME_MAX + 1];
        int number = pidfd_number(pidfd);
        ssize_t n;

        if (number <= 0)
                return number;
        snprintf(path, sizeof(path), "/proc/%d/cgroup", number);
        n = proc_read(text, sizeof(text), path);
        if (pidfd_number(pidfd) != number)
                return -ESRCH;
        if (n == -ENOENT || n == -EACCES || n == -EPERM)
                return PEER_E_PROC;
        if (n < 0 || !unit_from_cgroup(unit, text, (size_t)n))
                return 0;
        peer->unit = strdup(unit);
        return peer->unit ? 0 : -ENOMEM;
}

/* Return: a pidfd, or -errno. */
static int peer_pidfd(int fd)
{
        int pidfd = -1;
        socklen_t n = sizeof(pidfd);

        return getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &n) < 0 ? -errno : pidfd;
}

int peer_read(struct peer *ret_peer, int fd)
{
        struct peer peer = { 0 };
        struct ucred credentials;
        socklen_t n = sizeof(credentials);
        _cleanup_(closep) int pidfd = -1;
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &n) < 0)
                return -errno;
        peer.uid = credentials.uid;
        peer.gid = credentials.gid;
        peer.pid = credentials.pid;
        r = peer_read_groups(&peer, fd);
        if (r == 0) {
                pidfd = peer_pidfd(fd);
                r = pidfd < 0 ? pidfd : peer_read_unit(&peer, pidfd);
                /* No unit: rules by unit do not match, and the others do. */
                r = r == PEER_E_PROC || r == -ENOMEM ? r : 0;
        }
        if (r < 0)
                peer_deinit(&peer);
        else
                *ret_peer = peer;
        return r;
}

void peer_deinit(struct peer *peer)
{
        free(peer->groups);
        free(peer->unit);
        *peer = (struct peer){ 0 };
}

static int peer_try(void)
{
        _cleanup_(closep) int pidfd = -1;
        int fds[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        pidfd = peer_pidfd(fds[0]);
        close(fds[0]);
        close(fds[1]);
        if (pidfd < 0)
                return pidfd == -ENOPROTOOPT ? PEER_E_KERNEL : pidfd;
        return pidfd_number(pidfd) > 0 ? 0 : PEER_E_PROC; /* it is our own */
}

int peer_probe(void)
{
        static bool tried;
        static int result;

        if (!tried)
                result = peer_try();
        tried = true;
        return result;
}
