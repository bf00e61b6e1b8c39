/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena is one mapping: a guard page, and for each class of slots these and another guard page. In a slot are the secret's
 * bytes and, right behind them, a canary. What describes a slot (struct secret) lies in ordinary memory, so that an
 * overrun of key bytes cannot turn into an overrun of pointers, and so that small slots stay small.
 */
#include "common/secret.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>

#include "common/bytes.h"
#include "common/huge.h"

#define CANARY_SIZE 16
#define SMALL_STRIDE (SECRET_SMALL_MAX + CANARY_SIZE)
/* A multiple of the cache line, so that slots do not share lines. */
#define LARGE_STRIDE (SECRET_LARGE_MAX + 64)
#define BODY_STRIDE (SECRET_BODY_MAX + 64)

struct secret {
        uint8_t *data; /* the slot */
        struct secret *next_free; /* valid while the slot is free */
        atomic_uint n_references; /* 0 while the slot is free */
        uint32_t size; /* the canary is right behind, so that one byte too many is found */
};

struct slot_class {
        uint8_t *base;
        size_t stride, max; /* bytes from slot to slot, bytes of the largest secret */
        size_t area; /* bytes mapped, a multiple of the page size */
        size_t n;
        size_t n_used;
        struct secret *secrets; /* one for each slot */
        struct secret *free;
};

enum { CLASS_SMALL, CLASS_LARGE, CLASS_BODY, CLASS_COUNT };

static struct {
        pthread_mutex_t lock;
        enum secret_backing backing;
        bool forked; /* this is a child of the process that made the arena: its pages are not here */
        uint8_t *base;
        size_t size;
        struct slot_class class[CLASS_COUNT];
        uint8_t canary[CANARY_SIZE];
        char error[320];
} arena = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void arena_after_fork(void)
{
        pthread_mutex_init(&arena.lock, NULL);
        arena.forked = arena.backing != SECRET_BACKING_NONE;
}

static void arena_watch_forks(void)
{
        pthread_atfork(NULL, NULL, arena_after_fork);
}

static int random_fill(uint8_t *p, size_t n)
{
        while (n > 0) {
                ssize_t r = getrandom(p, n, 0);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0)
                        return r < 0 ? -errno : -EIO;
                p += r;
                n -= (size_t)r;
        }
        return 0;
}

/* ---- making the arena ---- */

static int class_init(struct slot_class *class, size_t n, size_t stride, size_t max, size_t page)
{
        size_t bytes;

        if (n > UINT32_MAX || __builtin_mul_overflow(n, stride, &bytes) || bytes > SSIZE_MAX / 4)
                return -EINVAL;
        *class = (struct slot_class){ .stride = stride, .max = max, .area = (bytes + page - 1) / page * page, .n = n };
        return 0;
}

static int class_secrets_init(struct slot_class *class)
{
        if (class->n == 0)
                return 0;
        class->secrets = huge_calloc(class->n, sizeof(*class->secrets));
        if (!class->secrets)
                return -ENOMEM;
        for (size_t i = class->n; i-- > 0;) {
                struct secret *s = &class->secrets[i];

                s->data = class->base + i * class->stride;
                s->next_free = class->free;
                class->free = s;
        }
        return 0;
}

/*
 * Fault in every page now. The kernel does the writing: where it has no page left it answers -EFAULT, while a write of
 * our own would end in SIGBUS. MADV_POPULATE_WRITE does not take memfd_secret(2) pages.
 */
static int area_populate(uint8_t *base, size_t n, size_t page)
{
        for (size_t i = 0; i < n; i += page) {
                int r = random_fill(base + i, 1);

                if (r < 0)
                        return r == -EFAULT ? -ENOMEM : r;
                base[i] = 0;
        }
        return 0;
}

/* Put memory of @fd (or, with -1, anonymous memory that is then locked) at @base, over the reservation. */
static int area_map(uint8_t *base, size_t n, int fd, size_t offset, size_t page)
{
        int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;

        if (mmap(base, n, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED)
                return -errno;
        if (madvise(base, n, MADV_DONTDUMP) < 0 || madvise(base, n, MADV_DONTFORK) < 0)
                return -EADV;
        /* mlock2(2), since the sanitizers' runtime turns mlock(2) into nothing. */
        if (fd < 0 && mlock2(base, n, 0) < 0)
                return -errno;
        return area_populate(base, n, page);
}

static size_t arena_area(void)
{
        size_t area = 0;

        for (size_t i = 0; i < CLASS_COUNT; i++)
                area += arena.class[i].area;
        return area;
}

static int arena_map(int fd, size_t page)
{
        size_t offset = 0;
        uint8_t *base;
        int r;

        arena.size = arena_area() + (CLASS_COUNT + 1) * page;
        base = mmap(NULL, arena.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED)
                return -errno;
        /* The guards too: a child must find nothing of the arena, so that there is nothing to unmap there. */
        r = madvise(base, arena.size, MADV_DONTFORK) < 0 ? -EADV : 0;
        for (size_t i = 0; i < CLASS_COUNT && r == 0; i++) {
                struct slot_class *class = &arena.class[i];

                class->base = base + offset + (i + 1) * page;
                if (class->area > 0)
                        r = area_map(class->base, class->area, fd, offset, page);
                offset += class->area;
        }
        if (r < 0) {
                munmap(base, arena.size);
                return r;
        }
        arena.base = base;
        return 0;
}

static int arena_map_memfd_secret(size_t page)
{
#ifdef SYS_memfd_secret
        _cleanup_(closep) int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);

        if (fd < 0)
                return -errno;
        if (ftruncate(fd, (off_t)arena_area()) < 0)
                return -errno;
        return arena_map(fd, page);
#else
        return -ENOSYS;
#endif
}

