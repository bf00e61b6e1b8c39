/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meter: a layer between SQLite and its file system that counts what is written, so that one long call shows progress in bytes, and
 * remembers what failed, which SQLCipher does not tell. It forces what was written onto the disk in slices that take a fraction of a second each,
 * so that no fsync(2) at the end takes longer. For this process only, all of whose connections go through it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/** meter_register() - put it in, before the first connection. Return: 0, or LKM_E_NO_MEMORY told to answer_refuse(). */
int meter_register(void);
/** meter_begin() - count from now on, and write "progress" lines with @total; forgets earlier failures. */
void meter_begin(uint64_t total);
/** meter_end() - count no longer. */
void meter_end(void);
/** meter_wait() - to be called while a lock is waited for: writes the line that is due. */
void meter_wait(void);
/** meter_failure() - the errno of the first write, sync or truncation that failed since meter_begin(), EIO where none is known; 0: none. */
int meter_failure(void);
/** meter_hide_wal() - whether connections find that there is no -wal, so that they leave it alone. */
void meter_hide_wal(bool hide);
