/* SPDX-License-Identifier: Apache-2.0 */
#include "disk.h"

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "chance.h"
#include "common/bytes.h"
#include "common/cleanup.h"
#include "directory.h"

enum { SECTOR = 512, FILES_MAX = 1024 };

/** A file, with or without names. */
struct file {
        uint64_t inode;
        struct content begun;   /* in the beginning */
        struct content durable; /* for certain on the disk, at the moment of disk_seek() */
        struct content drawn;   /* in the state that was drawn */
        size_t *pending;        /* heap: calls since, in order */
        size_t n_pending;
};

struct disk {
        char *directory;
        uint8_t *log; /* heap */
        struct step *steps;
        size_t n_steps, at;
        size_t n_files;
        struct file files[FILES_MAX];
        struct names begun, durable, drawn;
        size_t *pending_names; /* heap */
        size_t n_pending_names;
};

/* ---- the directory as it is ---- */

static size_t file_add(struct disk *d, uint64_t inode)
{
        if (d->n_files == FILES_MAX)
                errx(99, "too many files");
        d->files[d->n_files].inode = inode;
        return d->n_files++;
}

/* The latest file of that number: numbers are used again. */
static size_t file_find(const struct disk *d, uint64_t inode)
{
        for (size_t i = d->n_files; i > 0; i--)
                if (d->files[i - 1].inode == inode)
                        return i - 1;
        return SIZE_MAX;
}

typedef void each_function(struct disk *d, const char *name, const char *path, uint64_t inode);

static void each_file(struct disk *d, each_function *each)
{
        DIR *folder = opendir(d->directory);
        struct dirent *entry;

        if (!folder)
                err(99, "%s", d->directory);
        while ((entry = readdir(folder))) {
                char path[PATH_MAX];

                if (entry->d_name[0] == '.' && (!entry->d_name[1] || entry->d_name[1] == '.'))
                        continue;
                snprintf(path, sizeof(path), "%s/%s", d->directory, entry->d_name);
                each(d, entry->d_name, path, entry->d_ino);
        }
        closedir(folder);
}

static void begin_with(struct disk *d, const char *name, const char *path, uint64_t inode)
{
        size_t file = file_find(d, inode);

        if (file == SIZE_MAX) {
                file = file_add(d, inode);
                content_read(&d->files[file].begun, path);
        }
        names_set(&d->begun, name, strlen(name), file);
}

struct disk *disk_new(const char *directory)
{
        struct disk *d = calloc(1, sizeof(*d));

        if (!d || !(d->directory = realpath(directory, NULL)))
                err(99, "%s", directory);
        each_file(d, begin_with);
        disk_seek(d, 0);
        return d;
}

struct disk *disk_free(struct disk *d)
{
        for (size_t i = 0; i < d->n_files; i++) {
                free(d->files[i].begun.data);
                free(d->files[i].durable.data);
                free(d->files[i].drawn.data);
                free(d->files[i].pending);
        }
        free(d->pending_names);
        free(d->steps);
        free(d->log);
        free(d->directory);
        free(d);
        return NULL;
}

/* ---- recording ---- */

/* What each inode number meant is found by going through the names with the calls. */
static void step_resolve(struct disk *d, struct names *now, struct step *s)
{
        const struct name *from;

        s->file = SIZE_MAX;
        if (s->call.kind == CALL_CREATE) {
                s->file = file_add(d, s->call.inode);
                d->files[s->file].begun.mode = (mode_t)s->call.value;
        } else if (s->call.kind == CALL_RENAME) {
                from = names_find(now, s->name, s->call.n_name);
                s->file = from ? from->file : SIZE_MAX;
        } else if (s->call.kind != CALL_UNLINK && s->call.kind != CALL_SYNC_NAMES && s->call.kind != CALL_UNKNOWN) {
                s->file = file_find(d, s->call.inode);
        } else {
                s->file = 0;
        }
        if (s->call.kind == CALL_UNKNOWN || s->file == SIZE_MAX)
                errx(99, "a call that the model does not know, on a file that it may not know: kind %u, %.*s", s->call.kind,
                     (int)s->call.n_name, s->name);
        if (s->call.kind != CALL_CREATE || s->call.n_name)
                names_apply(now, s);
}

