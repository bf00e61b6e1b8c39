/* SPDX-License-Identifier: Apache-2.0 */
/* report: the answers in JSON, for lkmctl and programs. PROTOCOL.md lists their members. */
#include <errno.h>
#include <jansson.h>

#include "common/clock.h"
#include "daemon/stages.h"

int request_report(struct request *r, void *json)
{
        union message answer = { .report = { .number_ = MESSAGE_REPORT } };
        _cleanup_(freep) char *text = json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

        json_decref(json);
        if (!text)
                return -ENOMEM;
        answer.report.json = bytes_from_string(text);
        return request_answer(r, &answer);
}

static json_t *json_count(uint64_t n)
{
        return json_integer((json_int_t)n);
}

static json_t *report_arena(void)
{
        static const char *const backings[] = { [SECRET_BACKING_NONE] = "none",
                                                [SECRET_BACKING_MEMFD_SECRET] = "memfd_secret",
                                                [SECRET_BACKING_MLOCK] = "mlock" };
        size_t small_used, small, large_used, large;

        secret_arena_usage(&small_used, &small, &large_used, &large);
        return json_pack("{s:s, s:I, s:I, s:I, s:I}", "backing", backings[secret_arena_backing()], "small_used",
                         (json_int_t)small_used, "small", (json_int_t)small, "large_used", (json_int_t)large_used, "large",
                         (json_int_t)large);
}

static json_t *report_cache(const struct lkmd *d)
{
        const struct cache_counters *n = cache_counters(d->cache);

        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "keys", json_count(cache_size(d->cache)), "capacity",
                         json_count(d->config->cache_keys), "hits", json_count(n->hits), "misses", json_count(n->misses), "stale",
                         json_count(n->stale), "evictions", json_count(n->evictions));
}

static json_t *report_kms(const struct lkmd *d)
{
        const struct kms_link_counters *n = kms_link_counters(d->kms);

        return json_pack("{s:s, s:b, s:s, s:o, s:o}", "socket", d->config->kms_socket, "connected", kms_link_is_connected(d->kms),
                         "last_error", kms_link_last_error(d->kms), "requests", json_count(n->requests), "failures",
                         json_count(n->failures));
}

static json_t *report_leases(const struct lkmd *d)
{
        return json_pack("{s:o, s:o, s:o}", "held", json_count(d->leases.n_leases), "databases", json_count(d->leases.n_databases),
                         "quiesced", json_count(d->leases.n_quiesced));
}

static json_t *report_stages(const struct lkmd *d)
{
        json_t *stages = json_object();

        for (unsigned i = 0; i < STAGE_COUNT; i++)
                json_object_set_new(stages, stage_text((enum stage_name)i), json_count(d->stages[i]));
        return stages;
}

static json_t *report_scopes(const struct lkmd *d)
{
        json_t *scopes = json_array();

        for (size_t i = 0; i < d->config->n_scopes; i++)
                json_array_append_new(scopes, json_string(d->config->scopes[i].name));
        return scopes;
}

int report_status(struct request *r)
{
        const struct lkmd *d = r->daemon;
        uint64_t uptime = (r->now_usec - d->started_usec) / USEC_PER_SEC;

        return request_report(
                r, json_pack("{s:s, s:i, s:i, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "version",
                             LKM_VERSION, "protocol", PROTOCOL_VERSION_MAX, "pid", (int)r->daemon->pid, "uptime_seconds",
                             json_count(uptime), "locked", d->locked, "reload_failed", d->reload_failed, "arena", report_arena(),
                             "cache", report_cache(d), "flights", json_count(d->n_flights), "connections",
                             json_count(d->usage.n_connections), "kms", report_kms(d), "audit", auditing_report(d, r->now_usec),
                             "leases", report_leases(d), "users", turn_report(d), "sockets", listeners_report(d), "sandbox", sandbox_report(&d->sandbox), "stages", report_stages(d), "scopes", report_scopes(d), "configuration", d->config_path));
}

/* ---- LIST ---- */

enum { LIST_PAGE = 256 };

struct listing {
        const struct request *request;
        json_t *keys;
        bool started, more;
};

static double seconds_until(uint64_t deadline, uint64_t now)
{
        return deadline > now ? (double)(deadline - now) / (double)USEC_PER_SEC : 0;
}

