/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-explain: which rule of the policy decides, for the caller or for somebody else. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>

#include "client/database.h"
#include "client/lkmctl.h"

enum { GROUPS_MAX = 65536, CREDENTIALS_MAX = 1024 /* of EXPLAIN */ };

/* ---- whom it is about ---- */

/* A name, or a number that has one. NULL with errno when there is none. */
static const struct passwd *find_user(const char *text)
{
        const struct passwd *user;
        char *end;
        unsigned long uid;

        errno = 0;
        user = getpwnam(text);
        if (user || *text < '0' || *text > '9')
                return user;
        uid = strtoul(text, &end, 10);
        return *end || uid >= UINT32_MAX ? NULL : getpwuid((uid_t)uid);
}

static int refuse_groups(const char *user)
{
        return ctl_refuse(EXIT_CODE_FAILED, "%s is in more groups than can be asked about", user);
}

/* "UID GID [GROUP...]", of the groups that a process of that user gets at login. Return: an exit code. */
static int find_credentials(char ret_text[CREDENTIALS_MAX + 1], const char *name)
{
        const struct passwd *user = find_user(name);
        _cleanup_(freep) gid_t *groups = NULL;
        int n_groups = GROUPS_MAX, n;
        size_t length;

        if (!user)
                return ctl_refuse(EXIT_CODE_USAGE, "there is no user %s on this machine%s%s", name, errno ? ": " : "", errno ? strerror(errno) : "");
        groups = calloc(GROUPS_MAX, sizeof(*groups));
        if (!groups)
                return ctl_refuse(EXIT_CODE_FAILED, "out of memory");
        if (getgrouplist(user->pw_name, user->pw_gid, groups, &n_groups) < 0)
                return refuse_groups(name);
        length = (size_t)snprintf(ret_text, CREDENTIALS_MAX + 1, "%u %u", user->pw_uid, user->pw_gid);
        for (int i = 0; i < n_groups; i++) {
                n = snprintf(ret_text + length, CREDENTIALS_MAX + 1 - length, " %u", groups[i]);
                if ((size_t)n > CREDENTIALS_MAX - length)
                        return refuse_groups(name);
                length += (size_t)n;
        }
        return EXIT_CODE_OK;
}

/* ---- the answer, for people ---- */

/* "1000 (clinic)" */
static void show_user(char ret_text[SHOW_MAX], json_t *uid)
{
        const struct passwd *user = json_is_integer(uid) ? getpwuid((uid_t)json_integer_value(uid)) : NULL;
        size_t n;

        show_json(ret_text, uid, SHOW_PLAIN);
        n = strlen(ret_text);
        if (user)
                snprintf(ret_text + n, SHOW_MAX - n, " (%s)", user->pw_name);
}

static void show_groups(char ret_text[SHOW_MAX], json_t *gids)
{
        json_t *names = json_array(), *gid;
        size_t i;

        json_array_foreach(gids, i, gid)
        {
                const struct group *group = json_is_integer(gid) ? getgrgid((gid_t)json_integer_value(gid)) : NULL;
                _cleanup_(freep) char *name = NULL;

                if (group && asprintf(&name, "%u (%s)", group->gr_gid, group->gr_name) < 0)
                        name = NULL;
                if (name)
                        json_array_append_new(names, json_text(name));
                else
                        json_array_append(names, gid);
        }
        show_json(ret_text, names, SHOW_PLAIN);
        json_decref(names);
}

static void print_subject(json_t *report)
{
        _cleanup_(table_deinit) struct table table = { .n_columns = 2 };
        char text[SHOW_MAX];
        json_t *gid = json_array();

        show_json(text, json_object_get(report, "scope"), SHOW_PLAIN);
        table_add(&table, (const char *[]){ "scope", text });
        show_user(text, json_object_get(report, "uid"));
        table_add(&table, (const char *[]){ "uid", text });
        json_array_append(gid, json_object_get(report, "gid"));
        show_groups(text, gid);
        json_decref(gid);
        table_add(&table, (const char *[]){ "gid", text });
        show_groups(text, json_object_get(report, "groups"));
        table_add(&table, (const char *[]){ "groups", text });
        show_json(text, json_object_get(report, "unit"), SHOW_PLAIN);
        table_add(&table, (const char *[]){ "unit", text });
        table_print(&table);
}

static void add_right(struct table *table, const char *name, json_t *right)
{
        json_t *socket = json_object_get(right, "socket");
        _cleanup_(freep) char *by_socket = NULL;
        char allowed[SHOW_MAX], rule[SHOW_MAX];

        show_json(allowed, json_object_get(right, "allowed"), SHOW_PLAIN);
        show_json(rule, json_object_get(right, "rule"), SHOW_PLAIN);
        if (json_is_string(socket) && json_is_true(json_object_get(right, "allowed")) &&
            asprintf(&by_socket, "%s, on %s only", allowed, json_string_value(socket)) < 0)
                by_socket = NULL;
        table_add(table, (const char *[]){ name, by_socket ? by_socket : allowed, rule });
}

/* In this order; what a newer daemon has beside comes last. */
static void print_rights(json_t *report)
{
        static const char *const names[] = { "use", "create", "rotate", "history", "recover", "admin" };
        _cleanup_(table_deinit) struct table table = { .n_columns = 3 };
        json_t *rights = json_object_get(report, "rights"), *right;
        const char *name;

        table_add(&table, (const char *[]){ "RIGHT", "ALLOWED", "DECIDED BY" });
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                right = json_object_get(rights, names[i]);
                if (right)
                        add_right(&table, names[i], right);
                json_object_del(rights, names[i]);
        }
        json_object_foreach(rights, name, right) {
                add_right(&table, name, right);
        }
        table_print(&table);
}

int command_explain(struct ctl *c)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };
        _cleanup_(json_decref_p) json_t *report = NULL;
        union message request = { .explain = { .number_ = MESSAGE_EXPLAIN } };
        char credentials[CREDENTIALS_MAX + 1];
        int r;

        if (!c->scope == (c->n_arguments == 0))
                return ctl_refuse(EXIT_CODE_USAGE, "explain takes a database or --scope NAME");
        if (c->as) {
                r = find_credentials(credentials, c->as);
                if (r)
                        return r;
                request.explain.credentials = bytes_from_string(credentials);
        }
        if (c->unit)
                request.explain.unit = bytes_from_string(c->unit);
        if (c->scope) {
                request.explain.scope = bytes_from_string(c->scope);
        } else {
                r = database_record_read(c->lkm, c->arguments[0], &record);
                if (r)
                        return ctl_fail(c, r);
                request.explain.record = (struct bytes){ record.data, record.n };
        }
        r = ctl_report(c, &request, &report);
        if (r)
                return r;
        if (c->json)
                return ctl_print_json(TAKE_PTR(report));
        print_subject(report);
        putchar('\n');
        print_rights(report);
        return ctl_flush();
}
