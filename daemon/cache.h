/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache: live keys, found by the SHA-256 of the record that was verified with them. Owned by lkmd, one of them. Three
 * clocks, all CLOCK_BOOTTIME: fresh until the ttl; stale, for use only while the KMS is away, until the grace ends; and
 * nothing past the max age. Bounded; when full, the entry least recently used goes. Must not know of sockets, policy
 * or providers; the clock is passed in.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/list.h"
#include "common/secret.h"
#include "daemon/origin.h"
#include "daemon/record.h"

#define CACHE_DIGEST_SIZE 32

enum cache_reason { CACHE_REASON_EXPIRED, CACHE_REASON_CAPACITY, CACHE_REASON_ASKED, CACHE_REASON_DENIED, CACHE_REASON_ALL };

/** One live key. Fields are read-only outside cache.c, but for @refreshing. What a hit reads comes first, in few cache lines: among 100,000
 *  keys each line is a miss of the processor's cache. */
struct cache_entry {
        _Alignas(64) uint8_t digest[CACHE_DIGEST_SIZE];
        struct cache_entry *next_in_bucket;
        struct secret *key;
        uint64_t fresh_until_usec, wipe_at_usec;
        uint64_t refresh_at_usec, last_used_usec, uses;
        uint64_t serial;            /* unique in the life of the process */
        uint64_t rotation_due_usec; /* wall; USEC_INFINITY = never */
        uint8_t database_id[UUID_SIZE];
        uint32_t version, pending;  /* pending: of a rotation that has not ended, 0 = none */
        bool refreshing; /* a flight renews it */
        char scope[SCOPE_NAME_MAX + 1];
        char label[RECORD_LABEL_MAX + 1]; /* "" = none */
        struct record_cipher cipher;
        uint64_t rotated_wall_usec; /* when the current version began */
        uint64_t unwrapped_at_usec;
        uint64_t touched_usec; /* position in the use order, see cache.c */
        struct list by_use;
        size_t heap_index;
        struct origin *origin; /* of the key, for the audit log; NULL when it is not known */
};

/** How long a key lives, from its scope. */
struct cache_times {
        uint64_t ttl_usec, stale_grace_usec, max_age_usec;
};

struct cache_counters {
        uint64_t hits, misses, stale, evictions;
};

struct cache;

/** Told of every entry that goes, after its key was wiped; must not call back into the cache. */
typedef void (*cache_evicted_fn)(void *userdata, const struct cache_entry *entry, enum cache_reason reason);

/** cache_new() - @capacity entries at most. Return: 0 or -ENOMEM. */
int cache_new(struct cache **ret_cache, size_t capacity, cache_evicted_fn evicted, void *userdata);
/** cache_free() - wipes everything without telling. */
struct cache *cache_free(struct cache *c);
DEFINE_CLEANUP(struct cache *, cache_free)

/**
 * cache_find() - the entry of a record, fresh or stale
 * @digest: CACHE_DIGEST_SIZE bytes
 * @now:    an entry past its last deadline counts as absent
 * Return: borrowed until the next call that may evict, or NULL.
 */
struct cache_entry *cache_find(struct cache *c, const uint8_t *digest, uint64_t now);
/** cache_touch() - count a use of @entry at @now. */
void cache_touch(struct cache *c, struct cache_entry *entry, uint64_t now);
static inline bool cache_entry_is_fresh(const struct cache_entry *entry, uint64_t now)
{
        return now < entry->fresh_until_usec;
}

/** What cache_store() keeps. Borrowed; the key is referenced. */
struct cache_item {
        const uint8_t *digest;
        const uint8_t *database_id;
        uint32_t version, pending;
        const char *scope;
        const char *label; /* "" = none */
        struct record_cipher cipher;
        uint64_t rotated_wall_usec, rotation_due_usec;
        struct secret *key;
        struct origin *origin; /* referenced; NULL when it is not known */
};

/** cache_store() - add an entry, or renew the one with the same digest, as unwrapped at @now. Return: borrowed, as cache_find(). */
struct cache_entry *cache_store(struct cache *c, const struct cache_item *item, const struct cache_times *times, uint64_t now);
/** cache_retime() - new times for @entry, counted from its last unwrap. */
void cache_retime(struct cache *c, struct cache_entry *entry, const struct cache_times *times);

void cache_evict(struct cache *c, struct cache_entry *entry, enum cache_reason reason);
/** cache_evict_database() - all entries of one database, but for the one of the record with the digest @except, which may be NULL. Return: how
 *  many. */
size_t cache_evict_database(struct cache *c, const uint8_t *database_id, const uint8_t *except);
size_t cache_evict_all(struct cache *c);
/** cache_expire() - evict what is past its last deadline. Return: how many. */
size_t cache_expire(struct cache *c, uint64_t now);
/** cache_deadline() - the next one, or USEC_INFINITY. */
uint64_t cache_deadline(const struct cache *c);

size_t cache_size(const struct cache *c);
const struct cache_counters *cache_counters(const struct cache *c);
/** cache_count() - for the caller that knows what a find meant. */
void cache_count(struct cache *c, bool hit, bool stale);
/** cache_each() - entries in use order, latest first; @visit returns false to stop. It may not evict. */
void cache_each(struct cache *c, bool (*visit)(void *userdata, struct cache_entry *entry), void *userdata);

const char *cache_reason_name(enum cache_reason reason);
