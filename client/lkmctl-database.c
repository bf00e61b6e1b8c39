/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-database: commands about one database and its record. */
#include <errno.h>

#include "client/database.h"
#include "client/lkmctl-version.h"

static void key_freep(struct lkm_key **key)
{
        lkm_key_free(key);
}

/* ---- create ---- */

int command_create(struct ctl *c)
{
        const struct lkm_create_options options = { .scope = c->scope, .label = c->label };
        _cleanup_(key_freep) struct lkm_key *key = NULL;
        struct lkm_key_info info;
        char id[UUID_TEXT_LENGTH + 1];
        int r = lkm_initialize(c->lkm, c->arguments[0], &options, &key);

        if (r)
                return ctl_fail(c, r);
        lkm_key_info(key, &info);
        uuid_format(id, info.database_id);
        if (c->json)
                return ctl_print_json(json_pack("{s:s, s:s, s:s, s:I}", "database", c->arguments[0], "database_id", id,
                                                "scope", info.scope, "version", (json_int_t)info.version));
        printf("%s.key: key %u of database %s, scope %s. Next: lkmctl sqlcipher %s\n", c->arguments[0],
               (unsigned)info.version, id, info.scope, c->arguments[0]);
        return ctl_flush();
}

/* ---- get ---- */

static const struct {
        const char *name;
        enum lkm_format format;
        bool line; /* ends with a newline */
} formats[] = {
        { "raw", LKM_FORMAT_RAW, false },
        { "hex", LKM_FORMAT_HEX, true },
        { "pragma", LKM_FORMAT_PRAGMA, true },
};

/* Past stdio, whose buffer would keep a copy. */
static int write_all(const uint8_t *data, size_t n)
{
        while (n > 0) {
                ssize_t written = write(STDOUT_FILENO, data, n);

                if (written < 0 && errno != EINTR)
                        return -errno;
                data += written > 0 ? written : 0;
                n -= written > 0 ? (size_t)written : 0;
        }
        return 0;
}

static int key_write(const struct ctl *c, struct lkm_key *key, enum lkm_format format, bool line)
{
        const uint8_t *bytes;
        size_t n;
        int r = lkm_key_view_begin(key, format, &bytes, &n);

        if (r)
                return ctl_refuse(EXIT_CODE_FAILED, "%s", lkm_strerror(r));
        r = write_all(bytes, n);
        lkm_key_view_end(key, &bytes);
        if (r == 0 && line)
                r = write_all((const uint8_t *)"\n", 1);
        return r < 0 ? ctl_refuse(EXIT_CODE_FAILED, "cannot write the key: %s", strerror(-r)) : EXIT_CODE_OK;
}

int command_get(struct ctl *c)
{
        const char *name = c->format ? c->format : "hex";
        _cleanup_(key_freep) struct lkm_key *key = NULL;
        size_t i = 0;
        int r;

        while (i < ELEMENTSOF(formats) && strcmp(formats[i].name, name) != 0)
                i++;
        if (i == ELEMENTSOF(formats))
                return ctl_refuse(EXIT_CODE_USAGE, "there is no format %s. Choose raw, hex or pragma", name);
        if (c->json)
                return ctl_refuse(EXIT_CODE_USAGE, "get writes the bare key, never JSON. Choose a --format");
        if (isatty(STDOUT_FILENO) && !c->force)
                return ctl_refuse(
                        EXIT_CODE_USAGE,
                        "standard output is a terminal, which would show and keep the key. Send it into a pipe, "
                        "or say --force. `lkmctl sqlcipher` opens the database without showing it");
        if (c->version && c->scope)
                return ctl_refuse(EXIT_CODE_USAGE, "get takes --scope or --version, not both");
        r = c->version ? lkm_load_version(c->lkm, c->arguments[0], c->version, &key) : lkm_load(c->lkm, c->arguments[0], c->scope, &key);
        return r ? ctl_fail(c, r) : key_write(c, key, formats[i].format, formats[i].line);
}

/* ---- check ---- */

static const struct {
        const char *label, *member;
} check_lines[] = {
        { "database id", "database_id" },   { "scope", "scope" },        { "label", "label" },
        { "record format", "format" },
        { "current version", "version" },   { "verified", "verified" },  { "outdated", "outdated" },
        { "rotation due", "rotation_due" }, { "served stale", "stale" },
};

static void check_print(json_t *report, const char *database)
{
        _cleanup_(table_deinit) struct table table = { .n_columns = 2 };

        for (size_t i = 0; i < ELEMENTSOF(check_lines); i++) {
                json_t *value = json_object_get(report, check_lines[i].member);
                char text[SHOW_MAX];

                if (!value)
                        continue;
                show_json(text, value, SHOW_PLAIN);
                table_add(&table, (const char *[]){ check_lines[i].label, text });
        }
        table_print(&table);
        putchar('\n');
        version_print(report, database);
}

int command_check(struct ctl *c)
{
        _cleanup_(json_decref_p) json_t *report = NULL;
        int r = version_report(c, c->arguments[0], c->scope, &report);

        if (r)
                return ctl_fail(c, r);
        if (c->json)
                return ctl_print_json(TAKE_PTR(report));
        check_print(report, c->arguments[0]);
        return ctl_flush();
}
