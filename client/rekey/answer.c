/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/answer.h"

#include <errno.h>
#include <stdarg.h>

#include "common/clock.h"

#define PROGRESS_USEC (UINT64_C(100) * USEC_PER_MSEC)

static char sentence[ANSWER_LINE_MAX / 2];
static uint64_t progress_usec;

static void write_whole(const char *text, size_t n)
{
        while (n > 0) {
                ssize_t written = write(STDOUT_FILENO, text, n);

                if (written < 0 && errno != EINTR)
                        return;
                text += written > 0 ? written : 0;
                n -= written > 0 ? (size_t)written : 0;
        }
}

void answer_line(const char *format, ...)
{
        char line[ANSWER_LINE_MAX];
        va_list arguments;
        size_t n;
        int r;

        va_start(arguments, format);
        r = vsnprintf(line, sizeof(line) - 1, format, arguments);
        va_end(arguments);
        if (r < 0)
                return;
        n = (size_t)r < sizeof(line) - 2 ? (size_t)r : sizeof(line) - 2;
        /* A path may have anything in it; the reader's lines are to stay lines. */
        for (size_t i = 0; i < n; i++)
                if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
                        line[i] = '?';
        line[n] = '\n';
        write_whole(line, n + 1);
}

void answer_progress_end(uint64_t done, uint64_t total)
{
        progress_usec = clock_boottime_usec();
        answer_line("progress %llu %llu", (unsigned long long)(done < total ? done : total), (unsigned long long)total);
}

void answer_progress(uint64_t done, uint64_t total)
{
        uint64_t now = clock_boottime_usec();

        if (now - progress_usec >= PROGRESS_USEC)
                answer_progress_end(done, total);
}

void answer_remember(const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(sentence, sizeof(sentence), format, arguments);
        va_end(arguments);
}

void answer_end(int error)
{
        if (error)
                answer_line("error %d %s", error, sentence);
        else
                answer_line("done");
}
