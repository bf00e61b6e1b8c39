/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order is everything. Until the record with both keys is on the disk, nothing has changed. From then on the record has the key that opens
 * the database, whichever it is, and whatever fails is ended by the same three steps: get both keys, prove which one opens, write that down. They
 * are all that lkm_recover() is. The lock of the .key is held from the first look at the record to the last, and by lkm-rekey beyond our own end.
 */
#include "client/rotate.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "client/lease.h"
#include "client/rotation.h"
#include "common/clock.h"

enum {
        LOCK_MSEC_MIN = 1000,   /* for somebody who just reads a page */
        ROTATE_RESTORE_WAL = 1, /* flag of ROTATE */
};

/* ---- a new rotation ---- */

static int refuse_absent(struct rotation *n)
{
        struct stat status;

        if (stat(n->path, &status) == 0)
                return 0;
        if (errno != ENOENT)
                return database_path_error(n->lkm, "look at", n->path, -errno);
        return error_set(n->lkm, LKM_E_NOT_FOUND, "there is no database %s, only its .key. There is nothing to rotate until it is created or restored.",
                         n->path);
}

/* What lkm-rekey would refuse later. Those who have the database open may be holders of leases, and are asked first. */
static int rotation_check(struct rotation *n)
{
        struct worker_result result;
        int r = refuse_absent(n);

        if (r == 0 && *n->info.cipher_library && strcmp(n->info.cipher_library, "sqlcipher") != 0)
                r = error_set(n->lkm, LKM_E_CIPHER_VERSION, "%s was written by the library %s, not by SQLCipher, and lkm re-encrypts no other.",
                              n->path, n->info.cipher_library);
        if (r == 0)
                r = rotation_may_write(n);
        if (r == 0)
                r = rotation_enter(n, LKM_PHASE_CHECK);
        if (r)
                return r;
        r = rotation_work(n, "check", REKEY_IGNORE_OPEN, 0, &result);
        n->others = result.n_holders > 0 || r == LKM_E_BUSY;
        n->wal = strcmp(result.mode, "wal") == 0;
        return r == LKM_E_BUSY ? 0 : r;
}

static int refuse_leases(struct rotation *n, const struct lease_quiescence *q)
{
        char who[512];

        lease_quiescence_format(who, sizeof(who), q);
        return error_set(n->lkm, LKM_E_BUSY, "%s: asked to close %s for its rotation, and did not in time. Let it end what it does, then rotate again.",
                         who, n->path);
}

static uint32_t msec_until(uint64_t deadline_usec)
{
        uint64_t now = clock_boottime_usec();

        return now >= deadline_usec ? 0 : (uint32_t)((deadline_usec - now) / USEC_PER_MSEC);
}

static int rotation_wait_for_leases(struct rotation *n, uint64_t deadline_usec)
{
        for (;;) {
                _cleanup_(lease_quiescence_deinit) struct lease_quiescence q = { 0 };
                uint32_t left = msec_until(deadline_usec);
                int r = lease_quiesce(n->lkm, n->record.data, n->record.n, left < ROTATION_PIECE_MSEC ? left : ROTATION_PIECE_MSEC, &q);

                if (r == LKM_E_UNSUPPORTED)
                        return 0; /* a daemon without leases: nobody has one */
                if (r)
                        return r;
                n->quiesced = true;
                if (q.quiet)
                        return 0;
                r = rotation_tell(n, 0, 0);
                if (r)
                        return r;
                if (left == 0)
                        return refuse_leases(n, &q);
        }
}

/* Holders of leases close, new ones wait; then nobody else may have the database open. */
static int rotation_quiesce(struct rotation *n)
{
        uint64_t deadline = clock_add(clock_boottime_usec(), n->options.timeout_msec * USEC_PER_MSEC);
        struct worker_result result;
        int r = rotation_enter(n, LKM_PHASE_QUIESCE);

        if (r == 0)
                r = rotation_wait_for_leases(n, deadline);
        while (r == 0 && n->others) {
                uint32_t left = msec_until(deadline);

                r = rotation_work(n, "check", 0, left < ROTATION_PIECE_MSEC ? left : ROTATION_PIECE_MSEC, &result);
                n->wal = strcmp(result.mode, "wal") == 0;
                n->others = r == LKM_E_BUSY;
                if (r == LKM_E_BUSY && left > 0) {
                        r = rotation_tell(n, 0, 0);
                        poll(NULL, 0, (int)(left < ROTATION_PIECE_MSEC ? left : ROTATION_PIECE_MSEC));
                }
        }
        return r;
}

static void failure_keep(struct rotation *n, int error)
{
        n->error = error;
        snprintf(n->sentence, sizeof(n->sentence), "%s", n->lkm->message);
}

/* Nothing has touched the database yet: the old key is its key without a proof. Return: @error, or what is worse. */
static int rotation_withdraw(struct rotation *n, int error)
{
        int r;

        failure_keep(n, error);
        r = rotation_write_end(n, LKM_RECOVERY_UNDONE);
        return r ? r : error_set(n->lkm, n->error, "%s", n->sentence);
}

