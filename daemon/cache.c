/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache.h"

#include <errno.h>

#include "common/clock.h"
#include "common/huge.h"

/*
 * The order of use is kept lazily: a hit only writes the time into the entry that it reads anyway. When room is needed,
 * the last entry of the list goes unless it was used since it was put there; then it moves to the front and the next
 * one is asked. So a hit touches one entry, not three, which is what keeps 100,000 keys as fast as ten.
 */
struct cache {
        size_t capacity, n_entries, n_buckets;
        struct cache_entry **buckets;
        struct cache_entry *pool, *free; /* @capacity entries; the free ones are linked by next_in_bucket */
        size_t n_taken;                  /* from the pool: those behind were never used */
        struct cache_entry **heap; /* by wipe_at_usec, earliest first */
        struct list by_use;        /* latest first */
        uint64_t next_serial;
        struct cache_counters counters;
        cache_evicted_fn evicted;
        void *userdata;
};

int cache_new(struct cache **ret_cache, size_t capacity, cache_evicted_fn evicted, void *userdata)
{
        _cleanup_(cache_freep) struct cache *c = calloc(1, sizeof(*c));

        if (!c)
                return -ENOMEM;
        list_init(&c->by_use);
        c->capacity = capacity;
        c->evicted = evicted;
        c->userdata = userdata;
        c->next_serial = 1;
        for (c->n_buckets = 16; c->n_buckets < capacity * 2;)
                c->n_buckets *= 2;
        c->buckets = huge_calloc(c->n_buckets, sizeof(*c->buckets));
        c->heap = huge_calloc(capacity, sizeof(*c->heap));
        c->pool = huge_calloc(capacity, sizeof(*c->pool));
        if (!c->buckets || !c->heap || !c->pool)
                return -ENOMEM;

        *ret_cache = TAKE_PTR(c);
        return 0;
}

struct cache *cache_free(struct cache *c)
{
        if (!c)
                return NULL;
        c->evicted = NULL;
        cache_evict_all(c);
        free(c->buckets);
        free(c->heap);
        free(c->pool);
        free(c);
        return NULL;
}

static struct cache_entry **cache_bucket(struct cache *c, const uint8_t *digest)
{
        return &c->buckets[bytes_get_u64(digest) & (c->n_buckets - 1)];
}

/* ---- the heap of deadlines ---- */

static void heap_put(struct cache *c, size_t i, struct cache_entry *entry)
{
        c->heap[i] = entry;
        entry->heap_index = i;
}

static void heap_up(struct cache *c, size_t i)
{
        struct cache_entry *entry = c->heap[i];

        for (; i > 0 && c->heap[(i - 1) / 2]->wipe_at_usec > entry->wipe_at_usec; i = (i - 1) / 2)
                heap_put(c, i, c->heap[(i - 1) / 2]);
        heap_put(c, i, entry);
}

static void heap_down(struct cache *c, size_t i)
{
        struct cache_entry *entry = c->heap[i];

        for (size_t child = 2 * i + 1; child < c->n_entries; child = 2 * i + 1) {
                if (child + 1 < c->n_entries && c->heap[child + 1]->wipe_at_usec < c->heap[child]->wipe_at_usec)
                        child++;
                if (c->heap[child]->wipe_at_usec >= entry->wipe_at_usec)
                        break;
                heap_put(c, i, c->heap[child]);
                i = child;
        }
        heap_put(c, i, entry);
}

static void heap_fix(struct cache *c, struct cache_entry *entry)
{
        heap_up(c, entry->heap_index);
        heap_down(c, entry->heap_index);
}

static void heap_remove(struct cache *c, struct cache_entry *entry)
{
        struct cache_entry *last = c->heap[--c->n_entries];

        if (last == entry)
                return;
        heap_put(c, entry->heap_index, last);
        heap_fix(c, last);
}

/* ---- entries ---- */

struct cache_entry *cache_find(struct cache *c, const uint8_t *digest, uint64_t now)
{
        struct cache_entry *entry = *cache_bucket(c, digest);
        struct bytes wanted = { digest, CACHE_DIGEST_SIZE };

        while (entry && !bytes_equal((struct bytes){ entry->digest, CACHE_DIGEST_SIZE }, wanted))
                entry = entry->next_in_bucket;
        return entry && now < entry->wipe_at_usec ? entry : NULL;
}

void cache_touch(struct cache *c, struct cache_entry *entry, uint64_t now)
{
        (void)c;
        entry->last_used_usec = now;
        entry->uses++;
}

static void cache_set_times(struct cache_entry *entry, const struct cache_times *times)
{
        uint64_t start = entry->unwrapped_at_usec, end = clock_add(start, times->max_age_usec);
        uint64_t fresh = clock_add(start, times->ttl_usec), stale = clock_add(fresh, times->stale_grace_usec);
        /* Ahead of expiry by a fifth of the ttl, give or take a tenth of it; the digest is random enough for that. */
        uint64_t jitter = times->ttl_usec / 5 * entry->digest[0] / 255;

        entry->fresh_until_usec = fresh < end ? fresh : end;
        entry->wipe_at_usec = stale < end ? stale : end;
        entry->refresh_at_usec = clock_add(start, times->ttl_usec / 10 * 7 + jitter);
}

void cache_retime(struct cache *c, struct cache_entry *entry, const struct cache_times *times)
{
        cache_set_times(entry, times);
        heap_fix(c, entry);
}

