/* SPDX-License-Identifier: Apache-2.0 */
/*
 * origin: which KEK a key came from, and what the log of its KMS calls the request: what the audit log says of a key that is
 * released, however long after. Immutable, counted; an entry of the cache and the work that made it share one.
 */
#pragma once

#include "common/bytes.h"

struct origin {
        unsigned n_refs;
        const char *kek;        /* name of the [kek NAME] section */
        const char *kek_id;     /* as the KMS calls it */
        const char *request_id; /* of the call to the KMS; "" when it did not tell */
};

/** origin_new() - copies the texts. NULL when out of memory. */
struct origin *origin_new(const char *kek, struct bytes kek_id, struct bytes request_id);
/** origin_ref() - @o, which may be NULL, with one reference more. */
struct origin *origin_ref(struct origin *o);
/** origin_unref() - of one that may be NULL. Return: NULL. */
struct origin *origin_unref(struct origin *o);
