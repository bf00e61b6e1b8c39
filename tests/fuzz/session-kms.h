/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session-kms: the KMS worker that the lkmd of fuzz-session asks, in the same thread as its client. Always the same keys; a wrap opens only under the
 * encryption context that it was made under. What else it answers, the input decides.
 */
#pragma once

#include <poll.h>

#include "tests/fuzz/fuzz.h"

enum session_mood { MOOD_GOOD, MOOD_ERROR, MOOD_GARBAGE, MOOD_CLOSE, MOOD_OTHER_KEY, MOOD_COUNT };

/** session_kms_listen() - at @path; once. */
void session_kms_listen(const char *path);
/** session_kms_set_mood() - how the next call is answered; then it is good again. @argument: number of the error, or the bytes of the garbage. */
void session_kms_set_mood(enum session_mood mood, uint8_t code, struct bytes garbage);
/** session_kms_poll() - the descriptors to wait for, at most 8. Return: how many. session_kms_serve() - whatever they have. Return: whether there was something. */
size_t session_kms_poll(struct pollfd *ret_fds);
bool session_kms_serve(void);
/** session_kms_is_key() - whether that is a key which it has made; any is since it gave garbage in place of one, until session_kms_forget(). */
bool session_kms_is_key(const uint8_t *key);
void session_kms_forget(void);

/** frame_begin() … frame_end(): a frame, written by hand into @frame, which has room for FRAME_ROOM bytes. Return: its length. */
enum { FRAME_ROOM = 80000 };
size_t frame_begin(uint8_t *frame, uint16_t number, uint32_t request_id);
size_t frame_field(uint8_t *frame, size_t n, uint16_t tag, struct bytes value);
size_t frame_number(uint8_t *frame, size_t n, uint16_t tag, unsigned size, uint32_t value);
size_t frame_end(uint8_t *frame, size_t n);
/** frame_find() - a field's value; empty when it has none. */
struct bytes frame_find(struct bytes frame, uint16_t tag);
