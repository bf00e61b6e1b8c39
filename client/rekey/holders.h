/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holders: the processes that are in the way of whoever wants a database for himself: those that hold one of SQLite's locks, and those that merely
 * have the file open. Found by F_GETLK and by /proc; a process that may not be looked into shows only by its locks. An idle connection in WAL mode
 * always has SHARED on the file; it counts as one that merely has it open. Not while this process has a connection to it (handle.h says why).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/rekey/work.h"

/* Bytes that SQLite locks, in the database: */
#define HOLDERS_PENDING UINT64_C(0x40000000)
#define HOLDERS_RESERVED (HOLDERS_PENDING + 1)
#define HOLDERS_SHARED (HOLDERS_PENDING + 2)
#define HOLDERS_N_SHARED 510
/* and in the -shm: writer, checkpointer, recovery and five readers; the last one is held by each connection. */
#define HOLDERS_SHM_FIRST 120
#define HOLDERS_SHM_CHECKPOINT 121
#define HOLDERS_SHM_CONNECTION 128

enum { HOLDERS_MAX = 64, HOLDERS_COMMAND_MAX = 16 };

struct holder {
        pid_t pid; /* 0 where the kernel does not say */
        bool locks;
        char command[HOLDERS_COMMAND_MAX + 1]; /* printable ASCII */
};

struct holders {
        size_t n; /* further ones are left out */
        struct holder holder[HOLDERS_MAX];
};

/** holders_find() - @path: of a file that exists. This process is left out. Return: 0, -errno. */
int holders_find(struct holders *ret_holders, const char *path);
/** holders_lock() - whether one of them has a lock. */
bool holders_lock(const struct holders *holders);
/** holders_tell() - a "holder" line for each, unless the same was told before. */
void holders_tell(const struct holders *holders);
/** holders_refuse() - tell them, and say that the database is in use. @holders NULL: find them first. Return: LKM_E_BUSY. */
int holders_refuse(const struct work *work, const struct holders *holders);
