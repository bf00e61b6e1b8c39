/* SPDX-License-Identifier: Apache-2.0 */
/* paths: the names of what lies beside a database. */
#pragma once

#include <stdbool.h>

/** paths_side() - @path with @suffix, in heap. Return: 0, -ENOMEM. */
int paths_side(char **ret_path, const char *path, const char *suffix);
/** paths_directory() - the directory that @path is in, in heap. Return: 0, -ENOMEM. */
int paths_directory(char **ret_path, const char *path);
/** paths_open_directory() - to fsync(2) it. Return: 0, -errno. */
int paths_open_directory(int *ret_fd, const char *path);
/** paths_resolve() - where a file that exists really is, else @path with its directory resolved; always with a '/' in front, so that SQLite takes
 *  it for nothing else. Return: 0, -errno. */
int paths_resolve(char **ret_path, const char *path);
