/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes: borrowed byte strings, big-endian integers, and the strict text forms of bytes (base64, hex, UUID).
 * The codecs run in constant time for a given length and are the ones used on key material. No allocation.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A borrowed run of bytes; @data may be NULL only when @n is 0. */
struct bytes {
        const uint8_t *data;
        size_t n;
};

/** BYTES_LITERAL() - the bytes of a string literal, without its NUL. */
#define BYTES_LITERAL(text) ((struct bytes){ (const uint8_t *)("" text ""), sizeof(text) - 1 })

struct bytes bytes_from_string(const char *text);
bool bytes_equal(struct bytes a, struct bytes b);
/** bytes_equal_secret() - constant time for equal lengths; for MACs and digests. */
bool bytes_equal_secret(struct bytes a, struct bytes b);
/** utf8_length() - of the UTF-8 sequence at the beginning of @p (RFC 3629: shortest form, no surrogates, up to U+10FFFF), of whose @n bytes there is one at
 *  least. Return: bytes, or 0 when it is none. */
size_t utf8_length(const uint8_t *p, size_t n);
/** bytes_is_text() - valid UTF-8 with no control character (below 0x20, 0x7f). */
bool bytes_is_text(struct bytes b);
/** text_clean() - make @text one that bytes_is_text(): '?' in the place of control characters, and of every byte from 0x80 on where it is not UTF-8. */
void text_clean(char *text);
/** bytes_to_string() - a NUL-terminated copy in heap, or NULL when out of memory. For text that is not secret. */
char *bytes_to_string(struct bytes b);

uint16_t bytes_get_u16(const uint8_t *p);
uint32_t bytes_get_u32(const uint8_t *p);
uint64_t bytes_get_u64(const uint8_t *p);
void bytes_put_u16(uint8_t *p, uint16_t v);
void bytes_put_u32(uint8_t *p, uint32_t v);
void bytes_put_u64(uint8_t *p, uint64_t v);

/** Characters of base64 for @n bytes, without a NUL (RFC 4648 section 4, padded). */
#define BASE64_LENGTH(n) (((n) + 2) / 3 * 4)

/** base64_format() - write BASE64_LENGTH(n) characters and a NUL to @ret_text. */
void base64_format(char *ret_text, const uint8_t *data, size_t n);
/**
 * base64_parse() - strict: no white space, full padding, zero trailing bits
 * @ret_data: room for n_text / 4 * 3 bytes; may be the same memory as @text
 * Return: 0; -EINVAL otherwise (what was written to @ret_data is then unspecified).
 */
int base64_parse(uint8_t *ret_data, size_t *ret_n, const char *text, size_t n_text);

/** hex_format() - write 2 * n lower-case digits and a NUL. */
void hex_format(char *ret_text, const uint8_t *data, size_t n);
/** hex_parse() - exactly 2 * n digits of either case. Return: 0 or -EINVAL. */
int hex_parse(uint8_t *ret_data, size_t n, const char *text, size_t n_text);

#define UUID_SIZE 16
#define UUID_TEXT_LENGTH 36
/** uuid_format() - 8-4-4-4-12 lower case and a NUL (RFC 4122). */
void uuid_format(char ret_text[UUID_TEXT_LENGTH + 1], const uint8_t uuid[UUID_SIZE]);
/** uuid_parse() - the same form, lower case only. Return: 0 or -EINVAL. */
int uuid_parse(uint8_t ret_uuid[UUID_SIZE], const char *text, size_t n_text);
/** uuid_random() - version 4 by getrandom(2). Return: 0 or -errno. */
int uuid_random(uint8_t ret_uuid[UUID_SIZE]);