static int arena_map_any(size_t page)
{
        int r;

        if (arena_map_memfd_secret(page) == 0) {
                arena.backing = SECRET_BACKING_MEMFD_SECRET;
                return 0;
        }
        /* Kernels without it, those that switch it off, and containers that forbid it. */
        r = arena_map(-1, page);
        if (r == 0)
                arena.backing = SECRET_BACKING_MLOCK;
        return r;
}

static void arena_unmap(void)
{
        if (arena.base && !arena.forked)
                munmap(arena.base, arena.size);
        for (size_t i = 0; i < CLASS_COUNT; i++) {
                free(arena.class[i].secrets);
                arena.class[i] = (struct slot_class){ 0 };
        }
        arena.base = NULL;
        arena.size = 0;
        arena.backing = SECRET_BACKING_NONE;
        arena.forked = false;
}

static int arena_make(size_t n_small, size_t n_large, size_t n_body, const char **ret_error)
{
        size_t page = (size_t)sysconf(_SC_PAGESIZE), need;
        int r;

        if (n_small == 0 || n_large == 0 ||
            class_init(&arena.class[CLASS_SMALL], n_small, SMALL_STRIDE, SECRET_SMALL_MAX, page) < 0 ||
            class_init(&arena.class[CLASS_LARGE], n_large, LARGE_STRIDE, SECRET_LARGE_MAX, page) < 0 ||
            class_init(&arena.class[CLASS_BODY], n_body, BODY_STRIDE, SECRET_BODY_MAX, page) < 0) {
                *ret_error =
                        "The memory for keys cannot have that size. Configure fewer cached keys, and at least one.";
                return -EINVAL;
        }
        need = arena_area();
        r = arena_map_any(page);
        if (r == -EADV) {
                *ret_error = "Cannot keep the memory for keys out of core dumps and of child processes: madvise(2) is refused. Allow it, with MADV_DONTDUMP and "
                             "MADV_DONTFORK, in the filter of system calls that this process was started under.";
                return r;
        }
        if (r < 0) {
                snprintf(arena.error, sizeof(arena.error),
                         "Cannot lock %zu bytes of memory for keys (%s). Raise RLIMIT_MEMLOCK to at least %zu bytes "
                         "(systemd unit: LimitMEMLOCK=%zu; shell: ulimit -l %zu), or configure fewer cached keys.",
                         need, strerrordesc_np(-r), need, need, (need + 1023) / 1024);
                *ret_error = arena.error;
                return r;
        }
        r = random_fill(arena.canary, sizeof(arena.canary));
        for (size_t i = 0; i < CLASS_COUNT && r == 0; i++)
                r = class_secrets_init(&arena.class[i]);
        if (r < 0)
                *ret_error =
                        "Out of memory, or of random numbers, while the memory for keys was set up. Try again later.";
        return r;
}

int secret_arena_init(size_t n_small, size_t n_large, size_t n_body, const char **ret_error)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        const char *error = NULL;
        int r;

        pthread_once(&once, arena_watch_forks);
        pthread_mutex_lock(&arena.lock);
        if (arena.backing != SECRET_BACKING_NONE) {
                error = "This process has its memory for keys already.";
                r = -EALREADY;
        } else {
                r = arena_make(n_small, n_large, n_body, &error);
                if (r < 0)
                        arena_unmap();
        }
        pthread_mutex_unlock(&arena.lock);
        if (r < 0 && ret_error)
                *ret_error = error;
        return r;
}

void secret_arena_deinit(void)
{
        pthread_mutex_lock(&arena.lock);
        if (arena.base && !arena.forked) {
                for (size_t i = 0; i < CLASS_COUNT; i++) {
                        assert(arena.class[i].n_used == 0);
                        explicit_bzero(arena.class[i].base, arena.class[i].area);
                }
        }
        arena_unmap();
        pthread_mutex_unlock(&arena.lock);
}

enum secret_backing secret_arena_backing(void)
{
        return arena.backing;
}

bool secret_arena_forked(void)
{
        return arena.forked;
}

