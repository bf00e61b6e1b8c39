/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-chain.h"
#include "daemon/kms/aws-container.h"
#include "tests/unit/aws-ask.h"

#define KEYS "aws_access_key_id = AKID\naws_secret_access_key = SECRETKEY\n"
#define ROLE "role_arn = arn:aws:iam::123456789012:role/lkm\n"

static struct config_kek config;
static struct aws_environment *environment;
static struct aws_plan plan;
static struct sentence why;

static void chain_setup(void)
{
        aws_setup();
        config = (struct config_kek){ 0 };
        config.name = strdup("aws");
        config.region = strdup("eu-central-1");
}

static void plan_drop(void)
{
        aws_plan_deinit(&plan);
        environment = aws_environment_unref(environment);
}

static void chain_teardown(void)
{
        plan_drop();
        free(config.name);
        free(config.region);
        free(config.profile);
        free(config.aws_config_file);
        free(config.aws_credentials_file);
        aws_teardown();
}

static int make(void)
{
        struct aws_settings settings = { .config = &config };

        plan_drop();
        if (config.aws_environment)
                ck_assert_int_eq(aws_environment_get(&environment, &why), 0);
        settings.environment = environment;
        return aws_plan_make(&plan, &settings, &why);
}

static void use_config(const char *content)
{
        free(config.aws_config_file);
        config.aws_config_file = strdup(file("config", content, 0600));
}

static void use_profile(const char *name)
{
        free(config.profile);
        config.profile = name ? strdup(name) : NULL;
}

static void refused_because(const char *reason)
{
        ck_assert_int_eq(make(), -EINVAL);
        ck_assert_msg(strstr(why.text, reason) != NULL, "\"%s\" is not in: %s", reason, why.text);
        ck_assert_ptr_null(strstr(why.text, "SECRETKEY"));
}

START_TEST(configurations_that_cannot_work_are_refused)
{
        static const struct {
                const char *config, *why;
        } bad[] = {
                { "[default]\n" ROLE, "needs either source_profile or credential_source" },
                { "[default]\n" ROLE "source_profile = a\ncredential_source = Environment\n", "needs either" },
                { "[default]\n" ROLE "source_profile = a\nmfa_serial = x\n[profile a]\n" KEYS, "mfa_serial" },
                { "[default]\n" ROLE "source_profile = a\n", "in none of the shared files" },
                { "[default]\n" ROLE "source_profile = a\n[profile a]\nregion = x\n", "has no credentials" },
                { "[default]\n" ROLE "source_profile = default\n", "in a circle" },
                { "[default]\n" ROLE "source_profile = a\n[profile a]\n" ROLE "source_profile = b\n[profile b]\n" ROLE "source_profile = a\n",
                  "in a circle" },
                { "[default]\n" ROLE "credential_source = Nowhere\n", "credential_source has to be" },
                { "[default]\n" ROLE "credential_source = Environment\n", "Set aws_environment = yes" },
                { "[default]\n" ROLE "credential_source = EcsContainer\n", "Set aws_environment = yes" },
                { "[default]\nrole_arn = lkm\ncredential_source = Ec2InstanceMetadata\n", "no ARN of a role" },
                { "[default]\n" ROLE "credential_source = Ec2InstanceMetadata\nrole_session_name = a b\n", "white space" },
                { "[default]\n" ROLE "credential_source = Ec2InstanceMetadata\nrole_session_name = a\n", "role_session_name" },
                { "[default]\n" ROLE "credential_source = Ec2InstanceMetadata\nexternal_id = a\n", "external_id" },
                { "[default]\n" ROLE "credential_source = Ec2InstanceMetadata\nduration_seconds = 60\n", "duration_seconds" },
                { "[default]\n" ROLE "credential_source = Ec2InstanceMetadata\nduration_seconds = -1\n", "duration_seconds" },
                { "[default]\naws_access_key_id = A\n", "has aws_access_key_id and no aws_secret_access_key" },
                { "[default]\naws_secret_access_key = SECRETKEY\n", "has aws_secret_access_key and no aws_access_key_id" },
                { "[default]\nweb_identity_token_file = /x\n", "needs a role to assume" },
                { "[default]\nsso_session = s\n", "no [sso-session s]" },
                { "[default]\nsso_start_url = https://x\n", "SSO needs" },
                { "[default]\nsso_start_url = https://x\nsso_account_id = 1\nsso_role_name = r\nsso_region = eu\n", "aws_environment = yes" },
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                use_config(bad[i].config);
                refused_because(bad[i].why);
        }
}
END_TEST