static void log_parse(struct disk *d, size_t n)
{
        struct names now = d->begun;
        size_t room = 0;

        for (size_t at = 0; at < n;) {
                struct step *s;

                if (d->n_steps == room) {
                        room = room * 2 + 1024;
                        d->steps = realloc(d->steps, room * sizeof(*d->steps));
                        if (!d->steps)
                                err(99, "realloc");
                }
                s = &d->steps[d->n_steps++];
                memcpy(&s->call, d->log + at, sizeof(s->call));
                s->name = (const char *)d->log + at + sizeof(s->call);
                s->other = s->name + s->call.n_name;
                s->data = (const uint8_t *)s->other + s->call.n_other;
                at += sizeof(s->call) + s->call.n_name + s->call.n_other + s->call.n;
                step_resolve(d, &now, s);
        }
}

int disk_record(struct disk *d, const char *library, char *const command[])
{
        _cleanup_(freep) char *log = NULL;
        struct content text = { 0 };
        int status;
        pid_t pid;

        if (asprintf(&log, "%s.calls", d->directory) < 0)
                err(99, "asprintf");
        pid = fork();
        if (pid < 0)
                err(99, "fork");
        if (pid == 0) {
                dup2(STDERR_FILENO, STDOUT_FILENO); /* our standard output is the result */
                setenv("LD_PRELOAD", library, 1);
                setenv("RECORD_DIRECTORY", d->directory, 1);
                setenv("RECORD_LOG", log, 1);
                execv(command[0], command);
                err(99, "%s", command[0]);
        }
        if (waitpid(pid, &status, 0) != pid)
                err(99, "waitpid");
        content_read(&text, log);
        unlink(log);
        d->log = text.data;
        log_parse(d, text.n);
        disk_seek(d, 0);
        return status;
}

size_t disk_n_calls(const struct disk *d)
{
        return d->n_steps;
}

bool disk_is_sync(const struct disk *d, size_t i)
{
        uint32_t kind = d->steps[i].call.kind;

        return kind == CALL_SYNC || kind == CALL_DATASYNC || kind == CALL_SYNC_NAMES;
}

static void file_name(const struct disk *d, size_t file, char text[NAME_MAX + 1])
{
        snprintf(text, NAME_MAX + 1, "a nameless file");
        for (size_t i = 0; i < d->begun.n; i++)
                if (d->begun.names[i].file == file)
                        snprintf(text, NAME_MAX + 1, "%s", d->begun.names[i].text);
        for (size_t i = 0; i < d->n_steps; i++)
                if (d->steps[i].file == file && d->steps[i].call.kind == CALL_CREATE && d->steps[i].call.n_name)
                        snprintf(text, NAME_MAX + 1, "%.*s", (int)d->steps[i].call.n_name, d->steps[i].name);
}

void disk_describe(const struct disk *d, size_t i, char *text, size_t room)
{
        static const char *const kinds[] = { "?", "create", "write", "size", "mode", "fsync", "fdatasync", "sync names", "rename", "link", "unlink" };
        const struct step *s = &d->steps[i];
        char name[NAME_MAX + 1] = "";

        if (s->call.kind != CALL_SYNC_NAMES && s->call.kind != CALL_UNLINK && s->call.kind != CALL_RENAME)
                file_name(d, s->file, name);
        else
                snprintf(name, sizeof(name), "%.*s", (int)s->call.n_name, s->name);
        snprintf(text, room, "%zu: %s %s%s%.*s", i, kinds[s->call.kind], name, s->call.n_other ? " to " : "", (int)s->call.n_other, s->other);
        if (s->call.kind == CALL_WRITE)
                snprintf(text + strlen(text), room - strlen(text), " at %llu, %llu bytes", (unsigned long long)s->call.offset,
                         (unsigned long long)s->call.n);
}

/* ---- a moment ---- */

static void pending_add(size_t **pending, size_t *n, size_t i)
{
        if ((*n & (*n + 1)) == 0) { /* at 0, 1, 3, 7, … double the room */
                *pending = realloc(*pending, (*n + 1) * 2 * sizeof(**pending));
                if (!*pending)
                        err(99, "realloc");
        }
        (*pending)[(*n)++] = i;
}

/* @full: fsync; else fdatasync, which leaves the mode. */
static void file_sync(struct disk *d, struct file *f, bool full)
{
        size_t n = 0;

        for (size_t i = 0; i < f->n_pending; i++)
                if (full || d->steps[f->pending[i]].call.kind != CALL_MODE)
                        content_apply(&f->durable, &d->steps[f->pending[i]]);
                else
                        f->pending[n++] = f->pending[i];
        f->n_pending = n;
        if (n) { /* keep the rule of pending_add() */
                size_t *left = f->pending;

                f->pending = NULL;
                f->n_pending = 0;
                for (size_t i = 0; i < n; i++)
                        pending_add(&f->pending, &f->n_pending, left[i]);
                free(left);
        }
}

