/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/scratch.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>

#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"

enum { NAMES_MAX = 8, FDS_MAX = 16 };

static char folder[64];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
        return remove(path);
}

static void remove_all(void)
{
        nftw(folder, remove_one, FDS_MAX, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_path(const char *name)
{
        static char paths[NAMES_MAX][PATH_MAX];
        static size_t n;
        size_t i = 0;

        if (!*folder) {
                snprintf(folder, sizeof(folder), "%s/lkm-fuzz.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
                check(mkdtemp(folder) != NULL);
                atexit(remove_all);
        }
        while (i < n && strcmp(paths[i] + strlen(folder) + 1, name) != 0)
                i++;
        check(i < NAMES_MAX);
        if (i == n)
                snprintf(paths[n++], PATH_MAX, "%s/%s", folder, name);
        return paths[i];
}

const char *scratch_write(const char *name, struct bytes content)
{
        const char *path = scratch_path(name);
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        check(fd >= 0 && write(fd, content.data, content.n) == (ssize_t)content.n);
        return path;
}

void scratch_folder(const char *name)
{
        check(mkdir(scratch_path(name), 0700) == 0 || access(scratch_path(name), W_OK) == 0);
}
