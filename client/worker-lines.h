/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker-lines: what lkm-rekey's lines mean (client/rekey/job.h). Pure: no process, no descriptor.
 */
#pragma once

#include "client/worker.h"

/** Named outcomes of worker_line_take(). */
enum {
        WORKER_LINE_E_DONE = 1, /* the last line: it succeeded */
        WORKER_LINE_E_ERROR,    /* the last line: `error` and `sentence` say why it did not */
        WORKER_LINE_E_PROGRESS, /* @ret_done and @ret_total were written */
        WORKER_LINE_E_OTHER,    /* nothing that a result has a place for */
        WORKER_LINE_E_INVALID,  /* one of job.h's, but not as it says */
};

/** worker_line_take() - one line, without its end, into @result; @line is written to. Return: 0 or a WORKER_LINE_E_*. */
int worker_line_take(struct worker_result *result, char *line, uint64_t *ret_done, uint64_t *ret_total);
