/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/vault-error.h"
#include "tests/unit/suite.h"

#define T VAULT_KIND_TRANSIT
#define K VAULT_KIND_KEY
#define L VAULT_KIND_LOGIN
#define W VAULT_KIND_WRAPPING
#define S VAULT_KIND_TOKEN
#define E(name) PROTO_ERROR_KMS_##name
#define A(name) EXCHANGE_##name
#define X(name) VAULT_SPECIAL_##name

static const struct vault_names names = { "vault.example.org:8200", "transit", "lkmd", "update on transit/decrypt/lkmd" };

/* One answer for each kind: each case's status and text is what a server sends. */
static const struct {
        enum vault_kind kind;
        int status;
        const char *text;
        enum proto_error error;
        enum exchange_action action;
        enum vault_special special;
        const char *says; /* a part of the sentence */
} cases[] = {
        { T, 307, "", E(MISCONFIGURED), A(AT_ONCE), X(FOLLOW), "standby" },
        { L, 307, "", E(MISCONFIGURED), A(AT_ONCE), X(FOLLOW), "redirect_hosts" },
        { T, 301, "", E(MISCONFIGURED), A(END), X(NONE), "address" },
        { T, 302, "", E(MISCONFIGURED), A(END), X(NONE), "address" },
        { T, 308, "", E(MISCONFIGURED), A(END), X(NONE), "address" },

        { T, 400, "cipher: message authentication failed", E(CORRUPT), A(END), X(NONE), "another record" },
        { T, 400, "invalid ciphertext: no prefix", E(CORRUPT), A(END), X(NONE), "damaged" },
        { T, 400, "invalid ciphertext: wrong number of fields", E(CORRUPT), A(END), X(NONE), "damaged" },
        { T, 400, "invalid ciphertext: version number could not be decoded", E(CORRUPT), A(END), X(NONE), "damaged" },
        { T, 400, "invalid ciphertext: could not decode base64", E(CORRUPT), A(END), X(NONE), "damaged" },
        { T, 400, "invalid ciphertext: version is too new", E(NOT_FOUND), A(END), X(NONE), "newer version" },
        { T, 400, "ciphertext or signature version is disallowed by policy (too old)", E(STATE), A(END), X(NONE),
          "min_decryption_version" },
        { T, 400, "encryption key not found", E(NOT_FOUND), A(END), X(NONE), "no key transit/keys/lkmd" },
        { T, 400, "missing 'context' for key derivation; the key was created using a derived key", E(MISCONFIGURED), A(END), X(NONE),
          "context did not arrive" },
        { T, 400, "failed to base64-decode context", E(MISCONFIGURED), A(END), X(NONE), "cannot read" },
        { T, 400, "illegal base64 data at input byte 3", E(MISCONFIGURED), A(END), X(NONE), "cannot read" },
        { T, 400, "invalid bit length", E(MISCONFIGURED), A(END), X(NONE), "256 bits" },
        { T, 400, "key is soft-deleted", E(STATE), A(END), X(NONE), "marked as deleted" },
        { T, 400, "something that nobody has seen yet", E(MISCONFIGURED), A(END), X(NONE), "refuses" },
        { T, 400, "", E(MISCONFIGURED), A(END), X(NONE), "refuses" },

        { T, 403, "1 error occurred:\n\t* permission denied\n\n", E(DENIED), A(AT_ONCE), X(TOKEN), "update on transit/decrypt/lkmd" },
        { T, 403, "permission denied", E(DENIED), A(AT_ONCE), X(TOKEN), "lkmctl kek policy" },
        { K, 403, "permission denied", E(DENIED), A(AT_ONCE), X(TOKEN), "may not" },
        { L, 403, "permission denied", E(CREDENTIALS), A(END), X(NONE), "login is refused" },
        { S, 403, "permission denied", E(CREDENTIALS), A(END), X(NONE), "expired" },
        { W, 403, "permission denied", E(CREDENTIALS), A(END), X(ALARM), "stolen" },

        { T, 404, "no handler for route \"nomount/decrypt/KEY\". route entry not found.", E(MISCONFIGURED), A(END), X(NONE),
          "nothing is mounted at transit" },
        { K, 404, "no handler for route \"nomount/keys/KEY\". route entry not found.", E(MISCONFIGURED), A(END), X(NONE),
          "vault secrets enable -path=transit transit" },
        { K, 404, "namespace not found", E(MISCONFIGURED), A(END), X(NONE), "vault namespace list" },
        { L, 404, "namespace not found", E(MISCONFIGURED), A(END), X(NONE), "vault namespace list" },
        { T, 400, "refusing to use soft-deleted key", E(STATE), A(END), X(NONE), "soft-delete-restore" },
        { T, 400, "invalid ciphertext length", E(CORRUPT), A(END), X(NONE), "damaged" },
        { K, 404, "", E(NOT_FOUND), A(END), X(NONE), "vault write -f transit/keys/lkmd type=aes256-gcm96 derived=true" },
        { T, 404, "", E(NOT_FOUND), A(END), X(NONE), "transit/keys/lkmd" },
        { L, 404, "no handler for route", E(MISCONFIGURED), A(END), X(NONE), "auth_mount" },
        { L, 405, "1 error occurred:\n\t* unsupported operation\n\n", E(MISCONFIGURED), A(END), X(NONE), "auth_mount" },
        { T, 405, "1 error occurred:\n\t* unsupported operation\n\n", E(MISCONFIGURED), A(END), X(NONE), "no transit engine" },

        { T, 412, "required index state not present", E(UNREACHABLE), A(REPEAT), X(NONE), "another one" },
        { T, 429, "request path \"transit/decrypt/KEY\": rate limit quota exceeded", E(THROTTLED), A(REPEAT), X(NONE), "rate limit" },
        { L, 429, "lease count quota exceeded", E(THROTTLED), A(REPEAT), X(NONE), "rate limit" },
        { T, 472, "", E(UNREACHABLE), A(REPEAT), X(NONE), "disaster recovery" },
        { T, 473, "", E(UNREACHABLE), A(REPEAT), X(NONE), "performance standby" },

        { T, 500, "internal error", E(UNREACHABLE), A(REPEAT), X(NONE), "failed inside" },
        { T, 500, "local node not active but active cluster node not found", E(UNREACHABLE), A(REPEAT), X(NONE), "no active node" },
        { T, 501, "", E(UNREACHABLE), A(END), X(NONE), "not initialized" },
        { T, 502, "", E(UNREACHABLE), A(REPEAT), X(NONE), "Vault asked" },
        { T, 503, "Vault is sealed", E(UNREACHABLE), A(END), X(NONE), "Vault is sealed" },
        { T, 503, "error performing token check: Vault is sealed", E(UNREACHABLE), A(END), X(NONE), "vault operator unseal" },
        { T, 503, "namespace is sealed", E(UNREACHABLE), A(END), X(NONE), "sealed" },
        { L, 503, "Vault is sealed", E(UNREACHABLE), A(END), X(NONE), "Vault is sealed" },
        { T, 503, "", E(UNREACHABLE), A(REPEAT), X(NONE), "maintenance" },
        { T, 503, "API access to this namespace has been locked by an administrator", E(UNREACHABLE), A(REPEAT), X(NONE), "no node serves" },
        { T, 504, "", E(UNREACHABLE), A(REPEAT), X(NONE), "failed inside" },
        { T, 599, "", E(UNREACHABLE), A(REPEAT), X(NONE), "failed inside" },

        { L, 400, "invalid role or secret ID", E(CREDENTIALS), A(END), X(NONE), "login is refused" },
        { L, 400, "error validating token: expired", E(CREDENTIALS), A(END), X(NONE), "login is refused" },
        { L, 400, "", E(CREDENTIALS), A(END), X(NONE), "login is refused" },
        { W, 400, "wrapping token is not valid or does not exist", E(CREDENTIALS), A(END), X(ALARM), "used before" },
        { S, 400, "lease is not renewable", E(CREDENTIALS), A(END), X(NONE), "expired" },
        { T, 401, "", E(CREDENTIALS), A(END), X(NONE), "before Vault" },
        { T, 407, "", E(MISCONFIGURED), A(END), X(NONE), "proxy" },
        { T, 408, "", E(UNREACHABLE), A(REPEAT), X(NONE), "slowly" },
        { T, 413, "", E(MISCONFIGURED), A(END), X(NONE), "refuses" },
        { T, 499, "", E(MISCONFIGURED), A(END), X(NONE), "refuses" },
        { T, 200, "", E(UNREACHABLE), A(REPEAT), X(NONE), "not Vault's" },
        { T, 101, "", E(UNREACHABLE), A(REPEAT), X(NONE), "not Vault's" },
        { T, 600, "", E(UNREACHABLE), A(REPEAT), X(NONE), "not Vault's" },
};

