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
        ck_assert_ptr_null(c->admin_socket);
        ck_assert_uint_eq(c->admin_socket_mode, 0600);
        ck_assert_uint_eq(c->cache_keys, 4096);
        ck_assert_uint_eq(c->user_connections, 0);
        ck_assert_uint_eq(c->user_bytes, 4 << 20);
        ck_assert_uint_eq(c->user_rate, 10000);
        ck_assert_uint_eq(c->frame_timeout_usec, 10 * USEC_PER_SEC);
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

START_TEST(rules_for_rotation_are_those_of_allow_unless_given_and_nobody_has_history)
{
        _cleanup_(config_unrefp) struct config *c =
                read_good(SCOPE "allow = uid:7 gid:8\n[scope t]\nkeks = local\nallow = uid:7\nallow_rotate = uid:9\nallow_history = uid:10\n"
                                "[scope u]\nkeks = local\nallow = uid:7\nallow_rotate =\nallow_recover = uid:11\n");

        ck_assert_uint_eq(c->scopes[0].allow_rotate.n, 2);
        ck_assert_uint_eq(c->scopes[0].allow_rotate.rule[0].id, 7);
        ck_assert_str_eq(c->scopes[0].allow_rotate.rule[1].text, "gid:8");
        ck_assert_uint_eq(c->scopes[0].allow_history.n, 0);
        ck_assert_uint_eq(c->scopes[0].allow_recover.n, 0);
        ck_assert_uint_eq(c->scopes[1].allow_recover.rule[0].id, 10); /* as allow_history */
        ck_assert_uint_eq(c->scopes[2].allow_recover.rule[0].id, 11);
        ck_assert_uint_eq(c->scopes[1].allow_rotate.n, 1);
        ck_assert_uint_eq(c->scopes[1].allow_rotate.rule[0].id, 9);
        ck_assert_uint_eq(c->scopes[1].allow_history.rule[0].id, 10);
        ck_assert_uint_eq(c->scopes[1].allow.n, 1);
        ck_assert_uint_eq(c->scopes[2].allow_rotate.n, 0); /* given, and empty: nobody */
        refuse(SCOPE "allow_rotate = root\n", 6, "user:NAME");
        refuse(SCOPE "allow_history = root\n", 6, "user:NAME");
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
        refuse("[lkmd]\nuser_requests = 0\n", 2, "number from 1");
        refuse("[lkmd]\nuser_rate = 1000001\n", 2, "0 is no limit");
        refuse("[lkmd]\nuser_bytes = 4X\n", 2, "512K, 64M");
        refuse("[lkmd]\nuser_bytes = 4MB\n", 2, "512K, 64M");
        refuse("[lkmd]\nuser_bytes = 0M\n", 2, "at least 144K");
        refuse("[lkmd]\nuser_bytes = 147455\n", 2, "at least 144K");
        refuse("[lkmd]\nsocket_mode = 999\n", 2, "octal");
        refuse("[lkmd]\nkms_timeout = 5\n", 2, "unit");
        refuse("[lkmd]\nsocket = /a\nadmin_socket = /a\n", 0, "the same path");
        refuse("[lkmd]\nadmin_socket_mode = 0888\n", 2, "octal");
        refuse("[lkmd]\nlog_level = loud\n", 2, "debug");
        refuse("[lkmd]\nadmin = user:nobody-of-this-name\n", 2, "no such user");
        refuse("[lkmd]\nadmin = root\n", 2, "user:NAME");
        refuse("[lkmd]\nadmin = unit:clinic\n", 2, "full name of the unit");
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

START_TEST(what_is_quoted_of_the_file_is_text)
{
        refuse("[\001kmd]\nsocket = /x\n", 2, "unknown section [?kmd]");
        refuse("[lkmd]\nso\033[2Jcket = /x\n", 2, "unknown key so?[2Jcket");
        refuse("[lkmd]\nsocket_mode = \377\n", 2, "socket_mode = ?");
        ck_assert(bytes_is_text(bytes_from_string(error.text)));
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

/* ---- [kek NAME] ---- */

#define AWS "[kek a]\nkms_type = aws\nkek_id = arn:aws:kms:eu-central-1:123456789012:key/1\n"
#define VAULT "[kek v]\nkms_type = vault\nkek_id = k\naddress = https://vault\n"
#define TOKEN VAULT "token_file = /t\n"
#define PROVIDER "[kek p]\nkms_type = socket\nprovider_socket = /p\n"

/* @base is a good section to which @key = @value is added. */
static void refuse_option(const char *base, const char *key, const char *value, const char *phrase)
{
        char text[8192];
        unsigned lines = 1;

        for (const char *p = base; *p; p++)
                lines += *p == '\n';
        ck_assert_int_lt(snprintf(text, sizeof(text), "%s%s = %s\n", base, key, value), (int)sizeof(text));
        refuse(text, lines, phrase);
}

static struct config *accept_option(const char *base, const char *key, const char *value)
{
        char text[8192];

        ck_assert_int_lt(snprintf(text, sizeof(text), "%s%s = %s\n", base, key, value), (int)sizeof(text));
        return read_good(text);
}

static const char *repeated(char c, size_t n)
{
        static char text[4096];

        ck_assert_uint_lt(n, sizeof(text));
        memset(text, c, n);
        text[n] = '\0';
        return text;
}

START_TEST(a_url_goes_by_https_or_to_this_machine)
{
        static const char *const bad[] = { "vault.example.org",    "ftp://v",          "HTTPS://v",          "https://",       "https:///path",
                                           "https://u@v",          "https://u:p@v",    "https://v?x=1",      "https://v#x",    "https://v/?x",
                                           "https://v:",           "https://v:0",      "https://v:65536",    "https://v:1x",   "https://v:443@w",
                                           "https://v/a b",        "https://v\\w",     "https://[::1",       "https://[]",     "https://[x]",
                                           "https://[::1%25eth0]", "https://[::1]x",   "https://v/@",        "https://\xc3\xa4",
                                           "https://[evil",        "https://[::1]:a",  "https://v:00000443", "https://v\x7f" };
        static const char *const away[] = { "http://v",         "http://vault.example.org:8200", "http://127.0.0.1.example.org", "http://10.0.0.1",
                                            "http://128.0.0.1", "http://localhost.example.org",  "http://xlocalhost",            "http://[::2]",
                                            "http://127.1",     "http://127.0.0.1.2",            "http://0.0.0.0",               "http://127.",
                                            "http://[::ffff:10.0.0.1]" };
        static const char *const good[] = { "https://v", "https://v:8200", "https://v.example.org/prefix/x", "https://10.0.0.1", "https://[2001:db8::1]:8200",
                                            "http://127.0.0.1:8200", "http://127.8.9.1", "http://localhost:1", "http://LocalHost", "http://[::1]:65535" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                refuse_option(AWS, "endpoint", bad[i], "give a URL");
                refuse_option("[kek v]\nkms_type = vault\nkek_id = k\ntoken_file = /t\n", "address", bad[i], "give a URL");
        }
        for (size_t i = 0; i < ELEMENTSOF(away); i++)
                refuse_option(AWS, "sts_endpoint", away[i], "keys travel only by https://");
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                _cleanup_(config_unrefp) struct config *c = accept_option(AWS, "endpoint", good[i]);

                ck_assert_str_eq(c->keks[0].endpoint, good[i]);
        }
        refuse_option(AWS, "endpoint", repeated('a', 2049), "give a URL");
}
END_TEST

START_TEST(a_proxy_has_a_host_and_no_path)
{
        static const char *const bad[] = { "proxy", "proxy:3128", "socks5://p:1", "http://", "http://p/", "http://p/x", "http://u@p:1", "http://p:x", "://p" };
        static const char *const good[] = { "http://proxy.example.org:3128", "https://p", "http://10.0.0.1:8080", "http://[2001:db8::1]:3128" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                refuse_option(TOKEN, "proxy", bad[i], "give a proxy");
        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                _cleanup_(config_unrefp) struct config *c = accept_option(AWS, "proxy", good[i]);

                ck_assert_str_eq(c->keks[0].proxy, good[i]);
        }
}
END_TEST

START_TEST(a_mount_is_a_plain_path)
{
        static const char *const bad[] = { "/transit", "transit/", "a//b", "..", "a/../b", "a/./b", "a.", ".", "a./b", "a b", "a?b", "a%2fb", "\xc3\xa4" };
        _cleanup_(config_unrefp) struct config *c = read_good(TOKEN "mount = a/b.c/d-e_f\nnamespace = n/1\nauth_mount = x\n");
        _cleanup_(config_unrefp) struct config *standard = read_good(TOKEN);

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                refuse_option(TOKEN, "mount", bad[i], "give a path");
                refuse_option(TOKEN, "namespace", bad[i], "give a path");
                refuse_option(TOKEN, "auth_mount", bad[i], "give a path");
        }
        refuse_option(TOKEN, "mount", repeated('a', 257), "give a path");
        ck_assert_str_eq(c->keks[0].mount, "a/b.c/d-e_f");
        ck_assert_str_eq(c->keks[0].namespace, "n/1");
        ck_assert_str_eq(c->keks[0].auth_mount, "x");
        ck_assert_str_eq(standard->keks[0].mount, "transit");
        ck_assert_ptr_null(standard->keks[0].auth_mount);
}
END_TEST

