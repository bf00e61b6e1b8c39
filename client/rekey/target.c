/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/target.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/check.h"
#include "client/rekey/paths.h"

/* A -journal or -wal that lies in wait would be taken for the new file's own. */
static const char *const suffixes[] = { "", "-journal", "-wal", "-shm" };

int target_refuse(const struct target *target, int r)
{
        if (r == -ENOSPC || r == -EDQUOT || r == -EFBIG)
                return answer_refuse(LKM_E_NO_SPACE, "%s does not fit where it is to be (%s). Free some space, or choose another place.", target->named,
                                     strerrordesc_np(-r));
        return answer_refuse(LKM_E_IO, "%s could not be written: %s. Check the owner, the permissions and the disk of its folder.", target->named,
                             strerrordesc_np(-r));
}

static int refuse_existing(const struct target *target, const char *suffix)
{
        return answer_refuse(LKM_E_EXISTS, "There is a file %s%s already, and nothing is overwritten. Choose another path for the new database.",
                             target->named, suffix);
}

static int target_check(const struct target *target)
{
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                _cleanup_(freep) char *path = NULL;
                struct stat status;

                if (paths_side(&path, target->path, suffixes[i]) < 0)
                        return target_refuse(target, -ENOMEM);
                if (lstat(path, &status) == 0)
                        return refuse_existing(target, suffixes[i]);
                if (errno != ENOENT)
                        return target_refuse(target, -errno);
        }
        return 0;
}

static int target_open(struct target *target, const char *like)
{
        const char *slash = strrchr(target->path, '/');
        struct stat status, own;

        if (asprintf(&target->draft, "%.*s/.%s.XXXXXX", (int)(slash - target->path), target->path, slash + 1) < 0) {
                target->draft = NULL;
                return -ENOMEM;
        }
        target->fd = mkostemp(target->draft, O_CLOEXEC);
        if (target->fd < 0) {
                int r = -errno;

                free(TAKE_PTR(target->draft));
                return r;
        }
        if (stat(like, &status) < 0 || fstat(target->fd, &own) < 0)
                return -errno;
        /* Root may do this for another user, whose database it is. */
        if ((status.st_uid != own.st_uid || status.st_gid != own.st_gid) && geteuid() == 0 && fchown(target->fd, status.st_uid, status.st_gid) < 0)
                return -errno;
        return fchmod(target->fd, status.st_mode & 0777) < 0 ? -errno : 0;
}

int target_begin(struct target *target, const struct work *work, uint64_t n)
{
        int r = paths_resolve(&target->path, work->target);

        target->named = work->target;
        if (r < 0)
                return target_refuse(target, r);
        r = target_check(target);
        if (r == 0)
                r = check_space(target->path, work->target, n, "Writing");
        if (r)
                return r;
        r = target_open(target, work->path);
        return r < 0 ? target_refuse(target, r) : 0;
}

/* Its name, unless that is taken by now. Return: 0, -errno. */
static int target_link(struct target *target)
{
        if (link(target->draft, target->path) == 0)
                return unlink(target->draft) < 0 ? -errno : 0;
        if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS && errno != EMLINK)
                return -errno;
        /* No hard links here, as on FAT. */
        return renameat2(AT_FDCWD, target->draft, AT_FDCWD, target->path, RENAME_NOREPLACE) < 0 ? -errno : 0;
}

int target_finish(struct target *target)
{
        _cleanup_(closep) int directory_fd = -1;
        int r = fsync(target->fd) < 0 ? -errno : target_check(target);

        if (r > 0)
                return r;
        if (r == 0)
                r = target_link(target);
        if (r == -EEXIST)
                return refuse_existing(target, "");
        if (r < 0)
                return target_refuse(target, r);
        free(TAKE_PTR(target->draft));
        r = paths_open_directory(&directory_fd, target->path);
        if (r == 0 && fsync(directory_fd) < 0)
                r = -errno;
        return r < 0 ? target_refuse(target, r) : 0;
}

void target_deinit(struct target *target)
{
        for (size_t i = 0; target->draft && i < ELEMENTSOF(suffixes); i++) {
                _cleanup_(freep) char *path = NULL;

                if (paths_side(&path, target->draft, suffixes[i]) == 0)
                        unlink(path);
        }
        closep(&target->fd);
        free(target->draft);
        free(target->path);
}
