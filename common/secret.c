/* SPDX-License-Identifier: Apache-2.0 */
#include "common/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>

#define CANARY_SIZE 8
#define SMALL_STRIDE 64   /* SECRET_SMALL_MAX, canary, rest unused: slots start on a cache line */
#define LARGE_STRIDE 8256 /* SECRET_LARGE_MAX and a cache line with the canary */

struct secret {
        atomic_uint n_refs;
        uint32_t size;
        uint32_t full_size; /* as allocated: where the canary stands */
        uint32_t next_free; /* index + 1 */
        uint8_t *slot;
};

/* One size class: its slots, and what is known of each outside the locked pages. */
struct pool {
        struct secret *secrets;
        size_t n, n_used, stride, max;
        uint32_t first_free; /* index + 1 */
};

static struct {
        pthread_mutex_t lock;
        enum secret_backing backing;
        uint8_t *map; /* guard, small slots, guard, large slots, guard */
        size_t n_map, page;
        uint8_t *usable[2];
        size_t n_usable[2];
        uint64_t canary;
        struct pool small, large;
        char error[256];
} arena = { .lock = PTHREAD_MUTEX_INITIALIZER };

static size_t round_up(size_t n, size_t to)
{
        return (n + to - 1) / to * to;
}

static int arena_refuse(int error, const char *what, size_t n, const char **ret_error)
{
        snprintf(arena.error, sizeof(arena.error),
                 "cannot %s %zu KiB of memory for keys: %s. Raise the limit on locked memory to at least %zu KiB: LimitMEMLOCK= "
                 "in the systemd unit, `ulimit -l` in a shell (RLIMIT_MEMLOCK)",
                 what, n / 1024, strerror(-error), n / 1024);
        if (ret_error)
                *ret_error = arena.error;
        return error;
}

