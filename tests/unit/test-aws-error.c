/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-error.h"
#include "suite.h"

static void nothing(void)
{
}

static const struct aws_error_class *expect_class(const char *code, int status, enum proto_error error,
                                                  enum exchange_action action, enum aws_error_remedy remedy)
{
        const struct aws_error_class *class = aws_error_class(code, status);

        ck_assert_msg(class->error == error && class->action == action && class->remedy == remedy,
                      "%s with status %d: class %s", code, status, proto_error_name(class->error));
        ck_assert_uint_gt(strlen(class->text), 20);
        return class;
}

START_TEST(throttling_is_repeated)
{
        static const char *const codes[] = { "ThrottlingException",
                                             "Throttling",
                                             "ThrottledException",
                                             "RequestThrottledException",
                                             "RequestThrottled",
                                             "TooManyRequestsException",
                                             "ProvisionedThroughputExceededException",
                                             "TransactionInProgressException",
                                             "RequestLimitExceeded",
                                             "BandwidthLimitExceeded",
                                             "SlowDown",
                                             "PriorRequestNotComplete",
                                             "EC2ThrottledException" };

        for (size_t i = 0; i < ELEMENTSOF(codes); i++)
                expect_class(codes[i], i % 2 ? 400 : 429, PROTO_ERROR_KMS_THROTTLED, EXCHANGE_REPEAT, AWS_REMEDY_NONE);
        expect_class("", 429, PROTO_ERROR_KMS_THROTTLED, EXCHANGE_REPEAT, AWS_REMEDY_NONE);
}
END_TEST

START_TEST(exceeded_limit_of_kms_is_no_throttling)
{
        expect_class("LimitExceededException", 400, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE);
        expect_class("LimitExceededException", 429, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE);
}
END_TEST

START_TEST(fault_of_the_service_is_repeated_as_an_outage)
{
        static const char *const codes[] = { "RequestTimeout",       "RequestTimeoutException",
                                             "KMSInternalException", "KeyUnavailableException",
                                             "InternalFailure",      "DependencyTimeoutException",
                                             "ServiceUnavailable" };
        static const int statuses[] = { 500, 502, 503, 504, 408 };

        for (size_t i = 0; i < ELEMENTSOF(codes); i++)
                expect_class(codes[i], 400, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, AWS_REMEDY_NONE);
        for (size_t i = 0; i < ELEMENTSOF(statuses); i++) {
                expect_class("", statuses[i], PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, AWS_REMEDY_NONE);
                expect_class("NewException", statuses[i], PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT,
                             AWS_REMEDY_NONE);
        }
        expect_class("", 501, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_END, AWS_REMEDY_NONE);
}
END_TEST

START_TEST(signature_out_of_time_is_mended_by_the_servers_clock)
{
        static const char *const codes[] = { "InvalidSignatureException", "RequestExpired",        "RequestInTheFuture",
                                             "RequestTimeTooSkewed",      "SignatureDoesNotMatch", "AuthFailure" };

        for (size_t i = 0; i < ELEMENTSOF(codes); i++) {
                expect_class(codes[i], 400, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, AWS_REMEDY_CLOCK);
                ck_assert(!expect_class(codes[i], 403, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, AWS_REMEDY_CLOCK)
                                   ->may_quote);
        }
}
END_TEST

START_TEST(refused_access_key_is_mended_by_newer_credentials)
{
        static const char *const codes[] = { "ExpiredTokenException",       "ExpiredToken",
                                             "UnrecognizedClientException", "InvalidClientTokenId",
                                             "MissingAuthenticationToken",  "MissingAuthenticationTokenException" };

        for (size_t i = 0; i < ELEMENTSOF(codes); i++)
                expect_class(codes[i], i % 2 ? 400 : 403, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END,
                             AWS_REMEDY_CREDENTIALS);
}
END_TEST

