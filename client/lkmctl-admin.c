/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-admin: what an administrator asks of the daemon itself. */
#include "client/database.h"
#include "client/lkmctl.h"

/* ---- status ---- */

static const struct {
        const char *label, *member;
        enum show show;
} status_lines[] = {
        { "lkmd", "version", SHOW_PLAIN },
        { "protocol", "protocol", SHOW_PLAIN },
        { "pid", "pid", SHOW_PLAIN },
        { "up for", "uptime_seconds", SHOW_DURATION },
        { "locked", "locked", SHOW_PLAIN },
        { "configuration", "configuration", SHOW_PLAIN },
        { "reload failed", "reload_failed", SHOW_PLAIN },
        { "scopes", "scopes", SHOW_PLAIN },
        { "socket", "sockets.ordinary", SHOW_PLAIN },
        { "socket of administrators", "sockets.admin", SHOW_PLAIN },
        { "connections", "connections", SHOW_PLAIN },
        { "connections refused", "users.refused", SHOW_PLAIN },
        { "accepts failed", "users.accept_failures", SHOW_PLAIN },
        { "users", "users.count", SHOW_PLAIN },
        { "leases", "leases.held", SHOW_PLAIN },
        { "databases being rotated", "leases.quiesced", SHOW_PLAIN },
        { "keys cached", "cache.keys", SHOW_PLAIN },
        { "keys at most", "cache.capacity", SHOW_PLAIN },
        { "cache hits", "cache.hits", SHOW_PLAIN },
        { "cache misses", "cache.misses", SHOW_PLAIN },
        { "served stale", "cache.stale", SHOW_PLAIN },
        { "evictions", "cache.evictions", SHOW_PLAIN },
        { "unwraps under way", "flights", SHOW_PLAIN },
        { "memory for keys", "arena.backing", SHOW_PLAIN },
        { "other system calls", "sandbox.seccomp", SHOW_PLAIN },
        { "system calls allowed", "sandbox.seccomp_calls", SHOW_PLAIN },
        { "sockets allowed", "sandbox.network", SHOW_PLAIN },
        { "Landlock version", "sandbox.landlock_abi", SHOW_PLAIN },
        { "no new privileges", "sandbox.no_new_privs", SHOW_PLAIN },
        { "capabilities", "sandbox.capabilities", SHOW_PLAIN },
        { "can be dumped", "sandbox.dumpable", SHOW_PLAIN },
        { "core file limit", "sandbox.core_limit", SHOW_PLAIN },
        { "KMS worker", "kms.socket", SHOW_PLAIN },
        { "KMS connected", "kms.connected", SHOW_PLAIN },
        { "KMS requests", "kms.requests", SHOW_PLAIN },
        { "KMS failures", "kms.failures", SHOW_PLAIN },
        { "KMS last error", "kms.last_error", SHOW_PLAIN },
        { "audit log", "audit.file", SHOW_PLAIN },
        { "audit records", "audit.sequence", SHOW_PLAIN },
        { "audit hash", "audit.hash", SHOW_PLAIN },
        { "audit sync", "audit.sync", SHOW_PLAIN },
        { "audit on disk up to", "audit.durable", SHOW_PLAIN },
        { "audit last on disk", "audit.durable_seconds_ago", SHOW_DURATION },
        { "audit checkpoint", "audit.checkpoint", SHOW_PLAIN },
        { "audit reserve", "audit.reserve_bytes", SHOW_PLAIN },
        { "audit last error", "audit.last_error", SHOW_PLAIN },
};

static const struct {
        const char *title, *member;
} user_columns[] = {
        { "UID", "uid" }, { "CONNECTIONS", "connections" }, { "REQUESTS", "requests" }, { "BYTES", "bytes" }, { "REFUSED", "refused" },
};

/* Who uses the daemon, those with the most connections first. */
static void status_users(json_t *users)
{
        _cleanup_(table_deinit) struct table table = { .n_columns = ELEMENTSOF(user_columns) };
        const char *cells[ELEMENTSOF(user_columns)];
        char texts[ELEMENTSOF(user_columns)][SHOW_MAX];
        json_t *user;
        size_t i;

        if (json_array_size(users) == 0)
                return;
        for (size_t k = 0; k < ELEMENTSOF(user_columns); k++)
                cells[k] = user_columns[k].title;
        table_add(&table, cells);
        json_array_foreach (users, i, user) {
                for (size_t k = 0; k < ELEMENTSOF(user_columns); k++) {
                        show_json(texts[k], json_object_get(user, user_columns[k].member), SHOW_PLAIN);
                        cells[k] = texts[k];
                }
                table_add(&table, cells);
        }
        putchar('\n');
        table_print(&table);
}

int command_status(struct ctl *c)
{
        const union message request = { .status = { .number_ = MESSAGE_STATUS } };
        _cleanup_(json_decref_p) json_t *report = NULL;
        _cleanup_(table_deinit) struct table table = { .n_columns = 2 };
        int r = ctl_report(c, &request, &report);

        if (r)
                return r;
        if (c->json)
                return ctl_print_json(TAKE_PTR(report));
        for (size_t i = 0; i < ELEMENTSOF(status_lines); i++) {
                json_t *value = json_find(report, status_lines[i].member);
                char text[SHOW_MAX];

                if (!value)
                        continue; /* an older daemon */
                show_json(text, value, status_lines[i].show);
                table_add(&table, (const char *[]){ status_lines[i].label, text });
        }
        table_print(&table);
        status_users(json_find(report, "users.top"));
        return ctl_flush();
}

