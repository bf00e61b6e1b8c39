/* SPDX-License-Identifier: Apache-2.0 */
/*
 * power-loss: run an operation once under record-calls, then lose the power in it as often as asked, and judge what is left.
 *
 *     power-loss DATABASE HASH STATES SEED COMMAND…
 *
 * HASH is of the content, as `app create` and `control create` print it. The directory of DATABASE is what is recorded; states are put into
 * {directory}.state. The moments are each sync point (right before and right after each fsync, and the end) and as many others by chance. At each
 * moment everything, nothing or the last call of what is not durable is kept, of content and of names, and then, as often as STATES allows,
 * parts by chance (disk.h). Only distinct states count.
 *
 * The first states that did not survive are told on standard error, unless $TORTURE_QUIET is set; with $TORTURE_KEEP, a folder, they are put
 * there. $TORTURE_WHAT names the operation in lines about progress. Standard output: one line of JSON. Exit status 0: the test ran, whatever it
 * found; 99: it did not.
 */
#include <err.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "chance.h"
#include "common/clock.h"
#include "common/cleanup.h"
#include "disk.h"
#include "judge.h"

enum { PROGRESS_USEC = 10 * 1000 * 1000, TELL_MAX = 5, VAIN_MAX = 20 };

struct power_loss {
        struct disk *disk;
        const char *database; /* its name in the directory */
        char state[PATH_MAX];
        uint64_t content_hash;
        uint64_t n_wanted, n_drawn, n_states, n_of[N_VERDICTS], n_taken_back;
        uint64_t *seen; /* open hash set of n_room */
        size_t n_room;
        uint64_t n_told_at_most;
        struct chance chance;
        uint64_t begun_usec, told_usec;
};

/* ---- distinct states ---- */

static void seen_init(struct power_loss *p)
{
        for (p->n_room = 1024; p->n_room < 4 * p->n_wanted;)
                p->n_room *= 2;
        p->seen = calloc(p->n_room, sizeof(*p->seen));
        if (!p->seen)
                err(99, "calloc");
}

static bool seen_add(struct power_loss *p, uint64_t hash)
{
        size_t i = hash & (p->n_room - 1);

        hash |= 1; /* 0 is a free place */
        for (; p->seen[i]; i = (i + 1) & (p->n_room - 1))
                if (p->seen[i] == hash)
                        return false;
        p->seen[i] = hash;
        return true;
}

/* ---- moments ---- */

static int compare_moments(const void *a, const void *b)
{
        size_t x = *(const size_t *)a, y = *(const size_t *)b;

        return x < y ? -1 : x > y;
}

/* Return: how many, ascending, in heap. */
static size_t moments_choose(struct power_loss *p, size_t **ret_moments)
{
        size_t n_calls = disk_n_calls(p->disk), n = 0, n_syncs = 0, n_distinct = 0;
        size_t *moments;

        for (size_t i = 0; i < n_calls; i++)
                n_syncs += disk_is_sync(p->disk, i);
        moments = calloc(4 * n_syncs + 4, sizeof(*moments));
        if (!moments)
                err(99, "calloc");
        for (size_t i = 0; i < n_calls; i++)
                if (disk_is_sync(p->disk, i)) {
                        moments[n++] = i;
                        moments[n++] = i + 1;
                        moments[n++] = chance_below(&p->chance, n_calls + 1);
                        moments[n++] = chance_below(&p->chance, n_calls + 1);
                }
        moments[n++] = n_calls;
        qsort(moments, n, sizeof(*moments), compare_moments);
        for (size_t i = 0; i < n; i++)
                if (i == 0 || moments[i] != moments[n_distinct - 1])
                        moments[n_distinct++] = moments[i];
        *ret_moments = moments;
        return n_distinct;
}

/* ---- states ---- */

