/* SPDX-License-Identifier: Apache-2.0 */
#include "client/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "proto/frame.h"

/** A file being written: nameless, or beside its place under a name of its own. */
struct draft {
        int fd;
        char *directory;
        char *name; /* NULL while nameless */
};

static void draft_deinit(struct draft *d)
{
        closep(&d->fd);
        if (d->name)
                unlink(d->name);
        free(d->name);
        free(d->directory);
}

int keyfile_path(char **ret_path, const char *database_path)
{
        return asprintf(ret_path, "%s.key", database_path) < 0 ? -ENOMEM : 0;
}

int keyfile_database_exists(const char *database_path)
{
        static const char *const suffixes[] = { "", "-wal", "-journal" };

        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                _cleanup_(freep) char *path = NULL;
                struct stat status;

                if (asprintf(&path, "%s%s", database_path, suffixes[i]) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                if (lstat(path, &status) == 0)
                        return 1;
                if (errno != ENOENT)
                        return -errno;
        }
        return 0;
}

/* ---- reading ---- */

static int read_whole(int fd, uint8_t *data, size_t room, size_t *ret_n)
{
        size_t n = 0;

        while (n < room) {
                ssize_t got = read(fd, data + n, room - n);

                if (got < 0 && errno != EINTR)
                        return -errno;
                if (got == 0)
                        break;
                n += got > 0 ? (size_t)got : 0;
        }
        *ret_n = n;
        return 0;
}

int keyfile_read(const char *path, uint8_t **ret_data, size_t *ret_n)
{
        /* O_NONBLOCK: a FIFO of that name must not hang the application. */
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        _cleanup_(freep) uint8_t *data = NULL;
        struct stat status;
        size_t n = 0;
        int r;

        if (fd < 0)
                return errno == ENXIO ? KEYFILE_E_INVALID : -errno;
        if (fstat(fd, &status) < 0)
                return -errno;
        if (!S_ISREG(status.st_mode) || status.st_size <= 0 || status.st_size > (off_t)RECORD_MAX)
                return KEYFILE_E_INVALID;
        data = malloc((size_t)status.st_size + 1);
        if (!data)
                return -ENOMEM;
        r = read_whole(fd, data, (size_t)status.st_size + 1, &n);
        if (r < 0)
                return r;
        if (n == 0 || n > (size_t)status.st_size)
                return KEYFILE_E_INVALID; /* it changed under us: records are replaced, never rewritten */
        *ret_data = TAKE_PTR(data);
        *ret_n = n;
        return 0;
}

/* ---- writing ---- */

static int directory_of(char **ret_directory, const char *path)
{
        const char *slash = strrchr(path, '/');

        *ret_directory = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
        return *ret_directory ? 0 : -ENOMEM;
}

