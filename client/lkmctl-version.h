/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl-version: what lkmd's report on a record says about the versions of its key.
 */
#pragma once

#include "client/lkmctl.h"

/** version_report() - CHECK the record of @database. @scope: refuse another one; NULL: any. @ret_report: release with json_decref().
 *  Return: 0, or an error of liblkm; nothing is printed. */
int version_report(struct ctl *c, const char *database, const char *scope, json_t **ret_report);
/** version_pending() - the version of a rotation that has not ended. Return: it, or 0. */
json_int_t version_pending(json_t *report);
/** version_print() - the table of all versions, and what to do about a rotation that has not ended or is due. */
void version_print(json_t *report, const char *database);