START_TEST(permanent_error_ends_in_its_class)
{
        static const struct {
                const char *code;
                enum proto_error error;
        } cases[] = {
                { "AccessDeniedException", PROTO_ERROR_KMS_DENIED },
                { "AccessDenied", PROTO_ERROR_KMS_DENIED },
                { "OptInRequired", PROTO_ERROR_KMS_DENIED },
                { "DisabledException", PROTO_ERROR_KMS_DENIED },
                { "KMSInvalidStateException", PROTO_ERROR_KMS_STATE },
                { "NotFoundException", PROTO_ERROR_KMS_NOT_FOUND },
                { "InvalidCiphertextException", PROTO_ERROR_KMS_CORRUPT },
                { "IncorrectKeyException", PROTO_ERROR_KMS_NOT_MINE },
                { "InvalidKeyUsageException", PROTO_ERROR_KMS_MISCONFIGURED },
                { "InvalidGrantTokenException", PROTO_ERROR_KMS_MISCONFIGURED },
                { "InvalidArnException", PROTO_ERROR_KMS_MISCONFIGURED },
                { "UnsupportedOperationException", PROTO_ERROR_KMS_MISCONFIGURED },
                { "ValidationException", PROTO_ERROR_KMS_MISCONFIGURED },
                { "SerializationException", PROTO_ERROR_KMS_MISCONFIGURED },
                { "IncompleteSignature", PROTO_ERROR_KMS_CREDENTIALS },
                { "IncompleteSignatureException", PROTO_ERROR_KMS_CREDENTIALS },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                expect_class(cases[i].code, 400, cases[i].error, EXCHANGE_END, AWS_REMEDY_NONE);
                expect_class(cases[i].code, 500, cases[i].error, EXCHANGE_END,
                             AWS_REMEDY_NONE); /* the code counts, not the status */
        }
}
END_TEST

/* What only calls that manage keys raise, and what lkm never asks for. */
START_TEST(error_of_other_operations_is_one_of_a_wrong_configuration)
{
        static const char *const codes[] = { "AlreadyExists",
                                             "CloudHsmClusterInUse",
                                             "CloudHsmClusterInvalidConfiguration",
                                             "CloudHsmClusterNotActive",
                                             "CloudHsmClusterNotFound",
                                             "CloudHsmClusterNotRelated",
                                             "Conflict",
                                             "CustomKeyStoreHasCMKs",
                                             "CustomKeyStoreInvalidState",
                                             "CustomKeyStoreNameInUse",
                                             "CustomKeyStoreNotFound",
                                             "DryRunOperation",
                                             "ExpiredImportToken",
                                             "IncorrectKeyMaterial",
                                             "IncorrectTrustAnchor",
                                             "InvalidAliasName",
                                             "InvalidGrantId",
                                             "InvalidImportToken",
                                             "InvalidMarker",
                                             "KMSInvalidMac",
                                             "KMSInvalidSignature",
                                             "MalformedPolicyDocument",
                                             "Tag",
                                             "XksKeyAlreadyInUse",
                                             "XksKeyInvalidConfiguration",
                                             "XksKeyNotFound",
                                             "XksProxyIncorrectAuthenticationCredential",
                                             "XksProxyInvalidConfiguration",
                                             "XksProxyInvalidResponse",
                                             "XksProxyUriEndpointInUse",
                                             "XksProxyUriInUse",
                                             "XksProxyUriUnreachable",
                                             "XksProxyVpcEndpointServiceInUse",
                                             "XksProxyVpcEndpointServiceInvalidConfiguration",
                                             "XksProxyVpcEndpointServiceNotFound",
                                             "New" };
        char code[AWS_ERROR_CODE_MAX + 1];

        for (size_t i = 0; i < ELEMENTSOF(codes); i++) {
                snprintf(code, sizeof(code), "%sException", codes[i]);
                expect_class(code, 400, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE);
        }
}
END_TEST

START_TEST(answer_without_a_code_is_judged_by_its_status)
{
        static const int statuses[] = { 100, 204, 301, 307, 400, 404, 405, 407, 413, 418 };

        for (size_t i = 0; i < ELEMENTSOF(statuses); i++)
                expect_class("", statuses[i], PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE);
        expect_class("", 401, PROTO_ERROR_KMS_DENIED, EXCHANGE_END, AWS_REMEDY_NONE);
        expect_class("", 403, PROTO_ERROR_KMS_DENIED, EXCHANGE_END, AWS_REMEDY_NONE);
        expect_class("NewException", 403, PROTO_ERROR_KMS_DENIED, EXCHANGE_END, AWS_REMEDY_NONE);
        /* Neither more nor less than a code of the table. */
        expect_class("accessdenied", 400, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE);
        expect_class("AccessDeniedExceptions", 400, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE);
        expect_class("Exception", 400, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE);
}
END_TEST

static void expect_code(const char *header, const char *body, const char *expected)
{
        char code[AWS_ERROR_CODE_MAX + 1];

        aws_error_code(code, header, bytes_from_string(body));
        ck_assert_msg(strcmp(code, expected) == 0, "'%s' from '%s' and '%s'", code, header, body);
}

