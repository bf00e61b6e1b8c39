/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill-at: an LD_PRELOAD library for test_kill.py. The process ends by SIGKILL right before its call number KILL_AT among those below, which
 * are the ones that others can see: files, descriptors, sockets. With KILL_AFTER_ACCEPT, counting begins at the first connection
 * that is accepted.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

static long calls_left = -1; /* -1: not counting */

__attribute__((__constructor__)) static void kill_at_init(void)
{
        const char *at = getenv("KILL_AT");

        if (at && !getenv("KILL_AFTER_ACCEPT"))
                calls_left = strtol(at, NULL, 10);
}

static void count(void)
{
        if (calls_left >= 0 && calls_left-- == 0)
                raise(SIGKILL);
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define COUNTED(type, name, parameters, arguments)      \
        type name parameters;                           \
        type name parameters                            \
        {                                               \
                count();                                \
                return NEXT(name) arguments;            \
        }

COUNTED(ssize_t, write, (int fd, const void *data, size_t n), (fd, data, n))
COUNTED(ssize_t, pwrite64, (int fd, const void *data, size_t n, off64_t at), (fd, data, n, at))
COUNTED(ssize_t, send, (int fd, const void *data, size_t n, int flags), (fd, data, n, flags))
COUNTED(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
COUNTED(ssize_t, recv, (int fd, void *data, size_t n, int flags), (fd, data, n, flags))
COUNTED(int, fsync, (int fd), (fd))
COUNTED(int, fdatasync, (int fd), (fd))
COUNTED(int, ftruncate64, (int fd, off64_t n), (fd, n))
COUNTED(int, link, (const char *from, const char *to), (from, to))
COUNTED(int, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
COUNTED(int, rename, (const char *from, const char *to), (from, to))
COUNTED(int, unlink, (const char *path), (path))
COUNTED(int, close, (int fd), (fd))
COUNTED(int, connect, (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n))

static mode_t mode_of(int flags, va_list arguments)
{
        return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

/* By the linker's names: the headers redirect open() to open64(). */
#define COUNTED_OPEN(name)                                                                      \
        int counted_##name(const char *path, int flags, ...) __asm__(#name);                    \
        int counted_##name(const char *path, int flags, ...)                                    \
        {                                                                                       \
                va_list arguments;                                                              \
                mode_t mode;                                                                    \
                va_start(arguments, flags);                                                     \
                mode = mode_of(flags, arguments);                                               \
                va_end(arguments);                                                              \
                count();                                                                        \
                return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode); \
        }
COUNTED_OPEN(open)
COUNTED_OPEN(open64)

int accept4(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
        int accepted = NEXT(accept4)(fd, address, n, flags);

        if (accepted >= 0 && calls_left < 0 && getenv("KILL_AFTER_ACCEPT") && getenv("KILL_AT"))
                calls_left = strtol(getenv("KILL_AT"), NULL, 10);
        return accepted;
}