/* ROTATE, and the record with both keys on the disk before anything happens to the database. */
static int rotation_announce(struct rotation *n)
{
        union message request = { .rotate = { .number_ = MESSAGE_ROTATE,
                                              .record = { n->record.data, n->record.n },
                                              .flags = n->wal ? ROTATE_RESTORE_WAL : 0 } };
        union message answer;
        bool written;
        int r = connection_call(n->lkm, &request, MESSAGE_RECORD, &answer);

        if (r)
                return r;
        if (answer.record.pending == 0) {
                connection_settle(n->lkm);
                return error_set_default(n->lkm, LKM_E_PROTOCOL);
        }
        n->pending_version = answer.record.pending;
        r = rotation_put(n, answer.record.record, &written);
        connection_settle(n->lkm);
        /* Nothing may be built upon a record that may be gone. */
        return r && written ? rotation_withdraw(n, r) : r;
}

/* The two keys as the new record has them. */
static int rotation_get_both(struct rotation *n)
{
        uint32_t announced = n->pending_version;
        int r = rotation_get_current(n, NULL);

        if (r == 0 && n->pending_version != announced)
                r = error_set_default(n->lkm, LKM_E_PROTOCOL);
        n->pending_version = announced;
        if (r == 0)
                r = database_record_get(n->lkm, &n->record, &n->lock, NULL, announced, &n->pending);
        if (r == 0)
                r = rotation_tell(n, 0, 0);
        return r ? rotation_withdraw(n, r) : 0;
}

/* From here on only a proof counts. What lkm-rekey says, and that it was cancelled, matters when the old key is proved. */
static int rotation_rekey(struct rotation *n)
{
        enum lkm_recovery end;
        struct worker_result result;
        int r = rotation_enter(n, LKM_PHASE_REKEY);

        if (r)
                return rotation_withdraw(n, r);
        r = rotation_work(n, "rekey", 0, n->options.timeout_msec < LOCK_MSEC_MIN ? LOCK_MSEC_MIN : n->options.timeout_msec, &result);
        if (r == 0)
                error_write(n->lkm, "SQLCipher said that %s was re-encrypted, and it was not. Check the disk, then rotate again.", n->path);
        failure_keep(n, r ? r : LKM_E_IO);
        n->cancellable = false;
        r = rotation_prove(n, &end);
        if (r == 0)
                r = rotation_write_end(n, end);
        if (r || end == LKM_RECOVERY_FINISHED)
                return r;
        return error_set(n->lkm, n->error, "%s", n->sentence);
}

static int rotation_end_interrupted(struct rotation *n)
{
        enum lkm_recovery end;
        int r;

        if (!n->pending_version)
                return 0;
        n->preparing = true;
        r = rotation_recover(n, &end);
        n->preparing = false;
        n->cancellable = true;
        lkm_key_free(&n->pending);
        return r ? r : rotation_get_current(n, NULL);
}

int lkm_rotate(struct lkm *lkm, const char *database_path, const struct lkm_rotate_options *options)
{
        _cleanup_(rotation_deinit) struct rotation n;
        int r;

        rotation_init(&n, lkm, database_path, options);
        r = rotation_begin(&n, NULL);
        if (r == 0)
                r = rotation_end_interrupted(&n);
        if (r == 0)
                r = rotation_check(&n);
        if (r == 0)
                r = rotation_quiesce(&n);
        if (r == 0)
                r = rotation_announce(&n);
        if (r == 0)
                r = rotation_get_both(&n);
        return r ? r : rotation_rekey(&n);
}

/* ---- one that was interrupted ---- */

int lkm_recover(struct lkm *lkm, const char *database_path, const struct lkm_rotate_options *options, enum lkm_recovery *ret_recovery)
{
        _cleanup_(rotation_deinit) struct rotation n;
        enum lkm_recovery end = LKM_RECOVERY_NOTHING;
        int r;

        rotation_init(&n, lkm, database_path, options);
        r = rotation_look(&n, NULL);
        /* Without one there is nothing to wait for. */
        if (r == 0 && n.pending_version)
                r = rotation_begin(&n, NULL);
        if (r == 0 && n.pending_version)
                r = rotation_recover(&n, &end);
        if (r == 0 && ret_recovery)
                *ret_recovery = end;
        return r;
}

static int refuse_unended(struct rotation *n)
{
        char why[ERROR_MESSAGE_MAX];
        struct stat status = { 0 };

        snprintf(why, sizeof(why), "%s", n->lkm->message);
        (void)fstat(n->lock.fd, &status);
        return error_set(n->lkm, LKM_E_ROTATION_IN_PROGRESS,
                         "a rotation of %s was interrupted, and this user may not end it: %s Let user %u, to whom it belongs, run `lkmctl recover %s`; "
                         "`allow_rotate` of the scope %s has to admit that user.",
                         n->path, why, (unsigned)status.st_uid, n->path, n->info.scope);
}

int rotate_load(struct lkm *lkm, const char *database_path, const char *scope, struct lkm_key **ret_key)
{
        struct lkm_rotate_options options = { .timeout_msec = (uint32_t)(lkm->timeout_usec / USEC_PER_MSEC) };
        _cleanup_(rotation_deinit) struct rotation n;
        int r;

        rotation_init(&n, lkm, database_path, &options);
        r = rotation_begin(&n, scope);
        if (r == 0 && n.pending_version && rotation_may_write(&n) != 0)
                return refuse_unended(&n);
        if (r == 0)
                r = rotation_end_interrupted(&n);
        if (r == LKM_E_DENIED && n.pending_version)
                return refuse_unended(&n);
        if (r == 0)
                *ret_key = TAKE_PTR(n.current);
        return r;
}
