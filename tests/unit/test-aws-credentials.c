/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-credentials.h"
#include "daemon/kms/aws-metadata.h"
#include "daemon/kms/aws-refresh.h"
#include "tests/unit/aws-ask.h"

#define MINUTE (60 * USEC_PER_SEC)
#define KEYS "aws_access_key_id = AKID\naws_secret_access_key = SECRETKEY\n"

/* Somebody who waits for credentials. */
struct asker {
        struct aws_credentials_call call;
        unsigned n;
        struct aws_credentials *credentials;
        enum proto_error error;
        char why[1024];
};

static struct config_kek config;
static struct aws_credentials_source *source;
static struct sentence why;

static void credentials_setup(void)
{
        aws_setup();
        config = (struct config_kek){ .aws_environment = true };
        config.name = strdup("aws");
        config.region = strdup("eu-central-1");
        setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", base_url("/"), 1);
}

static void credentials_teardown(void)
{
        source = aws_credentials_source_free(source);
        free(config.name);
        free(config.region);
        aws_teardown();
}

static int begin(void)
{
        struct kms_environment environment = { .base = base, .http = http };

        source = aws_credentials_source_free(source);
        return aws_credentials_source_new(&source, &config, &environment, &why);
}

static void take(struct aws_credentials_call *call, struct aws_credentials *credentials, enum proto_error error, const char *sentence)
{
        struct asker *a = (struct asker *)(void *)call;

        a->n++;
        aws_credentials_unref(a->credentials);
        a->credentials = credentials ? aws_credentials_ref(credentials) : NULL;
        a->error = error;
        snprintf(a->why, sizeof(a->why), "%s", sentence);
}

static void asker_wait(struct asker *a)
{
        while (a->n == 0)
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
}

static void asker_ask(struct asker *a)
{
        *a = (struct asker){ .call = { take } };
        aws_credentials_get(source, &a->call);
        ck_assert_uint_eq(a->n, 0);
        asker_wait(a);
}

static void asker_drop(struct asker *a)
{
        a->credentials = aws_credentials_unref(a->credentials);
}

/* Ask, and have it fail. Return: the sentence, static. */
static const char *ask_refused(enum proto_error error)
{
        static struct asker a;

        asker_ask(&a);
        ck_assert_ptr_null(a.credentials);
        ck_assert_msg(a.error == error, "%d: %s", (int)a.error, a.why);
        return a.why;
}

static void ask_good(struct asker *a)
{
        asker_ask(a);
        ck_assert_msg(a->credentials != NULL, "%s", a->why);
}

/* ---- instance metadata ---- */

static const char *metadata_keys(const char *id, int64_t seconds)
{
        return text("{\"Code\":\"Success\",\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"SECRETKEY\",\"Token\":\"SESSION\",\"Expiration\":\"%s\"}", id,
                    time_from_now(seconds));
}

enum { TOKEN, KEYS_OF_ROLE, ROLE };
static struct route metadata[] = {
        [TOKEN] = { "PUT /latest/api/token " },
        [KEYS_OF_ROLE] = { "GET /latest/meta-data/iam/security-credentials/lkm-role " },
        [ROLE] = { "GET /latest/meta-data/iam/security-credentials/ " },
};

static void serve_metadata(const char *keys)
{
        metadata[TOKEN].status = metadata[ROLE].status = metadata[KEYS_OF_ROLE].status = 200;
        metadata[TOKEN].body = "METADATATOKEN==";
        metadata[ROLE].body = "lkm-role\nother-role\n";
        metadata[KEYS_OF_ROLE].body = keys;
        for (size_t i = 0; i < ELEMENTSOF(metadata); i++)
                metadata[i].n_asked = 0;
        serve(metadata, ELEMENTSOF(metadata));
}

