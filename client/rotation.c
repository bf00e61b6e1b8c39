/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rotation.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "client/key.h"
#include "client/lease.h"
#include "common/clock.h"

enum { WAIT_MSEC = 10000 };

/* The answer comes all the same: a cancellation waits for it. */
static void rotation_waiting(void *userdata)
{
        (void)rotation_tell(userdata, 0, 0);
}

void rotation_init(struct rotation *n, struct lkm *lkm, const char *database_path, const struct lkm_rotate_options *options)
{
        *n = (struct rotation){ .lkm = lkm, .path = database_path, .phase = LKM_PHASE_CHECK, .cancellable = true, .lock = KEYFILE_LOCK_INIT };
        if (options)
                n->options = *options;
        if (n->options.timeout_msec == 0)
                n->options.timeout_msec = WAIT_MSEC;
        if (lkm) {
                lkm->waiting = rotation_waiting;
                lkm->waiting_userdata = n;
        }
}

void rotation_deinit(struct rotation *n)
{
        if (n->lkm)
                n->lkm->waiting = NULL;
        /* The end of a session ends its quiescence too; what it says of that is not what the caller wants to know. */
        if (n->lkm && n->quiesced && n->lkm->fd >= 0) {
                char sentence[ERROR_MESSAGE_MAX];

                snprintf(sentence, sizeof(sentence), "%s", n->lkm->message);
                (void)lease_resume(n->lkm);
                error_write(n->lkm, "%s", sentence);
        }
        lkm_key_free(&n->current);
        lkm_key_free(&n->pending);
        database_record_deinit(&n->record);
        keyfile_unlock(&n->lock);
}

/* ---- progress ---- */

static int refuse_cancelled(struct rotation *n)
{
        return error_set(n->lkm, LKM_E_CANCELLED, "the rotation of %s was cancelled; everything is as it was before.", n->path);
}

int rotation_tell(struct rotation *n, uint64_t done, uint64_t total)
{
        struct lkm_progress progress = { .phase = n->phase, .done = done, .total = total };

        if (n->options.progress && n->options.progress(n->options.userdata, &progress) != 0)
                n->cancelled = true;
        return n->cancelled && n->cancellable ? refuse_cancelled(n) : 0;
}

int rotation_enter(struct rotation *n, enum lkm_phase phase)
{
        if (!n->preparing)
                n->phase = phase;
        return rotation_tell(n, 0, 0);
}

/* The looks of CHECK and QUIESCE are short, and repeated: their bytes would go to and fro. */
static int worker_progress(void *userdata, uint64_t done, uint64_t total)
{
        struct rotation *n = userdata;
        bool has_bytes = n->preparing || n->phase == LKM_PHASE_REKEY || n->phase == LKM_PHASE_VERIFY;

        return has_bytes ? rotation_tell(n, done, total) : rotation_tell(n, 0, 0);
}

/* ---- lkm-rekey ---- */

static int refuse_holders(struct rotation *n, const struct worker_result *result)
{
        enum { NAMED = 3 };
        const char *what = n->pending && n->phase != LKM_PHASE_REKEY ? "try" : "rotate";
        size_t named = result->n_holders < NAMED ? result->n_holders : NAMED;
        const char *verb = result->n_holders == 1 ? "has" : "have";
        char who[NAMED * (WORKER_COMMAND_MAX + 32) + 64] = "";
        size_t used = 0;

        for (size_t i = 0; i < named; i++) {
                const struct worker_holder *h = &result->holders[i];

                if (h->pid == getpid())
                        return error_set(n->lkm, LKM_E_BUSY,
                                         "this program itself (pid %d) has %s open. It has to close the database, then %s again.",
                                         (int)h->pid, n->path, what);
                used += (size_t)snprintf(who + used, sizeof(who) - used, "%s%s (pid %d)",
                                         i == 0 ? "" : i + 1 == result->n_holders ? " and " : ", ", h->command, (int)h->pid);
        }
        if (result->n_holders > named)
                snprintf(who + used, sizeof(who) - used, " and %zu more", result->n_holders - named);
        return error_set(n->lkm, LKM_E_BUSY, "%s %s %s open. Let %s close the database, then %s again.", who, verb, n->path,
                         result->n_holders == 1 ? "it" : "them", what);
}

