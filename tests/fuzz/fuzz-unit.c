/* SPDX-License-Identifier: Apache-2.0 */
/* The text of /proc/PID/cgroup, of whatever bytes: a unit that is found is one whose name may stand in a rule, and the text has it as a component of a path. */
#include <string.h>

#include "daemon/unit.h"
#include "tests/fuzz/fuzz.h"

/* Whether "/@unit", or "/_@unit", is somewhere in the text with the end of a component behind it. */
static bool is_component(struct bytes text, const char *unit)
{
        const size_t n = strlen(unit);

        for (size_t i = 1; i + n < text.n; i++) {
                if (strncmp((const char *)text.data + i, unit, n) != 0 || (text.data[i + n] != '/' && text.data[i + n] != '\n'))
                        continue;
                if (text.data[i - 1] == '/' || (text.data[i - 1] == '_' && i > 1 && text.data[i - 2] == '/'))
                        return true;
        }
        return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        char unit[UNIT_NAME_MAX + 1];

        if (unit_from_cgroup(unit, (const char *)data, n)) {
                check(unit_name_check(unit) == NULL);
                check(strlen(unit) <= UNIT_NAME_MAX);
                check(is_component((struct bytes){ data, n }, unit));
        }
        return 0;
}
