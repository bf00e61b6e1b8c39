/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/page.h"

#include <assert.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "common/bytes.h"
#include "proto/frame.h"

enum {
        COMPATIBILITY_3 = 3,
        COMPATIBILITY_4 = 4,
        HMAC_ROUNDS = 2,
        HMAC_SALT_MASK = 0x3a,
        HMAC_SHA1_SIZE = 20,
        HMAC_SHA512_SIZE = 64,
        NUMBER_SIZE = 4,
};

struct page_key {
        struct page_format format;
        struct secret *raw;
        EVP_MAC *mac;
        EVP_MAC_CTX *hmac; /* with the HMAC's key, to be begun anew for each page */
        EVP_CIPHER_CTX *cipher;
};

bool page_format_init(struct page_format *ret_format, unsigned compatibility, uint32_t size)
{
        bool four = compatibility == COMPATIBILITY_4;
        uint32_t hmac = four ? HMAC_SHA512_SIZE : HMAC_SHA1_SIZE;

        if (!four && compatibility != COMPATIBILITY_3)
                return false;
        if (size == 0)
                size = four ? 4096 : 1024;
        if (size < PAGE_SIZE_MIN || size > PAGE_SIZE_MAX || (size & (size - 1)) != 0)
                return false;
        *ret_format = (struct page_format){ .compatibility = compatibility, .size = size, .hmac = hmac };
        ret_format->reserve = (PAGE_IV_SIZE + hmac + 15) / 16 * 16;
        return true;
}

/* ---- keys ---- */

static const char *digest_name(const struct page_format *format)
{
        return format->compatibility == COMPATIBILITY_4 ? "SHA512" : "SHA1";
}

/* The HMAC's key goes from locked memory into libcrypto's, which this process wipes as it is freed. */
static int hmac_init(struct page_key *key, const uint8_t salt[PAGE_SALT_SIZE])
{
        _cleanup_(secret_unrefp) struct secret *hmac_key = NULL;
        OSSL_PARAM parameters[2] = { OSSL_PARAM_END, OSSL_PARAM_END };
        char digest[8];
        uint8_t masked[PAGE_SALT_SIZE], *raw, *derived;
        int done, r = secret_new(&hmac_key, KEY_SIZE);

        if (r < 0)
                return r;
        snprintf(digest, sizeof(digest), "%s", digest_name(&key->format));
        parameters[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0);
        for (size_t i = 0; i < PAGE_SALT_SIZE; i++)
                masked[i] = salt[i] ^ HMAC_SALT_MASK;
        raw = secret_view_begin(key->raw);
        derived = secret_view_begin(hmac_key);
        done = PKCS5_PBKDF2_HMAC((const char *)raw, KEY_SIZE, masked, sizeof(masked), HMAC_ROUNDS, EVP_get_digestbyname(digest), KEY_SIZE, derived) &&
               EVP_MAC_init(key->hmac, derived, KEY_SIZE, parameters);
        secret_view_end(hmac_key, &derived);
        secret_view_end(key->raw, &raw);
        secret_wipe_stack();
        return done ? 0 : -ENOMEM;
}

int page_key_new(struct page_key **ret_key, const struct page_format *format, struct secret *raw, const uint8_t salt[PAGE_SALT_SIZE])
{
        _cleanup_(page_key_freep) struct page_key *key = calloc(1, sizeof(*key));
        int r;

        assert(secret_size(raw) == KEY_SIZE);
        if (!key)
                return -ENOMEM;
        key->format = *format;
        key->raw = secret_ref(raw);
        key->mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
        key->hmac = key->mac ? EVP_MAC_CTX_new(key->mac) : NULL;
        key->cipher = EVP_CIPHER_CTX_new();
        r = key->hmac && key->cipher ? hmac_init(key, salt) : -ENOMEM;
        if (r == 0)
                *ret_key = TAKE_PTR(key);
        return r;
}

struct page_key *page_key_free(struct page_key *key)
{
        if (!key)
                return NULL;
        EVP_CIPHER_CTX_free(key->cipher);
        EVP_MAC_CTX_free(key->hmac);
        EVP_MAC_free(key->mac);
        secret_unref(key->raw);
        free(key);
        return NULL;
}

/* ---- pages ---- */

bool page_is_zero(const struct page_format *format, const uint8_t *page)
{
        const uint64_t *words = (const uint64_t *)(const void *)page;

        for (size_t i = 0; i < format->size / sizeof(*words); i++)
                if (words[i] != 0)
                        return false;
        return true;
}

/* Where the salt is, nothing is encrypted. */
static size_t page_skip(uint32_t number)
{
        return number == 1 ? PAGE_SALT_SIZE : 0;
}

static bool page_hmac(struct page_key *key, const uint8_t *page, uint32_t number, uint8_t ret_hmac[EVP_MAX_MD_SIZE])
{
        size_t skip = page_skip(number), n = key->format.size - key->format.reserve + PAGE_IV_SIZE - skip, n_hmac;
        const uint8_t little[NUMBER_SIZE] = { (uint8_t)number, (uint8_t)(number >> 8), (uint8_t)(number >> 16), (uint8_t)(number >> 24) };

        /* Without a key: the one that it has, from the beginning. */
        return EVP_MAC_init(key->hmac, NULL, 0, NULL) && EVP_MAC_update(key->hmac, page + skip, n) &&
               EVP_MAC_update(key->hmac, little, sizeof(little)) && EVP_MAC_final(key->hmac, ret_hmac, &n_hmac, EVP_MAX_MD_SIZE) &&
               n_hmac == key->format.hmac;
}

static uint8_t *page_iv(const struct page_key *key, uint8_t *page)
{
        return page + key->format.size - key->format.reserve;
}

bool page_fits(struct page_key *key, const uint8_t *page, uint32_t number)
{
        uint8_t hmac[EVP_MAX_MD_SIZE];
        const uint8_t *stored = page + key->format.size - key->format.reserve + PAGE_IV_SIZE;

        return page_hmac(key, page, number, hmac) &&
               bytes_equal_secret((struct bytes){ hmac, key->format.hmac }, (struct bytes){ stored, key->format.hmac });
}

static int page_cipher(struct page_key *key, uint8_t *page, uint32_t number, int encrypt)
{
        size_t skip = page_skip(number);
        int n = (int)(key->format.size - key->format.reserve - skip), n_out, n_final;
        uint8_t *raw = secret_view_begin(key->raw);
        bool done = EVP_CipherInit_ex(key->cipher, EVP_aes_256_cbc(), NULL, raw, page_iv(key, page), encrypt) &&
                    EVP_CIPHER_CTX_set_padding(key->cipher, 0) && EVP_CipherUpdate(key->cipher, page + skip, &n_out, page + skip, n) &&
                    EVP_CipherFinal_ex(key->cipher, page + skip + n_out, &n_final) && n_out + n_final == n;

        secret_view_end(key->raw, &raw);
        return done ? 0 : -EIO;
}

int page_decrypt(struct page_key *key, uint8_t *page, uint32_t number)
{
        return page_cipher(key, page, number, 0);
}

int page_encrypt(struct page_key *key, uint8_t *page, uint32_t number)
{
        uint8_t hmac[EVP_MAX_MD_SIZE], *iv = page_iv(key, page);
        int r;

        if (RAND_bytes(iv, (int)key->format.reserve) != 1)
                return -EIO;
        r = page_cipher(key, page, number, 1);
        if (r == 0 && !page_hmac(key, page, number, hmac))
                r = -EIO;
        if (r == 0)
                memcpy(iv + PAGE_IV_SIZE, hmac, key->format.hmac);
        return r;
}