static int rotation_worked(struct rotation *n, int outcome, const struct worker_result *result)
{
        switch (outcome) {
        case 0:
                return 0;
        case WORKER_E_REFUSED:
                if (result->error == LKM_E_BUSY && result->n_holders > 0)
                        return refuse_holders(n, result);
                return error_set(n->lkm, result->error, "%s", result->sentence);
        case WORKER_E_DIED:
                return error_set(n->lkm, LKM_E_IO, "%s", result->sentence);
        case WORKER_E_CANCELLED:
                return refuse_cancelled(n);
        case -ENOENT:
                return error_set(n->lkm, LKM_E_IO,
                                 "the program lkm-rekey is neither beside liblkm nor in " LKM_LIBEXECDIR ". Install lkm again, whole.");
        default:
                return error_set(n->lkm, outcome == -ENOMEM ? LKM_E_NO_MEMORY : LKM_E_IO, "cannot run lkm-rekey: %s. Try again.",
                                 strerror(-outcome));
        }
}

int rotation_work(struct rotation *n, const char *command, unsigned flags, uint32_t timeout_msec, struct worker_result *ret_result)
{
        struct worker_key keys[2] = { { .version = n->info.version, .key = key_secret(n->current) } };
        struct worker_task task = {
                .command = command,
                .database = n->path,
                .compatibility = n->info.cipher_compatibility,
                .page_size = n->info.page_size,
                .timeout_msec = timeout_msec,
                .flags = flags,
                .keys = keys,
                .n_keys = 1,
                .lock_fd = n->lock.fd,
                .progress = worker_progress,
                .userdata = n,
        };

        if (n->pending) {
                keys[1] = (struct worker_key){ .version = n->pending_version, .key = key_secret(n->pending) };
                task.n_keys = 2;
        }
        return rotation_worked(n, worker_run(&task, ret_result), ret_result);
}

/* ---- the record ---- */

static int rotation_lock(struct rotation *n)
{
        uint64_t now = clock_boottime_usec(), deadline = clock_add(now, n->options.timeout_msec * USEC_PER_MSEC);
        int r;

        for (;;) {
                uint64_t piece = clock_add(now, ROTATION_PIECE_MSEC * USEC_PER_MSEC);

                r = keyfile_lock(&n->lock, n->record.path, piece < deadline ? piece : deadline);
                now = clock_boottime_usec();
                if (r != -EWOULDBLOCK || now >= deadline)
                        break;
                r = rotation_tell(n, 0, 0);
                if (r)
                        return r;
        }
        if (r == -EWOULDBLOCK)
                return error_set(n->lkm, LKM_E_ROTATION_IN_PROGRESS,
                                 "another process rotates the key of %s at this moment. Let it end, then try again.", n->path);
        return r < 0 ? database_path_error(n->lkm, "lock", n->record.path, r) : 0;
}

int rotation_get_current(struct rotation *n, const char *scope)
{
        int r;

        lkm_key_free(&n->current);
        r = database_record_get(n->lkm, &n->record, n->lock.fd >= 0 ? &n->lock : NULL, scope, 0, &n->current);
        if (r)
                return r;
        lkm_key_info(n->current, &n->info);
        n->pending_version = n->info.pending;
        return 0;
}

int rotation_look(struct rotation *n, const char *scope)
{
        int r = connection_check(n->lkm);

        database_record_deinit(&n->record);
        if (r == 0)
                r = database_record_read(n->lkm, n->path, &n->record);
        return r ? r : rotation_get_current(n, scope);
}

/* The record as it is under the lock: who had that before may have replaced what was read without. */
int rotation_begin(struct rotation *n, const char *scope)
{
        int r = connection_check(n->lkm);

        database_record_deinit(&n->record);
        if (r == 0)
                r = database_record_read(n->lkm, n->path, &n->record);
        if (r == 0)
                r = rotation_tell(n, 0, 0);
        if (r == 0)
                r = rotation_lock(n);
        return r ? r : rotation_look(n, scope);
}

int rotation_get_pending(struct rotation *n)
{
        int r;

        lkm_key_free(&n->pending);
        r = database_record_get(n->lkm, &n->record, &n->lock, NULL, n->pending_version, &n->pending);
        if (r == 0)
                n->wal = key_restores_wal(n->pending);
        return r;
}

int rotation_put(struct rotation *n, struct bytes newer, bool *ret_written)
{
        int r = database_record_put(n->lkm, &n->record, &n->lock, newer);

        *ret_written = bytes_equal((struct bytes){ n->record.data, n->record.n }, newer);
        return r;
}

int rotation_may_write(struct rotation *n)
{
        const char *slash = strrchr(n->lock.path, '/');
        _cleanup_(freep) char *folder = strndup(n->lock.path, slash > n->lock.path ? (size_t)(slash - n->lock.path) : 1);
        const char *refused = NULL;
        struct stat status;

        if (!folder)
                return error_set_default(n->lkm, LKM_E_NO_MEMORY);
        /* The file that takes its place has to be its owner's again. */
        if (fstat(n->lock.fd, &status) == 0 && status.st_uid != geteuid() && geteuid() != 0)
                return error_set(n->lkm, LKM_E_IO, "%s belongs to user %u, who alone can replace it.", n->record.path, (unsigned)status.st_uid);
        if (faccessat(AT_FDCWD, n->path, R_OK | W_OK, AT_EACCESS) < 0 && errno != ENOENT)
                refused = n->path;
        else if (faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) < 0)
                refused = folder;
        return refused ? database_path_error(n->lkm, "write", refused, -errno) : 0;
}

