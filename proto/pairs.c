/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encryption contexts. Their packed form is authenticated with every wrap, so there is exactly one for each set of
 * pairs: sorted, no key twice, and anything else is refused on the way in and on the way out.
 */
#include <errno.h>

#include "proto/frame.h"

static int bytes_order(struct bytes a, struct bytes b)
{
        size_t n = a.n < b.n ? a.n : b.n;

        for (size_t i = 0; i < n; i++) {
                if (a.data[i] != b.data[i])
                        return a.data[i] < b.data[i] ? -1 : 1;
        }
        return a.n < b.n ? -1 : a.n > b.n;
}

size_t pairs_pack_size(const struct pairs *pairs)
{
        size_t n = 2;

        for (size_t i = 0; i < pairs->n; i++)
                n += 4 + pairs->pair[i].key.n + pairs->pair[i].value.n;
        return n;
}

int pairs_sort(struct pairs *pairs)
{
        for (size_t i = 1; i < pairs->n; i++) {
                for (size_t j = i; j > 0; j--) {
                        int order = bytes_order(pairs->pair[j - 1].key, pairs->pair[j].key);
                        __typeof__(pairs->pair[0]) swap = pairs->pair[j];

                        if (order == 0)
                                return -EEXIST;
                        if (order < 0)
                                break;
                        pairs->pair[j] = pairs->pair[j - 1];
                        pairs->pair[j - 1] = swap;
                }
        }
        return 0;
}

int pairs_check(const struct pairs *pairs)
{
        if (pairs->n > PAIRS_MAX)
                return -EMSGSIZE;
        for (size_t i = 0; i < pairs->n; i++) {
                struct bytes key = pairs->pair[i].key, value = pairs->pair[i].value;

                if (key.n > PAIR_KEY_MAX || value.n > PAIR_VALUE_MAX)
                        return -EMSGSIZE;
                if (key.n == 0 || !bytes_is_text(key) || !bytes_is_text(value))
                        return -EINVAL;
                if (i > 0 && bytes_order(pairs->pair[i - 1].key, key) >= 0)
                        return -EINVAL;
        }
        return 0;
}

static uint8_t *short_put(uint8_t *p, struct bytes b)
{
        bytes_put_u16(p, (uint16_t)b.n);
        if (b.n > 0)
                memcpy(p + 2, b.data, b.n);
        return p + 2 + b.n;
}

int pairs_pack(const struct pairs *pairs, uint8_t *data, size_t n, size_t *ret_n)
{
        uint8_t *p;
        int r = pairs_check(pairs);

        if (r < 0)
                return r;
        if (pairs_pack_size(pairs) > n)
                return -EMSGSIZE;
        bytes_put_u16(data, (uint16_t)pairs->n);
        p = data + 2;
        for (size_t i = 0; i < pairs->n; i++)
                p = short_put(short_put(p, pairs->pair[i].key), pairs->pair[i].value);
        *ret_n = (size_t)(p - data);
        return 0;
}

static bool short_get(struct bytes *ret, struct bytes *rest)
{
        size_t n;

        if (rest->n < 2)
                return false;
        n = bytes_get_u16(rest->data);
        if (rest->n - 2 < n)
                return false;
        *ret = (struct bytes){ rest->data + 2, n };
        rest->data += 2 + n;
        rest->n -= 2 + n;
        return true;
}

int pairs_unpack(struct pairs *ret_pairs, struct bytes value)
{
        struct pairs pairs = { 0 };
        struct bytes rest;

        if (value.n < 2)
                return -EINVAL;
        rest = (struct bytes){ value.data + 2, value.n - 2 };
        pairs.n = bytes_get_u16(value.data);
        if (pairs.n > PAIRS_MAX)
                return -EINVAL;
        for (size_t i = 0; i < pairs.n; i++) {
                if (!short_get(&pairs.pair[i].key, &rest) || !short_get(&pairs.pair[i].value, &rest))
                        return -EINVAL;
        }
        if (rest.n != 0 || pairs_check(&pairs) < 0)
                return -EINVAL;
        *ret_pairs = pairs;
        return 0;
}
