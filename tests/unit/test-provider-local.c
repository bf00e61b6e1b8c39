/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "daemon/kms/local-kek.h"
#include "daemon/kms/provider.h"

#define UUID "5b1f0a52-6a9d-4c3a-9f0e-0a3c6d1c7e11"
#define HEADER "lkm-local-kek 1 " UUID "\n"
#define KEY_A "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define KEY_B "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

/* One operation and how it ended. */
struct outcome {
        struct provider_call call;
        unsigned n;
        enum proto_error error;
        struct secret *key;
        char kek_id[KEK_ID_MAX + 1];
        uint8_t wrapped[WRAPPED_MAX];
        size_t n_wrapped;
        char sentence[1024];
};

static char directory[64], path[128];
static struct kek *kek;

static void take_outcome(struct provider_call *call, const struct provider_result *result)
{
        struct outcome *o = (struct outcome *)(void *)call;

        o->n++;
        o->error = result->error;
        snprintf(o->sentence, sizeof(o->sentence), "%s", result->sentence ? result->sentence : "");
        if (result->key)
                o->key = secret_ref(result->key);
        snprintf(o->kek_id, sizeof(o->kek_id), "%.*s", (int)result->kek_id.n, (const char *)result->kek_id.data);
        if (result->wrapped.n > 0)
                memcpy(o->wrapped, result->wrapped.data, result->wrapped.n);
        o->n_wrapped = result->wrapped.n;
}

static struct outcome outcome_new(void)
{
        return (struct outcome){ .call = { take_outcome } };
}

static struct bytes wrapped_of(const struct outcome *o)
{
        return (struct bytes){ o->wrapped, o->n_wrapped };
}

static struct pairs context_of(const char *purpose, const char *database)
{
        return (struct pairs){ .n = 2,
                               .pair = { { BYTES_LITERAL("lkm:database"), bytes_from_string(database) },
                                         { BYTES_LITERAL("purpose"), bytes_from_string(purpose) } } };
}

static void write_file(const char *text, mode_t mode)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        ck_assert_int_eq(fchmod(fd, mode), 0);
        close(fd);
}

static int load(struct sentence *why)
{
        struct config_kek config = { .name = (char[]){ "local" }, .kms_type = KMS_TYPE_LOCAL, .kek_file = path };

        return provider_local.kek_new(&kek, &config, NULL, why);
}

static void reload(void)
{
        struct sentence why;

        kek = kek ? provider_local.kek_free(kek) : NULL;
        ck_assert_int_eq(load(&why), 0);
}

static void setup(void)
{
        struct sentence why;

        ck_assert_int_eq(secret_arena_init(512, 8, 0, NULL), 0);
        snprintf(directory, sizeof(directory), "/tmp/lkm-kek-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/kek", directory);
        ck_assert_int_eq(local_kek_generate(path, &why), 0);
        reload();
}

static void teardown(void)
{
        kek = kek ? provider_local.kek_free(kek) : NULL;
        unlink(path);
        ck_assert_int_eq(rmdir(directory), 0); /* so no temporary file was left either */
        secret_arena_deinit();
}

static struct outcome generate(const struct pairs *context)
{
        struct outcome o = outcome_new();

        provider_local.generate(kek, &o.call, context);
        ck_assert_uint_eq(o.n, 1);
        ck_assert_int_eq(o.error, PROTO_ERROR_NONE);
        return o;
}

static struct bytes kek_id(void)
{
        struct provider_description description;

        provider_local.describe(kek, &description);
        return bytes_from_string(description.kek_id);
}

static enum proto_error unwrap(struct bytes wrapped, const struct pairs *context, struct secret **ret_key)
{
        struct outcome o = outcome_new();

        provider_local.unwrap(kek, &o.call, kek_id(), wrapped, context);
        ck_assert_uint_eq(o.n, 1);
        ck_assert_int_eq(o.key == NULL, o.error != PROTO_ERROR_NONE);
        ck_assert_int_eq(o.error != 0, *o.sentence != '\0');
        if (ret_key)
                *ret_key = o.key;
        else
                secret_unref(o.key);
        return o.error;
}

