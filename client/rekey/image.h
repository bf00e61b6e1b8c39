/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image: the pages of a database as a reader would see them, encrypted as they lie on the disk: the file's, and over them the committed ones of
 * its -wal. Read only. While it is open the process has SQLite's SHARED lock, so that nobody writes to the file, and, where there is WAL,
 * the lock of checkpoints. Opened and closed while the process has no connection to the database (handle.h says why).
 * Source for the WAL: https://www.sqlite.org/fileformat2.html#walformat; for the locks: SQLite's os_unix.c and wal.c.
 */
#pragma once

#include "client/rekey/page.h"
#include "client/rekey/work.h"

struct image {
        int fd, wal_fd, shm_fd; /* -1 where there is none */
        uint64_t n_bytes;       /* of the file */
        struct page_format format;
        uint64_t n_pages;
        uint32_t *frames; /* for each page, its last committed frame in the -wal, from 1; 0: none. NULL while there is no WAL */
        size_t n_frames;  /* pages for which @frames has room */
        uint32_t n_committed;   /* frames that are committed */
};
#define IMAGE_INIT { .fd = -1, .wal_fd = -1, .shm_fd = -1 }

/** image_open() - wait for the lock. Return: 0; LKM_E_BUSY with the holders told; another error told. */
int image_open(struct image *ret_image, const struct work *work);
/** image_set_format() - how to read it; may be called again. Return: 0, or an error told. */
int image_set_format(struct image *image, const struct work *work, const struct page_format *format);
/** image_read() - pages @first to @first + @n - 1 into @to, which has room. Return: 0, -errno. */
int image_read(const struct image *image, uint64_t first, size_t n, uint8_t *to);
/** image_sync() - what is read here is on the disk: the file, what is left of its side files, and the directory. Return: 0, or an error told. */
int image_sync(const struct image *image, const struct work *work);
void image_deinit(struct image *image);