START_TEST(every_status_and_text_has_its_class_action_and_sentence)
{
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const struct vault_meaning *m = vault_error_find(cases[i].kind, cases[i].status, cases[i].text);
                char text[VAULT_TEXT_MAX + 1] = "";
                struct sentence sentence;

                vault_error_text(text, cases[i].text);
                vault_error_sentence(&sentence, m, &names, cases[i].status, text);
                ck_assert_msg(m->error == cases[i].error && m->action == cases[i].action && m->special == cases[i].special,
                              "case %zu (%d \"%s\"): %s, action %d, special %d", i, cases[i].status, cases[i].text,
                              proto_error_name(m->error), (int)m->action, (int)m->special);
                ck_assert_msg(strstr(sentence.text, cases[i].says), "case %zu: %s", i, sentence.text);
                ck_assert_ptr_nonnull(strstr(sentence.text, names.host));
                ck_assert_ptr_null(strchr(sentence.text, '{'));
        }
}
END_TEST

START_TEST(no_answer_at_all_evicts_by_accident)
{
        static const enum vault_kind kinds[] = { T, K, L, W, S };

        /* Whoever adds a line: nothing but 4xx and redirections may be final, since a server that fails says nothing of the key. */
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
                for (int status = 100; status < 700; status++) {
                        const struct vault_meaning *m = vault_error_find(kinds[i], status, "");
                        bool outage = m->error == E(UNREACHABLE) || m->error == E(THROTTLED);

                        if (status < 300 || status >= 500)
                                ck_assert_msg(outage, "%d", status);
                        ck_assert_int_ne(m->error, PROTO_ERROR_NONE);
                        ck_assert(m->action != EXCHANGE_AT_ONCE || m->special != VAULT_SPECIAL_NONE);
                }
        }
}
END_TEST

