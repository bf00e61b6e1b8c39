/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/origin.h"

#include <stdlib.h>
#include <string.h>

static char *put(const char **ret_text, char *at, struct bytes text)
{
        *ret_text = at;
        if (text.n > 0)
                memcpy(at, text.data, text.n);
        at[text.n] = '\0';
        return at + text.n + 1;
}

struct origin *origin_new(const char *kek, struct bytes kek_id, struct bytes request_id)
{
        struct bytes name = bytes_from_string(kek);
        struct origin *o = malloc(sizeof(*o) + name.n + kek_id.n + request_id.n + 3);
        char *at;

        if (!o)
                return NULL;
        at = (char *)(o + 1);
        o->n_refs = 1;
        at = put(&o->kek, at, name);
        at = put(&o->kek_id, at, kek_id);
        put(&o->request_id, at, request_id);
        return o;
}

struct origin *origin_ref(struct origin *o)
{
        if (o)
                o->n_refs++;
        return o;
}

struct origin *origin_unref(struct origin *o)
{
        if (o && --o->n_refs == 0)
                free(o);
        return NULL;
}