START_TEST(one_fetch_for_a_hundred_askers)
{
        struct asker askers[100];

        serve_metadata(metadata_keys("AKID1", 6 * 3600));
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_null(aws_credentials_now(source));
        for (size_t i = 0; i < ELEMENTSOF(askers); i++) {
                askers[i] = (struct asker){ .call = { take } };
                aws_credentials_get(source, &askers[i].call);
        }
        for (size_t i = 0; i < ELEMENTSOF(askers); i++) {
                asker_wait(&askers[i]);
                ck_assert_uint_eq(askers[i].n, 1);
                ck_assert_str_eq(askers[i].credentials->access_key_id, "AKID1");
                asker_drop(&askers[i]);
        }
        for (size_t i = 0; i < ELEMENTSOF(metadata); i++)
                ck_assert_uint_eq(metadata[i].n_asked, 1);
        ck_assert_ptr_nonnull(strstr(metadata[TOKEN].request, "x-aws-ec2-metadata-token-ttl-seconds: 21600"));
        ck_assert_ptr_nonnull(strstr(metadata[ROLE].request, "x-aws-ec2-metadata-token: METADATATOKEN=="));
        ck_assert_ptr_nonnull(strstr(metadata[KEYS_OF_ROLE].request, "x-aws-ec2-metadata-token: METADATATOKEN=="));
        ck_assert_ptr_nonnull(aws_credentials_now(source));
        ck_assert(secret_is(aws_credentials_now(source)->session_token, "SESSION"));
        ck_assert_ptr_nonnull(strstr(aws_credentials_describe(source, &why), "instance metadata, role lkm-role, access key AKID1, good until "));
}
END_TEST

START_TEST(who_has_gone_is_not_told)
{
        struct asker gone = { .call = { take } }, waiting;

        serve_metadata(metadata_keys("AKID1", 6 * 3600));
        ck_assert_int_eq(begin(), 0);
        aws_credentials_get(source, &gone.call);
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        aws_credentials_cancel(source, &gone.call);
        ask_good(&waiting);
        ck_assert_uint_eq(gone.n, 0);
        asker_drop(&waiting);
}
END_TEST

START_TEST(a_source_may_end_while_it_fetches)
{
        struct asker gone = { .call = { take } };

        serve_metadata(metadata_keys("AKID1", 6 * 3600));
        ck_assert_int_eq(begin(), 0);
        aws_credentials_get(source, &gone.call);
        while (metadata[TOKEN].n_asked == 0)
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        source = aws_credentials_source_free(source);
        ck_assert_uint_eq(gone.n, 0);
}
END_TEST

START_TEST(rejected_keys_are_not_served_again_soon)
{
        struct asker first, second, third;

        serve_metadata(metadata_keys("AKID1", 6 * 3600));
        ck_assert_int_eq(begin(), 0);
        ask_good(&first);
        aws_credentials_reject(source, first.credentials);
        ck_assert_ptr_null(aws_credentials_now(source));
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "AWS does not accept access key AKID1"));
        ck_assert_uint_eq(metadata[KEYS_OF_ROLE].n_asked, 2);
        /* While that answer stands, nobody is asked. */
        ask_refused(PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_uint_eq(metadata[KEYS_OF_ROLE].n_asked, 2);
        asker_drop(&first);

        serve_metadata(metadata_keys("AKID2", 6 * 3600));
        ck_assert_int_eq(begin(), 0);
        ask_good(&second);
        aws_credentials_reject(source, second.credentials);
        metadata[KEYS_OF_ROLE].body = metadata_keys("AKID3", 6 * 3600);
        ask_good(&third);
        ck_assert_str_eq(third.credentials->access_key_id, "AKID3");
        /* A late answer about older keys says nothing about these. */
        aws_credentials_reject(source, second.credentials);
        ck_assert_ptr_eq(aws_credentials_now(source), third.credentials);
        ck_assert_uint_eq(metadata[TOKEN].n_asked, 1);
        /* Two sets in a row, both refused at once: a pause. */
        aws_credentials_reject(source, third.credentials);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "AWS accepts none of the credentials"));
        ck_assert_uint_eq(metadata[KEYS_OF_ROLE].n_asked, 2);
        asker_drop(&second);
        asker_drop(&third);
}
END_TEST

START_TEST(a_session_token_that_has_ended_is_renewed_once)
{
        struct asker a;

        serve_metadata(metadata_keys("AKID1", 6 * 3600));
        ck_assert_int_eq(begin(), 0);
        metadata[ROLE].status = 401;
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "status 401"));
        ck_assert_uint_eq(metadata[TOKEN].n_asked, 2);
        ck_assert_uint_eq(metadata[ROLE].n_asked, 2);
        ck_assert_int_eq(begin(), 0);
        metadata[ROLE].status = 200;
        ask_good(&a);
        asker_drop(&a);
}
END_TEST

