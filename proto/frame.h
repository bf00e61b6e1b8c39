/* SPDX-License-Identifier: Apache-2.0 */
/*
 * frame: messages to bytes and back, driven by messages.def. Pure: no I/O, no allocation but that of secrets.
 *
 * A frame is: u32 length of what follows, u16 message number, u16 zero, u32 request id, fields. A field is: u16 tag,
 * u32 length, value. All integers big-endian; tags strictly ascending. Unknown tags are skipped.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/secret.h"

/* Limits, normative in PROTOCOL.md. */
#define FRAME_HEADER_SIZE 12
#define FRAME_FIELD_HEADER_SIZE 6
#define FRAME_MAX (72u * 1024u)         /* length prefix included */
#define FRAME_KEY_MAX SECRET_LARGE_MAX  /* of a message with the KEY flag */
#define RECORD_MAX 65536u
#define KEY_SIZE 32u
#define SCOPE_NAME_MAX 64u
#define KEK_ID_MAX 512u
#define WRAPPED_MAX 6144u
#define KMS_REQUEST_ID_MAX 128u
#define IN_FLIGHT_MAX 128u              /* per connection; what a client keeps to until WELCOME says */
#define KMS_IN_FLIGHT_MAX 1024u         /* the same, of lkm-kms */
#define PAIRS_MAX 12u                   /* encryption context: pairs, */
#define PAIR_KEY_MAX 128u               /* bytes of a key, */
#define PAIR_VALUE_MAX 384u             /* bytes of a value */
#define PROTOCOL_VERSION_MIN 1
#define PROTOCOL_VERSION_MAX 1

/** One encryption context, borrowed strings, sorted by key (byte order), keys unique. */
struct pairs {
        size_t n;
        struct {
                struct bytes key;
                struct bytes value;
        } pair[PAIRS_MAX];
};

enum message_number {
#define MESSAGE(NAME, name, number, flags, text) MESSAGE_##NAME = (number),
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text)
#define MESSAGE_END(NAME, name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END
};

enum proto_error {
        PROTO_ERROR_NONE = 0,
#define PROTO_ERROR(NAME, number, sentence) PROTO_ERROR_##NAME = (number),
#include "proto/errors.def"
#undef PROTO_ERROR
};


/* The C type of each KIND. UUID: pointer to 16 borrowed bytes, NULL when left out. SECRET: an owned reference after
 * message_unpack(), borrowed by message_pack(). */
#define MESSAGE_TYPE_U8 uint8_t
#define MESSAGE_TYPE_U16 uint16_t
#define MESSAGE_TYPE_U32 uint32_t
#define MESSAGE_TYPE_U64 uint64_t
#define MESSAGE_TYPE_UUID const uint8_t *
#define MESSAGE_TYPE_BYTES struct bytes
#define MESSAGE_TYPE_TEXT struct bytes
#define MESSAGE_TYPE_JSON struct bytes
#define MESSAGE_TYPE_PAIRS struct pairs
#define MESSAGE_TYPE_SECRET struct secret *

/* struct message_hello { uint16_t version_min; … }; one for each message. `number` comes first in each. */
#define MESSAGE(NAME, name, number, flags, text) struct message_##name { enum message_number number_; 
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text) MESSAGE_TYPE_##kind field;
#define MESSAGE_END(NAME, name) };
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END

/** Any message; `number` tells which member is valid. */
union message {
        enum message_number number;
#define MESSAGE(NAME, name, number, flags, text) struct message_##name name;
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text)
#define MESSAGE_END(NAME, name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END
};

enum message_flags { MESSAGE_FLAG_REQUEST = 1, MESSAGE_FLAG_REPLY = 2, MESSAGE_FLAG_KEY = 4 };

/** What a frame's header says. */
struct frame_header {
        uint32_t length; /* of the whole frame, prefix included */
        uint16_t number;
        uint32_t request_id;
};

/** Named outcomes of frame_header_unpack() and message_unpack(). */
enum {
        FRAME_E_INCOMPLETE = 1, /* more bytes are needed */
        FRAME_E_INVALID,        /* the peer broke the protocol */
        FRAME_E_UNKNOWN,        /* well formed, but no message of this number */
};

/** frame_header_unpack() - Return: 0, FRAME_E_INCOMPLETE, FRAME_E_INVALID (too short, over FRAME_MAX, reserved bits;
 *  or over FRAME_KEY_MAX for a message that carries a key). */
int frame_header_unpack(struct frame_header *ret_header, const uint8_t *data, size_t n);

/**
 * message_unpack() - parse the fields of one whole frame
 * @ret_message: borrows from @data, except for secrets; release with message_deinit(). Untouched on failure.
 * Return: 0, FRAME_E_INVALID, FRAME_E_UNKNOWN; -ENOBUFS when the arena is full.
 */
int message_unpack(union message *ret_message, const uint8_t *data, size_t n);
/** message_deinit() - release the secrets that message_unpack() made. */
void message_deinit(union message *message);

/** message_measure() - @ret_n: bytes of the frame that message_pack() would write. Return: as message_pack(). */
int message_measure(const union message *message, size_t *ret_n);
/** message_size() - the same, or 0 when the message cannot be packed. */
static inline size_t message_size(const union message *message)
{
        size_t n;

        return message_measure(message, &n) == 0 ? n : 0;
}
/**
 * message_pack() - write one frame; on failure @data may have been written to
 * @data: room for @n bytes; secret memory when the message has the KEY flag
 * Return: 0; -EMSGSIZE when a field or the frame is over its maximum or @n too small; -EINVAL when a MUST field is absent
 *         (bytes: data is NULL) or a value is not of its kind, so that the peer would not take it.
 */
int message_pack(const union message *message, uint32_t request_id, uint8_t *data, size_t n, size_t *ret_n);

/** message_name() - "GET", or "?" . message_flags() - 0 when unknown. message_summary() - its sentence, or "". */
const char *message_name(uint16_t number);
unsigned message_flags(uint16_t number);
const char *message_summary(uint16_t number);

/** proto_error_name() - "DENIED", or "?". proto_error_sentence() - the text of errors.def, never NULL. */
const char *proto_error_name(unsigned code);
const char *proto_error_sentence(unsigned code);

/** pairs_sort() - Return: 0, or -EEXIST for a key that occurs twice. */
int pairs_sort(struct pairs *pairs);
/** pairs_check() - Return: 0; -EMSGSIZE over a limit; -EINVAL when not sorted, a key is empty or twice, or not text. */
int pairs_check(const struct pairs *pairs);
/** pairs_pack_size() - bytes that pairs_pack() writes. */
size_t pairs_pack_size(const struct pairs *pairs);
/** pairs_pack() - the value of a PAIRS field: u16 count, then per pair u16 length, key, u16 length, value. Return: as
 *  pairs_check(); -EMSGSIZE too when @n is too small. */
int pairs_pack(const struct pairs *pairs, uint8_t *data, size_t n, size_t *ret_n);
/** pairs_unpack() - the reverse; borrows from @value. Return: 0 or -EINVAL. */
int pairs_unpack(struct pairs *ret_pairs, struct bytes value);
