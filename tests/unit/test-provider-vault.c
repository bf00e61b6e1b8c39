/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked of Vault, and what its answers come to. Logins and tokens: test-vault-token.c. */
#include <jansson.h>
#include <openssl/sha.h>

#include "daemon/kms/vault-answer.h"
#include "daemon/kms/vault-batch.h"
#include "tests/unit/vault-fixture.h"

#define ERRORS(text) "{\"errors\":[\"" text "\"]}"

static json_t *asked_json(const char *path)
{
        json_t *json = json_loads(script_rule(&script, path)->body, JSON_REJECT_DUPLICATES, NULL);

        ck_assert_msg(json, "%s", script_rule(&script, path)->body);
        return json;
}

static void answer_once(const char *path, int status, const char *body, const char *then)
{
        script_forget(&script, path);
        script_answer(&script, path, status, body);
        script_answer(&script, path, 200, then);
}

#define DECRYPTED "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"}}"

START_TEST(key_is_made_and_unwrapped)
{
        static const uint8_t packed[] = "\0\1\0\7purpose\0\4test";
        uint8_t digest[SHA256_DIGEST_LENGTH];
        char wanted[BASE64_LENGTH(sizeof(digest)) + 1];
        struct outcome o = generate();
        struct provider_description description;
        json_t *body;

        ck_assert_int_eq(o.error, 0);
        ck_assert(o.is_key);
        ck_assert_str_eq(o.kek_id, "vault:transit/lkmd");
        ck_assert_str_eq(o.wrapped, WRAP);
        SHA256(packed, sizeof(packed) - 1, digest);
        base64_format(wanted, digest, sizeof(digest));
        body = asked_json(DATAKEY);
        ck_assert_str_eq(json_string_value(json_object_get(body, "context")), wanted);
        ck_assert_int_eq(json_integer_value(json_object_get(body, "bits")), 256);
        ck_assert_uint_eq(json_object_size(body), 2);
        json_decref(body);

        o = unwrap();
        ck_assert_int_eq(o.error, 0);
        ck_assert(o.is_key);
        body = asked_json(DECRYPT);
        ck_assert_str_eq(json_string_value(json_object_get(body, "ciphertext")), WRAP);
        ck_assert_str_eq(json_string_value(json_object_get(body, "context")), wanted);
        ck_assert_uint_eq(json_object_size(body), 2);
        json_decref(body);
        ck_assert_str_eq(script_rule(&script, DECRYPT)->token, "root-token");
        ck_assert_str_eq(script_rule(&script, DECRYPT)->is_request, "true");
        ck_assert_str_eq(script_rule(&script, DECRYPT)->namespace, "");
        ck_assert_uint_eq(asked(KEY), 1); /* for both */
        provider_vault.describe(kek, &description);
        ck_assert_uint_eq(description.version, 3);
        ck_assert_ptr_null(description.why);
        ck_assert_ptr_null(description.note);
}
END_TEST

START_TEST(wrap_sends_the_key_and_rewrap_does_not)
{
        struct secret *key;
        struct outcome o = outcome_new(), again = outcome_new();
        uint8_t *view;
        json_t *body;

        ck_assert_int_eq(secret_new(&key, KEY_SIZE), 0);
        view = secret_view_begin(key);
        memset(view, 'k', KEY_SIZE);
        secret_view_end(key, &view);
        kek_make();
        provider_vault.wrap(kek, &o.call, key, &context);
        secret_unref(key);
        finish(&o);
        ck_assert_int_eq(o.error, 0);
        ck_assert_str_eq(o.wrapped, WRAP);
        body = asked_json(ENCRYPT);
        ck_assert_str_eq(json_string_value(json_object_get(body, "plaintext")), PLAINTEXT);
        ck_assert_uint_eq(json_object_size(body), 2);
        json_decref(body);
        provider_vault.rewrap(kek, &again.call, bytes_from_string(o.kek_id), bytes_from_string(o.wrapped), &context);
        finish(&again);
        ck_assert_int_eq(again.error, 0);
        ck_assert_str_eq(again.wrapped, WRAP);
        ck_assert(!again.is_key);
        body = asked_json(REWRAP);
        ck_assert_str_eq(json_string_value(json_object_get(body, "ciphertext")), WRAP);
        json_decref(body);
}
END_TEST