START_TEST(metadata_that_cannot_be_had_say_why)
{
        serve_metadata(NULL);
        metadata[TOKEN].status = 403;
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "status 403 when asked for a session token"));
        serve_metadata(NULL);
        metadata[ROLE].status = 404;
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "the instance has no role"));
        serve_metadata(NULL);
        metadata[ROLE].body = "../../x\n";
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "cannot be one"));
        serve_metadata(NULL);
        metadata[ROLE].status = 503;
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_UNREACHABLE), "status 503"));
        ck_assert_uint_eq(metadata[ROLE].n_asked, 2);
        serve_metadata("{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"no trust\"}");
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "AssumeRoleUnauthorizedAccess: no trust"));
}
END_TEST

START_TEST(where_nothing_is_configured_the_error_tells_all_that_was_looked_at)
{
        const char *sentence;

        setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1", 1);
        ck_assert_int_eq(begin(), 0);
        sentence = ask_refused(PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(sentence, "no credentials are configured: AWS_ACCESS_KEY_ID"));
        ck_assert_ptr_nonnull(strstr(sentence, "profile default is in none of the shared files"));
        ck_assert_ptr_nonnull(strstr(sentence, "AWS_CONTAINER_CREDENTIALS_"));
        ck_assert_ptr_nonnull(strstr(sentence, "instance metadata: nobody answers at 127.0.0.1:1"));
        ck_assert_ptr_nonnull(strstr(sentence, "hop limit"));
        ck_assert_ptr_nonnull(strstr(aws_credentials_describe(source, &why), "none: no credentials are configured"));
}
END_TEST

START_TEST(metadata_that_have_answered_before_are_an_outage_when_they_do_not)
{
        struct asker a;

        serve_metadata(metadata_keys("AKID1", 6 * 3600));
        ck_assert_int_eq(begin(), 0);
        ask_good(&a);
        aws_credentials_reject(source, a.credentials);
        metadata[ROLE].status = 500;
        ask_refused(PROTO_ERROR_KMS_UNREACHABLE);
        asker_drop(&a);
}
END_TEST

/* ---- renewal ---- */

START_TEST(renewal_is_fifteen_minutes_ahead_and_not_all_at_once)
{
        const uint64_t now = UINT64_C(1700000000) * USEC_PER_SEC, hour = now + 60 * MINUTE;

        ck_assert_uint_eq(credentials_refresh_at(now, hour, 0), now + 45 * MINUTE);
        ck_assert_uint_eq(credentials_refresh_at(now, hour, 120), now + 43 * MINUTE);
        ck_assert_uint_eq(credentials_refresh_at(now, hour, 121), now + 45 * MINUTE);
        for (uint32_t random = 0; random < 1000; random++) {
                uint64_t at = credentials_refresh_at(now, hour, random * 4294967);

                ck_assert(at >= now + 43 * MINUTE && at <= now + 45 * MINUTE);
        }
        ck_assert_uint_eq(credentials_refresh_at(now, USEC_INFINITY, 7), USEC_INFINITY);
        /* Short lives: at half of it, and never at once, so that nobody is asked in a loop. */
        ck_assert_uint_eq(credentials_refresh_at(now, now + 15 * MINUTE, 0), now + 15 * MINUTE / 2);
        ck_assert_uint_eq(credentials_refresh_at(now, now + USEC_PER_SEC, 0), now + 5 * USEC_PER_SEC);
        ck_assert_uint_eq(credentials_refresh_at(now, now - MINUTE, 0), now + 5 * USEC_PER_SEC);
}
END_TEST

START_TEST(pauses_double_up_to_a_minute)
{
        static const uint64_t seconds[] = { 1, 1, 2, 4, 8, 16, 32, 60, 60 };

        for (unsigned i = 0; i < ELEMENTSOF(seconds); i++) {
                ck_assert_uint_eq(credentials_pause_usec(i, 0), seconds[i] * USEC_PER_SEC);
                ck_assert_uint_ge(credentials_pause_usec(i, 1023), seconds[i] * USEC_PER_SEC * 3 / 4);
        }
        ck_assert_uint_eq(credentials_pause_usec(UINT32_MAX, 0), MINUTE);
}
END_TEST

START_TEST(old_keys_of_an_instance_go_on_while_there_are_no_newer_ones)
{
        const uint64_t now = UINT64_C(1700000000) * USEC_PER_SEC;

        ck_assert_uint_eq(metadata_expiry(now, now + 16 * MINUTE, 5), now + 16 * MINUTE);
        for (uint32_t random = 0; random < 1000; random++) {
                uint64_t at = metadata_expiry(now, now - 60 * MINUTE, random * 4294967);

                ck_assert(at >= now + 17 * MINUTE && at <= now + 25 * MINUTE);
        }
}
END_TEST

