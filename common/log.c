/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/stat.h>

#define TEXT_MAX 2048
#define LINE_MAX_SIZE (TEXT_MAX * 4 + 128)

static struct {
        const char *program;
        enum log_level max;
        bool journal;
} log_state = { "lkm", LOG_LEVEL_INFO, false };

static const struct {
        enum log_level level;
        const char *name;
} level_names[] = {
        { LOG_LEVEL_ERROR, "error" }, { LOG_LEVEL_WARNING, "warning" }, { LOG_LEVEL_NOTICE, "notice" },
        { LOG_LEVEL_INFO, "info" },   { LOG_LEVEL_DEBUG, "debug" },
};

/* $JOURNAL_STREAM is inherited by everything below a service, so it counts only if it names our standard error. */
static bool stderr_is_journal(void)
{
        const char *text = getenv("JOURNAL_STREAM");
        struct stat st;
        char own[64];

        if (!text || fstat(STDERR_FILENO, &st) < 0)
                return false;
        snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
        return strcmp(own, text) == 0;
}

void log_init(const char *program, enum log_level max)
{
        log_state.program = program;
        log_state.max = max;
        log_state.journal = stderr_is_journal();
}

void log_set_max_level(enum log_level max)
{
        log_state.max = max;
}

int log_level_parse(enum log_level *ret_level, const char *text)
{
        for (size_t i = 0; i < ELEMENTSOF(level_names); i++) {
                if (strcmp(level_names[i].name, text) == 0) {
                        *ret_level = level_names[i].level;
                        return 0;
                }
        }
        return -EINVAL;
}

static const char *level_name(enum log_level level)
{
        for (size_t i = 0; i < ELEMENTSOF(level_names); i++) {
                if (level_names[i].level == level)
                        return level_names[i].name;
        }
        return "info";
}

/* Names and paths in the text may come from other users: a newline must not start a line of its own. */
static size_t escape(char *line, size_t used, const char *text)
{
        static const char digits[] = "0123456789abcdef";

        for (const char *p = text; *p; p++) {
                unsigned char c = (unsigned char)*p;

                if (c >= 0x20 && c != 0x7f) {
                        line[used++] = *p;
                        continue;
                }
                line[used++] = '\\';
                line[used++] = 'x';
                line[used++] = digits[c >> 4];
                line[used++] = digits[c & 15];
        }
        return used;
}

void log_line(enum log_level level, const char *format, ...)
{
        char text[TEXT_MAX], line[LINE_MAX_SIZE];
        int saved_errno = errno, n;
        size_t used;
        va_list arguments;

        if (level > log_state.max)
                return;
        va_start(arguments, format);
        n = vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        if (n < 0)
                return;

        if (log_state.journal)
                n = snprintf(line, 128, "<%d>", (int)level);
        else
                n = snprintf(line, 128, "%.64s: %s: ", log_state.program, level_name(level));
        used = escape(line, (size_t)n, text);
        line[used++] = '\n';
        /* One write, so that lines of several processes do not mix. There is nowhere to report its failure. */
        while (write(STDERR_FILENO, line, used) < 0 && errno == EINTR)
                ;
        errno = saved_errno;
}
