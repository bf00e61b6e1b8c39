/* SPDX-License-Identifier: Apache-2.0 */
/*
 * provider-local: DEKs wrapped by AES-256-GCM under a KEK that lies in a file or a systemd credential.
 *
 * A wrap: 0x01, u32 KEK version, 12 bytes of random nonce, 32 bytes of ciphertext, 16 bytes of tag. The associated data
 * are "lkm local wrap v1", NUL, the KEK id, NUL, u32 KEK version, and the sorted encryption context as a PAIRS value.
 * Random nonces are sound up to 2^32 wraps of one KEK version (NIST SP 800-38D, 8.3); one wrap is made for each new
 * database or rotation.
 *
 * Each operation sets up its own cipher context and frees it before it ends, so that the key schedule does not outlive
 * the call; the zeroing allocator and secret_wipe_stack() clear what was left.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <sys/random.h>

#include "daemon/kms/local-kek.h"
#include "daemon/kms/provider.h"

enum {
        WRAP_FORMAT = 1,
        NONCE_SIZE = 12,
        TAG_SIZE = 16,
        WRAP_NONCE = 1 + 4,
        WRAP_CIPHERTEXT = WRAP_NONCE + NONCE_SIZE,
        WRAP_TAG = WRAP_CIPHERTEXT + (int)KEY_SIZE,
        WRAP_SIZE = WRAP_TAG + TAG_SIZE,
        AAD_MAX = 64 + sizeof(LOCAL_KEK_ID_PREFIX) + UUID_TEXT_LENGTH + PAIRS_MAX * (4 + PAIR_KEY_MAX + PAIR_VALUE_MAX),
};

static const char AAD_LABEL[] = "lkm local wrap v1";

struct aad {
        size_t n;
        uint8_t data[AAD_MAX];
};

static struct local_kek *local(struct kek *kek)
{
        return (struct local_kek *)(void *)kek;
}

static void aad_append(struct aad *aad, const void *data, size_t n)
{
        memcpy(aad->data + aad->n, data, n);
        aad->n += n;
}

/* Return: 0, or -EINVAL for a context over the limits or with a key twice. */
static int aad_build(struct aad *aad, const struct local_kek *kek, uint32_t version, const struct pairs *context)
{
        struct pairs sorted = *context;
        uint8_t number[4];
        size_t n;

        if (sorted.n > PAIRS_MAX || pairs_sort(&sorted) < 0)
                return -EINVAL;
        aad->n = 0;
        aad_append(aad, AAD_LABEL, sizeof(AAD_LABEL));
        aad_append(aad, kek->id, strlen(kek->id) + 1);
        bytes_put_u32(number, version);
        aad_append(aad, number, sizeof(number));
        if (pairs_pack(&sorted, aad->data + aad->n, sizeof(aad->data) - aad->n, &n) < 0)
                return -EINVAL;
        aad->n += n;
        return 0;
}

/* Set the direction, KEK version and nonce of @c and feed the associated data. */
static bool cipher_begin(EVP_CIPHER_CTX *c, const struct local_kek_version *version, const uint8_t *nonce,
                         const struct aad *aad, int encrypt)
{
        uint8_t *key = secret_view_begin(version->key);
        int n, ok;

        ok = EVP_CipherInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce, encrypt);
        secret_view_end(version->key, &key);
        return ok == 1 && EVP_CipherUpdate(c, NULL, &n, aad->data, (int)aad->n) == 1;
}

static bool seal(uint8_t *wrap, const struct local_kek_version *version, const struct aad *aad, struct secret *dek)
{
        EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
        uint8_t *key = secret_view_begin(dek);
        int n = 0;
        bool ok;

        ok = c && cipher_begin(c, version, wrap + WRAP_NONCE, aad, 1) &&
             EVP_EncryptUpdate(c, wrap + WRAP_CIPHERTEXT, &n, key, (int)KEY_SIZE) == 1 && n == (int)KEY_SIZE &&
             EVP_EncryptFinal_ex(c, wrap + WRAP_TAG, &n) == 1 && n == 0 &&
             EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, wrap + WRAP_TAG) == 1;
        secret_view_end(dek, &key);
        EVP_CIPHER_CTX_free(c);
        return ok;
}

