/* SPDX-License-Identifier: Apache-2.0 */
/*
 * messages.def becomes one table of fields for each message; pack, unpack and size are one loop each over it. What
 * message_pack() writes, message_unpack() accepts: both check a value against its kind by the same functions.
 */
#include "proto/frame.h"

#include <assert.h>
#include <errno.h>

enum kind {
        KIND_U8,
        KIND_U16,
        KIND_U32,
        KIND_U64,
        KIND_UUID,
        KIND_BYTES,
        KIND_TEXT,
        KIND_JSON,
        KIND_PAIRS,
        KIND_SECRET
};

/* The words that messages.def uses. */
enum { REQUEST = MESSAGE_FLAG_REQUEST, REPLY = MESSAGE_FLAG_REPLY, KEY = MESSAGE_FLAG_KEY };
enum { MAY, MUST };

struct field_info {
        uint16_t tag; /* 0 ends the table */
        uint8_t kind;
        uint8_t must;
        uint32_t maximum;
        size_t offset; /* in the message's struct */
};

struct message_info {
        const char *name;
        const char *summary;
        const struct field_info *fields;
        size_t size; /* of its struct */
        unsigned flags;
};

#define MESSAGE(NAME, name, number, flags, text) static const struct field_info name##_fields[] = {
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text)                                                      \
        { (tag), KIND_##kind, (flags), (maximum), offsetof(struct message_##name, field) },
#define MESSAGE_END(NAME, name)                                                                                        \
        {                                                                                                              \
                0                                                                                                      \
        }                                                                                                              \
        }                                                                                                              \
        ;
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END

#define MESSAGE(NAME, name, number, flags, text)                                                                       \
        static const struct message_info name##_info = { #NAME, text, name##_fields, sizeof(struct message_##name),    \
                                                         (flags) };
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text)
#define MESSAGE_END(NAME, name)
#include "proto/messages.def"
#undef MESSAGE
#undef MESSAGE_END

static const struct message_info *message_find(unsigned number)
{
        switch (number) {
#define MESSAGE(NAME, name, number, flags, text)                                                                       \
        case MESSAGE_##NAME:                                                                                           \
                return &name##_info;
#define MESSAGE_END(NAME, name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END
        default:
                return NULL;
        }
}

/* ---- values ---- */

/* Text that begins and ends like an object and may have line breaks; whoever reads its members parses the rest. */
static bool bytes_is_json(struct bytes b)
{
        size_t begin = 0;

        if (b.n < 2 || b.data[0] != '{' || b.data[b.n - 1] != '}')
                return false;
        for (size_t i = 0; i < b.n; i++) {
                if (b.data[i] != '\n' && b.data[i] != '\r' && b.data[i] != '\t')
                        continue;
                if (!bytes_is_text((struct bytes){ b.data + begin, i - begin }))
                        return false;
                begin = i + 1;
        }
        return bytes_is_text((struct bytes){ b.data + begin, b.n - begin });
}

static int bytes_check(const struct field_info *field, struct bytes b)
{
        if (b.n > field->maximum)
                return -EMSGSIZE;
        if (field->kind == KIND_TEXT && !bytes_is_text(b))
                return -EINVAL;
        if (field->kind == KIND_JSON && !bytes_is_json(b))
                return -EINVAL;
        return 0;
}

static uint64_t integer_get(const struct field_info *field, const void *member)
{
        switch (field->kind) {
        case KIND_U8:
                return *(const uint8_t *)member;
        case KIND_U16:
                return *(const uint16_t *)member;
        case KIND_U32:
                return *(const uint32_t *)member;
        default:
                return *(const uint64_t *)member;
        }
}

/* Length of the packed value; *@ret_present tells whether the field is to be written at all. */
static int value_measure(const struct field_info *field, const void *member, bool *ret_present, size_t *ret_n)
{
        switch (field->kind) {
        case KIND_UUID:
                *ret_present = *(const uint8_t *const *)member != NULL;
                *ret_n = UUID_SIZE;
                return 0;
        case KIND_PAIRS: {
                const struct pairs *pairs = member;
                int r = pairs_check(pairs);

                if (r < 0)
                        return r;
                *ret_n = pairs_pack_size(pairs);
                *ret_present = pairs->n > 0;
                return *ret_n > field->maximum ? -EMSGSIZE : 0;
        }
        case KIND_SECRET: {
                const struct secret *secret = *(struct secret *const *)member;

                *ret_present = secret != NULL;
                *ret_n = field->maximum;
                return secret && secret_size(secret) != field->maximum ? -EMSGSIZE : 0;
        }
        case KIND_BYTES:
        case KIND_TEXT:
        case KIND_JSON: {
                const struct bytes *b = member;

                *ret_present = field->must ? b->data != NULL : b->n > 0;
                *ret_n = b->n;
                return *ret_present ? bytes_check(field, *b) : 0;
        }
        default:
                *ret_present = field->must || integer_get(field, member) != 0;
                *ret_n = (size_t)1 << field->kind;
                return 0;
        }
}

