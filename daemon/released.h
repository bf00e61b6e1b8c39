/* SPDX-License-Identifier: Apache-2.0 */
/*
 * released: the keys that one connection was given, and how often since the last summing up. A set of cache serials,
 * open addressing. Owned by its connection.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"

struct released_key {
        uint64_t serial; /* of the cache entry; 0 = free place */
        uint64_t n_repeats;
        uint64_t audit_sequence; /* of the line that says so */
        uint8_t database_id[UUID_SIZE];
        uint32_t version;
};

struct released {
        size_t n, n_places;
        struct released_key *places;
};

void released_deinit(struct released *r);
/** released_find() - or NULL. */
struct released_key *released_find(const struct released *r, uint64_t serial);
/** released_reserve() - make sure that the next released_add() cannot fail. Return: 0 or -ENOMEM. */
int released_reserve(struct released *r);
void released_add(struct released *r, const struct released_key *key);