static bool list_visit(void *userdata, struct cache_entry *entry)
{
        struct listing *l = userdata;
        const uint8_t *after = l->request->message->list.after;
        uint64_t now = l->request->now_usec;
        char id[UUID_TEXT_LENGTH + 1];

        if (!l->started) {
                l->started = bytes_equal((struct bytes){ entry->database_id, UUID_SIZE }, (struct bytes){ after, UUID_SIZE });
                return true;
        }
        if (json_array_size(l->keys) == LIST_PAGE) {
                l->more = true;
                return false;
        }
        uuid_format(id, entry->database_id);
        json_array_append_new(
                l->keys, json_pack("{s:s, s:s, s:I, s:f, s:f, s:f, s:I}", "database_id", id, "scope", entry->scope, "version",
                                   (json_int_t)entry->version, "age_seconds", seconds_until(now, entry->unwrapped_at_usec),
                                   "fresh_seconds", seconds_until(entry->fresh_until_usec, now), "wiped_in_seconds",
                                   seconds_until(entry->wipe_at_usec, now), "uses", (json_int_t)entry->uses));
        return true;
}

int report_list(struct request *r)
{
        struct listing l = { .request = r, .keys = json_array(), .started = !r->message->list.after };

        cache_each(r->daemon->cache, list_visit, &l);
        return request_report(r, json_pack("{s:o, s:b}", "keys", l.keys, "more", l.more));
}

/* ---- CHECK ---- */

static json_t *report_version(const struct record_version *v)
{
        json_t *ids = json_array();
        char created[CLOCK_TEXT_LENGTH + 1], ended[CLOCK_TEXT_LENGTH + 1];

        for (size_t i = 0; i < v->n_wraps; i++)
                json_array_append_new(ids, json_string(v->wraps[i].kek_id));
        clock_format(created, v->created_at_usec);
        clock_format(ended, v->ended_at_usec);
        return json_pack("{s:I, s:s, s:s, s:s?, s:o}", "number", (json_int_t)v->number, "state", record_state_text(v->state), "created_at",
                         created, "ended_at", v->ended_at_usec ? ended : NULL, "kek_ids", ids);
}

int report_check(struct request *r)
{
        json_t *versions = json_array();
        char id[UUID_TEXT_LENGTH + 1];
        bool due = r->entry && r->entry->rotation_due_usec != USEC_INFINITY && clock_wall_usec() >= r->entry->rotation_due_usec;

        for (size_t i = 0; i < r->record->n_versions; i++)
                json_array_append_new(versions, report_version(&r->record->versions[i]));
        uuid_format(id, r->record->database_id);
        return request_report(r, json_pack("{s:s, s:s, s:s*, s:i, s:I, s:o, s:b, s:b, s:b}", "database_id", id, "scope",
                                           r->record->scope, "label", *r->record->label ? r->record->label : NULL, "format", (int)r->record->format, "version",
                                           (json_int_t)record_current(r->record)->number, "versions", versions, "rotation_due", due,
                                           "verified", true, "stale", r->stale));
}

/* ---- KEK_DESCRIBE, KEK_CHECK, KEK_POLICY: the KMS worker's own report ---- */

int report_question(struct request *r)
{
        const struct question *q = r->question;
        union message answer = { .report = { .number_ = MESSAGE_REPORT, .json = q->json } };

        return q->error ? request_refuse(r, flight_refusal(q->error), q->sentence) : request_answer(r, &answer);
}

/* ---- QUIESCE ---- */

enum { HOLDERS_MAX = 256 };

struct holders {
        json_t *list;
        bool more;
};

static bool report_holder(void *userdata, const struct peer *peer, bool yielded)
{
        struct holders *h = userdata;

        h->more = json_array_size(h->list) == HOLDERS_MAX;
        if (!h->more)
                json_array_append_new(h->list, json_pack("{s:I, s:I, s:I, s:b}", "uid", (json_int_t)peer->uid, "gid",
                                                         (json_int_t)peer->gid, "pid", (json_int_t)peer->pid, "yielded", yielded));
        return !h->more;
}

int report_quiesce(struct request *r)
{
        struct holders h = { 0 };
        bool quiet;

        if (!r->connection)
                return STAGE_DONE;
        quiet = lease_is_quiet(&r->connection->leases);
        if (!quiet && r->daemon->draining)
                return request_refuse(r, PROTO_ERROR_SHUTTING_DOWN, NULL);
        h.list = json_array();
        lease_each(&r->connection->leases, report_holder, &h);
        return request_report(r, json_pack("{s:b, s:o, s:b}", "quiet", quiet, "holders", h.list, "more", h.more));
}