START_TEST(more_roles_than_the_limit_are_refused)
{
        char content[4096];
        size_t n = 0;

        for (int i = 0; i <= AWS_ROLES_MAX; i++)
                n += (size_t)snprintf(content + n, sizeof(content) - n, "[profile p%d]\n" ROLE "source_profile = p%d\n", i, i + 1);
        snprintf(content + n, sizeof(content) - n, "[profile p%d]\n" KEYS, AWS_ROLES_MAX + 1);
        use_config(content);
        use_profile("p0");
        refused_because("more than 8 roles");
        use_profile("p1");
        ck_assert_int_eq(make(), 0);
        ck_assert_uint_eq(plan.n_roles, AWS_ROLES_MAX);
}
END_TEST

START_TEST(a_profile_that_is_named_has_to_be_there)
{
        use_profile("lkm");
        refused_because("but no file to find it in");
        use_config("[lkm]\n" KEYS);
        refused_because("its section has to be named [profile lkm]");
        use_config("[default]\n" KEYS);
        refused_because("there is no profile lkm");
}
END_TEST

START_TEST(files_that_are_configured_have_to_be_there)
{
        config.aws_config_file = strdup("/nonexistent/config");
        ck_assert_int_eq(make(), -ENOENT);
        free(config.aws_config_file);
        config.aws_config_file = strdup("credential:aws");
        ck_assert_int_eq(make(), -ENOENT);
        ck_assert_ptr_nonnull(strstr(why.text, "LoadCredential="));
}
END_TEST

START_TEST(without_leave_the_environment_does_not_count)
{
        setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
        setenv("AWS_SECRET_ACCESS_KEY", "SECRETKEY", 1);
        setenv("AWS_PROFILE", "none", 1);
        setenv("AWS_CONFIG_FILE", file("environment", "[default]\n" KEYS, 0600), 1);
        setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token", 1);
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/", 1);
        setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
        setenv("AWS_ENDPOINT_URL_STS", "https://sts.test", 1);
        ck_assert_int_eq(make(), 0);
        ck_assert_int_eq(plan.base, AWS_BASE_METADATA);
        ck_assert(plan.is_last_resort);
        ck_assert_ptr_nonnull(strstr(plan.looked, "aws_environment = no"));
        ck_assert_str_eq(plan.sts_url, "https://sts.eu-central-1.amazonaws.com");
        ck_assert_str_eq(getenv("AWS_SECRET_ACCESS_KEY"), "SECRETKEY");
}
END_TEST

START_TEST(secrets_of_the_environment_are_taken_out_of_it)
{
        config.aws_environment = true;
        setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
        setenv("AWS_SECRET_ACCESS_KEY", "SECRETKEY", 1);
        setenv("AWS_SECURITY_TOKEN", "OLD", 1);
        setenv("AWS_SESSION_TOKEN", "TOKEN", 1);
        setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "CONTAINER", 1);
        ck_assert_int_eq(make(), 0);
        ck_assert_int_eq(plan.base, AWS_BASE_ENVIRONMENT);
        ck_assert_str_eq(getenv("AWS_SECRET_ACCESS_KEY"), "");
        ck_assert_str_eq(getenv("AWS_SESSION_TOKEN"), "");
        ck_assert_str_eq(getenv("AWS_SECURITY_TOKEN"), "");
        ck_assert_str_eq(getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN"), "");
        ck_assert(secret_is(aws_environment_secret(environment, AWS_VARIABLE_SECRET_ACCESS_KEY), "SECRETKEY"));
        ck_assert(secret_is(aws_environment_secret(environment, AWS_VARIABLE_SESSION_TOKEN), "TOKEN"));
        ck_assert(secret_is(aws_environment_secret(environment, AWS_VARIABLE_CONTAINER_TOKEN), "CONTAINER"));
        /* The last user has gone, and the secrets with it. */
        refused_because("was wiped when the last KEK that used it was removed");
}
END_TEST

START_TEST(half_a_pair_in_the_environment_is_an_error)
{
        config.aws_environment = true;
        setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
        refused_because("AWS_SECRET_ACCESS_KEY is not");
        unsetenv("AWS_ACCESS_KEY_ID");
        setenv("AWS_SECRET_ACCESS_KEY", "SECRETKEY", 1);
        refused_because("AWS_ACCESS_KEY_ID is not");
}
END_TEST

