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

static json_t *json_wraps(const struct record_version *v)
{
        json_t *wraps = json_array();

        for (size_t i = 0; i < v->n_wraps; i++) {
                if (json_array_append_new(wraps, json_pack("{s:s, s:o}", "kek_id", v->wraps[i].kek_id, "encrypted_dek",
                                                           json_blob(v->wraps[i].wrapped, v->wraps[i].n_wrapped))) < 0) {
                        json_decref(wraps);
                        return NULL;
                }
        }
        return wraps;
}

static json_t *json_version(const struct record_version *v)
{
        json_t *object = json_pack("{s:I, s:s, s:o}", "number", (json_int_t)v->number, "state", record_state_text(v->state), "created_at",
                                   json_date(v->created_at_usec));
        bool has_ended = v->state == RECORD_STATE_RETIRED || v->state == RECORD_STATE_DESTROYED;
        int r = object ? 0 : -1;

        if (r == 0 && has_ended && v->ended_at_usec)
                r = json_object_set_new(object, "ended_at", json_date(v->ended_at_usec));
        if (r == 0 && v->restore_wal && v->state == RECORD_STATE_PENDING)
                r = json_object_set_new(object, "journal_mode", json_string("wal"));
        if (r == 0)
                r = json_object_set_new(object, "wraps", json_wraps(v));
        if (r == 0)
                return object;
        json_decref(object);
        return NULL;
}

static json_t *json_versions(size_t n, const struct record_version *versions)
{
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++) {
                if (json_array_append_new(array, json_version(&versions[i])) < 0) {
                        json_decref(array);
                        return NULL;
                }
        }
        return array;
}

/* What a record says beside its versions. */
struct record_head {
        const uint8_t *database_id;
        const char *scope;
        const char *label; /* "" = none */
        struct record_cipher cipher;
        const struct pairs *encryption_context;
        uint64_t created_at_usec, rotated_at_usec;
};

static json_t *record_build(const struct record_head *h, size_t n, const struct record_version *versions)
{
        const struct record_version *current = versions;
        char id[UUID_TEXT_LENGTH + 1];

        while (current->state != RECORD_STATE_CURRENT)
                current++;
        uuid_format(id, h->database_id);
        return json_pack("{s:i, s:s, s:s, s:s*, s:{s:s, s:i, s:I}, s:o, s:s, s:I, s:o, s:o, s:o, s:s, s:o}", "format", 2, "database_id", id,
                         "scope", h->scope, "label", *h->label ? h->label : NULL, "cipher", "library", h->cipher.library, "compatibility", (int)h->cipher.compatibility,
                         "page_size", (json_int_t)h->cipher.page_size, "encrypted_dek",
                         json_blob(current->wraps[0].wrapped, current->wraps[0].n_wrapped), "kek_id", current->wraps[0].kek_id,
                         "version", (json_int_t)current->number, "created_at", json_date(h->created_at_usec), "rotated_at",
                         json_date(h->rotated_at_usec), "encryption_context", json_context(h->encryption_context), "dek_spec",
                         "AES_256", "versions", json_versions(n, versions));
}