START_TEST(wrapped_key_unwraps_to_the_same_key)
{
        struct pairs context = context_of("a", "1");
        struct outcome made = generate(&context), wrapped = outcome_new();
        struct secret *key = NULL;
        struct provider_description description;

        provider_local.describe(kek, &description);
        ck_assert_str_eq(made.kek_id, description.kek_id);
        ck_assert_uint_eq(description.version, 1);
        ck_assert_uint_eq(made.n_wrapped, 1 + 4 + 12 + 32 + 16);
        ck_assert_int_eq(unwrap(wrapped_of(&made), &context, &key), 0);
        ck_assert(secret_equal(key, made.key));
        secret_unref(key);

        provider_local.wrap(kek, &wrapped.call, made.key, &context);
        ck_assert_int_eq(wrapped.error, 0);
        ck_assert_ptr_null(wrapped.key);
        ck_assert(!bytes_equal(wrapped_of(&wrapped), wrapped_of(&made))); /* another nonce */
        ck_assert_int_eq(unwrap(wrapped_of(&wrapped), &context, &key), 0);
        ck_assert(secret_equal(key, made.key));
        secret_unref(key);
        secret_unref(made.key);
}
END_TEST

START_TEST(order_of_context_pairs_does_not_matter)
{
        struct pairs context = context_of("a", "1"), turned = context;
        struct outcome made = generate(&context);

        turned.pair[0] = context.pair[1];
        turned.pair[1] = context.pair[0];
        ck_assert_int_eq(unwrap(wrapped_of(&made), &turned, NULL), 0);
        secret_unref(made.key);
}
END_TEST

START_TEST(each_context_pair_is_bound)
{
        struct pairs context = context_of("a", "1"),
                     others[] = { context_of("b", "1"), context_of("a", "2"), context, context, { 0 } };
        struct outcome made = generate(&context);

        others[2].n = 1;
        others[3].pair[1].key = BYTES_LITERAL("purposf");
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                ck_assert_int_eq(unwrap(wrapped_of(&made), &others[i], NULL), PROTO_ERROR_KMS_CORRUPT);
        others[0] = context;
        others[0].pair[others[0].n++] = others[0].pair[0];
        ck_assert_int_eq(unwrap(wrapped_of(&made), &others[0], NULL), PROTO_ERROR_PROTOCOL);
        secret_unref(made.key);
}
END_TEST

START_TEST(each_changed_byte_is_refused)
{
        struct pairs context = context_of("a", "1");
        struct outcome made = generate(&context);

        for (size_t i = 0; i < made.n_wrapped; i++) {
                made.wrapped[i] ^= 0xff;
                ck_assert_int_eq(unwrap(wrapped_of(&made), &context, NULL), PROTO_ERROR_KMS_CORRUPT);
                made.wrapped[i] ^= 0xff;
        }
        for (size_t n = 0; n < made.n_wrapped; n++)
                ck_assert_int_eq(unwrap((struct bytes){ made.wrapped, n }, &context, NULL), PROTO_ERROR_KMS_CORRUPT);
        ck_assert_int_eq(unwrap((struct bytes){ made.wrapped, made.n_wrapped + 1 }, &context, NULL),
                         PROTO_ERROR_KMS_CORRUPT);
        secret_unref(made.key);
}
END_TEST

START_TEST(kek_version_that_is_gone_is_named)
{
        struct pairs context = context_of("a", "1");
        struct outcome made, o = outcome_new();

        write_file(HEADER "1 " KEY_A "\n2 " KEY_B "\n", 0600);
        reload();
        made = generate(&context);
        write_file(HEADER "1 " KEY_A "\n", 0600);
        reload();
        provider_local.unwrap(kek, &o.call, kek_id(), wrapped_of(&made), &context);
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_NOT_FOUND);
        ck_assert_ptr_nonnull(strstr(o.sentence, "version 2"));
        /* Another version's number on the wrap: its key does not fit. */
        bytes_put_u32(made.wrapped + 1, 1);
        ck_assert_int_eq(unwrap(wrapped_of(&made), &context, NULL), PROTO_ERROR_KMS_CORRUPT);
        secret_unref(made.key);
}
END_TEST

START_TEST(same_key_under_another_identity_does_not_unwrap)
{
        struct pairs context = context_of("a", "1");
        struct outcome made, o = outcome_new();

        write_file(HEADER "1 " KEY_A "\n", 0600);
        reload();
        made = generate(&context);
        ck_assert_str_eq(made.kek_id, "local:" UUID);
        write_file("lkm-local-kek 1 6b1f0a52-6a9d-4c3a-9f0e-0a3c6d1c7e11\n1 " KEY_A "\n", 0600);
        reload();
        provider_local.unwrap(kek, &o.call, BYTES_LITERAL("local:" UUID), wrapped_of(&made), &context);
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_NOT_MINE);
        ck_assert_int_eq(unwrap(wrapped_of(&made), &context, NULL), PROTO_ERROR_KMS_CORRUPT); /* even where it is claimed */
        secret_unref(made.key);
}
END_TEST

