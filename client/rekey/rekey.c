/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rekey: a database under a new key. sqlite3_rekey_v2() says that it succeeded whatever happened, and a connection that is used after it failed
 * mixes pages of both keys: so there is one connection for this alone, nobody else has one, nothing follows but its end and the end of the process,
 * and another process finds out what came of it.
 */
#include <errno.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/check.h"
#include "client/rekey/holders.h"
#include "client/rekey/meter.h"
#include "client/rekey/page.h"

#define CACHE_KIB 16384 /* pages that wait for the journal's sync; at SQLite's usual 2,000 pages there are many such syncs */

/* Nobody else reads or writes from here on; out of WAL; and a commit is on the disk, directory included, before it counts. */
static int prepare(struct handle *h)
{
        char cache[64];
        int r, code;

        /* Before the first read: in WAL mode the index is then in this process, and nobody gets between this and the end of WAL. */
        r = handle_set(h, "PRAGMA locking_mode = EXCLUSIVE", "exclusive");
        if (r)
                return r;
        code = handle_read(h);
        if (code != SQLITE_OK)
                return handle_refuse(h, code);
        r = handle_do(h, "PRAGMA wal_checkpoint(TRUNCATE)");
        if (r == 0)
                r = handle_set(h, "PRAGMA journal_mode = DELETE", "delete");
        if (r == 0)
                r = handle_do(h, "PRAGMA synchronous = EXTRA");
        if (r == 0)
                r = handle_set(h, "PRAGMA synchronous", "3");
        snprintf(cache, sizeof(cache), "PRAGMA cache_size = -%d", CACHE_KIB);
        if (r == 0)
                r = handle_do(h, cache);
        return r == 0 ? handle_do(h, "BEGIN EXCLUSIVE; COMMIT") : r;
}

/* Every page goes into the journal, with its number and a checksum, and then into the database. */
static int measure(struct handle *h, uint64_t *ret_total)
{
        _cleanup_(freep) char *pages = NULL;
        int r = handle_text(h, "PRAGMA page_count", &pages);

        if (r == 0)
                *ret_total = strtoull(pages, NULL, 10) * (2 * h->page_size + 8);
        return r;
}

static int refuse_failure(const struct work *work, int failure)
{
        if (failure == ENOSPC || failure == EDQUOT || failure == EFBIG)
                return answer_refuse(LKM_E_NO_SPACE, "The space beside %s did not suffice while its key was changed (%s). Free some, then ask again.",
                                     work->database, strerrordesc_np(failure));
        return answer_refuse(LKM_E_IO, "%s or its journal could not be written while its key was changed: %s. Check the disk, then ask again.",
                             work->database, strerrordesc_np(failure));
}

/* All that may fail while the database is still as it was. */
static int begin(struct handle *h, struct work *work, uint64_t *ret_total)
{
        unsigned compatibility;
        int r = check_database(work, false, &compatibility);

        if (r)
                return r;
        r = handle_open(h, work, work->path, work->keys[0].secret, compatibility, work->job.page_size, SQLITE_OPEN_READWRITE);
        if (r == 0)
                r = prepare(h);
        if (r == 0)
                r = measure(h, ret_total);
        if (r != LKM_E_BUSY)
                return r;
        /* Somebody came since they were looked for, or waits in WAL mode. */
        handle_deinit(h);
        return holders_refuse(work, NULL);
}

int rekey_run(struct work *work)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        uint64_t total = 0;
        int code, r;

        if (secret_equal(work->keys[0].secret, work->keys[1].secret))
                return answer_refuse(LKM_E_ARGUMENT, "The new key of %s is the one that it has. Ask for a new one.", work->database);
        r = begin(&h, work, &total);
        if (r)
                return r;
        meter_begin(total);
        code = handle_rekey(&h, work->keys[1].secret);
        handle_deinit(&h);
        if (meter_failure() != 0)
                return refuse_failure(work, meter_failure());
        if (code != SQLITE_OK)
                return answer_refuse(LKM_E_IO, "SQLCipher did not change the key of %s: %s. Check the disk, then ask again.", work->database,
                                     sqlite3_errstr(code));
        answer_progress_end(total, total);
        return 0;
}
