/* SPDX-License-Identifier: Apache-2.0 */
/*
 * text: heap strings, and the encodings that the services have in common. Everything in tests/mock-kms ends the program
 * when memory is short: it is a test server, and an answer that is only half right would be worse.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "common/bytes.h"
#include "common/cleanup.h"

char *text_format(const char *format, ...) _printf_(1, 2);
char *text_copy(const char *text);
/** text_set() - replace what *@slot owns by a copy of @text, which may be NULL. */
void text_set(char **slot, const char *text);
/** text_random() - @prefix and @n random characters of @alphabet. */
char *text_random(const char *prefix, size_t n, const char *alphabet);
char *text_uuid(void);
char *text_hex(const uint8_t *data, size_t n);
char *text_base64(const uint8_t *data, size_t n);
bool text_equal(const char *a, const char *b);
bool text_starts(const char *text, const char *prefix);
/** text_ends() - whether @text ends in @ending. */
bool text_ends(const char *text, const char *ending);
/** text_number() - decimal digits only. Return: false for anything else, and above @max. */
bool text_number(uint64_t *ret_value, const char *text, uint64_t max);

#define TEXT_DIGITS "0123456789"
#define TEXT_UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define TEXT_LOWER "abcdefghijklmnopqrstuvwxyz"

void *memory_new(size_t n);
void random_bytes(uint8_t *ret, size_t n);

/* JSON members that may be missing. */
const char *json_text(const json_t *object, const char *name); /* or NULL */
int64_t json_number(const json_t *object, const char *name, int64_t otherwise);
bool json_flag(const json_t *object, const char *name, bool otherwise);
/* The same, also from a text, as Vault reads them: its command sends nothing but texts. */
int64_t json_loose_number(const json_t *object, const char *name, int64_t otherwise);
bool json_loose_flag(const json_t *object, const char *name, bool otherwise);
json_t *json_take(json_t *value); /* ends the program on NULL */
/** json_put() - takes @value over. */
void json_put(json_t *object, const char *name, json_t *value);
/** json_put_base64() - the bytes as a base64 string. */
void json_put_base64(json_t *object, const char *name, const uint8_t *data, size_t n);
