/* SPDX-License-Identifier: Apache-2.0 */
/* Logins, and the life of a token. */
#include <jansson.h>

#include "tests/unit/vault-fixture.h"

#define WRAPPING_LOOKUP "sys/wrapping/lookup"
#define WRAPPING_UNWRAP "sys/wrapping/unwrap"
#define DECRYPTED "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"}}"
#define REFUSED "{\"errors\":[\"invalid role or secret ID\"]}"

static const char *member(const char *path, const char *key)
{
        static char value[256];
        json_t *body = json_loads(script_rule(&script, path)->body, JSON_REJECT_DUPLICATES, NULL);

        ck_assert_msg(body, "%s", script_rule(&script, path)->body);
        snprintf(value, sizeof(value), "%s", json_string_value(json_object_get(body, key)));
        json_decref(body);
        return value;
}

static void answers(const char *path, int status, const char *body)
{
        script_forget(&script, path);
        script_answer(&script, path, status, body);
}

/* ---- logins ---- */

START_TEST(one_login_serves_all_who_wait)
{
        struct outcome o[20];

        use_approle();
        kek_make();
        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                o[i] = outcome_new();
                provider_vault.generate(kek, &o[i].call, &context);
        }
        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                finish(&o[i]);
                ck_assert_int_eq(o[i].error, 0);
        }
        ck_assert_uint_eq(asked(LOGIN), 1);
        ck_assert_uint_eq(asked(KEY), 1);
        ck_assert_str_eq(script_rule(&script, DATAKEY)->token, "approle-token-1");
        ck_assert_str_eq(script_rule(&script, LOGIN)->token, "");
        ck_assert_str_eq(member(LOGIN, "role_id"), "role-id-1");
        ck_assert_str_eq(member(LOGIN, "secret_id"), "secret-id-1");
}
END_TEST

START_TEST(each_method_sends_what_it_has)
{
        static char mount[] = "here", role[] = "lkm", certificate[] = "/nonexistent";

        config.token_file = NULL;
        config.role = role;
        config.jwt_file = secret_file;
        secret_write("eyJh.eyJi.c2ln", 0600);
        config.auth = VAULT_AUTH_JWT;
        script_answer(&script, "auth/jwt/login", 200, AUTH("t", "0", "false"));
        ck_assert_int_eq(unwrap().error, 0);
        ck_assert_str_eq(member("auth/jwt/login", "role"), "lkm");
        ck_assert_str_eq(member("auth/jwt/login", "jwt"), "eyJh.eyJi.c2ln");
        kek = provider_vault.kek_free(kek);

        config.auth = VAULT_AUTH_KUBERNETES;
        config.auth_mount = mount;
        secret_write("eyJh.eyJi.c2ln", 0644); /* as Kubernetes projects it */
        script_answer(&script, "auth/here/login", 200, AUTH("t", "0", "false"));
        ck_assert_int_eq(unwrap().error, 0);
        ck_assert_str_eq(member("auth/here/login", "jwt"), "eyJh.eyJi.c2ln");
        kek = provider_vault.kek_free(kek);

        config.auth = VAULT_AUTH_JWT;
        kek_make(); /* another issuer's: mode 0644 is not excused */
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CREDENTIALS);
        kek = provider_vault.kek_free(kek);

        config.auth = VAULT_AUTH_CERT;
        config.auth_mount = NULL;
        config.client_certificate = certificate;
        config.client_key = certificate;
        script_answer(&script, "auth/cert/login", 200, AUTH("t", "0", "false"));
        ck_assert_int_eq(unwrap().error, 0); /* over plain HTTP nothing reads the certificate */
        ck_assert_str_eq(member("auth/cert/login", "name"), "lkm");
}
END_TEST

START_TEST(files_that_others_may_read_are_refused)
{
        struct outcome o;

        secret_write("root-token", 0644);
        o = unwrap();
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(o.sentence, "chmod 600 "));
        ck_assert_uint_eq(script.n_asked, 0);
        secret_write("two words", 0600);
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CREDENTIALS);
        secret_write("", 0600);
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_uint_eq(script.n_asked, 0);
        secret_write("  root-token", 0600);
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CREDENTIALS);
        secret_write("root-token \r\n\n", 0600); /* and now it is as it should be */
        ck_assert_int_eq(unwrap().error, 0);
}
END_TEST

START_TEST(refused_login_is_not_repeated_until_the_file_changes)
{
        struct outcome o;

        use_approle();
        answers(LOGIN, 400, REFUSED);
        o = unwrap();
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(o.sentence, "login is refused"));
        for (unsigned i = 0; i < 5; i++)
                ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_uint_eq(asked(LOGIN), 1);
        answers(LOGIN, 200, AUTH("t", "0", "false"));
        secret_write("secret-id-2-longer\n", 0600);
        ck_assert_int_eq(unwrap().error, 0);
        ck_assert_str_eq(member(LOGIN, "secret_id"), "secret-id-2-longer");
}
END_TEST