static bool unseal(struct secret *dek, const uint8_t *wrap, const struct local_kek_version *version,
                   const struct aad *aad)
{
        EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
        uint8_t *key = secret_view_begin(dek);
        uint8_t tag[TAG_SIZE];
        int n = 0;
        bool ok;

        memcpy(tag, wrap + WRAP_TAG, TAG_SIZE);
        ok = c && cipher_begin(c, version, wrap + WRAP_NONCE, aad, 0) &&
             EVP_DecryptUpdate(c, key, &n, wrap + WRAP_CIPHERTEXT, (int)KEY_SIZE) == 1 && n == (int)KEY_SIZE &&
             EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, tag) == 1 &&
             EVP_DecryptFinal_ex(c, key + KEY_SIZE, &n) == 1;
        if (!ok)
                secret_wipe(key, KEY_SIZE);
        secret_view_end(dek, &key);
        EVP_CIPHER_CTX_free(c);
        return ok;
}

/* Wrap @dek under the newest version. Return: the error class, with *ret_why filled. */
static enum proto_error dek_wrap(const struct local_kek *kek, uint8_t wrap[WRAP_SIZE], struct secret *dek,
                                 const struct pairs *context, struct sentence *ret_why)
{
        const struct local_kek_version *version = local_kek_newest(kek);
        struct aad aad;
        bool ok;

        if (secret_size(dek) != KEY_SIZE || aad_build(&aad, kek, version->number, context) < 0) {
                sentence_set(ret_why, "the key or its encryption context is outside of the protocol's limits");
                return PROTO_ERROR_PROTOCOL;
        }
        wrap[0] = WRAP_FORMAT;
        bytes_put_u32(wrap + 1, version->number);
        ok = getrandom(wrap + WRAP_NONCE, NONCE_SIZE, 0) == NONCE_SIZE && seal(wrap, version, &aad, dek);
        secret_wipe_stack();
        if (ok)
                return PROTO_ERROR_NONE;
        sentence_set(ret_why, "AES-256-GCM failed in libcrypto, most often for want of memory. Try again");
        return PROTO_ERROR_INTERNAL;
}

static enum proto_error dek_unwrap(const struct local_kek *kek, struct secret **ret_dek, struct bytes wrap,
                                   const struct pairs *context, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *dek = NULL;
        const struct local_kek_version *version;
        struct aad aad;
        uint32_t number;
        bool ok;

        if (wrap.n != WRAP_SIZE || wrap.data[0] != WRAP_FORMAT || (number = bytes_get_u32(wrap.data + 1)) == 0 ||
            number > LOCAL_KEK_VERSION_MAX) {
                sentence_set(
                        ret_why,
                        "the wrapped key is damaged: it is not in the form of this KEK. Restore the .key file from a backup");
                return PROTO_ERROR_KMS_CORRUPT;
        }
        version = local_kek_version_find(kek, number);
        if (!version) {
                sentence_set(
                        ret_why,
                        "version %u of the KEK is not in %s. Restore that file from a backup, or reload lkm-kms when the "
                        "version was just added",
                        number, kek->path);
                return PROTO_ERROR_KMS_NOT_FOUND;
        }
        if (aad_build(&aad, kek, number, context) < 0) {
                sentence_set(ret_why, "the encryption context is outside of the protocol's limits");
                return PROTO_ERROR_PROTOCOL;
        }
        if (secret_new(&dek, KEY_SIZE) < 0) {
                sentence_set(ret_why, "no locked memory is left. Ask again when other requests have ended");
                return PROTO_ERROR_INTERNAL;
        }
        ok = unseal(dek, wrap.data, version, &aad);
        secret_wipe_stack();
        if (!ok) {
                sentence_set(
                        ret_why,
                        "the wrapped key does not authenticate: it is damaged, or belongs to another record or scope. "
                        "Put the database's own .key file beside it, or restore it from a backup");
                return PROTO_ERROR_KMS_CORRUPT;
        }
        *ret_dek = TAKE_PTR(dek);
        return PROTO_ERROR_NONE;
}

/* ---- the provider's table ---- */

static int local_new(struct kek **ret_kek, const struct config_kek *config, const struct kms_environment *environment,
                     struct sentence *ret_why)
{
        _cleanup_(freep) char *path = NULL;
        struct local_kek *kek;
        int r;

