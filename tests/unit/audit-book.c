/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/audit-book.h"

#include <sys/mman.h>

#include "common/clock.h"

static void must(bool ok)
{
        if (!ok)
                abort();
}

void book_write(struct book *b, size_t i, bool chain)
{
        struct book_line *l = &b->lines[i];
        static char text[AUDIT_LINE_MAX];
        size_t n;

        if (chain)
                memcpy(l->prev, i > 0 ? b->lines[i - 1].hash : AUDIT_HASH_NONE, AUDIT_HASH_LENGTH + 1);
        l->line.prev = bytes_from_string(l->prev);
        must(audit_line_format(&b->hasher, text, &n, l->hash, &l->line) == 0);
        free(l->text);
        l->text = malloc(n);
        must(l->text);
        memcpy(l->text, text, n);
        l->n = n;
}

static struct audit_line line_of(uint64_t seq)
{
        struct audit_line line = { .seq = seq,
                                   .time_usec = UINT64_C(1767323045678901) + seq * USEC_PER_SEC,
                                   .boottime_usec = 1000000 + seq * USEC_PER_SEC,
                                   .boot_id = BYTES_LITERAL("0123456789abcdef0123456789abcdef"),
                                   .event = BYTES_LITERAL("release"),
                                   .has_peer = true,
                                   .uid = 1000 + seq % 7,
                                   .gid = 1000,
                                   .pid = 4000 + seq % 101,
                                   .unit = BYTES_LITERAL("clinic.service"),
                                   .connection = 1 + seq / 3,
                                   .scope = BYTES_LITERAL("medical"),
                                   .database_id = BYTES_LITERAL("6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
                                   .version = 1 + seq % 3,
                                   .decision = BYTES_LITERAL("allow"),
                                   .reason = BYTES_LITERAL("allow = user:clinic"),
                                   .kek = BYTES_LITERAL("aws-primary"),
                                   .kek_id = BYTES_LITERAL("arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
                                   .kms_request_id = BYTES_LITERAL("7a62c49f-347e-4fc4-9331-6e8e7a96fc73") };

        if (seq == 1)
                return (struct audit_line){ .seq = 1, .time_usec = line.time_usec, .boottime_usec = line.boottime_usec,
                                            .boot_id = line.boot_id, .event = BYTES_LITERAL(AUDIT_EVENT_START) };
        if (seq % 16 == 0)
                return (struct audit_line){ .seq = seq, .time_usec = line.time_usec, .boottime_usec = line.boottime_usec,
                                            .boot_id = line.boot_id, .event = BYTES_LITERAL(AUDIT_EVENT_CHECKPOINT) };
        return line;
}

void book_init(struct book *b, size_t n)
{
        *b = (struct book){ .n = n, .lines = calloc(n, sizeof(*b->lines)) };
        must(b->lines && audit_hasher_init(&b->hasher) == 0);
        for (size_t i = 0; i < n; i++) {
                b->lines[i].line = line_of(i + 1);
                book_write(b, i, true);
        }
}

void book_deinit(struct book *b)
{
        for (size_t i = 0; i < b->n; i++)
                free(b->lines[i].text);
        free(b->lines);
        audit_hasher_deinit(&b->hasher);
}

int book_file(const char *text, size_t n)
{
        int fd = memfd_create("audit.jsonl", MFD_CLOEXEC);

        must(fd >= 0 && (n == 0 || pwrite(fd, text, n, 0) == (ssize_t)n));
        return fd;
}