/* ---- the end, of every rotation whose record has both keys ---- */

static int refuse_mixed(struct rotation *n, const struct worker_result *result)
{
        uint64_t old_pages = 0, new_pages = 0;

        for (size_t i = 0; i < result->n_fits; i++) {
                if (result->fits[i].version == n->info.version)
                        old_pages = result->fits[i].pages;
                else if (result->fits[i].version == n->pending_version)
                        new_pages = result->fits[i].pages;
        }
        return error_set(n->lkm, LKM_E_MIXED,
                         "no key opens the whole of %s: of its %llu pages %llu fit key version %u, %llu version %u, and %llu neither. Nothing was touched. "
                         "Keep the database, its -journal and its .key as they are, and run `lkmctl salvage %s`.",
                         n->path, (unsigned long long)result->n_pages, (unsigned long long)old_pages, n->info.version,
                         (unsigned long long)new_pages, n->pending_version, (unsigned long long)result->n_unknown_pages, n->path);
}

/* Which key it is will be found out later. */
static int explain_unproved(struct rotation *n, int error)
{
        char why[ERROR_MESSAGE_MAX];

        snprintf(why, sizeof(why), "%s", n->lkm->message);
        return error_set(n->lkm, error,
                         "%s Which key %s has is not proved yet, and its .key knows both: the next lkm_load() or `lkmctl recover %s` ends the rotation.",
                         why, n->path, n->path);
}

/* Another process looks which key opens the database. It is asked twice when it dies, since its answer is all that is known. */
int rotation_prove(struct rotation *n, enum lkm_recovery *ret_end)
{
        unsigned flags = n->wal ? REKEY_RESTORE_WAL : 0;
        struct worker_result result;
        int r = rotation_enter(n, LKM_PHASE_VERIFY);

        if (r)
                return r;
        r = rotation_work(n, "probe", flags, n->options.timeout_msec, &result);
        if (r == LKM_E_IO && result.died)
                r = rotation_work(n, "probe", flags, n->options.timeout_msec, &result);
        if (r)
                return r == LKM_E_CANCELLED ? r : explain_unproved(n, r);
        if (result.empty || (result.n_opens == 1 && result.opens == n->info.version))
                *ret_end = LKM_RECOVERY_UNDONE;
        else if (result.n_opens == 1 && result.opens == n->pending_version)
                *ret_end = LKM_RECOVERY_FINISHED;
        else
                return refuse_mixed(n, &result);
        return 0;
}

/* What was proved stays proved; only the record does not say so yet, or not for certain. */
static int explain_unwritten(struct rotation *n, int error, enum lkm_recovery end, bool written)
{
        char why[ERROR_MESSAGE_MAX];

        snprintf(why, sizeof(why), "%s", n->lkm->message);
        if (written)
                return error_set(n->lkm, error, "%s The rotation of %s has ended all the same, with the %s key.", why, n->path,
                                 end == LKM_RECOVERY_FINISHED ? "new" : "old");
        return error_set(n->lkm, error,
                         "%s The database has its %s key, and its .key knows both: the next lkm_load() or `lkmctl recover %s` ends the rotation.", why,
                         end == LKM_RECOVERY_FINISHED ? "new" : "old", n->path);
}

int rotation_write_end(struct rotation *n, enum lkm_recovery end)
{
        struct bytes record = { n->record.data, n->record.n };
        union message commit = { .commit = { .number_ = MESSAGE_COMMIT, .record = record, .version = n->pending_version } };
        union message abort_ = { .abort = { .number_ = MESSAGE_ABORT, .record = record, .version = n->pending_version } };
        union message answer;
        bool written = false;
        int r;

        n->cancellable = false;
        (void)rotation_enter(n, LKM_PHASE_COMMIT);
        r = connection_call(n->lkm, end == LKM_RECOVERY_FINISHED ? &commit : &abort_, MESSAGE_RECORD, &answer);
        if (r == 0) {
                r = rotation_put(n, answer.record.record, &written);
                connection_settle(n->lkm);
        }
        return r ? explain_unwritten(n, r, end, written) : 0;
}

int rotation_recover(struct rotation *n, enum lkm_recovery *ret_end)
{
        int r = rotation_may_write(n);

        if (r == 0)
                r = rotation_get_pending(n);
        if (r == 0)
                r = rotation_prove(n, ret_end);
        return r ? r : rotation_write_end(n, *ret_end);
}
