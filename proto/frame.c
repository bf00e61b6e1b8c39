/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame.h"

#include <errno.h>
#include <string.h>

/* ---- messages.def as data ---- */

enum kind { KIND_U8, KIND_U16, KIND_U32, KIND_U64, KIND_UUID, KIND_BYTES, KIND_TEXT, KIND_JSON, KIND_PAIRS, KIND_SECRET };
enum { MAY = 0, MUST = 1 };
enum { REQUEST = MESSAGE_FLAG_REQUEST, REPLY = MESSAGE_FLAG_REPLY, KEY = MESSAGE_FLAG_KEY };

struct field {
        uint16_t tag;
        enum kind kind;
        int must;
        uint32_t maximum; /* bytes; 0 = fixed by the kind */
        size_t offset;    /* in the message's struct */
};

struct message_description {
        const char *name, *summary;
        uint16_t number;
        unsigned flags;
        const struct field *fields;
        size_t n_fields;
};

#define MESSAGE(NAME, name, number, flags, text) static const struct field fields_##name[] = {
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text) \
        { tag, KIND_##kind, flags, maximum, offsetof(struct message_##name, field) },
#define MESSAGE_END(NAME, name) { 0 } };
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END

static const struct message_description descriptions[] = {
#define MESSAGE(NAME, name, number, flags, text) { #NAME, text, number, flags, fields_##name, ELEMENTSOF(fields_##name) - 1 },
#define FIELD(NAME, name, field, tag, kind, flags, maximum, text)
#define MESSAGE_END(NAME, name)
#include "proto/messages.def"
#undef MESSAGE
#undef FIELD
#undef MESSAGE_END
};

static const struct message_description *describe(uint16_t number)
{
        for (size_t i = 0; i < ELEMENTSOF(descriptions); i++) {
                if (descriptions[i].number == number)
                        return &descriptions[i];
        }
        return NULL;
}

const char *message_name(uint16_t number)
{
        const struct message_description *d = describe(number);

        return d ? d->name : "?";
}

unsigned message_flags(uint16_t number)
{
        const struct message_description *d = describe(number);

        return d ? d->flags : 0;
}

const char *message_summary(uint16_t number)
{
        const struct message_description *d = describe(number);

        return d ? d->summary : "";
}

static const struct {
        unsigned number;
        const char *name, *sentence;
} errors[] = {
#define PROTO_ERROR(NAME, number, sentence) { number, #NAME, sentence },
#include "proto/errors.def"
#undef PROTO_ERROR
};

const char *proto_error_name(unsigned code)
{
        for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
                if (errors[i].number == code)
                        return errors[i].name;
        }
        return "?";
}

const char *proto_error_sentence(unsigned code)
{
        for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
                if (errors[i].number == code)
                        return errors[i].sentence;
        }
        return "An error that this program does not know. Update it.";
}

/* ---- pairs ---- */

size_t pairs_pack_size(const struct pairs *pairs)
{
        size_t n = 1;

        for (size_t i = 0; i < pairs->n; i++)
                n += 4 + pairs->pair[i].key.n + pairs->pair[i].value.n;
        return n;
}

/* Return: below, equal to or above 0 as strcmp() does. */
static int pairs_compare(struct bytes a, struct bytes b)
{
        for (size_t i = 0; i < a.n && i < b.n; i++) {
                if (a.data[i] != b.data[i])
                        return a.data[i] - b.data[i];
        }
        return a.n < b.n ? -1 : a.n > b.n;
}

int pairs_sort(struct pairs *pairs)
{
        for (size_t i = 1; i < pairs->n; i++) {
                for (size_t j = i; j > 0; j--) {
                        int order = pairs_compare(pairs->pair[j - 1].key, pairs->pair[j].key);
                        __typeof__(pairs->pair[0]) swapped = pairs->pair[j];

                        if (order == 0)
                                return -EEXIST;
                        if (order < 0)
                                break;
                        pairs->pair[j] = pairs->pair[j - 1];
                        pairs->pair[j - 1] = swapped;
                }
        }
        return 0;
}

