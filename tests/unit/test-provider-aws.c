/* SPDX-License-Identifier: Apache-2.0 */
/* The AWS provider against a KMS that answers by a script: each question, and each answer that must not be taken. */
#include <jansson.h>

#include "tests/unit/aws-kms-ask.h"

/* The bytes that KEY_BASE64 stands for. */
static bool key_is_good(struct secret *key)
{
        uint8_t *view;
        bool good = key && secret_size(key) == KEY_SIZE;

        if (!good)
                return false;
        view = secret_view_begin(key);
        for (uint8_t i = 0; i < KEY_SIZE; i++)
                good &= view[i] == i;
        good &= secret_arena_contains(view);
        secret_view_end(key, &view);
        return good;
}

static struct secret *new_key(void)
{
        struct secret *key;
        uint8_t *view;

        ck_assert_int_eq(secret_new(&key, KEY_SIZE), 0);
        view = secret_view_begin(key);
        for (uint8_t i = 0; i < KEY_SIZE; i++)
                view[i] = i;
        secret_view_end(key, &view);
        return key;
}

/* The last request's body. */
static json_t *body(void)
{
        json_t *object = json_loads(strstr(server.request, "\r\n\r\n") + 4, JSON_REJECT_DUPLICATES, NULL);

        ck_assert(json_is_object(object));
        return object;
}

static void expect_body(const char *expected)
{
        json_t *is = body(), *wanted = json_loads(expected, 0, NULL);

        ck_assert_ptr_nonnull(wanted);
        ck_assert_msg(json_equal(is, wanted), "%s", server.request);
        json_decref(is);
        json_decref(wanted);
}

#define CONTEXT "{\"lkm:database\":\"1\",\"purpose\":\"unit-test\"}"

/* ---- the questions ---- */

START_TEST(generate_asks_for_a_key_of_32_bytes_under_the_arn)
{
        struct asked *a;

        KMS_SAYS(generated(ARN));
        a = generate();
        ck_assert_int_eq(a->error, 0);
        ck_assert(key_is_good(a->key));
        ck_assert_str_eq(a->kek_id, ARN);
        ck_assert_str_eq(a->wrapped, BLOB);
        ck_assert_int_eq(strncmp(server.request, "POST / HTTP/1.1\r\n", 17), 0);
        ck_assert(request_has("\r\nX-Amz-Target: TrentService.GenerateDataKey\r\n"));
        ck_assert(request_has("\r\nContent-Type: application/x-amz-json-1.1\r\n"));
        ck_assert(request_has(
                "/" REGION "/kms/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature="));
        ck_assert(request_has("Credential=AKIDEXAMPLE/"));
        expect_body("{\"KeyId\":\"" ARN "\",\"KeySpec\":\"AES_256\",\"EncryptionContext\":" CONTEXT "}");
        expect(a, PROTO_ERROR_NONE, 1);
}
END_TEST

START_TEST(unwrap_always_names_the_key)
{
        struct asked *a;

        KMS_SAYS(decrypted(ARN));
        a = unwrap(ARN);
        ck_assert(key_is_good(a->key));
        ck_assert_str_eq(a->kek_id, "");
        ck_assert(request_has("TrentService.Decrypt\r\n"));
        expect_body("{\"KeyId\":\"" ARN "\",\"CiphertextBlob\":\"" BLOB_BASE64 "\",\"EncryptionContext\":" CONTEXT "}");
        expect(a, PROTO_ERROR_NONE, 1);
}
END_TEST

START_TEST(wrap_sends_the_key_in_its_body)
{
        struct asked *a = asked_new(PLENTY);
        struct secret *key = new_key();

        KMS_SAYS(reply(200, "", "{\"KeyId\":\"" ARN "\",\"CiphertextBlob\":\"" BLOB_BASE64 "\"}"));
        provider_aws.wrap(kek, &a->call, key, &context);
        secret_unref(key); /* borrowed for the call only */
        asked_wait(a);
        ck_assert_ptr_null(a->key);
        ck_assert_str_eq(a->wrapped, BLOB);
        ck_assert_str_eq(a->kek_id, ARN);
        ck_assert(request_has("TrentService.Encrypt\r\n"));
        expect_body("{\"KeyId\":\"" ARN "\",\"Plaintext\":\"" KEY_BASE64 "\",\"EncryptionContext\":" CONTEXT "}");
        expect(a, PROTO_ERROR_NONE, 1);
}
END_TEST

