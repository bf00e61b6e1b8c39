/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gcm: AES-256-GCM as both services use it: nonce, ciphertext and tag in one piece. Also SHA-256 and HMAC.
 */
#pragma once

#include "common/bytes.h"

enum {
        GCM_KEY_SIZE = 32,
        GCM_NONCE_SIZE = 12,
        GCM_TAG_SIZE = 16,
        GCM_OVERHEAD = GCM_NONCE_SIZE + GCM_TAG_SIZE,
        SHA256_SIZE = 32
};

/** gcm_seal() - @ret_sealed: room for plain.n + GCM_OVERHEAD bytes. */
void gcm_seal(uint8_t *ret_sealed, const uint8_t key[GCM_KEY_SIZE], struct bytes aad, struct bytes plain);
/**
 * gcm_open() - the reverse
 * @ret_plain: room for sealed.n - GCM_OVERHEAD bytes
 * Return: 0; -EBADMSG for another key, AAD or text.
 */
int gcm_open(uint8_t *ret_plain, const uint8_t key[GCM_KEY_SIZE], struct bytes aad, struct bytes sealed);

void sha256(uint8_t ret[SHA256_SIZE], struct bytes data);
void hmac_sha256(uint8_t ret[SHA256_SIZE], struct bytes key, struct bytes data);
/** hkdf_sha256() - RFC 5869 without a salt, one block. */
void hkdf_sha256(uint8_t ret[SHA256_SIZE], struct bytes key, struct bytes info);
