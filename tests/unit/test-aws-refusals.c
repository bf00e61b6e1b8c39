/* SPDX-License-Identifier: Apache-2.0 */
/* The AWS provider when KMS refuses: what is repeated, what ends at once, and what mends itself. */
#include "daemon/kms/sigv4.h"
#include "tests/unit/aws-kms-ask.h"

/* ---- errors ---- */

START_TEST(refusal_ends_at_once_and_says_who_what_and_why)
{
        static const struct {
                const char *code, *says;
                enum proto_error error;
        } cases[] = { { "AccessDeniedException", "kms:Decrypt", PROTO_ERROR_KMS_DENIED },
                      { "DisabledException", "disabled", PROTO_ERROR_KMS_DENIED },
                      { "KMSInvalidStateException", "state", PROTO_ERROR_KMS_STATE },
                      { "InvalidCiphertextException", "another record or scope", PROTO_ERROR_KMS_CORRUPT },
                      { "IncorrectKeyException", "another key", PROTO_ERROR_KMS_NOT_MINE },
                      { "NotFoundException", "no such key", PROTO_ERROR_KMS_NOT_FOUND } };
        struct asked *a;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                KMS_SAYS(failed(400, cases[i].code));
                a = unwrap(ARN);
                ck_assert_ptr_nonnull(strstr(a->sentence, cases[i].says));
                ck_assert_ptr_nonnull(strstr(a->sentence, ARN));
                ck_assert_ptr_nonnull(strstr(a->sentence, cases[i].code));
                ck_assert_ptr_nonnull(strstr(a->sentence, "4711"));
                expect(a, cases[i].error, 1);
        }
}
END_TEST

START_TEST(faults_are_asked_three_times)
{
        KMS_SAYS(failed(500, "KMSInternalException"));
        expect(unwrap(ARN), PROTO_ERROR_KMS_UNREACHABLE, 3);
}
END_TEST

START_TEST(fault_then_success_is_success)
{
        KMS_SAYS(reply(503, "", "%s", "<html>"), failed(400, "DependencyTimeoutException"), decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 3);
}
END_TEST

START_TEST(throttle_then_success_is_success)
{
        KMS_SAYS(failed(400, "ThrottlingException"), decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
}
END_TEST

START_TEST(silence_ends_at_the_deadline)
{
        struct asked *a = asked_new(120 * USEC_PER_MSEC);
        const uint64_t begin = clock_boottime_usec();

        answer_with(NULL, 0);
        provider_aws.unwrap(kek, &a->call, BYTES_LITERAL(ARN), BYTES_LITERAL(BLOB), &context);
        asked_wait(a);
        ck_assert_uint_ge(clock_boottime_usec() - begin, 40 * USEC_PER_MSEC);
        ck_assert_int_eq(a->error, PROTO_ERROR_KMS_UNREACHABLE);
        asked_free(a);
}
END_TEST

/* ---- what mends itself ---- */

static const char *date_header(int64_t offset_seconds)
{
        static char header[64];
        time_t t = (time_t)((int64_t)(clock_wall_usec() / USEC_PER_SEC) + offset_seconds);
        struct tm tm;

        gmtime_r(&t, &tm);
        strftime(header, sizeof(header), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
        return header;
}

/* The last request was signed at our time plus @offset_seconds. */
static bool signed_at(int64_t offset_seconds)
{
        char expected[SIGV4_TIME_SIZE], header[64];

        for (int64_t late = 0; late < 30; late++) {
                sigv4_time(expected,
                           (uint64_t)((int64_t)clock_wall_usec() + (offset_seconds - late) * (int64_t)USEC_PER_SEC));
                snprintf(header, sizeof(header), "\r\nX-Amz-Date: %s\r\n", expected);
                if (request_has(header))
                        return true;
        }
        return false;
}

START_TEST(signature_follows_the_servers_clock)
{
        KMS_SAYS(reply(400, date_header(86400),
                       "{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature expired\"}"),
                 reply(200, date_header(86400), "{\"KeyId\":\"" ARN "\",\"Plaintext\":\"" KEY_BASE64 "\"}"));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
        ck_assert(signed_at(86400));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 3); /* from now on at once */
        ck_assert(signed_at(86400));
        /* Our own clock was set right meanwhile. */
        KMS_SAYS(reply(403, date_header(0),
                       "<ErrorResponse><Error><Code>RequestTimeTooSkewed</Code></Error></ErrorResponse>"),
                 decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
        ck_assert(signed_at(0));
}
END_TEST

START_TEST(clock_of_a_good_answer_is_followed_from_five_minutes_on)
{
        KMS_SAYS(reply(200, date_header(-3600), "{\"KeyId\":\"" ARN "\",\"Plaintext\":\"" KEY_BASE64 "\"}"));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 1);
        ck_assert(signed_at(0));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
        ck_assert(signed_at(-3600));
        KMS_SAYS(reply(200, date_header(-3600 + 240), "{\"KeyId\":\"" ARN "\",\"Plaintext\":\"" KEY_BASE64 "\"}"));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 1);
        expect(unwrap(ARN), PROTO_ERROR_NONE, 2);
        ck_assert(signed_at(-3600));
}
END_TEST

