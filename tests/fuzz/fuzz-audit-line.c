/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit log's reader on any bytes. A line that is parsed is formatted to the very same text; a log, whole or as two files, is either good from its
 * first record to its last one, or has one fault, which is in it.
 */
#include <sys/mman.h>

#include "client/audit-chain.h"
#include "tests/fuzz/fuzz.h"

static struct audit_hasher hasher;

static void check_line(struct bytes text)
{
        static char scratch[AUDIT_LINE_MAX], again[AUDIT_LINE_MAX];
        char hash[AUDIT_HASH_LENGTH + 1];
        struct audit_line line;
        size_t n;
        int r;

        if (audit_line_parse(&line, scratch, text) < 0)
                return;
        check(audit_line_format(&hasher, again, &n, hash, &line) == 0);
        check(n == text.n + 1 && again[n - 1] == '\n');
        r = audit_line_check(&hasher, &line);
        check((r == 0) == bytes_equal(line.hash, bytes_from_string(hash)));
        check(bytes_equal(line.hashed, (struct bytes){ (const uint8_t *)again, line.hashed.n }));
        check((r == 0) == bytes_equal(text, (struct bytes){ (const uint8_t *)again, text.n }));
}

static void add_file(struct audit_files *files, struct bytes text, uint64_t first)
{
        int fd = memfd_create("audit.jsonl", MFD_CLOEXEC);

        check(fd >= 0 && (text.n == 0 || pwrite(fd, text.data, text.n, 0) == (ssize_t)text.n));
        check(audit_files_add(files, "audit.jsonl", fd, first) == 0);
}

static void check_log(struct bytes text, size_t cut, uint64_t anchored)
{
        struct audit_files files = { .n = 0 };
        struct audit_anchors anchors = { .n = 0 };
        struct audit_verdict v;
        size_t failed;

        if (cut > 0)
                add_file(&files, (struct bytes){ text.data, cut }, 1);
        add_file(&files, (struct bytes){ text.data + cut, text.n - cut }, 0);
        if (anchored > 0)
                check(audit_anchors_add(&anchors, anchored, BYTES_LITERAL(AUDIT_HASH_NONE), 0) == 0);
        check(audit_chain_verify(&v, &files, &anchors, &failed) == 0);
        check(v.first <= v.last && (v.first > 0) == (v.last > 0));
        check(v.fault == AUDIT_FAULT_NONE || (v.sequence > v.last && v.since > 0 && v.since <= v.sequence));
        check(!v.has_position || (v.at.i_file < files.n && v.at.offset <= text.n && v.at.line > 0));
        check(v.fault != AUDIT_FAULT_NONE || anchored == 0 || anchored < v.first);
        audit_anchors_deinit(&anchors);
        audit_files_deinit(&files);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct bytes input = { data, n };

        if (!hasher.context)
                check(audit_hasher_init(&hasher) == 0);
        while (input.n > 0)
                check_line(fuzz_until(&input, '\n'));
        check_log((struct bytes){ data, n }, 0, 0);
        if (n > 0)
                check_log((struct bytes){ data, n }, data[n - 1] % n, data[0]);
        return 0;
}