static const char *script_printing(const char *id, int64_t seconds, const char *more)
{
        return file("process",
                    text("#!/bin/sh\n%s\necho '{\"Version\":1,\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"SECRETKEY\",\"SessionToken\":\"T\","
                         "\"Expiration\":\"%s\"}'\n",
                         more, id, time_from_now(seconds)),
                    0700);
}

static void use_process(const char *script)
{
        setenv("AWS_CONFIG_FILE", file("config", text("[default]\ncredential_process = %s\n", script), 0600), 1);
}

START_TEST(keys_are_renewed_ahead_and_served_while_that_fails)
{
        struct asker a;
        const struct aws_credentials *old;

        /* Ten seconds of life: renewed after five. The first renewal fails. */
        use_process(script_printing("AKID1", 11, ""));
        ck_assert_int_eq(begin(), 0);
        ask_good(&a);
        old = a.credentials;
        file("process", text("#!/bin/sh\ntouch %s/failed\nexit 1\n", folder), 0700);
        while (access(text("%s/failed", folder), F_OK) < 0) {
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
                ck_assert_ptr_eq(aws_credentials_now(source), old);
        }
        ck_assert_ptr_eq(aws_credentials_now(source), old);
        script_printing("AKID2", 3600, "");
        while (aws_credentials_now(source) == old)
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        /* Where this machine is slow they have ended meanwhile, and are fetched when they are asked for. */
        asker_drop(&a);
        ask_good(&a);
        ck_assert_str_eq(a.credentials->access_key_id, "AKID2");
        asker_drop(&a);
}
END_TEST

START_TEST(keys_that_have_ended_already_are_none)
{
        use_process(script_printing("AKID1", -1, ""));
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "has expired already"));
}
END_TEST

START_TEST(a_failing_process_is_told_and_not_run_in_a_loop)
{
        use_process(file("process", text("#!/bin/sh\necho x >>%s/runs\necho no certificate >&2\nexit 1\n", folder), 0700));
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "no certificate"));
        for (int i = 0; i < 50; i++)
                ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "no certificate"));
        {
                _cleanup_(fclosep) FILE *f = fopen(text("%s/runs", folder), "re");
                char runs[64];

                ck_assert_uint_lt(fread(runs, 1, sizeof(runs), f), 20);
        }
}
END_TEST

/* ---- static keys ---- */

START_TEST(a_changed_file_is_read_again_after_a_rejection)
{
        struct asker a;

        setenv("AWS_SHARED_CREDENTIALS_FILE", file("credentials", "[default]\n" KEYS, 0600), 1);
        ck_assert_int_eq(begin(), 0);
        ask_good(&a);
        ck_assert_uint_eq(a.credentials->expires_wall_usec, USEC_INFINITY);
        ck_assert_str_eq(a.credentials->source, "profile default");
        ck_assert_str_eq(aws_credentials_describe(source, &why), "profile default, access key AKID");
        file("credentials", "[default]\naws_access_key_id = AKID\naws_secret_access_key = NEWKEY\naws_session_token = T\n", 0600);
        aws_credentials_reject(source, a.credentials);
        asker_drop(&a);
        ask_good(&a);
        ck_assert(secret_is(a.credentials->secret_access_key, "NEWKEY"));
        ck_assert(secret_is(a.credentials->session_token, "T"));
        asker_drop(&a);
}
END_TEST

START_TEST(the_same_static_keys_again_are_an_error)
{
        struct asker a;

        setenv("AWS_ACCESS_KEY_ID", "AKIDENV", 1);
        setenv("AWS_SECRET_ACCESS_KEY", "SECRETKEY", 1);
        setenv("AWS_SESSION_TOKEN", "TOKEN", 1);
        ck_assert_int_eq(begin(), 0);
        ask_good(&a);
        ck_assert(secret_is(a.credentials->session_token, "TOKEN"));
        aws_credentials_reject(source, a.credentials);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "AWS does not accept access key AKIDENV of the environment"));
        asker_drop(&a);
}
END_TEST