START_TEST(a_named_profile_goes_before_the_keys_of_the_environment)
{
        config.aws_environment = true;
        setenv("AWS_ACCESS_KEY_ID", "AKID", 1);
        setenv("AWS_SECRET_ACCESS_KEY", "SECRETKEY", 1);
        setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token", 1);
        use_config("[default]\n" KEYS "[profile work]\n" KEYS);
        setenv("AWS_PROFILE", "work", 1);
        ck_assert_int_eq(make(), 0);
        ck_assert_int_eq(plan.base, AWS_BASE_PROFILE_KEYS);
        ck_assert_str_eq(plan.profile, "work");
        use_profile("default");
        ck_assert_int_eq(make(), 0);
        ck_assert_str_eq(plan.profile, "default");
}
END_TEST

START_TEST(the_order_is_that_of_the_sdks)
{
        static const struct {
                const char *config;
                enum aws_base base;
                size_t n_roles;
        } good[] = {
                { "[default]\n" ROLE "credential_source = Ec2InstanceMetadata\n" KEYS "credential_process = /p\n", AWS_BASE_METADATA, 1 },
                { "[default]\n" ROLE "web_identity_token_file = /t\n" KEYS "credential_process = /p\n", AWS_BASE_WEB_IDENTITY, 0 },
                { "[default]\n" KEYS "credential_process = /p\n", AWS_BASE_PROFILE_KEYS, 0 },
                { "[default]\ncredential_process = /p\n", AWS_BASE_PROCESS, 0 },
                { "[default]\nregion = eu\n", AWS_BASE_METADATA, 0 },
                { "", AWS_BASE_METADATA, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                use_config(good[i].config);
                ck_assert_msg(make() == 0, "%zu: %s", i, why.text);
                ck_assert_msg(plan.base == good[i].base && plan.n_roles == good[i].n_roles, "%zu", i);
                ck_assert_int_eq(plan.is_last_resort, i >= 4);
        }
        config.aws_environment = true;
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/", 1);
        ck_assert_int_eq(make(), 0);
        ck_assert_int_eq(plan.base, AWS_BASE_CONTAINER);
        setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/token", 1);
        refused_because("needs a role to assume");
        setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod", 1);
        ck_assert_int_eq(make(), 0);
        ck_assert_int_eq(plan.base, AWS_BASE_WEB_IDENTITY);
}
END_TEST

START_TEST(roles_are_assumed_from_the_source_outwards)
{
        use_config("[default]\nrole_arn = arn:aws:iam::1:role/outer\nsource_profile = middle\nexternal_id = id\n"
                   "[profile middle]\nrole_arn = arn:aws:iam::1:role/middle\nsource_profile = base\nduration_seconds = 900\n");
        config.aws_credentials_file = strdup(file("credentials", "[base]\n" KEYS, 0600));
        ck_assert_msg(make() == 0, "%s", why.text);
        ck_assert_int_eq(plan.base, AWS_BASE_PROFILE_KEYS);
        ck_assert_str_eq(plan.profile, "base");
        ck_assert_uint_eq(plan.n_roles, 2);
        ck_assert_str_eq(plan.roles[0].arn, "arn:aws:iam::1:role/middle");
        ck_assert_uint_eq(plan.roles[0].duration_seconds, 900);
        ck_assert_str_eq(plan.roles[1].arn, "arn:aws:iam::1:role/outer");
        ck_assert_str_eq(plan.roles[1].external_id, "id");
}
END_TEST

START_TEST(a_profile_with_keys_may_be_its_own_source)
{
        use_config("[default]\n" ROLE "source_profile = default\n" KEYS);
        ck_assert_msg(make() == 0, "%s", why.text);
        ck_assert_int_eq(plan.base, AWS_BASE_PROFILE_KEYS);
        ck_assert_uint_eq(plan.n_roles, 1);
}
END_TEST

START_TEST(sts_is_where_the_configuration_says)
{
        use_config("[default]\nservices = s\nendpoint_url = https://any.test\n[services s]\nsts =\n  endpoint_url = https://sts.test\n");
        ck_assert_int_eq(make(), 0);
        ck_assert_str_eq(plan.sts_url, "https://sts.test");
        config.aws_environment = true;
        setenv("AWS_ENDPOINT_URL", "https://env.test", 1);
        ck_assert_int_eq(make(), 0);
        ck_assert_str_eq(plan.sts_url, "https://env.test");
        setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", 1);
        ck_assert_int_eq(make(), 0);
        ck_assert_str_eq(plan.sts_url, "https://sts.eu-central-1.amazonaws.com");
        config.sts_endpoint = (char[]){ "https://own.test" };
        ck_assert_int_eq(make(), 0);
        ck_assert_str_eq(plan.sts_url, "https://own.test");
        unsetenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
        config.sts_endpoint = NULL;
}
END_TEST

START_TEST(the_region_may_come_from_the_key)
{
        free(config.region);
        config.region = NULL;
        refused_because("a region is needed");
        config.kek_id = (char[]){ "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/1" };
        config.fips = true;
        ck_assert_int_eq(make(), 0);
        ck_assert_str_eq(plan.sts_url, "https://sts.us-gov-west-1.amazonaws.com");
        config.kek_id = (char[]){ "arn:aws:kms:us-east-1:123456789012:key/1" };
        ck_assert_int_eq(make(), 0);
        ck_assert_str_eq(plan.sts_url, "https://sts-fips.us-east-1.amazonaws.com");
}
END_TEST

START_TEST(nothing_at_all_says_what_was_looked_at)
{
        config.aws_environment = true;
        setenv("AWS_EC2_METADATA_DISABLED", "TRUE", 1);
        refused_because("no credentials are configured");
        ck_assert_ptr_nonnull(strstr(why.text, "AWS_ACCESS_KEY_ID"));
        ck_assert_ptr_nonnull(strstr(why.text, "profile default is in none of the shared files"));
        ck_assert_ptr_nonnull(strstr(why.text, "AWS_CONTAINER_CREDENTIALS_"));
        ck_assert_ptr_nonnull(strstr(why.text, "AWS_EC2_METADATA_DISABLED"));
}
END_TEST

START_TEST(containers_are_asked_here_and_at_the_two_services_only)
{
        static const char *const bad[] = { "http://169.254.169.254/",  "http://example.com/", "http://10.0.0.1/", "http://localhost.example.com/",
                                           "http://127.0.0.1.example.com/", "http://[fd00:ec2::254]/", "http://user@127.0.0.1/", "ftp://127.0.0.1/",
                                           "file:///etc/passwd", "http://", "nothing" };
        static const char *const good[] = { "http://127.0.0.1:80/x", "http://127.1.2.3/", "http://[::1]:8080/", "http://localhost/",
                                            "http://169.254.170.23/v1/credentials", "http://169.254.170.2/", "http://[fd00:ec2::23]/v1",
                                            "https://example.com/creds" };
        char to[AWS_GET_URL_MAX];

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ck_assert_msg(aws_container_url(to, NULL, bad[i], &why) == -EINVAL, "%s", bad[i]);
        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                ck_assert_msg(aws_container_url(to, NULL, good[i], &why) == 0, "%s", good[i]);
        ck_assert_int_eq(aws_container_url(to, "/v2/x", "http://example.com/", &why), 0);
        ck_assert_str_eq(to, "http://169.254.170.2/v2/x");
        ck_assert_int_eq(aws_container_url(to, ".example.com/", NULL, &why), -EINVAL);
        ck_assert_int_eq(aws_container_url(to, "@example.com/", NULL, &why), -EINVAL);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { configurations_that_cannot_work_are_refused },
                { more_roles_than_the_limit_are_refused },
                { a_profile_that_is_named_has_to_be_there },
                { files_that_are_configured_have_to_be_there },
                { without_leave_the_environment_does_not_count },
                { half_a_pair_in_the_environment_is_an_error },
                { a_named_profile_goes_before_the_keys_of_the_environment },
                { the_order_is_that_of_the_sdks },
                { roles_are_assumed_from_the_source_outwards },
                { a_profile_with_keys_may_be_its_own_source },
                { sts_is_where_the_configuration_says },
                { the_region_may_come_from_the_key },
                { nothing_at_all_says_what_was_looked_at },
                { containers_are_asked_here_and_at_the_two_services_only },
                { secrets_of_the_environment_are_taken_out_of_it }, /* last: the process remembers it */
        };

        return suite_run("aws-chain", chain_setup, chain_teardown, promises, ELEMENTSOF(promises));
}