START_TEST(a_file_is_a_path_or_a_credential)
{
        static const char *const bad[] = { "t", "./t", "~/t", "credential", "file:/t" };
        static const char *const bad_names[] = { "credential:", "credential:../t", "credential:/t", "credential:a/b", "credential:.t", "credential:-t" };
        struct config *c;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                refuse_option(VAULT, "token_file", bad[i], "absolute path, or credential:NAME");
        for (size_t i = 0; i < ELEMENTSOF(bad_names); i++)
                refuse_option(VAULT, "token_file", bad_names[i], "credential's name");
        ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", "/run/credentials/lkm-kms.service", 1), 0);
        c = accept_option(VAULT, "token_file", "credential:vault-token");
        ck_assert_str_eq(c->keks[0].token_file, "/run/credentials/lkm-kms.service/vault-token");
        config_unref(c);
        c = accept_option(VAULT, "token_file", "/t");
        ck_assert_str_eq(c->keks[0].token_file, "/t");
        config_unref(c);
        ck_assert_int_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
        c = accept_option(VAULT, "token_file", "credential:vault-token");
        ck_assert_str_eq(c->keks[0].token_file, "credential:vault-token");
        config_unref(c);
}
END_TEST

START_TEST(texts_and_words_are_printable)
{
        static const char *const bad_texts[] = { "a b", "\xc3\xa4", "a\x7f" };
        static const char *const bad_words[] = { "a  b", "a\tb", "\xc3\xa4" };
        _cleanup_(config_unrefp) struct config *c = read_good(AWS "profile = a!~\ngrant_tokens = abc= def\n");
        _cleanup_(config_unrefp) struct config *v = read_good(TOKEN "redirect_hosts = v1:8200 v2\nrole = r\n");

        for (size_t i = 0; i < ELEMENTSOF(bad_texts); i++) {
                refuse_option(AWS, "profile", bad_texts[i], "printable ASCII");
                refuse_option(TOKEN, "role", bad_texts[i], "printable ASCII");
                refuse_option(TOKEN, "role_id", bad_texts[i], "printable ASCII");
        }
        for (size_t i = 0; i < ELEMENTSOF(bad_words); i++) {
                refuse_option(AWS, "grant_tokens", bad_words[i], "one space");
                refuse_option(TOKEN, "redirect_hosts", bad_words[i], "one space");
        }
        refuse_option(AWS, "profile", "", "printable ASCII");
        refuse_option(AWS, "profile", repeated('a', 2049), "printable ASCII");
        refuse_option(AWS, "grant_tokens", "", "one space");
        ck_assert_str_eq(c->keks[0].profile, "a!~");
        ck_assert_str_eq(c->keks[0].grant_tokens, "abc= def");
        ck_assert_str_eq(v->keks[0].redirect_hosts, "v1:8200 v2");
}
END_TEST