START_TEST(login_without_a_token_is_no_login)
{
        use_approle();
        answers(LOGIN, 200, "{\"auth\":{\"client_token\":\"\",\"mfa_requirement\":{}}}");
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_uint_eq(asked(DECRYPT), 0);
}
END_TEST

START_TEST(outage_of_the_login_is_an_outage)
{
        use_approle();
        answers(LOGIN, 503, "{\"errors\":[\"Vault is sealed\"]}");
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_UNREACHABLE);
        answers(LOGIN, 200, AUTH("t", "0", "false"));
        ck_assert_int_eq(unwrap().error, 0);
}
END_TEST

/* ---- the token ends ---- */

START_TEST(expired_token_is_replaced_and_the_call_goes_on)
{
        struct outcome o;

        use_approle();
        ck_assert_int_eq(unwrap().error, 0);
        script_forget(&script, DECRYPT);
        script_answer(&script, DECRYPT, 403, DENIED);
        script_answer(&script, DECRYPT, 200, DECRYPTED);
        answers(LOOKUP, 403, DENIED);
        answers(LOGIN, 200, AUTH("approle-token-2", "0", "false"));
        o = unwrap();
        ck_assert_msg(o.error == 0, "%s", o.sentence);
        ck_assert_uint_eq(asked(LOOKUP), 1);
        ck_assert_uint_eq(asked(LOGIN), 1);
        ck_assert_str_eq(script_rule(&script, LOOKUP)->token, "approle-token-1");
        ck_assert_str_eq(script_rule(&script, DECRYPT)->token, "approle-token-2");
}
END_TEST

START_TEST(many_refused_calls_look_once_and_log_in_once)
{
        struct outcome o[8];

        use_approle();
        ck_assert_int_eq(unwrap().error, 0);
        script_forget(&script, DATAKEY);
        for (size_t i = 0; i < ELEMENTSOF(o); i++)
                script_answer(&script, DATAKEY, 403, DENIED);
        script_answer(&script, DATAKEY, 200, "{\"data\":{\"plaintext\":\"" PLAINTEXT "\",\"ciphertext\":\"" WRAP "\"}}");
        answers(LOOKUP, 403, DENIED);
        answers(LOGIN, 200, AUTH("approle-token-2", "0", "false"));
        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                o[i] = outcome_new();
                provider_vault.generate(kek, &o[i].call, &context);
        }
        for (size_t i = 0; i < ELEMENTSOF(o); i++) {
                finish(&o[i]);
                ck_assert_msg(o[i].error == 0, "%s", o[i].sentence);
        }
        ck_assert_uint_eq(asked(LOOKUP), 1);
        ck_assert_uint_eq(asked(LOGIN), 1);
}
END_TEST

START_TEST(denial_under_a_good_token_is_a_denial)
{
        struct outcome o;

        use_approle();
        answers(DECRYPT, 403, "{\"errors\":[\"1 error occurred:\\n\\t* permission denied\\n\\n\"]}");
        o = unwrap();
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_DENIED);
        ck_assert_ptr_nonnull(strstr(o.sentence, "update on transit/decrypt/lkmd"));
        ck_assert_uint_eq(asked(LOOKUP), 1);
        ck_assert_uint_eq(asked(DECRYPT), 1);
        ck_assert_uint_eq(asked(LOGIN), 1);
        ck_assert_int_eq(generate().error, 0); /* the token is still the same */
        ck_assert_uint_eq(asked(LOGIN), 1);
}
END_TEST

START_TEST(denial_after_another_login_is_final)
{
        use_approle();
        ck_assert_int_eq(unwrap().error, 0);
        answers(DECRYPT, 403, DENIED);
        answers(LOOKUP, 403, DENIED);
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_DENIED);
        ck_assert_uint_eq(asked(DECRYPT), 2);
        ck_assert_uint_eq(asked(LOGIN), 2);
}
END_TEST

START_TEST(doubt_in_an_outage_is_an_outage)
{
        use_approle();
        ck_assert_int_eq(unwrap().error, 0);
        answers(DECRYPT, 403, DENIED);
        answers(LOOKUP, 503, "{\"errors\":[\"Vault is sealed\"]}");
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_UNREACHABLE);
}
END_TEST

