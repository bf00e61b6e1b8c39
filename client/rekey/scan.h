/* SPDX-License-Identifier: Apache-2.0 */
/* scan: every page of an image against the keys of the job, and what came of it. */
#pragma once

#include "client/rekey/image.h"

/** What a page fits: the index of a key, or one of these. */
enum { SCAN_ZERO = REKEY_KEYS_MAX, SCAN_UNKNOWN };

struct scan {
        struct page_format format;
        uint64_t n_pages, n_zero, n_unknown;
        uint64_t first_unknown;                 /* its number; 0: none */
        uint64_t n_fit[REKEY_KEYS_MAX];         /* for each key of the job; a page counts for one of them */
        unsigned n_passes, pass;                /* how often scan_pages() will be called, for its progress; 0 counts as 1; and was */
        bool first_fits[REKEY_KEYS_MAX];        /* page 1 */
        struct page_key *keys[REKEY_KEYS_MAX];  /* made ready for this file */
};

void scan_deinit(struct scan *scan);

/**
 * scan_begin() - find the format that page 1 has under one of the keys, make the keys ready for it, and set the image to it
 * Where page 1 fits none, the format is the one of the job. Return: 0, or an error told.
 */
int scan_begin(struct scan *ret_scan, struct image *image, const struct work *work);
/** What is told of pages @first to @first + @n - 1, in order; @fits has a value for each. Return: 0, or an error told, which ends the scan. */
typedef int scan_callback(void *userdata, uint64_t first, size_t n, const uint8_t *fits, uint8_t *pages);
/** scan_pages() - all of them, with "progress" lines. @callback: may be NULL. Return: 0, or an error told. */
int scan_pages(struct scan *scan, struct image *image, const struct work *work, scan_callback *callback, void *userdata);
/** scan_only() - the index of the key that every page fits and, alone, page 1; -1: none. */
int scan_only(const struct scan *scan, const struct work *work);
/** scan_tell() - the "fits" and "pages" lines. */
void scan_tell(const struct scan *scan, const struct work *work);
