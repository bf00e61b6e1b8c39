/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/scan.h"

#include <errno.h>
#include <pthread.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"

enum {
        BLOCK_SIZE = 1 << 20, /* read at once */
        READ_AGAIN = 3,       /* a page that others may be writing */
        LANE_PAGES = 8,       /* fewer are not worth a thread */
        COMPATIBILITY_3 = 3,
        COMPATIBILITY_4 = 4,
};

static int refuse(const struct work *work, int r)
{
        if (r == -ENOMEM || r == -ENOBUFS)
                return answer_refuse(LKM_E_NO_MEMORY, "No memory is left to read %s. Free some, then ask again.", work->database);
        return answer_refuse(LKM_E_IO, "%s could not be read: %s. Check its owner, its permissions and its disk, then ask again.", work->database,
                             strerrordesc_np(-r));
}

static void scan_free_keys(struct scan *scan)
{
        for (size_t lane = 0; lane < SCAN_LANES; lane++)
                for (size_t i = 0; i < REKEY_KEYS_MAX; i++)
                        page_key_free(TAKE_PTR(scan->keys[lane][i]));
}

void scan_deinit(struct scan *scan)
{
        scan_free_keys(scan);
}

/* ---- the format ---- */

/* Whether page 1 has this format under one of the keys, which are ready for it afterwards. Return: 1, 0, or -errno. */
static int format_try(struct scan *scan, const struct work *work, const uint8_t *page)
{
        int fits = 0;

        scan_free_keys(scan);
        for (size_t i = 0; i < work->job.n_keys; i++) {
                for (size_t lane = 0; lane < SCAN_LANES; lane++) {
                        int r = page_key_new(&scan->keys[lane][i], &scan->format, work->keys[i].secret, page);

                        if (r < 0)
                                return r;
                }
                scan->first_fits[i] = page_fits(scan->keys[0][i], page, 1);
                fits |= scan->first_fits[i];
        }
        return fits;
}

static int scan_try(struct scan *scan, struct image *image, const struct work *work, unsigned compatibility)
{
        _cleanup_(freep) uint8_t *page = NULL;
        int r;

        if (!page_format_init(&scan->format, compatibility, work->job.page_size))
                return -EINVAL;
        r = image_set_format(image, work, &scan->format);
        if (r)
                return r;
        page = malloc(scan->format.size);
        if (!page)
                return refuse(work, -ENOMEM);
        r = image_read(image, 1, 1, page);
        if (r == 0)
                r = format_try(scan, work, page);
        return r < 0 ? refuse(work, r) : r == 0 ? -EAGAIN : 0;
}

int scan_begin(struct scan *ret_scan, struct image *image, const struct work *work)
{
        unsigned first = work_compatibility(work), second = first == COMPATIBILITY_3 ? COMPATIBILITY_4 : COMPATIBILITY_3;
        int r;

        *ret_scan = (struct scan){ 0 };
        r = scan_try(ret_scan, image, work, first);
        if (r == -EAGAIN && work->job.compatibility == 0) {
                r = scan_try(ret_scan, image, work, second);
                if (r == -EAGAIN)
                        r = scan_try(ret_scan, image, work, first);
        }
        if (r == -EINVAL)
                return answer_refuse(LKM_E_ARGUMENT, "SQLCipher has no pages of %u bytes. Correct the page size of %s.", work->job.page_size, work->database);
        return r == -EAGAIN ? 0 : r;
}

/* ---- the pages ---- */

/** What one thread looks at. */
struct lane {
        struct scan *scan; /* shared, read only; but for the keys of this lane */
        const struct image *image;
        const struct work *work;
        struct page_key **keys;
        size_t last; /* the key that fitted last comes first: pages under one key lie together */
        uint64_t first;
        size_t n;
        uint8_t *pages, *fits;
        int result;
};

static uint8_t page_find(struct lane *lane, const uint8_t *page, uint64_t number)
{
        const struct page_format *format = &lane->scan->format;
        size_t n_keys = lane->work->job.n_keys;

        if (number > 1 && (page_is_lock(format, number) || page_is_zero(format, page)))
                return SCAN_ZERO;
        for (size_t i = 0; i < n_keys; i++) {
                size_t key = (lane->last + i) % n_keys;

                if (page_fits(lane->keys[key], page, (uint32_t)number)) {
                        lane->last = key;
                        return (uint8_t)key;
                }
        }
        return SCAN_UNKNOWN;
}

