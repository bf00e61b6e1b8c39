/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kdf: from what a person knows of a database to the 32 bytes that open it: PBKDF2 of a passphrase, or the digits of a raw key. For lkmctl,
 * the only client that meets passphrases. Knows no files and no database formats.
 */
#pragma once

#include "common/bytes.h"
#include "common/secret.h"

#define KDF_ROUNDS_MAX 100000000u
/** "x'" 64 digits of the key and 32 of the salt "'". */
#define KDF_RAW_LONGEST 99

enum kdf_digest { KDF_SHA1, KDF_SHA256, KDF_SHA512 };

/** kdf_init() - let libcrypto wipe what it frees; before any other use of it in this process. Return: 0 or -EBUSY. */
int kdf_init(void);

/**
 * kdf_pbkdf2() - PBKDF2 with HMAC (RFC 8018), KEY_SIZE bytes
 * @passphrase: borrowed, any bytes
 * @rounds:     1 to KDF_ROUNDS_MAX
 * Return: 0; -EINVAL for other rounds; -ENOBUFS or -ENOMEM without memory; -ENOTSUP when libcrypto has no such digest.
 */
int kdf_pbkdf2(struct secret **ret_key, enum kdf_digest digest, struct secret *passphrase, struct bytes salt, uint32_t rounds);

/** Named outcomes of kdf_raw(). */
enum {
        KDF_E_NOT_RAW = 1,    /* the text has another form */
        KDF_E_OTHER_SALT = 2, /* its salt is another database's */
};

/**
 * kdf_raw() - a raw key from its text: 64 digits, x'64 digits', or x'96 digits', the last 32 of which are the salt
 * @text: borrowed
 * @salt: of the database, 16 bytes
 * Return: 0, KDF_E_NOT_RAW, KDF_E_OTHER_SALT, -ENOBUFS.
 */
int kdf_raw(struct secret **ret_key, struct secret *text, struct bytes salt);
