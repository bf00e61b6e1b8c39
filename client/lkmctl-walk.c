/* SPDX-License-Identifier: Apache-2.0 */
#include "client/lkmctl-walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/lkmctl.h"

/* Each level holds a descriptor and a list of names; nobody's databases lie deeper. */
enum { DEPTH_MAX = 16 };

#define KEY_SUFFIX ".key"

struct walk {
        walk_found *found;
        void *userdata;
};

/** The sorted names of a folder. */
struct names {
        struct dirent **entries;
        int n;
};

static void names_deinit(struct names *names)
{
        for (int i = 0; i < names->n; i++)
                free(names->entries[i]);
        free(names->entries);
}

static bool is_regular(int fd, const char *name)
{
        struct stat status;

        return fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode);
}

/* Report the database whose .key is @name. */
static int visit_key(const struct walk *w, int fd, const char *path, const char *name)
{
        size_t n = strlen(name);
        _cleanup_(freep) char *database = NULL, *full = NULL;

        if (n <= strlen(KEY_SUFFIX) || strcmp(name + n - strlen(KEY_SUFFIX), KEY_SUFFIX) != 0 || !is_regular(fd, name))
                return 0;
        database = strndup(name, n - strlen(KEY_SUFFIX));
        if (!database || asprintf(&full, "%s/%s", path, database) < 0) {
                full = NULL;
                return -ENOMEM;
        }
        return is_regular(fd, database) ? w->found(w->userdata, full) : 0;
}

static int visit_folder(const struct walk *w, int fd, const char *path, unsigned depth);

/* Go down into the folder @name. */
static int visit_below(const struct walk *w, int fd, const char *path, const char *name, unsigned depth)
{
        _cleanup_(freep) char *full = NULL;
        _cleanup_(closep) int below = -1;

        if (asprintf(&full, "%s/%s", path, name) < 0) {
                full = NULL;
                return -ENOMEM;
        }
        if (depth >= DEPTH_MAX) {
                ctl_refuse(0, "%s lies deeper than %d folders and is not looked into. Name it by itself", full, DEPTH_MAX);
                return 0;
        }
        below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below < 0) {
                if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) /* replaced meanwhile */
                        ctl_refuse(0, "cannot look into %s: %s", full, strerror(errno));
                return 0;
        }
        return visit_folder(w, below, full, depth + 1);
}

static int visit_folder(const struct walk *w, int fd, const char *path, unsigned depth)
{
        _cleanup_(names_deinit) struct names names = { 0 };
        int r = 0;

        names.n = scandirat(fd, ".", &names.entries, NULL, alphasort);
        if (names.n < 0) {
                names.n = 0;
                ctl_refuse(0, "cannot look into %s: %s", path, strerror(errno));
                return 0;
        }
        for (int i = 0; r == 0 && i < names.n; i++) {
                const char *name = names.entries[i]->d_name;
                struct stat status;

                if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                if (S_ISDIR(status.st_mode))
                        r = visit_below(w, fd, path, name, depth);
                else if (S_ISREG(status.st_mode))
                        r = visit_key(w, fd, path, name);
        }
        return r;
}

int walk_databases(const char *folder, walk_found *found, void *userdata)
{
        const struct walk w = { .found = found, .userdata = userdata };
        _cleanup_(closep) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        size_t n = strlen(folder);
        _cleanup_(freep) char *path = NULL;

        if (fd < 0)
                return -errno;
        while (n > 0 && folder[n - 1] == '/')
                n--; /* the root folder becomes "", and what is in it "/name" */
        path = strndup(folder, n);
        return path ? visit_folder(&w, fd, path, 0) : -ENOMEM;
}
