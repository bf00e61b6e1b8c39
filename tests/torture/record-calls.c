/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record-calls: an LD_PRELOAD library that writes down every call by which a process, and what it starts, changes the files of the
 * directory RECORD_DIRECTORY, into the log RECORD_LOG. It sits where SQLite's own VFS and lkm's writer of .key files meet the
 * kernel, so that the programs under test are the shipped ones.
 *
 * What a library at this place could miss, and why it does not matter or shows:
 * - a call that libc makes for itself (stdio's, remove()'s): replaying the whole log has to give the directory that is really there, byte for
 *   byte, or the test fails (disk_compare());
 * - writes by a shared mapping: such a mapping of any file but SQLite's -shm is logged as CALL_UNKNOWN, which fails the test. A -shm is scratch
 *   memory that its first opener empties;
 * - a missed fsync would make the model harder, never softer;
 * - folders in the directory: CALL_UNKNOWN.
 *
 * A call is logged after it was done, in one write() to a file opened with O_APPEND. Two processes that change files at the same time
 * could thus be logged in the wrong order; in lkm one waits for the other, and the comparison above would show it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "calls.h"

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define NEXT_AS(type, name) ((type)dlsym(RTLD_NEXT, name))

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static const char *directory; /* NULL: nothing is recorded */
static int log_fd = -1;

