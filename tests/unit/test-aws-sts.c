/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/stat.h>

#include "daemon/kms/aws-credentials.h"
#include "daemon/kms/aws-sts.h"
#include "daemon/kms/sigv4.h"
#include "tests/unit/aws-ask.h"

#define XML(action, id, seconds) \
        text("<" action "Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><" action "Result><Credentials><AccessKeyId>%s</AccessKeyId>" \
             "<SecretAccessKey>K</SecretAccessKey><SessionToken>ROLESESSION</SessionToken><Expiration>%s</Expiration></Credentials></" action \
             "Result></" action "Response>", \
             id, time_from_now(seconds))
#define ERROR(code, message) \
        "<ErrorResponse><Error><Type>Sender</Type><Code>" code "</Code><Message>" message "</Message></Error><RequestId>1</RequestId></ErrorResponse>"

static struct way_outcome outcome;
static struct aws_sts *sts;
static struct aws_credentials *signer;
static int64_t offset_usec;
static struct sentence why;
static const struct aws_role role = { .arn = "arn:aws:iam::123456789012:role/lkm" };

static void sts_setup(void)
{
        struct secret *secret, *token;

        aws_setup();
        way_outcome_init(&outcome);
        secret = secret_of("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        token = secret_of("SIGNERTOKEN");
        ck_assert_int_eq(aws_credentials_new(&signer, "AKIDEXAMPLE", secret, token, USEC_INFINITY, "test"), 0);
        secret_unref(secret);
        secret_unref(token);
}

static void sts_teardown(void)
{
        sts = aws_sts_free(sts);
        signer = aws_credentials_unref(signer);
        way_outcome_deinit(&outcome);
        aws_teardown();
}

static int begin(const struct aws_role *of, struct secret *token)
{
        return aws_sts_start(&sts, &around,
                             &(struct aws_sts_request){ .role = of,
                                                        .url = base_url(""),
                                                        .region = "eu-central-1",
                                                        .signer = token ? NULL : signer,
                                                        .token = token,
                                                        .offset_usec = &offset_usec,
                                                        .source = "role" },
                             &outcome.call, &why);
}

static void ask_sts(const struct aws_role *of, struct secret *token)
{
        way_outcome_deinit(&outcome);
        way_outcome_init(&outcome);
        ck_assert_msg(begin(of, token) == 0, "%s", why.text);
        ck_assert_uint_eq(outcome.n, 0);
        way_wait(&outcome);
        sts = aws_sts_free(sts);
}

static void ask_role(void)
{
        ask_sts(&role, NULL);
}

START_TEST(errors_of_sts_have_a_class_and_a_remedy)
{
        static const struct {
                int status;
                const char *body;
                enum proto_error error;
                unsigned n_asked;
                const char *why;
        } errors[] = {
                { 403, ERROR("AccessDenied", "User: x is not authorized to perform: sts:AssumeRole"), PROTO_ERROR_KMS_DENIED, 1, "User: x is not authorized" },
                { 400, ERROR("ExpiredTokenException", "SIGNERTOKEN expired"), PROTO_ERROR_KMS_CREDENTIALS, 1, "Renew" },
                { 403, ERROR("ExpiredToken", "x"), PROTO_ERROR_KMS_CREDENTIALS, 1, "Renew" },
                { 400, ERROR("InvalidIdentityToken", "x"), PROTO_ERROR_KMS_CREDENTIALS, 3, "token file" },
                { 400, ERROR("IDPCommunicationError", "x"), PROTO_ERROR_KMS_UNREACHABLE, 3, "identity provider" },
                { 403, ERROR("IDPRejectedClaim", "x"), PROTO_ERROR_KMS_DENIED, 1, "identity provider" },
                { 403, ERROR("RegionDisabledException", "x"), PROTO_ERROR_KMS_MISCONFIGURED, 1, "Enable STS" },
                { 400, ERROR("ValidationError", "bad arn"), PROTO_ERROR_KMS_MISCONFIGURED, 1, "bad arn" },
                { 403, ERROR("InvalidClientTokenId", "x"), PROTO_ERROR_KMS_CREDENTIALS, 1, "inactive" },
                { 403, ERROR("SignatureDoesNotMatch", "canonical SIGNERTOKEN"), PROTO_ERROR_KMS_CREDENTIALS, 1, "secret access key" },
                { 400, ERROR("Throttling", "Rate exceeded"), PROTO_ERROR_KMS_UNREACHABLE, 3, "Throttling" },
                { 503, "", PROTO_ERROR_KMS_UNREACHABLE, 3, "status 503" },
                { 500, ERROR("InternalFailure", "x"), PROTO_ERROR_KMS_UNREACHABLE, 3, "InternalFailure" },
                { 404, "<html>", PROTO_ERROR_KMS_MISCONFIGURED, 1, "sts_endpoint" },
                { 200, "<html></html>", PROTO_ERROR_KMS_MISCONFIGURED, 1, "no XML with credentials" },
                { 200, "", PROTO_ERROR_KMS_MISCONFIGURED, 1, "no XML with credentials" },
        };

        for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
                struct route route = { .begins = "POST / ", .status = errors[i].status, .body = errors[i].body };

                serve(&route, 1);
                ask_role();
                ck_assert_msg(outcome.error == errors[i].error, "%zu: %d %s", i, (int)outcome.error, outcome.why);
                ck_assert_msg(strstr(outcome.why, errors[i].why) != NULL, "%zu: %s", i, outcome.why);
                ck_assert_msg(route.n_asked == errors[i].n_asked, "%zu: %u", i, route.n_asked);
                ck_assert_ptr_null(strstr(outcome.why, "SIGNERTOKEN"));
        }
}
END_TEST

