/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/vault-transit.h"

#define NO_CONTEXT                                                                                                            \
        "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request " \
        "information must be included in order to perform operations with the key"

/* ---- keys ---- */

void transit_key_free(struct transit_key *k)
{
        list_unlink(&k->link);
        free(k->mount);
        free(k->name);
        free(k);
}

void transit_keys_deinit(struct vault *v)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &v->keys)
                transit_key_free(list_entry(node, struct transit_key, link));
}

void transit_keys_remove(struct vault *v, const char *mount)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &v->keys) {
                struct transit_key *k = list_entry(node, struct transit_key, link);

                if (strcmp(k->mount, mount) == 0)
                        transit_key_free(k);
        }
}

struct transit_key *transit_key_find(const struct vault *v, const char *mount, const char *name)
{
        for (struct list *node = v->keys.next; node != &v->keys; node = node->next) {
                struct transit_key *k = list_entry(node, struct transit_key, link);

                if (strcmp(k->mount, mount) == 0 && strcmp(k->name, name) == 0)
                        return k;
        }
        return NULL;
}

void transit_key_rotate(struct transit_key *k, uint64_t now_seconds)
{
        if (k->n_versions == TRANSIT_VERSIONS_MAX)
                return;
        random_bytes(k->versions[k->n_versions].material, GCM_KEY_SIZE);
        k->versions[k->n_versions++].created_seconds = now_seconds;
}

struct transit_key *transit_key_new(struct vault *v, const char *mount, const char *name, uint64_t now_seconds)
{
        struct transit_key *k = memory_new(sizeof(*k));

        k->mount = text_copy(mount);
        k->name = text_copy(name);
        k->min_decryption_version = 1;
        transit_key_rotate(k, now_seconds);
        list_init(&k->link);
        list_append(&v->keys, &k->link);
        return k;
}

json_t *transit_key_report(const struct transit_key *k)
{
        json_t *versions = json_take(json_object()), *data;

        for (unsigned i = k->min_decryption_version; i <= k->n_versions; i++) {
                _cleanup_(freep) char *number = text_format("%u", i);

                json_put(versions, number, json_integer((json_int_t)k->versions[i - 1].created_seconds));
        }
        data = json_take(json_pack(
                "{s:b, s:i, s:b, s:b, s:b, s:b, s:o, s:i, s:i, s:i, s:i, s:s, s:b, s:b, s:b, s:b, s:b, s:s}",
                "allow_plaintext_backup", k->allow_plaintext_backup, "auto_rotate_period", 0, "deletion_allowed",
                k->deletion_allowed, "derived", k->derived, "exportable", k->exportable, "imported_key", false, "keys",
                versions, "latest_version", (int)k->n_versions, "min_available_version", 0, "min_decryption_version",
                (int)k->min_decryption_version, "min_encryption_version", (int)k->min_encryption_version, "name",
                k->name, "soft_deleted", false, "supports_decryption", true, "supports_derivation", true,
                "supports_encryption", true, "supports_signing", false, "type", "aes256-gcm96"));
        if (k->derived) {
                json_put(data, "convergent_encryption", json_boolean(k->convergent));
                json_put(data, "kdf", json_string("hkdf_sha256"));
        }
        return data;
}

/* ---- base64 ---- */

/** Bytes of a text that may be absent. */
struct decoded {
        uint8_t *data;
        size_t n;
};

static void decoded_deinit(struct decoded *d)
{
        free(d->data);
}

/* Where Go's decoder stops: at the first foreign character, or at the begin of a group of four that is not whole. */
static size_t bad_position(const char *text)
{
        size_t n = strspn(text, TEXT_UPPER TEXT_LOWER TEXT_DIGITS "+/");

        if (text[n] && text[n] != '=')
                return n;
        return text[n] == '=' && n % 4 < 2 ? n : n / 4 * 4;
}

static char *decode(struct decoded *ret, const char *text)
{
        size_t n = text ? strlen(text) : 0;

        ret->data = memory_new(n / 4 * 3);
        if (n == 0 || base64_parse(ret->data, &ret->n, text, n) == 0)
                return NULL;
        return text_format("illegal base64 data at input byte %zu", bad_position(text));
}

char *transit_base64_problem(const char *text)
{
        __attribute__((__cleanup__(decoded_deinit))) struct decoded bytes = { 0 };

        return decode(&bytes, text);
}

/* ---- ciphertexts ---- */

