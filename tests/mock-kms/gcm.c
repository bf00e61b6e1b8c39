/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/gcm.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "tests/mock-kms/text.h"

DEFINE_CLEANUP(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_free)

static void must(bool holds)
{
        if (!holds)
                abort(); /* OpenSSL is out of memory, or lacks AES */
}

void gcm_seal(uint8_t *ret_sealed, const uint8_t key[GCM_KEY_SIZE], struct bytes aad, struct bytes plain)
{
        _cleanup_(EVP_CIPHER_CTX_freep) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
        uint8_t *text = ret_sealed + GCM_NONCE_SIZE, end[16];
        int n;

        random_bytes(ret_sealed, GCM_NONCE_SIZE);
        must(context && EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, ret_sealed) == 1);
        must(aad.n == 0 || EVP_EncryptUpdate(context, NULL, &n, aad.data, (int)aad.n) == 1);
        must(plain.n == 0 || EVP_EncryptUpdate(context, text, &n, plain.data, (int)plain.n) == 1);
        must(EVP_EncryptFinal_ex(context, end, &n) == 1);
        must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, GCM_TAG_SIZE, text + plain.n) == 1);
}

int gcm_open(uint8_t *ret_plain, const uint8_t key[GCM_KEY_SIZE], struct bytes aad, struct bytes sealed)
{
        _cleanup_(EVP_CIPHER_CTX_freep) EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
        uint8_t tag[GCM_TAG_SIZE], end[16];
        size_t n_text;
        int n;

        if (sealed.n < GCM_OVERHEAD)
                return -EBADMSG;
        n_text = sealed.n - GCM_OVERHEAD;
        memcpy(tag, sealed.data + GCM_NONCE_SIZE + n_text, GCM_TAG_SIZE);
        must(context && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, sealed.data) == 1);
        must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, GCM_TAG_SIZE, tag) == 1);
        must(aad.n == 0 || EVP_DecryptUpdate(context, NULL, &n, aad.data, (int)aad.n) == 1);
        must(n_text == 0 || EVP_DecryptUpdate(context, ret_plain, &n, sealed.data + GCM_NONCE_SIZE, (int)n_text) == 1);
        return EVP_DecryptFinal_ex(context, end, &n) == 1 ? 0 : -EBADMSG;
}

void sha256(uint8_t ret[SHA256_SIZE], struct bytes data)
{
        must(EVP_Digest(data.n ? data.data : (const uint8_t *)"", data.n, ret, NULL, EVP_sha256(), NULL) == 1);
}

void hmac_sha256(uint8_t ret[SHA256_SIZE], struct bytes key, struct bytes data)
{
        must(HMAC(EVP_sha256(), key.data, (int)key.n, data.data, data.n, ret, NULL) != NULL);
}

void hkdf_sha256(uint8_t ret[SHA256_SIZE], struct bytes key, struct bytes info)
{
        static const uint8_t no_salt[SHA256_SIZE];
        _cleanup_(freep) uint8_t *block = memory_new(info.n + 1);
        uint8_t extracted[SHA256_SIZE];

        hmac_sha256(extracted, (struct bytes){ no_salt, sizeof(no_salt) }, key);
        if (info.n)
                memcpy(block, info.data, info.n);
        block[info.n] = 1;
        hmac_sha256(ret, (struct bytes){ extracted, sizeof(extracted) }, (struct bytes){ block, info.n + 1 });
}
