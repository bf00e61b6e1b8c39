/* SPDX-License-Identifier: Apache-2.0 */
#include "client/kdf.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "proto/frame.h"

enum { SALT_SIZE = 16 };

/* ---- libcrypto ---- */

static void *crypto_malloc(size_t n, const char *file, int line)
{
        return secret_malloc(n);
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
        return secret_realloc(p, n);
}

static void crypto_free(void *p, const char *file, int line)
{
        secret_free(p);
}

/* PBKDF2's context keeps a copy of the passphrase, and HMAC's the padded key: in ordinary memory, but wiped on the way out. */
int kdf_init(void)
{
        return CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) == 1 ? 0 : -EBUSY;
}

static void kdf_freep(EVP_KDF **kdf)
{
        EVP_KDF_free(*kdf);
}

static void context_freep(EVP_KDF_CTX **context)
{
        EVP_KDF_CTX_free(*context);
}

/* ---- PBKDF2 ---- */

static int derive(uint8_t *ret_key, const char *digest, const uint8_t *passphrase, size_t n, struct bytes salt, unsigned rounds)
{
        _cleanup_(kdf_freep) EVP_KDF *kdf = EVP_KDF_fetch(NULL, "PBKDF2", NULL);
        _cleanup_(context_freep) EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
        int unchecked = 1; /* what NIST asks of salt and rounds is no matter here: the database is as it is */
        OSSL_PARAM parameters[] = {
                OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)(uintptr_t)passphrase, n),
                OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt.data, salt.n),
                OSSL_PARAM_construct_uint(OSSL_KDF_PARAM_ITER, &rounds),
                OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)digest, 0),
                OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS5, &unchecked),
                OSSL_PARAM_construct_end(),
        };

        if (!kdf)
                return -ENOTSUP;
        if (!context)
                return -ENOMEM;
        return EVP_KDF_derive(context, ret_key, KEY_SIZE, parameters) > 0 ? 0 : -ENOTSUP;
}

int kdf_pbkdf2(struct secret **ret_key, enum kdf_digest digest, struct secret *passphrase, struct bytes salt, uint32_t rounds)
{
        static const char *const names[] = { [KDF_SHA1] = "SHA1", [KDF_SHA256] = "SHA256", [KDF_SHA512] = "SHA512" };
        _cleanup_(secret_unrefp) struct secret *key = NULL;
        uint8_t *text, *bytes;
        int r;

        if (rounds == 0 || rounds > KDF_ROUNDS_MAX || (unsigned)digest >= ELEMENTSOF(names))
                return -EINVAL;
        r = secret_new(&key, KEY_SIZE);
        if (r < 0)
                return r;
        text = secret_view_begin(passphrase);
        bytes = secret_view_begin(key);
        r = derive(bytes, names[digest], text, secret_size(passphrase), salt, rounds);
        secret_view_end(key, &bytes);
        secret_view_end(passphrase, &text);
        secret_wipe_stack();
        if (r == 0)
                *ret_key = TAKE_PTR(key);
        return r;
}

/* ---- raw keys ---- */

/* The digits within @text, whose number is told by @ret_n; NULL when it has another form. */
static const char *raw_digits(const char *text, size_t n, size_t *ret_n)
{
        const size_t key = 2 * KEY_SIZE, salt = 2 * SALT_SIZE;

        if (n == key) {
                *ret_n = key;
                return text;
        }
        if ((n != key + 3 && n != key + salt + 3) || (text[0] != 'x' && text[0] != 'X') || text[1] != '\'' || text[n - 1] != '\'')
                return NULL;
        *ret_n = n - 3;
        return text + 2;
}

static int raw_parse(uint8_t *ret_key, const uint8_t *text, size_t n, struct bytes salt)
{
        uint8_t its_salt[SALT_SIZE];
        size_t n_digits = 0;
        const char *digits = raw_digits((const char *)text, n, &n_digits);

        if (!digits || hex_parse(ret_key, KEY_SIZE, digits, 2 * KEY_SIZE) < 0)
                return KDF_E_NOT_RAW;
        if (n_digits == 2 * KEY_SIZE)
                return 0;
        if (hex_parse(its_salt, SALT_SIZE, digits + 2 * KEY_SIZE, 2 * SALT_SIZE) < 0)
                return KDF_E_NOT_RAW;
        return bytes_equal(salt, (struct bytes){ its_salt, SALT_SIZE }) ? 0 : KDF_E_OTHER_SALT;
}

int kdf_raw(struct secret **ret_key, struct secret *text, struct bytes salt)
{
        _cleanup_(secret_unrefp) struct secret *key = NULL;
        uint8_t *view, *bytes;
        int r = secret_new(&key, KEY_SIZE);

        if (r < 0)
                return r;
        view = secret_view_begin(text);
        bytes = secret_view_begin(key);
        r = raw_parse(bytes, view, secret_size(text), salt);
        secret_view_end(key, &bytes);
        secret_view_end(text, &view);
        secret_wipe_stack();
        if (r == 0)
                *ret_key = TAKE_PTR(key);
        return r;
}
