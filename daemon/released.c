/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/released.h"

#include <errno.h>
#include <stdlib.h>

#include "common/huge.h"

void released_deinit(struct released *r)
{
        free(r->places);
        *r = (struct released){ 0 };
}

/* The place where @serial is or would be; there is always a free one. */
static struct released_key *released_place(const struct released *r, uint64_t serial)
{
        size_t i = (size_t)(serial * UINT64_C(0x9e3779b97f4a7c15) >> 20);

        while (r->places[i & (r->n_places - 1)].serial != 0 && r->places[i & (r->n_places - 1)].serial != serial)
                i++;
        return &r->places[i & (r->n_places - 1)];
}

struct released_key *released_find(const struct released *r, uint64_t serial)
{
        struct released_key *key;

        if (r->n == 0)
                return NULL;
        key = released_place(r, serial);
        return key->serial == serial ? key : NULL;
}

int released_reserve(struct released *r)
{
        struct released larger = { .n = r->n, .n_places = r->n_places ? r->n_places * 2 : 8 };

        if (r->n * 2 < r->n_places)
                return 0;
        larger.places = huge_calloc(larger.n_places, sizeof(*larger.places));
        if (!larger.places)
                return -ENOMEM;
        for (size_t i = 0; i < r->n_places; i++) {
                if (r->places[i].serial != 0)
                        *released_place(&larger, r->places[i].serial) = r->places[i];
        }
        free(r->places);
        *r = larger;
        return 0;
}

void released_add(struct released *r, const struct released_key *key)
{
        *released_place(r, key->serial) = *key;
        r->n++;
}
