/* SPDX-License-Identifier: Apache-2.0 */
/*
 * salvage: for a file that has pages of several keys, as a connection leaves it that was used after its rekey had failed. Tells which pages fit which
 * key; and writes a new file under one key, when each page fits one. The database itself stays as it is, and so does a journal that SQLite would
 * roll back: that may be the cure or the end of it. What is half written is looked at, but not rebuilt.
 */
#include <errno.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/check.h"
#include "client/rekey/scan.h"
#include "client/rekey/target.h"

/** The pages since @first have been of one kind. */
struct ranges {
        const struct work *work;
        uint64_t first, last; /* @first 0: none yet */
        uint8_t fits;
};

static void range_tell(const struct ranges *ranges)
{
        uint32_t version = ranges->fits < ranges->work->job.n_keys ? ranges->work->keys[ranges->fits].version : 0;

        if (ranges->first > 0)
                answer_line("range %llu %llu %u", (unsigned long long)ranges->first, (unsigned long long)ranges->last, version);
}

/* A page of zeros fits every key, so it goes with its neighbours. */
static int ranges_add(void *userdata, uint64_t first, size_t n, const uint8_t *fits, uint8_t *pages)
{
        struct ranges *ranges = userdata;

        for (size_t i = 0; i < n; i++) {
                uint8_t fit = fits[i] == SCAN_ZERO && ranges->first > 0 ? ranges->fits : fits[i];

                if (ranges->first == 0 || fit != ranges->fits) {
                        range_tell(ranges);
                        ranges->first = first + i;
                        ranges->fits = fit;
                }
                ranges->last = first + i;
        }
        return 0;
}

/* ---- under one key ---- */

struct rewriting {
        struct scan *scan;
        struct target *target;
        const struct work *work;
};

static int page_rewrite(struct scan *scan, uint8_t *page, uint64_t number, uint8_t fits)
{
        int r;

        if (fits == SCAN_ZERO) {
                memset(page, 0, scan->format.size);
                return 0;
        }
        /* Others may write on in WAL mode; then there is nothing to be read here any more. */
        if (fits == SCAN_UNKNOWN)
                return -EAGAIN;
        r = page_decrypt(scan->keys[fits], page, (uint32_t)number);
        return r == 0 ? page_encrypt(scan->keys[0], page, (uint32_t)number) : r;
}

static int write_at(int fd, const uint8_t *data, size_t n, uint64_t offset)
{
        while (n > 0) {
                ssize_t written = pwrite(fd, data, n, (off_t)offset);

                if (written < 0 && errno != EINTR)
                        return -errno;
                data += written > 0 ? written : 0;
                offset += written > 0 ? (uint64_t)written : 0;
                n -= written > 0 ? (size_t)written : 0;
        }
        return 0;
}

static int pages_rewrite(void *userdata, uint64_t first, size_t n, const uint8_t *fits, uint8_t *pages)
{
        struct rewriting *w = userdata;
        uint32_t size = w->scan->format.size;
        int r = 0;

        for (size_t i = 0; i < n && r == 0; i++)
                r = page_rewrite(w->scan, pages + i * size, first + i, fits[i]);
        if (r == 0)
                r = write_at(w->target->fd, pages, n * size, (first - 1) * size);
        secret_wipe_stack();
        if (r == -EAGAIN)
                return answer_refuse(LKM_E_BUSY, "%s was written to while it was read. Let every program close it, then ask again.", w->work->database);
        return r < 0 ? target_refuse(w->target, r) : 0;
}

/* What SQLCipher says of the new file, before it has its name. */
static int target_verify(struct target *target, const struct work *work, unsigned compatibility)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        _cleanup_(freep) char *verdict = NULL;
        int code, r = handle_open(&h, work, target->draft, work->keys[0].secret, compatibility, work->job.page_size, SQLITE_OPEN_READWRITE);

        if (r)
                return r;
        h.named = work->target;
        code = handle_read(&h);
        if (code != SQLITE_OK)
                return handle_refuse(&h, code);
        r = handle_text(&h, "PRAGMA integrity_check", &verdict);
        if (r == 0 && strcmp(verdict, "ok") != 0)
                r = answer_refuse(LKM_E_IO,
                                  "Every page of %s fits a key, but together they are no sound database (%s). Nothing was written; restore a backup.",
                                  work->database, verdict);
        return r;
}

static int rewrite(struct work *work, struct image *image, struct scan *scan)
{
        _cleanup_(target_deinit) struct target target = TARGET_INIT;
        struct rewriting w = { .scan = scan, .target = &target, .work = work };
        int r = target_begin(&target, work, image->n_pages * scan->format.size);

        if (r == 0)
                r = scan_pages(scan, image, work, pages_rewrite, &w);
        if (r == 0)
                r = target_verify(&target, work, scan->format.compatibility);
        return r == 0 ? target_finish(&target) : r;
}

/* ---- all of it ---- */

static int refuse_unknown(const struct work *work, const struct scan *scan)
{
        return answer_refuse(LKM_E_MIXED,
                             "%llu of the %llu pages of %s fit none of its keys; the first one is page %llu. Nothing was written: add the key that "
                             "they have, or restore a backup.",
                             (unsigned long long)scan->n_unknown, (unsigned long long)scan->n_pages, work->database,
                             (unsigned long long)scan->first_unknown);
}

static int refuse_hot(const struct work *work)
{
        bool hot = false;
        int r = check_journal_is_hot(work, &hot);

        if (r || !hot)
                return r;
        return answer_refuse(LKM_E_MIXED,
                             "%s is half written: its -journal has yet to be rolled back, which may be the cure. Copy both files to a safe place, have the "
                             "journal rolled back by `lkmctl recover` or by opening the database, and salvage what is then still needed.",
                             work->database);
}

int salvage_run(struct work *work)
{
        _cleanup_(image_deinit) struct image image = IMAGE_INIT;
        _cleanup_(scan_deinit) struct scan scan = { 0 };
        struct ranges ranges = { .work = work };
        int r = check_file(work, false, NULL);

        if (r == 0 && work->target)
                r = refuse_hot(work);
        if (r == 0)
                r = image_open(&image, work);
        if (r == 0 && image.n_bytes == 0)
                r = answer_refuse(LKM_E_NOT_FOUND, "The database %s has nothing in it: there is nothing to salvage. Restore a backup.", work->database);
        if (r == 0)
                r = scan_begin(&scan, &image, work);
        if (r)
                return r;
        scan.n_passes = work->target ? 2 : 1;
        r = scan_pages(&scan, &image, work, ranges_add, &ranges);
        if (r)
                return r;
        range_tell(&ranges);
        scan_tell(&scan, work);
        if (!work->target)
                return 0;
        return scan.n_unknown > 0 ? refuse_unknown(work, &scan) : rewrite(work, &image, &scan);
}
