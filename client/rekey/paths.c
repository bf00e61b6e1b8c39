/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/paths.h"

#include <errno.h>
#include <fcntl.h>

#include "common/cleanup.h"

int paths_side(char **ret_path, const char *path, const char *suffix)
{
        if (asprintf(ret_path, "%s%s", path, suffix) >= 0)
                return 0;
        *ret_path = NULL;
        return -ENOMEM;
}

int paths_directory(char **ret_path, const char *path)
{
        const char *slash = strrchr(path, '/');

        *ret_path = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
        return *ret_path ? 0 : -ENOMEM;
}

int paths_open_directory(int *ret_fd, const char *path)
{
        _cleanup_(freep) char *directory = NULL;

        if (paths_directory(&directory, path) < 0)
                return -ENOMEM;
        *ret_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return *ret_fd < 0 ? -errno : 0;
}

int paths_resolve(char **ret_path, const char *path)
{
        _cleanup_(freep) char *directory = NULL, *real = realpath(path, NULL);
        const char *slash = strrchr(path, '/');

        if (real) {
                *ret_path = TAKE_PTR(real);
                return 0;
        }
        if (errno != ENOENT)
                return -errno;
        if (paths_directory(&directory, path) < 0)
                return -ENOMEM;
        real = realpath(directory, NULL);
        if (!real)
                return -errno;
        if (asprintf(ret_path, "%s%s%s", real, strcmp(real, "/") == 0 ? "" : "/", slash ? slash + 1 : path) >= 0)
                return 0;
        *ret_path = NULL;
        return -ENOMEM;
}
