/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/audit-file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "common/cleanup.h"

enum {
        BLOCK_SIZE = 65536,        /* read at once when looking for a newline */
        RESERVE_AHEAD = 256 * 1024 /* blocks taken at once, beside the reserve */
};

int audit_file_init(struct audit_file *f, const char *path)
{
        *f = (struct audit_file){ .fd = -1, .lock_fd = -1, .path = strdup(path) };
        return f->path ? 0 : -ENOMEM;
}

void audit_file_deinit(struct audit_file *f)
{
        if (f->fd >= 0)
                close(f->fd);
        if (f->lock_fd >= 0)
                close(f->lock_fd);
        free(f->path);
        *f = (struct audit_file){ .fd = -1, .lock_fd = -1 };
}

int audit_file_lock(struct audit_file *f)
{
        _cleanup_(freep) char *path = NULL;

        if (asprintf(&path, "%s.lock", f->path) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        f->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
        if (f->lock_fd < 0)
                return -errno;
        if (flock(f->lock_fd, LOCK_EX | LOCK_NB) < 0)
                return errno == EWOULDBLOCK ? -EBUSY : -errno;
        return 0;
}

int audit_file_open(struct audit_file *f, bool exclusive, int *ret_previous_fd)
{
        _cleanup_(closep) int fd = open(f->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        if (exclusive && st.st_size > 0)
                return -EEXIST;
        *ret_previous_fd = f->fd;
        f->fd = TAKE_FD(fd);
        f->size = (uint64_t)st.st_size;
        f->allocated = 0;
        f->reserves = true;
        return 0;
}

bool audit_file_is_in_place(const struct audit_file *f)
{
        struct stat there, ours;

        return fstatat(AT_FDCWD, f->path, &there, AT_SYMLINK_NOFOLLOW) == 0 && fstat(f->fd, &ours) == 0 && there.st_dev == ours.st_dev &&
               there.st_ino == ours.st_ino;
}

const char *audit_file_name(const struct audit_file *f)
{
        const char *slash = strrchr(f->path, '/');

        return slash ? slash + 1 : f->path;
}

/* ---- the end of the chain ---- */

static int read_at(int fd, void *ret_data, size_t n, uint64_t offset)
{
        size_t got = 0;
        ssize_t r;

        while (got < n) {
                r = pread(fd, (char *)ret_data + got, n - got, (off_t)(offset + got));
                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return r < 0 ? -errno : -EIO;
                got += (size_t)r;
        }
        return 0;
}

/* Where the line begins that ends at @end: behind the last newline before it. */
static int find_line_start(uint64_t *ret_start, int fd, uint64_t end, char *block)
{
        size_t n;
        int r;

        for (; end > 0; end -= n) {
                n = end < BLOCK_SIZE ? (size_t)end : BLOCK_SIZE;
                r = read_at(fd, block, n, end - n);
                if (r < 0)
                        return r;
                for (size_t i = n; i > 0; i--) {
                        if (block[i - 1] == '\n') {
                                *ret_start = end - n + i;
                                return 0;
                        }
                }
        }
        *ret_start = 0;
        return 0;
}

static int hash_range(char ret_hash[AUDIT_HASH_LENGTH + 1], int fd, uint64_t from, uint64_t to, char *block)
{
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        uint8_t hash[EVP_MAX_MD_SIZE];
        int r = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 ? 0 : -ENOMEM;

        for (size_t n; r == 0 && from < to; from += n) {
                n = to - from < BLOCK_SIZE ? (size_t)(to - from) : BLOCK_SIZE;
                r = read_at(fd, block, n, from);
                if (r == 0 && EVP_DigestUpdate(context, block, n) != 1)
                        r = -EIO;
        }
        if (r == 0 && EVP_DigestFinal_ex(context, hash, NULL) != 1)
                r = -EIO;
        if (r == 0)
                hex_format(ret_hash, hash, AUDIT_HASH_LENGTH / 2);
        EVP_MD_CTX_free(context);
        return r;
}

/* The line from @from up to its newline before @to. Return: 0, -EBADMSG, -errno; 1 when there are NULs in it. */
static int take_line(struct audit_end *end, int fd, uint64_t from, uint64_t to, char *block, struct audit_hasher *hasher)
{
        char scratch[AUDIT_LINE_MAX];
        struct audit_line line;
        size_t n = (size_t)(to - from) - 1;
        int r;

        if (to - from > AUDIT_LINE_MAX)
                return -EBADMSG;
        r = read_at(fd, block, n, from);
        if (r < 0)
                return r;
        if (memchr(block, '\0', n))
                return 1;
        r = audit_line_parse(&line, scratch, (struct bytes){ (const uint8_t *)block, n });
        if (r == 0)
                r = audit_line_check(hasher, &line);
        if (r < 0)
                return r;
        end->last = line.seq;
        memcpy(end->hash, line.hash.data, AUDIT_HASH_LENGTH);
        return 0;
}

static int take_first(struct audit_end *end, int fd, char *block, struct audit_hasher *hasher)
{
        size_t n = end->size < AUDIT_LINE_MAX ? (size_t)end->size : AUDIT_LINE_MAX;
        struct audit_end first = { 0 };
        const char *newline;
        int r = read_at(fd, block, n, 0);

        if (r < 0)
                return r;
        newline = memchr(block, '\n', n);
        r = newline ? take_line(&first, fd, 0, (uint64_t)(newline - block) + 1, block, hasher) : -EBADMSG;
        end->first = first.last;
        return r > 0 ? -EBADMSG : r;
}

/* Behind the whole lines: the beginning of a line, or a hole. Anything else is not ours to cut. */
static int take_torn(struct audit_end *end, int fd, uint64_t size, char *block)
{
        static const char beginning[] = "{\"seq\":";
        size_t n = size - end->size < sizeof(beginning) - 1 ? (size_t)(size - end->size) : sizeof(beginning) - 1;
        int r = read_at(fd, block, n, end->size);

        if (r == 0 && *block != '\0' && strncmp(block, beginning, n) != 0)
                return -EBADMSG;
        end->n_torn = size - end->size;
        return r < 0 ? r : hash_range(end->torn_hash, fd, end->size, size, block);
}

int audit_file_find_end(struct audit_end *ret_end, int fd, struct audit_hasher *hasher)
{
        _cleanup_(freep) char *block = calloc(1, BLOCK_SIZE);
        struct audit_end end = { 0 };
        uint64_t start;
        struct stat st;
        int r;

        if (!block)
                return -ENOMEM;
        if (fstat(fd, &st) < 0)
                return -errno;
        r = find_line_start(&end.size, fd, (uint64_t)st.st_size, block);
        while (r == 0 && end.size > 0) {
                r = find_line_start(&start, fd, end.size - 1, block);
                if (r == 0)
                        r = take_line(&end, fd, start, end.size, block, hasher);
                if (r <= 0)
                        break;
                end.size = start;
                r = 0;
        }
        if (r == 0 && end.size > 0)
                r = take_first(&end, fd, block, hasher);
        if (r == 0 && end.size < (uint64_t)st.st_size)
                r = take_torn(&end, fd, (uint64_t)st.st_size, block);
        if (r == 0)
                *ret_end = end;
        return r;
}

/* @name is in the folder @folder_fd. Takes it when it has a later end than @end. */
static int look_at(struct audit_end *end, char **name, int folder_fd, const char *candidate, struct audit_hasher *hasher)
{
        _cleanup_(closep) int fd = openat(folder_fd, candidate, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
        struct audit_end other = { 0 };
        struct stat st;
        char *copy;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || audit_file_find_end(&other, fd, hasher) < 0 || other.last <= end->last)
                return 0;
        copy = strdup(candidate);
        if (!copy)
                return -ENOMEM;
        free(*name);
        *name = copy;
        *end = other;
        return 0;
}

int audit_file_find_previous(const struct audit_file *f, struct audit_end *ret_end, char **ret_name, struct audit_hasher *hasher)
{
        const char *own = audit_file_name(f);
        _cleanup_(freep) char *folder = strndup(f->path, (size_t)(own - f->path)), *name = NULL;
        struct audit_end end = { 0 };
        const struct dirent *entry;
        DIR *entries;
        int r = 0;

        if (!folder)
                return -ENOMEM;
        entries = opendir(*folder ? folder : ".");
        if (!entries)
                return -errno;
        while (r == 0 && (entry = readdir(entries))) {
                if (strncmp(entry->d_name, own, strlen(own)) == 0 && entry->d_name[strlen(own)] == '.')
                        r = look_at(&end, &name, dirfd(entries), entry->d_name, hasher);
        }
        closedir(entries);
        if (r < 0 || !name)
                return r < 0 ? r : -ENOENT;
        *ret_end = end;
        *ret_name = TAKE_PTR(name);
        return 0;
}

int audit_file_cut(struct audit_file *f, uint64_t size)
{
        /* ftruncate(2) to the same size gives back the blocks behind it. */
        if (ftruncate(f->fd, (off_t)size) < 0)
                return -errno;
        f->size = size;
        f->allocated = size;
        return 0;
}

void audit_file_finish(struct audit_file *f)
{
        struct stat st;

        if (fstat(f->fd, &st) == 0 && (uint64_t)st.st_size == f->size)
                audit_file_cut(f, f->size);
}

/* ---- lines ---- */

static int allocate(struct audit_file *f, uint64_t n)
{
        int r;

        do {
                r = fallocate(f->fd, FALLOC_FL_KEEP_SIZE, (off_t)f->size, (off_t)n);
        } while (r < 0 && errno == EINTR);
        if (r < 0)
                return -errno;
        f->allocated = f->size + n;
        return 0;
}

/* Have blocks for a line of @n bytes and for what has to stay behind it. */
static int make_room(struct audit_file *f, size_t n, enum audit_weight weight)
{
        static const uint64_t kept[] = { [AUDIT_WEIGHT_ORDINARY] = AUDIT_RESERVE,
                                         [AUDIT_WEIGHT_NOTABLE] = AUDIT_RESERVE_LAST,
                                         [AUDIT_WEIGHT_LAST] = 0 };
        int r;

        if (!f->reserves || f->size + n + kept[weight] <= f->allocated)
                return 0;
        r = allocate(f, n + AUDIT_RESERVE + RESERVE_AHEAD);
        if (r == -ENOSPC || r == -EDQUOT)
                r = allocate(f, n + AUDIT_RESERVE);
        if (r == -EOPNOTSUPP || r == -ENOSYS) {
                f->reserves = false;
                r = 0;
        }
        return r;
}

static int write_whole(int fd, const char *text, size_t n)
{
        ssize_t written;

        do {
                written = write(fd, text, n);
        } while (written < 0 && errno == EINTR);
        if (written < 0)
                return -errno;
        return (size_t)written == n ? 0 : -ENOSPC;
}

int audit_file_append(struct audit_file *f, const char *text, size_t n, enum audit_weight weight)
{
        struct stat st;
        int r;

        if (fstat(f->fd, &st) < 0)
                return -errno;
        if ((uint64_t)st.st_size != f->size)
                return -ESTALE;
        r = make_room(f, n, weight);
        if (r == 0 || weight == AUDIT_WEIGHT_LAST)
                r = write_whole(f->fd, text, n);
        if (r == 0) {
                f->size += n;
                return 0;
        }
        /* What was written of it is no line: cut it off, so that the chain stays whole. */
        if (fstat(f->fd, &st) < 0 || ((uint64_t)st.st_size != f->size && audit_file_cut(f, f->size) < 0))
                return -ENOTRECOVERABLE;
        return r;
}

uint64_t audit_file_reserve(const struct audit_file *f)
{
        return f->reserves && f->allocated > f->size ? f->allocated - f->size : 0;
}