START_TEST(an_option_of_another_type_is_refused)
{
        static const struct {
                const char *base, *key, *value;
        } strange[] = {
                { KEK, "kek_id", "x" },          { KEK, "region", "r" },         { KEK, "address", "https://v" }, { KEK, "provider_socket", "/p" },
                { KEK, "ca_file", "/c" },        { AWS, "kek_file", "/k" },      { AWS, "kek_credential", "k" },  { AWS, "address", "https://v" },
                { AWS, "auth", "token" },        { AWS, "client_key", "/k" },    { AWS, "mount", "m" },           { AWS, "provider_socket", "/p" },
                { TOKEN, "region", "r" },        { TOKEN, "fips", "no" },        { TOKEN, "profile", "p" },       { TOKEN, "kek_file", "/k" },
                { TOKEN, "aws_environment", "yes" }, { TOKEN, "grant_tokens", "t" }, { PROVIDER, "kek_id", "x" }, { PROVIDER, "address", "https://v" },
                { PROVIDER, "proxy", "http://p" }, { PROVIDER, "ca_file", "/c" }, { PROVIDER, "kek_file", "/k" },
        };

        for (size_t i = 0; i < ELEMENTSOF(strange); i++)
                refuse_option(strange[i].base, strange[i].key, strange[i].value, "is not for kms_type");
        refuse("[kek a]\nregion = r\nkms_type = local\nkek_file = /k\n", 2, "kms_type = local");
        refuse("[kek a]\nregion = r\n", 0, "has no kms_type");
}
END_TEST

