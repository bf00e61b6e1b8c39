/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

#include "common/cleanup.h"

int durable_directory_open(const char *path)
{
        const char *slash = strrchr(path, '/');
        _cleanup_(freep) char *directory = NULL;
        int fd;

        if (!slash)
                directory = strdup(".");
        else
                directory = strndup(path, slash == path ? 1 : (size_t)(slash - path));
        if (!directory)
                return -ENOMEM;
        fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int write_all(int fd, struct bytes content)
{
        while (content.n > 0) {
                ssize_t n = write(fd, content.data, content.n);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                content.data += n;
                content.n -= (size_t)n;
        }
        return 0;
}

static int temporary_write(int directory_fd, const char *name, struct bytes content, struct durable_owner owner)
{
        _cleanup_(closep) int fd =
                openat(directory_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        int r;

        if (fd < 0)
                return -errno;
        r = write_all(fd, content);
        if (r < 0)
                return r;
        if (fchmod(fd, 0600) < 0)
                return -errno;
        if ((owner.uid != (uid_t)-1 || owner.gid != (gid_t)-1) && fchown(fd, owner.uid, owner.gid) < 0)
                return -errno;
        return fsync(fd) < 0 ? -errno : 0;
}

static int temporary_publish(int directory_fd, const char *temporary, const char *name, bool replace)
{
        if (replace)
                return renameat(directory_fd, temporary, directory_fd, name) < 0 ? -errno : 0;
        if (renameat2(directory_fd, temporary, directory_fd, name, RENAME_NOREPLACE) == 0)
                return 0;
        if (errno != EINVAL && errno != ENOSYS)
                return -errno;
        /* A file system without RENAME_NOREPLACE: a hard link does not overwrite either. */
        if (linkat(directory_fd, temporary, directory_fd, name, 0) < 0)
                return -errno;
        return unlinkat(directory_fd, temporary, 0) < 0 ? -errno : 0;
}

int durable_write(const char *path, struct bytes content, struct durable_owner owner, bool replace)
{
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        _cleanup_(closep) int directory_fd = durable_directory_open(path);
        char temporary[8 + UUID_TEXT_LENGTH + 1] = ".lkm-";
        uint8_t uuid[UUID_SIZE];
        int r;

        if (directory_fd < 0)
                return directory_fd;
        if (*name == '\0')
                return -EISDIR;
        r = uuid_random(uuid);
        if (r < 0)
                return r;
        uuid_format(temporary + strlen(temporary), uuid);
        r = temporary_write(directory_fd, temporary, content, owner);
        if (r == 0)
                r = temporary_publish(directory_fd, temporary, name, replace);
        if (r < 0) {
                unlinkat(directory_fd, temporary, 0);
                return r;
        }
        return fsync(directory_fd) < 0 ? -errno : 0;
}

int durable_mkdirs(const char *path, mode_t mode)
{
        _cleanup_(freep) char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        for (char *slash = copy + 1; *slash; slash++) {
                if (*slash != '/')
                        continue;
                *slash = '\0';
                if (mkdir(copy, mode) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
                return -errno;
        return 0;
}
