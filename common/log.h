/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: one line per event on standard error; with the "<N>" priority prefix of the journal when $JOURNAL_STREAM names
 * that stream, "program: level: text" on a terminal or file. Used by the executables only, never by common/, proto/ or
 * client/ code. Control characters in the text are escaped. Never given a secret.
 */
#pragma once

#include "common/cleanup.h"

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_NOTICE = 5, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/** log_init() - @program is kept by pointer; lines above @max are dropped. */
void log_init(const char *program, enum log_level max);
void log_set_max_level(enum log_level max);
/** log_level_parse() - "error", "warning", "notice", "info", "debug". Return: 0 or -EINVAL. */
int log_level_parse(enum log_level *ret_level, const char *text);

void log_line(enum log_level level, const char *format, ...) _printf_(2, 3);
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_LEVEL_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
