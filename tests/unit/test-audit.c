/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "daemon/audit.h"
#include "tests/unit/suite.h"

enum { LOG_MAX = 4 * 1024 * 1024 };

static char folder[] = "/tmp/lkm-audit-XXXXXX", path[64];
static const struct audit_event event = { .event = "release", .scope = "medical", .version = 1, .decision = "allow" };
static struct audit_hasher hasher;
static char content[LOG_MAX];

static void setup(void)
{
        ck_assert_ptr_nonnull(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/audit.jsonl", folder);
        ck_assert_int_eq(audit_hasher_init(&hasher), 0);
}

static void teardown(void)
{
        char command[128];

        snprintf(command, sizeof(command), "rm -r %s", folder);
        ck_assert_int_eq(system(command), 0);
        memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
        audit_hasher_deinit(&hasher);
}

static size_t read_file(const char *name)
{
        _cleanup_(fclosep) FILE *file = fopen(name, "re");
        size_t got;

        ck_assert_ptr_nonnull(file);
        got = fread(content, 1, sizeof(content) - 1, file);
        content[got] = '\0';
        return got;
}

static void write_file(const char *text, size_t n)
{
        _cleanup_(fclosep) FILE *file = fopen(path, "we");

        ck_assert_uint_eq(fwrite(text, 1, n, file), n);
}

/* A chain under check: read file by file. */
struct chain {
        uint64_t n;
        char hash[AUDIT_HASH_LENGTH + 1];
        char first[32], last[32], reason[AUDIT_LINE_MAX]; /* events, and the last reason */
        uint64_t count;
};

static void chain_init(struct chain *c)
{
        *c = (struct chain){ .hash = AUDIT_HASH_NONE };
}

/* Each line is one, follows the one before, and says its own hash. */
static void chain_take(struct chain *c, const char *name)
{
        char scratch[AUDIT_LINE_MAX];
        struct audit_line line;

        read_file(name);
        for (char *at = content, *end; (end = strchr(at, '\n')); at = end + 1) {
                ck_assert_int_eq(audit_line_parse(&line, scratch, (struct bytes){ (const uint8_t *)at, (size_t)(end - at) }), 0);
                ck_assert_int_eq(audit_line_check(&hasher, &line), 0);
                ck_assert(bytes_equal(line.prev, bytes_from_string(c->hash)));
                ck_assert_uint_eq(line.seq, ++c->n);
                memcpy(c->hash, line.hash.data, AUDIT_HASH_LENGTH);
                snprintf(c->last, sizeof(c->last), "%.*s", (int)line.event.n, (const char *)line.event.data);
                snprintf(c->reason, sizeof(c->reason), "%.*s", (int)line.reason.n, (const char *)line.reason.data);
                c->count = line.count;
                if (at == content)
                        snprintf(c->first, sizeof(c->first), "%s", c->last);
                ck_assert(end[1] == '\0' || strchr(end + 1, '\n'));
        }
}

static struct audit *open_log(void)
{
        struct audit *a;

        ck_assert_int_eq(audit_open(&a, path), 0);
        return a;
}

static void write_some(unsigned n)
{
        _cleanup_(audit_freep) struct audit *a = open_log();

        for (unsigned i = 0; i < n; i++)
                ck_assert_int_eq(audit_write(a, &event), 0);
}

START_TEST(lines_are_chained_over_restarts)
{
        struct chain c;
        struct stat st;

        write_some(3);
        write_some(2);
        chain_init(&c);
        chain_take(&c, path);
        ck_assert_uint_eq(c.n, 5);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

/* Cut at every byte: the whole lines stay, and one line says what was cut off. */
START_TEST(a_torn_last_line_is_cut_off_and_told)
{
        static char whole[8192];
        uint8_t hash[32];
        char hex[65];
        struct chain c;
        size_t n, kept;

        write_some(3);
        n = read_file(path);
        memcpy(whole, content, n);
        for (size_t cut = 1; cut < n; cut++) {
                _cleanup_(audit_freep) struct audit *a = NULL;

                for (kept = cut; kept > 0 && whole[kept - 1] != '\n';)
                        kept--;
                write_file(whole, cut);
                a = open_log();
                ck_assert_int_eq(audit_write(a, &event), 0);
                read_file(path);
                ck_assert_int_eq(strncmp(content, whole, kept), 0);
                chain_init(&c);
                ck_assert_int_eq(truncate(path, (off_t)(strrchr(content, '{') - content)), 0); /* without the last line */
                chain_take(&c, path);
                if (kept == cut) {
                        ck_assert_str_eq(c.last, "release");
                        continue;
                }
                ck_assert_str_eq(c.last, "torn");
                ck_assert_uint_eq(c.count, cut - kept);
                ck_assert_int_eq(EVP_Digest(whole + kept, cut - kept, hash, NULL, EVP_sha256(), NULL), 1);
                hex_format(hex, hash, sizeof(hash));
                ck_assert_str_eq(c.reason, hex);
        }
}
END_TEST

/* What a file system may leave of lines that were never made durable: a file that is longer than what is in it. */
START_TEST(holes_after_a_power_loss_are_torn_too)
{
        static const char zeros[200000];
        static char text[300000];
        struct chain c;
        size_t n;

        write_some(2);
        n = read_file(path);
        memcpy(text, content, n);
        memset(text + n, 0, sizeof(zeros));
        write_file(text, n + sizeof(zeros));
        write_some(1);
        chain_init(&c);
        chain_take(&c, path);
        ck_assert_uint_eq(c.n, 4);

        /* The end of the last line has come to the disk, its middle has not. */
        write_some(1);
        n = read_file(path);
        memcpy(text, content, n);
        memset(text + n - 200, 0, 100);
        write_file(text, n);
        write_some(1);
        chain_init(&c);
        chain_take(&c, path);
        ck_assert_uint_eq(c.n, 6);
}
END_TEST

START_TEST(a_symbolic_link_is_refused)
{
        struct audit *a;

        ck_assert_int_eq(symlink("/etc/passwd", path), 0);
        ck_assert_int_eq(audit_open(&a, path), -ELOOP);
}
END_TEST

START_TEST(what_is_no_audit_log_is_refused_and_left_alone)
{
        static const char *const others[] = {
                "not an audit log\n", "not an audit log", "{\"a\":1}\n", "{\"a\":1", "\n",
                /* an earlier version's: no hash of its own */
                "{\"seq\":1,\"time\":\"2026-01-02T03:04:05Z\",\"event\":\"start\",\"prev\":\"" AUDIT_HASH_NONE "\"}\n",
        };
        struct audit *a;

        for (size_t i = 0; i < ELEMENTSOF(others); i++) {
                write_file(others[i], strlen(others[i]));
                ck_assert_int_eq(audit_open(&a, path), -EBADMSG);
                ck_assert_uint_eq(read_file(path), strlen(others[i]));
                ck_assert_str_eq(content, others[i]);
        }
}
END_TEST

START_TEST(a_last_line_that_was_changed_is_refused)
{
        struct audit *a;
        size_t n;

        write_some(3);
        n = read_file(path);
        for (size_t i = n - 300; i < n - 1; i++) {
                read_file(path);
                content[i] = (char)(content[i] ^ 1);
                if (content[i] == '\0')
                        continue;
                write_file(content, n);
                ck_assert_int_eq(audit_open(&a, path), -EBADMSG);
                content[i] = (char)(content[i] ^ 1);
                write_file(content, n);
        }
}
END_TEST

START_TEST(a_full_disk_is_told_and_leaves_whole_lines)
{
        struct rlimit limit;
        _cleanup_(audit_freep) struct audit *a = NULL;
        struct chain c;
        size_t n;

        signal(SIGXFSZ, SIG_IGN);
        write_some(2);
        n = read_file(path);
        a = open_log();
        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = n + 30;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        for (unsigned i = 0; i < 3; i++)
                ck_assert_int_lt(audit_write(a, &event), 0);
        ck_assert_uint_eq(read_file(path), n);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_FSIZE, &limit);
        ck_assert_int_eq(audit_write(a, &event), 0);
        chain_init(&c);
        chain_take(&c, path);
        ck_assert_uint_eq(c.n, 4); /* one says how many there are not */
        ck_assert(strstr(content, "\"event\":\"audit-again\"") && strstr(content, "\"count\":3"));
}
END_TEST

/* The only file that was moved away, or "". */
static void find_other(char *ret_name, size_t size)
{
        DIR *entries = opendir(folder);
        const struct dirent *entry;

        *ret_name = '\0';
        while ((entry = readdir(entries))) {
                if (strncmp(entry->d_name, "audit.jsonl.0", 13) == 0)
                        snprintf(ret_name, size, "%s/%s", folder, entry->d_name);
        }
        closedir(entries);
}

START_TEST(a_full_file_is_moved_away_and_the_chain_goes_on)
{
        _cleanup_(audit_freep) struct audit *a = open_log();
        char other[512];
        struct chain c;

        audit_configure(a, AUDIT_SYNC_BATCH, 1000);
        for (unsigned i = 0; i < 4; i++)
                ck_assert_int_eq(audit_write(a, &event), 0);
        find_other(other, sizeof(other));
        ck_assert_str_eq(strrchr(other, '/'), "/audit.jsonl.0000000000000001-0000000000000004");
        chain_init(&c);
        chain_take(&c, other);
        ck_assert_str_eq(c.last, "checkpoint");
        chain_take(&c, path);
        ck_assert_str_eq(c.first, "open");
        ck_assert_str_eq(c.last, "release");
        ck_assert_uint_eq(c.n, audit_sequence(a));
}
END_TEST

START_TEST(a_file_that_was_moved_away_is_followed)
{
        _cleanup_(audit_freep) struct audit *a = open_log();
        char other[512];
        struct chain c;

        audit_write(a, &event);
        ck_assert_int_eq(audit_reopen(a), 0); /* it was not */
        snprintf(other, sizeof(other), "%s.1", path);
        ck_assert_int_eq(rename(path, other), 0);
        ck_assert_int_eq(audit_write(a, &event), 0);
        ck_assert_int_eq(audit_reopen(a), 0);
        ck_assert_int_eq(audit_write(a, &event), 0);
        chain_init(&c);
        chain_take(&c, other);
        ck_assert_uint_eq(c.n, 2);
        chain_take(&c, path);
        ck_assert_str_eq(c.first, "open");
        ck_assert_uint_eq(c.n, 4);
}
END_TEST

/* Also when nobody served meanwhile, and when the daemon was killed between the two steps of its own rotation. */
START_TEST(an_empty_log_goes_on_from_the_file_beside_it)
{
        char other[512], older[512];
        struct chain c;

        write_some(2);
        snprintf(older, sizeof(older), "%s.2", path);
        ck_assert_int_eq(rename(path, older), 0);
        write_some(3);
        snprintf(other, sizeof(other), "%s.1", path);
        ck_assert_int_eq(rename(path, other), 0);
        write_file("", 0);
        write_some(1);
        chain_init(&c);
        chain_take(&c, older);
        chain_take(&c, other);
        ck_assert_str_eq(c.first, "open");
        chain_take(&c, path);
        ck_assert_str_eq(c.first, "open");
        ck_assert_uint_eq(c.n, 2 + 4 + 2);
}
END_TEST

START_TEST(a_log_that_somebody_else_changes_is_not_written_any_more)
{
        _cleanup_(audit_freep) struct audit *a = open_log();
        size_t n;

        audit_write(a, &event);
        n = read_file(path);
        ck_assert_int_eq(truncate(path, (off_t)n - 5), 0);
        ck_assert_int_eq(audit_write(a, &event), -ESTALE);
        ck_assert_int_eq(truncate(path, (off_t)n), 0);
        ck_assert_int_eq(audit_write(a, &event), -ESTALE);
        ck_assert_int_eq(audit_reopen(a), 0); /* begins another file */
        ck_assert_int_eq(audit_write(a, &event), 0);
}
END_TEST

START_TEST(two_cannot_write_one_log)
{
        _cleanup_(audit_freep) struct audit *a = open_log();
        struct audit *b;

        ck_assert_int_eq(audit_open(&b, path), -EBUSY);
        a = audit_free(a);
        a = open_log();
}
END_TEST

START_TEST(a_checkpoint_follows_a_thousand_lines)
{
        _cleanup_(audit_freep) struct audit *a = open_log();
        struct audit_checkpoint checkpoint;
        struct chain c;

        ck_assert_int_eq(audit_checkpoint(a), 0); /* of nothing */
        ck_assert_uint_eq(audit_sequence(a), 0);
        for (unsigned i = 0; i < 999; i++)
                ck_assert_int_eq(audit_write(a, &event), 0);
        ck_assert(!audit_checkpoint_take(a, &checkpoint));
        ck_assert_int_eq(audit_write(a, &event), 0);
        ck_assert(audit_checkpoint_take(a, &checkpoint));
        ck_assert_uint_eq(checkpoint.sequence, 1001);
        ck_assert(!audit_checkpoint_take(a, &checkpoint));
        chain_init(&c);
        chain_take(&c, path);
        ck_assert_str_eq(c.last, "checkpoint");
        ck_assert_str_eq(c.hash, checkpoint.hash);
        ck_assert_int_eq(audit_checkpoint(a), 0); /* nothing since */
        ck_assert_uint_eq(audit_sequence(a), 1001);
}
END_TEST

START_TEST(what_was_written_becomes_durable)
{
        _cleanup_(audit_freep) struct audit *a = open_log();
        struct audit_state state;

        ck_assert_int_eq(audit_start_sync(a), 0);
        for (unsigned i = 0; i < 50; i++)
                ck_assert_int_eq(audit_write(a, &event), 0);
        ck_assert_int_eq(audit_finish(a), 0);
        audit_get_state(a, &state);
        ck_assert_uint_eq(state.durable, 50);
        ck_assert_uint_gt(state.durable_usec, 0);
}
END_TEST

int main(void)
{
        const struct promise all[] = { { lines_are_chained_over_restarts },
                                       { a_torn_last_line_is_cut_off_and_told },
                                       { holes_after_a_power_loss_are_torn_too },
                                       { a_symbolic_link_is_refused },
                                       { what_is_no_audit_log_is_refused_and_left_alone },
                                       { a_last_line_that_was_changed_is_refused },
                                       { a_full_disk_is_told_and_leaves_whole_lines },
                                       { a_full_file_is_moved_away_and_the_chain_goes_on },
                                       { a_file_that_was_moved_away_is_followed },
                                       { an_empty_log_goes_on_from_the_file_beside_it },
                                       { a_log_that_somebody_else_changes_is_not_written_any_more },
                                       { two_cannot_write_one_log },
                                       { a_checkpoint_follows_a_thousand_lines },
                                       { what_was_written_becomes_durable } };

        return suite_run("audit", setup, teardown, all, ELEMENTSOF(all));
}