void secret_arena_usage(size_t *ret_small_used, size_t *ret_small, size_t *ret_large_used, size_t *ret_large)
{
        pthread_mutex_lock(&arena.lock);
        if (ret_small_used)
                *ret_small_used = arena.class[CLASS_SMALL].n_used;
        if (ret_small)
                *ret_small = arena.class[CLASS_SMALL].n;
        if (ret_large_used)
                *ret_large_used = arena.class[CLASS_LARGE].n_used;
        if (ret_large)
                *ret_large = arena.class[CLASS_LARGE].n;
        pthread_mutex_unlock(&arena.lock);
}

static bool class_contains(const struct slot_class *class, const void *address)
{
        return class->base && (uintptr_t)address >= (uintptr_t) class->base &&
               (uintptr_t)address < (uintptr_t) class->base + class->area;
}

bool secret_arena_contains(const void *address)
{
        bool contains = false;

        for (size_t i = 0; i < CLASS_COUNT && !contains; i++)
                contains = class_contains(&arena.class[i], address);
        return contains;
}

/* ---- one secret ---- */

int secret_new(struct secret **ret_secret, size_t n)
{
        struct slot_class *class = &arena.class[n <= SECRET_SMALL_MAX ? CLASS_SMALL : n <= SECRET_LARGE_MAX ? CLASS_LARGE : CLASS_BODY];
        struct secret *s;

        if (n == 0 || n > SECRET_BODY_MAX)
                return -EINVAL;
        pthread_mutex_lock(&arena.lock);
        s = arena.forked ? NULL : class->free;
        if (s) {
                class->free = s->next_free;
                class->n_used++;
        }
        pthread_mutex_unlock(&arena.lock);
        if (!s)
                return -ENOBUFS;

        /* A free slot is all zero: its pages came so, and every release wipes. */
        s->next_free = NULL;
        s->size = (uint32_t)n;
        memcpy(s->data + n, arena.canary, CANARY_SIZE);
        atomic_store_explicit(&s->n_references, 1, memory_order_relaxed);
        *ret_secret = s;
        return 0;
}

int secret_new_random(struct secret **ret_secret, size_t n)
{
        _cleanup_(secret_unrefp) struct secret *s = NULL;
        int r;

        r = secret_new(&s, n);
        if (r < 0)
                return r;
        r = random_fill(s->data, n);
        if (r < 0)
                return r;
        *ret_secret = TAKE_PTR(s);
        return 0;
}

struct secret *secret_ref(struct secret *s)
{
        unsigned before = atomic_fetch_add_explicit(&s->n_references, 1, memory_order_relaxed);

        assert(before > 0 && before < UINT_MAX);
        (void)before;
        return s;
}

/* Somebody wrote past the end of a secret: nothing in this process is to be trusted any more. */
static void canary_check(const struct secret *s)
{
        static const char message[] = "lkm: memory for keys was overrun; stopping.\n";

        if (bytes_equal((struct bytes){ s->data + s->size, CANARY_SIZE }, (struct bytes){ arena.canary, CANARY_SIZE }))
                return;
        if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0) {
                /* abort() tells as well */
        }
        abort();
}

static struct slot_class *secret_class(const struct secret *s)
{
        size_t i = 0;

        while (i < CLASS_COUNT - 1 && ((uintptr_t)s < (uintptr_t)arena.class[i].secrets ||
                                       (uintptr_t)s >= (uintptr_t)(arena.class[i].secrets + arena.class[i].n)))
                i++;
        return &arena.class[i];
}

static void secret_release(struct secret *s)
{
        struct slot_class *class = secret_class(s);

        if (!arena.forked) {
                explicit_bzero(s->data, s->size);
                canary_check(s);
                explicit_bzero(s->data + s->size, CANARY_SIZE);
        }
        s->size = 0;
        pthread_mutex_lock(&arena.lock);
        s->next_free = class->free;
        class->free = s;
        class->n_used--;
        pthread_mutex_unlock(&arena.lock);
}

struct secret *secret_unref(struct secret *s)
{
        unsigned before;

        if (!s)
                return NULL;
        before = atomic_fetch_sub_explicit(&s->n_references, 1, memory_order_acq_rel);
        assert(before > 0);
        if (before == 1)
                secret_release(s);
        return NULL;
}

size_t secret_size(const struct secret *s)
{
        return s->size;
}

void secret_resize(struct secret *s, size_t n)
{
        assert(n >= 1 && n <= secret_class(s)->max);
        canary_check(s);
        explicit_bzero(s->data + s->size, CANARY_SIZE);
        if (n < s->size)
                explicit_bzero(s->data + n, s->size - n);
        s->size = (uint32_t)n;
        memcpy(s->data + n, arena.canary, CANARY_SIZE);
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
        return bytes_equal_secret((struct bytes){ a->data, a->size }, (struct bytes){ b->data, b->size });
}

uint8_t *secret_view_begin(struct secret *s)
{
        return s->data;
}

void secret_view_end(struct secret *s, uint8_t **view)
{
        assert(*view == s->data);
        (void)s;
        *view = NULL;
}