START_TEST(a_role_is_asked_for_by_a_signed_form)
{
        static const struct aws_role full = { .arn = "arn:aws:iam::1:role/a b", .session_name = "lkm@host", .external_id = "x+y&z", .duration_seconds = 900 };
        struct route route = { .begins = "POST / ", .status = 200, .body = XML("AssumeRole", "ASIAROLE", 3600) };

        serve(&route, 1);
        ask_sts(&full, NULL);
        ck_assert_str_eq(outcome.why, "");
        ck_assert_str_eq(outcome.credentials->access_key_id, "ASIAROLE");
        ck_assert_str_eq(outcome.credentials->source, "role");
        ck_assert(secret_is(outcome.credentials->session_token, "ROLESESSION"));
        ck_assert_ptr_nonnull(strstr(route.request, "\r\n\r\nAction=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fa%20b&"
                                                    "RoleSessionName=lkm%40host&ExternalId=x%2By%26z&DurationSeconds=900"));
        ck_assert_ptr_nonnull(strstr(route.request, "/eu-central-1/sts/aws4_request, "
                                                    "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="));
        ck_assert_ptr_nonnull(strstr(route.request, "X-Amz-Security-Token: SIGNERTOKEN\r\n"));
        ck_assert_ptr_nonnull(strstr(route.request, "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n"));
}
END_TEST

START_TEST(a_web_identity_is_not_signed)
{
        struct route route = { .begins = "POST / ", .status = 200, .body = XML("AssumeRoleWithWebIdentity", "ASIAWEB", 3600) };
        struct secret *token = secret_of("head.body.sig_-\n");

        serve(&route, 1);
        ask_sts(&role, token);
        ck_assert_str_eq(outcome.why, "");
        ck_assert_ptr_nonnull(strstr(route.request, "\r\n\r\nAction=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A"
                                                    "123456789012%3Arole%2Flkm&RoleSessionName=lkm-kms&WebIdentityToken=head.body.sig_-"));
        ck_assert(route.request[strlen(route.request) - 1] == '-'); /* without the line's end */
        ck_assert_ptr_null(strstr(route.request, "Authorization"));
        ck_assert_ptr_null(strstr(route.request, "X-Amz-Date"));
        secret_unref(token);
}
END_TEST

START_TEST(a_token_that_is_too_long_is_refused)
{
        static char many[SECRET_BODY_MAX];
        struct secret *token;

        memset(many, 'x', sizeof(many) - 1);
        token = secret_of(many);
        ck_assert_int_eq(begin(&role, token), -EINVAL);
        ck_assert_ptr_nonnull(strstr(why.text, "too long"));
        secret_unref(token);
}
END_TEST