START_TEST(each_type_needs_what_belongs_to_it)
{
        refuse("[kek a]\nkms_type = local\n", 0, "[kek a] needs either");
        refuse("[kek a]\nkms_type = local\nkek_file = /k\nkek_credential = k\n", 0, "needs either");
        refuse("[kek a]\nkms_type = aws\nregion = r\n", 0, "[kek a] needs kek_id");
        refuse("[kek a]\nkms_type = aws\nkek_id = alias/lkm\n", 0, "needs a region");
        refuse("[kek a]\nkms_type = aws\nkek_id = 1234abcd-12ab-34cd-56ef-1234567890ab\n", 0, "needs a region");
        refuse(AWS "endpoint = https://v\nfips = yes\n", 0, "endpoint of its own");
        refuse(AWS "endpoint = https://v\ndual_stack = yes\n", 0, "endpoint of its own");
        refuse(AWS "region = eu/central\n", 4, "letters");
        refuse("[kek v]\nkms_type = vault\naddress = https://v\ntoken_file = /t\n", 0, "[kek v] needs kek_id");
        refuse("[kek v]\nkms_type = vault\naddress = https://v\ntoken_file = /t\nkek_id = a/b\n", 0, "needs kek_id: the name");
        refuse("[kek v]\nkms_type = vault\nkek_id = k\ntoken_file = /t\n", 0, "needs an address");
        refuse("[kek p]\nkms_type = socket\n", 0, "[kek p] needs provider_socket");
        refuse("[kek p]\nkms_type = socket\nprovider_socket = p\n", 3, "absolute path");
}
END_TEST

START_TEST(each_login_needs_what_belongs_to_it)
{
        refuse(VAULT, 0, "needs token_file");
        refuse(VAULT "auth = userpass\n", 5, "token, approle, kubernetes, jwt or cert");
        refuse(VAULT "auth = approle\n", 0, "needs role_id");
        refuse(VAULT "auth = approle\nrole_id = r\nsecret_id_wrapped = yes\n", 0, "needs secret_id_file, and role");
        refuse(VAULT "auth = approle\nrole_id = r\nsecret_id_file = /s\nsecret_id_wrapped = yes\n", 0, "and role");
        refuse(VAULT "auth = approle\nrole_id = r\nrole = r\nsecret_id_wrapped = yes\n", 0, "needs secret_id_file");
        refuse(VAULT "auth = kubernetes\n", 0, "needs role for");
        refuse(VAULT "auth = jwt\nrole = r\n", 0, "needs role and jwt_file");
        refuse(VAULT "auth = jwt\njwt_file = /j\n", 0, "needs role and jwt_file");
        refuse(VAULT "auth = cert\n", 0, "needs client_certificate");
        refuse(VAULT "auth = cert\nclient_certificate = /c\n", 0, "both, or neither");
        refuse(TOKEN "client_key = /k\n", 0, "both, or neither");
}
END_TEST