START_TEST(texts_are_found_in_any_case_and_place)
{
        ck_assert_int_eq(vault_error_find(T, 400, "1 error occurred: Cipher: Message Authentication FAILED;")->error, E(CORRUPT));
        ck_assert_int_eq(vault_error_find(T, 503, "error: VAULT IS SEALED")->action, EXCHANGE_END);
}
END_TEST

START_TEST(text_of_the_server_is_one_short_line)
{
        char text[VAULT_TEXT_MAX + 1] = "", longest[2000];

        vault_error_text(text, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n");
        ck_assert_str_eq(text, "2 errors occurred: permission denied invalid token");
        vault_error_text(text, "second");
        ck_assert_str_eq(text, "2 errors occurred: permission denied invalid token; second");
        for (size_t n = 0; n < sizeof(longest); n++) {
                memset(longest, n % 2 ? 'a' : '*', n);
                for (size_t i = 7; i < n; i += 8)
                        longest[i] = '/';
                longest[n] = '\0';
                *text = '\0';
                vault_error_text(text, longest);
                ck_assert_uint_le(strlen(text), VAULT_TEXT_MAX);
                vault_error_text(text, longest);
                ck_assert_uint_le(strlen(text), VAULT_TEXT_MAX);
        }
        *text = '\0';
        vault_error_text(text, "\x7f" "denied");
        ck_assert_str_eq(text, "?denied");
        for (size_t n = 0; n + 2 < sizeof(longest); n += 2)
                memcpy(longest + n, "\xc3\xbc", 3);
        *text = '\0';
        vault_error_text(text, longest + 1); /* no whole character at the limit */
        ck_assert(bytes_is_text(bytes_from_string(text)));
}
END_TEST

START_TEST(what_looks_like_a_token_is_not_repeated)
{
        static const char *const tokens[] = { "hvs.CAESIJlWhUwrongwrongwrongwrong", "s.iyNUhq8Ov4hIAx6snw5mB2nL",
                                              "eyJhbGciOiJSUzI1NiIsImtpZCI6IjIifQ.eyJpc3MiOiJrdWIifQ.c2ln",
                                              "6b1f0a52-6a9d-4c3a-9f0e-0a3c6d1c7e11" };

        for (size_t i = 0; i < ELEMENTSOF(tokens); i++) {
                char text[VAULT_TEXT_MAX + 1] = "", from[300];

                snprintf(from, sizeof(from), "bad token \"%s\": gone", tokens[i]);
                vault_error_text(text, from);
                ck_assert_str_eq(text, "bad token \"...\": gone");
        }
}
END_TEST

START_TEST(long_names_do_not_overflow_a_sentence)
{
        char name[1000];
        struct vault_names longest = { name, name, name, name };
        struct sentence sentence;

        memset(name, 'n', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        vault_error_sentence(&sentence, vault_error_find(K, 404, ""), &longest, 404, name);
        ck_assert_uint_lt(strlen(sentence.text), sizeof(sentence.text));
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { every_status_and_text_has_its_class_action_and_sentence },
                { no_answer_at_all_evicts_by_accident },
                { texts_are_found_in_any_case_and_place },
                { text_of_the_server_is_one_short_line },
                { what_looks_like_a_token_is_not_repeated },
                { long_names_do_not_overflow_a_sentence },
        };

        return suite_run("vault-error", NULL, NULL, promises, ELEMENTSOF(promises));
}