/* As in an HTTP header. */
static const char *date_line(int64_t seconds)
{
        time_t t = (time_t)(clock_wall_usec() / USEC_PER_SEC) + seconds;
        struct tm tm;
        char date[64];

        gmtime_r(&t, &tm);
        strftime(date, sizeof(date), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        return text("%s", date);
}

static struct route skewed = { .begins = "POST / " };

START_TEST(a_wrong_clock_is_corrected_once)
{
        skewed = (struct route){ .begins = "POST / ", .status = 403, .body = ERROR("SignatureDoesNotMatch", "Signature expired"), .headers = date_line(86400) };
        serve(&skewed, 1);
        offset_usec = 0;
        ask_role();
        ck_assert_int_eq(outcome.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_uint_eq(skewed.n_asked, 2);
        ck_assert(offset_usec > 86000 * (int64_t)USEC_PER_SEC && offset_usec < 87000 * (int64_t)USEC_PER_SEC);
        {
                char time[SIGV4_TIME_SIZE];

                sigv4_time(time, clock_wall_usec() + UINT64_C(86400) * USEC_PER_SEC);
                ck_assert_ptr_nonnull(strstr(skewed.request, text("X-Amz-Date: %.8s", time)));
        }
        /* Known from then on. */
        ask_role();
        ck_assert_uint_eq(skewed.n_asked, 3);
}
END_TEST

START_TEST(a_small_difference_of_clocks_is_not_the_cause)
{
        struct route route = { .begins = "POST / ", .status = 403, .body = ERROR("SignatureDoesNotMatch", "x"), .headers = date_line(200) };

        serve(&route, 1);
        offset_usec = 0;
        ask_role();
        ck_assert_uint_eq(route.n_asked, 1);
        ck_assert_int_eq(offset_usec, 0);
}
END_TEST

START_TEST(a_lifetime_is_counted_by_the_clock_that_gave_it)
{
        struct route route = { .begins = "POST / ", .status = 200, .body = XML("AssumeRole", "ASIA", 3600 - 86400), .headers = date_line(-86400) };
        uint64_t now = clock_wall_usec();

        serve(&route, 1);
        offset_usec = -86400 * (int64_t)USEC_PER_SEC;
        ask_role();
        ck_assert_str_eq(outcome.why, "");
        ck_assert_uint_gt(outcome.credentials->expires_wall_usec, now + UINT64_C(3500) * USEC_PER_SEC);
        ck_assert_uint_lt(outcome.credentials->expires_wall_usec, now + UINT64_C(3700) * USEC_PER_SEC);
}
END_TEST

/* ---- with the whole of it ---- */

struct asker {
        struct aws_credentials_call call;
        unsigned n;
        struct aws_credentials *credentials;
        enum proto_error error;
        char why[1024];
};

static void take(struct aws_credentials_call *call, struct aws_credentials *credentials, enum proto_error error, const char *sentence)
{
        struct asker *a = (struct asker *)(void *)call;

        a->n++;
        a->credentials = credentials ? aws_credentials_ref(credentials) : NULL;
        a->error = error;
        snprintf(a->why, sizeof(a->why), "%s", sentence);
}

/* One answer of a source that is configured so, in @ret. */
static void ask_source(struct asker *ret, const char *config_text)
{
        struct config_kek config = { .name = (char[]){ "aws" }, .region = (char[]){ "eu-central-1" }, .aws_environment = true };
        struct kms_environment environment = { .base = base, .http = http };
        struct aws_credentials_source *source;

        *ret = (struct asker){ .call = { take } };
        setenv("AWS_ENDPOINT_URL_STS", base_url(""), 1);
        setenv("AWS_CONFIG_FILE", file("config", config_text, 0600), 1);
        ck_assert_msg(aws_credentials_source_new(&source, &config, &environment, &why) == 0, "%s", why.text);
        aws_credentials_get(source, &ret->call);
        while (ret->n == 0)
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        aws_credentials_source_free(source);
}

START_TEST(a_chain_of_roles_is_walked_from_its_keys)
{
        struct route route = { .begins = "POST / ", .status = 200, .body = XML("AssumeRole", "ASIAROLE", 3600) };
        struct asker a;

        serve(&route, 1);
        ask_source(&a, "[default]\nrole_arn = arn:aws:iam::1:role/outer\nsource_profile = middle\n"
                       "[profile middle]\nrole_arn = arn:aws:iam::1:role/middle\nsource_profile = keys\n"
                       "[profile keys]\naws_access_key_id = AKID\naws_secret_access_key = S\n");
        ck_assert_msg(a.credentials != NULL, "%s", a.why);
        ck_assert_uint_eq(route.n_asked, 2);
        ck_assert_ptr_nonnull(strstr(route.request, "role%2Fouter"));
        ck_assert_ptr_nonnull(strstr(route.request, "Credential=ASIAROLE/"));
        ck_assert_ptr_nonnull(strstr(route.request, "X-Amz-Security-Token: ROLESESSION"));
        ck_assert_str_eq(a.credentials->source, "role arn:aws:iam::1:role/outer by profile keys");
        aws_credentials_unref(a.credentials);
}
END_TEST

START_TEST(a_web_identity_token_is_read_when_it_is_needed)
{
        struct route route = { .begins = "POST / ", .status = 200, .body = XML("AssumeRoleWithWebIdentity", "ASIAWEB", 3600) };
        const char *path = file("jwt", "jwt1", 0644);
        const char *profile = text("[default]\nrole_arn = arn:aws:iam::1:role/pod\nweb_identity_token_file = %s\n", path);
        struct asker a;

        serve(&route, 1);
        ask_source(&a, profile);
        ck_assert_msg(a.credentials != NULL, "%s", a.why);
        ck_assert_ptr_nonnull(strstr(route.request, "WebIdentityToken=jwt1"));
        aws_credentials_unref(a.credentials);
        unlink(path);
        ask_source(&a, profile);
        ck_assert_int_eq(a.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(a.why, "jwt"));
        file("jwt", "", 0644);
        ask_source(&a, profile);
        ck_assert_int_eq(a.error, PROTO_ERROR_KMS_MISCONFIGURED);
        ck_assert_ptr_nonnull(strstr(a.why, "is empty"));
}
END_TEST

/* Put @content where `aws sso login` leaves the token of "my-session". */
static void sso_token(const char *content)
{
        ck_assert(mkdir(text("%s/.aws", folder), 0700) == 0 || errno == EEXIST);
        ck_assert(mkdir(text("%s/.aws/sso", folder), 0700) == 0 || errno == EEXIST);
        ck_assert(mkdir(text("%s/.aws/sso/cache", folder), 0700) == 0 || errno == EEXIST);
        file(".aws/sso/cache/9e28173066ce536e277c5fb355efd9c64f398167.json", content, 0600);
}

static void sso_drop(void)
{
        unlink(text("%s/.aws/sso/cache/9e28173066ce536e277c5fb355efd9c64f398167.json", folder));
        rmdir(text("%s/.aws/sso/cache", folder));
        rmdir(text("%s/.aws/sso", folder));
        rmdir(text("%s/.aws", folder));
}

START_TEST(sso_uses_the_token_that_was_left_and_never_an_old_one)
{
        static const char profile[] = "[default]\nsso_session = my-session\nsso_account_id = 123456789012\nsso_role_name = lkm\n"
                                      "[sso-session my-session]\nsso_region = eu-central-1\nsso_start_url = https://x.awsapps.com/start\n";
        struct route route = { .begins = "GET /federation/credentials?role_name=lkm&account_id=123456789012 ", .status = 200 };
        struct asker a;
        char body[512];

        snprintf(body, sizeof(body), "{\"roleCredentials\":{\"accessKeyId\":\"ASIASSO\",\"secretAccessKey\":\"K\",\"sessionToken\":\"T\",\"expiration\":%llu}}",
                          (unsigned long long)(clock_wall_usec() / 1000 + 3600000));
        route.body = body;
        serve(&route, 1);
        setenv("AWS_ENDPOINT_URL_SSO", base_url(""), 1);
        ask_source(&a, profile);
        ck_assert_int_eq(a.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(a.why, "aws sso login"));
        sso_token(text("{\"accessToken\":\"SSOTOKEN\",\"refreshToken\":\"R\",\"expiresAt\":\"%s\"}", time_from_now(-5)));
        ask_source(&a, profile);
        ck_assert_int_eq(a.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(a.why, "has expired"));
        sso_token("{}");
        ask_source(&a, profile);
        ck_assert_int_eq(a.error, PROTO_ERROR_KMS_MISCONFIGURED);
        ck_assert_uint_eq(route.n_asked, 0);
        sso_token(text("{\"accessToken\":\"SSOTOKEN\",\"refreshToken\":\"R\",\"clientSecret\":\"C\",\"expiresAt\":\"%s\"}", time_from_now(600)));
        ask_source(&a, profile);
        ck_assert_msg(a.credentials != NULL, "%s", a.why);
        ck_assert_str_eq(a.credentials->access_key_id, "ASIASSO");
        ck_assert_ptr_nonnull(strstr(route.request, "x-amz-sso_bearer_token: SSOTOKEN\r\n"));
        aws_credentials_unref(a.credentials);
        sso_drop();
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { errors_of_sts_have_a_class_and_a_remedy },
                { a_role_is_asked_for_by_a_signed_form },
                { a_web_identity_is_not_signed },
                { a_token_that_is_too_long_is_refused },
                { a_wrong_clock_is_corrected_once },
                { a_small_difference_of_clocks_is_not_the_cause },
                { a_lifetime_is_counted_by_the_clock_that_gave_it },
                { a_chain_of_roles_is_walked_from_its_keys },
                { a_web_identity_token_is_read_when_it_is_needed },
                { sso_uses_the_token_that_was_left_and_never_an_old_one },
        };

        return suite_run("aws-sts", sts_setup, sts_teardown, promises, ELEMENTSOF(promises));
}
