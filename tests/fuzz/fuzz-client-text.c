/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text that lkmctl reads: the first byte is 's' for the file with a passphrase's salt, anything else for a REPORT, whose members are shown. What is shown is
 * without control characters and within its room.
 */
#include <jansson.h>

#include "client/lkmctl.h"
#include "client/sidefile.h"
#include "tests/fuzz/fuzz.h"

static void try_sidefile(struct bytes input)
{
        struct sidefile found;
        int r = sidefile_parse(&found, input);

        check(r == 0 || r == SIDEFILE_E_INVALID);
        if (r)
                return;
        check(found.n_salts >= 1 && found.n_salts <= SIDEFILE_SALTS_MAX);
        for (size_t i = 0; i < found.n_salts; i++)
                check(found.salts[i].n >= SIDEFILE_SALT_MIN && found.salts[i].n <= SIDEFILE_SALT_MAX);
}

static void show(json_t *value, unsigned depth)
{
        char text[SHOW_MAX];
        const char *name;
        json_t *member;
        size_t i;

        for (int how = SHOW_PLAIN; how <= SHOW_DURATION; how++) {
                show_json(text, value, (enum show)how);
                check(memchr(text, '\0', sizeof(text)));
                text_harmless(text);
                check(text_width(text) <= strlen(text));
                for (const char *c = text; *c; c++)
                        check((unsigned char)*c >= ' ' && *c != 0x7f);
        }
        if (depth > 8)
                return;
        json_array_foreach(value, i, member)
                show(member, depth + 1);
        json_object_foreach(value, name, member) {
                show(member, depth + 1);
                check(strchr(name, '.') || json_find(value, name) == member);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct bytes input = { data, n };
        json_t *report;

        if (fuzz_byte(&input) == 's') {
                try_sidefile(input);
                return 0;
        }
        report = json_loadb((const char *)input.data, input.n, JSON_REJECT_DUPLICATES, NULL);
        if (report)
                show(report, 0);
        json_decref(report);
        return 0;
}
