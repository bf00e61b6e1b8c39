/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-audit: records of the audit log until they may be answered to, beside a bare write(2) and fdatasync(2) of as many bytes, in turn.
 *
 *   bench-audit JSON-FILE FOLDER
 */
#include <fcntl.h>
#include <poll.h>

#include "common/clock.h"
#include "daemon/audit.h"
#include "tests/bench/samples.h"

enum { ROUNDS = 8, ALONE = 25, TOGETHER = 64, GROUPS = 10, BATCH = 2000 };

static const uint8_t database_id[UUID_SIZE] = { 1, 2, 3 };
static const struct peer peer = { .uid = 1000, .gid = 1000, .pid = 4711 };
static const struct audit_event event = { .event = "release", .peer = &peer, .connection = 17, .scope = "medical", .database_id = database_id,
                                          .version = 1, .decision = "allow", .reason = "user:clinic", .kek = "aws-primary",
                                          .kek_id = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
                                          .kms_request_id = "7a62c49f-347e-4fc4-9331-6e8e7a96fc73" };

static _Noreturn void fail(const char *what)
{
        fprintf(stderr, "bench-audit: %s\n", what);
        exit(1);
}

static void write_record(struct audit *a)
{
        if (audit_write(a, &event) < 0)
                fail("cannot write a record");
}

/* As lkmd waits: for the eventfd of the thread. */
static void wait_durable(struct audit *a)
{
        struct pollfd ready = { .fd = audit_sync_event_fd(a), .events = POLLIN };
        uint64_t durable, n;

        while (audit_durable(a, &durable) == 0 && durable < audit_sequence(a)) {
                if (poll(&ready, 1, -1) < 0 || read(ready.fd, &n, sizeof(n)) < 0)
                        fail("cannot wait");
        }
}

static void floor_round(struct samples *s, int fd)
{
        char record[700];

        memset(record, 'x', sizeof(record));
        for (int i = 0; i < ALONE; i++) {
                uint64_t begin = samples_now();

                if (write(fd, record, sizeof(record)) < 0 || fdatasync(fd) < 0)
                        fail("cannot write");
                samples_add(s, samples_now() - begin);
        }
}

static void always_round(struct samples *s, struct audit *a)
{
        for (int i = 0; i < ALONE; i++) {
                uint64_t begin = samples_now();

                write_record(a);
                wait_durable(a);
                samples_add(s, samples_now() - begin);
        }
}

static void together_round(struct samples *s, struct audit *a)
{
        for (int i = 0; i < GROUPS; i++) {
                uint64_t begin = samples_now();

                for (int j = 0; j < TOGETHER; j++)
                        write_record(a);
                wait_durable(a);
                samples_add(s, (samples_now() - begin) / TOGETHER);
        }
}

static void batch_round(struct samples *s, struct audit *a)
{
        for (int i = 0; i < BATCH; i++) {
                uint64_t begin = samples_now();

                write_record(a);
                samples_add(s, samples_now() - begin);
        }
}

static struct audit *open_log(const char *folder, const char *name, enum audit_sync_mode mode)
{
        _cleanup_(freep) char *path = NULL;
        struct audit *a;

        if (asprintf(&path, "%s/%s", folder, name) < 0 || audit_open(&a, path) < 0 || audit_start_sync(a) < 0)
                fail("cannot open a log");
        audit_configure(a, mode, 0);
        return a;
}

static void show(const char *name, struct samples *s, double base_usec, const char *target, FILE *json)
{
        struct figure figure = figure_of(name, s, base_usec, target);

        if (base_usec == 0)
                figure.base_usec = figure.median_usec;
        figure_print(&figure, json);
        samples_deinit(s);
}

int main(int argc, char **argv)
{
        FILE *json = argc == 3 ? fopen(argv[1], "ae") : NULL;
        int folder = argc == 3 ? open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, fd;
        struct samples bare, always, together, batch;
        struct audit *synced, *batched;
        double floor;

        fd = folder < 0 ? -1 : openat(folder, "floor", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (!json || fd < 0)
                fail("usage: bench-audit JSON-FILE FOLDER");
        synced = open_log(argv[2], "always.jsonl", AUDIT_SYNC_ALWAYS);
        batched = open_log(argv[2], "batch.jsonl", AUDIT_SYNC_BATCH);
        samples_init(&bare, ROUNDS * ALONE);
        samples_init(&always, ROUNDS * ALONE);
        samples_init(&together, ROUNDS * GROUPS);
        samples_init(&batch, ROUNDS * BATCH);
        for (int i = 0; i < ROUNDS; i++) {
                floor_round(&bare, fd);
                always_round(&always, synced);
                together_round(&together, synced);
                batch_round(&batch, batched);
        }
        floor = samples_percentile(&bare, 50);
        show("floor: write + fdatasync of an audit record", &bare, 0, "", json);
        show("audit record, always", &always, floor, "<= 1.5 x", json);
        show("audit record, always, 64 at once, each", &together, floor, "<= 0.1 x", json);
        show("audit record, batch", &batch, floor, "", json);
        audit_free(synced);
        audit_free(batched);
        close(fd);
        close(folder);
        return fclose(json) == 0 ? 0 : 1;
}
