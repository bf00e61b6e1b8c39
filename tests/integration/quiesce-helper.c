/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quiesce-helper: the rotator's half of leases inside liblkm, for the integration tests.
 *
 *     quiesce-helper DB    does what it reads: quiesce MSEC, resume; says what came of it
 */
#include <string.h>

#include "client/database.h"
#include "client/lease.h"

enum { LINE_MAX_BYTES = 128, NAMES_MAX_BYTES = 80 };

static void say(int error, const char *message)
{
        printf("%s %s\n", lkm_error_name(error), message);
        fflush(stdout);
}

static void quiesce(struct lkm *lkm, const struct database_record *record, uint32_t msec)
{
        struct lease_quiescence q = { 0 };
        char names[NAMES_MAX_BYTES];
        int r = lease_quiesce(lkm, record->data, record->n, msec, &q);

        if (r) {
                say(r, lkm_error_message(lkm));
                return;
        }
        lease_quiescence_format(names, sizeof(names), &q);
        printf("%s %zu %s\n", q.quiet ? "quiet" : "busy", q.n_holders, names);
        fflush(stdout);
        lease_quiescence_deinit(&q);
}

int main(int argc, char **argv)
{
        struct database_record record = { 0 };
        struct lkm *lkm = NULL;
        char line[LINE_MAX_BYTES];
        int r = argc == 2 ? lkm_connect(&lkm, NULL) : LKM_E_ARGUMENT;

        if (r == 0)
                r = database_record_read(lkm, argv[1], &record);
        say(r, r ? lkm_error_message(lkm) : "");
        while (r == 0 && fgets(line, sizeof(line), stdin)) {
                if (strncmp(line, "quiesce ", 8) == 0) {
                        quiesce(lkm, &record, (uint32_t)strtoul(line + 8, NULL, 10));
                } else {
                        r = lease_resume(lkm);
                        say(r, r ? lkm_error_message(lkm) : "");
                }
        }
        database_record_deinit(&record);
        lkm_free(&lkm);
        return r ? 1 : 0;
}