START_TEST(many_who_wait_need_no_locked_memory)
{
        struct outcome o[200];
        size_t large;

        kek_make();
        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                o[i] = outcome_new();
                provider_vault.generate(kek, &o[i].call, &context);
        }
        secret_arena_usage(NULL, NULL, &large, NULL);
        ck_assert_uint_eq(large, 0);
        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                finish(&o[i]);
                ck_assert_msg(o[i].error == 0, "%s", o[i].sentence);
        }
}
END_TEST

START_TEST(namespace_is_in_the_header_and_in_the_identity)
{
        static char namespace[] = "ns1/ns2";
        struct outcome o;

        config.namespace = namespace;
        o = generate();
        ck_assert_int_eq(o.error, 0);
        ck_assert_str_eq(o.kek_id, "vault:ns1/ns2/transit/lkmd");
        ck_assert_str_eq(script_rule(&script, DATAKEY)->namespace, "ns1/ns2");
        ck_assert_str_eq(script_rule(&script, LOOKUP)->namespace, "ns1/ns2");
}
END_TEST

START_TEST(another_keks_wrap_and_a_damaged_one_are_not_asked_about)
{
        static const char *const damaged[] = { "", "vault:", "vault:v", "vault:v1", "vault:v1:", "vault:v0:AAAA", "vault:v01:AAAA",
                                               "vault:vx:AAAA", "vault:v1:AA\"A", "vault:v1:AA\\n", "bault:v1:AAAA", "vault:v9999999999:AAAA",
                                               "vault:v1:AAAA\n", "VAULT:v1:AAAA" };
        struct outcome o = outcome_new();

        kek_make();
        provider_vault.unwrap(kek, &o.call, BYTES_LITERAL("vault:transit/other"), BYTES_LITERAL(WRAP), &context);
        finish(&o);
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_NOT_MINE);
        for (size_t i = 0; i < ELEMENTSOF(damaged); i++) {
                o = outcome_new();
                provider_vault.unwrap(kek, &o.call, BYTES_LITERAL("vault:transit/lkmd"), bytes_from_string(damaged[i]), &context);
                finish(&o);
                ck_assert_msg(o.error == PROTO_ERROR_KMS_CORRUPT, "%s", damaged[i]);
        }
        ck_assert_uint_eq(asked(DECRYPT), 0);
        ck_assert_uint_eq(vault_ciphertext_version(BYTES_LITERAL("vault:v12:AA+/")), 12);
}
END_TEST

/* ---- the key ---- */

START_TEST(key_that_does_not_bind_the_context_is_refused)
{
        static const struct {
                const char *data, *says;
        } cases[] = {
                { "{\"data\":{" GOOD ",\"derived\":false}}", NULL }, /* a member twice: no JSON to us */
                { "{\"data\":{\"type\":\"aes256-gcm96\",\"derived\":false,\"supports_encryption\":true,\"supports_decryption\":true}}",
                  "derived is not true" },
                { "{\"data\":{\"type\":\"aes256-gcm96\",\"supports_encryption\":true,\"supports_decryption\":true}}", "derived is not true" },
                { "{\"data\":{\"type\":\"rsa-2048\",\"derived\":true,\"supports_encryption\":true,\"supports_decryption\":true}}",
                  "type is rsa-2048" },
                { "{\"data\":{\"derived\":true,\"supports_encryption\":true,\"supports_decryption\":true}}", "type is missing" },
                { "{\"data\":{\"type\":\"aes256-gcm96\",\"derived\":true,\"supports_decryption\":true}}", "supports_encryption is not true" },
                { "{\"data\":{\"type\":\"aes256-gcm96\",\"derived\":true,\"supports_encryption\":true}}", "supports_decryption is not true" },
                { "{\"data\":{" GOOD ",\"convergent_encryption\":true}}", "convergent_encryption is true" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct provider_description description;
                struct outcome o;

                script_forget(&script, KEY);
                script_answer(&script, KEY, 200, cases[i].data);
                o = generate();
                ck_assert_msg(o.error == (cases[i].says ? PROTO_ERROR_KMS_MISCONFIGURED : PROTO_ERROR_KMS_UNREACHABLE), "%zu: %s", i, o.sentence);
                if (cases[i].says) {
                        ck_assert_msg(strstr(o.sentence, cases[i].says), "%s", o.sentence);
                        ck_assert_ptr_nonnull(strstr(o.sentence, "`vault write -f transit/keys/NAME type=aes256-gcm96 derived=true`"));
                        provider_vault.describe(kek, &description);
                        ck_assert_ptr_nonnull(strstr(description.why, cases[i].says));
                        o = unwrap(); /* known by now: nothing is asked again */
                        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_MISCONFIGURED);
                        ck_assert_uint_eq(asked(KEY), 1);
                }
                kek = provider_vault.kek_free(kek);
        }
        ck_assert_uint_eq(asked(DATAKEY) + asked(DECRYPT), 0);
}
END_TEST

