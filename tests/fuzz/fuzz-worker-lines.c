/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker_line_take() on any lines, as many as there are. Whatever they say, the result keeps its bounds, and its texts can be shown; a line that is
 * not as job.h says changes no count.
 */
#include "client/worker-lines.h"
#include "tests/fuzz/fuzz.h"

static void check_text(const char *text, size_t room)
{
        check(memchr(text, '\0', room));
        for (; *text; text++)
                check((unsigned char)*text >= ' ' && *text != 0x7f);
}

static void check_result(const struct worker_result *r)
{
        check(r->n_fits <= REKEY_KEYS_MAX && (r->opens > 0) == (r->n_opens > 0) && r->error >= 0);
        check_text(r->mode, sizeof(r->mode));
        check_text(r->sentence, sizeof(r->sentence));
        check((r->error > 0) == (*r->sentence != '\0'));
        for (size_t i = 0; i < r->n_holders && i < WORKER_HOLDERS_MAX; i++) {
                check(r->holders[i].pid >= 0);
                check_text(r->holders[i].command, sizeof(r->holders[i].command));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct worker_result result = { 0 };
        struct bytes input = { data, n };

        while (input.n > 0) {
                _cleanup_(freep) char *line = bytes_to_string(fuzz_until(&input, '\n'));
                struct worker_result before = result;
                uint64_t done = UINT64_MAX - 1, total = UINT64_MAX - 1;
                int r;

                check(line != NULL);
                r = worker_line_take(&result, line, &done, &total);
                check(r >= 0 && r <= WORKER_LINE_E_INVALID);
                check(r == WORKER_LINE_E_PROGRESS || (done == UINT64_MAX - 1 && total == UINT64_MAX - 1));
                check((r == WORKER_LINE_E_ERROR) == (result.error != before.error) || (r == WORKER_LINE_E_ERROR && before.error == result.error));
                if (r == WORKER_LINE_E_INVALID || r == WORKER_LINE_E_OTHER)
                        check(result.n_fits == before.n_fits && result.n_holders == before.n_holders && result.n_opens == before.n_opens);
                check_result(&result);
        }
        return 0;
}