static void integer_put(uint8_t *p, size_t n, uint64_t v)
{
        for (size_t i = n; i-- > 0; v >>= 8)
                p[i] = (uint8_t)v;
}

/* Write the value, of the @n bytes that value_measure() told. */
static void value_pack(const struct field_info *field, const void *member, uint8_t *p, size_t n)
{
        switch (field->kind) {
        case KIND_UUID:
                memcpy(p, *(const uint8_t *const *)member, UUID_SIZE);
                return;
        case KIND_PAIRS: {
                int r = pairs_pack(member, p, n, &n);

                assert(r == 0);
                (void)r;
                return;
        }
        case KIND_SECRET: {
                struct secret *secret = *(struct secret *const *)member;
                uint8_t *view = secret_view_begin(secret);

                memcpy(p, view, n);
                secret_view_end(secret, &view);
                return;
        }
        case KIND_BYTES:
        case KIND_TEXT:
        case KIND_JSON:
                if (n > 0)
                        memcpy(p, ((const struct bytes *)member)->data, n);
                return;
        default:
                integer_put(p, n, integer_get(field, member));
                return;
        }
}

static int integer_unpack(const struct field_info *field, struct bytes value, void *member)
{
        if (value.n != (size_t)1 << field->kind)
                return FRAME_E_INVALID;
        switch (field->kind) {
        case KIND_U8:
                *(uint8_t *)member = value.data[0];
                break;
        case KIND_U16:
                *(uint16_t *)member = bytes_get_u16(value.data);
                break;
        case KIND_U32:
                *(uint32_t *)member = bytes_get_u32(value.data);
                break;
        default:
                *(uint64_t *)member = bytes_get_u64(value.data);
                break;
        }
        return 0;
}

static int secret_unpack(const struct field_info *field, struct bytes value, struct secret **ret_secret)
{
        uint8_t *view;
        int r;

        if (value.n != field->maximum)
                return FRAME_E_INVALID;
        r = secret_new(ret_secret, value.n);
        if (r < 0)
                return r;
        view = secret_view_begin(*ret_secret);
        memcpy(view, value.data, value.n);
        secret_view_end(*ret_secret, &view);
        return 0;
}

static int value_unpack(const struct field_info *field, struct bytes value, void *member)
{
        switch (field->kind) {
        case KIND_UUID:
                if (value.n != UUID_SIZE)
                        return FRAME_E_INVALID;
                *(const uint8_t **)member = value.data;
                return 0;
        case KIND_PAIRS:
                return value.n <= field->maximum && pairs_unpack(member, value) == 0 ? 0 : FRAME_E_INVALID;
        case KIND_SECRET:
                return secret_unpack(field, value, member);
        case KIND_BYTES:
        case KIND_TEXT:
        case KIND_JSON:
                if (bytes_check(field, value) < 0)
                        return FRAME_E_INVALID;
                *(struct bytes *)member = value;
                return 0;
        default:
                return integer_unpack(field, value, member);
        }
}

/* ---- frames ---- */

static uint32_t frame_limit(unsigned flags)
{
        return flags & MESSAGE_FLAG_KEY ? FRAME_KEY_MAX : FRAME_MAX;
}

/* Tells as early as the bytes allow that a frame is wrong, so that nobody waits for the rest of one. */
int frame_header_unpack(struct frame_header *ret_header, const uint8_t *data, size_t n)
{
        struct frame_header header;
        uint32_t length;

        if (n < 4)
                return FRAME_E_INCOMPLETE;
        length = bytes_get_u32(data);
        if (length < FRAME_HEADER_SIZE - 4 || length > FRAME_MAX - 4)
                return FRAME_E_INVALID;
        if (n < FRAME_HEADER_SIZE)
                return FRAME_E_INCOMPLETE;
        header = (struct frame_header){ length + 4, bytes_get_u16(data + 4), bytes_get_u32(data + 8) };
        if (bytes_get_u16(data + 6) != 0 || header.length > frame_limit(message_flags(header.number)))
                return FRAME_E_INVALID;
        *ret_header = header;
        return 0;
}

/* Fill @message by the fields in @rest. Known tags that are passed over were left out. */
static int fields_unpack(const struct message_info *info, struct bytes rest, uint8_t *message)
{
        const struct field_info *field = info->fields;
        uint16_t tag, last = 0;

        for (; rest.n > 0; last = tag) {
                struct bytes value;
                int r;

                if (rest.n < FRAME_FIELD_HEADER_SIZE)
                        return FRAME_E_INVALID;
                tag = bytes_get_u16(rest.data);
                value = (struct bytes){ rest.data + FRAME_FIELD_HEADER_SIZE, bytes_get_u32(rest.data + 2) };
                if (tag <= last || value.n > rest.n - FRAME_FIELD_HEADER_SIZE)
                        return FRAME_E_INVALID;
                rest.data += FRAME_FIELD_HEADER_SIZE + value.n;
                rest.n -= FRAME_FIELD_HEADER_SIZE + value.n;

                for (; field->tag != 0 && field->tag < tag; field++) {
                        if (field->must)
                                return FRAME_E_INVALID;
                }
                if (field->tag != tag)
                        continue;
                r = value_unpack(field, value, message + field->offset);
                if (r != 0)
                        return r;
                field++;
        }
        for (; field->tag != 0; field++) {
                if (field->must)
                        return FRAME_E_INVALID;
        }
        return 0;
}

