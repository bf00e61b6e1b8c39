/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill-at: an LD_PRELOAD library for test_kill.py, test_crash.py and tests/torture. The process ends by SIGKILL right before its call number KILL_AT among
 * those below, which are the ones that others can see: files, descriptors, sockets, processes. With KILL_AFTER_ACCEPT, counting begins at the
 * first connection that is accepted. With KILL_IN, it is done only in a process whose program and first argument, without folders and with
 * one space between them, are that; with KILL_BY it ends by SIGSEGV or SIGABRT ("segv", "abrt"), as a bug would end it; with KILL_PARENT, who started that process is killed together with it. With KILL_COUNT, a file, each process
 * writes there at its end what it is and how many calls it made: who was killed does not.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static long calls_left = -1; /* -1: not counting */
static long n_calls;
static char name[256]; /* of this process, as KILL_IN has it */

static bool is_meant(int argc, char **argv)
{
        const char *in = getenv("KILL_IN");

        snprintf(name, sizeof(name), "%s %s", program_invocation_short_name, argc > 1 ? argv[1] : "");
        return !in || strcmp(in, name) == 0;
}

/* glibc hands a constructor what main() gets. */
__attribute__((__constructor__)) static void kill_at_init(int argc, char **argv)
{
        const char *at = getenv("KILL_AT");

        if (is_meant(argc, argv) && at && !getenv("KILL_AFTER_ACCEPT"))
                calls_left = strtol(at, NULL, 10);
}

__attribute__((__destructor__)) static void kill_at_deinit(void)
{
        const char *path = getenv("KILL_COUNT");
        FILE *file = path && *name ? fopen(path, "ae") : NULL;

        calls_left = -1;
        if (file) {
                fprintf(file, "%s:%ld\n", name, n_calls);
                fclose(file);
        }
}

static _Noreturn void end(void)
{
        static char *volatile nowhere;
        const char *by = getenv("KILL_BY");

        if (by && strcmp(by, "abrt") == 0)
                abort();
        if (by && strcmp(by, "segv") == 0)
                *nowhere = 1; /* not raise(3): a filter of system calls may forbid that */
        raise(SIGKILL);
        _exit(1);
}

static void count(void)
{
        n_calls++;
        if (calls_left < 0 || calls_left-- > 0)
                return;
        if (getenv("KILL_PARENT"))
                kill(getppid(), SIGKILL);
        end();
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
COUNTED(int, renameat2, (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
COUNTED(int, unlink, (const char *path), (path))
COUNTED(int, fchmod, (int fd, mode_t mode), (fd, mode))
COUNTED(int, mkostemp64, (char *path, int flags), (path, flags))
COUNTED(int, flock, (int fd, int operation), (fd, operation))
COUNTED(pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options))
COUNTED(int, posix_spawn, (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                           char *const arguments[], char *const environment[]), (pid, path, actions, attributes, arguments, environment))
COUNTED(int, close, (int fd), (fd))
COUNTED(int, connect, (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n))

/* Those that the headers redirect to a name with 64, for programs that were built otherwise. */
ssize_t counted_pwrite(int fd, const void *data, size_t n, off64_t at) __asm__("pwrite");
ssize_t counted_pwrite(int fd, const void *data, size_t n, off64_t at)
{
        return pwrite64(fd, data, n, at);
}

int counted_mkostemp(char *path, int flags) __asm__("mkostemp");
int counted_mkostemp(char *path, int flags)
{
        return mkostemp64(path, flags);
}

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
