/* SPDX-License-Identifier: Apache-2.0 */
#include "client/key.h"

#include <errno.h>
#include <unistd.h>

enum { LIBRARY_NAME_MAX = 32, KEY_RESTORES_WAL = 4 /* the third flag of a KEY, which is the library's own business */ };

struct lkm_key {
        struct secret *secret;
        struct secret *text; /* the formatted view that is open, or NULL */
        bool viewed;
        uint8_t database_id[UUID_SIZE];
        uint32_t version, flags, compatibility, page_size, pending;
        char scope[SCOPE_NAME_MAX + 1];
        char library[LIBRARY_NAME_MAX + 1];
};

/* @to is all zero, and has room for the longest text that the message may have. */
static void copy_text(char *to, struct bytes text)
{
        if (text.n > 0)
                memcpy(to, text.data, text.n);
}

int key_new(struct lkm_key **ret_key, struct message_key *m)
{
        struct lkm_key *key;

        if (!m->key || secret_size(m->key) != KEY_SIZE || !m->database_id || m->scope.n > SCOPE_NAME_MAX ||
            m->cipher_library.n > LIBRARY_NAME_MAX)
                return -EBADMSG;
        key = calloc(1, sizeof(*key));
        if (!key)
                return -ENOMEM;
        key->secret = TAKE_PTR(m->key);
        memcpy(key->database_id, m->database_id, UUID_SIZE);
        key->version = m->version;
        key->flags = m->flags;
        key->compatibility = m->cipher_compatibility;
        key->page_size = m->page_size;
        key->pending = m->pending;
        copy_text(key->scope, m->scope);
        copy_text(key->library, m->cipher_library);
        *ret_key = key;
        return 0;
}

void lkm_key_free(struct lkm_key **key)
{
        struct lkm_key *k = key ? TAKE_PTR(*key) : NULL;

        if (!k)
                return;
        if (!secret_arena_forked()) {
                secret_unref(k->text);
                secret_unref(k->secret);
        }
        free(k);
}

int lkm_key_info(const struct lkm_key *key, struct lkm_key_info *ret_info)
{
        if (!key || !ret_info)
                return LKM_E_ARGUMENT;
        *ret_info = (struct lkm_key_info){
                .version = key->version,
                .flags = key->flags & (LKM_KEY_STALE | LKM_KEY_ROTATION_DUE),
                .scope = key->scope,
                .cipher_library = key->library,
                .cipher_compatibility = key->compatibility,
                .page_size = key->page_size,
                .pending = key->pending,
        };
        memcpy(ret_info->database_id, key->database_id, UUID_SIZE);
        return 0;
}

struct secret *key_secret(struct lkm_key *key)
{
        return key->secret;
}

bool key_restores_wal(const struct lkm_key *key)
{
        return key->flags & KEY_RESTORES_WAL;
}

/* "x'" digits "'" or the digits alone, and a NUL, into a secret of their own. */
static int key_format(struct lkm_key *key, bool quoted)
{
        size_t before = quoted ? 2 : 0, n = before + 2 * KEY_SIZE + (quoted ? 1 : 0);
        uint8_t *raw, *text;
        int r = secret_new(&key->text, n + 1);

        if (r < 0)
                return r;
        raw = secret_view_begin(key->secret);
        text = secret_view_begin(key->text);
        hex_format((char *)text + before, raw, KEY_SIZE);
        if (quoted) {
                text[0] = 'x';
                text[1] = text[n - 1] = '\'';
                text[n] = '\0';
        }
        secret_view_end(key->text, &text);
        secret_view_end(key->secret, &raw);
        return 0;
}

int lkm_key_view_begin(struct lkm_key *key, enum lkm_format format, const uint8_t **ret_bytes, size_t *ret_n)
{
        if (!key || !ret_bytes || !ret_n || (unsigned)format > LKM_FORMAT_PRAGMA)
                return LKM_E_ARGUMENT;
        if (secret_arena_forked())
                return LKM_E_FORKED;
        if (key->viewed || (format != LKM_FORMAT_RAW && key_format(key, format == LKM_FORMAT_PRAGMA) < 0))
                return LKM_E_BUSY;
        key->viewed = true;
        *ret_bytes = secret_view_begin(key->text ? key->text : key->secret);
        *ret_n = key->text ? secret_size(key->text) - 1 : KEY_SIZE;
        return 0;
}

void lkm_key_view_end(struct lkm_key *key, const uint8_t **bytes)
{
        if (bytes)
                *bytes = NULL;
        if (!key || secret_arena_forked())
                return;
        key->viewed = false;
        key->text = secret_unref(key->text);
}
