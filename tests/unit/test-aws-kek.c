/* SPDX-License-Identifier: Apache-2.0 */
/* Which key a [kek] is: configurations, records of this key and of others, aliases, policies. */
#include <errno.h>
#include <jansson.h>
#include <sys/syscall.h>

#include "tests/unit/aws-kms-ask.h"

#define ALIAS_ARN "arn:aws:kms:" REGION ":" ACCOUNT ":alias/lkm"
#define GOOD "Enabled", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT"

static uint64_t ahead_usec;

/* The test moves CLOCK_BOOTTIME; all other clocks are the machine's. */
int clock_gettime(clockid_t clock, struct timespec *t)
{
        long r = syscall(SYS_clock_gettime, clock, t);

        if (r == 0 && clock == CLOCK_BOOTTIME)
                t->tv_sec += (time_t)(ahead_usec / USEC_PER_SEC);
        return (int)r;
}

static const char *kek_arn(void)
{
        struct provider_description description;

        provider_aws.describe(kek, &description);
        return description.kek_id;
}

static const char *kek_why(void)
{
        struct provider_description description;

        provider_aws.describe(kek, &description);
        return description.why ? description.why : "";
}

/* ---- the configuration ---- */

START_TEST(wrong_configuration_is_refused_with_a_sentence)
{
        static char many[] = "1 2 3 4 5 6 7 8 9 10 11", large[16384];
        static const struct {
                const char *kek_id, *region, *endpoint, *grant_tokens, *says;
        } cases[] = {
                { "lkm", REGION, NULL, NULL, "alias/NAME" },
                { "arn:aws:kms:us-east-1:123:key/" ID, NULL, NULL, NULL, "alias/NAME" },
                { "alias/aws/rds", REGION, NULL, NULL, "of your own" },
                { "arn:aws:kms:us-east-1:111122223333:alias/aws/rds", NULL, NULL, NULL, "of your own" },
                { ARN, "eu-west-1", NULL, NULL, REGION },
                { ALIAS_ARN, "eu-west-1", NULL, NULL, REGION },
                { ID, NULL, NULL, NULL, "needs a region" },
                { ID, "no.region", NULL, NULL, "HOST" },
                { ARN, NULL, "https://kms.example.org/path", NULL, "without a path" },
                { ARN, NULL, "https://user@kms.example.org", NULL, "HOST" },
                { ARN, NULL, NULL, many, "more than 10" },
                { ARN, NULL, NULL, large, "longer than" },
        };
        struct sentence why;

        memset(large, 'x', sizeof(large) - 1);
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                config.kek_id = (char *)(uintptr_t)cases[i].kek_id;
                config.region = (char *)(uintptr_t)cases[i].region;
                config.endpoint = (char *)(uintptr_t)cases[i].endpoint;
                config.grant_tokens = (char *)(uintptr_t)cases[i].grant_tokens;
                *why.text = '\0';
                ck_assert_int_eq(kek_new(&why), -EINVAL);
                ck_assert_msg(strstr(why.text, cases[i].says) != NULL, "%s", why.text);
                ck_assert_ptr_null(kek);
        }
}
END_TEST

START_TEST(good_configuration_is_taken_without_asking)
{
        static const char *const ids[] = { ARN, ID, MRK, "alias/lkm", ALIAS_ARN };

        KMS_SAYS(failed(500, "InternalFailure"));
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                kek_is(ids[i], REGION);
                ck_assert_str_eq(kek_arn(), i == 0 ? ARN : "");
        }
        config.endpoint = NULL; /* that of the region */
        kek_is(ARN, NULL);
        ck_assert_uint_eq(server.n_requests, 0);
}
END_TEST

START_TEST(configuration_is_checked_without_a_loop)
{
        static const struct kms_environment nothing;
        struct sentence why;
        struct kek *checked;

        ck_assert_int_eq(provider_aws.kek_new(&checked, &config, &nothing, &why), 0);
        provider_aws.kek_free(checked);
}
END_TEST