START_TEST(token_of_a_file_that_has_ended_is_told)
{
        struct outcome o;

        answers(LOOKUP, 403, DENIED);
        o = unwrap();
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(o.sentence, secret_file));
        answers(LOOKUP, 200, FOREVER);
        secret_write("another-token", 0600);
        ck_assert_int_eq(unwrap().error, 0);
        ck_assert_str_eq(script_rule(&script, DECRYPT)->token, "another-token");
}
END_TEST

/* ---- renewals ---- */

START_TEST(renewable_token_is_renewed_at_once)
{
        use_approle();
        answers(LOGIN, 200, AUTH("approle-token-1", "1000", "true"));
        answers(RENEW, 200, AUTH("approle-token-1", "1000", "true"));
        ck_assert_int_eq(unwrap().error, 0);
        until_asked(RENEW, 1);
        ck_assert_str_eq(script_rule(&script, RENEW)->token, "approle-token-1");
        ck_assert_int_eq(unwrap().error, 0);
        ck_assert_uint_eq(asked(LOGIN), 1);
}
END_TEST

START_TEST(renewal_that_no_longer_extends_is_followed_by_a_login)
{
        use_approle();
        script_forget(&script, LOGIN);
        script_answer(&script, LOGIN, 200, AUTH("approle-token-1", "1000", "true"));
        script_answer(&script, LOGIN, 200, AUTH("approle-token-2", "1000", "false"));
        answers(RENEW, 200,
                "{\"auth\":{\"client_token\":\"approle-token-1\",\"lease_duration\":20,\"renewable\":true},\"warnings\":[\"TTL of \\\"1h\\\" "
                "exceeded the effective max_ttl of \\\"20s\\\"; TTL value is capped accordingly\"]}");
        ck_assert_int_eq(unwrap().error, 0);
        until_asked(LOGIN, 2);
        ck_assert_uint_eq(asked(RENEW), 1);
        while (strcmp(script_rule(&script, DECRYPT)->token, "approle-token-2") != 0) /* the old one serves until the new one is there */
                ck_assert_int_eq(unwrap().error, 0);
}
END_TEST

START_TEST(refused_renewal_is_followed_by_a_login)
{
        use_approle();
        script_forget(&script, LOGIN);
        script_answer(&script, LOGIN, 200, AUTH("approle-token-1", "1000", "true"));
        script_answer(&script, LOGIN, 200, AUTH("approle-token-2", "1000", "false"));
        answers(RENEW, 403, DENIED);
        ck_assert_int_eq(unwrap().error, 0);
        until_asked(LOGIN, 2);
}
END_TEST

START_TEST(login_ahead_that_fails_leaves_the_old_token)
{
        use_approle();
        script_forget(&script, LOGIN);
        script_answer(&script, LOGIN, 200, AUTH("approle-token-1", "1000", "true"));
        script_answer(&script, LOGIN, 400, REFUSED);
        answers(RENEW, 403, DENIED);
        ck_assert_int_eq(unwrap().error, 0);
        until_asked(LOGIN, 2);
        for (unsigned i = 0; i < 3; i++)
                ck_assert_int_eq(unwrap().error, 0);
        ck_assert_str_eq(script_rule(&script, DECRYPT)->token, "approle-token-1");
}
END_TEST

START_TEST(token_of_a_file_that_cannot_be_extended_serves_on)
{
        answers(LOOKUP, 200, "{\"data\":{\"ttl\":1000,\"expire_time\":\"2030-01-01T00:00:00Z\",\"renewable\":true}}");
        answers(RENEW, 200, AUTH("root-token", "20", "true"));
        ck_assert_int_eq(unwrap().error, 0);
        until_asked(LOOKUP, 2); /* the file is looked at again, and still has the same */
        ck_assert_int_eq(unwrap().error, 0);
        ck_assert_int_eq(unwrap().error, 0);
        ck_assert_uint_eq(asked(RENEW), 1);
        ck_assert_str_eq(script_rule(&script, DECRYPT)->token, "root-token");
}
END_TEST

/* ---- wrapped secret ids ---- */

#define CREATED_AT(path) "{\"data\":{\"creation_path\":\"" path "\",\"creation_time\":\"2026-01-01T00:00:00Z\",\"creation_ttl\":300}}"

static void use_wrapped(void)
{
        use_approle();
        config.secret_id_wrapped = true;
        secret_write("wrapping-token-1\n", 0600);
        script_answer(&script, WRAPPING_LOOKUP, 200, CREATED_AT("auth/approle/role/lkm/secret-id"));
        script_answer(&script, WRAPPING_UNWRAP, 200, "{\"data\":{\"secret_id\":\"unwrapped-1\",\"secret_id_accessor\":\"x\"}}");
        script_answer(&script, WRAPPING_UNWRAP, 400, "{\"errors\":[\"wrapping token is not valid or does not exist\"]}");
}

