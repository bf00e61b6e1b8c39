/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json-secret: take the secrets out of a JSON text before a parser that does not know of secrets reads it. Strict RFC 8259; knows no
 * message. Fuzzed.
 */
#pragma once

#include "common/secret.h"

/** One string member that was taken. */
struct json_secret {
        size_t i_key;   /* which of the wanted keys */
        size_t i_item;  /* index in the array that it stands in (the innermost), 0 when in none */
        struct secret *value; /* its text, unescaped; NULL for "". Owned by the caller */
};

/** Named outcomes. */
enum {
        JSON_SECRET_E_INVALID = 1, /* not a JSON text, or nested deeper than 16 */
        JSON_SECRET_E_TOO_MANY,    /* more than n_max members */
};

/**
 * json_secret_take() - take every string member whose key is one of @keys, at any depth, and overwrite it in @body with spaces
 * @body:   the text, in place; afterwards the same JSON with blank strings there, fit for jansson
 * @keys:   compared byte for byte with the text's keys; an escape in a key is never equal
 * @ret:    room for @n_max; *@ret_n of them are set, in order of appearance; to be released with json_secret_deinit(). Untouched on failure.
 *
 * A member of @keys that is no string (null) is left alone.
 *
 * Return: 0; JSON_SECRET_E_*; -ENOBUFS when the arena is full. On failure @body is wiped, so that nothing reads it.
 */
int json_secret_take(struct secret *body, const char *const *keys, size_t n_keys, struct json_secret *ret, size_t n_max, size_t *ret_n);
void json_secret_deinit(struct json_secret *secrets, size_t n);

/** secret_from_base64() - decode the text in @text, strictly, into a secret of exactly @n bytes. Return: 0; -EINVAL; -ENOBUFS. */
int secret_from_base64(struct secret **ret_secret, struct secret *text, size_t n);