START_TEST(wrong_secret_costs_one_repetition_and_is_not_quoted)
{
        struct asked *a;

        KMS_SAYS(reply(403, date_header(0),
                       "{\"__type\":\"InvalidSignatureException\",\"message\":\"x-amz-security-token:" SESSION_TOKEN
                       "\"}"));
        a = unwrap(ARN);
        ck_assert_ptr_null(strstr(a->sentence, SESSION_TOKEN));
        ck_assert_ptr_nonnull(strstr(a->sentence, "does not accept access key"));
        expect(a, PROTO_ERROR_KMS_CREDENTIALS, 2);
}
END_TEST

START_TEST(wrong_secret_costs_no_repetition_where_no_date_is_told)
{
        KMS_SAYS(failed(403, "SignatureDoesNotMatch"));
        expect(unwrap(ARN), PROTO_ERROR_KMS_CREDENTIALS, 1);
}
END_TEST

START_TEST(expired_token_is_replaced_by_the_newer_one)
{
        credentials_are("ASIAOLD", SESSION_TOKEN);
        KMS_SAYS(decrypted(ARN), failed(400, "ExpiredTokenException"), decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 1);
        ck_assert(request_has("Credential=ASIAOLD/"));
        credentials_are("ASIANEW", SESSION_TOKEN "2");
        expect(unwrap(ARN), PROTO_ERROR_NONE, 3);
        ck_assert(request_has("Credential=ASIANEW/"));
        ck_assert(request_has("X-Amz-Security-Token: " SESSION_TOKEN "2\r\n"));
}
END_TEST

START_TEST(new_secret_under_the_same_id_signs_anew)
{
        char before[512], after[512];

        KMS_SAYS(decrypted(ARN), failed(400, "UnrecognizedClientException"), decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 1);
        snprintf(before, sizeof(before), "%.300s", strstr(server.request, "Authorization:"));
        credentials_are("AKIDEXAMPLE", SESSION_TOKEN);
        expect(unwrap(ARN), PROTO_ERROR_NONE, 3);
        snprintf(after, sizeof(after), "%.300s", strstr(server.request, "Authorization:"));
        ck_assert_str_ne(before, after);
}
END_TEST

START_TEST(credentials_that_stay_refused_are_reported)
{
        struct asked *a;

        KMS_SAYS(failed(400, "UnrecognizedClientException"));
        a = unwrap(ARN);
        ck_assert_uint_le(server.n_requests, 2);
        expect(a, PROTO_ERROR_KMS_CREDENTIALS, server.n_requests);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { refusal_ends_at_once_and_says_who_what_and_why },
                { faults_are_asked_three_times },
                { fault_then_success_is_success },
                { throttle_then_success_is_success },
                { silence_ends_at_the_deadline },
                { signature_follows_the_servers_clock },
                { clock_of_a_good_answer_is_followed_from_five_minutes_on },
                { wrong_secret_costs_one_repetition_and_is_not_quoted },
                { wrong_secret_costs_no_repetition_where_no_date_is_told },
                { expired_token_is_replaced_by_the_newer_one },
                { new_secret_under_the_same_id_signs_anew },
                { credentials_that_stay_refused_are_reported },
        };

        return suite_run("aws-refusals", aws_setup, aws_teardown, promises, ELEMENTSOF(promises));
}
