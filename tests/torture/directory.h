/* SPDX-License-Identifier: Apache-2.0 */
/* directory: what files contain and what they are called, in memory, and what a recorded call does to both. Aborts on failure. */
#pragma once

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "calls.h"

enum { NAMES_MAX = 64 };

struct content {
        uint8_t *data; /* heap */
        size_t n, room;
        mode_t mode;
};

struct name {
        char text[NAME_MAX + 1];
        size_t file;
};

struct names {
        size_t n;
        struct name names[NAMES_MAX];
};

/** A call as it was logged, with pointers into the log. */
struct step {
        struct call call;
        size_t file; /* index: what call.inode means at that time */
        const char *name, *other;
        const uint8_t *data;
};

/** content_resize() - what is added is zeros. */
void content_resize(struct content *c, size_t n);
void content_copy(struct content *to, const struct content *from);
/** content_write() - grows where it has to. */
void content_write(struct content *c, size_t at, const uint8_t *data, size_t n);
/** content_apply() - a CALL_WRITE, CALL_SIZE or CALL_MODE; others do nothing. */
void content_apply(struct content *c, const struct step *s);
/** content_read() - a file as it is. */
void content_read(struct content *c, const char *path);

/** names_find() - NULL when there is none; valid until the next change. */
struct name *names_find(struct names *names, const char *text, size_t n);
void names_set(struct names *names, const char *text, size_t n, size_t file);
void names_remove(struct names *names, const char *text, size_t n);
/** names_apply() - a CALL_CREATE, CALL_LINK, CALL_RENAME or CALL_UNLINK; others do nothing. */
void names_apply(struct names *names, const struct step *s);
