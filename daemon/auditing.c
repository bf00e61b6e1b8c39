/* SPDX-License-Identifier: Apache-2.0 */
/* auditing: what lkmd does with its audit log: starts it, tells how it fares, and lets requests wait until their lines are durable. */
#include <errno.h>
#include <jansson.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/request.h"

/* Remember how it went, and say so once when that changes. */
static void auditing_note(struct lkmd *d, int error)
{
        if (error < 0 && d->audit_error == 0)
                log_error("cannot write the audit log %s: %s. No key is released until it can be written", d->config->audit_file,
                          audit_error_text(error));
        if (error == 0 && d->audit_error != 0)
                log_notice("the audit log %s can be written again", d->config->audit_file);
        d->audit_error = error;
}

int lkmd_audit(struct lkmd *d, const struct audit_event *event)
{
        int r = audit_write(d->audit, event);

        /* That something fits the reserve does not mean that the log can be written. */
        if (r < 0 || event->weight == AUDIT_WEIGHT_ORDINARY)
                auditing_note(d, r);
        return r;
}

/* A checkpoint that a power loss cannot take back is told to the journal. */
static void auditing_tell(struct lkmd *d)
{
        struct audit_checkpoint checkpoint;

        if (audit_checkpoint_take(d->audit, &checkpoint))
                audit_journal_tell(&d->audit_journal, checkpoint.sequence, checkpoint.hash, checkpoint.file);
}

/* Go on with all whose lines are durable by now, or never will be. */
static void auditing_resume(struct lkmd *d, int error)
{
        struct list due, *node, *following;

        list_init(&due);
        list_for_each_safe(node, following, &d->audit_waiters) {
                struct request *r = list_entry(node, struct request, link);

                if (error == 0 && r->audit_sequence > d->audit_durable)
                        continue;
                list_unlink(node);
                list_append(&due, node);
        }
        while (!list_is_empty(&due)) {
                struct request *r = list_entry(due.next, struct request, link);

                list_unlink(&r->link);
                d->n_audit_waiters--;
                request_resume_durable(r, error);
        }
        lkmd_stop_if_drained(d);
}

static void on_durable(evutil_socket_t fd, short what, void *userdata)
{
        struct lkmd *d = userdata;
        uint64_t n;
        int r;

        if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
                log_error("cannot read an eventfd: %s", strerror(errno));
        r = audit_durable(d->audit, &d->audit_durable);
        if (r < 0)
                auditing_note(d, r);
        auditing_tell(d);
        auditing_resume(d, r);
}

int auditing_start(struct lkmd *d)
{
        struct audit_event event = { .event = AUDIT_EVENT_START };
        int r = audit_open(&d->audit, d->config->audit_file);

        if (r < 0) {
                log_error("cannot open the audit log %s: %s", d->config->audit_file,
                          r == -EBADMSG ? "its first or last line was changed, or was written by another program or an earlier version. Keep the "
                                          "file, and move it away; `lkmctl audit verify` tells more"
                          : r == -EBUSY ? "another lkmd writes it"
                                        : strerror(-r));
                if (r != -EBADMSG && r != -EBUSY)
                        log_error("make its folder writable for this user, or set audit_file");
                return r;
        }
        r = audit_start_sync(d->audit);
        if (r < 0) {
                log_error("cannot start the thread that writes the audit log to the disk: %s", strerror(-r));
                return r;
        }
        audit_configure(d->audit, d->config->audit_sync, d->config->audit_max_size);
        audit_journal_open(&d->audit_journal);
        d->audit_ready = event_new(d->base, audit_sync_event_fd(d->audit), EV_READ | EV_PERSIST, on_durable, d);
        if (!d->audit_ready || event_add(d->audit_ready, NULL) < 0)
                return -ENOMEM;
        return lkmd_audit(d, &event);
}

void auditing_reload(struct lkmd *d)
{
        struct audit_event event = { .event = "reload" };
        uint64_t durable, last = audit_sequence(d->audit);
        bool failed = audit_durable(d->audit, &durable) < 0;
        int r;

        audit_checkpoint(d->audit);
        r = audit_reopen(d->audit);
        if (r < 0)
                log_error("cannot begin another file for the audit log %s: %s", d->config->audit_file,
                          r == -EEXIST ? "there is a file that is not empty; move it away" : strerror(-r));
        /* Ever since the first failure: to count too many as lost costs a line each, and nothing else. */
        if (r == 0 && failed) {
                if (d->audit_lost_until == 0)
                        d->audit_lost_after = durable;
                d->audit_lost_until = last;
        }
        audit_configure(d->audit, d->config->audit_sync, d->config->audit_max_size);
        lkmd_audit(d, &event);
}

void auditing_minute(struct lkmd *d)
{
        audit_checkpoint(d->audit);
}

void auditing_stop(struct lkmd *d)
{
        struct audit_event event = { .event = AUDIT_EVENT_STOP, .weight = AUDIT_WEIGHT_LAST };
        struct audit_checkpoint checkpoint;
        int r;

        if (d->audit) {
                lkmd_audit(d, &event);
                audit_checkpoint(d->audit);
                r = audit_finish(d->audit);
                if (r < 0)
                        log_error("the last lines of the audit log %s may not be on the disk: %s", d->config->audit_file, strerror(-r));
                if (audit_checkpoint_take(d->audit, &checkpoint))
                        audit_journal_tell(&d->audit_journal, checkpoint.sequence, checkpoint.hash, checkpoint.file);
        }
        if (d->audit_ready)
                event_free(d->audit_ready);
        audit_free(d->audit);
        audit_journal_close(&d->audit_journal);
}

/* ---- status ---- */

void *auditing_report(const struct lkmd *d, uint64_t now_usec)
{
        struct audit_state state;
        json_t *age = json_null();

        audit_get_state(d->audit, &state);
        if (state.durable_usec > 0)
                age = json_real((double)(now_usec - state.durable_usec) / (double)USEC_PER_SEC);
        return json_pack("{s:s, s:s, s:I, s:s, s:I, s:o, s:I, s:I, s:s}", "file", d->config->audit_file, "sync",
                         d->config->audit_sync == AUDIT_SYNC_BATCH ? "batch" : "always", "sequence", (json_int_t)state.sequence, "hash",
                         state.hash, "durable", (json_int_t)state.durable, "durable_seconds_ago", age, "checkpoint",
                         (json_int_t)state.checkpoint, "reserve_bytes", (json_int_t)state.reserve_bytes, "last_error",
                         d->audit_error ? audit_error_text(d->audit_error) : "");
}
