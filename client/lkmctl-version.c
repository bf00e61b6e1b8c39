/* SPDX-License-Identifier: Apache-2.0 */
/* Commands about the versions of a key that leave the database alone: history, purge, rewrap, rekek. */
#include "client/lkmctl-version.h"

#include <poll.h>
#include <signal.h>

#include "client/change.h"
#include "client/lkmctl-each.h"
#include "common/clock.h"

/* ---- what the report says ---- */

int version_report(struct ctl *c, const char *database, const char *scope, json_t **ret_report)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };
        _cleanup_(freep) char *text = NULL;
        union message request = { .check = { .number_ = MESSAGE_CHECK } };
        int r = database_record_read(c->lkm, database, &record);

        if (r)
                return r;
        request.check.record = (struct bytes){ record.data, record.n };
        if (scope)
                request.check.scope = bytes_from_string(scope);
        r = connection_report(c->lkm, &request, &text);
        if (r)
                return r;
        *ret_report = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        return *ret_report ? 0 : error_set_default(c->lkm, LKM_E_PROTOCOL);
}

json_int_t version_pending(json_t *report)
{
        json_t *version;
        size_t i;

        json_array_foreach(json_object_get(report, "versions"), i, version)
        {
                const char *state = json_string_value(json_object_get(version, "state"));

                if (state && strcmp(state, "pending") == 0)
                        return json_integer_value(json_object_get(version, "number"));
        }
        return 0;
}

void version_print(json_t *report, const char *database)
{
        static const char *const titles[] = { "VERSION", "STATE", "CREATED", "ENDED", "WRAPPED BY" };
        static const char *const members[] = { "number", "state", "created_at", "ended_at", "kek_ids" };
        _cleanup_(table_deinit) struct table table = { .n_columns = ELEMENTSOF(titles) };
        _cleanup_(freep) char *name = strdup(database);
        char texts[ELEMENTSOF(titles)][SHOW_MAX];
        const char *cells[ELEMENTSOF(titles)];
        json_t *version;
        size_t i;

        table_add(&table, titles);
        json_array_foreach(json_object_get(report, "versions"), i, version)
        {
                for (size_t k = 0; k < ELEMENTSOF(titles); k++) {
                        show_json(texts[k], json_object_get(version, members[k]), SHOW_PLAIN);
                        cells[k] = texts[k];
                }
                table_add(&table, cells);
        }
        table_print(&table);
        if (name)
                text_harmless(name);
        if (!version_pending(report) && json_is_true(json_object_get(report, "rotation_due")))
                printf("\nIts rotation is due: lkmctl rotate %s\n", name ? name : "DB");
        if (version_pending(report))
                printf("\nThe rotation to version %lld has not ended. If none is under way: lkmctl recover %s\n",
                       (long long)version_pending(report), name ? name : "DB");
}

int command_history(struct ctl *c)
{
        _cleanup_(json_decref_p) json_t *report = NULL;
        int r = version_report(c, c->arguments[0], NULL, &report);

        if (r)
                return ctl_fail(c, r);
        if (c->json)
                return ctl_print_json(json_pack("{s:O, s:O}", "database_id", json_object_get(report, "database_id"), "versions",
                                                json_object_get(report, "versions")));
        version_print(report, c->arguments[0]);
        return ctl_flush();
}

/* ---- changes of the record ---- */

/* Ask for the next record under the lock. @text: of the outcome, for people. */
static void change_step(struct each *e, const char *database, union message *request, enum outcome outcome, const char *text, json_t *detail)
{
        _cleanup_(change_end) struct change change = CHANGE_INIT;
        int r = change_begin(e->c->lkm, database, clock_add(clock_boottime_usec(), e->c->lkm->timeout_usec), &change);

        if (r == 0)
                r = change_ask(e->c->lkm, &change, request);
        if (r == 0) {
                each_done(e, database, outcome, text, detail);
                return;
        }
        json_decref(detail);
        each_failed(e, database, r);
}

static void rewrap_step(struct each *e, const char *database)
{
        union message request = { .rewrap = { .number_ = MESSAGE_REWRAP } };

        change_step(e, database, &request, OUTCOME_REWRAPPED, "its keys are wrapped under the newest versions of their KEKs", NULL);
}

int command_rewrap(struct ctl *c)
{
        return each_arguments(c, rewrap_step);
}

static void rekek_step(struct each *e, const char *database)
{
        union message request = { .rekek = { .number_ = MESSAGE_REKEK } };

        change_step(e, database, &request, OUTCOME_REWRAPPED, "its keys are wrapped under the KEKs that its scope has now", NULL);
}

int command_rekek(struct ctl *c)
{
        return each_arguments(c, rekek_step);
}

/* ---- purge ---- */

/* A line from the terminal that begins with y; Ctrl-C, the end of input and everything else mean no. */
static bool confirm(const char *database, uint32_t version)
{
        struct pollfd terminal = { .fd = STDIN_FILENO, .events = POLLIN };
        _cleanup_(freep) char *name = strdup(database);
        sigset_t all, before;
        char line[16];
        int r;

        if (name)
                text_harmless(name);
        fprintf(stderr, "Destroy version %u of the key of %s for good? Backups that were written under it can never be opened again. [y/N] ",
                (unsigned)version, name ? name : "this database");
        /* A signal comes before the question, or into the wait for the answer: never between the two. */
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, &before);
        r = each_is_cancelled() ? 0 : ppoll(&terminal, 1, NULL, &before);
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (r != 1 || each_is_cancelled() || !fgets(line, sizeof(line), stdin))
                return false;
        return line[0] == 'y' || line[0] == 'Y';
}

static void purge_step(struct each *e, const char *database)
{
        union message request = { .purge = { .number_ = MESSAGE_PURGE, .version = e->c->version } };
        char text[128];

        if (!e->c->force && !confirm(database, e->c->version)) {
                error_write(e->c->lkm, "not confirmed; nothing was changed.");
                each_failed(e, database, LKM_E_CANCELLED);
                return;
        }
        snprintf(text, sizeof(text), "version %u of its key is destroyed; backups that were written under it can never be opened again",
                 (unsigned)e->c->version);
        change_step(e, database, &request, OUTCOME_PURGED, text, json_pack("{s:I}", "version", (json_int_t)e->c->version));
}

int command_purge(struct ctl *c)
{
        if (!c->version)
                return ctl_refuse(EXIT_CODE_USAGE, "which version? Say --version N; `lkmctl history %s` lists them", c->arguments[0]);
        if (!c->force && !isatty(STDIN_FILENO))
                return ctl_refuse(EXIT_CODE_USAGE,
                                  "purge destroys a key: backups that were written under it can never be opened again. It asks on a terminal "
                                  "only; elsewhere say --force");
        return each_arguments(c, purge_step);
}