START_TEST(a_file_that_was_broken_meanwhile_is_told)
{
        setenv("AWS_SHARED_CREDENTIALS_FILE", file("credentials", "[default]\n" KEYS, 0600), 1);
        ck_assert_int_eq(begin(), 0);
        file("credentials", "[default]\n" KEYS, 0644);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_MISCONFIGURED), "chmod 600"));
}
END_TEST

START_TEST(a_check_without_a_loop_reads_the_files_only)
{
        struct kms_environment nothing = { 0 };

        setenv("AWS_SHARED_CREDENTIALS_FILE", file("credentials", "[default]\nnonsense\n", 0600), 1);
        ck_assert_int_eq(aws_credentials_source_new(&source, &config, &nothing, &why), -EINVAL);
        file("credentials", "[default]\n" KEYS, 0600);
        ck_assert_int_eq(aws_credentials_source_new(&source, &config, &nothing, &why), 0);
        ck_assert_ptr_null(aws_credentials_now(source));
        ck_assert_str_eq(aws_credentials_describe(source, &why), "not asked for yet");
}
END_TEST

/* ---- containers ---- */

START_TEST(a_container_is_asked_with_the_token_that_is_in_the_file_now)
{
        struct route route[] = { { "GET /v1/credentials ", 200 } };
        struct asker a;

        route[0].body = text("{\"AccessKeyId\":\"AKIDPOD\",\"SecretAccessKey\":\"K\",\"Token\":\"T\",\"Expiration\":\"%s\"}", time_from_now(3600));
        serve(route, 1);
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", base_url("/v1/credentials"), 1);
        setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "not this", 1);
        setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file("token", "POD1", 0644), 1);
        ck_assert_int_eq(begin(), 0);
        ask_good(&a);
        ck_assert_str_eq(a.credentials->access_key_id, "AKIDPOD");
        ck_assert_ptr_nonnull(strstr(route[0].request, "Authorization: POD1\r\n"));
        aws_credentials_reject(source, a.credentials);
        asker_drop(&a);
        file("token", "POD2", 0644);
        route[0].body = text("{\"AccessKeyId\":\"AKIDPOD2\",\"SecretAccessKey\":\"K\",\"Token\":\"T\",\"Expiration\":\"%s\"}", time_from_now(3600));
        ask_good(&a);
        ck_assert_ptr_nonnull(strstr(route[0].request, "Authorization: POD2\r\n"));
        asker_drop(&a);

        file("token", "POD\r\nX: y", 0644);
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_MISCONFIGURED), "line break"));
        unsetenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        ck_assert_int_eq(begin(), 0);
        route[0].status = 403;
        route[0].body = "{\"code\":\"Denied\",\"message\":\"no such pod\"}";
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_CREDENTIALS), "status 403, Denied: no such pod"));
}
END_TEST

START_TEST(a_container_endpoint_elsewhere_is_not_asked)
{
        setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/", 1);
        ck_assert_int_eq(begin(), 0);
        ck_assert_ptr_nonnull(strstr(ask_refused(PROTO_ERROR_KMS_MISCONFIGURED), "192.0.2.1"));
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { one_fetch_for_a_hundred_askers },
                { who_has_gone_is_not_told },
                { a_source_may_end_while_it_fetches },
                { rejected_keys_are_not_served_again_soon },
                { a_session_token_that_has_ended_is_renewed_once },
                { metadata_that_cannot_be_had_say_why },
                { where_nothing_is_configured_the_error_tells_all_that_was_looked_at },
                { metadata_that_have_answered_before_are_an_outage_when_they_do_not },
                { renewal_is_fifteen_minutes_ahead_and_not_all_at_once },
                { pauses_double_up_to_a_minute },
                { old_keys_of_an_instance_go_on_while_there_are_no_newer_ones },
                { keys_are_renewed_ahead_and_served_while_that_fails },
                { keys_that_have_ended_already_are_none },
                { a_failing_process_is_told_and_not_run_in_a_loop },
                { a_changed_file_is_read_again_after_a_rejection },
                { the_same_static_keys_again_are_an_error },
                { a_file_that_was_broken_meanwhile_is_told },
                { a_check_without_a_loop_reads_the_files_only },
                { a_container_is_asked_with_the_token_that_is_in_the_file_now },
                { a_container_endpoint_elsewhere_is_not_asked },
        };

        return suite_run("aws-credentials", credentials_setup, credentials_teardown, promises, ELEMENTSOF(promises));
}
