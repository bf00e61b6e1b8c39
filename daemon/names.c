/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/names.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <string.h>

struct name {
        enum names_kind kind;
        char *text;
        uint32_t id;
        bool in_file; /* when the names were sealed */
};

struct names {
        char *paths[2]; /* by kind */
        bool sealed;
        size_t n;
        struct name *found;
};

int names_new(struct names **ret_names, const char *passwd, const char *group)
{
        _cleanup_(names_freep) struct names *n = calloc(1, sizeof(*n));

        if (!n)
                return -ENOMEM;
        n->paths[NAMES_USER] = strdup(passwd);
        n->paths[NAMES_GROUP] = strdup(group);
        if (!n->paths[NAMES_USER] || !n->paths[NAMES_GROUP])
                return -ENOMEM;
        *ret_names = TAKE_PTR(n);
        return 0;
}

struct names *names_free(struct names *n)
{
        if (!n)
                return NULL;
        for (size_t i = 0; i < n->n; i++)
                free(n->found[i].text);
        free(n->found);
        free(n->paths[NAMES_USER]);
        free(n->paths[NAMES_GROUP]);
        free(n);
        return NULL;
}

/* ---- the files ---- */

/* "NAME:PASSWORD:ID:…", as passwd(5) and group(5) both begin. Return: whether @line is @name's and has a number. */
static bool line_parse(const char *line, const char *name, uint32_t *ret_id)
{
        size_t n = strlen(name);
        const char *id = !strchr(name, ':') && strncmp(line, name, n) == 0 && line[n] == ':'
                                 ? strchr(line + n + 1, ':')
                                 : NULL;
        unsigned long long number;
        char *end;

        if (!id || id[1] < '0' || id[1] > '9')
                return false;
        errno = 0;
        number = strtoull(id + 1, &end, 10);
        if (errno || *end != ':' || number >= UINT32_MAX)
                return false;
        *ret_id = (uint32_t)number;
        return true;
}

/* Return: 0, NAMES_E_UNKNOWN, or the -errno with which @path cannot be read. */
static int file_find(const char *path, const char *name, uint32_t *ret_id)
{
        _cleanup_(freep) char *line = NULL;
        FILE *file = fopen(path, "re");
        size_t n_allocated = 0;
        int r = NAMES_E_UNKNOWN;

        if (!file)
                return -errno;
        while (r == NAMES_E_UNKNOWN && getline(&line, &n_allocated, file) > 0) {
                if (line_parse(line, name, ret_id))
                        r = 0;
        }
        if (r != 0 && ferror(file))
                r = -EIO;
        fclose(file);
        return r;
}

/* ---- the table ---- */

static struct name *table_find(const struct names *n, enum names_kind kind, const char *text)
{
        for (size_t i = 0; i < n->n; i++) {
                if (n->found[i].kind == kind && strcmp(n->found[i].text, text) == 0)
                        return &n->found[i];
        }
        return NULL;
}

static int table_add(struct names *n, enum names_kind kind, const char *text, uint32_t id)
{
        struct name *larger;

        if (table_find(n, kind, text))
                return 0;
        larger = reallocarray(n->found, n->n + 1, sizeof(*larger));
        if (!larger)
                return -ENOMEM;
        n->found = larger;
        larger[n->n] = (struct name){ .kind = kind, .text = strdup(text), .id = id };
        if (!larger[n->n].text)
                return -ENOMEM;
        n->n++;
        return 0;
}

void names_seal(struct names *n)
{
        uint32_t id;

        for (size_t i = 0; i < n->n; i++) {
                struct name *name = &n->found[i];

                name->in_file = file_find(n->paths[name->kind], name->text, &id) == 0;
        }
        n->sealed = true;
}

/* ---- a name ---- */

static int services_find(enum names_kind kind, const char *name, uint32_t *ret_id)
{
        if (kind == NAMES_USER) {
                const struct passwd *user = getpwnam(name);

                if (!user)
                        return NAMES_E_UNKNOWN;
                *ret_id = user->pw_uid;
        } else {
                const struct group *group = getgrnam(name);

                if (!group)
                        return NAMES_E_UNKNOWN;
                *ret_id = group->gr_gid;
        }
        return 0;
}

/* The file first: it may have changed. Where it cannot be read any more, what was found at the start stands. */
static int sealed_find(const struct names *n, enum names_kind kind, const char *name, uint32_t *ret_id)
{
        const struct name *known = table_find(n, kind, name);
        int r = file_find(n->paths[kind], name, ret_id);

        if (r == 0 || r == -ENOMEM)
                return r;
        if (!known)
                return NAMES_E_SEALED;
        if (r == NAMES_E_UNKNOWN && known->in_file)
                return NAMES_E_UNKNOWN; /* removed since */
        *ret_id = known->id;
        return 0;
}

int names_find(struct names *n, enum names_kind kind, const char *name, uint32_t *ret_id)
{
        uint32_t id;
        int r;

        if (n && n->sealed)
                return sealed_find(n, kind, name, ret_id);
        r = services_find(kind, name, &id);
        if (r == 0 && n)
                r = table_add(n, kind, name, id);
        if (r == 0)
                *ret_id = id;
        return r;
}
