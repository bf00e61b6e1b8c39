/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-transit: keys of the Transit engine and their ciphertexts. Only aes256-gcm96; a derived key takes its subkey from
 * the context by HKDF-SHA-256, and one that is not derived ignores the context, as the real one does.
 */
#pragma once

#include "tests/mock-kms/gcm.h"
#include "tests/mock-kms/vault.h"

enum { TRANSIT_VERSIONS_MAX = 64 };

struct transit_key {
        struct list link;
        char *mount, *name;
        bool derived, convergent, exportable, allow_plaintext_backup, deletion_allowed;
        unsigned min_decryption_version, min_encryption_version; /* 0 = the latest, for encryption */
        unsigned n_versions; /* the latest */
        struct {
                uint8_t material[GCM_KEY_SIZE];
                uint64_t created_seconds;
        } versions[TRANSIT_VERSIONS_MAX]; /* [0] is version 1 */
};

void transit_keys_deinit(struct vault *v);
/** transit_keys_remove() - those of @mount, which is no more. */
void transit_keys_remove(struct vault *v, const char *mount);
struct transit_key *transit_key_find(const struct vault *v, const char *mount, const char *name); /* or NULL */
struct transit_key *transit_key_new(struct vault *v, const char *mount, const char *name, uint64_t now_seconds);
void transit_key_rotate(struct transit_key *k, uint64_t now_seconds);
void transit_key_free(struct transit_key *k);
json_t *transit_key_report(const struct transit_key *k);

/** One thing to do with a key; texts are borrowed and may be NULL. */
struct transit_item {
        const char *text; /* plaintext in base64, or ciphertext */
        const char *context, *associated_data;
        unsigned version; /* to encrypt under; 0 = the latest */
};

/**
 * transit_encrypt() - "vault:v1:…", to release with free()
 * Return: NULL with Vault's sentence in *@ret_problem, to release with free().
 */
char *transit_encrypt(const struct transit_key *k, const struct transit_item *item, unsigned *ret_version,
                      char **ret_problem);
/** transit_decrypt() - the plaintext in base64. Return: as transit_encrypt(). */
char *transit_decrypt(const struct transit_key *k, const struct transit_item *item, char **ret_problem);
/** transit_base64_problem() - Vault's sentence about text that is not base64, or NULL; to release with free(). */
char *transit_base64_problem(const char *text);
