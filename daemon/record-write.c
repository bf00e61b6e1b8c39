/* SPDX-License-Identifier: Apache-2.0 */
/* record: building one, and the mac. */
#include <errno.h>
#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>

#include "common/clock.h"
#include "daemon/record.h"

enum { MAC_SIZE = 32 };

/* The canonical form: compact, members sorted by the bytes of their names, UTF-8 as it is; without "mac". */
static char *canonical(json_t *root)
{
        json_t *copy = json_copy(root);
        char *text;

        json_object_del(copy, "mac");
        text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
        json_decref(copy);
        return text;
}

/* HKDF-SHA-256 (RFC 5869) of the DEK to the record's mac key. */
static int derive_mac_key(struct secret *ret_key, const uint8_t *database_id, struct secret *dek)
{
        static char digest[] = "SHA256", info[] = "lkm record mac v2";
        uint8_t *in = secret_view_begin(dek), *out = secret_view_begin(ret_key), salt[UUID_SIZE];
        EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
        EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
        OSSL_PARAM parameters[] = { OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
                                    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, in, secret_size(dek)),
                                    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, sizeof(salt)),
                                    OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, strlen(info)),
                                    OSSL_PARAM_construct_end() };
        int ok;

        memcpy(salt, database_id, UUID_SIZE);
        ok = context && EVP_KDF_derive(context, out, MAC_SIZE, parameters) == 1;
        EVP_KDF_CTX_free(context);
        EVP_KDF_free(kdf);
        secret_view_end(ret_key, &out);
        secret_view_end(dek, &in);
        return ok ? 0 : -EIO;
}

static int compute_mac(uint8_t ret_mac[MAC_SIZE], const uint8_t *database_id, json_t *root, struct secret *dek)
{
        _cleanup_(secret_unrefp) struct secret *key = NULL;
        _cleanup_(freep) char *text = canonical(root);
        uint8_t *view;
        size_t n = 0;
        int r = text ? secret_new(&key, MAC_SIZE) : -ENOMEM;

        if (r == 0)
                r = derive_mac_key(key, database_id, dek);
        if (r < 0)
                return r;
        view = secret_view_begin(key);
        if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA256", NULL, view, MAC_SIZE, (const unsigned char *)text, strlen(text), ret_mac, MAC_SIZE,
                       &n))
                r = -EIO;
        secret_view_end(key, &view);
        return r;
}

int record_verify(const struct record *r, struct secret *current_key)
{
        uint8_t mac[MAC_SIZE];
        int result;

        if (r->format == 1)
                return RECORD_E_MAC;
        result = compute_mac(mac, r->database_id, r->json, current_key);
        if (result < 0)
                return result;
        return bytes_equal_secret((struct bytes){ mac, MAC_SIZE }, (struct bytes){ r->mac, MAC_SIZE }) ? 0 : RECORD_E_MAC;
}

static json_t *json_blob(const uint8_t *data, size_t n)
{
        _cleanup_(freep) char *text = malloc(BASE64_LENGTH(n) + 1);

        if (!text)
                return NULL;
        base64_format(text, data, n);
        return json_string(text);
}

static json_t *json_date(uint64_t usec)
{
        char text[CLOCK_TEXT_LENGTH + 1];

        clock_format(text, usec);
        return usec ? json_string(text) : json_null();
}

static json_t *json_context(const struct pairs *pairs)
{
        json_t *object = json_object();

        for (size_t i = 0; i < pairs->n; i++) {
                _cleanup_(freep) char *key = bytes_to_string(pairs->pair[i].key);

                if (!key || json_object_set_new(object, key,
                                                json_stringn((const char *)pairs->pair[i].value.data, pairs->pair[i].value.n)) < 0) {
                        json_decref(object);
                        return NULL;
                }
        }
        return object;
}

static json_t *json_wraps(const struct record_template *t)
{
        json_t *wraps = json_array();

        for (size_t i = 0; i < t->n_wraps; i++) {
                if (json_array_append_new(wraps, json_pack("{s:s, s:o}", "kek_id", t->wraps[i].kek_id, "encrypted_dek",
                                                           json_blob(t->wraps[i].wrapped, t->wraps[i].n_wrapped))) < 0) {
                        json_decref(wraps);
                        return NULL;
                }
        }
        return wraps;
}

static json_t *record_build(const struct record_template *t)
{
        uint64_t version_at = t->rotated_at_usec ? t->rotated_at_usec : t->created_at_usec;
        char id[UUID_TEXT_LENGTH + 1];

        uuid_format(id, t->database_id);
        return json_pack("{s:i, s:s, s:s, s:{s:s, s:i, s:I}, s:o, s:s, s:I, s:o, s:o, s:o, s:s, s:[{s:I, s:s, s:o, s:o}]}", "format", 2,
                         "database_id", id, "scope", t->scope, "cipher", "library", t->cipher.library, "compatibility",
                         (int)t->cipher.compatibility, "page_size", (json_int_t)t->cipher.page_size, "encrypted_dek",
                         json_blob(t->wraps[0].wrapped, t->wraps[0].n_wrapped), "kek_id", t->wraps[0].kek_id, "version",
                         (json_int_t)t->version, "created_at", json_date(t->created_at_usec), "rotated_at",
                         json_date(t->rotated_at_usec), "encryption_context", json_context(t->encryption_context), "dek_spec",
                         "AES_256", "versions", "number", (json_int_t)t->version, "state", "current", "created_at",
                         json_date(version_at), "wraps", json_wraps(t));
}

int record_new_text(char **ret_text, size_t *ret_n, const struct record_template *t, struct secret *key)
{
        json_t *root = record_build(t);
        uint8_t mac[MAC_SIZE];
        char *text = NULL;
        int r = root ? compute_mac(mac, t->database_id, root, key) : -ENOMEM;

        if (r == 0 && json_object_set_new(root, "mac", json_blob(mac, sizeof(mac))) < 0)
                r = -ENOMEM;
        if (r == 0) {
                _cleanup_(freep) char *dump = json_dumps(root, JSON_INDENT(2));

                if (!dump || asprintf(&text, "%s\n", dump) < 0)
                        r = -ENOMEM;
        }
        json_decref(root);
        if (r < 0)
                return r;
        if (strlen(text) > RECORD_MAX) {
                free(text);
                return -EMSGSIZE;
        }
        *ret_n = strlen(text);
        *ret_text = text;
        return 0;
}