static void step_do(struct disk *d, size_t i)
{
        const struct step *s = &d->steps[i];
        struct file *f = &d->files[s->file];

        switch (s->call.kind) {
        case CALL_WRITE:
        case CALL_SIZE:
        case CALL_MODE:
                pending_add(&f->pending, &f->n_pending, i);
                break;
        case CALL_SYNC:
        case CALL_DATASYNC:
                file_sync(d, f, s->call.kind == CALL_SYNC);
                break;
        case CALL_SYNC_NAMES:
                for (size_t j = 0; j < d->n_pending_names; j++)
                        names_apply(&d->durable, &d->steps[d->pending_names[j]]);
                d->n_pending_names = 0;
                break;
        default:
                if (s->call.n_name)
                        pending_add(&d->pending_names, &d->n_pending_names, i);
        }
}

void disk_seek(struct disk *d, size_t n)
{
        if (n == 0) {
                for (size_t i = 0; i < d->n_files; i++) {
                        content_copy(&d->files[i].durable, &d->files[i].begun);
                        d->files[i].n_pending = 0;
                }
                d->durable = d->begun;
                d->n_pending_names = d->at = 0;
        }
        while (d->at < n)
                step_do(d, d->at++);
}

size_t disk_n_pending(const struct disk *d)
{
        size_t n = d->n_pending_names;

        for (size_t i = 0; i < d->n_files; i++)
                n += d->files[i].n_pending;
        return n;
}

/* ---- a state ---- */

static void garbage(struct content *c, size_t from, struct chance *chance)
{
        for (size_t i = from; i < c->n; i += 8) {
                uint64_t bits = chance_next(chance);

                memcpy(c->data + i, &bits, c->n - i < 8 ? c->n - i : 8);
        }
}

/* Each sector of each write by chance, @odds of 256. */
static void draw_sectors(const struct disk *d, struct file *f, unsigned odds, struct chance *chance)
{
        struct content *c = &f->drawn;
        size_t whole = c->n;

        for (size_t i = 0; i < f->n_pending; i++) {
                const struct step *s = &d->steps[f->pending[i]];

                if (s->call.kind != CALL_WRITE) {
                        if (chance_below(chance, 256) < odds)
                                content_apply(c, s);
                        continue;
                }
                if (s->call.offset + s->call.n > whole)
                        whole = s->call.offset + s->call.n;
                for (size_t from = 0, n; from < s->call.n; from += n) {
                        n = SECTOR - (s->call.offset + from) % SECTOR;
                        if (n > s->call.n - from)
                                n = s->call.n - from;
                        if (chance_below(chance, 256) < odds)
                                content_write(c, s->call.offset + from, s->data + from, n);
                }
        }
        /* The size came through, the content not. */
        if (whole > c->n && chance_below(chance, 2)) {
                size_t from = c->n;

                content_resize(c, whole);
                if (chance_below(chance, 2))
                        garbage(c, from, chance);
        }
}

static void draw_file(const struct disk *d, struct file *f, enum disk_kept kept, size_t last, struct chance *chance)
{
        static const unsigned odds[] = { 8, 64, 128, 192, 248 };

        content_copy(&f->drawn, &f->durable);
        if (f->n_pending == 0)
                return;
        if (kept == DISK_MIXED)
                kept = (enum disk_kept)chance_below(chance, DISK_MIXED);
        if (kept == DISK_SECTORS) {
                draw_sectors(d, f, odds[chance_below(chance, ELEMENTSOF(odds))], chance);
                return;
        }
        for (size_t i = 0; i < f->n_pending; i++)
                if (kept == DISK_ALL || (kept == DISK_LAST && f->pending[i] == last))
                        content_apply(&f->drawn, &d->steps[f->pending[i]]);
}

static void draw_names(struct disk *d, enum disk_kept kept, struct chance *chance)
{
        size_t n = d->n_pending_names, prefix = kept == DISK_MIXED ? chance_below(chance, n + 1) : 0;

        d->drawn = d->durable;
        for (size_t i = 0; i < n; i++)
                if (kept == DISK_ALL || (kept == DISK_LAST && i + 1 == n) || (kept == DISK_MIXED && i < prefix) ||
                    (kept == DISK_SECTORS && chance_below(chance, 2)))
                        names_apply(&d->drawn, &d->steps[d->pending_names[i]]);
}

