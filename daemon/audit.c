/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <systemd/sd-id128.h>

#include "common/clock.h"

struct audit {
        struct audit_file file;
        struct audit_sync *sync; /* NULL until it is started */
        struct audit_hasher hasher;
        char boot_id[AUDIT_BOOT_ID_LENGTH + 1];
        uint64_t first; /* sequence number of the first line of the file */
        uint64_t sequence; /* of the last line */
        char hash[AUDIT_HASH_LENGTH + 1]; /* of the last line */
        uint64_t max_size;
        uint64_t rotate_at; /* after a rotation that failed: not before the file has this size */
        int broken;         /* an error that only another file ends */
        char *unopened;     /* name of the file before, until the first line of this one says it */
        uint64_t n_refused; /* lines that could not be written since the last that could */
        uint64_t checkpointed; /* sequence number of the last checkpoint */
        struct audit_checkpoint untold; /* sequence 0 = none */
};

/* ---- lines ---- */

static struct bytes text(const char *string)
{
        return bytes_from_string(string);
}

/* Append a line, whatever the state of the log. */
static int append(struct audit *a, const struct audit_event *e)
{
        char id[UUID_TEXT_LENGTH + 1], line_text[AUDIT_LINE_MAX], hash[AUDIT_HASH_LENGTH + 1];
        struct audit_line line = { .seq = a->sequence + 1,
                                   .time_usec = clock_wall_usec(),
                                   .boottime_usec = clock_boottime_usec(),
                                   .boot_id = text(a->boot_id),
                                   .event = text(e->event),
                                   .connection = e->connection,
                                   .scope = text(e->scope),
                                   .label = text(e->label),
                                   .version = e->version,
                                   .decision = text(e->decision),
                                   .reason = text(e->reason),
                                   .kek = text(e->kek),
                                   .kek_id = text(e->kek_id),
                                   .kms_request_id = text(e->kms_request_id),
                                   .count = e->count,
                                   .stale = e->stale,
                                   .prev = text(a->hash) };
        size_t n;
        int r;

        if (e->peer) {
                line.has_peer = true;
                line.uid = e->peer->uid;
                line.gid = e->peer->gid;
                line.pid = (uint32_t)e->peer->pid;
                line.unit = text(e->peer->unit);
        }
        if (e->database_id) {
                uuid_format(id, e->database_id);
                line.database_id = text(id);
        }
        r = audit_line_format(&a->hasher, line_text, &n, hash, &line);
        if (r == 0)
                r = audit_file_append(&a->file, line_text, n, e->weight);
        if (r < 0)
                return r;
        a->sequence++;
        if (a->first == 0)
                a->first = a->sequence;
        memcpy(a->hash, hash, sizeof(hash));
        return 0;
}

static void want_durable(struct audit *a, bool now)
{
        if (a->sync)
                audit_sync_want(a->sync, a->sequence, now);
}

/* ---- what fails ---- */

static int final_error(struct audit *a)
{
        uint64_t sequence, usec;

        if (a->broken == 0 && a->sync)
                a->broken = audit_sync_state(a->sync, &sequence, &usec);
        return a->broken;
}

/* The log fails: say so in it, while the reserve lasts. */
static void say_failed(struct audit *a, int error)
{
        struct audit_event event = { .event = "audit-failed", .reason = strerror(-error), .weight = AUDIT_WEIGHT_LAST };

        if (a->n_refused == 1 && a->broken == 0)
                append(a, &event);
}

/* It goes on: say how much it does not have. */
static int say_again(struct audit *a)
{
        struct audit_event event = { .event = "audit-again", .count = a->n_refused };
        int r = append(a, &event);

        if (r == 0)
                a->n_refused = 0;
        return r;
}

/* The first line of a file that goes on with the chain of another. */
static int say_open(struct audit *a)
{
        struct audit_event event = { .event = AUDIT_EVENT_OPEN, .reason = a->unopened, .weight = AUDIT_WEIGHT_LAST };
        int r = append(a, &event);

        if (r == 0) {
                free(a->unopened);
                a->unopened = NULL;
        }
        return r;
}

static int try_append(struct audit *a, const struct audit_event *event)
{
        int r = final_error(a);

        if (r == 0 && a->unopened)
                r = say_open(a);
        if (r == 0 && a->n_refused > 0 && event->weight == AUDIT_WEIGHT_ORDINARY)
                r = say_again(a);
        if (r == 0)
                r = append(a, event);
        if (r == -ESTALE || r == -ENOTRECOVERABLE)
                a->broken = r;
        if (r < 0) {
                a->n_refused++;
                say_failed(a, r);
        }
        return r;
}