/* ---- list ---- */

static const struct {
        const char *title, *member;
        enum show show;
} list_columns[] = {
        { "DATABASE", "database_id", SHOW_PLAIN },
        { "SCOPE", "scope", SHOW_PLAIN },
        { "VERSION", "version", SHOW_PLAIN },
        { "AGE", "age_seconds", SHOW_DURATION },
        { "FRESH FOR", "fresh_seconds", SHOW_DURATION },
        { "WIPED IN", "wiped_in_seconds", SHOW_DURATION },
        { "USES", "uses", SHOW_PLAIN },
};

/* All pages as one array. */
static int list_collect(struct ctl *c, json_t *keys)
{
        union message request = { .list = { .number_ = MESSAGE_LIST } };
        uint8_t after[UUID_SIZE];

        for (;;) {
                _cleanup_(json_decref_p) json_t *page = NULL;
                json_t *found, *last;
                int r = ctl_report(c, &request, &page);

                if (r)
                        return r;
                found = json_object_get(page, "keys");
                json_array_extend(keys, found);
                if (!json_is_true(json_object_get(page, "more")) || json_array_size(found) == 0)
                        return EXIT_CODE_OK;
                last = json_object_get(json_array_get(found, json_array_size(found) - 1), "database_id");
                if (!json_is_string(last) || uuid_parse(after, json_string_value(last), json_string_length(last)) < 0)
                        return ctl_refuse(EXIT_CODE_FAILED,
                                          "the daemon's list has no database id to go on from. Update lkmctl");
                request.list.after = after;
        }
}

int command_list(struct ctl *c)
{
        _cleanup_(json_decref_p) json_t *keys = json_array();
        _cleanup_(table_deinit) struct table table = { .n_columns = ELEMENTSOF(list_columns) };
        char texts[ELEMENTSOF(list_columns)][SHOW_MAX];
        const char *cells[ELEMENTSOF(list_columns)];
        json_t *key;
        size_t i;
        int r = list_collect(c, keys);

        if (r)
                return r;
        if (c->json)
                return ctl_print_json(json_pack("{s:O}", "keys", keys));
        for (size_t k = 0; k < ELEMENTSOF(list_columns); k++)
                cells[k] = list_columns[k].title;
        table_add(&table, cells);
        json_array_foreach(keys, i, key)
        {
                for (size_t k = 0; k < ELEMENTSOF(list_columns); k++) {
                        show_json(texts[k], json_object_get(key, list_columns[k].member), list_columns[k].show);
                        cells[k] = texts[k];
                }
                table_add(&table, cells);
        }
        table_print(&table);
        return ctl_flush();
}

/* ---- requests answered by DONE, and evict ---- */

static int ask_done(struct ctl *c, enum message_number number, const char *text)
{
        union message request = { .number = number }, answer;
        int r = connection_call(c->lkm, &request, MESSAGE_DONE, &answer);

        if (r)
                return ctl_fail(c, r);
        connection_settle(c->lkm);
        if (c->json)
                return ctl_print_json(json_pack("{s:b}", "done", 1));
        puts(text);
        return ctl_flush();
}

int command_ping(struct ctl *c)
{
        return ask_done(c, MESSAGE_PING, "lkmd answers");
}

int command_lock(struct ctl *c)
{
        return ask_done(c, MESSAGE_LOCK, "locked: every key is wiped, and none is given out until `lkmctl unlock`");
}

int command_unlock(struct ctl *c)
{
        return ask_done(c, MESSAGE_UNLOCK, "unlocked");
}

static int evict(struct ctl *c, const union message *request)
{
        _cleanup_(freep) char *text = NULL;
        _cleanup_(json_decref_p) json_t *report = NULL;
        int r = connection_report(c->lkm, request, &text);

        if (r && r != LKM_E_NOT_CACHED)
                return ctl_fail(c, r);
        report = r ? json_pack("{s:i}", "evicted", 0) : json_loads(text, 0, NULL);
        if (c->json)
                return ctl_print_json(TAKE_PTR(report));
        printf("%lld cached key(s) wiped\n", (long long)json_integer_value(json_object_get(report, "evicted")));
        return ctl_flush();
}

int command_evict(struct ctl *c)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };
        union message request = { .evict = { .number_ = MESSAGE_EVICT } };
        uint8_t id[UUID_SIZE];
        int r;

        if (!c->id == (c->n_arguments == 0))
                return ctl_refuse(EXIT_CODE_USAGE, "evict takes a database or --id UUID");
        if (c->id) {
                if (uuid_parse(id, c->id, strlen(c->id)) < 0)
                        return ctl_refuse(EXIT_CODE_USAGE, "%s is no database id. `lkmctl list` shows them", c->id);
                request.evict.database_id = id;
                return evict(c, &request);
        }
        r = database_record_read(c->lkm, c->arguments[0], &record);
        if (r)
                return ctl_fail(c, r);
        request.evict.record = (struct bytes){ record.data, record.n };
        return evict(c, &request);
}
