/* SPDX-License-Identifier: Apache-2.0 */
/*
 * export: a plaintext database into a new encrypted one. sqlcipher_export() copies schema and rows, and leaves behind what the header has:
 * user_version, application_id, auto_vacuum, the encoding and the journal mode; these are carried over here, and everything is compared afterwards. The
 * page size is that of the job: who opens the new database has to know it.
 */
#include <errno.h>
#include <sys/stat.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/check.h"
#include "client/rekey/compare.h"
#include "client/rekey/meter.h"
#include "client/rekey/target.h"

/** What the header of the plaintext database says, as text for SQL. */
struct settings {
        char *encoding, *auto_vacuum, *user_version, *application_id, *journal_mode;
        bool wal;
};

static void settings_deinit(struct settings *s)
{
        free(s->encoding);
        free(s->auto_vacuum);
        free(s->user_version);
        free(s->application_id);
        free(s->journal_mode);
}

static int settings_read(struct settings *s, const struct work *work)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        const struct {
                const char *sql;
                char **ret_text;
        } questions[] = {
                { "PRAGMA encoding", &s->encoding },
                { "PRAGMA auto_vacuum", &s->auto_vacuum },
                { "PRAGMA user_version", &s->user_version },
                { "PRAGMA application_id", &s->application_id },
                { "PRAGMA journal_mode", &s->journal_mode },
        };
        int r = handle_open(&h, work, work->path, NULL, 0, 0, SQLITE_OPEN_READWRITE);

        for (size_t i = 0; i < ELEMENTSOF(questions) && r == 0; i++)
                r = handle_text(&h, questions[i].sql, questions[i].ret_text);
        s->wal = r == 0 && strcmp(s->journal_mode, "wal") == 0;
        return r;
}

/* `PRAGMA target.@name = @value`; both are ours or SQLite's own words. */
static int set(struct handle *h, const char *name, const char *value)
{
        char sql[96];

        snprintf(sql, sizeof(sql), "PRAGMA target.%s = %s", name, value);
        return handle_do(h, sql);
}

/* In one transaction, so that what is compared is what was copied. The new file gets the encoding of the first database of the connection. */
static int copy(struct handle *h, const struct work *work, const struct settings *s)
{
        int r = set(h, "auto_vacuum", s->auto_vacuum);

        /* The draft is thrown away when anything fails, and synced when it is whole. */
        if (r == 0)
                r = handle_do(h, "PRAGMA target.journal_mode = OFF; PRAGMA target.synchronous = OFF");
        if (r == 0)
                r = handle_do(h, "BEGIN; SELECT count(*) FROM main.sqlite_master; SELECT sqlcipher_export('target')");
        if (r == 0)
                r = set(h, "user_version", s->user_version);
        if (r == 0)
                r = set(h, "application_id", s->application_id);
        if (r == 0)
                r = compare_schemas(h, work);
        if (r == 0)
                r = compare_tables(h, work);
        return r == 0 ? handle_do(h, "COMMIT; DETACH target") : r;
}

/* Each of them as it is read by a new connection. */
static int compare_settings(const struct work *work, const char *path, unsigned compatibility, const struct settings *s)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        const struct {
                const char *sql, *expected;
        } questions[] = {
                { "PRAGMA encoding", s->encoding },
                { "PRAGMA auto_vacuum", s->auto_vacuum },
                { "PRAGMA user_version", s->user_version },
                { "PRAGMA application_id", s->application_id },
                { "PRAGMA journal_mode", s->wal ? "wal" : "delete" },
                { "PRAGMA integrity_check", "ok" },
        };
        int r = handle_open(&h, work, path, work->keys[0].secret, compatibility, work->job.page_size, SQLITE_OPEN_READWRITE);

        for (size_t i = 0; i < ELEMENTSOF(questions) && r == 0; i++)
                r = handle_set(&h, questions[i].sql, questions[i].expected);
        return r;
}

static int fill(const struct work *work, const char *path, const struct settings *s)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        int r = handle_open(&h, work, work->path, NULL, 0, 0, SQLITE_OPEN_READWRITE);

        /* Its encoding has to be known before anything is attached. */
        if (r == 0)
                r = handle_do(&h, "SELECT count(*) FROM sqlite_master");
        if (r == 0)
                r = handle_attach(&h, work, path, work->keys[0].secret, work_compatibility(work), work->job.page_size);
        return r == 0 ? copy(&h, work, s) : r;
}

/* What is there already may be the copy of an earlier call, which was interrupted after that. Nothing else about it matters, nor is it changed. */
static int compare_existing(const struct work *work, const char *path)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        int r = handle_open(&h, work, work->path, NULL, 0, 0, SQLITE_OPEN_READWRITE);

        if (r == 0)
                r = handle_do(&h, "SELECT count(*) FROM sqlite_master");
        if (r == 0)
                r = handle_attach(&h, work, path, work->keys[0].secret, work_compatibility(work), work->job.page_size);
        if (r == 0)
                r = handle_do(&h, "BEGIN");
        if (r == 0)
                r = compare_schemas(&h, work);
        if (r == 0)
                r = compare_tables(&h, work);
        if (r == 0)
                r = handle_do(&h, "COMMIT; DETACH target");
        if (r == 0 || r == LKM_E_BUSY)
                return r;
        return answer_refuse(LKM_E_EXISTS, "There is a file %s already, which is no copy of %s as that is now, and nothing is overwritten. Choose another path for "
                                           "the new database.",
                             work->target, work->database);
}

static int set_journal_mode(const struct work *work, const char *path, const struct settings *s)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        int r = handle_open(&h, work, path, work->keys[0].secret, work_compatibility(work), work->job.page_size, SQLITE_OPEN_READWRITE);

        return r == 0 && s->wal ? handle_set(&h, "PRAGMA journal_mode = WAL", "wal") : r;
}

/* check_file() refuses it, with one exception. */
static int check_plaintext(const struct work *work, uint64_t *ret_n)
{
        int r = check_file(work, false, ret_n);

        if (r == LKM_E_PLAINTEXT)
                return 0;
        return r ? r : answer_refuse(LKM_E_EXISTS, "%s is encrypted already, or it is no database. Adopt it with its key or passphrase.", work->database);
}

int export_run(struct work *work)
{
        _cleanup_(target_deinit) struct target target = TARGET_INIT;
        _cleanup_(settings_deinit) struct settings settings = { 0 };
        struct stat status;
        uint64_t n, wal;
        int r = check_plaintext(work, &n);

        if (r == 0)
                r = check_side(work, "-wal", &wal);
        if (r == 0)
                r = settings_read(&settings, work);
        if (r == 0 && lstat(work->target, &status) == 0 && S_ISREG(status.st_mode))
                return compare_existing(work, work->target);
        if (r == 0)
                r = target_begin(&target, work, n + wal);
        if (r)
                return r;
        meter_begin(n + wal);
        r = fill(work, target.draft, &settings);
        if (r == 0)
                r = set_journal_mode(work, target.draft, &settings);
        if (r == 0)
                r = compare_settings(work, target.draft, work_compatibility(work), &settings);
        if (r == 0)
                r = target_finish(&target);
        if (r == 0)
                answer_progress_end(n + wal, n + wal);
        return r;
}