/* ---- another file ---- */

static int open_folder(const struct audit_file *f)
{
        const char *name = audit_file_name(f);
        _cleanup_(freep) char *folder = strndup(f->path, (size_t)(name - f->path));
        int fd;

        if (!folder)
                return -ENOMEM;
        fd = open(*folder ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* The path leads to no file of ours any more: begin one there. @previous: what the file before is called; taken. */
static int begin_file(struct audit *a, char *previous)
{
        int old_fd, folder_fd = open_folder(&a->file), r;

        r = folder_fd < 0 ? folder_fd : audit_file_open(&a->file, true, &old_fd);
        if (r < 0) {
                free(previous);
                if (folder_fd >= 0)
                        close(folder_fd);
                return r;
        }
        if (a->sync) {
                audit_sync_switch(a->sync, old_fd, a->file.fd, folder_fd);
        } else {
                close(old_fd);
                close(folder_fd);
        }
        a->broken = 0;
        a->first = 0;
        a->rotate_at = 0;
        free(a->unopened);
        a->unopened = previous;
        if (say_open(a) == 0) /* otherwise it comes before the next line */
                want_durable(a, true);
        return 0;
}

/* Move the log away, under a name that tells which lines it has, and begin another. */
static int rotate(struct audit *a)
{
        _cleanup_(freep) char *away = NULL;
        char *name;
        int r;

        if (asprintf(&away, AUDIT_ROTATED_FORMAT, a->file.path, a->first, a->sequence) < 0) {
                away = NULL;
                return -ENOMEM;
        }
        if (renameat2(AT_FDCWD, a->file.path, AT_FDCWD, away, RENAME_NOREPLACE) < 0)
                return -errno;
        audit_file_finish(&a->file); /* the reserve moves to the new file */
        name = strdup(away + (audit_file_name(&a->file) - a->file.path));
        r = name ? begin_file(a, name) : -ENOMEM;
        /* There is none: then the old one goes on, in its place. */
        if (r < 0 && renameat2(AT_FDCWD, away, AT_FDCWD, a->file.path, RENAME_NOREPLACE) < 0)
                return -errno;
        return r;
}

static void rotate_if_full(struct audit *a)
{
        if (a->max_size == 0 || a->file.size < a->max_size || a->file.size < a->rotate_at || a->n_refused > 0 || a->broken)
                return;
        audit_checkpoint(a);
        if (rotate(a) < 0)
                a->rotate_at = a->file.size + a->max_size / 8 + 1;
}

int audit_reopen(struct audit *a)
{
        char *name;

        if (final_error(a) < 0 && audit_file_is_in_place(&a->file))
                return rotate(a);
        if (audit_file_is_in_place(&a->file))
                return 0;
        audit_file_finish(&a->file);
        name = strdup(audit_file_name(&a->file));
        return name ? begin_file(a, name) : -ENOMEM;
}

/* ---- start and end ---- */

/* An empty log may follow one that was moved away while nobody served: the chain goes on. */
static int take_previous(struct audit *a)
{
        struct audit_end end;
        int r = audit_file_find_previous(&a->file, &end, &a->unopened, &a->hasher);

        if (r < 0)
                return r == -ENOENT ? 0 : r;
        a->sequence = a->checkpointed = end.last;
        memcpy(a->hash, end.hash, sizeof(end.hash));
        return say_open(a);
}

static int take_end(struct audit *a)
{
        struct audit_event event = { .event = AUDIT_EVENT_TORN, .weight = AUDIT_WEIGHT_LAST };
        struct audit_end end;
        int r = audit_file_find_end(&end, a->file.fd, &a->hasher);

        if (r == 0 && end.n_torn > 0)
                r = audit_file_cut(&a->file, end.size);
        if (r < 0)
                return r;
        if (end.last > 0) {
                a->first = end.first;
                a->sequence = a->checkpointed = end.last;
                memcpy(a->hash, end.hash, sizeof(end.hash));
        } else {
                r = take_previous(a);
        }
        event.count = end.n_torn;
        event.reason = end.torn_hash;
        return r == 0 && end.n_torn > 0 ? append(a, &event) : r;
}

int audit_open(struct audit **ret_audit, const char *path)
{
        _cleanup_(audit_freep) struct audit *a = calloc(1, sizeof(*a));
        sd_id128_t boot_id;
        int previous_fd, r;

        if (!a)
                return -ENOMEM;
        a->file.fd = a->file.lock_fd = -1;
        memcpy(a->hash, AUDIT_HASH_NONE, sizeof(a->hash));
        if (sd_id128_get_boot(&boot_id) == 0)
                sd_id128_to_string(boot_id, a->boot_id);
        r = audit_hasher_init(&a->hasher);
        if (r == 0)
                r = audit_file_init(&a->file, path);
        if (r == 0)
                r = audit_file_lock(&a->file);
        if (r == 0)
                r = audit_file_open(&a->file, false, &previous_fd);
        if (r == 0)
                r = take_end(a);
        if (r == 0)
                *ret_audit = TAKE_PTR(a);
        return r;
}

int audit_start_sync(struct audit *a)
{
        int folder_fd = open_folder(&a->file), r;

        if (folder_fd < 0)
                return folder_fd;
        r = audit_sync_new(&a->sync, a->file.fd);
        if (r < 0) {
                close(folder_fd);
                return r;
        }
        audit_sync_switch(a->sync, -1, a->file.fd, folder_fd); /* the file may be new */
        if (a->sequence > 0)
                want_durable(a, true);
        return 0;
}

void audit_configure(struct audit *a, enum audit_sync_mode mode, uint64_t max_size)
{
        if (a->sync)
                audit_sync_set_mode(a->sync, mode);
        a->max_size = max_size;
        a->rotate_at = 0;
}

int audit_finish(struct audit *a)
{
        if (a->sync)
                audit_sync_stop(a->sync);
        return final_error(a);
}

struct audit *audit_free(struct audit *a)
{
        if (!a)
                return NULL;
        audit_sync_free(a->sync);
        audit_file_deinit(&a->file);
        free(a->unopened);
        audit_hasher_deinit(&a->hasher);
        free(a);
        return NULL;
}

/* ---- writing ---- */

int audit_checkpoint(struct audit *a)
{
        struct audit_event event = { .event = AUDIT_EVENT_CHECKPOINT, .weight = AUDIT_WEIGHT_LAST };
        int r;

        if (a->sequence == a->checkpointed)
                return 0;
        r = try_append(a, &event);
        if (r < 0)
                return r;
        a->checkpointed = a->untold.sequence = a->sequence;
        memcpy(a->untold.hash, a->hash, sizeof(a->hash));
        a->untold.file = a->file.path;
        want_durable(a, true);
        return 0;
}

int audit_write(struct audit *a, const struct audit_event *event)
{
        int r;

        rotate_if_full(a);
        r = try_append(a, event);
        if (r < 0)
                return r;
        want_durable(a, false);
        /* A checkpoint that cannot be written is tried again with the next line. */
        if (a->sequence - a->checkpointed >= AUDIT_CHECKPOINT_LINES)
                audit_checkpoint(a);
        return 0;
}

/* ---- what there is to say ---- */

int audit_durable(struct audit *a, uint64_t *ret_sequence)
{
        uint64_t usec;

        *ret_sequence = a->sequence;
        return a->sync ? audit_sync_state(a->sync, ret_sequence, &usec) : a->broken;
}

int audit_sync_event_fd(const struct audit *a)
{
        return audit_sync_fd(a->sync);
}

bool audit_checkpoint_take(struct audit *a, struct audit_checkpoint *ret_checkpoint)
{
        uint64_t durable;

        if (a->untold.sequence == 0 || audit_durable(a, &durable) < 0 || durable < a->untold.sequence)
                return false;
        *ret_checkpoint = a->untold;
        a->untold.sequence = 0;
        return true;
}

void audit_get_state(struct audit *a, struct audit_state *ret_state)
{
        *ret_state = (struct audit_state){ .sequence = a->sequence, .durable = a->sequence, .checkpoint = a->checkpointed, .hash = a->hash,
                                           .reserve_bytes = audit_file_reserve(&a->file) };
        if (a->sync)
                audit_sync_state(a->sync, &ret_state->durable, &ret_state->durable_usec);
}

uint64_t audit_sequence(const struct audit *a)
{
        return a->sequence;
}

const char *audit_error_text(int error)
{
        if (error == -ESTALE)
                return "somebody else has changed the audit log; keep it, move it away, and reload lkmd";
        if (error == -ENOTRECOVERABLE)
                return "a half-written line cannot be removed; move the audit log away, keep it, and reload lkmd";
        return strerror(-error);
}