/* @key: signs; NULL for a text of the same length that nobody will keep. */
static int record_text(char **ret_text, size_t *ret_n, const struct record_head *h, size_t n, const struct record_version *versions,
                       struct secret *key)
{
        json_t *root = record_build(h, n, versions);
        uint8_t mac[MAC_SIZE] = { 0 };
        char *text = NULL;
        int r = !root ? -ENOMEM : key ? compute_mac(mac, h->database_id, root, key) : 0;

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

int record_new_text(char **ret_text, size_t *ret_n, const struct record_template *t, struct secret *key)
{
        struct record_head head = { .database_id = t->database_id, .scope = t->scope, .label = t->label, .cipher = t->cipher,
                                    .encryption_context = t->encryption_context, .created_at_usec = t->created_at_usec,
                                    .rotated_at_usec = t->rotated_at_usec };
        struct record_version version = { .number = t->version, .state = RECORD_STATE_CURRENT,
                                          .created_at_usec = t->rotated_at_usec ? t->rotated_at_usec : t->created_at_usec,
                                          .n_wraps = t->n_wraps };

        if (t->n_wraps == 0 || t->n_wraps > RECORD_WRAPS_MAX)
                return -EMSGSIZE;
        memcpy(version.wraps, t->wraps, t->n_wraps * sizeof(*t->wraps));
        return record_text(ret_text, ret_n, &head, 1, &version, key);
}

/* ---- the next record ---- */

/* Leave the oldest destroyed version out. Return: false when there is none. */
static bool versions_shorten(size_t *n, struct record_version *versions)
{
        for (size_t i = 0; i + 1 < *n; i++) {
                if (versions[i].state != RECORD_STATE_DESTROYED)
                        continue;
                memmove(&versions[i], &versions[i + 1], (*n - i - 1) * sizeof(*versions));
                (*n)--;
                return true;
        }
        return false;
}

/* As record_text(), without as many destroyed versions as the limits ask for. */
static int record_text_within_limits(char **ret_text, size_t *ret_n, const struct record_head *h, size_t n,
                                     struct record_version *versions, struct secret *key)
{
        int r = -EMSGSIZE;

        do {
                if (n <= RECORD_VERSIONS_MAX)
                        r = record_text(ret_text, ret_n, h, n, versions, key);
        } while (r == -EMSGSIZE && versions_shorten(&n, versions));
        return r;
}

/* A rotation that could begin and not end for want of room would be a trap: both its ends have to fit. */
static int record_ends_fit(const struct record_head *h, const struct record_next *next)
{
        static const uint64_t any_date = UINT64_C(1700000000000000);
        bool ends[] = { true, false };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(ends) && r == 0; i++) {
                _cleanup_(freep) struct record_version *versions = calloc(next->n_versions, sizeof(*versions));
                _cleanup_(freep) char *text = NULL;
                struct record_head head = *h;
                size_t n;

                if (!versions)
                        return -ENOMEM;
                memcpy(versions, next->versions, next->n_versions * sizeof(*versions));
                head.rotated_at_usec = any_date;
                record_versions_end(versions, next->n_versions, ends[i], any_date);
                r = record_text_within_limits(&text, &n, &head, next->n_versions, versions, NULL);
        }
        return r;
}

void record_versions_end(struct record_version *versions, size_t n, bool commit, uint64_t now_usec)
{
        struct record_version *pending = &versions[n - 1], *current = versions;

        while (current->state != RECORD_STATE_CURRENT)
                current++;
        pending->restore_wal = false;
        pending->state = RECORD_STATE_RETIRED;
        if (commit) {
                current->state = RECORD_STATE_RETIRED;
                current->ended_at_usec = now_usec;
                pending->state = RECORD_STATE_CURRENT;
        } else {
                pending->ended_at_usec = now_usec;
        }
}

int record_next_text(char **ret_text, size_t *ret_n, const struct record *r, const struct record_next *next, struct secret *key)
{
        _cleanup_(freep) struct record_version *versions = calloc(next->n_versions, sizeof(*versions));
        struct record_head head = { .database_id = r->database_id, .scope = r->scope, .label = r->label, .cipher = r->cipher,
                                    .encryption_context = &r->encryption_context, .created_at_usec = r->created_at_usec,
                                    .rotated_at_usec = next->rotated_at_usec };
        int result = 0;

        if (!versions)
                return -ENOMEM;
        memcpy(versions, next->versions, next->n_versions * sizeof(*versions));
        if (versions[next->n_versions - 1].state == RECORD_STATE_PENDING)
                result = record_ends_fit(&head, next);
        return result < 0 ? result : record_text_within_limits(ret_text, ret_n, &head, next->n_versions, versions, key);
}