static uint64_t hash(uint64_t state, const void *data, size_t n)
{
        const uint8_t *bytes = data;
        uint64_t word;

        for (; n >= 8; n -= 8, bytes += 8) {
                memcpy(&word, bytes, 8);
                state = chance_mix(state ^ word);
        }
        word = n;
        memcpy(&word, bytes, n);
        return chance_mix(state ^ word ^ (uint64_t)n << 56);
}

/* The same for the same directory, in whatever order its names come. */
static uint64_t state_hash(const struct disk *d)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < d->drawn.n; i++) {
                const struct name *name = &d->drawn.names[i];
                const struct content *c = &d->files[name->file].drawn;

                sum += hash(hash(c->mode, name->text, strlen(name->text)), c->data, c->n);
        }
        return sum;
}

uint64_t disk_draw(struct disk *d, enum disk_kept content, enum disk_kept names, uint64_t seed)
{
        struct chance chance = chance_init(seed);
        size_t last = 0;

        for (size_t i = 0; i < d->n_files; i++)
                if (d->files[i].n_pending && d->files[i].pending[d->files[i].n_pending - 1] > last)
                        last = d->files[i].pending[d->files[i].n_pending - 1];
        draw_names(d, names, &chance);
        for (size_t i = 0; i < d->drawn.n; i++)
                draw_file(d, &d->files[d->drawn.names[i].file], content, last, &chance);
        return state_hash(d);
}

static void put_file(const char *directory, const struct name *name, const struct content *c)
{
        char path[PATH_MAX];
        _cleanup_(closep) int fd = -1;

        snprintf(path, sizeof(path), "%s/%s", directory, name->text);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 || fchmod(fd, c->mode) < 0)
                err(99, "%s", path);
        for (size_t n = 0; n < c->n;) {
                ssize_t written = write(fd, c->data + n, c->n - n);

                if (written < 0)
                        err(99, "%s", path);
                n += (size_t)written;
        }
}

void disk_put(const struct disk *d, const char *directory)
{
        DIR *folder = opendir(directory);
        struct dirent *entry;

        if (!folder)
                err(99, "%s", directory);
        while ((entry = readdir(folder)))
                if (strncmp(entry->d_name, ".", 2) != 0 && strncmp(entry->d_name, "..", 3) != 0)
                        unlinkat(dirfd(folder), entry->d_name, 0);
        closedir(folder);
        for (size_t i = 0; i < d->drawn.n; i++)
                put_file(directory, &d->drawn.names[i], &d->files[d->drawn.names[i].file].drawn);
}

/* ---- is the recording whole? ---- */

static bool differs;

static void compare_with(struct disk *d, const char *name, const char *path, uint64_t inode)
{
        const struct name *drawn = names_find(&d->drawn, name, strlen(name));
        struct content there = { 0 };
        const struct content *c;
        size_t n = strlen(name);

        (void)inode;
        if (n > 4 && strncmp(name + n - 4, "-shm", 4) == 0) { /* a mapping, and scratch memory: see record-calls.c */
                names_remove(&d->drawn, name, n);
                return;
        }
        if (!drawn) {
                printf("%s is there, and by the recording is not\n", path);
                differs = true;
                return;
        }
        c = &d->files[drawn->file].drawn;
        content_read(&there, path);
        if (there.n != c->n || there.mode != c->mode || (c->n && !bytes_equal((struct bytes){ there.data, there.n }, (struct bytes){ c->data, c->n }))) {
                printf("%s differs from the recording: %zu and %zu bytes, mode %o and %o\n", path, there.n, c->n, there.mode, c->mode);
                differs = true;
        }
        free(there.data);
        names_remove(&d->drawn, name, strlen(name));
}

bool disk_compare(struct disk *d)
{
        disk_seek(d, d->n_steps);
        disk_draw(d, DISK_ALL, DISK_ALL, 0);
        differs = false;
        each_file(d, compare_with);
        for (size_t i = 0; i < d->drawn.n; i++) {
                printf("%s is not there, and by the recording is\n", d->drawn.names[i].text);
                differs = true;
        }
        disk_seek(d, 0);
        return !differs;
}
