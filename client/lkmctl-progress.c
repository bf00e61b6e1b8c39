/* SPDX-License-Identifier: Apache-2.0 */
#include "client/lkmctl-progress.h"

#include <sys/ioctl.h>

#include "client/lkmctl-each.h"
#include "common/clock.h"

enum { WIDTH_DEFAULT = 80, WIDTH_MAX = 400, BAR_MIN = 8, BAR_MAX = 40, NAME_PARTS = 3 };
#define SHOW_INTERVAL_USEC (100 * USEC_PER_MSEC)

static const struct {
        const char *name, *words; /* of the JSON lines; for people */
} phases[] = {
        [LKM_PHASE_CHECK] = { "check", "checking" },
        [LKM_PHASE_QUIESCE] = { "quiesce", "waiting for others to close it" },
        [LKM_PHASE_REKEY] = { "rekey", "re-encrypting" },
        [LKM_PHASE_VERIFY] = { "verify", "verifying" },
        [LKM_PHASE_COMMIT] = { "commit", "finishing" },
};

void progress_begin(struct progress *p, const struct ctl *c, const char *database)
{
        *p = (struct progress){
                .is_json = c->json,
                .is_terminal = !c->json && isatty(STDOUT_FILENO),
                .database = database,
                .begun_usec = clock_boottime_usec(),
        };
}

void format_bytes(char ret_text[BYTES_TEXT_MAX], double n)
{
        static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
        size_t i = 0;

        for (; n >= 1024 && i + 1 < ELEMENTSOF(units); i++)
                n /= 1024;
        snprintf(ret_text, BYTES_TEXT_MAX, "%.*f %s", i > 0, n, units[i]);
}

/* ---- for people ---- */

static size_t terminal_width(void)
{
        struct winsize size;

        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                return WIDTH_DEFAULT;
        return size.ws_col < WIDTH_MAX ? size.ws_col : WIDTH_MAX;
}

/* At most @width characters of @text: its end, which tells more of a path. */
static const char *text_end(const char *text, size_t width)
{
        for (size_t n = text_width(text); n > width && *text; n--) {
                do
                        text++;
                while (((unsigned char)*text & 0xc0) == 0x80);
        }
        return text;
}

/* " 52% [#####     ] 52.0 MiB of 100.0 MiB, 71.3 MiB/s", as far as it fits into @width; a narrow line has no bar. */
static void format_share(char *ret_text, size_t size, const struct lkm_progress *progress, double seconds, size_t width)
{
        char done[BYTES_TEXT_MAX], total[BYTES_TEXT_MAX], rate[BYTES_TEXT_MAX], numbers[4 * BYTES_TEXT_MAX], bar[BAR_MAX + 1];
        double share = progress->done < progress->total ? (double)progress->done / (double)progress->total : 1;
        size_t used, room;

        format_bytes(done, (double)progress->done);
        format_bytes(total, (double)progress->total);
        format_bytes(rate, seconds > 0 ? (double)progress->done / seconds : 0);
        /* As wide at the end as now, so that the bar keeps its length. */
        used = (size_t)snprintf(numbers, sizeof(numbers), "%*s of %s, %10s/s", (int)strlen(total), done, total, rate) + strlen("100% [] ");
        room = width > used ? width - used : 0;
        room = room > BAR_MAX ? BAR_MAX : room;
        if (room < BAR_MIN) {
                snprintf(ret_text, size, "%3.0f%% %s", share * 100, numbers);
                return;
        }
        memset(bar, ' ', room);
        memset(bar, '#', (size_t)((double)room * share));
        bar[room] = '\0';
        snprintf(ret_text, size, "%3.0f%% [%s] %s", share * 100, bar, numbers);
}

/* Write the line over the one before. No escape sequences: every terminal knows "\r". */
static void terminal_write(struct progress *p, char *line, size_t width)
{
        char *end = line;

        text_harmless(line);
        for (size_t n = 0; *end && n < width; n++) {
                do
                        end++;
                while (((unsigned char)*end & 0xc0) == 0x80);
        }
        *end = '\0';
        width = text_width(line);
        printf("\r%s%*s", line, (int)(p->width > width ? p->width - width : 0), "");
        fflush(stdout);
        p->width = width;
}

static void terminal_show(struct progress *p, const struct lkm_progress *progress, uint64_t now)
{
        size_t width = terminal_width() - 1; /* the last column would begin a new line */
        const char *name = text_end(p->database, width / NAME_PARTS);
        const char *words = each_is_cancelled() ? "cancelling" : phases[p->phase].words;
        char share[BAR_MAX + 5 * BYTES_TEXT_MAX] = "";
        _cleanup_(freep) char *line = NULL;
        size_t used = text_width(name) + strlen(": ") + strlen(words) + 1;

        if (progress->total > 0)
                format_share(share, sizeof(share), progress, (double)(now - p->phase_usec) / (double)USEC_PER_SEC, width > used ? width - used : 0);
        if (asprintf(&line, "%s: %s %s", name, words, share) < 0)
                line = NULL;
        else
                terminal_write(p, line, width);
}

double progress_end(struct progress *p)
{
        if (p->width > 0) {
                printf("\r%*s\r", (int)p->width, "");
                fflush(stdout);
        }
        p->width = 0;
        return (double)(clock_boottime_usec() - p->begun_usec) / (double)USEC_PER_SEC;
}

/* ---- for programs ---- */

static void json_show(const struct progress *p, const struct lkm_progress *progress)
{
        ctl_print_json(json_pack("{s:o, s:s, s:I, s:I}", "database", json_text(p->database), "phase", phases[p->phase].name, "done",
                                 (json_int_t)progress->done, "total", (json_int_t)progress->total));
}

int progress_callback(void *userdata, const struct lkm_progress *progress)
{
        struct progress *p = userdata;
        uint64_t now = clock_boottime_usec();
        bool is_new = progress->phase != p->phase;

        if (progress->phase == 0 || progress->phase >= ELEMENTSOF(phases))
                return each_is_cancelled();
        if (is_new) {
                p->phase = progress->phase;
                p->phase_usec = now;
        }
        /* People see each phase; a program reads ten lines a second at most. */
        if (p->shown_usec && now - p->shown_usec < SHOW_INTERVAL_USEC && (p->is_json || !is_new))
                return each_is_cancelled();
        if (p->is_json)
                json_show(p, progress);
        else if (p->is_terminal)
                terminal_show(p, progress, now);
        p->shown_usec = now;
        return each_is_cancelled();
}