START_TEST(rewrap_binds_both_sides_to_the_context)
{
        struct asked *a;

        KMS_SAYS(reply(200, "",
                       "{\"SourceKeyId\":\"" ARN "\",\"KeyId\":\"" ARN "\",\"CiphertextBlob\":\"" BLOB_BASE64 "\"}"));
        a = rewrap(ARN);
        ck_assert_str_eq(a->wrapped, BLOB);
        ck_assert_str_eq(a->kek_id, ARN);
        ck_assert(request_has("TrentService.ReEncrypt\r\n"));
        expect_body("{\"SourceKeyId\":\"" ARN "\",\"DestinationKeyId\":\"" ARN "\",\"CiphertextBlob\":\"" BLOB_BASE64
                    "\",\"SourceEncryptionContext\":" CONTEXT ",\"DestinationEncryptionContext\":" CONTEXT "}");
        expect(a, PROTO_ERROR_NONE, 1);
}
END_TEST

START_TEST(context_arrives_as_it_is)
{
        context = (struct pairs){ .n = 3,
                                  .pair = { { BYTES_LITERAL("z\"\\/"), BYTES_LITERAL("\xc3\xbc\xe1\x88\xb4 \"x\"") },
                                            { BYTES_LITERAL("number"), BYTES_LITERAL("1") },
                                            { BYTES_LITERAL("a"), { NULL, 0 } } } };
        KMS_SAYS(generated(ARN));
        expect(generate(), PROTO_ERROR_NONE, 1);
        expect_body("{\"KeyId\":\"" ARN "\",\"KeySpec\":\"AES_256\",\"EncryptionContext\":"
                    "{\"z\\\"\\\\/\":\"\xc3\xbc\xe1\x88\xb4 \\\"x\\\"\",\"number\":\"1\",\"a\":\"\"}}");
        context.n = 0;
        expect(generate(), PROTO_ERROR_NONE, 2);
        expect_body("{\"KeyId\":\"" ARN "\",\"KeySpec\":\"AES_256\"}");
        context = (struct pairs){ .n = 2,
                                  .pair = { { BYTES_LITERAL("a"), BYTES_LITERAL("1") },
                                            { BYTES_LITERAL("a"), BYTES_LITERAL("2") } } };
        expect(generate(), PROTO_ERROR_PROTOCOL, 2);
}
END_TEST

START_TEST(largest_context_and_blob_fit)
{
        static char text[PAIRS_MAX][PAIR_VALUE_MAX], names[PAIRS_MAX][PAIR_KEY_MAX], token[4096];
        static uint8_t blob[WRAPPED_MAX];
        struct asked *a = asked_new(PLENTY);

        memset(text, '"', sizeof(text)); /* which JSON escapes */
        memset(names, 'n', sizeof(names));
        for (context.n = 0; context.n < PAIRS_MAX; context.n++) {
                names[context.n][0] = (char)('a' + context.n);
                context.pair[context.n].key = (struct bytes){ (uint8_t *)names[context.n], PAIR_KEY_MAX };
                context.pair[context.n].value = (struct bytes){ (uint8_t *)text[context.n], PAIR_VALUE_MAX };
        }
        KMS_SAYS(decrypted(ARN));
        provider_aws.unwrap(kek, &a->call, BYTES_LITERAL(ARN), (struct bytes){ blob, sizeof(blob) }, &context);
        asked_wait(a);
        expect(a, PROTO_ERROR_NONE, 1);
        ck_assert_uint_gt(strlen(server.request), 17000);
        json_decref(body());
        KMS_SAYS(reply(200, "",
                       "{\"SourceKeyId\":\"" ARN "\",\"KeyId\":\"" ARN "\",\"CiphertextBlob\":\"" BLOB_BASE64 "\"}"));
        a = asked_new(PLENTY);
        provider_aws.rewrap(kek, &a->call, BYTES_LITERAL(ARN), (struct bytes){ blob, sizeof(blob) }, &context);
        asked_wait(a);
        expect(a, PROTO_ERROR_NONE, 1);
        ck_assert_uint_gt(strlen(server.request), 28000);
        /* And with that, a long grant token is more than a request may be. */
        memset(token, 't', sizeof(token) - 1);
        config.grant_tokens = token;
        kek_is(ARN, NULL);
        a = asked_new(PLENTY);
        provider_aws.rewrap(kek, &a->call, BYTES_LITERAL(ARN), (struct bytes){ blob, sizeof(blob) }, &context);
        asked_wait(a);
        expect(a, PROTO_ERROR_KMS_MISCONFIGURED, 1);
}
END_TEST

