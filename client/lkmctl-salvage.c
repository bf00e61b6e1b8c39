/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl-salvage: a database of which no known key opens every page, since another program began to change its key. Tells page by page which key
 * of the record fits; puts them together in a new file when every page fits one. The database itself is never written to.
 */
#include <errno.h>

#include "client/adopt.h"
#include "client/change.h"
#include "client/key.h"
#include "client/lkmctl-version.h"
#include "common/clock.h"

struct salvage {
        struct each *each;
        const char *database;
        struct change change; /* its lock: no rotation is under way meanwhile */
        json_t *report;                         /* owned, as the rest */
        struct lkm_key *keys[REKEY_KEYS_MAX];   /* the current one first */
        size_t n_keys;
        struct table missing;                   /* versions whose key cannot be had, and why */
        struct table ranges;
        json_t *json_ranges;
};

static void salvage_deinit(struct salvage *s)
{
        for (size_t i = 0; i < s->n_keys; i++)
                lkm_key_free(&s->keys[i]);
        json_decref(s->report);
        json_decref(s->json_ranges);
        table_deinit(&s->missing);
        table_deinit(&s->ranges);
        change_end(&s->change);
}

static struct lkm *salvage_lkm(const struct salvage *s)
{
        return s->each->c->lkm;
}

/* ---- keys ---- */

static const char *state_of(const struct salvage *s, json_int_t number)
{
        json_t *version;
        size_t i;

        json_array_foreach(json_object_get(s->report, "versions"), i, version)
        {
                if (json_integer_value(json_object_get(version, "number")) == number)
                        return json_string_value(json_object_get(version, "state"));
        }
        return NULL;
}

/* One version's key, or the reason why there is none. */
static void load_one(struct salvage *s, json_int_t number)
{
        char text[32];
        int r;

        if (s->n_keys == ELEMENTSOF(s->keys))
                return;
        r = database_record_recover(salvage_lkm(s), &s->change.record, (uint32_t)number, &s->keys[s->n_keys]);
        if (r == 0) {
                s->n_keys++;
                return;
        }
        snprintf(text, sizeof(text), "%lld", (long long)number);
        table_add(&s->missing, (const char *[]){ text, lkm_error_message(salvage_lkm(s)) });
}

/* Every key that can be had. Only without the current one is there nothing to do. */
static int load_keys(struct salvage *s)
{
        json_int_t current;
        json_t *version;
        size_t i;
        int r = version_report(s->each->c, s->database, NULL, &s->report);

        if (r)
                return r;
        current = json_integer_value(json_object_get(s->report, "version"));
        r = database_record_recover(salvage_lkm(s), &s->change.record, (uint32_t)current, &s->keys[0]);
        if (r)
                return r;
        s->n_keys = 1;
        json_array_foreach(json_object_get(s->report, "versions"), i, version)
        {
                json_int_t number = json_integer_value(json_object_get(version, "number"));
                const char *state = json_string_value(json_object_get(version, "state"));

                if (number > 0 && number <= UINT32_MAX && number != current && !(state && strcmp(state, "destroyed") == 0))
                        load_one(s, number);
        }
        return 0;
}

/* ---- pages ---- */

/* "range FIRST LAST VERSION" */
static void on_line(void *userdata, const char *line)
{
        struct salvage *s = userdata;
        unsigned long long first, last, version;
        char pages[64], number[32];
        const char *state;

        if (sscanf(line, "range %llu %llu %llu", &first, &last, &version) != 3)
                return;
        snprintf(pages, sizeof(pages), first == last ? "%llu" : "%llu-%llu", first, last);
        snprintf(number, sizeof(number), "%llu", version);
        state = version ? state_of(s, (json_int_t)version) : "fits no key that was tried";
        table_add(&s->ranges, (const char *[]){ pages, version ? number : "-", state ? state : "-" });
        json_array_append_new(s->json_ranges, json_pack("{s:I, s:I, s:I}", "first", (json_int_t)first, "last", (json_int_t)last, "version", (json_int_t)version));
}

