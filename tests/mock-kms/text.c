/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/text.h"

#include <stdarg.h>
#include <sys/random.h>

static void *checked(void *memory)
{
        if (!memory) {
                fputs("lkm-mock-kms: out of memory\n", stderr);
                abort();
        }
        return memory;
}

void *memory_new(size_t n)
{
        return checked(calloc(1, n ? n : 1));
}

char *text_format(const char *format, ...)
{
        char *text = NULL;
        va_list list;

        va_start(list, format);
        if (vasprintf(&text, format, list) < 0)
                text = NULL;
        va_end(list);
        return checked(text);
}

char *text_copy(const char *text)
{
        return checked(strdup(text));
}

void text_set(char **slot, const char *text)
{
        char *copy = text ? text_copy(text) : NULL;

        free(*slot);
        *slot = copy;
}

void random_bytes(uint8_t *ret, size_t n)
{
        for (size_t at = 0; at < n;) {
                ssize_t got = getrandom(ret + at, n - at, 0);

                if (got > 0)
                        at += (size_t)got;
        }
}

char *text_random(const char *prefix, size_t n, const char *alphabet)
{
        size_t n_prefix = strlen(prefix), n_alphabet = strlen(alphabet);
        char *text = memory_new(n_prefix + n + 1);

        memcpy(text, prefix, n_prefix);
        for (size_t i = 0; i < n; i++) {
                uint8_t byte;

                random_bytes(&byte, 1);
                text[n_prefix + i] = alphabet[byte % n_alphabet];
        }
        return text;
}

char *text_uuid(void)
{
        uint8_t uuid[UUID_SIZE];
        char *text = memory_new(UUID_TEXT_LENGTH + 1);

        if (uuid_random(uuid) < 0)
                abort();
        uuid_format(text, uuid);
        return text;
}

char *text_hex(const uint8_t *data, size_t n)
{
        char *text = memory_new(2 * n + 1);

        hex_format(text, data, n);
        return text;
}

char *text_base64(const uint8_t *data, size_t n)
{
        char *text = memory_new(BASE64_LENGTH(n) + 1);

        base64_format(text, data, n);
        return text;
}

bool text_equal(const char *a, const char *b)
{
        return a && b ? strcmp(a, b) == 0 : a == b;
}

bool text_starts(const char *text, const char *prefix)
{
        return text && strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_ends(const char *text, const char *ending)
{
        size_t n = strlen(text), n_ending = strlen(ending);

        return n >= n_ending && strcmp(text + n - n_ending, ending) == 0;
}

bool text_number(uint64_t *ret_value, const char *text, uint64_t max)
{
        char *end;
        unsigned long long value;

        if (!text || !*text || strlen(text) > 18 || strspn(text, TEXT_DIGITS) != strlen(text))
                return false;
        value = strtoull(text, &end, 10);
        if (*end || value > max)
                return false;
        *ret_value = value;
        return true;
}

const char *json_text(const json_t *object, const char *name)
{
        return json_string_value(json_object_get(object, name));
}

int64_t json_number(const json_t *object, const char *name, int64_t otherwise)
{
        const json_t *value = json_object_get(object, name);

        return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

bool json_flag(const json_t *object, const char *name, bool otherwise)
{
        const json_t *value = json_object_get(object, name);

        return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

int64_t json_loose_number(const json_t *object, const char *name, int64_t otherwise)
{
        uint64_t value;

        if (text_number(&value, json_text(object, name), INT32_MAX))
                return (int64_t)value;
        return json_number(object, name, otherwise);
}

bool json_loose_flag(const json_t *object, const char *name, bool otherwise)
{
        const char *text = json_text(object, name);

        return text ? strcmp(text, "true") == 0 || strcmp(text, "1") == 0 : json_flag(object, name, otherwise);
}

json_t *json_take(json_t *value)
{
        return checked(value);
}

void json_put(json_t *object, const char *name, json_t *value)
{
        if (json_object_set_new(object, name, json_take(value)) < 0)
                checked(NULL);
}

void json_put_base64(json_t *object, const char *name, const uint8_t *data, size_t n)
{
        _cleanup_(freep) char *text = text_base64(data, n);

        json_put(object, name, json_string(text));
}
