/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

static struct {
        const char *program;
        enum log_level max;
        bool journal;
} state = { "lkm", LOG_LEVEL_INFO, false };

static const char *const level_names[] = {
        [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
        [LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
};

/* $JOURNAL_STREAM is "device:inode" of the stream that goes to the journal, systemd.exec(5). */
static bool stderr_is_journal(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;

        if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(STDERR_FILENO, &st) < 0)
                return false;
        return st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void log_init(const char *program, enum log_level max)
{
        state.program = program;
        state.max = max;
        state.journal = stderr_is_journal();
}

void log_set_max_level(enum log_level max)
{
        state.max = max;
}

int log_level_parse(enum log_level *ret_level, const char *text)
{
        for (unsigned i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
                if (strcmp(level_names[i], text) == 0) {
                        *ret_level = (enum log_level)i;
                        return 0;
                }
        }
        return -EINVAL;
}

void log_line(enum log_level level, const char *format, ...)
{
        char line[2048];
        size_t start, n;
        va_list arguments;
        int r;

        if (level > state.max)
                return;
        r = state.journal ? snprintf(line, sizeof(line), "<%d>", (int)level)
                          : snprintf(line, sizeof(line), "%s: %s: ", state.program, level_names[level]);
        start = r < 0 ? 0 : (size_t)r;
        va_start(arguments, format);
        r = vsnprintf(line + start, sizeof(line) - start - 1, format, arguments);
        va_end(arguments);
        if (r < 0)
                return;
        n = strlen(line);
        /* One event, one line: what came from outside cannot start another. */
        for (size_t i = start; i < n; i++) {
                if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
                        line[i] = '?';
        }
        line[n++] = '\n';
        if (write(STDERR_FILENO, line, n) < 0)
                return; /* there is nowhere to say it */
}