static void keep(const struct power_loss *p)
{
        const char *folder = getenv("TORTURE_KEEP");
        char path[PATH_MAX];

        if (!folder)
                return;
        snprintf(path, sizeof(path), "%s/%" PRIu64, folder, p->n_states);
        if (mkdir(path, 0755) == 0)
                disk_put(p->disk, path);
}

static void tell(const struct power_loss *p, size_t moment, enum disk_kept content, enum disk_kept names, uint64_t seed,
                 const struct judgement *j)
{
        static const char *const kept[] = { "all", "none", "last", "sectors", "mixed" };
        static const char *const verdicts[] = { "sound", "LOST", "FLIPPED", "MANUAL" };
        char call[512] = "the end";

        if (moment < disk_n_calls(p->disk))
                disk_describe(p->disk, moment, call, sizeof(call));
        fprintf(stderr, "%s before call %s; content kept: %s, names: %s, seed %" PRIu64 ": %s\n", verdicts[j->verdict], call, kept[content],
                kept[names], seed, j->why);
}

static void progress(struct power_loss *p)
{
        const char *what = getenv("TORTURE_WHAT");
        uint64_t now = clock_boottime_usec();

        if (now - p->told_usec < PROGRESS_USEC)
                return;
        p->told_usec = now;
        fprintf(stderr, "%s: %" PRIu64 " of %" PRIu64 " states, %" PRIu64 " a second; %" PRIu64 " lost, %" PRIu64 " flipped, %" PRIu64 " manual\n",
                what ? what : p->database, p->n_states, p->n_wanted, p->n_states * 1000000 / (now - p->begun_usec), p->n_of[VERDICT_LOST],
                p->n_of[VERDICT_FLIPPED], p->n_of[VERDICT_MANUAL]);
}

static void state_judge(struct power_loss *p, size_t moment, enum disk_kept content, enum disk_kept names)
{
        struct judgement j = { 0 };
        uint64_t seed = chance_next(&p->chance);
        char path[PATH_MAX];

        p->n_drawn++;
        if (!seen_add(p, disk_draw(p->disk, content, names, seed)))
                return;
        disk_put(p->disk, p->state);
        snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX / 2, p->state, p->database);
        judge_state(path, p->content_hash, &j);
        p->n_states++;
        p->n_of[j.verdict]++;
        if (j.verdict != VERDICT_SOUND && p->n_states - p->n_of[VERDICT_SOUND] <= p->n_told_at_most) {
                tell(p, moment, content, names, seed, &j);
                keep(p);
        }
        progress(p);
}

/* Each of these is one state at most, and there are few; of a large database, where STATES is small, only some moments have them. */
static void whole_judge(struct power_loss *p, size_t moment, size_t n_moments)
{
        static const enum disk_kept whole[] = { DISK_ALL, DISK_NONE, DISK_LAST };

        if (chance_below(&p->chance, n_moments * ELEMENTSOF(whole)) >= p->n_wanted)
                return;
        for (size_t i = 0; i < ELEMENTSOF(whole); i++)
                for (size_t j = 0; j < ELEMENTSOF(whole); j++)
                        state_judge(p, moment, whole[i], whole[j]);
}

static void parts_judge(struct power_loss *p, size_t moment, uint64_t n)
{
        static const enum disk_kept parts[] = { DISK_SECTORS, DISK_MIXED };

        for (uint64_t i = 0; i < n; i++)
                state_judge(p, moment, parts[chance_below(&p->chance, ELEMENTSOF(parts))],
                            (enum disk_kept)chance_below(&p->chance, N_DISK_KEPT));
}

