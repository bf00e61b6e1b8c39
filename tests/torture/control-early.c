/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control-early: a rotation with lkm's own parts in a wrong order: the new key becomes the record's current one, and lkm-rekey runs afterwards. It
 * has to lose databases in the test that judges lkm_rotate(): this shows that that test's judge can say so.
 *
 *     control-early DATABASE
 */
#include <err.h>

#include "client/key.h"
#include "client/rotation.h"

static void must(struct rotation *n, int error)
{
        if (error)
                errx(99, "%s", lkm_error_message(n->lkm));
}

static void announce(struct rotation *n)
{
        union message answer, request = { .rotate = { .number_ = MESSAGE_ROTATE, .record = { n->record.data, n->record.n } } };
        bool written;

        must(n, connection_call(n->lkm, &request, MESSAGE_RECORD, &answer));
        n->pending_version = answer.record.pending;
        must(n, rotation_put(n, answer.record.record, &written));
        connection_settle(n->lkm);
}

/* rotation_work() looks for lkm-rekey beside this program. */
static void rekey(struct rotation *n)
{
        struct worker_key keys[] = { { .version = n->info.version, .key = key_secret(n->current) },
                                     { .version = n->pending_version, .key = key_secret(n->pending) } };
        struct worker_task task = { .program = LKM_REKEY, .command = "rekey", .database = n->path, .keys = keys, .n_keys = 2, .lock_fd = n->lock.fd };
        struct worker_result result;

        if (worker_run(&task, &result) != 0)
                errx(99, "%s", result.sentence);
}

int main(int argc, char **argv)
{
        _cleanup_(rotation_deinit) struct rotation n;
        struct lkm *lkm;

        if (argc != 2 || lkm_connect(&lkm, NULL))
                errx(99, "usage: control-early DATABASE, with lkmd running");
        rotation_init(&n, lkm, argv[1], NULL);
        must(&n, rotation_begin(&n, NULL));
        announce(&n);
        must(&n, rotation_get_pending(&n));
        must(&n, rotation_write_end(&n, LKM_RECOVERY_FINISHED));
        rekey(&n);
        return 0;
}