static int run(struct salvage *s, const char *command, const char *database, const char *target, size_t n_keys, struct worker_result *ret_result)
{
        struct worker_key keys[REKEY_KEYS_MAX];
        struct worker_task task = {
                .command = command,
                .database = database,
                .target = target,
                .timeout_msec = s->each->c->timeout_msec ? s->each->c->timeout_msec : ADOPT_WAIT_MSEC,
                .keys = keys,
                .n_keys = n_keys,
                .lock_fd = -1,
                .progress = adoption_progress,
                .line = target ? NULL : on_line,
                .userdata = s,
        };
        struct lkm_key_info info = { 0 };
        int r;

        for (size_t i = 0; i < n_keys; i++) {
                lkm_key_info(s->keys[i], &info);
                keys[i] = (struct worker_key){ .version = info.version, .key = key_secret(s->keys[i]) };
        }
        lkm_key_info(s->keys[0], &info);
        task.compatibility = info.cipher_compatibility;
        task.page_size = info.page_size;
        r = worker_run(&task, ret_result);
        return r ? adoption_worker_failed(salvage_lkm(s), r, ret_result) : 0;
}

/* ---- what to do ---- */

static bool has_journal(const char *database)
{
        _cleanup_(freep) char *path = NULL;

        if (asprintf(&path, "%s-journal", database) < 0)
                path = NULL;
        return path && access(path, F_OK) == 0;
}

/* How many pages fit key @i and no earlier one. */
static uint64_t fitting(const struct salvage *s, const struct worker_result *result, size_t i)
{
        struct lkm_key_info info;

        lkm_key_info(s->keys[i], &info);
        for (size_t k = 0; k < result->n_fits; k++) {
                if (result->fits[k].version == info.version)
                        return result->fits[k].pages;
        }
        return 0;
}

static void print_tables(const struct salvage *s, const struct worker_result *result)
{
        if (s->each->c->json)
                return;
        table_print(&s->ranges);
        printf("\n%llu pages", (unsigned long long)result->n_pages);
        if (result->n_zero_pages)
                printf(", of which %llu were never written and fit every key", (unsigned long long)result->n_zero_pages);
        puts("");
        for (size_t i = 0; i < s->missing.n_rows; i++)
                printf("Version %s was not tried: %s\n", s->missing.cells[2 * i], s->missing.cells[2 * i + 1]);
        if (has_journal(s->database))
                puts("A -journal lies beside the database. Whoever opens the database has SQLite roll it back, which may be the cure and cannot be undone: copy both "
                     "files first.");
        ctl_flush();
}

static json_t *report(const struct salvage *s, const struct worker_result *result)
{
        json_t *missing = json_array();

        for (size_t i = 0; i < s->missing.n_rows; i++)
                json_array_append_new(missing, json_pack("{s:I, s:o}", "version", (json_int_t)strtoull(s->missing.cells[2 * i], NULL, 10), "message",
                                                         json_text(s->missing.cells[2 * i + 1])));
        return json_pack("{s:I, s:I, s:I, s:O, s:o, s:b}", "pages", (json_int_t)result->n_pages, "zero_pages", (json_int_t)result->n_zero_pages, "unknown_pages",
                         (json_int_t)result->n_unknown_pages, "ranges", s->json_ranges, "missing", missing, "journal", has_journal(s->database));
}

/* The pages that fit no key are the end of it. */
static int refuse_unknown(const struct salvage *s, const struct worker_result *result)
{
        return error_set(salvage_lkm(s), LKM_E_MIXED,
                         "%llu of %llu pages fit no key that was tried%s. Nothing was touched. %s.", (unsigned long long)result->n_unknown_pages,
                         (unsigned long long)result->n_pages, s->missing.n_rows ? ", and not every version was" : "",
                         s->missing.n_rows ? "See to it that the others can be had, or restore a backup" : "Restore the database from a backup");
}

