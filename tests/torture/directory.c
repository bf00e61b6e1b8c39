/* SPDX-License-Identifier: Apache-2.0 */
#include "directory.h"

#include <err.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/cleanup.h"

/* ---- content ---- */

void content_resize(struct content *c, size_t n)
{
        if (n > c->room) {
                c->room = n + n / 4 + 4096;
                c->data = realloc(c->data, c->room);
                if (!c->data)
                        err(99, "realloc");
        }
        if (n > c->n)
                memset(c->data + c->n, 0, n - c->n);
        c->n = n;
}

void content_copy(struct content *to, const struct content *from)
{
        to->n = 0;
        content_resize(to, from->n);
        if (from->n)
                memcpy(to->data, from->data, from->n);
        to->mode = from->mode;
}

void content_write(struct content *c, size_t at, const uint8_t *data, size_t n)
{
        if (n == 0)
                return;
        if (at + n > c->n)
                content_resize(c, at + n);
        memcpy(c->data + at, data, n);
}

void content_apply(struct content *c, const struct step *s)
{
        if (s->call.kind == CALL_WRITE)
                content_write(c, s->call.offset, s->data, s->call.n);
        else if (s->call.kind == CALL_SIZE)
                content_resize(c, s->call.value);
        else if (s->call.kind == CALL_MODE)
                c->mode = (mode_t)s->call.value;
}

void content_read(struct content *c, const char *path)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct stat status;
        ssize_t got;

        if (fd < 0 || fstat(fd, &status) < 0)
                err(99, "%s", path);
        content_resize(c, (size_t)status.st_size);
        c->mode = status.st_mode & 07777;
        for (size_t n = 0; n < c->n; n += (size_t)got) {
                got = read(fd, c->data + n, c->n - n);
                if (got <= 0)
                        err(99, "%s", path);
        }
}

/* ---- names ---- */

struct name *names_find(struct names *names, const char *text, size_t n)
{
        for (size_t i = 0; i < names->n; i++)
                if (strlen(names->names[i].text) == n && strncmp(names->names[i].text, text, n) == 0)
                        return &names->names[i];
        return NULL;
}

void names_set(struct names *names, const char *text, size_t n, size_t file)
{
        struct name *name = names_find(names, text, n);

        if (!name) {
                if (names->n == NAMES_MAX || n > NAME_MAX)
                        errx(99, "too many names, or too long a one");
                name = &names->names[names->n++];
                snprintf(name->text, sizeof(name->text), "%.*s", (int)n, text);
        }
        name->file = file;
}

void names_remove(struct names *names, const char *text, size_t n)
{
        struct name *name = names_find(names, text, n);

        if (name)
                *name = names->names[--names->n];
}

void names_apply(struct names *names, const struct step *s)
{
        switch (s->call.kind) {
        case CALL_CREATE:
        case CALL_LINK:
                names_set(names, s->name, s->call.n_name, s->file);
                break;
        case CALL_RENAME:
                names_remove(names, s->name, s->call.n_name);
                names_set(names, s->other, s->call.n_other, s->file);
                break;
        case CALL_UNLINK:
                names_remove(names, s->name, s->call.n_name);
                break;
        }
}
