/* SPDX-License-Identifier: Apache-2.0 */
#include "client/worker-lines.h"

#include <errno.h>
#include <string.h>

/* The next word of *line, which moves behind it; "" at the end. */
static char *word_take(char **line)
{
        char *word = *line, *space = strchr(word, ' ');

        if (space) {
                *space = '\0';
                *line = space + 1;
        } else {
                *line = word + strlen(word);
        }
        return word;
}

/* Decimal digits and nothing else. */
static bool number_take(char **line, uint64_t maximum, uint64_t *ret_number)
{
        const char *word = word_take(line);
        char *end;
        unsigned long long number;

        if (*word < '0' || *word > '9')
                return false;
        errno = 0;
        number = strtoull(word, &end, 10);
        if (*end || errno || number > maximum)
                return false;
        *ret_number = number;
        return true;
}

/* Text of another process for people: no control characters. */
static void text_copy(char *to, size_t room, const char *text)
{
        snprintf(to, room, "%s", text);
        for (; *to; to++) {
                if ((unsigned char)*to < ' ' || *to == 0x7f)
                        *to = '?';
        }
}

static int take_progress(char *line, uint64_t *ret_done, uint64_t *ret_total)
{
        uint64_t done, total;

        if (!number_take(&line, UINT64_MAX, &done) || !number_take(&line, UINT64_MAX, &total))
                return WORKER_LINE_E_INVALID;
        *ret_done = done;
        *ret_total = total;
        return WORKER_LINE_E_PROGRESS;
}

static int take_holder(struct worker_result *r, char *line)
{
        struct worker_holder holder = { 0 };
        uint64_t pid;
        const char *kind;

        if (!number_take(&line, INT32_MAX, &pid))
                return WORKER_LINE_E_INVALID;
        holder.pid = (pid_t)pid;
        kind = word_take(&line);
        holder.locks = strcmp(kind, "lock") == 0;
        if (!holder.locks && strcmp(kind, "open") != 0)
                return WORKER_LINE_E_INVALID;
        text_copy(holder.command, sizeof(holder.command), line);
        if (r->n_holders < WORKER_HOLDERS_MAX)
                r->holders[r->n_holders] = holder;
        r->n_holders++;
        return 0;
}

static int take_fits(struct worker_result *r, char *line)
{
        uint64_t version, pages;

        if (r->n_fits == REKEY_KEYS_MAX || !number_take(&line, UINT32_MAX, &version) || !number_take(&line, UINT64_MAX, &pages))
                return WORKER_LINE_E_INVALID;
        r->fits[r->n_fits++] = (struct worker_fit){ .version = (uint32_t)version, .pages = pages };
        return 0;
}

static int take_pages(struct worker_result *r, char *line)
{
        bool whole = number_take(&line, UINT64_MAX, &r->n_pages) && number_take(&line, UINT64_MAX, &r->n_zero_pages) &&
                     number_take(&line, UINT64_MAX, &r->n_unknown_pages);

        return whole ? 0 : WORKER_LINE_E_INVALID;
}

static int take_opens(struct worker_result *r, char *line)
{
        uint64_t version;

        if (!number_take(&line, UINT32_MAX, &version) || version == 0)
                return WORKER_LINE_E_INVALID;
        if (r->n_opens++ == 0)
                r->opens = (uint32_t)version;
        return 0;
}

static int take_error(struct worker_result *r, char *line)
{
        uint64_t number;

        if (!number_take(&line, INT32_MAX, &number) || number == 0)
                return WORKER_LINE_E_INVALID;
        r->error = (int)number;
        text_copy(r->sentence, sizeof(r->sentence), *line ? line : lkm_strerror((int)number));
        return WORKER_LINE_E_ERROR;
}

static int take_library(struct worker_result *r, char *line)
{
        uint64_t major;

        if (!number_take(&line, UINT32_MAX, &major))
                return WORKER_LINE_E_INVALID;
        r->library = (uint32_t)major;
        return 0;
}

static int take_mode(struct worker_result *r, char *line)
{
        text_copy(r->mode, sizeof(r->mode), line);
        return 0;
}

static int take_empty(struct worker_result *r, char *line)
{
        r->empty = true;
        return 0;
}

static int take_done(struct worker_result *r, char *line)
{
        return WORKER_LINE_E_DONE;
}

int worker_line_take(struct worker_result *result, char *line, uint64_t *ret_done, uint64_t *ret_total)
{
        static const struct {
                const char *name;
                int (*take)(struct worker_result *r, char *line);
        } kinds[] = {
                { "library", take_library }, { "mode", take_mode },   { "holder", take_holder }, { "fits", take_fits },   { "pages", take_pages },
                { "opens", take_opens }, { "empty", take_empty },   { "error", take_error }, { "done", take_done },
        };
        size_t n = strcspn(line, " ");
        char *rest = line[n] ? line + n + 1 : line + n;

        if (strncmp(line, "progress ", sizeof("progress ") - 1) == 0)
                return take_progress(rest, ret_done, ret_total);
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
                if (strlen(kinds[i].name) == n && strncmp(line, kinds[i].name, n) == 0)
                        return kinds[i].take(result, rest);
        }
        return WORKER_LINE_E_OTHER;
}
