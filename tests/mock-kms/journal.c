/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/journal.h"

enum { LINES_MAX = 200 };

void journal_init(struct journal *j)
{
        *j = (struct journal){ .counters = json_take(json_object()), .lines = json_take(json_array()), .ids = json_take(json_array()) };
}

void journal_deinit(struct journal *j)
{
        json_decref(j->counters);
        json_decref(j->lines);
        json_decref(j->ids);
}

void journal_clear(struct journal *j)
{
        unsigned in_flight = j->in_flight;

        journal_deinit(j);
        journal_init(j);
        j->in_flight = j->in_flight_max = in_flight;
}

void journal_begin(struct journal *j)
{
        if (++j->in_flight > j->in_flight_max)
                j->in_flight_max = j->in_flight;
}

static json_t *member(json_t *object, const char *name)
{
        if (!json_object_get(object, name))
                json_put(object, name, json_object());
        return json_object_get(object, name);
}

void journal_end(struct journal *j, const char *service, const char *operation, const char *region, int status,
                 const char *fault, const char *id)
{
        json_t *of_operation = member(member(j->counters, service), operation);
        _cleanup_(freep) char *key = text_format("%d", status);
        _cleanup_(freep) char *line = text_format("%s %s%s%s %d%s%s", service, operation, *region ? " " : "", region,
                                                  status, fault ? " " : "", fault ? fault : "");

        j->in_flight--;
        j->n_requests++;
        json_put(of_operation, key, json_integer(json_number(of_operation, key, 0) + 1));
        if (json_array_size(j->lines) == LINES_MAX) {
                json_array_remove(j->lines, 0);
                json_array_remove(j->ids, 0);
        }
        if (json_array_append_new(j->lines, json_take(json_string(line))) < 0 || json_array_append_new(j->ids, json_take(json_string(id))) < 0)
                abort();
}

json_t *journal_report(const struct journal *j)
{
        return json_take(json_pack("{s:I, s:I, s:I, s:I, s:O, s:O, s:O}", "requests", (json_int_t)j->n_requests,
                                   "connections", (json_int_t)j->n_connections, "in_flight", (json_int_t)j->in_flight,
                                   "in_flight_max", (json_int_t)j->in_flight_max, "counters", j->counters, "last",
                                   j->lines, "request_ids", j->ids));
}
