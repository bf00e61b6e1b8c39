/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox-files: Landlock. What the kernel hands lkmd of the file system afterwards is all in sandbox_confine_files(): who needs one more file adds it there,
 * with the least rights. A right on a folder holds for what is below it, and for what will be made there; a right on a file is lost when
 * another one takes its name, as happens to /etc/passwd with each change. Descriptors that were open before stay what they are.
 *
 * Numbers and structs are those of linux/landlock.h as of version 6 of the interface; the headers of Debian 12 know version 2.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/syscall.h>

#include "common/cleanup.h"
#include "daemon/sandbox.h"

#define FS_TRUNCATE (UINT64_C(1) << 14)
#define FS_IOCTL_DEV (UINT64_C(1) << 15)
#define NET_BIND_TCP (UINT64_C(1) << 0)
#define NET_CONNECT_TCP (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT_UNIX_SOCKET (UINT64_C(1) << 0)
#define SCOPE_SIGNAL (UINT64_C(1) << 1)

/* struct landlock_ruleset_attr: older kernels take the longer one, when what they do not know is 0. */
struct ruleset_attr {
        uint64_t handled_access_fs, handled_access_net, scoped;
};

/* All rights of each version: what is handled and then allowed nowhere is denied everywhere. */
static const struct {
        int abi;
        uint64_t fs, net, scoped;
} versions[] = {
        { 1, (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1, 0, 0 },
        { 2, LANDLOCK_ACCESS_FS_REFER, 0, 0 },
        { 3, FS_TRUNCATE, 0, 0 },
        { 4, 0, NET_BIND_TCP | NET_CONNECT_TCP, 0 },
        { 5, FS_IOCTL_DEV, 0, 0 },
        { 6, 0, 0, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL },
};

enum {
        MAY_READ = LANDLOCK_ACCESS_FS_READ_FILE,
        MAY_READ_FOLDER = MAY_READ | LANDLOCK_ACCESS_FS_READ_DIR,
        MAY_KEEP_LOG = MAY_READ_FOLDER | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | FS_TRUNCATE,
        MAY_REMOVE = LANDLOCK_ACCESS_FS_REMOVE_FILE,
};

struct ruleset {
        int fd;
        uint64_t handled;
};

/* What is not there, or cannot be reached, needs no right: whoever opens it later says so better. Return: 0 or -errno. */
static int allow(const struct ruleset *set, const char *path, uint64_t rights)
{
        _cleanup_(closep) int fd = open(path, O_PATH | O_CLOEXEC);
        struct landlock_path_beneath_attr rule = { .allowed_access = rights & set->handled, .parent_fd = fd };

        if (fd < 0)
                return 0;
        return syscall(SYS_landlock_add_rule, set->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

static int allow_folder_of(const struct ruleset *set, const char *path, uint64_t rights)
{
        const char *slash = strrchr(path, '/');
        char folder[PATH_MAX];

        if (!slash)
                return allow(set, ".", rights);
        if ((size_t)(slash - path) >= sizeof(folder))
                return 0;
        snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
        return allow(set, folder, rights);
}

/* The folder that @path is in, and the one that it really is in. */
static int allow_reading(const struct ruleset *set, const char *path)
{
        _cleanup_(freep) char *real = realpath(path, NULL);
        int r = allow_folder_of(set, path, MAY_READ_FOLDER);

        return r == 0 && real ? allow_folder_of(set, real, MAY_READ_FOLDER) : r;
}

/* Drop-ins are in the configuration's folder; but some may be links. */
static int allow_drop_ins(const struct ruleset *set, const char *config_path)
{
        char path[PATH_MAX];
        DIR *folder;
        int r = 0;

        if (snprintf(path, sizeof(path), "%s.d", config_path) >= (int)sizeof(path))
                return 0;
        folder = opendir(path);
        if (!folder)
                return 0;
        r = allow(set, path, MAY_READ_FOLDER);
        for (struct dirent *entry = readdir(folder); entry && r == 0; entry = readdir(folder)) {
                if (entry->d_type == DT_LNK && snprintf(path, sizeof(path), "%s.d/%s", config_path, entry->d_name) < (int)sizeof(path))
                        r = allow_reading(set, path);
        }
        closedir(folder);
        return r;
}

static int allow_all(const struct ruleset *set, const struct sandbox_files *files)
{
        int r = allow_reading(set, files->config_path);

        if (r == 0)
                r = allow_drop_ins(set, files->config_path);
        for (size_t i = 0; i < ELEMENTSOF(files->names) && r == 0; i++)
                r = allow(set, files->names[i], MAY_READ);
        if (r == 0)
                r = allow(set, "/proc", MAY_READ_FOLDER);
        if (r == 0)
                r = allow_folder_of(set, files->audit_file, MAY_KEEP_LOG);
        for (size_t i = 0; i < ELEMENTSOF(files->sockets) && r == 0; i++) {
                if (files->sockets[i])
                        r = allow_folder_of(set, files->sockets[i], MAY_REMOVE);
        }
        return r;
}

int sandbox_confine_files(struct sandbox *s, const struct sandbox_files *files, const char **ret_why)
{
        int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        _cleanup_(closep) int fd = -1;
        struct ruleset_attr attr = { 0 };
        int r;

        if (abi < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
                return SANDBOX_E_UNKNOWN;
        *ret_why = "the kernel does not let lkmd confine itself to its own files. A container has to permit landlock_create_ruleset(2), "
                   "landlock_add_rule(2) and landlock_restrict_self(2), or to answer them with ENOSYS";
        if (abi < 0)
                return -errno;
        for (size_t i = 0; i < ELEMENTSOF(versions) && versions[i].abi <= abi; i++) {
                attr.handled_access_fs |= versions[i].fs;
                attr.handled_access_net |= versions[i].net;
                attr.scoped |= versions[i].scoped;
        }
        fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
        if (fd < 0)
                return -errno;
        r = allow_all(&(struct ruleset){ fd, attr.handled_access_fs }, files);
        if (r < 0)
                return r;
        if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
                return -errno;
        s->landlock_abi = abi;
        return 0;
}
