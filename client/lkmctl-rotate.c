/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-rotate: new keys for databases: rotate, rotate --due, recover. */
#include <sys/stat.h>

#include "client/lkmctl-each.h"
#include "client/lkmctl-progress.h"
#include "client/lkmctl-version.h"
#include "client/lkmctl-walk.h"

/* ---- recover ---- */

/* End an interrupted rotation, and tell how. @ret_recovery: untouched on failure. Return: false when that failed. */
static bool recover(struct each *e, const char *database, enum lkm_recovery *ret_recovery)
{
        struct progress progress;
        struct lkm_rotate_options options = { .progress = progress_callback, .userdata = &progress, .timeout_msec = e->c->timeout_msec };
        int r;

        progress_begin(&progress, e->c, database);
        r = lkm_recover(e->c->lkm, database, &options, ret_recovery);
        progress_end(&progress);
        if (r)
                each_failed(e, database, r);
        else if (*ret_recovery == LKM_RECOVERY_FINISHED)
                each_done(e, database, OUTCOME_FINISHED, "the interrupted rotation is finished: the new key is the database's", NULL);
        else if (*ret_recovery == LKM_RECOVERY_UNDONE)
                each_done(e, database, OUTCOME_UNDONE, "the interrupted rotation is undone: the old key still is the database's", NULL);
        return r == 0;
}

static void recover_step(struct each *e, const char *database)
{
        enum lkm_recovery recovery = LKM_RECOVERY_NOTHING;

        if (recover(e, database, &recovery) && recovery == LKM_RECOVERY_NOTHING)
                each_done(e, database, OUTCOME_NOTHING, "no rotation was interrupted; nothing had to be done", NULL);
}

int command_recover(struct ctl *c)
{
        return each_arguments(c, recover_step);
}

/* ---- rotate ---- */

/* "rotated to version 2: 100.0 MiB in 1.4 s" */
static void rotated(struct each *e, const char *database, double seconds)
{
        _cleanup_(json_decref_p) json_t *report = NULL;
        struct stat status = { 0 };
        json_int_t version = 0;
        char text[128], number[32] = "", bytes[BYTES_TEXT_MAX];

        /* It is done, whether or not the number and the size can be had. */
        if (version_report(e->c, database, NULL, &report) == 0)
                version = json_integer_value(json_object_get(report, "version"));
        if (version)
                snprintf(number, sizeof(number), " to version %lld", (long long)version);
        stat(database, &status);
        format_bytes(bytes, (double)status.st_size);
        snprintf(text, sizeof(text), "rotated%s: %s in %.1f s", number, bytes, seconds);
        each_done(e, database, OUTCOME_ROTATED, text,
                  json_pack("{s:I, s:I, s:f}", "version", version, "bytes", (json_int_t)status.st_size, "seconds", seconds));
}

static void rotate_step(struct each *e, const char *database)
{
        struct progress progress;
        struct lkm_rotate_options options = { .progress = progress_callback, .userdata = &progress, .timeout_msec = e->c->timeout_msec };
        double seconds;
        int r;

        progress_begin(&progress, e->c, database);
        r = lkm_rotate(e->c->lkm, database, &options);
        seconds = progress_end(&progress);
        if (r)
                each_failed(e, database, r);
        else
                rotated(e, database, seconds);
}

/* ---- rotate --due ---- */

/* Rotate what is due, after an interrupted rotation was ended. */
static void due_step(struct each *e, const char *database)
{
        enum lkm_recovery recovery = LKM_RECOVERY_NOTHING;
        _cleanup_(json_decref_p) json_t *report = NULL;
        int r = version_report(e->c, database, NULL, &report);

        if (r == 0 && version_pending(report)) {
                if (!recover(e, database, &recovery))
                        return;
                json_decref(TAKE_PTR(report));
                r = version_report(e->c, database, NULL, &report);
        }
        if (r)
                each_failed(e, database, r);
        else if (json_is_true(json_object_get(report, "rotation_due")))
                rotate_step(e, database);
        else if (recovery == LKM_RECOVERY_NOTHING)
                each_done(e, database, OUTCOME_NOTHING, NULL, NULL);
}

static int due_found(void *userdata, const char *database)
{
        each_database(userdata, database);
        return each_is_cancelled();
}

static int rotate_due(struct ctl *c)
{
        struct each e;

        if (c->n_arguments == 0)
                return ctl_refuse(EXIT_CODE_USAGE, "rotate --due looks into the folders that you name, for example: lkmctl rotate --due /var/lib/clinic");
        each_begin(&e, c, due_step);
        for (int i = 0; i < c->n_arguments && !each_is_cancelled(); i++) {
                int r = walk_databases(c->arguments[i], due_found, &e);

                if (r < 0)
                        each_refuse(&e, c->arguments[i], EXIT_CODE_FAILED, strerror(-r));
        }
        return each_end(&e, true);
}

int command_rotate(struct ctl *c)
{
        if (c->due)
                return rotate_due(c);
        if (c->n_arguments == 0)
                return ctl_refuse(EXIT_CODE_USAGE, "which databases? For example: lkmctl rotate patients.db");
        return each_arguments(c, rotate_step);
}
