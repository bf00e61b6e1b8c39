/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calls: the log of record-calls, read by disk: every call that changed a file in one directory, in the order in which the kernel did them.
 * A file is known by its inode number from the call that made it to the next that makes one of the same number.
 */
#pragma once

#include <stdint.h>

enum call_kind {
        CALL_CREATE = 1, /* name: a new, empty file; a name of no bytes: a nameless one. value: mode */
        CALL_WRITE,      /* n bytes at offset */
        CALL_SIZE,       /* value: the new size; what is added reads as zeros */
        CALL_MODE,       /* value: the new mode */
        CALL_SYNC,       /* content, size and mode of the file are on the disk */
        CALL_DATASYNC,   /* its content and size are */
        CALL_SYNC_NAMES, /* the directory's names are on the disk */
        CALL_RENAME,     /* name becomes other, in one step */
        CALL_LINK,       /* the file is called name, too */
        CALL_UNLINK,     /* name is gone */
        CALL_UNKNOWN,    /* a call that this model does not know, named in name: the recording is worthless */
};

struct call {
        uint32_t kind; /* enum call_kind */
        uint32_t pid;
        uint64_t inode;
        uint64_t offset;
        uint64_t value;
        uint64_t n;       /* bytes of data, which follow the names */
        uint32_t n_name;  /* names without a NUL follow the struct */
        uint32_t n_other;
};
