/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/duration.h"

#include <errno.h>

enum { SECONDS_MAX = 1000000000 };

static uint64_t unit_seconds(char unit)
{
        switch (unit) {
        case 's':
                return 1;
        case 'm':
                return 60;
        case 'h':
                return 3600;
        case 'd':
                return 86400;
        default:
                return 0;
        }
}

int duration_parse(uint64_t *ret_seconds, const char *text)
{
        uint64_t total = 0;

        if (text_number(ret_seconds, text, SECONDS_MAX))
                return 0;
        if (!*text)
                return -EINVAL;
        while (*text) {
                size_t n = strspn(text, TEXT_DIGITS);
                uint64_t unit = unit_seconds(text[n]);

                if (n < 1 || n > 9 || !unit)
                        return -EINVAL;
                total += strtoull(text, NULL, 10) * unit;
                if (total > SECONDS_MAX)
                        return -EINVAL;
                text += n + 1;
        }
        *ret_seconds = total;
        return 0;
}

int duration_member(uint64_t *ret_seconds, const json_t *object, const char *name, uint64_t otherwise)
{
        const json_t *value = json_object_get(object, name);

        *ret_seconds = otherwise;
        if (!value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0))
                return 0;
        if (json_is_string(value))
                return duration_parse(ret_seconds, json_string_value(value));
        if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) > SECONDS_MAX)
                return -EINVAL;
        *ret_seconds = (uint64_t)json_integer_value(value);
        return 0;
}

char *duration_format(uint64_t seconds)
{
        _cleanup_(freep) char *hours = text_format("%lluh", (unsigned long long)(seconds / 3600));
        _cleanup_(freep) char *minutes = text_format("%llum", (unsigned long long)(seconds / 60 % 60));
        _cleanup_(freep) char *rest = text_format("%llus", (unsigned long long)(seconds % 60));

        return text_format("%s%s%s", seconds >= 3600 ? hours : "", seconds / 60 % 60 ? minutes : "",
                           seconds % 60 || !seconds ? rest : "");
}