static void tell(const struct salvage *s, const struct worker_result *result)
{
        const uint64_t all = result->n_pages - result->n_zero_pages;
        const char *text = "every page fits one of the keys, though not all the same: lkmctl salvage --to NEW puts them together under the current one";

        if (fitting(s, result, 0) >= all)
                text = "every page fits the current key. Nothing has to be salvaged";
        for (size_t i = 1; i < s->n_keys && fitting(s, result, 0) < all; i++) {
                if (fitting(s, result, i) >= all)
                        text = "every page fits one key, but not the current one: the file is a copy of before a rotation. lkmctl salvage --to NEW makes one of it "
                               "that opens with the current key";
        }
        each_done(s->each, s->database, OUTCOME_LOOKED_AT, text, report(s, result));
}

/* ---- a new file ---- */

/* The record comes last: a database without one is never taken for whole. */
static int rebuild(struct salvage *s, const char *to)
{
        struct lkm *lkm = salvage_lkm(s);
        struct worker_result result;
        _cleanup_(freep) char *key_path = NULL, *text = NULL;
        bool is_there = access(to, F_OK) == 0;
        int r = 0;

        if (keyfile_path(&key_path, to) < 0)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        if (access(key_path, F_OK) == 0)
                return error_set(lkm, LKM_E_EXISTS, "%s is there already, and nothing is overwritten. Choose another name.", key_path);
        if (!is_there)
                r = run(s, "salvage", s->database, to, s->n_keys, &result);
        /* Another process looks at it; so it also is when an earlier call had come this far. */
        if (r == 0)
                r = run(s, "probe", to, NULL, 1, &result);
        if (r)
                return r;
        if (result.n_opens != 1)
                return error_set(lkm, is_there ? LKM_E_EXISTS : LKM_E_IO, "%s %s, and does not open with the current key. Choose another name.", to,
                                 is_there ? "is there already" : "was written");
        r = keyfile_create(key_path, (struct bytes){ s->change.record.data, s->change.record.n });
        if (r < 0)
                return error_set(lkm, r == -EEXIST ? LKM_E_EXISTS : LKM_E_IO, "cannot create %s: %s. %s itself is whole; repeat the command when that is put right.",
                                 key_path, strerror(-r), to);
        if (asprintf(&text, "put together in %s, with its record in %s.key. It opens with the current key; %s is as it was", to, to, s->database) < 0)
                text = NULL;
        each_done(s->each, s->database, OUTCOME_SALVAGED, text ? text : "put together", json_pack("{s:o, s:I}", "to", json_text(to), "pages", (json_int_t)result.n_pages));
        return 0;
}

static int salvage(struct salvage *s)
{
        struct worker_result result;
        struct lkm *lkm = salvage_lkm(s);
        int r = change_begin(lkm, s->database, clock_add(clock_boottime_usec(), lkm->timeout_usec), &s->change);

        if (r == 0)
                r = load_keys(s);
        if (r == 0)
                r = run(s, "salvage", s->database, NULL, s->n_keys, &result);
        if (r)
                return r;
        if (result.empty)
                return error_set(lkm, LKM_E_NOT_FOUND, "%s is not there, or empty. Restore it from a backup.", s->database);
        print_tables(s, &result);
        if (result.n_unknown_pages) {
                each_done(s->each, s->database, OUTCOME_LOOKED_AT, NULL, report(s, &result));
                return refuse_unknown(s, &result);
        }
        if (s->each->c->adopt.to)
                return rebuild(s, s->each->c->adopt.to);
        tell(s, &result);
        return 0;
}

static void salvage_step(struct each *e, const char *database)
{
        _cleanup_(salvage_deinit) struct salvage s = {
                .each = e, .database = database, .change = CHANGE_INIT, .missing = { .n_columns = 2 }, .ranges = { .n_columns = 3 }, .json_ranges = json_array()
        };
        int r;

        table_add(&s.ranges, (const char *[]){ "PAGES", "VERSION", "STATE" });
        r = salvage(&s);
        if (r)
                each_failed(e, database, r);
}

int command_salvage(struct ctl *c)
{
        return each_arguments(c, salvage_step);
}
