/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-kek: what an administrator asks about the KEKs. lkmd passes it on to lkm-kms. */
#include "client/lkmctl.h"
#include "common/clock.h"

enum { CHECK_SECONDS = 60 }; /* several calls of a KMS, one after the other; lkmd and lkm-kms have deadlines of their own */

/* Ask for a REPORT and show it as JSON, or leave it in *@ret_report for a table. */
static int kek_report(struct ctl *c, const union message *request, json_t **ret_report)
{
        int r = ctl_report(c, request, ret_report);

        return r == EXIT_CODE_OK && c->json ? ctl_print_json(json_incref(*ret_report)) : r;
}

static int exit_code_if(bool usable)
{
        return usable ? EXIT_CODE_OK : EXIT_CODE_KEK;
}

/* ---- list and describe ---- */

static bool all_usable(json_t *keks)
{
        json_t *kek;
        size_t i;

        json_array_foreach(keks, i, kek)
        {
                if (!json_is_true(json_object_get(kek, "usable")))
                        return false;
        }
        return true;
}

/* What stands against a KEK now; else what went wrong last, and when. */
static void show_last_error(char ret_text[SHOW_MAX], json_t *kek)
{
        const char *now = json_string_value(json_object_get(kek, "error")), *last = json_string_value(json_object_get(kek, "last_error"));
        const char *at = json_string_value(json_object_get(kek, "last_error_at"));

        if (now && *now)
                snprintf(ret_text, SHOW_MAX, "%s", now);
        else if (last && *last)
                snprintf(ret_text, SHOW_MAX, "(%s) %s", at ? at : "", last);
        else
                snprintf(ret_text, SHOW_MAX, "-");
}

static void list_print(json_t *keks)
{
        static const char *const titles[] = { "NAME", "TYPE", "USABLE", "SINCE", "KEK ID", "LAST ERROR" };
        static const char *const members[] = { "name", "type", "usable", "since", "kek_id" };
        _cleanup_(table_deinit) struct table table = { .n_columns = ELEMENTSOF(titles) };
        char texts[ELEMENTSOF(titles)][SHOW_MAX];
        const char *cells[ELEMENTSOF(titles)];
        json_t *kek;
        size_t i;

        table_add(&table, titles);
        json_array_foreach(keks, i, kek)
        {
                for (size_t k = 0; k < ELEMENTSOF(members); k++)
                        show_json(texts[k], json_object_get(kek, members[k]), SHOW_PLAIN);
                show_last_error(texts[ELEMENTSOF(members)], kek);
                for (size_t k = 0; k < ELEMENTSOF(titles); k++)
                        cells[k] = texts[k];
                table_add(&table, cells);
        }
        table_print(&table);
}

int command_kek_list(struct ctl *c)
{
        const union message request = { .kek_describe = { .number_ = MESSAGE_KEK_DESCRIBE } };
        _cleanup_(json_decref_p) json_t *report = NULL;
        int r = kek_report(c, &request, &report);

        if (r)
                return r;
        if (!c->json) {
                list_print(json_object_get(report, "keks"));
                r = ctl_flush();
        }
        return r ? r : exit_code_if(all_usable(json_object_get(report, "keks")));
}

static const struct {
        const char *label, *member;
} describe_lines[] = {
        { "name", "name" },       { "type", "type" },   { "KEK id", "kek_id" },         { "version", "version" },
        { "usable", "usable" },   { "since", "since" }, { "error", "error" },           { "note", "note" },
        { "last error", "last_error" }, { "last error at", "last_error_at" },
};

int command_kek_describe(struct ctl *c)
{
        const union message request = { .kek_describe = { .number_ = MESSAGE_KEK_DESCRIBE, .kek = bytes_from_string(c->arguments[0]) } };
        _cleanup_(json_decref_p) json_t *report = NULL;
        _cleanup_(table_deinit) struct table table = { .n_columns = 2 };
        int r = kek_report(c, &request, &report);
        json_t *kek;

        if (r)
                return r;
        kek = json_array_get(json_object_get(report, "keks"), 0);
        for (size_t i = 0; !c->json && i < ELEMENTSOF(describe_lines); i++) {
                json_t *value = json_object_get(kek, describe_lines[i].member);
                char text[SHOW_MAX];

                if (!value)
                        continue; /* an older daemon */
                show_json(text, value, SHOW_PLAIN);
                table_add(&table, (const char *[]){ describe_lines[i].label, text });
        }
        table_print(&table);
        r = ctl_flush();
        return r ? r : exit_code_if(json_is_true(json_object_get(kek, "usable")));
}

/* ---- check ---- */

static void check_print(json_t *report)
{
        static const char *const titles[] = { "STEP", "DONE", "MISSING PERMISSION", "ERROR" };
        _cleanup_(table_deinit) struct table table = { .n_columns = ELEMENTSOF(titles) };
        char kek[SHOW_MAX], id[SHOW_MAX], usable[SHOW_MAX];
        json_t *step;
        size_t i;

        show_json(kek, json_object_get(report, "kek"), SHOW_PLAIN);
        show_json(id, json_object_get(report, "kek_id"), SHOW_PLAIN);
        show_json(usable, json_object_get(report, "usable"), SHOW_PLAIN);
        table_add(&table, titles);
        json_array_foreach(json_object_get(report, "steps"), i, step)
        {
                char name[SHOW_MAX], done[SHOW_MAX], permission[SHOW_MAX], sentence[SHOW_MAX];

                show_json(name, json_object_get(step, "step"), SHOW_PLAIN);
                show_json(done, json_object_get(step, "done"), SHOW_PLAIN);
                show_json(permission, json_object_get(step, "permission"), SHOW_PLAIN);
                show_json(sentence, json_object_get(step, "sentence"), SHOW_PLAIN);
                table_add(&table, (const char *[]){ name, done, permission, sentence });
        }
        table_print(&table);
        printf("\nKEK %s (%s) %s\n", kek, id,
               json_is_true(json_object_get(report, "usable")) ? "does all that lkm needs" : "does not do all that lkm needs");
}

int command_kek_check(struct ctl *c)
{
        const union message request = { .kek_check = { .number_ = MESSAGE_KEK_CHECK, .kek = bytes_from_string(c->arguments[0]) } };
        _cleanup_(json_decref_p) json_t *report = NULL;
        int r;

        if (c->connect.timeout_msec == 0)
                c->lkm->timeout_usec = CHECK_SECONDS * USEC_PER_SEC;
        r = kek_report(c, &request, &report);
        if (r)
                return r;
        if (!c->json) {
                check_print(report);
                r = ctl_flush();
        }
        return r ? r : exit_code_if(json_is_true(json_object_get(report, "usable")));
}

/* ---- policy ---- */

int command_kek_policy(struct ctl *c)
{
        const union message request = { .kek_policy = { .number_ = MESSAGE_KEK_POLICY, .kek = bytes_from_string(c->arguments[0]) } };
        _cleanup_(json_decref_p) json_t *report = NULL;
        const char *policy;
        int r = kek_report(c, &request, &report);

        if (r || c->json)
                return r;
        policy = json_string_value(json_object_get(report, "policy"));
        if (!policy)
                return ctl_refuse(EXIT_CODE_FAILED, "the daemon's answer has no policy. Update the older of the two");
        fputs(policy, stdout);
        if (*policy && policy[strlen(policy) - 1] != '\n')
                putchar('\n');
        return ctl_flush();
}
