/* SPDX-License-Identifier: Apache-2.0 */
/* Unwraps that go together, and redirections. */
#include <jansson.h>

#include "daemon/kms/vault-server.h"
#include "tests/unit/vault-fixture.h"

enum { MANY = 300 };

static struct outcome outcomes[MANY];

static void unwrap_many(size_t n)
{
        if (!kek)
                kek_make();
        for (size_t i = 0; i < n; i++) {
                outcomes[i] = outcome_new();
                begin_unwrap(&outcomes[i]);
        }
        for (size_t i = 0; i < n; i++)
                finish(&outcomes[i]);
}

/* A whole and right answer to whatever was asked. */
static char *answer_all(const char *body)
{
        json_t *asked_for = json_loads(body, 0, NULL), *batch = json_object_get(asked_for, "batch_input"), *item, *results = json_array(), *answer;
        char *json, *text;
        size_t i;

        ck_assert(asked_for && results);
        json_array_foreach(batch, i, item)
                json_array_append_new(results, json_pack("{s:s, s:s, s:s}", "plaintext", PLAINTEXT, "error", "", "reference",
                                                         json_string_value(json_object_get(item, "reference"))));
        answer = batch ? json_pack("{s:{s:O}}", "data", "batch_results", results) : json_pack("{s:{s:s}}", "data", "plaintext", PLAINTEXT);
        json = json_dumps(answer, 0);
        text = strdup(json);
        secret_free(json);
        json_decref(results);
        json_decref(answer);
        json_decref(asked_for);
        return text;
}

static void answer_made(const char *path, char *(*make)(const char *asked))
{
        script_answer_with(&script, path, (struct script_answer){ .status = 200, .make = make });
}

START_TEST(unwraps_of_one_turn_go_together)
{
        json_t *body;

        script_forget(&script, DECRYPT);
        answer_made(DECRYPT, answer_all);
        unwrap_many(3);
        for (size_t i = 0; i < 3; i++) {
                ck_assert_int_eq(outcomes[i].error, 0);
                ck_assert(outcomes[i].is_key);
        }
        ck_assert_uint_eq(asked(DECRYPT), 1);
        body = json_loads(script_rule(&script, DECRYPT)->body, JSON_REJECT_DUPLICATES, NULL);
        ck_assert_uint_eq(json_array_size(json_object_get(body, "batch_input")), 3);
        ck_assert_uint_eq(json_object_size(body), 1);
        json_decref(body);
}
END_TEST

START_TEST(many_are_some_full_requests)
{
        script_forget(&script, DECRYPT);
        answer_made(DECRYPT, answer_all);
        unwrap_many(MANY);
        for (size_t i = 0; i < MANY; i++)
                ck_assert_msg(outcomes[i].error == 0 && outcomes[i].is_key, "%zu: %s", i, outcomes[i].sentence);
        ck_assert_uint_eq(asked(DECRYPT), 5); /* four of 64, one of 44 */
}
END_TEST

START_TEST(one_bad_wrap_fails_alone)
{
        static const char *const statuses[] = { "400", "200" };

        for (size_t i = 0; i < ELEMENTSOF(statuses); i++) {
                script_forget(&script, DECRYPT);
                script_answer(&script, DECRYPT, (int)strtol(statuses[i], NULL, 10),
                              "{\"data\":{\"batch_results\":[{\"plaintext\":\"" PLAINTEXT "\",\"reference\":\"0\"},"
                              "{\"plaintext\":\"\",\"error\":\"cipher: message authentication failed\",\"reference\":\"1\"},"
                              "{\"plaintext\":\"" PLAINTEXT_31 "\",\"error\":\"\",\"reference\":\"2\"},"
                              "{\"error\":\"ciphertext or signature version is disallowed by policy (too old)\",\"reference\":\"3\"},"
                              "{\"plaintext\":\"" PLAINTEXT "\"}]}}");
                unwrap_many(5);
                ck_assert(outcomes[0].error == 0 && outcomes[0].is_key);
                ck_assert_int_eq(outcomes[1].error, PROTO_ERROR_KMS_CORRUPT);
                ck_assert_int_eq(outcomes[2].error, PROTO_ERROR_KMS_CORRUPT);
                ck_assert_int_eq(outcomes[3].error, PROTO_ERROR_KMS_STATE);
                ck_assert(outcomes[4].error == 0 && outcomes[4].is_key);
                ck_assert_uint_eq(asked(DECRYPT), 1);
        }
}
END_TEST

