/* SPDX-License-Identifier: Apache-2.0 */
#include "client/sidefile.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>

#include "common/cleanup.h"

static void json_decref_p(json_t **json)
{
        json_decref(*json);
}

static bool is_salt(size_t n)
{
        return n >= SIDEFILE_SALT_MIN && n <= SIDEFILE_SALT_MAX;
}

static void add_hex(struct sidefile *s, struct bytes text)
{
        struct sidefile_salt *salt = &s->salts[s->n_salts];

        salt->n = text.n / 2;
        if (text.n % 2 == 0 && is_salt(salt->n) && hex_parse(salt->bytes, salt->n, (const char *)text.data, text.n) == 0)
                s->n_salts++;
}

static void add_base64(struct sidefile *s, struct bytes text)
{
        struct sidefile_salt *salt = &s->salts[s->n_salts];
        uint8_t room[BASE64_LENGTH(SIDEFILE_SALT_MAX)];
        size_t n;

        if (text.n > sizeof(room) || base64_parse(room, &n, (const char *)text.data, text.n) < 0 || !is_salt(n))
                return;
        memcpy(salt->bytes, room, n);
        salt->n = n;
        s->n_salts++;
}

static void add_raw(struct sidefile *s, struct bytes content)
{
        struct sidefile_salt *salt = &s->salts[s->n_salts];

        if (!is_salt(content.n))
                return;
        memcpy(salt->bytes, content.data, content.n);
        salt->n = content.n;
        s->n_salts++;
}

static struct bytes trimmed(struct bytes text)
{
        while (text.n > 0 && strchr(" \t\r\n", text.data[text.n - 1]) && text.data[text.n - 1])
                text.n--;
        return text;
}

static int parse_json(struct sidefile *s, json_t *json)
{
        json_t *salt = json_object_get(json, "salt"), *iterations = json_object_get(json, "iterations");
        json_int_t rounds = json_integer_value(iterations);

        if (!json_is_string(salt) || (iterations && (rounds < 1 || rounds > UINT32_MAX)))
                return SIDEFILE_E_INVALID;
        s->rounds = (uint32_t)rounds;
        add_hex(s, bytes_from_string(json_string_value(salt)));
        add_base64(s, bytes_from_string(json_string_value(salt)));
        return s->n_salts > 0 ? 0 : SIDEFILE_E_INVALID;
}

int sidefile_parse(struct sidefile *ret_sidefile, struct bytes content)
{
        _cleanup_(json_decref_p) json_t *json = json_loadb((const char *)content.data, content.n, JSON_REJECT_DUPLICATES, NULL);
        struct sidefile s = { .n_salts = 0 };
        int r = 0;

        if (json_is_object(json)) {
                r = parse_json(&s, json);
        } else {
                add_hex(&s, trimmed(content));
                add_base64(&s, trimmed(content));
                add_raw(&s, content);
        }
        if (r == 0 && s.n_salts == 0)
                r = SIDEFILE_E_INVALID;
        if (r == 0)
                *ret_sidefile = s;
        return r;
}

int sidefile_read(struct sidefile *ret_sidefile, const char *path)
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        uint8_t content[SIDEFILE_SIZE_MAX + 1];
        size_t n = 0;
        ssize_t k;

        if (fd < 0)
                return -errno;
        do {
                k = read(fd, content + n, sizeof(content) - n);
                if (k < 0 && errno != EINTR)
                        return -errno;
                n += k > 0 ? (size_t)k : 0;
        } while (k != 0 && n < sizeof(content));
        return n > SIDEFILE_SIZE_MAX ? SIDEFILE_E_INVALID : sidefile_parse(ret_sidefile, (struct bytes){ content, n });
}
