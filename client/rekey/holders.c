/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/holders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/paths.h"

/** The database, and its -shm where there is one. */
struct files {
        int fd, shm_fd;
        struct stat database, shm;
};

/** What one process has of them. */
struct hold {
        bool open;       /* the database */
        bool shared;     /* only that lock */
        bool strong;     /* another lock on the database */
        bool connection; /* on the -shm, the lock of each connection */
        bool busy;       /* another lock on the -shm */
};

static void files_deinit(struct files *files)
{
        closep(&files->fd);
        closep(&files->shm_fd);
}

static int files_open(struct files *files, const char *path)
{
        _cleanup_(freep) char *shm = NULL;

        if (paths_side(&shm, path, "-shm") < 0)
                return -ENOMEM;
        files->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (files->fd < 0 || fstat(files->fd, &files->database) < 0)
                return -errno;
        files->shm_fd = open(shm, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (files->shm_fd >= 0 && fstat(files->shm_fd, &files->shm) < 0)
                return -errno;
        return 0;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
        return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

static bool hold_locks(const struct hold *hold)
{
        return hold->strong || hold->busy || (hold->shared && !hold->connection);
}

/* ---- the list ---- */

static void command_read(char ret_command[HOLDERS_COMMAND_MAX + 1], pid_t pid)
{
        char path[64];
        ssize_t n = -1;

        snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
        if (pid > 0) {
                _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

                if (fd >= 0)
                        n = read(fd, ret_command, HOLDERS_COMMAND_MAX);
        }
        if (n > 0 && ret_command[n - 1] == '\n')
                n--;
        if (n <= 0)
                ret_command[0] = '?', n = 1;
        for (ssize_t i = 0; i < n; i++)
                if (ret_command[i] <= 0x20 || ret_command[i] >= 0x7f)
                        ret_command[i] = '?';
        ret_command[n] = '\0';
}

static struct holder *holders_get(struct holders *holders, pid_t pid)
{
        for (size_t i = 0; i < holders->n; i++)
                if (holders->holder[i].pid == pid)
                        return &holders->holder[i];
        return NULL;
}

static void holders_add(struct holders *holders, pid_t pid, bool locks)
{
        struct holder *holder;

        if (holders->n == HOLDERS_MAX)
                return;
        holder = &holders->holder[holders->n++];
        *holder = (struct holder){ .pid = pid, .locks = locks };
        command_read(holder->command, pid);
}

/* ---- /proc ---- */

/* One "lock:" line of fdinfo: number, kind, ADVISORY, READ or WRITE, pid, device and inode, first byte, last byte or EOF. */
static void hold_add_lock(struct hold *hold, const char *line, bool shm)
{
        unsigned long long start;

        if (sscanf(line, "lock:\t%*s %*s %*s %*s %*s %*s %llu", &start) != 1)
                return;
        if (shm) {
                hold->connection |= start == HOLDERS_SHM_CONNECTION;
                hold->busy |= start != HOLDERS_SHM_CONNECTION;
        } else {
                hold->shared |= start == HOLDERS_SHARED && strstr(line, " READ ") != NULL;
                hold->strong |= start != HOLDERS_SHARED || strstr(line, " WRITE ") != NULL;
        }
}

static void hold_add_locks(struct hold *hold, pid_t pid, const char *fd, bool shm)
{
        _cleanup_(fclosep) FILE *file = NULL;
        char path[96], line[256];

        snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.20s", (int)pid, fd);
        file = fopen(path, "re");
        while (file && fgets(line, sizeof(line), file))
                if (strncmp(line, "lock:", 5) == 0)
                        hold_add_lock(hold, line, shm);
}

static void closedirp(DIR **directory)
{
        if (*directory)
                closedir(*directory);
}

static void hold_read(struct hold *ret_hold, pid_t pid, const struct files *files)
{
        _cleanup_(closedirp) DIR *directory = NULL;
        struct dirent *entry;
        char path[32];

        *ret_hold = (struct hold){ 0 };
        snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
        directory = opendir(path);
        while (directory && (entry = readdir(directory))) {
                struct stat status;
                bool shm;

                if (entry->d_name[0] == '.' || fstatat(dirfd(directory), entry->d_name, &status, 0) < 0)
                        continue;
                shm = files->shm_fd >= 0 && same_file(&status, &files->shm);
                if (!shm && !same_file(&status, &files->database))
                        continue;
                ret_hold->open |= !shm;
                hold_add_locks(ret_hold, pid, entry->d_name, shm);
        }
}

static int find_in_proc(struct holders *holders, const struct files *files)
{
        _cleanup_(closedirp) DIR *directory = opendir("/proc");
        struct dirent *entry;

        /* Without /proc the locks are still found. */
        while (directory && (entry = readdir(directory))) {
                pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
                struct hold hold;

                if (pid <= 0 || pid == getpid())
                        continue;
                hold_read(&hold, pid, files);
                if (hold.open)
                        holders_add(holders, pid, hold_locks(&hold));
        }
        return 0;
}

/* ---- F_GETLK ---- */

/* Who excludes a writer from these bytes. Return: 1 and @ret_pid, 0 and nobody, -errno. */
static int lock_ask(int fd, uint64_t start, uint64_t n, pid_t *ret_pid)
{
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)start, .l_len = (off_t)n };

        if (fcntl(fd, F_GETLK, &lock) < 0)
                return -errno;
        if (lock.l_type == F_UNLCK)
                return 0;
        *ret_pid = lock.l_pid > 0 ? lock.l_pid : 0; /* -1: a lock that belongs to a descriptor, and not to a process */
        return 1;
}

