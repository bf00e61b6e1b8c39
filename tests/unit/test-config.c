/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "daemon/config.h"
#include "daemon/policy.h"
#include "tests/unit/suite.h"

#define KEK "[kek local]\nkms_type = local\nkek_file = /k\n"
#define SCOPE KEK "[scope s]\nkeks = local\n"

static char folder[] = "/tmp/lkm-config-XXXXXX", path[64], drop_ins[80], drop_in[96];
static struct config_error error;

static void setup(void)
{
        ck_assert_ptr_nonnull(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/c", folder);
        snprintf(drop_ins, sizeof(drop_ins), "%s.d", path);
        snprintf(drop_in, sizeof(drop_in), "%s/10.conf", drop_ins);
}

static void teardown(void)
{
        unlink(drop_in);
        rmdir(drop_ins);
        unlink(path);
        rmdir(folder);
        memcpy(folder + strlen(folder) - 6, "XXXXXX", 6);
}

static void put(const char *file, const char *text)
{
        _cleanup_(fclosep) FILE *f = fopen(file, "we");

        ck_assert_ptr_nonnull(f);
        fputs(text, f);
}

static struct config *read_good(const char *text)
{
        struct config *c = NULL;

        put(path, text);
        ck_assert_msg(config_read(&c, path, &error) == 0, "%s", error.text);
        return c;
}

/* The error names file and line, and says @phrase. */
static void refuse(const char *text, unsigned line, const char *phrase)
{
        struct config *c = NULL;
        char where[96];

        put(path, text);
        ck_assert_int_eq(config_read(&c, path, &error), -EINVAL);
        snprintf(where, sizeof(where), "%s:%u: ", path, line);
        if (line > 0)
                ck_assert_msg(strncmp(error.text, where, strlen(where)) == 0, "%s does not begin with %s", error.text, where);
        ck_assert_msg(strstr(error.text, phrase), "%s does not say: %s", error.text, phrase);
}

START_TEST(defaults_are_those_of_the_table)
{
        _cleanup_(config_unrefp) struct config *c = read_good(SCOPE);

        ck_assert_str_eq(c->socket, "/run/lkm/lkm.sock");
        ck_assert_uint_eq(c->socket_mode, 0666);
        ck_assert_uint_eq(c->cache_keys, 4096);
        ck_assert_uint_eq(c->scopes[0].cache_ttl_usec, 900 * USEC_PER_SEC);
        ck_assert_uint_eq(c->scopes[0].stale_grace_usec, 0);
        ck_assert_uint_eq(c->scopes[0].allow.n, 0);
        ck_assert_uint_eq(c->admin.n, 1);
        ck_assert_uint_eq(c->idle_exit_usec, 60 * USEC_PER_SEC);
}
END_TEST

START_TEST(values_are_read)
{
        _cleanup_(config_unrefp) struct config *c =
                read_good("# comment\n[kms]\nidle_exit = 0\n" SCOPE "encryption_context = z=1 a=b=c\nallow = uid:7 gid:8 user:root\n"
                          "cache_ttl = 90s\nstale_grace = 1h\nrotation_enabled = yes\nrotation_period_days = 30\n");

        ck_assert_uint_eq(c->idle_exit_usec, USEC_INFINITY);
        ck_assert_uint_eq(c->scopes[0].encryption_context.n, 2);
        ck_assert(bytes_equal(c->scopes[0].encryption_context.pair[0].value, BYTES_LITERAL("b=c")));
        ck_assert_uint_eq(c->scopes[0].allow.n, 3);
        ck_assert_uint_eq(c->scopes[0].allow.rule[1].id, 8);
        ck_assert_str_eq(c->scopes[0].allow.rule[2].text, "user:root");
        ck_assert_ptr_eq(c->scopes[0].keks[0], &c->keks[0]);
        ck_assert(c->scopes[0].rotation_enabled);
}
END_TEST

START_TEST(every_mistake_is_told_with_its_line)
{
        refuse("[lkmd]\nsockte = /x\n", 2, "unknown key sockte");
        refuse("[lkdm]\nsocket = /x\n", 2, "unknown section [lkdm]");
        refuse("socket = /x\n", 1, "before any section");
        refuse("[lkmd]\n\nsocket = x\n", 3, "absolute path");
        refuse("[lkmd]\nsocket = /x\nsocket = /y\n", 3, "given twice");
        refuse("[lkmd]\nnonsense\n", 2, "not a [section]");
        refuse("[lkmd]\ncache_keys = -1\n", 2, "number from 1");
        refuse("[lkmd]\ncache_keys = 4096x\n", 2, "number from 1");
        refuse("[lkmd]\nsocket_mode = 999\n", 2, "octal");
        refuse("[lkmd]\nkms_timeout = 5\n", 2, "unit");
        refuse("[lkmd]\nlog_level = loud\n", 2, "debug");
        refuse("[lkmd]\nadmin = user:nobody-of-this-name\n", 2, "no such user");
        refuse("[lkmd]\nadmin = root\n", 2, "user:NAME");
        refuse("[kek a b]\nkms_type = local\n", 2, "unknown section");
        refuse("[kek a]\nkms_type = cloud\nkek_file = /k\n", 2, "local, aws, vault or socket");
        refuse("[kek a]\nkms_type = local\n", 0, "either kek_file or kek_credential");
        refuse(KEK "[scope s]\nkeks = other\n", 5, "no [kek NAME] section");
        refuse(KEK "[scope s]\nallow = uid:1\n", 0, "has no keks");
        refuse(SCOPE "encryption_context = lkm:scope=x\n", 6, "reserved");
        refuse(SCOPE "encryption_context = a=1 a=2\n", 6, "twice");
        refuse(SCOPE "encryption_context = a\n", 6, "KEY=VALUE");
        refuse(SCOPE "cache_ttl = 2d\n", 0, "above its cache_max_age");
        refuse(SCOPE "rotation_enabled = maybe\n", 6, "yes or no");
        refuse(SCOPE "dek_spec = AES_128\n", 6, "AES_256");
        refuse(SCOPE "  allow = uid:1\n", 6, "white space");
        refuse("[lkmd]\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa = 1\n", 2, "longer than 48");
}
END_TEST

START_TEST(a_line_too_long_is_told_not_cut)
{
        static char text[20000];

        memset(text, 'a', sizeof(text) - 1);
        memcpy(text, "[lkmd]\nsocket = /", 17);
        refuse(text, 2, "longer than");
}
END_TEST

START_TEST(a_drop_in_wins_and_its_mistakes_name_it)
{
        struct config *c = NULL;

        put(path, SCOPE "cache_ttl = 1h\n");
        ck_assert_int_eq(mkdir(drop_ins, 0700), 0);
        put(drop_in, "[scope s]\ncache_ttl = 2h\n");
        ck_assert_int_eq(config_read(&c, path, &error), 0);
        ck_assert_uint_eq(c->scopes[0].cache_ttl_usec, 7200 * USEC_PER_SEC);
        config_unref(c);
        put(drop_in, "[scope s]\ncache_ttl = 2\n");
        ck_assert_int_eq(config_read(&c, path, &error), -EINVAL);
        ck_assert_int_eq(strncmp(error.text, drop_in, strlen(drop_in)), 0);
}
END_TEST

START_TEST(nobody_is_allowed_by_default)
{
        _cleanup_(config_unrefp) struct config *c = read_good(SCOPE);
        struct peer root = { .uid = 0 };
        const char *rule;

        ck_assert(!policy_decide(c, &c->scopes[0], &root, POLICY_RIGHT_USE, &rule));
        ck_assert_str_eq(rule, "no rule");
        ck_assert(policy_decide(c, NULL, &root, POLICY_RIGHT_ADMIN, &rule));
}
END_TEST

START_TEST(policy_looks_at_uid_gid_and_supplementary_groups)
{
        _cleanup_(config_unrefp) struct config *c = read_good(SCOPE "allow = uid:7 gid:8\n");
        uint32_t groups[] = { 5, 8 };
        struct peer by_uid = { .uid = 7 }, by_gid = { .uid = 9, .gid = 8 }, none = { .uid = 8, .gid = 7 };
        struct peer by_group = { .uid = 9, .gid = 9, .n_groups = 2, .groups = groups };
        const char *rule;

        ck_assert(policy_decide(c, &c->scopes[0], &by_uid, POLICY_RIGHT_USE, &rule));
        ck_assert_str_eq(rule, "uid:7");
        ck_assert(policy_decide(c, &c->scopes[0], &by_gid, POLICY_RIGHT_CREATE, &rule));
        ck_assert(policy_decide(c, &c->scopes[0], &by_group, POLICY_RIGHT_USE, &rule));
        ck_assert_str_eq(rule, "gid:8");
        ck_assert(!policy_decide(c, &c->scopes[0], &none, POLICY_RIGHT_USE, &rule));
        ck_assert(!policy_decide(c, NULL, &by_uid, POLICY_RIGHT_ADMIN, &rule));
}
END_TEST

int main(void)
{
        const struct promise all[] = { { defaults_are_those_of_the_table },
                                       { values_are_read },
                                       { every_mistake_is_told_with_its_line },
                                       { a_line_too_long_is_told_not_cut },
                                       { a_drop_in_wins_and_its_mistakes_name_it },
                                       { nobody_is_allowed_by_default },
                                       { policy_looks_at_uid_gid_and_supplementary_groups } };

        return suite_run("config", setup, teardown, all, ELEMENTSOF(all));
}
