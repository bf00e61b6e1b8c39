/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adopt-plain: a database that was never encrypted is copied into a new one, since no page of it could be trusted to vanish where it lies. The new
 * one gets its record first; its file appears under its name when it is whole and equal. So another call goes on after a crash.
 */
#include <errno.h>

#include "client/adopt.h"
#include "client/key.h"

static void key_freep(struct lkm_key **key)
{
        lkm_key_free(key);
}

/* ---- what lkm-rekey copied ---- */

struct copied {
        struct table table;
        json_t *rows; /* of each table */
};

static void copied_deinit(struct copied *copied)
{
        table_deinit(&copied->table);
        json_decref(copied->rows);
}

/* "table NAME ROWS" */
static void on_line(void *userdata, const char *line)
{
        struct copied *copied = userdata;
        const char *rows = strrchr(line, ' ');
        _cleanup_(freep) char *name = NULL;

        if (strncmp(line, "table ", 6) != 0 || rows < line + 6)
                return;
        name = strndup(line + 6, (size_t)(rows - line) - 6);
        if (!name)
                return;
        table_add(&copied->table, (const char *[]){ name, rows + 1 });
        json_object_set_new(copied->rows, name, json_integer((json_int_t)strtoull(rows + 1, NULL, 10)));
}

static int export(struct adoption *a, struct lkm_key *key, const char *to, struct copied *copied)
{
        struct lkm_key_info info;
        struct worker_key one = { .key = key_secret(key) };
        struct worker_task task = {
                .command = "export",
                .database = a->database,
                .target = to,
                .timeout_msec = a->each.c->timeout_msec ? a->each.c->timeout_msec : ADOPT_WAIT_MSEC,
                .keys = &one,
                .n_keys = 1,
                .lock_fd = -1,
                .progress = adoption_progress,
                .line = on_line,
                .userdata = copied,
        };
        struct worker_result result;
        int r;

        lkm_key_info(key, &info);
        one.version = info.version;
        task.compatibility = info.cipher_compatibility;
        task.page_size = info.page_size;
        r = worker_run(&task, &result);
        if (r)
                return adoption_worker_failed(adoption_lkm(a), r, &result);
        /* Another process looks at what that one wrote. */
        task.command = "probe";
        task.database = to;
        task.target = NULL;
        r = worker_run(&task, &result);
        if (r)
                return adoption_worker_failed(adoption_lkm(a), r, &result);
        if (result.n_opens != 1)
                return error_set(adoption_lkm(a), LKM_E_IO, "%s was written, but cannot be read back. Check the disk, remove it, and adopt again. %s is as it was.", to,
                                 a->database);
        return 0;
}

static int tell(struct adoption *a, struct lkm_key *key, const char *to, struct copied *copied)
{
        struct lkm_key_info info;
        _cleanup_(freep) char *text = NULL;
        char id[UUID_TEXT_LENGTH + 1];

        lkm_key_info(key, &info);
        uuid_format(id, info.database_id);
        if (!a->each.c->json)
                table_print(&copied->table);
        if (asprintf(&text,
                     "copied into %s, with the same schema and rows, under key %u of scope %s. The original was not changed and still lies there in clear: when %s has "
                     "proved itself, remove it with `shred -u`, with its -wal and -journal, and its backups; snapshots and flash storage may keep copies all "
                     "the same",
                     to, (unsigned)info.version, info.scope, to) < 0)
                text = NULL;
        each_done(&a->each, a->database, OUTCOME_ADOPTED, text ? text : "copied",
                  json_pack("{s:o, s:s, s:o, s:I, s:O}", "to", json_text(to), "database_id", id, "scope", json_text(info.scope), "version",
                            (json_int_t)info.version, "tables", copied->rows));
        return 0;
}

/* The format that lkm-rekey will write: what the record has to say. */
static int find_format(const struct adoption *a, struct lkm_create_options *create)
{
        const struct ctl_adopt *o = adoption_options(a);
        _cleanup_(secret_unrefp) struct secret *nobody = NULL;
        struct worker_result result;
        int r;

        if (secret_new_random(&nobody, KEY_SIZE) < 0)
                return error_set_default(adoption_lkm(a), LKM_E_NO_MEMORY);
        /* Of a file that is not there nothing more is told than who tells it. */
        r = adoption_run(a, "probe", o->to, nobody, 1, &result);
        if (r)
                return r;
        if (o->compatibility > result.library)
                return error_set(adoption_lkm(a), LKM_E_CIPHER_VERSION, "this machine has SQLCipher %u, which cannot write format %u. Leave --compatibility out.",
                                 (unsigned)result.library, (unsigned)o->compatibility);
        create->cipher_compatibility = o->compatibility ? o->compatibility : result.library >= 4 ? 4 : 3;
        create->page_size = o->page_size ? o->page_size : create->cipher_compatibility >= 4 ? 4096 : 1024;
        return 0;
}

/* The record of the new database: of an earlier call, or a new one. */
static int get_key(const struct adoption *a, struct lkm_key **ret_key)
{
        struct lkm_create_options create = { .scope = a->each.c->scope, .label = a->each.c->label, .cipher_library = "sqlcipher" };
        struct lkm *lkm = adoption_lkm(a);
        const char *to = adoption_options(a)->to;
        int r = lkm_load(lkm, to, a->each.c->scope, ret_key);

        if (r == LKM_E_KEY_MISSING)
                return error_set(lkm, LKM_E_EXISTS, "%s is there already, and nothing is overwritten. Choose another name.", to);
        if (r != LKM_E_NOT_FOUND)
                return r;
        r = find_format(a, &create);
        return r ? r : lkm_initialize(lkm, to, &create, ret_key);
}

int adoption_export(struct adoption *a)
{
        const char *to = adoption_options(a)->to;
        _cleanup_(copied_deinit) struct copied copied = { .table = { .n_columns = 2 }, .rows = json_object() };
        _cleanup_(key_freep) struct lkm_key *key = NULL;
        int r;

        if (!to)
                return error_set(adoption_lkm(a), LKM_E_PLAINTEXT,
                                 "it is not encrypted: any SQLite reads it. Say with --to NEW where the encrypted copy of it is to be; the original stays as it is.");
        if (!copied.rows)
                return error_set_default(adoption_lkm(a), LKM_E_NO_MEMORY);
        table_add(&copied.table, (const char *[]){ "TABLE", "ROWS" });
        r = get_key(a, &key);
        if (r == 0)
                r = export(a, key, to, &copied);
        return r ? r : tell(a, key, to, &copied);
}