START_TEST(code_is_found_in_header_and_body)
{
        static const char *const forms[] = {
                "NotFoundException", "NotFoundException:http://internal.amazon.com/coral/com.amazon.coral.validate/",
                "com.amazonaws.kms#NotFoundException", "com.amazonaws.kms#NotFoundException:http://x/#y"
        };
        char body[256];

        for (size_t i = 0; i < ELEMENTSOF(forms); i++) {
                expect_code(forms[i], "", "NotFoundException");
                snprintf(body, sizeof(body), "{\"__type\":\"%s\",\"message\":\"m\"}", forms[i]);
                expect_code("", body, "NotFoundException");
                snprintf(body, sizeof(body), "{\"__type\":\"Other\",\"code\":\"%s\"}", forms[i]);
                expect_code("", body, "NotFoundException");
                snprintf(body, sizeof(body), "{\"code\":\"Other\"}");
                expect_code(forms[i], body, "NotFoundException");
        }
        expect_code(
                "",
                "<?xml version=\"1.0\"?>\n<ErrorResponse><Errors><Error><Code>InvalidClientTokenId</Code><Message>m</Message></Error></Errors>",
                "InvalidClientTokenId");
        expect_code("", "\xef\xbb\xbf \n<Error><Code>SignatureDoesNotMatch</Code></Error>", "SignatureDoesNotMatch");
        expect_code("", "{\"a\":{\"__type\":\"Nested\"},\"__type\":\"Top\"}", "Top");
}
END_TEST

START_TEST(what_is_no_code_is_none)
{
        static const char *const bodies[] = {
                "",
                "null",
                "not json",
                "[\"__type\"]",
                "{\"a\":{\"__type\":\"Nested\"}}",
                "{\"__type\":1}",
                "{\"__type\":\"\"}",
                "{\"__type\":\":x\"}",
                "{\"__type\":\"a#\"}",
                "{\"__type\":\"with space\"}",
                "{\"__type\":\"%s%n\"}",
                "{\"__type\":\"A\",\"__type\":\"B\"}",
                "{\"__type\":\"A\"",
                "{\"__type\":\"A12345678901234567890123456789012345678901234567890123456789012345\"}",
                "<Code>",
                "<Code></Code>",
                "<Code>a b</Code>",
                "<html><body>503</body></html>",
                "x<Code>A</Code>"
        };
        static const uint8_t noise[] = { '<', 0, 0xff, '<', 'C', 'o', 'd', 'e', '>' };
        char code[AWS_ERROR_CODE_MAX + 1];

        for (size_t i = 0; i < ELEMENTSOF(bodies); i++)
                expect_code("", bodies[i], "");
        expect_code("#", "", "");
        aws_error_code(code, "", (struct bytes){ noise, sizeof(noise) });
        ck_assert_str_eq(code, "");
        aws_error_code(code, "", (struct bytes){ 0 });
        ck_assert_str_eq(code, "");
}
END_TEST

static void expect_message(const char *body, const char *expected)
{
        struct sentence message;

        aws_error_message(&message, bytes_from_string(body));
        ck_assert_str_eq(message.text, expected);
}

START_TEST(message_is_found_in_either_spelling)
{
        char body[2048] = "{\"message\":\"";
        struct sentence message;

        expect_message("{\"message\":\"m\",\"Message\":\"n\"}", "m");
        expect_message("{\"Message\":\"n\"}", "n");
        expect_message("{\"message\":\"two\\nlines \\u001b[1m\"}", "two?lines ?[1m");
        expect_message("<E><Message>over\nthere</Message>", "over?there");
        expect_message("", "");
        expect_message("<html>", "");
        expect_message("{\"message\":null}", "");
        memset(body + strlen(body), 'x', 1500);
        memcpy(body + 1500, "\"}", 3);
        aws_error_message(&message, bytes_from_string(body));
        ck_assert_uint_eq(strlen(message.text), sizeof(message.text) - 1);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { throttling_is_repeated },
                { exceeded_limit_of_kms_is_no_throttling },
                { fault_of_the_service_is_repeated_as_an_outage },
                { signature_out_of_time_is_mended_by_the_servers_clock },
                { refused_access_key_is_mended_by_newer_credentials },
                { permanent_error_ends_in_its_class },
                { error_of_other_operations_is_one_of_a_wrong_configuration },
                { answer_without_a_code_is_judged_by_its_status },
                { code_is_found_in_header_and_body },
                { what_is_no_code_is_none },
                { message_is_found_in_either_spelling },
        };

        return suite_run("aws-error", nothing, nothing, promises, ELEMENTSOF(promises));
}