/* The key of a version, or what a derived key makes of it for @context. */
static char *subkey(uint8_t ret[GCM_KEY_SIZE], const struct transit_key *k, unsigned version, const char *context)
{
        __attribute__((__cleanup__(decoded_deinit))) struct decoded bytes = { 0 };
        char *problem = decode(&bytes, context);

        if (problem)
                return problem;
        if (k->derived && bytes.n == 0)
                return text_copy(NO_CONTEXT);
        if (k->derived)
                hkdf_sha256(ret, (struct bytes){ k->versions[version - 1].material, GCM_KEY_SIZE },
                            (struct bytes){ bytes.data, bytes.n });
        else
                memcpy(ret, k->versions[version - 1].material, GCM_KEY_SIZE);
        return NULL;
}

char *transit_encrypt(const struct transit_key *k, const struct transit_item *item, unsigned *ret_version,
                      char **ret_problem)
{
        __attribute__((__cleanup__(decoded_deinit))) struct decoded plain = { 0 }, aad = { 0 };
        _cleanup_(freep) uint8_t *sealed = NULL;
        _cleanup_(freep) char *text = NULL;
        unsigned version = item->version ? item->version : k->n_versions;
        uint8_t key[GCM_KEY_SIZE];

        if (version > k->n_versions) {
                *ret_problem = text_copy("requested version for encryption is higher than the latest key version");
                return NULL;
        }
        if (version < k->min_encryption_version) {
                *ret_problem =
                        text_copy("requested version for encryption is less than the minimum encryption key version");
                return NULL;
        }
        *ret_problem = subkey(key, k, version, item->context);
        if (!*ret_problem)
                *ret_problem = decode(&plain, item->text);
        if (!*ret_problem)
                *ret_problem = decode(&aad, item->associated_data);
        if (*ret_problem)
                return NULL;
        sealed = memory_new(plain.n + GCM_OVERHEAD);
        gcm_seal(sealed, key, (struct bytes){ aad.data, aad.n }, (struct bytes){ plain.data, plain.n });
        text = text_base64(sealed, plain.n + GCM_OVERHEAD);
        *ret_version = version;
        return text_format("vault:v%u:%s", version, text);
}

/* Take a ciphertext's text apart. Return: what is wrong, or NULL. */
static const char *parse_ciphertext(struct decoded *ret, unsigned *ret_version, const struct transit_key *k,
                                    const char *text)
{
        const char *colon = text_starts(text, "vault:v") ? strchr(text + strlen("vault:v"), ':') : NULL;
        _cleanup_(freep) char *number = colon ? text_format("%.*s", (int)(colon - text - 7), text + 7) : NULL,
                              *problem = NULL;
        uint64_t version;

        if (!text_starts(text, "vault:v"))
                return "invalid ciphertext: no prefix";
        if (!colon)
                return "invalid ciphertext: wrong number of fields";
        if (!text_number(&version, number, UINT32_MAX))
                return "invalid ciphertext: version number could not be decoded";
        /* Ciphertexts of the oldest Vaults have version 0, which is 1. */
        *ret_version = version ? (unsigned)version : 1;
        if (*ret_version > k->n_versions)
                return "invalid ciphertext: version is too new";
        if (*ret_version < k->min_decryption_version)
                return "ciphertext or signature version is disallowed by policy (too old)";
        problem = decode(ret, colon + 1);
        return problem ? "invalid ciphertext: could not decode base64" : NULL;
}

char *transit_decrypt(const struct transit_key *k, const struct transit_item *item, char **ret_problem)
{
        __attribute__((__cleanup__(decoded_deinit))) struct decoded sealed = { 0 }, aad = { 0 };
        _cleanup_(freep) uint8_t *plain = NULL;
        uint8_t key[GCM_KEY_SIZE];
        const char *problem;
        unsigned version = 0;

        *ret_problem = NULL;
        if (k->derived && (!item->context || !*item->context)) {
                *ret_problem = text_copy(NO_CONTEXT);
                return NULL;
        }
        *ret_problem = transit_base64_problem(item->context);
        if (*ret_problem)
                return NULL;
        problem = parse_ciphertext(&sealed, &version, k, item->text);
        if (!problem && sealed.n < GCM_OVERHEAD)
                problem = "invalid ciphertext length";
        if (problem) {
                *ret_problem = text_copy(problem);
                return NULL;
        }
        *ret_problem = subkey(key, k, version, item->context);
        if (!*ret_problem)
                *ret_problem = decode(&aad, item->associated_data);
        if (*ret_problem)
                return NULL;
        plain = memory_new(sealed.n);
        if (gcm_open(plain, key, (struct bytes){ aad.data, aad.n }, (struct bytes){ sealed.data, sealed.n }) < 0) {
                *ret_problem = text_copy("cipher: message authentication failed");
                return NULL;
        }
        return text_base64(plain, sealed.n - GCM_OVERHEAD);
}