START_TEST(answer_with_a_missing_item_gives_no_key)
{
        static const char *const answers[] = {
                "{\"data\":{\"batch_results\":[{\"plaintext\":\"" PLAINTEXT "\",\"reference\":\"0\"}]}}",
                "{\"data\":{\"batch_results\":[]}}",
                "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"}}",
                /* in another order */
                "{\"data\":{\"batch_results\":[{\"plaintext\":\"" PLAINTEXT "\",\"reference\":\"1\"},{\"plaintext\":\"" PLAINTEXT
                "\",\"reference\":\"0\"}]}}",
                "{\"data\":{\"batch_results\":[{\"plaintext\":\"" PLAINTEXT "\"},{\"plaintext\":\"" PLAINTEXT "\"},{\"plaintext\":\"" PLAINTEXT
                "\"}]}}",
        };

        for (size_t i = 0; i < ELEMENTSOF(answers); i++) {
                kek_make(); /* each with a breaker of its own */
                script_forget(&script, DECRYPT);
                script_answer(&script, DECRYPT, 200, answers[i]);
                unwrap_many(2);
                for (size_t j = 0; j < 2; j++) {
                        ck_assert_int_eq(outcomes[j].error, PROTO_ERROR_KMS_UNREACHABLE);
                        ck_assert(!outcomes[j].is_key);
                }
                kek = provider_vault.kek_free(kek);
        }
}
END_TEST

START_TEST(places_without_a_reference_are_taken_in_order)
{
        script_forget(&script, DECRYPT);
        script_answer(&script, DECRYPT, 400,
                      "{\"data\":{\"batch_results\":[{\"error\":\"cipher: message authentication failed\"},{\"plaintext\":\"" PLAINTEXT
                      "\"}]}}");
        unwrap_many(2);
        ck_assert_int_eq(outcomes[0].error, PROTO_ERROR_KMS_CORRUPT);
        ck_assert(outcomes[1].error == 0 && outcomes[1].is_key);
}
END_TEST

START_TEST(batch_refused_as_a_whole_is_asked_one_by_one)
{
        script_forget(&script, DECRYPT);
        script_answer(&script, DECRYPT, 400, "{\"errors\":[\"one of them is bad\"]}");
        script_answer(&script, DECRYPT, 200, "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"}}");
        script_answer(&script, DECRYPT, 400, "{\"errors\":[\"cipher: message authentication failed\"]}");
        script_answer(&script, DECRYPT, 200, "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"}}");
        unwrap_many(3);
        ck_assert_uint_eq(asked(DECRYPT), 4);
        ck_assert_int_eq((outcomes[0].error == 0) + (outcomes[1].error == 0) + (outcomes[2].error == 0), 2);
        ck_assert_int_eq((outcomes[0].error == PROTO_ERROR_KMS_CORRUPT) + (outcomes[1].error == PROTO_ERROR_KMS_CORRUPT) +
                                 (outcomes[2].error == PROTO_ERROR_KMS_CORRUPT),
                         1);
}
END_TEST

START_TEST(outage_of_a_batch_is_everybodys)
{
        script_forget(&script, DECRYPT);
        script_answer(&script, DECRYPT, 503, "{\"errors\":[\"Vault is sealed\"]}");
        unwrap_many(3);
        for (size_t i = 0; i < 3; i++) {
                ck_assert_int_eq(outcomes[i].error, PROTO_ERROR_KMS_UNREACHABLE);
                ck_assert_ptr_nonnull(strstr(outcomes[i].sentence, "Vault is sealed"));
        }
        ck_assert_uint_eq(asked(DECRYPT), 1);
}
END_TEST

START_TEST(stuck_request_does_not_stop_those_behind_it)
{
        struct outcome stuck = outcome_new(), o;

        kek_make();
        script_forget(&script, DECRYPT);
        script_answer(&script, DECRYPT, 0, NULL);
        answer_made(DECRYPT, answer_all);
        stuck.call.deadline_usec = clock_boottime_usec() + 3 * USEC_PER_SEC;
        begin_unwrap(&stuck);
        until_asked(DECRYPT, 1);
        o = unwrap();
        ck_assert_int_eq(o.error, 0);
        ck_assert_uint_eq(stuck.n, 0);
        finish(&stuck); /* asked again within its deadline */
        ck_assert_int_eq(stuck.error, 0);
}
END_TEST

/* ---- redirections ---- */