START_TEST(every_kind_of_kek_is_read)
{
        _cleanup_(config_unrefp) struct config *c = read_good(
                KEK AWS PROVIDER TOKEN "[kek alias]\nkms_type = aws\nkek_id = alias/lkm\nregion = eu-central-1\nfips = yes\naws_environment = yes\n"
                "aws_credentials_file = /c\n[kek approle]\nkms_type = vault\nkek_id = k\naddress = https://v\nauth = approle\nrole_id = r\nrole = n\n"
                "secret_id_file = /s\nsecret_id_wrapped = yes\n[kek bare]\nkms_type = vault\nkek_id = k\naddress = https://v\nauth = approle\nrole_id = r\n"
                "[kek pod]\nkms_type = vault\nkek_id = k\naddress = https://v\nauth = kubernetes\nrole = r\n"
                "[kek cert]\nkms_type = vault\nkek_id = k\naddress = https://v\nauth = cert\nclient_certificate = /c\nclient_key = /k\n"
                "[kek jwt]\nkms_type = vault\nkek_id = k\naddress = https://v\nauth = jwt\nrole = r\njwt_file = /j\n");
        const struct config_kek *kek = c->keks;

        ck_assert_uint_eq(c->n_keks, 10);
        ck_assert_int_eq(kek[0].kms_type, KMS_TYPE_LOCAL);
        ck_assert_int_eq(kek[1].kms_type, KMS_TYPE_AWS);
        ck_assert_ptr_null(kek[1].region); /* the ARN names it */
        ck_assert(!kek[1].fips && !kek[1].dual_stack && !kek[1].aws_environment);
        ck_assert_int_eq(kek[2].kms_type, KMS_TYPE_SOCKET);
        ck_assert_str_eq(kek[2].provider_socket, "/p");
        ck_assert_int_eq(kek[3].auth, VAULT_AUTH_TOKEN);
        ck_assert_str_eq(kek[3].address, "https://vault");
        ck_assert_ptr_null(kek[3].namespace);
        ck_assert(kek[4].fips && kek[4].aws_environment);
        ck_assert_str_eq(kek[4].aws_credentials_file, "/c");
        ck_assert_int_eq(kek[5].auth, VAULT_AUTH_APPROLE);
        ck_assert(kek[5].secret_id_wrapped && !kek[6].secret_id_wrapped);
        ck_assert_ptr_null(kek[6].secret_id_file); /* a role may need none */
        ck_assert_int_eq(kek[7].auth, VAULT_AUTH_KUBERNETES);
        ck_assert_int_eq(kek[8].auth, VAULT_AUTH_CERT);
        ck_assert_int_eq(kek[9].auth, VAULT_AUTH_JWT);
        ck_assert_str_eq(kms_type_text(kek[3].kms_type), "vault");
}
END_TEST

int main(void)
{
        const struct promise all[] = { { defaults_are_those_of_the_table },
                                       { values_are_read },
                                       { rules_for_rotation_are_those_of_allow_unless_given_and_nobody_has_history },
                                       { every_mistake_is_told_with_its_line },
                                       { what_is_quoted_of_the_file_is_text },
                                       { a_line_too_long_is_told_not_cut },
                                       { a_drop_in_wins_and_its_mistakes_name_it },
                                       { nobody_is_allowed_by_default },
                                       { policy_looks_at_uid_gid_and_supplementary_groups },
                                       { a_url_goes_by_https_or_to_this_machine },
                                       { a_proxy_has_a_host_and_no_path },
                                       { a_mount_is_a_plain_path },
                                       { a_file_is_a_path_or_a_credential },
                                       { texts_and_words_are_printable },
                                       { an_option_of_another_type_is_refused },
                                       { each_type_needs_what_belongs_to_it },
                                       { each_login_needs_what_belongs_to_it },
                                       { every_kind_of_kek_is_read } };

        return suite_run("config", setup, teardown, all, ELEMENTSOF(all));
}
