/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json-write: build a JSON text in locked memory, for requests that carry secrets. Compact; strings are escaped as RFC 8259 wants it. A
 * text that outgrows its room is noticed at the end. Knows no message.
 */
#pragma once

#include "common/bytes.h"
#include "common/secret.h"

struct json_writer {
        struct secret *text;
        size_t n;
        bool full;  /* something did not fit: what was written is no JSON */
        bool follows; /* a comma comes before the next member or element */
};

/** json_writer_init() - @max: room in bytes, at most SECRET_BODY_MAX; up to SECRET_LARGE_MAX a large slot is enough. Return: 0, -EINVAL, -ENOBUFS. */
int json_writer_init(struct json_writer *w, size_t max);
/** json_writer_deinit() - allowed after json_writer_end(), and for a zeroed writer. */
void json_writer_deinit(struct json_writer *w);
/** json_writer_end() - take the text. Return: 0; -EMSGSIZE when it did not fit, or is empty. */
int json_writer_end(struct json_writer *w, struct secret **ret_text);

/* @key: name of the member, of characters that need no escape; NULL in an array, and for the outermost value. */
void json_write_open(struct json_writer *w, const char *key, char bracket);
void json_write_close(struct json_writer *w, char bracket);
void json_write_number(struct json_writer *w, const char *key, uint64_t value);
/** json_write_text(), json_write_secret() - a string; bytes from 0x80 on are copied as they are. */
void json_write_text(struct json_writer *w, const char *key, struct bytes text);
void json_write_secret(struct json_writer *w, const char *key, struct secret *text);
/** json_write_base64(), json_write_base64_secret() - a string: the base64 of the bytes. */
void json_write_base64(struct json_writer *w, const char *key, struct bytes data);
void json_write_base64_secret(struct json_writer *w, const char *key, struct secret *data);