static uint8_t *string_pack(uint8_t *p, struct bytes text)
{
        bytes_put_u16(p, (uint16_t)text.n);
        if (text.n > 0)
                memcpy(p + 2, text.data, text.n);
        return p + 2 + text.n;
}

static void pairs_pack(uint8_t *p, const struct pairs *pairs)
{
        *p++ = (uint8_t)pairs->n;
        for (size_t i = 0; i < pairs->n; i++) {
                p = string_pack(p, pairs->pair[i].key);
                p = string_pack(p, pairs->pair[i].value);
        }
}

static bool string_unpack(struct bytes *ret_text, const uint8_t **p, const uint8_t *end, size_t maximum)
{
        size_t n;

        if (end - *p < 2)
                return false;
        n = bytes_get_u16(*p);
        *p += 2;
        if (n > maximum || (size_t)(end - *p) < n)
                return false;
        *ret_text = (struct bytes){ *p, n };
        *p += n;
        return bytes_is_text(*ret_text);
}

static bool pairs_unpack(struct pairs *ret_pairs, const uint8_t *p, size_t n)
{
        const uint8_t *end = p + n;

        if (n == 0 || *p > PAIRS_MAX)
                return false;
        ret_pairs->n = *p++;
        for (size_t i = 0; i < ret_pairs->n; i++) {
                if (!string_unpack(&ret_pairs->pair[i].key, &p, end, PAIR_KEY_MAX) ||
                    !string_unpack(&ret_pairs->pair[i].value, &p, end, PAIR_VALUE_MAX))
                        return false;
                if (i > 0 && pairs_compare(ret_pairs->pair[i - 1].key, ret_pairs->pair[i].key) >= 0)
                        return false;
        }
        return p == end;
}

static bool pairs_fit(const struct pairs *pairs)
{
        if (pairs->n > PAIRS_MAX)
                return false;
        for (size_t i = 0; i < pairs->n; i++) {
                if (pairs->pair[i].key.n > PAIR_KEY_MAX || pairs->pair[i].value.n > PAIR_VALUE_MAX)
                        return false;
        }
        return true;
}

/* ---- fields ---- */

static size_t kind_fixed_size(enum kind kind)
{
        static const uint8_t sizes[] = { [KIND_U8] = 1, [KIND_U16] = 2, [KIND_U32] = 4, [KIND_U64] = 8, [KIND_UUID] = UUID_SIZE,
                                         [KIND_SECRET] = 0 };

        return (size_t)kind < sizeof(sizes) ? sizes[kind] : 0;
}

static bool field_unpack(const struct field *field, void *at, const uint8_t *p, size_t n)
{
        size_t fixed = kind_fixed_size(field->kind);

        if (fixed ? n != fixed : n > field->maximum)
                return false;
        switch (field->kind) {
        case KIND_U8:
                *(uint8_t *)at = *p;
                return true;
        case KIND_U16:
                *(uint16_t *)at = bytes_get_u16(p);
                return true;
        case KIND_U32:
                *(uint32_t *)at = bytes_get_u32(p);
                return true;
        case KIND_U64:
                *(uint64_t *)at = bytes_get_u64(p);
                return true;
        case KIND_UUID:
                *(const uint8_t **)at = p;
                return true;
        case KIND_TEXT:
                *(struct bytes *)at = (struct bytes){ p, n };
                return bytes_is_text(*(struct bytes *)at);
        case KIND_BYTES:
        case KIND_JSON:
                *(struct bytes *)at = (struct bytes){ p, n };
                return true;
        case KIND_PAIRS:
                return pairs_unpack(at, p, n);
        case KIND_SECRET:
                /* Noted here, made when the whole frame has proved sound. */
                return n > 0;
        }
        return false;
}