/* ---- records ---- */

START_TEST(record_of_another_key_is_not_ours_and_not_asked_about)
{
        static const char *const records[] = { OTHER_ARN,
                                               ARN_OF("eu-west-1", ID),
                                               "arn:aws:kms:" REGION ":999999999999:key/" ID,
                                               "local:" ID,
                                               ID,
                                               "alias/lkm",
                                               ALIAS_ARN,
                                               "transit/lkm",
                                               "arn:aws:kms:" REGION ":" ACCOUNT ":key/" ID "\n" };
        struct asked *a;

        KMS_SAYS(decrypted(ARN));
        for (unsigned form = 0; form < 2; form++) {
                kek_is(form ? ID : ARN, REGION);
                for (size_t i = 0; i < ELEMENTSOF(records); i++) {
                        if (form == 1 && i == 2)
                                continue; /* a bare id leaves the account open: see below */
                        a = unwrap(records[i]);
                        ck_assert_ptr_nonnull(strstr(a->sentence, "[kek aws]"));
                        expect(a, PROTO_ERROR_KMS_NOT_MINE, 0);
                        expect(rewrap(records[i]), PROTO_ERROR_KMS_NOT_MINE, 0);
                }
        }
}
END_TEST

START_TEST(record_of_a_related_region_is_unwrapped_in_this_one)
{
        kek_is(ARN_OF(REGION, MRK), NULL);
        KMS_SAYS(decrypted(ARN_OF(REGION, MRK)));
        expect(unwrap(ARN_OF("eu-west-1", MRK)), PROTO_ERROR_NONE, 1);
        ck_assert(request_has("\"KeyId\":\"" ARN_OF(REGION, MRK) "\""));
        KMS_SAYS(reply(200, "", "{\"SourceKeyId\":\"%s\",\"KeyId\":\"%s\",\"CiphertextBlob\":\"" BLOB_BASE64 "\"}",
                       ARN_OF(REGION, MRK), ARN_OF(REGION, MRK)));
        struct asked *a = rewrap(ARN_OF("eu-west-1", MRK));
        ck_assert_str_eq(a->kek_id, ARN_OF(REGION, MRK));
        expect(a, PROTO_ERROR_NONE, 1);
        ck_assert(request_has("\"SourceKeyId\":\"" ARN_OF(REGION, MRK) "\""));
        expect(unwrap(ARN_OF("eu-west-1", MRK "0")), PROTO_ERROR_KMS_NOT_MINE, 1);
}
END_TEST

START_TEST(bare_id_needs_no_look_up)
{
        kek_is(ID, REGION);
        KMS_SAYS(decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 1);
        ck_assert(request_has("\"KeyId\":\"" ARN "\""));
        ck_assert_str_eq(kek_arn(), ARN); /* taught by the answer */
        /* Now the account is known, too. */
        expect(unwrap("arn:aws:kms:" REGION ":999999999999:key/" ID), PROTO_ERROR_KMS_NOT_MINE, 1);

        kek_is(MRK, REGION);
        KMS_SAYS(decrypted(ARN_OF(REGION, MRK)));
        expect(unwrap(ARN_OF("eu-west-1", MRK)), PROTO_ERROR_NONE, 1);
        ck_assert(request_has("\"KeyId\":\"" ARN_OF(REGION, MRK) "\""));

        kek_is(ID, REGION);
        KMS_SAYS(generated(ARN));
        expect(generate(), PROTO_ERROR_NONE, 1);
        ck_assert(request_has("\"KeyId\":\"" ID "\""));
        expect(generate(), PROTO_ERROR_NONE, 2);
        ck_assert(request_has("\"KeyId\":\"" ARN "\""));
        kek_is(ID, REGION);
        KMS_SAYS(generated(OTHER_ARN));
        expect(generate(), PROTO_ERROR_KMS_MISCONFIGURED, 1);
}
END_TEST

/* ---- aliases ---- */