void cache_evict(struct cache *c, struct cache_entry *entry, enum cache_reason reason)
{
        struct cache_entry **link = cache_bucket(c, entry->digest);

        while (*link != entry)
                link = &(*link)->next_in_bucket;
        *link = entry->next_in_bucket;
        heap_remove(c, entry);
        list_unlink(&entry->by_use);
        entry->key = secret_unref(entry->key);
        c->counters.evictions++;
        if (c->evicted)
                c->evicted(c->userdata, entry, reason);
        entry->origin = origin_unref(entry->origin);
        entry->next_in_bucket = c->free;
        c->free = entry;
}

static struct cache_entry *cache_last(struct cache *c)
{
        return list_entry(c->by_use.previous, struct cache_entry, by_use);
}

static void cache_make_room(struct cache *c)
{
        struct cache_entry *last;

        if (c->n_entries < c->capacity)
                return;
        for (last = cache_last(c); last->last_used_usec > last->touched_usec; last = cache_last(c)) {
                last->touched_usec = last->last_used_usec;
                list_unlink(&last->by_use);
                list_prepend(&c->by_use, &last->by_use);
        }
        cache_evict(c, last, CACHE_REASON_CAPACITY);
}

static struct cache_entry *cache_add(struct cache *c, const struct cache_item *item)
{
        struct cache_entry **bucket = cache_bucket(c, item->digest), *entry;

        cache_make_room(c);
        entry = c->free;
        if (entry)
                c->free = entry->next_in_bucket;
        else
                entry = &c->pool[c->n_taken++];
        memset(entry, 0, sizeof(*entry));
        memcpy(entry->digest, item->digest, CACHE_DIGEST_SIZE);
        memcpy(entry->database_id, item->database_id, UUID_SIZE);
        snprintf(entry->scope, sizeof(entry->scope), "%s", item->scope);
        snprintf(entry->label, sizeof(entry->label), "%s", item->label);
        entry->version = item->version;
        entry->pending = item->pending;
        entry->cipher = item->cipher;
        entry->serial = c->next_serial++;
        entry->wipe_at_usec = USEC_INFINITY;
        entry->next_in_bucket = *bucket;
        *bucket = entry;
        list_init(&entry->by_use);
        list_prepend(&c->by_use, &entry->by_use);
        heap_put(c, c->n_entries++, entry);
        return entry;
}

struct cache_entry *cache_store(struct cache *c, const struct cache_item *item, const struct cache_times *times, uint64_t now)
{
        /* Time 0: an entry past its deadline that was not yet swept is renewed, not doubled. */
        struct cache_entry *entry = cache_find(c, item->digest, 0);

        if (!entry)
                entry = cache_add(c, item);
        secret_ref(item->key);
        entry->key = (secret_unref(entry->key), item->key);
        origin_ref(item->origin);
        entry->origin = (origin_unref(entry->origin), item->origin);
        entry->unwrapped_at_usec = entry->last_used_usec = entry->touched_usec = now;
        entry->rotation_due_usec = item->rotation_due_usec;
        entry->rotated_wall_usec = item->rotated_wall_usec;
        entry->refreshing = false;
        cache_retime(c, entry, times);
        return entry;
}

size_t cache_evict_database(struct cache *c, const uint8_t *database_id, const uint8_t *except)
{
        struct list *node, *following;
        size_t n = 0;

        list_for_each_safe(node, following, &c->by_use) {
                struct cache_entry *entry = list_entry(node, struct cache_entry, by_use);

                if ((except && bytes_equal((struct bytes){ entry->digest, CACHE_DIGEST_SIZE }, (struct bytes){ except, CACHE_DIGEST_SIZE })) ||
                    !bytes_equal((struct bytes){ entry->database_id, UUID_SIZE }, (struct bytes){ database_id, UUID_SIZE }))
                        continue;
                cache_evict(c, entry, CACHE_REASON_ASKED);
                n++;
        }
        return n;
}

size_t cache_evict_all(struct cache *c)
{
        size_t n = c->n_entries;

        while (c->n_entries > 0)
                cache_evict(c, c->heap[c->n_entries - 1], CACHE_REASON_ALL);
        return n;
}

size_t cache_expire(struct cache *c, uint64_t now)
{
        size_t n = 0;

        for (; c->n_entries > 0 && c->heap[0]->wipe_at_usec <= now; n++)
                cache_evict(c, c->heap[0], CACHE_REASON_EXPIRED);
        return n;
}

uint64_t cache_deadline(const struct cache *c)
{
        return c->n_entries > 0 ? c->heap[0]->wipe_at_usec : USEC_INFINITY;
}

size_t cache_size(const struct cache *c)
{
        return c->n_entries;
}

const struct cache_counters *cache_counters(const struct cache *c)
{
        return &c->counters;
}

void cache_count(struct cache *c, bool hit, bool stale)
{
        if (stale)
                c->counters.stale++;
        else if (hit)
                c->counters.hits++;
        else
                c->counters.misses++;
}

void cache_each(struct cache *c, bool (*visit)(void *userdata, struct cache_entry *entry), void *userdata)
{
        struct list *node, *following;

        list_for_each_safe(node, following, &c->by_use) {
                if (!visit(userdata, list_entry(node, struct cache_entry, by_use)))
                        return;
        }
}

const char *cache_reason_name(enum cache_reason reason)
{
        static const char *const names[] = {
                [CACHE_REASON_EXPIRED] = "expired", [CACHE_REASON_CAPACITY] = "capacity", [CACHE_REASON_ASKED] = "asked",
                [CACHE_REASON_DENIED] = "denied",   [CACHE_REASON_ALL] = "wipe all",
        };

        return names[reason];
}
