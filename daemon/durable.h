/* SPDX-License-Identifier: Apache-2.0 */
/*
 * durable: whole small files that survive a crash either complete or not at all. For what the daemons' own commands
 * write (KEK files, the development configuration). Knows nothing of the content, which may be secret.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "common/bytes.h"

/** Who is to own the file; uid and gid (uid_t)-1: whoever runs. */
struct durable_owner {
        uid_t uid;
        gid_t gid;
};
#define DURABLE_OWNER_SELF ((struct durable_owner){ (uid_t)-1, (gid_t)-1 })

/**
 * durable_write() - write @content to @path with mode 0600: temporary file, fsync, rename, fsync of the directory
 * @replace: false = never overwrite
 * Return: 0; -EEXIST when @path exists and @replace is false; -errno. After a failure @path is as it was.
 */
int durable_write(const char *path, struct bytes content, struct durable_owner owner, bool replace);

/** durable_directory_open() - the directory that holds @path, for openat(2) and flock(2). Return: a descriptor or -errno. */
int durable_directory_open(const char *path);

/** durable_mkdirs() - make the directory @path and its missing parents; @mode is for each one made. Return: 0 or -errno. */
int durable_mkdirs(const char *path, mode_t mode);