START_TEST(redirection_is_followed_to_named_hosts_only)
{
        static const struct {
                const char *address, *hosts, *location;
                bool follows;
        } cases[] = {
                { "https://a.example:8200", NULL, "https://a.example:8200/v1/transit/x", true },
                { "https://a.example:8200", "b.example", "https://b.example:8200/v1/transit/x", true },
                { "https://a.example:8200", "b.example", "https://b.example/v1/transit/x", true },
                { "https://a.example:8200", "c.example b.example:8200", "https://b.example:8200/v1/transit/x", true },
                { "https://a.example:8200", "b.example", "https://B.EXAMPLE:8200/v1/transit/x", true },
                { "https://a.example:8200", "[2001:db8::1]", "https://[2001:db8::1]:8200/v1/transit/x", true },
                { "https://a.example:8200", "[2001:db8::1]:8200", "https://[2001:db8::1]:8200/v1/transit/x", true },
                { "http://127.0.0.1:8200", "b.example", "https://b.example:8200/v1/transit/x", true },
                { "http://127.0.0.1:8200", "127.0.0.2", "http://127.0.0.2:8200/v1/transit/x", true },
                { "https://a.example:8200", NULL, "https://b.example:8200/v1/transit/x", false },
                { "https://a.example:8200", "b.example:8201", "https://b.example:8200/v1/transit/x", false },
                { "https://a.example:8200", "b.example", "https://b.example.evil/v1/transit/x", false },
                { "https://a.example:8200", "b.example", "https://eb.example/v1/transit/x", false },
                { "https://a.example:8200", "b.example", "https://b.example@evil.example/v1/transit/x", false },
                { "https://a.example:8200", "b.example", "https://evil.example/b.example/v1/transit/x", false },
                { "https://a.example:8200", "b.example", "http://b.example:8200/v1/transit/x", false },
                { "https://a.example:8200", NULL, "http://a.example:8200/v1/transit/x", false },
                { "https://a.example:8200", NULL, "https://a.example:8200/v1/transit/y", false },
                { "https://a.example:8200", NULL, "https://a.example:8200/v1/transit/x?y", false },
                { "https://a.example:8200", NULL, "https://a.example:8200/v1/transit/x/", false },
                { "https://a.example:8200", NULL, "https://a.example:8200", false },
                { "https://a.example:8200", NULL, "/v1/transit/x", false },
                { "https://a.example:8200", NULL, "ftp://a.example:8200/v1/transit/x", false },
                { "https://a.example:8200", NULL, "", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(freep) char *address = strdup(cases[i].address), *hosts = cases[i].hosts ? strdup(cases[i].hosts) : NULL;
                struct config_kek k = { .address = address, .redirect_hosts = hosts, .mount = config.mount, .kek_id = config.kek_id };
                struct vault_server server;

                ck_assert_int_eq(vault_server_init(&server, &k, NULL), 0);
                ck_assert_msg(vault_server_may_follow(&server, "transit/x", cases[i].location) == cases[i].follows, "%zu: %s", i,
                              cases[i].location);
                vault_server_deinit(&server);
        }
}
END_TEST

/* Let the standby, which is asked first, send us to the same path of @host. */
static void redirect_to(const char *host)
{
        static char location[200];

        snprintf(location, sizeof(location), "http://%s/v1/" DECRYPT, host);
        script_forget(&script, DECRYPT);
        script_answer_with(&script, DECRYPT, (struct script_answer){ .status = 307, .location = location });
}

START_TEST(token_and_body_go_with_a_redirection)
{
        struct script active;
        char host[64];
        struct outcome o;

        script_init(&active, base);
        snprintf(host, sizeof(host), "127.0.0.1:%u", active.port);
        config.redirect_hosts = host;
        script_answer(&active, DECRYPT, 200, "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"}}");
        redirect_to(host);
        o = unwrap();
        ck_assert_int_eq(o.error, 0);
        ck_assert(o.is_key);
        ck_assert_str_eq(script_rule(&active, DECRYPT)->token, "root-token");
        ck_assert_str_eq(script_rule(&active, DECRYPT)->body, script_rule(&script, DECRYPT)->body);
        ck_assert_uint_eq(asked(DECRYPT), 1);

        /* A standby that sends to a standby. */
        script_forget(&active, DECRYPT);
        script_answer_with(&active, DECRYPT, (struct script_answer){ .status = 307, .location = "http://127.0.0.1:1/v1/" DECRYPT });
        o = unwrap();
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_UNREACHABLE);
        ck_assert_ptr_nonnull(strstr(o.sentence, "standby"));

        /* Elsewhere: neither token nor body go there. */
        config.redirect_hosts = NULL;
        script_forget(&active, DECRYPT);
        script_answer(&active, DECRYPT, 200, "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"}}");
        redirect_to(host);
        o = unwrap();
        ck_assert_int_eq(o.error, PROTO_ERROR_KMS_MISCONFIGURED);
        ck_assert_ptr_nonnull(strstr(o.sentence, "redirect_hosts"));
        ck_assert_ptr_nonnull(strstr(o.sentence, host));
        ck_assert_uint_eq(script_rule(&active, DECRYPT)->n_asked, 0);
        script_deinit(&active);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { unwraps_of_one_turn_go_together },
                { many_are_some_full_requests },
                { one_bad_wrap_fails_alone },
                { answer_with_a_missing_item_gives_no_key },
                { places_without_a_reference_are_taken_in_order },
                { batch_refused_as_a_whole_is_asked_one_by_one },
                { outage_of_a_batch_is_everybodys },
                { stuck_request_does_not_stop_those_behind_it },
                { redirection_is_followed_to_named_hosts_only },
                { token_and_body_go_with_a_redirection },
        };

        return suite_run("vault-batch", setup, teardown, promises, ELEMENTSOF(promises));
}
