/* SPDX-License-Identifier: Apache-2.0 */
#include "client/lkmctl-owner.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "client/lkmctl.h"
#include "common/harden.h"

static int refuse(char ret_sentence[OWNER_SENTENCE_MAX], int code, const char *format, ...) _printf_(3, 4);

static int refuse(char ret_sentence[OWNER_SENTENCE_MAX], int code, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(ret_sentence, OWNER_SENTENCE_MAX, format, arguments);
        va_end(arguments);
        return code;
}

/* Whether root alone can write into the folder @path, or (@is_above) at least cannot have what it put there replaced, as in /tmp. */
static bool folder_is_roots(const char *path, bool is_above)
{
        struct stat status;
        mode_t others;

        if (lstat(path, &status) < 0 || !S_ISDIR(status.st_mode) || status.st_uid != 0)
                return false;
        others = status.st_gid == 0 ? S_IWOTH : S_IWGRP | S_IWOTH;
        return !(status.st_mode & others) || (is_above && (status.st_mode & S_ISVTX));
}

/* Whether nobody but root can put another file into the folder @real, or another folder in its place. */
static bool path_is_roots(const char *real)
{
        _cleanup_(freep) char *above = strdup(real);

        if (!above || !folder_is_roots(real, false))
                return false;
        for (char *slash; (slash = strrchr(above, '/'));) {
                slash[slash == above] = '\0';
                if (!folder_is_roots(above, true))
                        return false;
                if (slash == above)
                        return true;
        }
        return false;
}

/* Return: 1 and *@ret_uid, 0 when there is no such name, an exit code as a negative number. */
static int file_owner(int folder_fd, const char *name, const char *suffix, uid_t *ret_uid, char ret_sentence[OWNER_SENTENCE_MAX])
{
        _cleanup_(freep) char *full = NULL;
        struct stat status;

        if (asprintf(&full, "%s%s", name, suffix) < 0) {
                full = NULL;
                return -refuse(ret_sentence, EXIT_CODE_FAILED, "out of memory");
        }
        if (fstatat(folder_fd, full, &status, AT_SYMLINK_NOFOLLOW) < 0) {
                if (errno == ENOENT)
                        return 0;
                return -refuse(ret_sentence, EXIT_CODE_FAILED, "cannot look at %s: %s", full, strerror(errno));
        }
        if (S_ISLNK(status.st_mode))
                return -refuse(ret_sentence, EXIT_CODE_RECORD,
                               "%s is a symbolic link, which root does not follow. Name the database itself, or ask as its owner", full);
        if (!S_ISREG(status.st_mode))
                return -refuse(ret_sentence, EXIT_CODE_RECORD, "%s is no regular file", full);
        *ret_uid = status.st_uid;
        return 1;
}

/* The account of @uid. Its primary group is taken, never a file's, which a set-group-ID folder may have given to it. */
static int owner_of_uid(struct owner *ret_owner, uid_t uid, char ret_sentence[OWNER_SENTENCE_MAX])
{
        const struct passwd *account;

        errno = 0;
        account = getpwuid(uid);
        if (!account)
                return refuse(ret_sentence, EXIT_CODE_DENIED, "it belongs to user %u, who has no account%s%s. Ask as that user, with setpriv(1)", (unsigned)uid,
                              errno ? ": " : "", errno ? strerror(errno) : "");
        *ret_owner = (struct owner){ .uid = uid, .gid = account->pw_gid, .name = strdup(account->pw_name) };
        return ret_owner->name ? EXIT_CODE_OK : refuse(ret_sentence, EXIT_CODE_FAILED, "out of memory");
}

static int folder_open(const char *path, char **ret_folder, const char **ret_name)
{
        const char *slash = strrchr(path, '/');

        *ret_name = slash ? slash + 1 : path;
        *ret_folder = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
        return *ret_folder ? open(*ret_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

int owner_find(const char *path, bool no_key, struct owner *ret_owner, char ret_sentence[OWNER_SENTENCE_MAX])
{
        _cleanup_(freep) char *folder = NULL, *real = NULL;
        _cleanup_(closep) int fd = -1;
        uid_t database_uid = 0, key_uid = 0;
        const char *name;
        int database, key;

        fd = folder_open(path, &folder, &name);
        if (fd < 0)
                return refuse(ret_sentence, EXIT_CODE_RECORD, "cannot open its folder: %s. Check the path", strerror(errno));
        database = file_owner(fd, name, "", &database_uid, ret_sentence);
        if (database < 0)
                return -database;
        key = file_owner(fd, name, ".key", &key_uid, ret_sentence);
        if (key < 0)
                return -key;
        if (!key && database && no_key)
                key_uid = database_uid;
        else if (!key)
                return refuse(ret_sentence, EXIT_CODE_RECORD, "%s", lkm_strerror(database ? LKM_E_KEY_MISSING : LKM_E_NOT_FOUND));
        if (database && database_uid != key_uid)
                return refuse(ret_sentence, EXIT_CODE_DENIED,
                              "it belongs to user %u and its .key to user %u. Root acts as the one owner of both only: give both to one user",
                              (unsigned)database_uid, (unsigned)key_uid);
        /* Root keeps its rights for its own databases; then nobody else may be able to put other files in their place meanwhile. */
        if (key_uid == 0) {
                real = realpath(folder, NULL);
                if (!real || !path_is_roots(real))
                        return refuse(ret_sentence, EXIT_CODE_DENIED,
                                      "it is root's, but others than root can write into one of the folders above it, and might put another file in its "
                                      "place. Close those folders to others");
        }
        return owner_of_uid(ret_owner, key_uid, ret_sentence);
}

void owner_deinit(struct owner *owner)
{
        free(TAKE_PTR(owner->name));
}

int owner_become(const struct owner *owner)
{
        uid_t real, effective, saved;
        int r;

        if (initgroups(owner->name, owner->gid) < 0 || setresgid(owner->gid, owner->gid, owner->gid) < 0 ||
            setresuid(owner->uid, owner->uid, owner->uid) < 0)
                return -errno;
        if (getresuid(&real, &effective, &saved) < 0 || real != owner->uid || effective != owner->uid || saved != owner->uid)
                return -EPERM;
        if (owner->uid != 0 && setresuid(0, 0, 0) == 0)
                return -EPERM; /* there must be no way back */
        /* A process that changes its user is dumpable as the system's settings say. */
        r = harden_process();
        return r;
}
