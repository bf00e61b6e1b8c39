/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/unit.h"

#include <string.h>

#include "common/cleanup.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@";

/* Whether @n bytes at @name end with @suffix and have something before it. */
static bool ends_with(const char *name, size_t n, const char *suffix)
{
        size_t length = strlen(suffix);

        return n > length && strncmp(name + n - length, suffix, length) == 0;
}

const char *unit_name_check(const char *name)
{
        static const char *const types[] = { ".service", ".scope", ".socket", ".mount", ".swap" };
        size_t n = strlen(name);
        const char *at = strchr(name, '@');
        bool known = false;

        if (n == 0 || n > UNIT_NAME_MAX || strspn(name, letters) != n)
                return "unit: takes the name of a systemd unit, at most 255 letters, digits and :-_.\\@";
        if (ends_with(name, n, ".slice"))
                return "a slice is a group of units; name the units";
        for (size_t i = 0; i < ELEMENTSOF(types) && !known; i++)
                known = ends_with(name, n, types[i]);
        if (!known)
                return "give the full name of the unit, with its .service, .scope, .socket, .mount or .swap";
        if (at == name || (at && strrchr(name, '.') == at + 1))
                return "a template has no processes; name an instance, such as clinic@north.service";
        return NULL;
}

/* The path of the unified hierarchy. Return: its length; 0 when there is not exactly one. */
static size_t unified_path(const char **ret_path, const char *text, size_t n)
{
        static const char prefix[] = "0::";
        const size_t n_prefix = sizeof(prefix) - 1;
        size_t length = 0;

        if (n == 0 || text[n - 1] != '\n' || memchr(text, '\0', n))
                return 0;
        for (const char *line = text, *end; line < text + n; line = end + 1) {
                end = memchr(line, '\n', n - (size_t)(line - text));
                if ((size_t)(end - line) <= n_prefix || strncmp(line, prefix, n_prefix) != 0)
                        continue;
                if (length > 0)
                        return 0;
                *ret_path = line + n_prefix;
                length = (size_t)(end - *ret_path);
        }
        return length;
}

static bool is_component(const char *name, size_t n)
{
        return n > 0 && !(n == 1 && name[0] == '.') && !(n == 2 && name[0] == '.' && name[1] == '.');
}

bool unit_from_cgroup(char ret_unit[UNIT_NAME_MAX + 1], const char *text, size_t n)
{
        const char *path = text, *unit = NULL; /* gcc 14 does not see that unified_path() sets it */
        char name[UNIT_NAME_MAX + 1];
        size_t n_path = unified_path(&path, text, n), n_unit = 0, length;

        if (n_path < 2 || *path != '/' || ends_with(path, n_path, " (deleted)"))
                return false;
        /* All of the path is looked at: a ".." anywhere means that it is not one of ours. */
        for (const char *at = path + 1, *end = path + n_path; at <= end; at += length + 1) {
                const char *slash = memchr(at, '/', (size_t)(end - at));

                length = (size_t)((slash ? slash : end) - at);
                if (!is_component(at, length))
                        return false;
                if (unit || ends_with(at, length, ".slice"))
                        continue;
                unit = at;
                n_unit = length;
        }
        if (unit && *unit == '_') {
                unit++;
                n_unit--;
        }
        if (!unit || n_unit > UNIT_NAME_MAX)
                return false;
        memcpy(name, unit, n_unit);
        name[n_unit] = '\0';
        if (unit_name_check(name))
                return false;
        memcpy(ret_unit, name, n_unit + 1);
        return true;
}
