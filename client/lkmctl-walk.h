/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl-walk: the databases in a folder and those below it that have a .key beside them. Follows no symbolic link, and so stays inside,
 * whoever changes the folders meanwhile; opens folders only.
 */
#pragma once

/** A database was found, at @path. Return: 0 to go on, another value to end the walk. */
typedef int walk_found(void *userdata, const char *path);

/**
 * walk_databases() - in the order of their names; what cannot be looked into is told on standard error and passed over
 * @folder: may itself be a symbolic link, since the user names it
 * Return: 0; what @found returned; -errno when @folder cannot be opened.
 */
int walk_databases(const char *folder, walk_found *found, void *userdata);
