/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vault-fixture.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>

struct event_base *base;
struct script script;
struct config_kek config;
struct kek *kek;
struct pairs context;
char secret_file[128];

static struct http *http;
static struct kms_environment environment;
static char directory[64], address[64];

void secret_write(const char *text, mode_t mode)
{
        int fd = open(secret_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        ck_assert_int_eq(fchmod(fd, mode), 0);
        close(fd);
}

void setup(void)
{
        ck_assert_int_eq(secret_arena_init(1024, 64, 40, NULL), 0);
        json_set_alloc_funcs(secret_malloc, secret_free);
        ck_assert_int_eq(http_global_init(), 0);
        base = event_base_new();
        ck_assert_int_eq(http_new(&http, base), 0);
        environment = (struct kms_environment){ .base = base, .http = http };
        script_init(&script, base);
        snprintf(address, sizeof(address), "http://127.0.0.1:%u", script.port);
        snprintf(directory, sizeof(directory), "/tmp/lkm-vault-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(secret_file, sizeof(secret_file), "%s/secret", directory);
        secret_write("root-token\n", 0600);
        config = (struct config_kek){ .kms_type = KMS_TYPE_VAULT, .auth = VAULT_AUTH_TOKEN, .address = address,
                                      .token_file = secret_file };
        config.name = strdup("test");
        config.kek_id = strdup("lkmd");
        config.mount = strdup("transit");
        context = (struct pairs){ .n = 1, .pair = { { BYTES_LITERAL("purpose"), BYTES_LITERAL("test") } } };
        script_answer(&script, LOOKUP, 200, FOREVER);
        script_answer(&script, KEY, 200, "{\"data\":{" GOOD "}}");
        script_answer(&script, DATAKEY, 200, "{\"data\":{\"plaintext\":\"" PLAINTEXT "\",\"ciphertext\":\"" WRAP "\"}}");
        script_answer(&script, ENCRYPT, 200, "{\"data\":{\"ciphertext\":\"" WRAP "\"}}");
        script_answer(&script, REWRAP, 200, "{\"data\":{\"ciphertext\":\"" WRAP "\"}}");
        script_answer(&script, DECRYPT, 200, "{\"data\":{\"plaintext\":\"" PLAINTEXT "\"}}");
        script_answer(&script, RENEW, 200, AUTH("renewed", "1000", "true"));
}

void teardown(void)
{
        size_t small, large;

        if (kek)
                kek = provider_vault.kek_free(kek);
        free(config.name);
        free(config.kek_id);
        free(config.mount);
        script_deinit(&script);
        http_free(http);
        event_base_free(base);
        unlink(secret_file);
        ck_assert_int_eq(rmdir(directory), 0);
        secret_arena_usage(&small, NULL, &large, NULL);
        ck_assert_uint_eq(small + large, 0);
        secret_arena_deinit();
}

void use_approle(void)
{
        static char role[] = "lkm", role_id[] = "role-id-1";

        config.auth = VAULT_AUTH_APPROLE;
        config.token_file = NULL;
        config.role = role;
        config.role_id = role_id;
        config.secret_id_file = secret_file;
        secret_write("secret-id-1\n", 0600);
        script_answer(&script, LOGIN, 200, AUTH("approle-token-1", "0", "false"));
}

void kek_make(void)
{
        struct sentence why;

        ck_assert_msg(provider_vault.kek_new(&kek, &config, &environment, &why) == 0, "%s", why.text);
}

static void on_done(struct provider_call *call, const struct provider_result *result)
{
        struct outcome *o = (struct outcome *)(void *)call;
        uint8_t *view;

        o->n++;
        o->error = result->error;
        o->retry_after_msec = result->retry_after_msec;
        snprintf(o->sentence, sizeof(o->sentence), "%s", result->sentence ? result->sentence : "");
        snprintf(o->kek_id, sizeof(o->kek_id), "%.*s", (int)result->kek_id.n, (const char *)result->kek_id.data);
        snprintf(o->wrapped, sizeof(o->wrapped), "%.*s", (int)result->wrapped.n, (const char *)result->wrapped.data);
        if (!result->key)
                return;
        ck_assert_uint_eq(secret_size(result->key), KEY_SIZE);
        view = secret_view_begin(result->key);
        o->is_key = true;
        for (size_t i = 0; i < KEY_SIZE; i++)
                o->is_key = o->is_key && view[i] == 'k';
        secret_view_end(result->key, &view);
}

struct outcome outcome_new(void)
{
        return (struct outcome){ .call = { .done = on_done, .deadline_usec = clock_boottime_usec() + 60 * USEC_PER_SEC } };
}

void finish(const struct outcome *o)
{
        while (o->n == 0)
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        ck_assert_uint_eq(o->n, 1);
        ck_assert_int_eq(o->error != 0 && o->error != PROTO_ERROR_KMS_NOT_MINE, *o->sentence != '\0');
}

size_t asked(const char *path)
{
        return script_rule(&script, path)->n_asked;
}

void until_asked(const char *path, size_t n)
{
        while (asked(path) < n)
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        ck_assert_uint_eq(asked(path), n);
}

void begin_unwrap(struct outcome *o)
{
        struct provider_description description;

        provider_vault.describe(kek, &description);
        provider_vault.unwrap(kek, &o->call, bytes_from_string(description.kek_id), BYTES_LITERAL(WRAP), &context);
}

struct outcome unwrap(void)
{
        struct outcome o = outcome_new();

        if (!kek)
                kek_make();
        begin_unwrap(&o);
        finish(&o);
        return o;
}

struct outcome generate(void)
{
        struct outcome o = outcome_new();

        if (!kek)
                kek_make();
        provider_vault.generate(kek, &o.call, &context);
        finish(&o);
        return o;
}