/* Bytes of a field's value; 0 with *ret_present false when it is absent; SIZE_MAX over its maximum. */
static size_t field_size(const struct field *field, const void *at, bool *ret_present)
{
        size_t n = 0;

        *ret_present = true;
        switch (field->kind) {
        case KIND_U8:
                *ret_present = *(const uint8_t *)at != 0;
                break;
        case KIND_U16:
                *ret_present = *(const uint16_t *)at != 0;
                break;
        case KIND_U32:
                *ret_present = *(const uint32_t *)at != 0;
                break;
        case KIND_U64:
                *ret_present = *(const uint64_t *)at != 0;
                break;
        case KIND_UUID:
                *ret_present = *(const uint8_t *const *)at != NULL;
                break;
        case KIND_BYTES:
        case KIND_TEXT:
        case KIND_JSON:
                n = ((const struct bytes *)at)->n;
                *ret_present = n > 0;
                break;
        case KIND_PAIRS:
                n = pairs_pack_size(at);
                *ret_present = ((const struct pairs *)at)->n > 0;
                if (!pairs_fit(at))
                        return SIZE_MAX;
                break;
        case KIND_SECRET:
                *ret_present = *(struct secret *const *)at != NULL;
                n = *ret_present ? secret_size(*(struct secret *const *)at) : 0;
                break;
        }
        if (kind_fixed_size(field->kind))
                return kind_fixed_size(field->kind);
        return n > field->maximum ? SIZE_MAX : n;
}

static void field_pack(const struct field *field, const void *at, uint8_t *p, size_t n)
{
        uint8_t *view;

        switch (field->kind) {
        case KIND_U8:
                *p = *(const uint8_t *)at;
                return;
        case KIND_U16:
                bytes_put_u16(p, *(const uint16_t *)at);
                return;
        case KIND_U32:
                bytes_put_u32(p, *(const uint32_t *)at);
                return;
        case KIND_U64:
                bytes_put_u64(p, *(const uint64_t *)at);
                return;
        case KIND_UUID:
                memcpy(p, *(const uint8_t *const *)at, UUID_SIZE);
                return;
        case KIND_BYTES:
        case KIND_TEXT:
        case KIND_JSON:
                if (n > 0)
                        memcpy(p, ((const struct bytes *)at)->data, n);
                return;
        case KIND_PAIRS:
                pairs_pack(p, at);
                return;
        case KIND_SECRET:
                view = secret_view_begin(*(struct secret *const *)at);
                memcpy(p, view, n);
                secret_view_end(*(struct secret *const *)at, &view);
                return;
        }
}

/* ---- frames ---- */

int frame_header_unpack(struct frame_header *ret_header, const uint8_t *data, size_t n)
{
        struct frame_header header;

        if (n < FRAME_HEADER_SIZE)
                return FRAME_E_INCOMPLETE;
        header.length = bytes_get_u32(data);
        if (header.length < FRAME_HEADER_SIZE - 4 || header.length > FRAME_MAX - 4)
                return FRAME_E_INVALID;
        header.length += 4;
        header.number = bytes_get_u16(data + 4);
        header.request_id = bytes_get_u32(data + 8);
        if (bytes_get_u16(data + 6) != 0)
                return FRAME_E_INVALID;
        if ((message_flags(header.number) & MESSAGE_FLAG_KEY) && header.length > FRAME_KEY_MAX)
                return FRAME_E_INVALID;
        *ret_header = header;
        return 0;
}

/* Parse the fields into @message; where a secret stands goes to *ret_secret. */
static int fields_unpack(const struct message_description *d, union message *message, const uint8_t *p, const uint8_t *end,
                         struct bytes *ret_secret)
{
        size_t i = 0;
        uint32_t last = 0;

        while (p < end) {
                uint16_t tag;
                uint32_t n;

                if (end - p < FRAME_FIELD_HEADER_SIZE)
                        return FRAME_E_INVALID;
                tag = bytes_get_u16(p);
                n = bytes_get_u32(p + 2);
                p += FRAME_FIELD_HEADER_SIZE;
                if (tag <= last || n > (size_t)(end - p))
                        return FRAME_E_INVALID;
                last = tag;
                for (; i < d->n_fields && d->fields[i].tag < tag; i++) {
                        if (d->fields[i].must)
                                return FRAME_E_INVALID;
                }
                if (i < d->n_fields && d->fields[i].tag == tag) {
                        if (!field_unpack(&d->fields[i], (uint8_t *)message + d->fields[i].offset, p, n))
                                return FRAME_E_INVALID;
                        if (d->fields[i].kind == KIND_SECRET)
                                *ret_secret = (struct bytes){ p, n };
                        i++;
                }
                p += n;
        }
        for (; i < d->n_fields; i++) {
                if (d->fields[i].must)
                        return FRAME_E_INVALID;
        }
        return 0;
}

