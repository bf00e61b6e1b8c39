/* SPDX-License-Identifier: Apache-2.0 */
/*
 * provider-vault: DEKs wrapped by a key of HashiCorp Vault's or OpenBao's Transit engine.
 *
 * A wrap is Vault's own text, "vault:vN:BASE64". The encryption context binds by the derivation of the key: `context` is SHA-256 of the sorted
 * pairs in their packed form (a PAIRS value of PROTOCOL.md), and Vault encrypts under HKDF of the key and that. So it is with every version of
 * both products, for datakey, encrypt, decrypt and rewrap alike; `associated_data`, which would look more natural, is dropped by Vault's datakey
 * and not understood by rewrap of either. The digest and not the pairs themselves, because it is short and of one length: 64 unwraps with the
 * largest context then fit one request, and there is a context even where there are no pairs, which Vault insists on.
 *
 * A KEK's identity is "vault:[NAMESPACE/]MOUNT/KEY", without the address: clusters move.
 */
#include <errno.h>
#include <openssl/sha.h>

#include "common/clock.h"
#include "daemon/kms/json-write.h"
#include "daemon/kms/secret-file.h"
#include "daemon/kms/vault-batch.h"
#include "daemon/kms/vault-login.h"

enum {
        PERMISSION_MAX = 600,
        BODY_ROOM = 512, /* of JSON, beside a wrap */
        PAIRS_SIZE_MAX = 2 + PAIRS_MAX * (4 + PAIR_KEY_MAX + PAIR_VALUE_MAX),
};

static const char *const paths[PROVIDER_OPERATION_COUNT] = { [PROVIDER_GENERATE] = "datakey/plaintext",
                                                             [PROVIDER_UNWRAP] = "decrypt",
                                                             [PROVIDER_WRAP] = "encrypt",
                                                             [PROVIDER_REWRAP] = "rewrap" };

/** A KEK in Vault. */
struct vault_kek {
        struct vault_server server;
        struct exchange_queue queue;
        struct vault_token *auth; /* this and what follows: NULL when there is no event loop */
        struct vault_key *key;
        struct vault_batch *batch;
        char id[KEK_ID_MAX + 1];
        char permissions[PROVIDER_OPERATION_COUNT][PERMISSION_MAX];
};

/* A generate, wrap or rewrap under way. */
struct operation {
        struct vault_call call;
        struct vault_kek *kek;
        struct provider_call *asker;
        enum provider_operation kind;
        struct secret *key; /* to be wrapped; or the one that was made */
        uint8_t context[VAULT_CONTEXT_SIZE];
        size_t n_wrapped;
        uint8_t wrapped[WRAPPED_MAX]; /* to be rewrapped; then the new one */
};

static struct vault_kek *vault(struct kek *kek)
{
        return (struct vault_kek *)(void *)kek;
}

/* ---- operations ---- */

/* Return: 0, or -EINVAL for a context over the limits or with a key twice. */
static int context_digest(uint8_t ret_digest[VAULT_CONTEXT_SIZE], const struct pairs *context)
{
        struct pairs sorted = *context;
        uint8_t packed[PAIRS_SIZE_MAX];
        size_t n;

        if (sorted.n > PAIRS_MAX || pairs_sort(&sorted) < 0 || pairs_pack(&sorted, packed, sizeof(packed), &n) < 0)
                return -EINVAL;
        SHA256(packed, n, ret_digest);
        return 0;
}

static bool wrap_read(struct operation *o, const struct vault_answer *answer)
{
        const json_t *text = json_object_get(answer->data, "ciphertext");
        struct bytes wrapped = { (const uint8_t *)json_string_value(text), json_string_length(text) };
        uint32_t version = wrapped.data ? vault_ciphertext_version(wrapped) : 0;

        if (version == 0 || wrapped.n > sizeof(o->wrapped))
                return false;
        memcpy(o->wrapped, wrapped.data, wrapped.n);
        o->n_wrapped = wrapped.n;
        vault_key_note_version(o->kek->key, version);
        return true;
}

