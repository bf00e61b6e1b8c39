/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fail-at: an LD_PRELOAD library for test_failing_calls.py. Call number FAIL_AT among those below fails, without being made, in the FAIL_HOW-th of the
 * ways in which that call can fail. A write may also be cut short. With FAIL_FOR_GOOD, that and every later call that needs space fails
 * with ENOSPC, as on a disk that is full. FAIL_IN: as KILL_IN of kill-at. What happened is written to the file FAIL_TELL: the call and the
 * error, or "end" when there is no such call, or "no" when it has no such way.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

ssize_t __read_chk(int fd, void *data, size_t n, size_t room); /* read(2) of a program that was built with _FORTIFY_SOURCE */

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { SHORT = -1 }; /* half of the bytes are written */

static long n_calls, at = -1, how;
static bool for_good, told;

/* Whether a process before this one has failed already: one call of a whole operation is to fail. */
static bool has_failed(void)
{
        const char *path = getenv("FAIL_TELL");
        FILE *file = path ? fopen(path, "re") : NULL;
        char line[64] = "end";

        if (!file)
                return false;
        if (!fgets(line, sizeof(line), file))
                line[0] = '\0';
        fclose(file);
        return strncmp(line, "end", 3) != 0;
}

__attribute__((__constructor__)) static void fail_at_init(int argc, char **argv)
{
        const char *in = getenv("FAIL_IN"), *number = getenv("FAIL_AT"), *way = getenv("FAIL_HOW");
        char name[256];

        snprintf(name, sizeof(name), "%s %s", program_invocation_short_name, argc > 1 ? argv[1] : "");
        if (!number || (in && strcmp(in, name) != 0) || has_failed())
                return;
        at = strtol(number, NULL, 10);
        how = way ? strtol(way, NULL, 10) : 0;
        for_good = getenv("FAIL_FOR_GOOD");
}

static void tell(const char *call, int error)
{
        const char *path = getenv("FAIL_TELL");
        long again = at;
        FILE *file;

        at = -1; /* what is done here does not count */
        file = path ? fopen(path, "we") : NULL;
        if (file) {
                fprintf(file, "%s %s\n", call, error == SHORT ? "SHORT" : error ? strerrorname_np(error) : "");
                fclose(file);
        }
        told = true;
        at = again;
}

__attribute__((__destructor__)) static void fail_at_deinit(void)
{
        if (at >= 0 && !told)
                tell("end", 0);
}

/* Return: 0, the call is to be made; SHORT; or the error with which it is to fail. */
static int fails(const char *call, bool needs_space, const int *errors)
{
        int n = 0;

        if (at < 0)
                return 0;
        if (for_good && n_calls++ >= at) {
                if (needs_space && !told)
                        tell(call, ENOSPC);
                return needs_space ? ENOSPC : 0;
        }
        if (for_good || n_calls++ != at)
                return 0;
        while (errors[n])
                n++;
        tell(how < n ? call : "no", how < n ? errors[how] : 0);
        return how < n ? errors[how] : 0;
}

#define WAYS(...) ((const int[]){ __VA_ARGS__ __VA_OPT__(,) 0 })
#define FAILING(type, name, needs_space, ways, parameters, arguments)        \
        type name parameters;                                                \
        type name parameters                                                 \
        {                                                                    \
                int error = fails(#name, needs_space, ways);                 \
                if (!error)                                                  \
                        return NEXT(name) arguments;                         \
                errno = error;                                               \
                return (type)-1;                                             \
        }

#define WRITE_WAYS WAYS(EIO, ENOSPC, EDQUOT, EINTR, SHORT)

ssize_t write(int fd, const void *data, size_t n)
{
        int error = fails("write", true, WRITE_WAYS);

        if (error == SHORT && n > 1)
                return NEXT(write)(fd, data, n / 2);
        if (!error || error == SHORT)
                return NEXT(write)(fd, data, n);
        errno = error;
        return -1;
}

static ssize_t pwrite_by(const char *next, int fd, const void *data, size_t n, off64_t offset)
{
        ssize_t (*call)(int, const void *, size_t, off64_t) = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, next);
        int error = fails("pwrite", true, WRITE_WAYS);

        if (error == SHORT && n > 1)
                return call(fd, data, n / 2, offset);
        if (!error || error == SHORT)
                return call(fd, data, n, offset);
        errno = error;
        return -1;
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t offset)
{
        return pwrite_by("pwrite64", fd, data, n, offset);
}

ssize_t failing_pwrite(int fd, const void *data, size_t n, off64_t offset) __asm__("pwrite");
ssize_t failing_pwrite(int fd, const void *data, size_t n, off64_t offset)
{
        return pwrite_by("pwrite64", fd, data, n, offset);
}