static void states_judge(struct power_loss *p)
{
        _cleanup_(freep) size_t *moments = NULL;
        size_t n = moments_choose(p, &moments);
        unsigned n_vain = 0;

        disk_seek(p->disk, 0);
        for (size_t i = 0; i < n; i++) {
                disk_seek(p->disk, moments[i]);
                whole_judge(p, moments[i], n);
        }
        /* In rounds, since not every moment has as many states as the others; until many in turn find nothing new. */
        while (p->n_states < p->n_wanted && n_vain < VAIN_MAX) {
                uint64_t n_before = p->n_states;

                disk_seek(p->disk, 0);
                for (size_t i = 0; i < n && p->n_states < p->n_wanted; i++) {
                        disk_seek(p->disk, moments[i]);
                        if (disk_n_pending(p->disk))
                                parts_judge(p, moments[i], (p->n_wanted - p->n_states + n - i - 1) / (n - i));
                }
                n_vain = p->n_states > n_before ? 0 : n_vain + 1;
        }
}

/* What was reported as done stays done: after the last call, no state may have another key version than the one with everything. */
static void end_judge(struct power_loss *p)
{
        static const enum disk_kept kept[] = { DISK_ALL, DISK_NONE, DISK_LAST, DISK_SECTORS, DISK_MIXED };
        uint32_t version = 0;
        char path[PATH_MAX];

        disk_seek(p->disk, 0);
        disk_seek(p->disk, disk_n_calls(p->disk));
        snprintf(path, sizeof(path), "%.*s/%s", PATH_MAX / 2, p->state, p->database);
        for (size_t i = 0; i < ELEMENTSOF(kept); i++)
                for (size_t j = 0; j < ELEMENTSOF(kept); j++) {
                        struct judgement judgement = { 0 };

                        disk_draw(p->disk, kept[i], kept[j], chance_next(&p->chance));
                        disk_put(p->disk, p->state);
                        judge_state(path, p->content_hash, &judgement);
                        if (i == 0 && j == 0)
                                version = judgement.version;
                        p->n_taken_back += judgement.verdict != VERDICT_SOUND || judgement.version != version;
                        if (disk_n_pending(p->disk) == 0)
                                return; /* they are all the same */
                }
}

/* ---- the whole ---- */

static void begin(struct power_loss *p, const char *database, char *const command[])
{
        const char *slash = strrchr(database, '/');
        char directory[PATH_MAX];
        int status;

        if (!slash)
                errx(99, "%s: not an absolute path", database);
        snprintf(directory, sizeof(directory), "%.*s", (int)(slash - database), database);
        snprintf(p->state, sizeof(p->state), "%.*s.state", PATH_MAX / 2, directory);
        if (mkdir(p->state, 0755) < 0)
                err(99, "%s", p->state);
        p->database = slash + 1;
        p->disk = disk_new(directory);
        status = disk_record(p->disk, RECORD_CALLS, command);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                errx(99, "%s ended with wait status %d", command[0], status);
        if (!disk_compare(p->disk))
                errx(99, "the recording is not whole");
}

int main(int argc, char **argv)
{
        struct power_loss p = { .begun_usec = clock_boottime_usec() };

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (argc < 6)
                errx(99, "usage: power-loss DATABASE HASH STATES SEED COMMAND…");
        p.content_hash = strtoull(argv[2], NULL, 16);
        p.n_wanted = strtoull(argv[3], NULL, 10);
        p.chance = chance_init(strtoull(argv[4], NULL, 10));
        p.told_usec = p.begun_usec;
        p.n_told_at_most = getenv("TORTURE_QUIET") ? 0 : TELL_MAX;
        seen_init(&p);
        begin(&p, argv[1], argv + 5);
        states_judge(&p);
        end_judge(&p);
        printf("{\"states\": %" PRIu64 ", \"drawn\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"flipped\": %" PRIu64 ", \"manual\": %" PRIu64
               ", \"taken_back\": %" PRIu64 ", \"calls\": %zu, \"msec\": %" PRIu64 "}\n",
               p.n_states, p.n_drawn, p.n_of[VERDICT_LOST], p.n_of[VERDICT_FLIPPED], p.n_of[VERDICT_MANUAL], p.n_taken_back, disk_n_calls(p.disk),
               (clock_boottime_usec() - p.begun_usec) / 1000);
        disk_free(p.disk);
        free(p.seen);
        return 0;
}