static void operation_read(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict)
{
        struct operation *o = call->userdata;
        struct secret *text;
        int r = 0;

        if (!wrap_read(o, answer)) {
                vault_call_refuse(call, verdict, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT,
                                  "its answer has no wrap of the form vault:vN:BASE64. Check address, and what lies between");
                return;
        }
        if (o->kind != PROVIDER_GENERATE)
                return;
        text = vault_answer_secret(answer, VAULT_SECRET_PLAINTEXT, 0);
        o->key = secret_unref(o->key);
        r = text ? secret_from_base64(&o->key, text, KEY_SIZE) : -EINVAL;
        if (r == -EINVAL)
                vault_call_refuse(call, verdict, PROTO_ERROR_KMS_CORRUPT, EXCHANGE_END,
                                  "the key that it made has not 32 bytes. Check address, and what lies between");
        else if (r < 0)
                vault_call_refuse(call, verdict, PROTO_ERROR_INTERNAL, EXCHANGE_END,
                                  "no locked memory is left for the key. Ask again when other requests have ended");
}

static struct operation *operation_free(struct operation *o)
{
        vault_call_deinit(&o->call);
        secret_unref(o->key);
        free(o);
        return NULL;
}

static void operation_done(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct operation *o = call->userdata;
        struct provider_result result = { .error = error,
                                          .sentence = sentence,
                                          .retry_after_msec = retry_after_msec,
                                          .key = o->kind == PROVIDER_GENERATE ? o->key : NULL,
                                          .kek_id = bytes_from_string(o->kek->id),
                                          .wrapped = { o->wrapped, o->n_wrapped },
                                          .request_id = provider_request_id_get(&call->request_id) };

        if (error)
                result = (struct provider_result){ .error = error, .sentence = sentence, .retry_after_msec = retry_after_msec };
        o->asker->done(o->asker, &result);
        operation_free(o);
}

static int operation_body(struct operation *o)
{
        struct json_writer w;
        int r = json_writer_init(&w, BODY_ROOM + o->n_wrapped);

        if (r < 0)
                return r;
        json_write_open(&w, NULL, '{');
        if (o->kind == PROVIDER_WRAP)
                json_write_base64_secret(&w, "plaintext", o->key);
        if (o->kind == PROVIDER_REWRAP)
                json_write_text(&w, "ciphertext", (struct bytes){ o->wrapped, o->n_wrapped });
        json_write_base64(&w, "context", (struct bytes){ o->context, sizeof(o->context) });
        if (o->kind == PROVIDER_GENERATE)
                json_write_number(&w, "bits", 8 * KEY_SIZE);
        json_write_close(&w, '}');
        r = json_writer_end(&w, &o->call.body);
        json_writer_deinit(&w);
        return r;
}

/* The body lies in locked memory, of which there is enough for those under way and not for all who wait: it is made for the first attempt. */
static int operation_authorize(struct vault_call *call)
{
        struct operation *o = call->userdata;
        int r = vault_operation_authorize(call, o->kek->key, o->kek->auth);

        return r == 0 && !call->body ? operation_body(o) : r;
}

static int operation_start(struct operation *o)
{
        struct vault_kek *k = o->kek;
        char *path;
        int r;

        if (asprintf(&path, "%s/%s/%s", k->server.names.mount, paths[o->kind], k->server.names.key) < 0)
                path = NULL;
        r = vault_call_init(&o->call, &k->server, VAULT_KIND_TRANSIT, "POST", path);
        if (r < 0)
                return r;
        vault_token_attach(k->auth, &o->call);
        o->call.authorize = operation_authorize;
        o->call.read = operation_read;
        o->call.done = operation_done;
        o->call.userdata = o;
        o->call.permission = k->permissions[o->kind];
        return vault_call_start(&o->call, &k->queue, o->asker->deadline_usec);
}

