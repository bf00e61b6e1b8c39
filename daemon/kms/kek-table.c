/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/kek-table.h"

#include <errno.h>
#include <jansson.h>

#include "common/clock.h"
#include "common/log.h"

/* Log what changed: an unusable KEK that stays so for the same reason is not logged again, whatever numbers its sentence holds. */
static void entry_changed(struct kek_entry *entry, bool was_usable, bool is_news)
{
        bool is_usable = *entry->why.text == '\0';

        if (is_usable && !was_usable)
                log_notice("KEK %s can be used again", entry->config->name);
        else if (!is_usable && (was_usable || is_news))
                log_error("KEK %s cannot be used: %s", entry->config->name, entry->why.text);
        if (is_usable != was_usable || entry->since_wall_usec == 0)
                entry->since_wall_usec = clock_wall_usec();
}

static void entry_failed(struct kek_entry *entry, enum proto_error class)
{
        entry->class = class;
        entry->last_error = entry->why;
        entry->last_error_wall_usec = clock_wall_usec();
}

static bool entry_load(struct kek_table *t, struct kek_entry *entry)
{
        struct sentence before = entry->why;
        int r = entry->provider->kek_new(&entry->kek, entry->config, t->environment, &entry->why);

        if (r == 0)
                *entry->why.text = '\0';
        else
                entry_failed(entry, PROTO_ERROR_NONE);
        entry_changed(entry, *before.text == '\0', strcmp(before.text, entry->why.text) != 0);
        return r == 0;
}

void kek_entry_note(struct kek_entry *entry, enum proto_error error, const char *sentence)
{
        bool was_usable = *entry->why.text == '\0', is_news = error != entry->class;

        switch (error) {
        case PROTO_ERROR_KMS_CORRUPT:
        case PROTO_ERROR_KMS_NOT_MINE:
        case PROTO_ERROR_PROTOCOL:
        case PROTO_ERROR_INTERNAL:
                return;
        case PROTO_ERROR_NONE:
                *entry->why.text = '\0';
                entry->class = PROTO_ERROR_NONE;
                break;
        default:
                sentence_set(&entry->why, "%s", sentence ? sentence : proto_error_sentence(error));
                entry_failed(entry, error);
        }
        entry_changed(entry, was_usable, is_news);
}

int kek_table_new(struct kek_table **ret_table, struct config *config, const struct kms_environment *environment)
{
        struct kek_table *t = calloc(1, sizeof(*t) + config->n_keks * sizeof(t->entries[0]));

        if (!t)
                return -ENOMEM;
        t->n_refs = 1;
        t->config = config_ref(config);
        t->environment = environment;
        t->n = config->n_keks;
        for (size_t i = 0; i < t->n; i++) {
                t->entries[i].config = &config->keks[i];
                t->entries[i].provider = provider_find(config->keks[i].kms_type);
                entry_load(t, &t->entries[i]);
        }
        *ret_table = t;
        return 0;
}

struct kek_table *kek_table_ref(struct kek_table *t)
{
        t->n_refs++;
        return t;
}

struct kek_table *kek_table_unref(struct kek_table *t)
{
        if (!t || --t->n_refs > 0)
                return NULL;
        for (size_t i = 0; i < t->n; i++)
                if (t->entries[i].kek)
                        t->entries[i].provider->kek_free(t->entries[i].kek);
        config_unref(t->config);
        free(t);
        return NULL;
}

struct kek_entry *kek_table_find(struct kek_table *t, struct bytes name)
{
        for (size_t i = 0; i < t->n; i++)
                if (bytes_equal(bytes_from_string(t->entries[i].config->name), name))
                        return &t->entries[i];
        return NULL;
}

bool kek_table_retry(struct kek_table *t, struct kek_entry *entry)
{
        return entry->kek || entry_load(t, entry);
}

static json_t *entry_json(const struct kek_entry *entry)
{
        struct provider_description description = { .kek_id = "" };
        char since[CLOCK_TEXT_LENGTH + 1], last[CLOCK_TEXT_LENGTH + 1] = "";
        const char *why = entry->why.text;

        if (entry->kek)
                entry->provider->describe(entry->kek, &description);
        if (!*why && description.why)
                why = description.why;
        clock_format(since, entry->since_wall_usec);
        if (entry->last_error_wall_usec)
                clock_format(last, entry->last_error_wall_usec);
        return json_pack("{s:s, s:s, s:s, s:I, s:b, s:s, s:s, s:s, s:s, s:s}", "name", entry->config->name, "type",
                         kms_type_text(entry->config->kms_type), "kek_id", description.kek_id, "version",
                         (json_int_t)description.version, "usable", entry->kek && !*why, "since", since, "error", why, "note", description.note ? description.note : "",
                         "last_error", entry->last_error.text, "last_error_at", last);
}

char *kek_table_json(const struct kek_table *t, const struct kek_entry *only)
{
        json_t *keks = json_array(), *report = json_pack("{s:o}", "keks", keks);
        char *text = NULL;

        for (size_t i = 0; report && i < t->n; i++)
                if ((!only || only == &t->entries[i]) && json_array_append_new(keks, entry_json(&t->entries[i])) < 0) {
                        json_decref(report);
                        return NULL;
                }
        if (report)
                text = json_dumps(report, JSON_COMPACT);
        json_decref(report);
        return text;
}
