/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer: the lines on standard output, as job.h has them, and the one error that a run may end with. A reader that has gone away changes
 * nothing: a step that has begun is ended. Knows nothing of databases.
 */
#pragma once

#include <stdint.h>

#include "common/cleanup.h"

enum { ANSWER_LINE_MAX = 4096 };

/** answer_line() - one line, at most ANSWER_LINE_MAX bytes, written at once; control characters become '?'. */
_printf_(1, 2) void answer_line(const char *format, ...);
/** answer_progress() - "progress DONE TOTAL", unless one was written a moment ago. @done over @total counts as @total. */
void answer_progress(uint64_t done, uint64_t total);
/** answer_progress_end() - the same, always written. */
void answer_progress_end(uint64_t done, uint64_t total);
/** answer_remember() - the sentence for people about the error that the run may end with; a later one replaces it. */
_printf_(1, 2) void answer_remember(const char *format, ...);
/** answer_refuse(error, format, ...) - answer_remember() of @error, an enum lkm_error. A macro, so that compilers know that its value is @error. */
#define answer_refuse(error, ...)              \
        ({                                     \
                int _error = (error);          \
                answer_remember(__VA_ARGS__);  \
                _error;                        \
        })
/** answer_end() - the last line: "done" for 0, else "error" with what answer_refuse() was told. */
void answer_end(int error);