/* Whether @call may go on: the key will do, and the context fits. Else it has ended. */
static bool may_go_on(struct vault_kek *k, struct provider_call *call, const struct pairs *context, uint8_t ret_digest[VAULT_CONTEXT_SIZE])
{
        const char *why;
        enum proto_error error = vault_key_error(k->key, &why);

        if (!error && context_digest(ret_digest, context) == 0)
                return true;
        if (error)
                provider_fail(call, error, why);
        else
                provider_fail(call, PROTO_ERROR_PROTOCOL, "the encryption context is over the limits, or has a key twice");
        return false;
}

static void operation_begin(struct vault_kek *k, struct provider_call *call, enum provider_operation kind, struct secret *key,
                            struct bytes wrapped, const struct pairs *context)
{
        uint8_t digest[VAULT_CONTEXT_SIZE];
        struct operation *o;

        if (!may_go_on(k, call, context, digest))
                return;
        o = calloc(1, sizeof(*o));
        if (o) {
                o->kek = k;
                o->asker = call;
                o->kind = kind;
                o->key = key ? secret_ref(key) : NULL;
                memcpy(o->context, digest, sizeof(digest));
                o->n_wrapped = wrapped.n;
                if (wrapped.n > 0)
                        memcpy(o->wrapped, wrapped.data, wrapped.n);
                if (operation_start(o) == 0)
                        return;
                operation_free(o);
        }
        provider_fail(call, PROTO_ERROR_INTERNAL, "no memory is left. Ask again when other requests have ended");
}

static void vault_generate(struct kek *kek, struct provider_call *call, const struct pairs *context)
{
        operation_begin(vault(kek), call, PROVIDER_GENERATE, NULL, (struct bytes){ 0 }, context);
}

static void vault_wrap(struct kek *kek, struct provider_call *call, struct secret *key, const struct pairs *context)
{
        operation_begin(vault(kek), call, PROVIDER_WRAP, key, (struct bytes){ 0 }, context);
}

/* Whether a wrap is this KEK's and has Vault's form; else @call has ended. */
static bool is_mine(const struct vault_kek *k, struct provider_call *call, struct bytes kek_id, struct bytes wrapped)
{
        if (!bytes_equal(kek_id, bytes_from_string(k->id))) {
                provider_fail(call, PROTO_ERROR_KMS_NOT_MINE, NULL);
                return false;
        }
        if (vault_ciphertext_version(wrapped) > 0)
                return true;
        provider_fail(call, PROTO_ERROR_KMS_CORRUPT, "the wrap is not of the form vault:vN:BASE64, so it is damaged. Restore the .key file from a backup");
        return false;
}

static void vault_rewrap(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped, const struct pairs *context)
{
        if (is_mine(vault(kek), call, kek_id, wrapped))
                operation_begin(vault(kek), call, PROVIDER_REWRAP, NULL, wrapped, context);
}

static void vault_unwrap(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped, const struct pairs *context)
{
        struct vault_kek *k = vault(kek);
        uint8_t digest[VAULT_CONTEXT_SIZE];

        if (!is_mine(k, call, kek_id, wrapped) || !may_go_on(k, call, context, digest))
                return;
        if (vault_batch_unwrap(k->batch, call, wrapped, digest) < 0)
                provider_fail(call, PROTO_ERROR_INTERNAL, "no memory is left. Ask again when other requests have ended");
}

/* ---- what is known of it ---- */

static void vault_describe(const struct kek *kek, struct provider_description *ret_description)
{
        const struct vault_kek *k = (const struct vault_kek *)(const void *)kek;

        *ret_description = (struct provider_description){ .kek_id = k->id };
        if (!k->key)
                return;
        ret_description->version = vault_key_version(k->key);
        ret_description->why = vault_key_why(k->key);
        ret_description->note = vault_key_note(k->key);
}

static const char *vault_permission(const struct kek *kek, enum provider_operation operation)
{
        const struct vault_kek *k = (const struct vault_kek *)(const void *)kek;

        return k->permissions[operation];
}