START_TEST(alias_is_resolved_once)
{
        struct asked *a;

        kek_is("alias/lkm", REGION);
        KMS_SAYS(described(ARN, GOOD), decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
        ck_assert(request_has("\"KeyId\":\"" ARN "\""));
        ck_assert_str_eq(kek_arn(), ARN);
        expect(unwrap(ARN), PROTO_ERROR_NONE, 3);
        a = unwrap(OTHER_ARN);
        ck_assert_ptr_nonnull(strstr(a->sentence, "alias/lkm, which is " ARN));
        expect(a, PROTO_ERROR_KMS_NOT_MINE, 3);
}
END_TEST

START_TEST(record_of_another_key_than_the_alias_is_not_ours)
{
        kek_is(ALIAS_ARN, NULL);
        KMS_SAYS(described(OTHER_ARN, GOOD));
        /* What cannot be the alias's key is not asked about. */
        expect(unwrap("arn:aws:kms:" REGION ":999999999999:key/" ID), PROTO_ERROR_KMS_NOT_MINE, 0);
        expect(unwrap(ARN_OF("eu-west-1", ID)), PROTO_ERROR_KMS_NOT_MINE, 0);
        expect(unwrap(ARN), PROTO_ERROR_KMS_NOT_MINE, 1);
        ck_assert(request_has("TrentService.DescribeKey"));
        ck_assert(request_has("{\"KeyId\":\"" ALIAS_ARN "\"}"));
}
END_TEST

START_TEST(one_look_up_for_all_who_wait)
{
        struct asked *a[20];

        kek_is("alias/lkm", REGION);
        KMS_SAYS(described(ARN, GOOD), decrypted(ARN));
        for (size_t i = 0; i < ELEMENTSOF(a); i++) {
                a[i] = asked_new(PLENTY);
                provider_aws.unwrap(kek, &a[i]->call, i % 2 ? BYTES_LITERAL(ARN) : BYTES_LITERAL(OTHER_ARN),
                                    BYTES_LITERAL(BLOB), &context);
        }
        for (size_t i = 0; i < ELEMENTSOF(a); i++)
                asked_wait(a[i]);
        for (size_t i = 0; i < ELEMENTSOF(a); i++)
                expect(a[i], i % 2 ? PROTO_ERROR_NONE : PROTO_ERROR_KMS_NOT_MINE, 1 + ELEMENTSOF(a) / 2);
}
END_TEST

START_TEST(good_answer_to_the_alias_teaches_its_key)
{
        kek_is("alias/lkm", REGION);
        KMS_SAYS(generated(ARN), decrypted(ARN));
        expect(generate(), PROTO_ERROR_NONE, 1);
        ck_assert(request_has("\"KeyId\":\"alias/lkm\""));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
        expect(unwrap(OTHER_ARN), PROTO_ERROR_KMS_NOT_MINE, 2);
        kek_is("alias/lkm", REGION);
        KMS_SAYS(generated(ARN_OF("eu-west-1", ID)));
        expect(generate(), PROTO_ERROR_KMS_MISCONFIGURED, 1);
        ck_assert_str_eq(kek_arn(), "");
}
END_TEST

START_TEST(alias_itself_is_asked_where_it_may_not_be_looked_up)
{
        kek_is("alias/lkm", REGION);
        KMS_SAYS(failed(400, "AccessDeniedException"), failed(400, "IncorrectKeyException"), decrypted(ARN));
        expect(unwrap(OTHER_ARN), PROTO_ERROR_KMS_NOT_MINE, 2);
        ck_assert(request_has("TrentService.Decrypt"));
        ck_assert(request_has("\"KeyId\":\"alias/lkm\""));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 3);
        ck_assert(request_has("\"KeyId\":\"alias/lkm\""));
        ck_assert_str_eq(kek_arn(), ARN);
        expect(unwrap(OTHER_ARN), PROTO_ERROR_KMS_NOT_MINE, 3);
}
END_TEST