static struct secret **message_secret(const struct message_description *d, union message *message)
{
        for (size_t i = 0; i < d->n_fields; i++) {
                if (d->fields[i].kind == KIND_SECRET)
                        return (struct secret **)(void *)((uint8_t *)message + d->fields[i].offset);
        }
        return NULL;
}

int message_unpack(union message *ret_message, const uint8_t *data, size_t n)
{
        struct frame_header header;
        union message message = { 0 };
        const struct message_description *d;
        struct bytes secret = { 0 };
        uint8_t *view;
        int r;

        if (frame_header_unpack(&header, data, n) != 0 || header.length != n)
                return FRAME_E_INVALID;
        d = describe(header.number);
        if (!d)
                return FRAME_E_UNKNOWN;
        r = fields_unpack(d, &message, data + FRAME_HEADER_SIZE, data + n, &secret);
        if (r)
                return r;
        message.number = (enum message_number)header.number;
        if (secret.n > 0) {
                struct secret **at = message_secret(d, &message);

                r = secret_new(at, secret.n);
                if (r < 0)
                        return r;
                view = secret_view_begin(*at);
                memcpy(view, secret.data, secret.n);
                secret_view_end(*at, &view);
        }
        *ret_message = message;
        return 0;
}

void message_deinit(union message *message)
{
        const struct message_description *d = describe((uint16_t)message->number);
        struct secret **secret = d ? message_secret(d, message) : NULL;

        if (secret)
                *secret = secret_unref(*secret);
}

size_t message_size(const union message *message)
{
        const struct message_description *d = describe((uint16_t)message->number);
        size_t total = FRAME_HEADER_SIZE;
        bool present;

        for (size_t i = 0; d && i < d->n_fields; i++) {
                size_t n = field_size(&d->fields[i], (const uint8_t *)message + d->fields[i].offset, &present);

                if (n == SIZE_MAX)
                        return 0;
                if (present || d->fields[i].must)
                        total += FRAME_FIELD_HEADER_SIZE + n;
        }
        return d ? total : 0;
}

int message_pack(const union message *message, uint32_t request_id, uint8_t *data, size_t n, size_t *ret_n)
{
        const struct message_description *d = describe((uint16_t)message->number);
        size_t total = message_size(message);
        uint8_t *p = data + FRAME_HEADER_SIZE;
        bool present;

        if (total == 0 || total > n || total > (d->flags & MESSAGE_FLAG_KEY ? FRAME_KEY_MAX : FRAME_MAX))
                return -EMSGSIZE;
        for (size_t i = 0; i < d->n_fields; i++) {
                const void *at = (const uint8_t *)message + d->fields[i].offset;
                size_t length = field_size(&d->fields[i], at, &present);

                if (!present && !d->fields[i].must)
                        continue;
                if (!present && (d->fields[i].kind == KIND_UUID || d->fields[i].kind == KIND_SECRET))
                        return -EINVAL;
                bytes_put_u16(p, d->fields[i].tag);
                bytes_put_u32(p + 2, (uint32_t)length);
                field_pack(&d->fields[i], at, p + FRAME_FIELD_HEADER_SIZE, length);
                p += FRAME_FIELD_HEADER_SIZE + length;
        }
        bytes_put_u32(data, (uint32_t)(total - 4));
        bytes_put_u16(data + 4, d->number);
        bytes_put_u16(data + 6, 0);
        bytes_put_u32(data + 8, request_id);
        *ret_n = total;
        return 0;
}
