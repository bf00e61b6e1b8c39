/* SPDX-License-Identifier: Apache-2.0 */
/* scratch: one folder for the files of a target, removed with them when the process ends by itself. */
#pragma once

#include "common/bytes.h"

/** scratch_path() - of @name in the folder; static; there may be 8 different names. */
const char *scratch_path(const char *name);
/** scratch_write() - @content into the file @name, mode 0600, in the place of what it was. Return: its path. */
const char *scratch_write(const char *name, struct bytes content);
/** scratch_folder() - make the folder @name in it. */
void scratch_folder(const char *name);
