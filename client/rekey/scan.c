/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/scan.h"

#include <errno.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"

enum {
        BLOCK_SIZE = 1 << 20, /* read at once */
        READ_AGAIN = 3,       /* a page that others may be writing */
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
        for (size_t i = 0; i < ELEMENTSOF(scan->keys); i++)
                page_key_free(TAKE_PTR(scan->keys[i]));
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
                int r = page_key_new(&scan->keys[i], &scan->format, work->keys[i].secret, page);

                if (r < 0)
                        return r;
                scan->first_fits[i] = page_fits(scan->keys[i], page, 1);
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

/* The key that fitted last comes first: pages under one key lie together. */
static uint8_t page_find(struct scan *scan, const struct work *work, const uint8_t *page, uint64_t number, size_t *last)
{
        if (number > 1 && (page_is_lock(&scan->format, number) || page_is_zero(&scan->format, page)))
                return SCAN_ZERO;
        for (size_t i = 0; i < work->job.n_keys; i++) {
                size_t key = (*last + i) % work->job.n_keys;

                if (page_fits(scan->keys[key], page, (uint32_t)number)) {
                        *last = key;
                        return (uint8_t)key;
                }
        }
        return SCAN_UNKNOWN;
}

static int block_find(struct scan *scan, const struct image *image, const struct work *work, uint64_t first, size_t n, uint8_t *pages, uint8_t *ret_fits,
                      size_t *last)
{
        uint32_t size = scan->format.size;

        for (size_t i = 0; i < n; i++) {
                ret_fits[i] = page_find(scan, work, pages + i * size, first + i, last);
                for (size_t again = 0; ret_fits[i] == SCAN_UNKNOWN && again < READ_AGAIN; again++) {
                        int r = image_read(image, first + i, 1, pages + i * size);

                        if (r < 0)
                                return r;
                        ret_fits[i] = page_find(scan, work, pages + i * size, first + i, last);
                }
        }
        return 0;
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
        size_t room = BLOCK_SIZE / size, last = 0, n;
        _cleanup_(freep) uint8_t *pages = malloc(BLOCK_SIZE), *fits = calloc(room, 1);

        if (!pages || !fits)
                return refuse(work, -ENOMEM);
        answer_progress_end(before, total);
        for (uint64_t first = 1; first <= image->n_pages; first += n) {
                int r;

                n = image->n_pages - first + 1 < room ? (size_t)(image->n_pages - first + 1) : room;
                r = image_read(image, first, n, pages);
                if (r == 0)
                        r = block_find(scan, image, work, first, n, pages, fits, &last);
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