START_TEST(record_that_names_another_key_than_unwrapped_it_is_refused)
{
        kek_is("alias/lkm", REGION);
        KMS_SAYS(failed(400, "AccessDeniedException"), decrypted(OTHER_ARN));
        expect(unwrap(ARN), PROTO_ERROR_KMS_NOT_MINE, 2);
}
END_TEST

START_TEST(failed_look_up_is_the_answer_of_who_waits)
{
        kek_is("alias/lkm", REGION);
        KMS_SAYS(failed(400, "NotFoundException"));
        expect(unwrap(ARN), PROTO_ERROR_KMS_NOT_FOUND, 1);
        KMS_SAYS(failed(500, "KMSInternalException"));
        expect(unwrap(ARN), PROTO_ERROR_KMS_UNREACHABLE, 3);
        KMS_SAYS(described("arn:aws:kms:eu-west-1:" ACCOUNT ":key/" ID, GOOD));
        expect(unwrap(ARN), PROTO_ERROR_KMS_MISCONFIGURED, 1);
        KMS_SAYS(reply(200, "", "{}"));
        expect(unwrap(ARN), PROTO_ERROR_KMS_MISCONFIGURED, 1);
        KMS_SAYS(described(ARN, GOOD), decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
}
END_TEST

START_TEST(look_up_tells_what_stands_against_the_key)
{
        static const struct {
                const char *state, *usage, *spec;
                enum proto_error error;
        } cases[] = { { "Disabled", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", PROTO_ERROR_KMS_DENIED },
                      { "PendingDeletion", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", PROTO_ERROR_KMS_STATE },
                      { "PendingImport", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", PROTO_ERROR_KMS_STATE },
                      { "Unavailable", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", PROTO_ERROR_KMS_STATE },
                      { "Enabled", "SIGN_VERIFY", "RSA_2048", PROTO_ERROR_KMS_MISCONFIGURED },
                      { "Enabled", "ENCRYPT_DECRYPT", "RSA_2048", PROTO_ERROR_KMS_MISCONFIGURED } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                kek_is("alias/lkm", REGION);
                KMS_SAYS(described(ARN, cases[i].state, cases[i].usage, cases[i].spec), decrypted(ARN));
                expect(unwrap(ARN), cases[i].error, 1);
                ck_assert_ptr_nonnull(strstr(kek_why(), ARN));
                expect(unwrap(ARN), PROTO_ERROR_NONE, 2); /* KMS has the last word */
                ck_assert_str_eq(kek_why(), "");
        }
        kek_is("alias/lkm", REGION);
        KMS_SAYS(described(ARN, "Updating", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT"), decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
}
END_TEST

START_TEST(alias_that_was_moved_is_noticed_after_five_minutes)
{
        kek_is("alias/lkm", REGION);
        KMS_SAYS(described(ARN, GOOD), decrypted(ARN), described(OTHER_ARN, GOOD), decrypted(OTHER_ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
        expect(unwrap(OTHER_ARN), PROTO_ERROR_KMS_NOT_MINE, 2);
        ahead_usec = 301 * USEC_PER_SEC;
        expect(unwrap(OTHER_ARN), PROTO_ERROR_NONE, 4);
        ck_assert_str_eq(kek_arn(), OTHER_ARN);
        expect(unwrap(ARN), PROTO_ERROR_KMS_NOT_MINE, 4);
        ahead_usec = 0;
}
END_TEST

START_TEST(who_waits_for_a_look_up_waits_to_his_deadline_only)
{
        struct asked *a = asked_new(30 * USEC_PER_MSEC);

        kek_is("alias/lkm", REGION);
        answer_with(NULL, 0);
        provider_aws.unwrap(kek, &a->call, BYTES_LITERAL(ARN), BYTES_LITERAL(BLOB), &context);
        asked_wait(a);
        ck_assert_int_eq(a->error, PROTO_ERROR_KMS_UNREACHABLE);
        asked_free(a);
        /* The look-up is still under way when the KEK goes: aws_teardown() frees it. */
}
END_TEST

/* ---- permissions and policies ---- */

/* The policy's only statement. */
static json_t *statement(void)
{
        _cleanup_(freep) char *text = provider_aws.policy(kek);
        json_t *policy, *one;

        ck_assert_ptr_nonnull(text);
        policy = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        ck_assert_msg(policy && strchr(text, '\n'), "%s", text);
        ck_assert_str_eq(json_string_value(json_object_get(policy, "Version")), "2012-10-17");
        ck_assert_uint_eq(json_array_size(json_object_get(policy, "Statement")), 1);
        one = json_incref(json_array_get(json_object_get(policy, "Statement"), 0));
        json_decref(policy);
        ck_assert_str_eq(json_string_value(json_object_get(one, "Effect")), "Allow");
        return one;
}

static void expect_policy(const char *kek_id, const char *region, const char *resource, const char *alias)
{
        json_t *one, *condition;

        kek_is(kek_id, region);
        one = statement();
        condition = json_object_get(json_object_get(one, "Condition"), "ForAnyValue:StringEquals");
        ck_assert_str_eq(json_string_value(json_object_get(one, "Resource")), resource);
        if (alias)
                ck_assert_str_eq(json_string_value(json_object_get(condition, "kms:ResourceAliases")), alias);
        else
                ck_assert_ptr_null(json_object_get(one, "Condition"));
        json_decref(one);
}

START_TEST(policy_is_the_least_for_this_key)
{
        json_t *one = statement(), *actions = json_object_get(one, "Action"), *action;
        char *text = json_dumps(actions, JSON_COMPACT);
        size_t i;

        for (unsigned operation = 0; operation < PROVIDER_OPERATION_COUNT; operation++) {
                const char *permission = provider_aws.permission(kek, (enum provider_operation)operation);

                ck_assert(strncmp(permission, "kms:", 4) == 0);
                if (operation != PROVIDER_REWRAP)
                        ck_assert_ptr_nonnull(strstr(text, permission));
        }
        json_array_foreach(actions, i, action) ck_assert_ptr_null(strchr(json_string_value(action), '*'));
        ck_assert_uint_eq(json_array_size(actions), 6);
        free(text);
        json_decref(one);
        expect_policy(ARN, NULL, ARN, NULL);
        expect_policy(ID, REGION, "arn:aws:kms:" REGION ":*:key/" ID, NULL);
        expect_policy(ID, "us-gov-west-1", "arn:aws-us-gov:kms:us-gov-west-1:*:key/" ID, NULL);
        expect_policy("alias/a/b", REGION, "arn:aws:kms:" REGION ":*:key/*", "alias/a/b");
        expect_policy(ALIAS_ARN, NULL, "arn:aws:kms:" REGION ":" ACCOUNT ":key/*", "alias/lkm");
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { wrong_configuration_is_refused_with_a_sentence },
                { good_configuration_is_taken_without_asking },
                { configuration_is_checked_without_a_loop },
                { record_of_another_key_is_not_ours_and_not_asked_about },
                { record_of_a_related_region_is_unwrapped_in_this_one },
                { bare_id_needs_no_look_up },
                { alias_is_resolved_once },
                { record_of_another_key_than_the_alias_is_not_ours },
                { one_look_up_for_all_who_wait },
                { good_answer_to_the_alias_teaches_its_key },
                { alias_itself_is_asked_where_it_may_not_be_looked_up },
                { record_that_names_another_key_than_unwrapped_it_is_refused },
                { failed_look_up_is_the_answer_of_who_waits },
                { look_up_tells_what_stands_against_the_key },
                { alias_that_was_moved_is_noticed_after_five_minutes },
                { who_waits_for_a_look_up_waits_to_his_deadline_only },
                { policy_is_the_least_for_this_key },
        };

        return suite_run("aws-kek", aws_setup, aws_teardown, promises, ELEMENTSOF(promises));
}