START_TEST(grant_tokens_are_sent)
{
        static char tokens[] = "one two/+=";

        config.grant_tokens = tokens;
        kek_is(ARN, NULL);
        KMS_SAYS(decrypted(ARN));
        expect(unwrap(ARN), PROTO_ERROR_NONE, 1);
        ck_assert(request_has("\"GrantTokens\":[\"one\",\"two/+=\"]"));
}
END_TEST

START_TEST(session_token_is_sent_and_signed)
{
        credentials_are("ASIAEXAMPLE", SESSION_TOKEN);
        KMS_SAYS(generated(ARN));
        expect(generate(), PROTO_ERROR_NONE, 1);
        ck_assert(request_has("\r\nX-Amz-Security-Token: " SESSION_TOKEN "\r\n"));
        ck_assert(request_has("SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target,"));
        ck_assert(request_has("Credential=ASIAEXAMPLE/"));
}
END_TEST

START_TEST(wrap_without_a_length_of_kms_is_not_sent)
{
        static uint8_t blob[WRAPPED_MAX + 1];

        KMS_SAYS(decrypted(ARN));
        for (size_t i = 0; i < 2; i++) {
                struct asked *a = asked_new(PLENTY);

                provider_aws.unwrap(kek, &a->call, BYTES_LITERAL(ARN), (struct bytes){ blob, i * sizeof(blob) },
                                    &context);
                asked_wait(a);
                expect(a, PROTO_ERROR_KMS_CORRUPT, 0);
        }
}
END_TEST

/* ---- answers that must not be taken ---- */

START_TEST(answer_in_the_name_of_another_key_is_refused)
{
        static const char *const names[] = {
                OTHER_ARN, ARN_OF("eu-west-1", ID), "arn:aws:kms:" REGION ":999999999999:key/" ID, ID, "alias/x", ""
        };
        struct asked *a;

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                KMS_SAYS(decrypted(names[i]));
                a = unwrap(ARN);
                ck_assert_ptr_nonnull(strstr(a->sentence, "another key"));
                expect(a, PROTO_ERROR_KMS_MISCONFIGURED, 1);
                KMS_SAYS(generated(names[i]));
                expect(generate(), PROTO_ERROR_KMS_MISCONFIGURED, 1);
                KMS_SAYS(reply(200, "",
                               "{\"SourceKeyId\":\"%s\",\"KeyId\":\"" ARN "\",\"CiphertextBlob\":\"" BLOB_BASE64 "\"}",
                               names[i]));
                expect(rewrap(ARN), PROTO_ERROR_KMS_MISCONFIGURED, 1);
                KMS_SAYS(reply(200, "",
                               "{\"SourceKeyId\":\"" ARN "\",\"KeyId\":\"%s\",\"CiphertextBlob\":\"" BLOB_BASE64 "\"}",
                               names[i]));
                expect(rewrap(ARN), PROTO_ERROR_KMS_MISCONFIGURED, 1);
        }
}
END_TEST