int message_unpack(union message *ret_message, const uint8_t *data, size_t n)
{
        const struct message_info *info;
        struct frame_header header;
        union message message;
        int r;

        if (frame_header_unpack(&header, data, n) != 0 || header.length != n)
                return FRAME_E_INVALID;
        info = message_find(header.number);
        if (!info)
                return FRAME_E_UNKNOWN;
        memset(&message, 0, info->size);
        message.number = header.number;
        r = fields_unpack(info, (struct bytes){ data + FRAME_HEADER_SIZE, n - FRAME_HEADER_SIZE }, (uint8_t *)&message);
        if (r != 0) {
                message_deinit(&message);
                return r;
        }
        memcpy(ret_message, &message, info->size);
        return 0;
}

void message_deinit(union message *message)
{
        const struct message_info *info = message_find(message->number);

        if (!info || !(info->flags & MESSAGE_FLAG_KEY))
                return;
        for (const struct field_info *field = info->fields; field->tag != 0; field++) {
                if (field->kind == KIND_SECRET) {
                        struct secret **secret = (struct secret **)(void *)((uint8_t *)message + field->offset);

                        *secret = secret_unref(*secret);
                }
        }
}

int message_measure(const union message *message, size_t *ret_n)
{
        const struct message_info *info = message_find(message->number);
        size_t size = FRAME_HEADER_SIZE;

        if (!info)
                return -EINVAL;
        for (const struct field_info *field = info->fields; field->tag != 0; field++) {
                bool present;
                size_t n;
                int r = value_measure(field, (const uint8_t *)message + field->offset, &present, &n);

                if (r < 0)
                        return r;
                if (present)
                        size += FRAME_FIELD_HEADER_SIZE + n;
                else if (field->must)
                        return -EINVAL;
        }
        if (size > frame_limit(info->flags))
                return -EMSGSIZE;
        *ret_n = size;
        return 0;
}

int message_pack(const union message *message, uint32_t request_id, uint8_t *data, size_t n, size_t *ret_n)
{
        const struct message_info *info = message_find(message->number);
        size_t size = FRAME_HEADER_SIZE;

        if (!info)
                return -EINVAL;
        if (n > frame_limit(info->flags))
                n = frame_limit(info->flags);
        if (n < size)
                return -EMSGSIZE;
        for (const struct field_info *field = info->fields; field->tag != 0; field++) {
                const uint8_t *member = (const uint8_t *)message + field->offset;
                bool present;
                size_t n_value;
                int r = value_measure(field, member, &present, &n_value);

                if (r == 0 && !present && field->must)
                        r = -EINVAL;
                if (r < 0)
                        return r;
                if (!present)
                        continue;
                if (n - size < FRAME_FIELD_HEADER_SIZE || n - size - FRAME_FIELD_HEADER_SIZE < n_value)
                        return -EMSGSIZE;
                bytes_put_u16(data + size, field->tag);
                bytes_put_u32(data + size + 2, (uint32_t)n_value);
                value_pack(field, member, data + size + FRAME_FIELD_HEADER_SIZE, n_value);
                size += FRAME_FIELD_HEADER_SIZE + n_value;
        }
        bytes_put_u32(data, (uint32_t)size - 4);
        bytes_put_u16(data + 4, (uint16_t)message->number);
        bytes_put_u16(data + 6, 0);
        bytes_put_u32(data + 8, request_id);
        *ret_n = size;
        return 0;
}

/* ---- names ---- */

const char *message_name(uint16_t number)
{
        const struct message_info *info = message_find(number);

        return info ? info->name : "?";
}

unsigned message_flags(uint16_t number)
{
        const struct message_info *info = message_find(number);

        return info ? info->flags : 0;
}

const char *message_summary(uint16_t number)
{
        const struct message_info *info = message_find(number);

        return info ? info->summary : "";
}

const char *proto_error_name(unsigned code)
{
        switch (code) {
#define PROTO_ERROR(NAME, number, sentence)                                                                            \
        case number:                                                                                                   \
                return #NAME;
#include "proto/errors.def"
#undef PROTO_ERROR
        default:
                return "?";
        }
}

const char *proto_error_sentence(unsigned code)
{
        switch (code) {
#define PROTO_ERROR(NAME, number, sentence)                                                                            \
        case number:                                                                                                   \
                return sentence;
#include "proto/errors.def"
#undef PROTO_ERROR
        default:
                return "An error that this program does not know. Update it.";
        }
}