START_TEST(rewrap_moves_to_the_newest_version)
{
        struct pairs context = context_of("a", "1"), other = context_of("a", "2");
        struct outcome made = generate(&context), again = outcome_new(), refused = outcome_new();
        struct secret *key = NULL;
        struct sentence why;
        uint32_t number = 0;

        ck_assert_int_eq(local_kek_add_version(path, &number, &why), 0);
        ck_assert_uint_eq(number, 2);
        reload();
        provider_local.rewrap(kek, &again.call, kek_id(), wrapped_of(&made), &context);
        ck_assert_int_eq(again.error, 0);
        ck_assert_ptr_null(again.key);
        ck_assert_uint_eq(bytes_get_u32(made.wrapped + 1), 1);
        ck_assert_uint_eq(bytes_get_u32(again.wrapped + 1), 2);
        ck_assert_int_eq(unwrap(wrapped_of(&again), &context, &key), 0);
        ck_assert(secret_equal(key, made.key));
        secret_unref(key);
        ck_assert_int_eq(unwrap(wrapped_of(&made), &context, NULL), 0); /* the old wrap still opens */
        provider_local.rewrap(kek, &refused.call, kek_id(), wrapped_of(&made), &other);
        ck_assert_int_eq(refused.error, PROTO_ERROR_KMS_CORRUPT);
        secret_unref(made.key);
}
END_TEST

START_TEST(loose_permissions_are_refused)
{
        static const mode_t modes[] = { 0640, 0620, 0604, 0602, 0644, 0660, 0610, 0601, 0700, 04600 };
        struct sentence why;

        kek = provider_local.kek_free(kek);
        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                ck_assert_int_eq(chmod(path, modes[i]), 0);
                ck_assert_int_eq(load(&why), -EACCES);
                ck_assert_ptr_nonnull(strstr(why.text, "chmod 600 "));
                ck_assert_ptr_nonnull(strstr(why.text, path));
        }
        ck_assert_int_eq(chmod(path, 0400), 0);
        ck_assert_int_eq(load(&why), 0);
}
END_TEST

START_TEST(only_regular_files_of_a_trusted_owner_are_read)
{
        struct sentence why;

        kek = provider_local.kek_free(kek);
        if (geteuid() == 0) {
                ck_assert_int_eq(chown(path, 65534, 65534), 0);
                ck_assert_int_eq(load(&why), -EACCES);
                ck_assert_ptr_nonnull(strstr(why.text, "chown"));
        }
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(load(&why), -ENOENT);
        ck_assert_ptr_nonnull(strstr(why.text, "--generate-kek"));
        ck_assert_int_eq(mkfifo(path, 0600), 0);
        ck_assert_int_eq(load(&why), -EACCES);
}
END_TEST

START_TEST(systemd_credential_may_be_readable_by_its_group)
{
        struct config_kek config = { .name = (char[]){ "local" },
                                     .kms_type = KMS_TYPE_LOCAL,
                                     .kek_credential = (char[]){ "kek" } };
        struct sentence why;

        kek = provider_local.kek_free(kek);
        unsetenv("CREDENTIALS_DIRECTORY");
        ck_assert_int_lt(provider_local.kek_new(&kek, &config, NULL, &why), 0);
        ck_assert_ptr_nonnull(strstr(why.text, "LoadCredential="));
        setenv("CREDENTIALS_DIRECTORY", directory, 1);
        ck_assert_int_eq(chmod(path, 0444), 0);
        ck_assert_int_eq(provider_local.kek_new(&kek, &config, NULL, &why), -EACCES);
        ck_assert_int_eq(chmod(path, 0440), 0);
        ck_assert_int_eq(provider_local.kek_new(&kek, &config, NULL, &why), 0);
}
END_TEST

