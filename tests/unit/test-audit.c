/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "daemon/audit.h"
#include "tests/unit/suite.h"

static char folder[] = "/tmp/lkm-audit-XXXXXX", path[64];
static const struct audit_event event = { .event = "release", .scope = "medical", .version = 1, .decision = "allow" };

static void setup(void)
{
        ck_assert_ptr_nonnull(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/audit.jsonl", folder);
}

static void teardown(void)
{
        unlink(path);
        rmdir(folder);
        memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
}

static size_t read_log(char *text, size_t n)
{
        _cleanup_(fclosep) FILE *file = fopen(path, "re");
        size_t got = fread(text, 1, n - 1, file);

        text[got] = '\0';
        return got;
}

/* Whether each line's "prev" is the hash of the whole line before it. */
static unsigned count_chained(char *text)
{
        char previous[65];
        unsigned n = 0;

        memset(previous, '0', 64);
        previous[64] = '\0';
        for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
                uint8_t hash[32];
                const char *prev;

                *end = '\0';
                prev = strstr(line, "\"prev\":\"");
                ck_assert_ptr_nonnull(prev);
                ck_assert_int_eq(strncmp(prev + 8, previous, 64), 0);
                ck_assert_int_eq(EVP_Digest(line, strlen(line), hash, NULL, EVP_sha256(), NULL), 1);
                hex_format(previous, hash, sizeof(hash));
                n++;
        }
        return n;
}

static void write_some(unsigned n)
{
        _cleanup_(audit_freep) struct audit *a = NULL;

        ck_assert_int_eq(audit_open(&a, path), 0);
        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(audit_write(a, &event), 0);
}

START_TEST(lines_are_chained_over_restarts)
{
        char text[8192];
        struct stat st;

        write_some(3);
        write_some(2);
        read_log(text, sizeof(text));
        ck_assert_uint_eq(count_chained(text), 5);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(a_torn_last_line_is_closed_and_the_chain_goes_on)
{
        _cleanup_(audit_freep) struct audit *a = NULL;
        char text[8192];
        size_t n;

        write_some(3);
        n = read_log(text, sizeof(text));
        ck_assert_int_eq(truncate(path, (off_t)n - 20), 0);
        ck_assert_int_eq(audit_open(&a, path), 0);
        ck_assert_uint_eq(audit_sequence(a), 2);
        ck_assert_int_eq(audit_write(a, &event), 0);
        ck_assert_uint_eq(audit_sequence(a), 3);
}
END_TEST

START_TEST(a_symbolic_link_is_refused)
{
        _cleanup_(audit_freep) struct audit *a = NULL;

        ck_assert_int_eq(symlink("/etc/passwd", path), 0);
        ck_assert_int_eq(audit_open(&a, path), -ELOOP);
}
END_TEST

START_TEST(another_file_is_refused)
{
        _cleanup_(audit_freep) struct audit *a = NULL;
        _cleanup_(fclosep) FILE *file = fopen(path, "we");

        fputs("not an audit log\n", file);
        fflush(file);
        ck_assert_int_eq(audit_open(&a, path), -EBADMSG);
}
END_TEST

START_TEST(a_full_disk_is_told_and_leaves_whole_lines)
{
        struct rlimit limit;
        _cleanup_(audit_freep) struct audit *a = NULL;
        char text[8192];
        size_t n;

        signal(SIGXFSZ, SIG_IGN);
        write_some(2);
        n = read_log(text, sizeof(text));
        ck_assert_int_eq(audit_open(&a, path), 0);
        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = n + 30;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        ck_assert_int_lt(audit_write(a, &event), 0);
        ck_assert_uint_eq(read_log(text, sizeof(text)), n);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_FSIZE, &limit);
        ck_assert_int_eq(audit_write(a, &event), 0);
        read_log(text, sizeof(text));
        ck_assert_uint_eq(count_chained(text), 3);
}
END_TEST

int main(void)
{
        const struct promise all[] = { { lines_are_chained_over_restarts },
                                       { a_torn_last_line_is_closed_and_the_chain_goes_on },
                                       { a_symbolic_link_is_refused },
                                       { another_file_is_refused },
                                       { a_full_disk_is_told_and_leaves_whole_lines } };

        return suite_run("audit", setup, teardown, all, ELEMENTSOF(all));
}