START_TEST(exportable_key_works_and_is_noted)
{
        struct provider_description description;

        script_forget(&script, KEY);
        script_answer(&script, KEY, 200,
                      "{\"data\":{\"type\":\"chacha20-poly1305\",\"derived\":true,\"supports_encryption\":true,\"supports_decryption\":true,"
                      "\"exportable\":true,\"allow_plaintext_backup\":true}}");
        ck_assert_int_eq(unwrap().error, 0);
        provider_vault.describe(kek, &description);
        ck_assert_ptr_null(description.why);
        ck_assert_ptr_nonnull(strstr(description.note, "exportable is true, allow_plaintext_backup is true"));
}
END_TEST

START_TEST(deleted_and_missing_keys_are_told_apart)
{
        script_forget(&script, KEY);
        script_answer(&script, KEY, 404, "{\"errors\":[]}");
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_NOT_FOUND);
        kek = provider_vault.kek_free(kek);
        script_forget(&script, KEY);
        script_answer(&script, KEY, 200, "{\"data\":{" GOOD ",\"soft_deleted\":true}}");
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_STATE);
        ck_assert_uint_eq(asked(DECRYPT), 0);
}
END_TEST

START_TEST(check_that_cannot_be_made_is_an_outage)
{
        struct provider_description description;

        script_forget(&script, KEY);
        script_answer(&script, KEY, 503, ERRORS("Vault is sealed"));
        script_answer(&script, KEY, 200, "{\"data\":{" GOOD "}}");
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_UNREACHABLE);
        ck_assert_uint_eq(asked(DECRYPT), 0);
        provider_vault.describe(kek, &description);
        ck_assert_ptr_null(description.why);
        ck_assert_int_eq(unwrap().error, 0); /* and that is all there is to it */
}
END_TEST

/* ---- answers ---- */

START_TEST(ignored_parameter_is_an_error)
{
        static const char warnings[] =
                ",\"warnings\":[\"something else\",\"Endpoint ignored these unrecognized parameters: [context]\"]}";
        char made[512], opened[512];
        struct outcome o;

        snprintf(made, sizeof(made), "{\"data\":{\"plaintext\":\"" PLAINTEXT "\",\"ciphertext\":\"" WRAP "\"}%s", warnings);
        snprintf(opened, sizeof(opened), "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"}%s", warnings);
        script_forget(&script, DATAKEY);
        script_answer(&script, DATAKEY, 200, made);
        script_forget(&script, DECRYPT);
        script_answer(&script, DECRYPT, 200, opened);
        o = generate();
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_MISCONFIGURED);
        ck_assert_ptr_nonnull(strstr(o.sentence, "[context]"));
        ck_assert(!o.is_key);
        o = unwrap();
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_MISCONFIGURED);
        ck_assert(!o.is_key);
        answer_once(DECRYPT, 200, "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"},\"warnings\":[\"TTL exceeded\"]}", DECRYPTED);
        ck_assert_int_eq(unwrap().error, 0); /* other warnings are no error */
}
END_TEST

START_TEST(plaintext_that_is_no_key_is_corrupt)
{
        static const char *const plaintexts[] = { "\"" PLAINTEXT_31 "\"", "\"" PLAINTEXT_SHORT "\"", "\"\"", "null", "17",
                                                  "\"" PLAINTEXT "AAAA\"" };
        char text[256];

        for (size_t i = 0; i < ELEMENTSOF(plaintexts); i++) {
                snprintf(text, sizeof(text), "{\"data\":{\"plaintext\":%s,\"ciphertext\":\"" WRAP "\"}}", plaintexts[i]);
                script_forget(&script, DECRYPT);
                script_answer(&script, DECRYPT, 200, text);
                script_forget(&script, DATAKEY);
                script_answer(&script, DATAKEY, 200, text);
                ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CORRUPT);
                ck_assert_int_eq(generate().error, PROTO_ERROR_KMS_CORRUPT);
        }
}
END_TEST