START_TEST(errors_of_the_file_name_the_line)
{
        static const struct {
                const char *text, *line;
        } cases[] = {
                { "", ":1: " },
                { "\n", ":1: " },
                { "lkm-local-kek 2 " UUID "\n1 " KEY_A "\n", ":1: " },
                { "lkm-local-kek 1 " UUID " \n1 " KEY_A "\n", ":1: " },
                { "lkm-local-kek 1 " UUID "\r\n1 " KEY_A "\r\n", ":1: " },
                { "lkm-local-kek 1 not-a-uuid\n1 " KEY_A "\n", ":1: " },
                { HEADER, ":2: " },
                { HEADER "\n", ":2: " },
                { HEADER "1\n", ":2: " },
                { HEADER "0 " KEY_A "\n", ":2: " },
                { HEADER "01 " KEY_A "\n", ":2: " },
                { HEADER "-1 " KEY_A "\n", ":2: " },
                { HEADER "1  " KEY_A "\n", ":2: " },
                { HEADER "1 " KEY_A "0\n", ":2: " },
                { HEADER "1 " KEY_A " \n", ":2: " },
                { HEADER "1 0x" KEY_A "\n", ":2: " },
                { HEADER "101 " KEY_A "\n", ":2: " },
                { HEADER "4294967297 " KEY_A "\n", ":2: " },
                { HEADER "1 " KEY_A "\n1 " KEY_B "\n", ":3: " },
                { HEADER "2 " KEY_A "\n1 " KEY_B "\n", ":3: " },
                { HEADER "1 " KEY_A "\n\n2 " KEY_B "\n", ":3: " },
                { HEADER "1 " KEY_A "\n2 g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", ":3: " },
        };
        struct sentence why;

        kek = provider_local.kek_free(kek);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                write_file(cases[i].text, 0600);
                ck_assert_msg(load(&why) == -EINVAL, "case %zu was accepted", i);
                ck_assert_msg(strncmp(why.text, path, strlen(path)) == 0 &&
                                      strncmp(why.text + strlen(path), cases[i].line, strlen(cases[i].line)) == 0,
                              "case %zu: %s", i, why.text);
                ck_assert_msg(!strstr(why.text, "2233445566"), "the sentence shows key digits: %s", why.text);
        }
        write_file(HEADER "7 " KEY_A "\n9 " KEY_B, 0600); /* gaps, and no newline at the end */
        ck_assert_int_eq(load(&why), 0);
}
END_TEST

START_TEST(kek_files_are_never_overwritten)
{
        struct sentence why;
        struct provider_description before, after;
        char id[64];

        provider_local.describe(kek, &before);
        snprintf(id, sizeof(id), "%s", before.kek_id);
        ck_assert_int_eq(local_kek_generate(path, &why), -EEXIST);
        reload();
        provider_local.describe(kek, &after);
        ck_assert_str_eq(after.kek_id, id);
}
END_TEST

START_TEST(adding_versions_ends_at_the_limit)
{
        struct sentence why;
        uint32_t number = 1;
        struct stat st;

        while (number < LOCAL_KEK_VERSION_MAX)
                ck_assert_int_eq(local_kek_add_version(path, &number, &why), 0);
        ck_assert_int_eq(local_kek_add_version(path, &number, &why), -ENOSPC);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 07777, 0600);
        reload();
}
END_TEST

START_TEST(full_arena_fails_the_call_not_the_process)
{
        struct pairs context = context_of("a", "1");
        struct outcome made = generate(&context), o = outcome_new();
        struct secret *taken[512];
        size_t n = 0;

        while (n < ELEMENTSOF(taken) && secret_new(&taken[n], 32) == 0)
                n++;
        ck_assert_int_eq(unwrap(wrapped_of(&made), &context, NULL), PROTO_ERROR_INTERNAL);
        provider_local.generate(kek, &o.call, &context);
        ck_assert_int_eq(o.error, PROTO_ERROR_INTERNAL);
        while (n > 0)
                secret_unref(taken[--n]);
        ck_assert_int_eq(unwrap(wrapped_of(&made), &context, NULL), 0);
        secret_unref(made.key);
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("provider-local");
        TCase *tests = tcase_create("local");
        SRunner *runner;
        int n_failed;

        tcase_add_checked_fixture(tests, setup, teardown);
        tcase_set_timeout(tests, 60);
        tcase_add_test(tests, wrapped_key_unwraps_to_the_same_key);
        tcase_add_test(tests, order_of_context_pairs_does_not_matter);
        tcase_add_test(tests, each_context_pair_is_bound);
        tcase_add_test(tests, each_changed_byte_is_refused);
        tcase_add_test(tests, kek_version_that_is_gone_is_named);
        tcase_add_test(tests, same_key_under_another_identity_does_not_unwrap);
        tcase_add_test(tests, rewrap_moves_to_the_newest_version);
        tcase_add_test(tests, loose_permissions_are_refused);
        tcase_add_test(tests, only_regular_files_of_a_trusted_owner_are_read);
        tcase_add_test(tests, systemd_credential_may_be_readable_by_its_group);
        tcase_add_test(tests, errors_of_the_file_name_the_line);
        tcase_add_test(tests, kek_files_are_never_overwritten);
        tcase_add_test(tests, adding_versions_ends_at_the_limit);
        tcase_add_test(tests, full_arena_fails_the_call_not_the_process);
        suite_add_tcase(suite, tests);
        runner = srunner_create(suite);
        srunner_run_all(runner, CK_NORMAL);
        n_failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
