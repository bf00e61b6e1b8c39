/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox of the lkmd that is never installed: nothing. See meson.build. */
#include "daemon/sandbox.h"

int sandbox_confine_files(struct sandbox *s, const struct sandbox_files *files, const char **ret_why)
{
        return 0;
}

int sandbox_confine_calls(struct sandbox *s, const char **ret_why)
{
        return 0;
}