FAILING(ssize_t, read, false, WAYS(EIO, EINTR), (int fd, void *data, size_t n), (fd, data, n))
FAILING(ssize_t, __read_chk, false, WAYS(EIO, EINTR), (int fd, void *data, size_t n, size_t room), (fd, data, n, room))
FAILING(ssize_t, pread64, false, WAYS(EIO, EINTR), (int fd, void *data, size_t n, off64_t offset), (fd, data, n, offset))
FAILING(int, fsync, true, WAYS(EIO, ENOSPC, EDQUOT, EINTR), (int fd), (fd))
FAILING(int, fdatasync, true, WAYS(EIO, ENOSPC, EDQUOT, EINTR), (int fd), (fd))
FAILING(int, ftruncate64, false, WAYS(EIO, EINTR, EFBIG), (int fd, off64_t n), (fd, n))
FAILING(int, fchmod, false, WAYS(EIO, EPERM), (int fd, mode_t mode), (fd, mode))
FAILING(int, rename, true, WAYS(EIO, ENOSPC, EDQUOT, EACCES), (const char *from, const char *to), (from, to))
FAILING(int, renameat2, true, WAYS(EIO, ENOSPC, EDQUOT), (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
FAILING(int, link, true, WAYS(EIO, ENOSPC, EMLINK, EPERM), (const char *from, const char *to), (from, to))
FAILING(int, linkat, true, WAYS(EIO, ENOSPC, EDQUOT, EMLINK, EPERM), (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
FAILING(int, unlink, false, WAYS(EIO, EACCES, EBUSY), (const char *path), (path))
FAILING(int, mkostemp64, true, WAYS(EIO, ENOSPC, EDQUOT, EMFILE), (char *path, int flags), (path, flags))
FAILING(int, flock, false, WAYS(EINTR, ENOLCK, EIO), (int fd, int operation), (fd, operation))
FAILING(int, stat64, false, WAYS(EIO, EACCES), (const char *path, struct stat64 *status), (path, status))
FAILING(int, fstat64, false, WAYS(EIO), (int fd, struct stat64 *status), (fd, status))
FAILING(int, access, false, WAYS(EIO, EACCES), (const char *path, int mode), (path, mode))
FAILING(int, connect, false, WAYS(ECONNREFUSED, EINTR, EACCES), (int fd, const struct sockaddr *address, socklen_t n), (fd, address, n))
FAILING(int, pipe2, false, WAYS(EMFILE), (int fds[2], int flags), (fds, flags))
FAILING(int, socketpair, false, WAYS(EMFILE), (int domain, int type, int protocol, int fds[2]), (domain, type, protocol, fds))

/* A peer that is gone is gone for what follows, too. */
static int fails_to_send(const char *call, int fd)
{
        int error = fails(call, false, WAYS(EPIPE, EINTR));

        if (error == EPIPE)
                shutdown(fd, SHUT_RDWR);
        return error;
}

ssize_t send(int fd, const void *data, size_t n, int flags)
{
        int error = fails_to_send("send", fd);

        if (!error)
                return NEXT(send)(fd, data, n, flags);
        errno = error;
        return -1;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
        int error = fails_to_send("sendmsg", fd);

        if (!error)
                return NEXT(sendmsg)(fd, message, flags);
        errno = error;
        return -1;
}

FAILING(ssize_t, recv, false, WAYS(ECONNRESET, EINTR), (int fd, void *data, size_t n, int flags), (fd, data, n, flags))
FAILING(int, poll, false, WAYS(EINTR, ENOMEM), (struct pollfd *fds, nfds_t n, int timeout), (fds, n, timeout))
FAILING(pid_t, waitpid, false, WAYS(EINTR, ECHILD), (pid_t pid, int *status, int options), (pid, status, options))

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
                char *const arguments[], char *const environment[])
{
        int error = fails("posix_spawn", false, WAYS(EAGAIN, ENOMEM, ENOENT));

        return error ? error : NEXT(posix_spawn)(pid, path, actions, attributes, arguments, environment);
}

/* Locks alone: SQLite's. Taking them, since giving one up cannot fail on a local disk. */
int failing_fcntl(int fd, int command, ...) __asm__("fcntl64");
int failing_fcntl(int fd, int command, ...)
{
        int (*next)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, "fcntl64");
        va_list arguments;
        void *argument;
        int error = 0;

        va_start(arguments, command);
        argument = va_arg(arguments, void *);
        va_end(arguments);
        if ((command == F_SETLK || command == F_SETLKW) && ((struct flock *)argument)->l_type != F_UNLCK)
                error = fails("lock", false, WAYS(EAGAIN, ENOLCK, EIO, EINTR));
        if (!error)
                return next(fd, command, argument);
        errno = error;
        return -1;
}

/* By the linker's names: the headers redirect open() to open64(), and to __open64_2() where they check its arguments. */
static int open_by(const char *next, const char *path, int flags, mode_t mode)
{
        bool creates = flags & (O_CREAT | __O_TMPFILE);
        int error = fails(creates ? "create" : "open", creates, creates ? WAYS(EIO, ENOSPC, EDQUOT, EINTR, EMFILE, EOPNOTSUPP) : WAYS(EIO, EINTR, EMFILE, EACCES));

        if (!error)
                return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, next))(path, flags, mode);
        errno = error;
        return -1;
}

#define FAILING_OPEN(name)                                                              \
        int failing_##name(const char *path, int flags, ...) __asm__(#name);            \
        int failing_##name(const char *path, int flags, ...)                            \
        {                                                                               \
                va_list arguments;                                                      \
                mode_t mode = 0;                                                        \
                va_start(arguments, flags);                                             \
                if (flags & (O_CREAT | __O_TMPFILE))                                    \
                        mode = va_arg(arguments, mode_t);                               \
                va_end(arguments);                                                      \
                return open_by("open64", path, flags, mode);                            \
        }
FAILING_OPEN(open)
FAILING_OPEN(open64)
FAILING_OPEN(__open_2)
FAILING_OPEN(__open64_2)
