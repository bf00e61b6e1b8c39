/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-audit-verify: a whole audit log verified, beside its bytes read and put through SHA-256 alone, in turn.
 *
 *   bench-audit-verify JSON-FILE
 */
#include <openssl/evp.h>

#include "client/audit-chain.h"
#include "tests/bench/samples.h"
#include "tests/unit/audit-book.h"

enum { RECORDS = 50000, RUNS = 40, CHUNK = 256 * 1024 };

static _Noreturn void fail(const char *what)
{
        fprintf(stderr, "bench-audit-verify: %s\n", what);
        exit(1);
}

static char *whole_text(const struct book *b, size_t *ret_n)
{
        char *text, *end;
        size_t n = 0;

        for (size_t i = 0; i < b->n; i++)
                n += b->lines[i].n;
        text = malloc(n);
        if (!text)
                fail("out of memory");
        end = text;
        for (size_t i = 0; i < b->n; i++) {
                memcpy(end, b->lines[i].text, b->lines[i].n);
                end += b->lines[i].n;
        }
        *ret_n = n;
        return text;
}

static void verify(const struct audit_files *files, struct audit_anchors *anchors)
{
        struct audit_verdict v;
        size_t failed;

        if (audit_chain_verify(&v, files, anchors, &failed) < 0 || v.fault != AUDIT_FAULT_NONE || v.last != RECORDS)
                fail("the log is not good");
}

static void hash(int fd)
{
        static uint8_t chunk[CHUNK];
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        uint8_t digest[EVP_MAX_MD_SIZE];
        off_t offset = 0;
        ssize_t n;

        if (!context || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1)
                fail("no SHA-256");
        while ((n = pread(fd, chunk, sizeof(chunk), offset)) > 0) {
                EVP_DigestUpdate(context, chunk, (size_t)n);
                offset += n;
        }
        EVP_DigestFinal_ex(context, digest, NULL);
        EVP_MD_CTX_free(context);
}

int main(int argc, char **argv)
{
        FILE *json = argc == 2 ? fopen(argv[1], "ae") : NULL;
        struct audit_files files = { .n = 0 };
        struct audit_anchors anchors = { .n = 0 };
        struct samples verified, hashed;
        struct figure figure;
        struct book book;
        size_t n;
        char *text;
        double floor;

        if (!json)
                fail("usage: bench-audit-verify JSON-FILE");
        book_init(&book, RECORDS);
        for (size_t i = 999; i < RECORDS; i += 1000)
                audit_anchors_add(&anchors, i + 1, bytes_from_string(book.lines[i].hash), 0);
        text = whole_text(&book, &n);
        if (audit_files_add(&files, "audit.jsonl", book_file(text, n), 0) < 0)
                fail("out of memory");
        free(text);
        samples_init(&verified, RUNS);
        samples_init(&hashed, RUNS);
        for (int i = 0; i <= RUNS; i++) { /* the first time is not counted */
                uint64_t begin = samples_now(), middle;

                verify(&files, &anchors);
                middle = samples_now();
                hash(files.files[0].fd);
                if (i > 0) {
                        samples_add(&verified, (middle - begin) / RECORDS);
                        samples_add(&hashed, (samples_now() - middle) / RECORDS);
                }
        }
        figure = figure_of("floor: SHA-256 of an audit record's bytes", &hashed, 0, "");
        floor = figure.median_usec;
        figure.base_usec = floor;
        figure_print(&figure, json);
        figure = figure_of("audit record verified", &verified, floor, "<= 10 us");
        figure_print(&figure, json);
        samples_deinit(&verified);
        samples_deinit(&hashed);
        audit_files_deinit(&files);
        audit_anchors_deinit(&anchors);
        book_deinit(&book);
        return fclose(json) == 0 ? 0 : 1;
}
