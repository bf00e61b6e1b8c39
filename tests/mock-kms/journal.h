/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal: what was asked of this server: counters, and the last requests by a line each. It never sees a body or a
 * header. Requests to /mock/ do not count.
 */
#pragma once

#include "tests/mock-kms/text.h"

struct journal {
        json_t *counters; /* service: operation: status: how often */
        json_t *lines;
        json_t *ids; /* of each line: the request id that its answer had, "" for none */
        uint64_t n_requests, n_connections;
        unsigned in_flight, in_flight_max;
};

void journal_init(struct journal *j);
void journal_deinit(struct journal *j);
/** journal_clear() - forget everything but what is in flight. */
void journal_clear(struct journal *j);
void journal_begin(struct journal *j);
/** journal_end() - @status: 0 when no answer was given. @fault: or NULL. @id: the request id in the answer, or "". */
void journal_end(struct journal *j, const char *service, const char *operation, const char *region, int status,
                 const char *fault, const char *id);
/** journal_report() - a new reference, for GET /mock/log. */
json_t *journal_report(const struct journal *j);
