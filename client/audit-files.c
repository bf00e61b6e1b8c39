/* SPDX-License-Identifier: Apache-2.0 */
#include "client/audit-files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "proto/audit-line.h"

enum { BUFFER_SIZE = 16 * AUDIT_LINE_MAX, TRIES_MAX = 8, DIGITS_MIN = 16 };

/* ---- which there are ---- */

int audit_files_add(struct audit_files *f, const char *path, int fd, uint64_t first)
{
        struct audit_file *files = realloc(f->files, (f->n + 1) * sizeof(*files));
        char *copy = strdup(path);

        if (files)
                f->files = files;
        if (!files || !copy) {
                free(copy);
                close(fd);
                return -ENOMEM;
        }
        files[f->n++] = (struct audit_file){ .path = copy, .fd = fd, .first = first, .order = first };
        return 0;
}

void audit_files_deinit(struct audit_files *f)
{
        for (size_t i = 0; i < f->n; i++) {
                close(f->files[i].fd);
                free(f->files[i].path);
        }
        free(f->files);
        *f = (struct audit_files){ .n = 0 };
}

/* Open a regular file of any owner; without waiting for a writer where it is a FIFO. Return: the descriptor or -errno. */
static int open_file(const char *path, struct stat *ret_stat)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

        if (fd < 0 || fstat(fd, ret_stat) < 0) {
                int r = -errno;

                if (fd >= 0)
                        close(fd);
                return r;
        }
        if (S_ISREG(ret_stat->st_mode))
                return fd;
        close(fd);
        return S_ISDIR(ret_stat->st_mode) ? -EISDIR : -EINVAL;
}

/* The number at *@text, of DIGITS_MIN digits or more; *@text behind it. Return: 0 when there is none. */
static uint64_t number_of_name(const char **text)
{
        const char *begin = *text;
        uint64_t number = 0;

        for (; **text >= '0' && **text <= '9'; (*text)++) {
                if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, (uint64_t)(**text - '0'), &number))
                        return 0;
        }
        return *text - begin >= DIGITS_MIN ? number : 0;
}

/* The first number of ".FIRST-LAST", which follows the path in a rotated file's name; 0 when it is none. */
static uint64_t first_of_name(const char *suffix)
{
        uint64_t first, last;

        if (*suffix++ != '.' || (first = number_of_name(&suffix)) == 0 || *suffix++ != '-')
                return 0;
        last = number_of_name(&suffix);
        return last >= first && *suffix == '\0' ? first : 0;
}

/* ".7", as logrotate(8) names what it has moved away; what else there may be beside a log is somebody's copy. */
static bool is_moved_away(const char *suffix)
{
        return *suffix == '.' && suffix[1] != '\0' && suffix[1 + strspn(suffix + 1, "0123456789")] == '\0';
}

/* The sequence number of the first line, whether it proves itself or not; 0 when it is no record. */
static uint64_t first_of_content(int fd)
{
        static char text[AUDIT_LINE_MAX], scratch[AUDIT_LINE_MAX];
        ssize_t n = pread(fd, text, sizeof(text), 0);
        const char *end = n > 0 ? memchr(text, '\n', (size_t)n) : NULL;
        struct audit_line line;

        if (!end || audit_line_parse(&line, scratch, (struct bytes){ (const uint8_t *)text, (size_t)(end - text) }) < 0)
                return 0;
        return line.seq;
}

static int compare_files(const void *a, const void *b)
{
        uint64_t x = ((const struct audit_file *)a)->order, y = ((const struct audit_file *)b)->order;

        return x < y ? -1 : x > y;
}