        if (config->kek_file) {
                r = local_kek_read(&kek, config->kek_file, LOCAL_KEK_FILE, ret_why);
        } else {
                r = config_credential_path(&path, config->kek_credential);
                if (r == -ENOENT)
                        sentence_set(ret_why,
                                     "[kek %s] names the credential %s, but the service manager passed none. Run lkm-kms as lkm-kms.service, "
                                     "which has LoadCredential=, or set kek_file",
                                     config->name, config->kek_credential);
                else if (r < 0)
                        sentence_set(ret_why, "out of memory");
                if (r < 0)
                        return r;
                r = local_kek_read(&kek, path, LOCAL_KEK_CREDENTIAL, ret_why);
        }
        if (r == 0)
                *ret_kek = (struct kek *)(void *)kek;
        return r;
}

static struct kek *local_free(struct kek *kek)
{
        local_kek_free(local(kek));
        return NULL;
}

static void local_describe(const struct kek *kek, struct provider_description *ret_description)
{
        const struct local_kek *k = (const struct local_kek *)(const void *)kek;

        *ret_description = (struct provider_description){ .kek_id = k->id, .version = local_kek_newest(k)->number };
}

/* Whether a wrap that names @kek_id is this KEK's; else @call has ended. */
static bool is_mine(const struct local_kek *kek, struct provider_call *call, struct bytes kek_id)
{
        if (bytes_equal(kek_id, bytes_from_string(kek->id)))
                return true;
        provider_fail(call, PROTO_ERROR_KMS_NOT_MINE, NULL);
        return false;
}

/* Wrap @dek and end @call; the answer carries @key, which may be NULL. */
static void wrap_and_end(struct local_kek *kek, struct provider_call *call, struct secret *dek,
                         const struct pairs *context, struct secret *key)
{
        struct sentence why;
        uint8_t wrap[WRAP_SIZE];
        enum proto_error error = dek_wrap(kek, wrap, dek, context, &why);
        struct provider_result result = { .key = key,
                                          .kek_id = bytes_from_string(kek->id),
                                          .wrapped = { wrap, sizeof(wrap) } };

        if (error)
                provider_fail(call, error, why.text);
        else
                call->done(call, &result);
}

static void local_generate(struct kek *kek, struct provider_call *call, const struct pairs *context)
{
        _cleanup_(secret_unrefp) struct secret *dek = NULL;

        if (secret_new_random(&dek, KEY_SIZE) < 0)
                provider_fail(call, PROTO_ERROR_INTERNAL,
                              "no locked memory is left. Ask again when other requests have ended");
        else
                wrap_and_end(local(kek), call, dek, context, dek);
}

static void local_unwrap(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped,
                         const struct pairs *context)
{
        _cleanup_(secret_unrefp) struct secret *dek = NULL;
        struct sentence why;
        enum proto_error error;

        if (!is_mine(local(kek), call, kek_id))
                return;
        error = dek_unwrap(local(kek), &dek, wrapped, context, &why);
        if (error)
                provider_fail(call, error, why.text);
        else
                call->done(call, &(struct provider_result){ .key = dek });
}

static void local_wrap(struct kek *kek, struct provider_call *call, struct secret *key, const struct pairs *context)
{
        wrap_and_end(local(kek), call, key, context, NULL);
}

static void local_rewrap(struct kek *kek, struct provider_call *call, struct bytes kek_id, struct bytes wrapped,
                         const struct pairs *context)
{
        _cleanup_(secret_unrefp) struct secret *dek = NULL;
        struct sentence why;
        enum proto_error error;

        if (!is_mine(local(kek), call, kek_id))
                return;
        error = dek_unwrap(local(kek), &dek, wrapped, context, &why);
        if (error)
                provider_fail(call, error, why.text);
        else
                wrap_and_end(local(kek), call, dek, context, NULL);
}

static const char *local_permission(const struct kek *kek, enum provider_operation operation)
{
        return NULL;
}

const struct provider provider_local = {
        .type = KMS_TYPE_LOCAL,
        .kek_new = local_new,
        .kek_free = local_free,
        .describe = local_describe,
        .generate = local_generate,
        .unwrap = local_unwrap,
        .wrap = local_wrap,
        .rewrap = local_rewrap,
        .permission = local_permission,
};