static char *vault_policy(const struct kek *kek)
{
        const struct vault_kek *k = (const struct vault_kek *)(const void *)kek;
        const char *mount = k->server.names.mount, *key = k->server.names.key, *namespace = k->server.namespace;
        char *policy = NULL;
        size_t n = 0;
        FILE *f = open_memstream(&policy, &n);

        if (!f)
                return NULL;
        if (namespace)
                fprintf(f, "# To be written in the namespace %s.\n", namespace);
        /* No "create": encrypt would make a key that is missing. */
        for (size_t i = 0; i < PROVIDER_OPERATION_COUNT; i++)
                fprintf(f, "path \"%s/%s/%s\" {\n  capabilities = [\"update\"]\n}\n", mount, paths[i], key);
        fprintf(f, "path \"%s/keys/%s\" {\n  capabilities = [\"read\"]\n}\n", mount, key);
        fputs("# What follows is in the policy \"default\" too.\n"
              "path \"auth/token/lookup-self\" {\n  capabilities = [\"read\"]\n}\n"
              "path \"auth/token/renew-self\" {\n  capabilities = [\"update\"]\n}\n",
              f);
        if (fclose(f) != 0) {
                free(policy);
                return NULL;
        }
        return policy;
}

/* ---- begin and end ---- */

static struct kek *vault_free(struct kek *kek)
{
        struct vault_kek *k = vault(kek);

        vault_batch_free(k->batch);
        vault_key_free(k->key);
        vault_token_free(k->auth);
        if (k->queue.base)
                exchange_queue_deinit(&k->queue);
        vault_server_deinit(&k->server);
        free(k);
        return NULL;
}

/* Return: 0, or -ENAMETOOLONG. */
static int names_set(struct vault_kek *k)
{
        const char *mount = k->server.names.mount, *key = k->server.names.key, *namespace = k->server.namespace;
        int n = snprintf(k->id, sizeof(k->id), "vault:%s%s%s/%s", namespace ? namespace : "", namespace ? "/" : "", mount, key);

        for (size_t i = 0; i < PROVIDER_OPERATION_COUNT; i++)
                snprintf(k->permissions[i], sizeof(k->permissions[i]), "update on %s/%s/%s", mount, paths[i], key);
        return n < 0 || (size_t)n > KEK_ID_MAX ? -ENAMETOOLONG : 0;
}

static int parts_new(struct vault_kek *k)
{
        int r;

        exchange_queue_init(&k->queue, k->server.environment);
        r = vault_token_new(&k->auth, &k->server);
        if (r == 0)
                r = vault_key_new(&k->key, &k->server, k->auth);
        if (r == 0)
                r = vault_batch_new(&k->batch, &k->server, &k->queue, k->auth, k->key, k->permissions[PROVIDER_UNWRAP]);
        return r;
}

static int vault_new(struct kek **ret_kek, const struct config_kek *config, const struct kms_environment *environment, struct sentence *ret_why)
{
        struct vault_kek *k = calloc(1, sizeof(*k));
        int r = k ? vault_server_init(&k->server, config, environment) : -ENOMEM;

        sentence_set(ret_why, "out of memory");
        if (r == -EINVAL)
                sentence_set(ret_why, "[kek %s]: address is no URL. Give it as https://HOST:PORT", config->name);
        if (r == 0 && (r = names_set(k)) < 0)
                sentence_set(ret_why, "[kek %s]: namespace, mount and kek_id have more than %u characters together. Use shorter names", config->name,
                             KEK_ID_MAX);
        if (r == 0 && environment->base)
                r = parts_new(k);
        else if (r == 0)
                r = vault_login_check(config, ret_why);
        if (r == 0)
                *ret_kek = (struct kek *)(void *)k;
        else if (k)
                vault_free((struct kek *)(void *)k);
        return r;
}

const struct provider provider_vault = {
        .type = KMS_TYPE_VAULT,
        .kek_new = vault_new,
        .kek_free = vault_free,
        .describe = vault_describe,
        .generate = vault_generate,
        .unwrap = vault_unwrap,
        .wrap = vault_wrap,
        .rewrap = vault_rewrap,
        .permission = vault_permission,
        .policy = vault_policy,
};