__attribute__((__constructor__)) static void record_init(void)
{
        const char *log = getenv("RECORD_LOG");

        directory = log ? getenv("RECORD_DIRECTORY") : NULL;
        if (directory)
                log_fd = NEXT_AS(int (*)(const char *, int, ...), "open64")(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (directory && log_fd < 0)
                abort();
}

static void log_call(struct call call, const char *name, const char *other, const void *data)
{
        struct iovec parts[4];

        call.pid = (uint32_t)getpid();
        call.n_name = name ? (uint32_t)strlen(name) : 0;
        call.n_other = other ? (uint32_t)strlen(other) : 0;
        parts[0] = (struct iovec){ &call, sizeof(call) };
        parts[1] = (struct iovec){ (void *)(uintptr_t)name, call.n_name };
        parts[2] = (struct iovec){ (void *)(uintptr_t)other, call.n_other };
        parts[3] = (struct iovec){ (void *)(uintptr_t)data, call.n };
        if (NEXT(writev)(log_fd, parts, 4) != (ssize_t)(sizeof(call) + call.n_name + call.n_other + call.n))
                abort();
}

static void log_unknown(const char *what)
{
        log_call((struct call){ .kind = CALL_UNKNOWN }, what, NULL, NULL);
}

/* ---- which file ---- */

static bool inside(const char *path)
{
        size_t n = strlen(directory);

        return strncmp(path, directory, n) == 0 && (path[n] == '/' || !path[n]);
}

/* The name within the directory of what @path means, without following a symlink at its end. Return: false when it lies elsewhere. */
static bool name_in_directory(int at, const char *path, char ret_name[NAME_MAX + 1])
{
        char folder[PATH_MAX], real[PATH_MAX];
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

        if (slash == path)
                snprintf(folder, sizeof(folder), "/");
        else if (*path == '/')
                snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
        else if (at == AT_FDCWD)
                snprintf(folder, sizeof(folder), "./%.*s", slash ? (int)(slash - path) : 0, path);
        else
                snprintf(folder, sizeof(folder), "/proc/self/fd/%d/%.*s", at, slash ? (int)(slash - path) : 0, path);
        if (!realpath(folder, real) || !inside(real))
                return false;
        if (real[strlen(directory)])
                log_unknown("a folder");
        snprintf(ret_name, NAME_MAX + 1, "%s", name);
        return true;
}

/* Return: whether @fd is a file of the directory, or the directory itself (*ret_directory). */
static bool file_of(int fd, uint64_t *ret_inode, bool *ret_directory)
{
        char link[64], path[PATH_MAX];
        struct stat status;
        ssize_t n;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        if (n < 0)
                return false;
        path[n] = '\0';
        if (!inside(path) || fstat(fd, &status) < 0)
                return false;
        *ret_inode = status.st_ino;
        *ret_directory = S_ISDIR(status.st_mode);
        return true;
}

/* Log a call on @fd that was done. errno is the call's. */
static void log_fd_call(int fd, struct call call, const void *data)
{
        int error = errno;
        bool is_directory;

        if (directory && file_of(fd, &call.inode, &is_directory)) {
                if (is_directory && (call.kind == CALL_SYNC || call.kind == CALL_DATASYNC))
                        call.kind = CALL_SYNC_NAMES;
                log_call(call, NULL, NULL, data);
        }
        errno = error;
}

/* A call is done and logged in one piece as far as the threads of this process go. */
#define WHOLE(type, expression, when_done)                              \
        ({                                                              \
                type _result;                                           \
                pthread_mutex_lock(&mutex);                             \
                _result = (expression);                                 \
                if (_result >= 0)                                       \
                        when_done;                                      \
                pthread_mutex_unlock(&mutex);                           \
                _result;                                                \
        })

/* ---- content ---- */

ssize_t write(int fd, const void *data, size_t n)
{
        off64_t at = directory ? lseek64(fd, 0, SEEK_CUR) : -1;

        return WHOLE(ssize_t, NEXT(write)(fd, data, n), ({
                             int flags = fcntl(fd, F_GETFL);

                             if (at >= 0 && flags >= 0 && flags & O_APPEND)
                                     at = lseek64(fd, 0, SEEK_CUR) - _result;
                             log_fd_call(fd, (struct call){ .kind = CALL_WRITE, .offset = (uint64_t)at, .n = (uint64_t)_result }, data);
                     }));
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at)
{
        return WHOLE(ssize_t, NEXT(pwrite64)(fd, data, n, at),
                     log_fd_call(fd, (struct call){ .kind = CALL_WRITE, .offset = (uint64_t)at, .n = (uint64_t)_result }, data));
}

#define PWRITE(name)                                                       \
        ssize_t record_##name(int, const void *, size_t, off64_t) __asm__(#name); \
        ssize_t record_##name(int fd, const void *data, size_t n, off64_t at)     \
        {                                                                  \
                return pwrite64(fd, data, n, at);                          \
        }
PWRITE(pwrite)
PWRITE(__pwrite64)

#define RESIZE(name)                                                                                                     \
        int record_##name(int, off64_t) __asm__(#name);                                                                  \
        int record_##name(int fd, off64_t size)                                                                          \
        {                                                                                                                \
                return WHOLE(int, NEXT_AS(int (*)(int, off64_t), #name)(fd, size),                                       \
                             log_fd_call(fd, (struct call){ .kind = CALL_SIZE, .value = (uint64_t)size }, NULL));        \
        }
RESIZE(ftruncate)
RESIZE(ftruncate64)

int fsync(int fd)
{
        return WHOLE(int, NEXT(fsync)(fd), log_fd_call(fd, (struct call){ .kind = CALL_SYNC }, NULL));
}

int fdatasync(int fd)
{
        return WHOLE(int, NEXT(fdatasync)(fd), log_fd_call(fd, (struct call){ .kind = CALL_DATASYNC }, NULL));
}

int fchmod(int fd, mode_t mode)
{
        return WHOLE(int, NEXT(fchmod)(fd, mode), log_fd_call(fd, (struct call){ .kind = CALL_MODE, .value = mode }, NULL));
}

/* Calls that would write, and that nothing here is known to make: the log says so when one comes. */
#define UNKNOWN_FD(type, name, parameters, arguments)                                      \
        type record_##name parameters __asm__(#name);                                      \
        type record_##name parameters                                                      \
        {                                                                                  \
                log_fd_call(fd, (struct call){ .kind = CALL_UNKNOWN }, NULL);              \
                return NEXT_AS(type (*) parameters, #name) arguments;                      \
        }
UNKNOWN_FD(ssize_t, writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
UNKNOWN_FD(ssize_t, pwritev, (int fd, const struct iovec *parts, int n, off64_t at), (fd, parts, n, at))
UNKNOWN_FD(ssize_t, pwritev64, (int fd, const struct iovec *parts, int n, off64_t at), (fd, parts, n, at))
UNKNOWN_FD(int, fallocate, (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))
UNKNOWN_FD(int, fallocate64, (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))
UNKNOWN_FD(int, posix_fallocate, (int fd, off64_t at, off64_t n), (fd, at, n))
UNKNOWN_FD(int, posix_fallocate64, (int fd, off64_t at, off64_t n), (fd, at, n))
UNKNOWN_FD(ssize_t, sendfile, (int fd, int from, off64_t *at, size_t n), (fd, from, at, n))
UNKNOWN_FD(ssize_t, sendfile64, (int fd, int from, off64_t *at, size_t n), (fd, from, at, n))
UNKNOWN_FD(ssize_t, copy_file_range, (int from, off64_t *from_at, int fd, off64_t *at, size_t n, unsigned flags), (from, from_at, fd, at, n, flags))

static bool is_shared_memory(int fd)
{
        char link[64], path[PATH_MAX];
        ssize_t n;

        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path));
        return n > 4 && strncmp(path + n - 4, "-shm", 4) == 0;
}

#define MAP(name)                                                                                                                \
        void *record_##name(void *, size_t, int, int, int, off64_t) __asm__(#name);                                              \
        void *record_##name(void *address, size_t n, int protection, int flags, int fd, off64_t at)                              \
        {                                                                                                                        \
                if (fd >= 0 && flags & MAP_SHARED && protection & PROT_WRITE && !is_shared_memory(fd))                           \
                        log_fd_call(fd, (struct call){ .kind = CALL_UNKNOWN }, NULL);                                            \
                return NEXT_AS(void *(*)(void *, size_t, int, int, int, off64_t), #name)(address, n, protection, flags, fd, at); \
        }
MAP(mmap)
MAP(mmap64)

/* ---- names ---- */

/* What an open does: @was_there, whether the name existed before. */
static void log_open(int fd, const char *name, bool was_there, int flags)
{
        struct call call = { 0 };
        struct stat status;
        int error = errno;

        if (fstat(fd, &status) < 0 || S_ISDIR(status.st_mode)) {
                errno = error;
                return;
        }
        call.inode = status.st_ino;
        if ((flags & O_TMPFILE) == O_TMPFILE)
                name = "";
        if (!was_there || (flags & O_TMPFILE) == O_TMPFILE) {
                call.kind = CALL_CREATE;
                call.value = status.st_mode & 07777;
                log_call(call, name, NULL, NULL);
        } else if (flags & O_TRUNC) {
                call.kind = CALL_SIZE;
                log_call(call, NULL, NULL, NULL);
        }
        errno = error;
}

typedef int open_function(const char *, int, ...);
typedef int openat_function(int, const char *, int, ...);

/* open(2) by whatever name. @next_at for those that take a folder. */
static int open_and_log(open_function *next, openat_function *next_at, int at, const char *path, int flags, mode_t mode)
{
        char name[NAME_MAX + 1] = "";
        bool changes = flags & (O_CREAT | O_TRUNC | __O_TMPFILE), was_there = true;
        char probe[PATH_MAX];
        struct stat status;
        int fd;

        pthread_mutex_lock(&mutex);
        if (changes && directory) {
                if ((flags & O_TMPFILE) == O_TMPFILE)
                        snprintf(probe, sizeof(probe), "%s/x", path); /* the folder is the path itself */
                else
                        snprintf(probe, sizeof(probe), "%s", path);
                changes = name_in_directory(at, probe, name);
                was_there = fstatat(at, path, &status, 0) == 0;
        }
        fd = next ? next(path, flags, mode) : next_at(at, path, flags, mode);
        if (fd >= 0 && changes && directory)
                log_open(fd, name, was_there, flags);
        pthread_mutex_unlock(&mutex);
        return fd;
}

static mode_t mode_of(int flags, va_list arguments)
{
        return flags & (O_CREAT | __O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

/* By the linker's names: the headers redirect open() to open64(), and to __open_2() where they check its arguments. */
#define OPEN(name)                                                                                                   \
        int record_##name(const char *path, int flags, ...) __asm__(#name);                                          \
        int record_##name(const char *path, int flags, ...)                                                          \
        {                                                                                                            \
                va_list arguments;                                                                                   \
                mode_t mode;                                                                                         \
                va_start(arguments, flags);                                                                          \
                mode = mode_of(flags, arguments);                                                                    \
                va_end(arguments);                                                                                   \
                return open_and_log(NEXT_AS(open_function *, #name), NULL, AT_FDCWD, path, flags, mode);             \
        }
OPEN(open)
OPEN(open64)
OPEN(__open_2)
OPEN(__open64_2)

#define OPENAT(name)                                                                                                 \
        int record_##name(int at, const char *path, int flags, ...) __asm__(#name);                                  \
        int record_##name(int at, const char *path, int flags, ...)                                                  \
        {                                                                                                            \
                va_list arguments;                                                                                   \
                mode_t mode;                                                                                         \
                va_start(arguments, flags);                                                                          \
                mode = mode_of(flags, arguments);                                                                    \
                va_end(arguments);                                                                                   \
                return open_and_log(NULL, NEXT_AS(openat_function *, #name), at, path, flags, mode);                 \
        }
OPENAT(openat)
OPENAT(openat64)
OPENAT(__openat_2)
OPENAT(__openat64_2)

#define MKSTEMP(name, parameters, arguments)                                                          \
        int record_##name parameters __asm__(#name);                                                  \
        int record_##name parameters                                                                  \
        {                                                                                             \
                return WHOLE(int, NEXT_AS(int (*) parameters, #name) arguments, ({                    \
                                     char name_[NAME_MAX + 1];                                        \
                                     if (directory && name_in_directory(AT_FDCWD, path, name_))       \
                                             log_open(_result, name_, false, O_CREAT);                \
                             }));                                                                     \
        }
MKSTEMP(mkstemp, (char *path), (path))
MKSTEMP(mkstemp64, (char *path), (path))
MKSTEMP(mkostemp, (char *path, int flags), (path, flags))
MKSTEMP(mkostemp64, (char *path, int flags), (path, flags))

static int rename_and_log(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
        char name[NAME_MAX + 1], other[NAME_MAX + 1];

        return WHOLE(int, NEXT(renameat2)(from_at, from, to_at, to, flags), ({
                             int error = errno;
                             if (directory) {
                                     bool was = name_in_directory(from_at, from, name), is = name_in_directory(to_at, to, other);

                                     if (was != is || flags & ~(unsigned)RENAME_NOREPLACE)
                                             log_unknown("a rename across folders");
                                     else if (was)
                                             log_call((struct call){ .kind = CALL_RENAME }, name, other, NULL);
                             }
                             errno = error;
                     }));
}

int rename(const char *from, const char *to)
{
        return rename_and_log(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
        return rename_and_log(from_at, from, to_at, to, 0);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
        return rename_and_log(from_at, from, to_at, to, flags);
}

static int link_and_log(int from_at, const char *from, int to_at, const char *to, int flags)
{
        char name[NAME_MAX + 1];

        return WHOLE(int, NEXT(linkat)(from_at, from, to_at, to, flags), ({
                             int error = errno;
                             struct stat status;
                             if (directory && name_in_directory(to_at, to, name) && fstatat(to_at, to, &status, AT_SYMLINK_NOFOLLOW) == 0)
                                     log_call((struct call){ .kind = CALL_LINK, .inode = status.st_ino }, name, NULL, NULL);
                             errno = error;
                     }));
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
        return link_and_log(from_at, from, to_at, to, flags);
}

int link(const char *from, const char *to)
{
        return link_and_log(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void log_unlink(int at, const char *path)
{
        char name[NAME_MAX + 1];
        int error = errno;

        if (directory && name_in_directory(at, path, name))
                log_call((struct call){ .kind = CALL_UNLINK }, name, NULL, NULL);
        errno = error;
}

int unlink(const char *path)
{
        return WHOLE(int, NEXT(unlink)(path), log_unlink(AT_FDCWD, path));
}

int unlinkat(int at, const char *path, int flags)
{
        return WHOLE(int, NEXT(unlinkat)(at, path, flags), log_unlink(at, path));
}

int remove(const char *path)
{
        return WHOLE(int, NEXT(remove)(path), log_unlink(AT_FDCWD, path));
}
