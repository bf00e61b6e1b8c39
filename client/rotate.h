/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rotate: a database's change from one key to another, and the end of one that was interrupted. lkm.h has the contract of both; proto/PROTOCOL.md
 * says what the record goes through. Decides by what lkm-rekey proves, never by what was attempted; parses no record.
 */
#pragma once

#include "client/lkm.h"

/** rotate_load() - lkm_load() of a record that has a pending version: ends that rotation, or waits for who does, up to the handle's deadline.
 *  Return: as lkm_load(); LKM_E_ROTATION_IN_PROGRESS when it has not ended, or the caller may not end it. */
int rotate_load(struct lkm *lkm, const char *database_path, const char *scope, struct lkm_key **ret_key);