START_TEST(answer_without_a_key_of_32_bytes_is_refused)
{
        static const char *const values[] = {
                "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==\"", /* 31 */
                "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\"", /* 33 */
                "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=\"", /* trailing bits */
                "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"", /* no padding */
                "\" AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"", /* white space */
                "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh-=\"", /* another alphabet */
                "\"\"",
                "null",
                "1",
                "[\"" KEY_BASE64 "\"]",
                "{\"Plaintext\":\"" KEY_BASE64 "\"}",
                "\"" KEY_BASE64 "\",\"Plaintext\":\"" KEY_BASE64 "\"",
        };

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                KMS_SAYS(reply(200, "", "{\"KeyId\":\"" ARN "\",\"Plaintext\":%s}", values[i]));
                expect(unwrap(ARN), PROTO_ERROR_KMS_MISCONFIGURED, 1);
        }
        KMS_SAYS(reply(200, "", "{\"KeyId\":\"" ARN "\"}"));
        expect(unwrap(ARN), PROTO_ERROR_KMS_MISCONFIGURED, 1);
        KMS_SAYS(reply(200, "", "{\"KeyId\":\"" ARN "\",\"x\":{\"Plaintext\":\"" KEY_BASE64 "\"}}"));
        expect(unwrap(ARN), PROTO_ERROR_KMS_MISCONFIGURED, 1);
}
END_TEST

START_TEST(answer_without_a_good_blob_is_refused)
{
        static const char *const values[] = { "\"Y2lwaGVydGV4dA=\"",
                                              "\"Y2lwaGVydGV4d\"",
                                              "\"Y2lwaGVydGV4dB==\"",
                                              "\"Y2lw aGVydGV4dA==\"",
                                              "\"\"",
                                              "null",
                                              "1" };

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                KMS_SAYS(reply(200, "",
                               "{\"KeyId\":\"" ARN "\",\"Plaintext\":\"" KEY_BASE64 "\",\"CiphertextBlob\":%s}",
                               values[i]));
                expect(generate(), PROTO_ERROR_KMS_MISCONFIGURED, 1);
        }
        KMS_SAYS(decrypted(ARN));
        expect(generate(), PROTO_ERROR_KMS_MISCONFIGURED, 1);
}
END_TEST

START_TEST(answer_that_is_no_json_object_is_refused)
{
        static const char *const bodies[] = { "",
                                              "null",
                                              "[]",
                                              "\"x\"",
                                              "{",
                                              "<html><body>Please log in</body></html>",
                                              "{\"KeyId\":\"" ARN "\",\"KeyId\":\"" ARN "\",\"Plaintext\":\"" KEY_BASE64
                                              "\"}" };

        for (size_t i = 0; i < ELEMENTSOF(bodies); i++) {
                KMS_SAYS(reply(200, "", "%s", bodies[i]));
                expect(unwrap(ARN), PROTO_ERROR_KMS_MISCONFIGURED, 1);
        }
        KMS_SAYS(reply(307, "Location: https://127.0.0.1/\r\n", "%s", ""));
        expect(unwrap(ARN), PROTO_ERROR_KMS_MISCONFIGURED, 1);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { generate_asks_for_a_key_of_32_bytes_under_the_arn },
                { unwrap_always_names_the_key },
                { wrap_sends_the_key_in_its_body },
                { rewrap_binds_both_sides_to_the_context },
                { context_arrives_as_it_is },
                { largest_context_and_blob_fit },
                { grant_tokens_are_sent },
                { session_token_is_sent_and_signed },
                { wrap_without_a_length_of_kms_is_not_sent },
                { answer_in_the_name_of_another_key_is_refused },
                { answer_without_a_key_of_32_bytes_is_refused },
                { answer_without_a_good_blob_is_refused },
                { answer_that_is_no_json_object_is_refused },
        };

        return suite_run("provider-aws", aws_setup, aws_teardown, promises, ELEMENTSOF(promises));
}
