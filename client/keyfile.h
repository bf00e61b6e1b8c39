/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyfile: the file {database}.key, read and written durably, atomically, and never over another. Its content is opaque here.
 * Knows nothing of daemons or keys.
 */
#pragma once

#include <stdbool.h>

#include "common/bytes.h"
#include "common/cleanup.h"

/** Named outcomes of keyfile_read(). */
enum {
        KEYFILE_E_INVALID = 1, /* empty, over RECORD_MAX, or no regular file */
};

/** keyfile_path() - "{database_path}.key" in heap. Return: 0 or -ENOMEM. */
int keyfile_path(char **ret_path, const char *database_path);
/** keyfile_database_exists() - whether the database, its -wal or its -journal has a directory entry, even a dangling symlink.
 *  Return: 0 or 1; -errno when that cannot be found out. */
int keyfile_database_exists(const char *database_path);
/** keyfile_read() - the whole file into heap, free with free(). Return: 0, KEYFILE_E_INVALID, -errno. */
int keyfile_read(const char *path, uint8_t **ret_data, size_t *ret_n);
/**
 * keyfile_create() - write a new file, mode 0600, which is on the disk when this returns 0
 * Return: 0; -EEXIST and nothing changed; another -errno: the file is then whole or not there. It is left in place when only
 *         the directory could not be synced, since others may have read it.
 */
int keyfile_create(const char *path, struct bytes content);

/**
 * A .key file that nobody else may replace: an flock(2) on its inode, which passes to each new file that replaces it. Who holds it runs a
 * rotation or another change of the record; the kernel gives it back when every holder of @fd has ended, so a worker that inherited it keeps
 * it. Never taken on the database itself: closing a descriptor of that would drop SQLite's own locks in this process.
 */
struct keyfile_lock {
        char *path; /* resolved */
        int fd;     /* -1 while not held */
};
#define KEYFILE_LOCK_INIT { .fd = -1 }

/**
 * keyfile_lock() - wait for the lock of an existing .key file
 * @deadline_usec: CLOCK_BOOTTIME
 * @ret_lock:      release with keyfile_unlock()
 * Return: 0; -EWOULDBLOCK when another holds it until the deadline; -errno.
 */
int keyfile_lock(struct keyfile_lock *ret_lock, const char *path, uint64_t deadline_usec);
/** keyfile_unlock() - harmless when not held. */
void keyfile_unlock(struct keyfile_lock *lock);
/**
 * keyfile_replace() - put @content in the place of the locked file, keeping its owner and mode; the lock is then on the new one
 * Return: 0; -errno and the old file is whole in its place, or (only the directory could not be synced) the new one.
 */
int keyfile_replace(struct keyfile_lock *lock, struct bytes content);