START_TEST(wrapped_secret_id_is_looked_up_then_unwrapped_once)
{
        struct kek *before;

        use_wrapped();
        ck_assert_int_eq(unwrap().error, 0);
        ck_assert_str_eq(member(WRAPPING_LOOKUP, "token"), "wrapping-token-1");
        ck_assert_str_eq(script_rule(&script, WRAPPING_UNWRAP)->token, "wrapping-token-1");
        ck_assert_str_eq(script_rule(&script, WRAPPING_UNWRAP)->body, "");
        ck_assert_str_eq(member(LOGIN, "secret_id"), "unwrapped-1");

        /* A reload makes a KEK before the old one goes; it has the same file, and needs no other wrapping token. */
        before = kek;
        kek_make();
        provider_vault.kek_free(before);
        ck_assert_int_eq(unwrap().error, 0);
        ck_assert_uint_eq(asked(LOGIN), 2);
        ck_assert_uint_eq(asked(WRAPPING_UNWRAP), 1);
}
END_TEST

START_TEST(secret_id_wrapped_elsewhere_is_an_alarm_and_not_used)
{
        static const char *const elsewhere[] = { CREATED_AT("auth/approle/role/other/secret-id"), CREATED_AT("sys/wrapping/wrap"),
                                                 CREATED_AT("auth/approle/role/lkm/secret-id/x"), "{\"data\":{}}", "{}" };

        for (size_t i = 0; i < ELEMENTSOF(elsewhere); i++) {
                struct outcome o;

                script_forget(&script, WRAPPING_UNWRAP);
                script_forget(&script, WRAPPING_LOOKUP);
                script_forget(&script, LOGIN);
                use_wrapped();
                answers(WRAPPING_LOOKUP, 200, elsewhere[i]);
                o = unwrap();
                ck_assert_int_eq(o.error, PROTO_ERROR_KMS_CREDENTIALS);
                ck_assert_ptr_nonnull(strstr(o.sentence, "auth/approle/role/lkm/secret-id"));
                ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CREDENTIALS);
                ck_assert_uint_eq(asked(WRAPPING_LOOKUP), 1); /* never again, until the file changes */
                ck_assert_uint_eq(asked(WRAPPING_UNWRAP), 0);
                ck_assert_uint_eq(asked(LOGIN), 0);
                kek = provider_vault.kek_free(kek);
        }
}
END_TEST

START_TEST(used_wrapping_token_is_an_alarm)
{
        use_wrapped();
        answers(WRAPPING_LOOKUP, 400, "{\"errors\":[\"wrapping token is not valid or does not exist\"]}");
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_int_eq(unwrap().error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_uint_eq(asked(WRAPPING_LOOKUP), 1);
        ck_assert_uint_eq(asked(LOGIN), 0);
        answers(WRAPPING_LOOKUP, 200, CREATED_AT("auth/approle/role/lkm/secret-id"));
        secret_write("wrapping-token-2-longer\n", 0600);
        ck_assert_int_eq(unwrap().error, 0);
}
END_TEST

START_TEST(creation_path_may_have_the_namespace_before_it)
{
        static char namespace[] = "ns1";

        config.namespace = namespace;
        use_wrapped();
        answers(WRAPPING_LOOKUP, 200, CREATED_AT("ns1/auth/approle/role/lkm/secret-id"));
        ck_assert_int_eq(unwrap().error, 0);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { one_login_serves_all_who_wait },
                { each_method_sends_what_it_has },
                { files_that_others_may_read_are_refused },
                { refused_login_is_not_repeated_until_the_file_changes },
                { login_without_a_token_is_no_login },
                { outage_of_the_login_is_an_outage },
                { expired_token_is_replaced_and_the_call_goes_on },
                { many_refused_calls_look_once_and_log_in_once },
                { denial_under_a_good_token_is_a_denial },
                { denial_after_another_login_is_final },
                { doubt_in_an_outage_is_an_outage },
                { token_of_a_file_that_has_ended_is_told },
                { renewable_token_is_renewed_at_once },
                { renewal_that_no_longer_extends_is_followed_by_a_login },
                { refused_renewal_is_followed_by_a_login },
                { login_ahead_that_fails_leaves_the_old_token },
                { token_of_a_file_that_cannot_be_extended_serves_on },
                { wrapped_secret_id_is_looked_up_then_unwrapped_once },
                { secret_id_wrapped_elsewhere_is_an_alarm_and_not_used },
                { used_wrapping_token_is_an_alarm },
                { creation_path_may_have_the_namespace_before_it },
        };

        return suite_run("vault-token", setup, teardown, promises, ELEMENTSOF(promises));
}