/* Whether what is locked by a process that cannot be looked into is no more than an idle WAL connection has. */
static bool is_idle_wal(const struct files *files)
{
        pid_t pid;

        return files->shm_fd >= 0 && lock_ask(files->fd, HOLDERS_PENDING, 2, &pid) == 0 &&
               lock_ask(files->shm_fd, HOLDERS_SHM_FIRST, HOLDERS_SHM_CONNECTION - HOLDERS_SHM_FIRST, &pid) == 0 &&
               lock_ask(files->shm_fd, HOLDERS_SHM_CONNECTION, 1, &pid) == 1;
}

static int find_by_locks(struct holders *holders, const struct files *files)
{
        static const struct {
                uint64_t start, n;
        } ranges[] = { { HOLDERS_PENDING, 1 }, { HOLDERS_RESERVED, 1 }, { HOLDERS_SHARED, HOLDERS_N_SHARED } };

        for (size_t i = 0; i < ELEMENTSOF(ranges); i++) {
                struct holder *holder;
                pid_t pid = 0;
                int r = lock_ask(files->fd, ranges[i].start, ranges[i].n, &pid);

                if (r < 0)
                        return r;
                if (r == 0)
                        continue;
                holder = holders_get(holders, pid);
                if (!holder)
                        holders_add(holders, pid, ranges[i].start != HOLDERS_SHARED || !is_idle_wal(files));
                else
                        holder->locks |= ranges[i].start != HOLDERS_SHARED;
        }
        return 0;
}

/* ---- all of it ---- */

int holders_find(struct holders *ret_holders, const char *path)
{
        _cleanup_(files_deinit) struct files files = { .fd = -1, .shm_fd = -1 };
        int r = files_open(&files, path);

        ret_holders->n = 0;
        if (r == 0)
                r = find_in_proc(ret_holders, &files);
        return r == 0 ? find_by_locks(ret_holders, &files) : r;
}

bool holders_lock(const struct holders *holders)
{
        for (size_t i = 0; i < holders->n; i++)
                if (holders->holder[i].locks)
                        return true;
        return false;
}

void holders_tell(const struct holders *holders)
{
        static struct holders told;

        for (size_t i = 0; i < holders->n; i++) {
                const struct holder *holder = &holders->holder[i];
                struct holder *before = holders_get(&told, holder->pid);

                if (before && before->locks == holder->locks)
                        continue;
                answer_line("holder %d %s %s", (int)holder->pid, holder->locks ? "lock" : "open", holder->command);
                if (before)
                        before->locks = holder->locks;
                else if (told.n < HOLDERS_MAX)
                        told.holder[told.n++] = *holder;
        }
}

int holders_refuse(const struct work *work, const struct holders *holders)
{
        struct holders found = { 0 };

        if (!holders) {
                holders_find(&found, work->path);
                holders = &found;
        }
        holders_tell(holders);
        if (holders->n == 0)
                return answer_refuse(LKM_E_BUSY, "Another process uses %s. Let it close the database, then ask again.", work->database);
        return answer_refuse(LKM_E_BUSY, "%s is in use by %s (process %d)%s. Let %s close the database, then ask again.", work->database,
                             holders->holder[0].command, (int)holders->holder[0].pid, holders->n > 1 ? " and others" : "",
                             holders->n > 1 ? "all of them" : "it");
}