START_TEST(what_passes_is_asked_again)
{
        static const struct {
                int status;
                const char *body;
        } cases[] = { { 412, ERRORS("required index state not present") }, { 429, ERRORS("rate limit quota exceeded") }, { 473, NULL },
                      { 472, NULL }, { 500, ERRORS("internal error") }, { 502, "<html>bad gateway</html>" }, { 200, "<html>welcome</html>" },
                      { 200, "[]" }, { 200, "{}" }, { 204, NULL }, { 503, NULL } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct outcome o;

                answer_once(DECRYPT, cases[i].status, cases[i].body, DECRYPTED);
                o = unwrap();
                ck_assert_msg(o.error == 0, "%d: %s", cases[i].status, o.sentence);
                ck_assert_uint_eq(asked(DECRYPT), 2);
        }
}
END_TEST

START_TEST(what_stays_is_not_asked_again)
{
        static const struct {
                int status;
                const char *body;
                enum proto_error error;
        } cases[] = { { 400, ERRORS("cipher: message authentication failed"), PROTO_ERROR_KMS_CORRUPT },
                      { 503, ERRORS("Vault is sealed"), PROTO_ERROR_KMS_UNREACHABLE },
                      { 404, ERRORS("no handler for route"), PROTO_ERROR_KMS_MISCONFIGURED },
                      { 302, NULL, PROTO_ERROR_KMS_MISCONFIGURED } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct outcome o;

                answer_once(DECRYPT, cases[i].status, cases[i].body, DECRYPTED);
                o = unwrap();
                ck_assert_msg(o.error == cases[i].error, "%d: %s", cases[i].status, o.sentence);
                ck_assert_uint_eq(asked(DECRYPT), 1);
        }
}
END_TEST

START_TEST(unwrap_ends_by_its_deadline)
{
        struct outcome o, other = outcome_new();

        ck_assert_int_eq(unwrap().error, 0);
        script_forget(&script, DECRYPT);
        script_answer(&script, DECRYPT, 0, NULL);
        o = outcome_new();
        o.call.deadline_usec = clock_boottime_usec() + 30 * USEC_PER_MSEC;
        other.call.deadline_usec = clock_boottime_usec() + 60 * USEC_PER_MSEC;
        begin_unwrap(&o);
        begin_unwrap(&other); /* in the same request: each has its own */
        finish(&o);
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_UNREACHABLE);
        finish(&other);
        ck_assert_int_eq(other.error, PROTO_ERROR_KMS_UNREACHABLE);
}
END_TEST

START_TEST(kek_can_go_while_it_is_being_checked)
{
        script_forget(&script, KEY);
        script_answer(&script, KEY, 0, NULL);
        kek_make();
        until_asked(KEY, 1);
        kek = provider_vault.kek_free(kek);
        script_forget(&script, LOOKUP);
        script_answer(&script, LOOKUP, 0, NULL);
        kek_make();
        until_asked(LOOKUP, 1);
}
END_TEST

START_TEST(policy_and_permissions_name_what_is_needed)
{
        char *policy;

        kek_make();
        policy = provider_vault.policy(kek);
        ck_assert_ptr_nonnull(strstr(policy, "path \"transit/datakey/plaintext/lkmd\" {\n  capabilities = [\"update\"]\n}\n"));
        ck_assert_ptr_nonnull(strstr(policy, "path \"transit/keys/lkmd\" {\n  capabilities = [\"read\"]\n}\n"));
        ck_assert_ptr_null(strstr(policy, "create"));
        free(policy);
        ck_assert_str_eq(provider_vault.permission(kek, PROVIDER_UNWRAP), "update on transit/decrypt/lkmd");
        ck_assert_str_eq(provider_vault.permission(kek, PROVIDER_GENERATE), "update on transit/datakey/plaintext/lkmd");
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { key_is_made_and_unwrapped },
                { wrap_sends_the_key_and_rewrap_does_not },
                { many_who_wait_need_no_locked_memory },
                { namespace_is_in_the_header_and_in_the_identity },
                { another_keks_wrap_and_a_damaged_one_are_not_asked_about },
                { key_that_does_not_bind_the_context_is_refused },
                { exportable_key_works_and_is_noted },
                { deleted_and_missing_keys_are_told_apart },
                { check_that_cannot_be_made_is_an_outage },
                { ignored_parameter_is_an_error },
                { plaintext_that_is_no_key_is_corrupt },
                { what_passes_is_asked_again },
                { what_stays_is_not_asked_again },
                { unwrap_ends_by_its_deadline },
                { kek_can_go_while_it_is_being_checked },
                { policy_and_permissions_name_what_is_needed },
        };

        return suite_run("provider-vault", setup, teardown, promises, ELEMENTSOF(promises));
}
