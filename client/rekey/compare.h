/* SPDX-License-Identifier: Apache-2.0 */
/* compare: whether two databases of one connection, "main" and "target", have the same in them. */
#pragma once

#include "client/rekey/handle.h"

/** compare_schemas() - every table, index, view and trigger. Return: 0, or LKM_E_IO or another error told. */
int compare_schemas(struct handle *h, const struct work *work);
/** compare_tables() - every row of every table, each value with its type, in the order of the rows; a "table" line for each table.
 *  Return: 0, or LKM_E_IO or another error told. */
int compare_tables(struct handle *h, const struct work *work);