static int directory_sync(const char *directory)
{
        _cleanup_(closep) int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int draft_open_named(struct draft *d, const char *path)
{
        const char *slash = strrchr(path, '/');

        if (asprintf(&d->name, "%s/.%s.XXXXXX", d->directory, slash ? slash + 1 : path) < 0) {
                d->name = NULL;
                return -ENOMEM;
        }
        d->fd = mkostemp(d->name, O_CLOEXEC);
        if (d->fd < 0) {
                int error = -errno;

                free(TAKE_PTR(d->name));
                return error;
        }
        return 0;
}

static int draft_open(struct draft *d, const char *path, bool nameless)
{
        int r = directory_of(&d->directory, path);

        if (r < 0)
                return r;
        if (nameless) {
                d->fd = open(d->directory, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
                if (d->fd >= 0)
                        return 0;
                /* A kernel or file system without O_TMPFILE; anything else shows again below. */
        }
        return draft_open_named(d, path);
}

/* A failed fsync is final: the kernel may have dropped the pages, so it is never tried again. */
static int draft_write(struct draft *d, struct bytes content, mode_t mode)
{
        size_t n = 0;

        if (content.n == 0 || content.n > RECORD_MAX)
                return -EINVAL;
        while (n < content.n) {
                ssize_t written = write(d->fd, content.data + n, content.n - n);

                if (written < 0 && errno != EINTR)
                        return -errno;
                n += written > 0 ? (size_t)written : 0;
        }
        if (fchmod(d->fd, mode) < 0 || fsync(d->fd) < 0)
                return -errno;
        return 0;
}

/* Give the draft the name @path unless that is taken. Return: 0, -EEXIST, -errno. */
static int draft_link(struct draft *d, const char *path)
{
        char self[64];
        int r;

        if (!d->name) {
                snprintf(self, sizeof(self), "/proc/self/fd/%d", d->fd);
                r = linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
                return r < 0 ? -errno : 0;
        }
        if (link(d->name, path) == 0)
                return 0;
        if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
                return -errno;
        /* No hard links here, as on FAT. */
        if (renameat2(AT_FDCWD, d->name, AT_FDCWD, path, RENAME_NOREPLACE) < 0)
                return -errno;
        free(TAKE_PTR(d->name));
        return 0;
}

static int create_by(const char *path, struct bytes content, bool nameless, bool *ret_was_nameless)
{
        _cleanup_(draft_deinit) struct draft d = { .fd = -1 };
        int r = draft_open(&d, path, nameless);

        *ret_was_nameless = r == 0 && !d.name;
        if (r == 0)
                r = draft_write(&d, content, 0600);
        if (r == 0)
                r = draft_link(&d, path);
        return r < 0 ? r : directory_sync(d.directory);
}

int keyfile_create(const char *path, struct bytes content)
{
        struct stat status;
        bool nameless;
        int r;

        if (lstat(path, &status) == 0)
                return -EEXIST;
        r = create_by(path, content, true, &nameless);
        /* Without /proc a nameless file cannot be linked: the error says that there is no such file. */
        if (nameless && (r == -ENOENT || r == -EPERM || r == -EOPNOTSUPP))
                r = create_by(path, content, false, &nameless);
        return r;
}

/* ---- replacing, under the lock ---- */

enum { LOCK_RETRY_USEC = 20 * 1000 };

/* flock(2) without waiting, and whether the path still names the locked file. Return: 0, -EWOULDBLOCK, -ESTALE, -errno. */
static int lock_try(int fd, const char *path)
{
        struct stat locked, named;

        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EINTR ? -EWOULDBLOCK : -errno;
        if (fstat(fd, &locked) < 0 || stat(path, &named) < 0)
                return -errno;
        return locked.st_ino == named.st_ino && locked.st_dev == named.st_dev ? 0 : -ESTALE;
}

int keyfile_lock(struct keyfile_lock *ret_lock, const char *path, uint64_t deadline_usec)
{
        _cleanup_(freep) char *real = realpath(path, NULL);

        if (!real)
                return -errno;
        for (;;) {
                /* Writable where that is allowed: NFS wants it for an exclusive lock. */
                _cleanup_(closep) int fd = open(real, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
                int r;

                if (fd < 0 && (errno == EACCES || errno == EROFS || errno == EPERM))
                        fd = open(real, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
                if (fd < 0)
                        return -errno;
                r = lock_try(fd, real);
                if (r == 0) {
                        *ret_lock = (struct keyfile_lock){ .path = TAKE_PTR(real), .fd = TAKE_FD(fd) };
                        return 0;
                }
                if (r == -ESTALE)
                        continue; /* replaced while we waited for the old one */
                if (r != -EWOULDBLOCK)
                        return r;
                if (clock_boottime_usec() >= deadline_usec)
                        return -EWOULDBLOCK;
                poll(NULL, 0, LOCK_RETRY_USEC / USEC_PER_MSEC);
        }
}

void keyfile_unlock(struct keyfile_lock *lock)
{
        free(TAKE_PTR(lock->path));
        closep(&lock->fd);
        lock->fd = -1;
}

int keyfile_replace(struct keyfile_lock *lock, struct bytes content)
{
        _cleanup_(draft_deinit) struct draft d = { .fd = -1 };
        struct stat status;
        int r;

        if (fstat(lock->fd, &status) < 0)
                return -errno;
        r = draft_open(&d, lock->path, false);
        /* Root may do this for another user, who has to be able to read the file afterwards. */
        if (r == 0 && (status.st_uid != geteuid() || status.st_gid != getegid()) &&
            fchown(d.fd, status.st_uid, status.st_gid) < 0)
                r = -errno;
        if (r == 0)
                r = draft_write(&d, content, status.st_mode & 0777);
        /* The lock is on the new file before that has the name. */
        if (r == 0 && flock(d.fd, LOCK_EX | LOCK_NB) < 0)
                r = -errno;
        if (r == 0 && rename(d.name, lock->path) < 0)
                r = -errno;
        if (r < 0)
                return r;
        free(TAKE_PTR(d.name));
        close(lock->fd);
        lock->fd = TAKE_FD(d.fd);
        return directory_sync(d.directory);
}