static void *lane_run(void *userdata)
{
        struct lane *lane = userdata;
        uint32_t size = lane->scan->format.size;

        lane->result = 0;
        for (size_t i = 0; i < lane->n && lane->result == 0; i++) {
                uint8_t *page = lane->pages + i * size;

                lane->fits[i] = page_find(lane, page, lane->first + i);
                for (size_t again = 0; lane->fits[i] == SCAN_UNKNOWN && again < READ_AGAIN && lane->result == 0; again++) {
                        lane->result = image_read(lane->image, lane->first + i, 1, page);
                        if (lane->result == 0)
                                lane->fits[i] = page_find(lane, page, lane->first + i);
                }
        }
        return NULL;
}

/* The first half here, the second one in a thread; where there is none, here too. */
static int block_find(struct lane lanes[SCAN_LANES], uint64_t first, size_t n, uint8_t *pages, uint8_t *fits)
{
        size_t half = n > LANE_PAGES ? n / 2 : n;
        pthread_t thread;
        bool started;

        for (size_t i = 0; i < SCAN_LANES; i++) {
                size_t from = i == 0 ? 0 : half;

                lanes[i].first = first + from;
                lanes[i].n = i == 0 ? half : n - half;
                lanes[i].pages = pages + from * lanes[i].scan->format.size;
                lanes[i].fits = fits + from;
        }
        started = half < n && pthread_create(&thread, NULL, lane_run, &lanes[1]) == 0;
        lane_run(&lanes[0]);
        if (started)
                pthread_join(thread, NULL);
        else
                lane_run(&lanes[1]);
        return lanes[0].result ? lanes[0].result : lanes[1].result;
}

static void scan_count(struct scan *scan, uint64_t first, size_t n, const uint8_t *fits)
{
        if (scan->pass > 0)
                return;
        scan->n_pages += n;
        for (size_t i = 0; i < n; i++) {
                if (fits[i] == SCAN_ZERO)
                        scan->n_zero++;
                else if (fits[i] != SCAN_UNKNOWN)
                        scan->n_fit[fits[i]]++;
                else if (scan->n_unknown++ == 0)
                        scan->first_unknown = first + i;
        }
}

int scan_pages(struct scan *scan, struct image *image, const struct work *work, scan_callback *callback, void *userdata)
{
        uint32_t size = scan->format.size;
        uint64_t bytes = image->n_pages * size, before = scan->pass * bytes, total = (scan->n_passes > 1 ? scan->n_passes : 1) * bytes;
        size_t room = BLOCK_SIZE / size, n;
        struct lane lanes[SCAN_LANES];
        _cleanup_(freep) uint8_t *pages = malloc(BLOCK_SIZE), *fits = malloc(room);

        if (!pages || !fits)
                return refuse(work, -ENOMEM);
        for (size_t i = 0; i < SCAN_LANES; i++)
                lanes[i] = (struct lane){ .scan = scan, .image = image, .work = work, .keys = scan->keys[i] };
        answer_progress_end(before, total);
        for (uint64_t first = 1; first <= image->n_pages; first += n) {
                int r;

                n = image->n_pages - first + 1 < room ? (size_t)(image->n_pages - first + 1) : room;
                r = image_read(image, first, n, pages);
                if (r == 0)
                        r = block_find(lanes, first, n, pages, fits);
                if (r < 0)
                        return refuse(work, r);
                scan_count(scan, first, n, fits);
                r = callback ? callback(userdata, first, n, fits, pages) : 0;
                if (r)
                        return r;
                answer_progress(before + (first + n - 1) * size, total);
        }
        answer_progress_end(before + bytes, total);
        scan->pass++;
        return 0;
}

/* ---- what came of it ---- */

int scan_only(const struct scan *scan, const struct work *work)
{
        int only = -1;

        if (scan->n_unknown > 0 || scan->n_pages == 0)
                return -1;
        for (size_t i = 0; i < work->job.n_keys; i++) {
                if (!scan->first_fits[i])
                        continue;
                /* The same key under two numbers is one key. */
                if (only >= 0 && !secret_equal(work->keys[only].secret, work->keys[i].secret))
                        return -1;
                if (only < 0)
                        only = (int)i;
        }
        return only >= 0 && scan->n_fit[only] + scan->n_zero == scan->n_pages ? only : -1;
}

void scan_tell(const struct scan *scan, const struct work *work)
{
        for (size_t i = 0; i < work->job.n_keys; i++)
                answer_line("fits %u %llu", work->keys[i].version, (unsigned long long)scan->n_fit[i]);
        answer_line("pages %llu %llu %llu", (unsigned long long)scan->n_pages, (unsigned long long)scan->n_zero, (unsigned long long)scan->n_unknown);
}