static int add_rotated(struct audit_files *f, const char *folder, DIR *directory, const char *base, char **ret_failed)
{
        size_t n_base = strlen(base);
        struct dirent *entry;

        while ((errno = 0, entry = readdir(directory))) {
                _cleanup_(freep) char *path = NULL;
                uint64_t first, order;
                struct stat st;
                int fd;

                if (strncmp(entry->d_name, base, n_base) != 0)
                        continue;
                first = first_of_name(entry->d_name + n_base);
                if (first == 0 && !is_moved_away(entry->d_name + n_base))
                        continue;
                if (asprintf(&path, "%s%s", folder, entry->d_name) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                fd = open_file(path, &st);
                if (fd < 0) {
                        *ret_failed = TAKE_PTR(path);
                        return fd;
                }
                order = first > 0 ? first : first_of_content(fd);
                if (order == 0) {
                        close(fd);
                        continue;
                }
                if (audit_files_add(f, path, fd, first) < 0)
                        return -ENOMEM;
                f->files[f->n - 1].order = order;
        }
        return -errno;
}

static int find_rotated(struct audit_files *f, const char *path, char **ret_failed)
{
        const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
        _cleanup_(freep) char *folder = strndup(path, (size_t)(base - path));
        DIR *directory;
        int r;

        if (!folder)
                return -ENOMEM;
        directory = opendir(*folder ? folder : ".");
        if (!directory) {
                r = -errno;
                *ret_failed = strdup(*folder ? folder : ".");
                return r;
        }
        r = add_rotated(f, folder, directory, base, ret_failed);
        closedir(directory);
        if (r == 0 && f->n > 0)
                qsort(f->files, f->n, sizeof(*f->files), compare_files);
        return r;
}

/* The file that is written is opened first and looked at last: when it is still the same, nothing was rotated in between. */
static int open_all(struct audit_files *f, const char *path, char **ret_failed)
{
        struct stat before = { .st_ino = 0 }, after;
        int current = open_file(path, &before), r;

        if (current < 0 && current != -ENOENT) {
                *ret_failed = strdup(path);
                return current;
        }
        r = find_rotated(f, path, ret_failed);
        if (r < 0) {
                if (current >= 0)
                        close(current);
                return r;
        }
        if (current >= 0) {
                r = audit_files_add(f, path, current, 0);
                if (r < 0)
                        return r;
                return stat(path, &after) == 0 && after.st_dev == before.st_dev && after.st_ino == before.st_ino ? 0 : -EAGAIN;
        }
        if (f->n > 0)
                return stat(path, &after) < 0 ? 0 : -EAGAIN;
        *ret_failed = strdup(path);
        return -ENOENT;
}

int audit_files_open(struct audit_files *ret_files, const char *path, char **ret_failed)
{
        int r = -EAGAIN;

        *ret_failed = NULL;
        for (int i = 0; i < TRIES_MAX && r == -EAGAIN; i++) {
                struct audit_files files = { .n = 0 };

                r = open_all(&files, path, ret_failed);
                if (r == 0)
                        *ret_files = files;
                else
                        audit_files_deinit(&files);
        }
        if (r == -EAGAIN)
                *ret_failed = strdup(path);
        return r;
}

/* ---- their lines ---- */

int audit_reader_init(struct audit_reader *r, const struct audit_files *files)
{
        *r = (struct audit_reader){ .files = files, .next = { .line = 1 }, .buffer = malloc(BUFFER_SIZE) };
        return r->buffer ? 0 : -ENOMEM;
}

void audit_reader_deinit(struct audit_reader *r)
{
        free(r->buffer);
        r->buffer = NULL;
}

void audit_reader_seek(struct audit_reader *r, const struct audit_position *at)
{
        if (at->i_file != r->next.i_file || at->offset < r->start || at->offset > r->start + r->n)
                r->is_filled = false;
        r->next = *at;
}

/* Have the buffer begin with the next line, and hold as much of the file as there is room for. */
static int reader_fill(struct audit_reader *r)
{
        size_t kept = r->is_filled ? (size_t)(r->start + r->n - r->next.offset) : 0;

        memmove(r->buffer, r->buffer + (r->n - kept), kept);
        r->start = r->next.offset;
        r->n = kept;
        r->is_filled = true;
        while (r->n < BUFFER_SIZE) {
                ssize_t got = pread(r->files->files[r->next.i_file].fd, r->buffer + r->n, BUFFER_SIZE - r->n, (off_t)(r->start + r->n));

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return -errno;
                if (got == 0)
                        return 0;
                r->n += (size_t)got;
        }
        return 0;
}

/* The bytes from the next line on that are in the buffer. */
static struct bytes reader_rest(const struct audit_reader *r)
{
        size_t at = r->is_filled ? (size_t)(r->next.offset - r->start) : 0;

        return r->is_filled ? (struct bytes){ (const uint8_t *)r->buffer + at, r->n - at } : (struct bytes){ 0 };
}

/* The end of a line that is longer than the buffer: what comes next begins behind it. Return: whether it has one; -errno. */
static int reader_skip_line(struct audit_reader *r)
{
        for (;;) {
                struct bytes rest = reader_rest(r);
                const uint8_t *end = rest.n > 0 ? memchr(rest.data, '\n', rest.n) : NULL;
                int error;

                r->next.offset += end ? (size_t)(end - rest.data) + 1 : rest.n;
                if (end)
                        return true;
                error = reader_fill(r);
                if (error < 0)
                        return error;
                if (r->n == 0)
                        return false;
        }
}

int audit_reader_next(struct audit_reader *r, struct audit_text *ret_text)
{
        struct bytes rest = reader_rest(r);
        const uint8_t *end = rest.n > 0 ? memchr(rest.data, '\n', rest.n) : NULL;
        static const uint8_t nothing;
        int error;

        while (!end) {
                if (r->next.i_file >= r->files->n)
                        return AUDIT_READER_E_END;
                error = reader_fill(r);
                if (error < 0)
                        return error;
                rest = reader_rest(r);
                end = rest.n > 0 ? memchr(rest.data, '\n', rest.n) : NULL;
                if (end || rest.n > 0)
                        break;
                r->next = (struct audit_position){ .i_file = r->next.i_file + 1, .line = 1 };
                r->is_filled = false;
        }
        *ret_text = (struct audit_text){ .bytes = { rest.data ? rest.data : &nothing, end ? (size_t)(end - rest.data) : rest.n },
                                         .at = r->next,
                                         .has_end = end != NULL };
        r->next.line++;
        r->next.offset += ret_text->bytes.n + (end ? 1 : 0);
        if (ret_text->bytes.n <= AUDIT_LINE_MAX)
                return 0;
        ret_text->bytes.n = AUDIT_LINE_MAX;
        if (!end && rest.n == BUFFER_SIZE) {
                /* Nobody needs what such a line says, and the buffer is needed for its end. */
                error = reader_skip_line(r);
                if (error < 0)
                        return error;
                ret_text->has_end = error;
        }
        return 0;
}