/* Replace the pages of one usable part by secret ones, and lock and populate them. */
static int part_lock_memfd(uint8_t *at, size_t n)
{
        _cleanup_(closep) int fd = (int)syscall(SYS_memfd_secret, (unsigned)O_CLOEXEC);
        void *p;

        if (fd < 0)
                return -errno;
        if (ftruncate(fd, (off_t)n) < 0)
                return -errno;
        p = mmap(at, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
        return p == MAP_FAILED ? -errno : 0;
}

static int part_lock_anonymous(uint8_t *at, size_t n)
{
        void *p = mmap(at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

        if (p == MAP_FAILED || mlock(at, n) < 0)
                return -errno;
        return 0;
}

static int part_finish(uint8_t *at, size_t n, enum secret_backing backing)
{
        /* A page of memfd_secret that cannot be had ends the process with SIGBUS when touched; ask the kernel first. */
        if (backing == SECRET_BACKING_MEMFD_SECRET && madvise(at, n, MADV_POPULATE_WRITE) < 0 && errno != EINVAL)
                return -errno;
        if (madvise(at, n, MADV_DONTDUMP) < 0 || madvise(at, n, MADV_DONTFORK) < 0)
                return -errno;
        for (size_t i = 0; i < n; i += arena.page)
                ((volatile uint8_t *)at)[i] = 0;
        return 0;
}

static int arena_lock(enum secret_backing backing)
{
        for (size_t i = 0; i < 2; i++) {
                int r = backing == SECRET_BACKING_MEMFD_SECRET ? part_lock_memfd(arena.usable[i], arena.n_usable[i])
                                                                : part_lock_anonymous(arena.usable[i], arena.n_usable[i]);

                if (r == 0)
                        r = part_finish(arena.usable[i], arena.n_usable[i], backing);
                if (r < 0)
                        return r;
        }
        arena.backing = backing;
        return 0;
}

static int pool_init(struct pool *pool, uint8_t *at, size_t n, size_t stride, size_t max)
{
        *pool = (struct pool){ .secrets = calloc(n, sizeof(*pool->secrets)), .n = n, .stride = stride, .max = max };
        if (!pool->secrets)
                return -ENOMEM;
        for (size_t i = n; i-- > 0;) {
                pool->secrets[i].slot = at + i * stride;
                pool->secrets[i].next_free = pool->first_free;
                pool->first_free = (uint32_t)i + 1;
        }
        return 0;
}

static void arena_reset(void)
{
        if (arena.map)
                munmap(arena.map, arena.n_map);
        free(arena.small.secrets);
        free(arena.large.secrets);
        arena.map = NULL;
        arena.small = arena.large = (struct pool){ 0 };
        arena.backing = SECRET_BACKING_NONE;
}

static int arena_init(size_t n_small, size_t n_large, const char **ret_error)
{
        size_t wanted;
        int r;

        arena.page = (size_t)sysconf(_SC_PAGESIZE);
        arena.n_usable[0] = round_up(n_small * SMALL_STRIDE, arena.page);
        arena.n_usable[1] = round_up(n_large * LARGE_STRIDE, arena.page);
        wanted = arena.n_usable[0] + arena.n_usable[1];
        arena.n_map = wanted + 3 * arena.page;
        arena.map = mmap(NULL, arena.n_map, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena.map == MAP_FAILED) {
                arena.map = NULL;
                return arena_refuse(-errno, "reserve", wanted, ret_error);
        }
        arena.usable[0] = arena.map + arena.page;
        arena.usable[1] = arena.usable[0] + arena.n_usable[0] + arena.page;
        /* Kernels without memfd_secret, or with a limit that only it hits, still have mlock. Both refuse: so do we. */
        r = arena_lock(SECRET_BACKING_MEMFD_SECRET);
        if (r < 0)
                r = arena_lock(SECRET_BACKING_MLOCK);
        if (r < 0)
                return arena_refuse(r, "lock", wanted, ret_error);
        if (getrandom(&arena.canary, sizeof(arena.canary), 0) != (ssize_t)sizeof(arena.canary))
                return arena_refuse(-EIO, "seed the canaries of", wanted, ret_error);
        r = pool_init(&arena.small, arena.usable[0], n_small, SMALL_STRIDE, SECRET_SMALL_MAX);
        if (r == 0)
                r = pool_init(&arena.large, arena.usable[1], n_large, LARGE_STRIDE, SECRET_LARGE_MAX);
        return r < 0 ? arena_refuse(r, "describe", wanted, ret_error) : 0;
}

int secret_arena_init(size_t n_small, size_t n_large, const char **ret_error)
{
        int r;

        if (ret_error)
                *ret_error = "the arena exists, or its size is not usable";
        if (n_small == 0 || n_large == 0 || n_small > UINT32_MAX / 2 || n_large > UINT32_MAX / 2)
                return -EINVAL;
        pthread_mutex_lock(&arena.lock);
        r = arena.map ? -EALREADY : arena_init(n_small, n_large, ret_error);
        if (r < 0 && r != -EALREADY)
                arena_reset();
        pthread_mutex_unlock(&arena.lock);
        return r;
}

void secret_arena_deinit(void)
{
        pthread_mutex_lock(&arena.lock);
        for (size_t i = 0; i < 2 && arena.map; i++)
                explicit_bzero(arena.usable[i], arena.n_usable[i]);
        arena_reset();
        pthread_mutex_unlock(&arena.lock);
}

enum secret_backing secret_arena_backing(void)
{
        return arena.backing;
}

void secret_arena_usage(size_t *ret_small_used, size_t *ret_small, size_t *ret_large_used, size_t *ret_large)
{
        if (ret_small_used)
                *ret_small_used = arena.small.n_used;
        if (ret_small)
                *ret_small = arena.small.n;
        if (ret_large_used)
                *ret_large_used = arena.large.n_used;
        if (ret_large)
                *ret_large = arena.large.n;
}

bool secret_arena_contains(const void *address)
{
        for (size_t i = 0; i < 2 && arena.map; i++) {
                if ((const uint8_t *)address >= arena.usable[i] && (const uint8_t *)address < arena.usable[i] + arena.n_usable[i])
                        return true;
        }
        return false;
}

/* ---- secrets ---- */

static struct pool *pool_for(size_t n)
{
        return n <= SECRET_SMALL_MAX ? &arena.small : &arena.large;
}

int secret_new(struct secret **ret_secret, size_t n)
{
        struct pool *pool = pool_for(n);
        struct secret *s = NULL;

        if (n == 0 || n > SECRET_LARGE_MAX)
                return -EINVAL;
        pthread_mutex_lock(&arena.lock);
        if (pool->first_free) {
                s = &pool->secrets[pool->first_free - 1];
                pool->first_free = s->next_free;
                pool->n_used++;
        }
        pthread_mutex_unlock(&arena.lock);
        if (!s)
                return -ENOBUFS;
        atomic_init(&s->n_refs, 1);
        s->size = s->full_size = (uint32_t)n;
        memcpy(s->slot + n, &arena.canary, CANARY_SIZE);

        *ret_secret = s;
        return 0;
}

int secret_new_random(struct secret **ret_secret, size_t n)
{
        struct secret *s;
        int r = secret_new(&s, n);

        for (size_t done = 0; r == 0 && done < n;) {
                ssize_t got = getrandom(s->slot + done, n - done, 0);

                if (got >= 0)
                        done += (size_t)got;
                else if (errno != EINTR)
                        r = -errno;
                if (r < 0)
                        secret_unref(s);
        }
        if (r == 0)
                *ret_secret = s;
        return r;
}

struct secret *secret_ref(struct secret *s)
{
        atomic_fetch_add_explicit(&s->n_refs, 1, memory_order_relaxed);
        return s;
}

static bool canary_is_whole(const struct secret *s)
{
        uint64_t found;

        memcpy(&found, s->slot + s->full_size, CANARY_SIZE);
        return found == arena.canary;
}

struct secret *secret_unref(struct secret *s)
{
        struct pool *pool;

        if (!s || atomic_fetch_sub_explicit(&s->n_refs, 1, memory_order_acq_rel) != 1)
                return NULL;
        if (!canary_is_whole(s)) {
                static const char text[] = "lkm: a secret was written past its end\n";

                if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) {
                        /* nothing more can be said */
                }
                abort();
        }
        explicit_bzero(s->slot, s->full_size + CANARY_SIZE);
        pool = pool_for(s->full_size);
        pthread_mutex_lock(&arena.lock);
        s->next_free = pool->first_free;
        pool->first_free = (uint32_t)(s - pool->secrets) + 1;
        pool->n_used--;
        pthread_mutex_unlock(&arena.lock);
        return NULL;
}

size_t secret_size(const struct secret *s)
{
        return s->size;
}

void secret_truncate(struct secret *s, size_t n)
{
        if (n == 0 || n > s->size)
                abort();
        explicit_bzero(s->slot + n, s->size - n);
        s->size = (uint32_t)n;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
        uint8_t difference = 0;

        if (a->size != b->size)
                return false;
        for (size_t i = 0; i < a->size; i++)
                difference = (uint8_t)(difference | (a->slot[i] ^ b->slot[i]));
        return difference == 0;
}

uint8_t *secret_view_begin(struct secret *s)
{
        return s->slot;
}

void secret_view_end(struct secret *s, uint8_t **view)
{
        (void)s;
        *view = NULL;
}

/* ---- wiping ---- */

void secret_wipe(void *p, size_t n)
{
        explicit_bzero(p, n);
}

__attribute__((noinline)) void secret_wipe_stack(void)
{
        uint8_t dead[16 * 1024];

        explicit_bzero(dead, sizeof(dead));
}

void *secret_malloc(size_t n)
{
        return malloc(n);
}

void *secret_calloc(size_t n, size_t size)
{
        return calloc(n, size);
}

void *secret_realloc(void *p, size_t n)
{
        size_t old = p ? malloc_usable_size(p) : 0;
        void *larger;

        if (n == 0) {
                secret_free(p);
                return NULL;
        }
        larger = malloc(n);
        if (!larger)
                return NULL;
        if (p) {
                memcpy(larger, p, old < n ? old : n);
                secret_free(p);
        }
        return larger;
}

char *secret_strdup(const char *s)
{
        return strdup(s);
}

void secret_free(void *p)
{
        if (!p)
                return;
        explicit_bzero(p, malloc_usable_size(p));
        free(p);
}
