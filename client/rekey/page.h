/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page: one page of a SQLCipher file as it lies on the disk. Source: SQLCipher's design document
 * (https://www.zetetic.net/sqlcipher/design/), and measurement against the linked library, which the unit test repeats.
 *
 * A page ends in a reserve: 16 bytes of IV, the HMAC, and padding to a multiple of 16. The rest is AES-256-CBC. The HMAC is over what was
 * encrypted, the IV and the page's number (32 bits, little endian); its key is PBKDF2, with 2 rounds, of the raw key over the salt with each byte
 * XORed with 0x3a. The salt is the first 16 bytes of the file, in the place of SQLite's own magic; page 1's HMAC leaves it out.
 *
 * | format | hash | reserve | usual page |
 * |---|---|---|---|
 * | 3 | SHA-1   | 48 | 1024 |
 * | 4 | SHA-512 | 80 | 4096 |
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/secret.h"

enum { PAGE_SALT_SIZE = 16, PAGE_IV_SIZE = 16, PAGE_SIZE_MIN = 1024 /* 480 bytes have to be left of a page */, PAGE_SIZE_MAX = 65536 };

/** What SQLite locks in a database, whatever its format: no data is ever in the page that these bytes are in. */
#define PAGE_LOCK_BYTES UINT64_C(0x40000000)

struct page_format {
        unsigned compatibility; /* 3 or 4 */
        uint32_t size;          /* bytes of a page */
        uint32_t reserve, hmac; /* bytes of these */
};

/** page_format_init() - @size 0: the format's usual. Return: false when SQLCipher has no such format. */
bool page_format_init(struct page_format *ret_format, unsigned compatibility, uint32_t size);
/** page_is_lock() - whether SQLite's lock bytes are in that page, so that it is never read or written. */
static inline bool page_is_lock(const struct page_format *format, uint64_t number)
{
        return number == PAGE_LOCK_BYTES / format->size + 1;
}

/** One key made ready for the pages of one file. For one thread at a time. */
struct page_key;

/** page_key_new() - @raw: KEY_SIZE bytes, of which a reference is kept. Return: 0, -ENOMEM, -ENOBUFS. */
int page_key_new(struct page_key **ret_key, const struct page_format *format, struct secret *raw, const uint8_t salt[PAGE_SALT_SIZE]);
struct page_key *page_key_free(struct page_key *key);
DEFINE_CLEANUP(struct page_key *, page_key_free)

/** page_is_zero() - whether @page has nothing but zeros: never written, and taken by SQLCipher under every key. Not for page 1. */
bool page_is_zero(const struct page_format *format, const uint8_t *page);
/** page_fits() - whether the HMAC is that of this key. @page: as on the disk, @number from 1. */
bool page_fits(struct page_key *key, const uint8_t *page, uint32_t number);
/** page_decrypt() - in place, what is encrypted only; the HMAC is not looked at. Return: 0, -EIO when libcrypto failed. */
int page_decrypt(struct page_key *key, uint8_t *page, uint32_t number);
/** page_encrypt() - the reverse, with a new random IV, and the HMAC. Padding becomes random too. Return: 0, -EIO. */
int page_encrypt(struct page_key *key, uint8_t *page, uint32_t number);
