/* SPDX-License-Identifier: Apache-2.0 */
#include "client/lkmctl-each.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "client/lkmctl-owner.h"

static const struct {
        const char *name, *words; /* of the JSON lines; of the summary for people */
} outcomes[OUTCOME_END] = {
        [OUTCOME_FAILED] = { "failed", "failed" },
        [OUTCOME_CANCELLED] = { "cancelled", "cancelled" },
        [OUTCOME_ROTATED] = { "rotated", "rotated" },
        [OUTCOME_FINISHED] = { "finished", "interrupted rotations finished" },
        [OUTCOME_UNDONE] = { "undone", "interrupted rotations undone" },
        [OUTCOME_REWRAPPED] = { "rewrapped", "wrapped anew" },
        [OUTCOME_PURGED] = { "purged", "purged" },
        [OUTCOME_ADOPTED] = { "adopted", "adopted" },
        [OUTCOME_SALVAGED] = { "salvaged", "salvaged" },
        [OUTCOME_LOOKED_AT] = { "looked_at", "looked at" },
        [OUTCOME_NOTHING] = { "nothing", "with nothing to do" },
        [OUTCOME_NOT_BEGUN] = { "not_begun", "not begun" },
};

/* ---- signals ---- */

static volatile sig_atomic_t cancelled, child_pid;

/* Ctrl-C reaches the child by itself; what is sent to this process alone is passed on. */
static void on_signal(int number)
{
        int error = errno;

        cancelled = 1;
        if (number != SIGINT && child_pid > 0)
                kill((pid_t)child_pid, SIGTERM);
        errno = error;
}

bool each_is_cancelled(void)
{
        return cancelled;
}

void each_begin(struct each *e, struct ctl *c, each_step *step)
{
        struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

        *e = (struct each){ .c = c, .step = step };
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGHUP, &action, NULL);
        /* Whoever asks twice is not made to wait; the next use of the database then ends the rotation. */
        action.sa_flags |= (int)SA_RESETHAND;
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGQUIT, &action, NULL); /* a child may have to put the terminal right first */
}

/* ---- what became of it ---- */

static void count(struct each *e, enum outcome outcome, int code)
{
        e->tally.counts[outcome]++;
        if (code > e->tally.code)
                e->tally.code = code;
}

/* One line for programs. @detail: taken over, may be NULL. */
static int print_result(const char *database, enum outcome outcome, json_t *detail)
{
        json_t *line = json_pack("{s:o, s:s}", "database", json_text(database), "result", outcomes[outcome].name);

        if (detail)
                json_object_update(line, detail);
        json_decref(detail);
        return ctl_print_json(line);
}

static void print_line(const char *database, const char *text)
{
        _cleanup_(freep) char *line = NULL;

        if (asprintf(&line, "%s: %s", database, text) < 0) {
                line = NULL;
                return;
        }
        text_harmless(line);
        puts(line);
}

void each_done(struct each *e, const char *database, enum outcome outcome, const char *text, json_t *detail)
{
        int code;

        if (e->c->json) {
                code = print_result(database, outcome, detail);
        } else {
                json_decref(detail);
                if (text)
                        print_line(database, text);
                code = ctl_flush();
        }
        count(e, outcome, code);
}

static void fail(struct each *e, const char *database, enum outcome outcome, int code, int error, const char *sentence)
{
        if (e->c->json)
                print_result(database, outcome,
                             json_pack("{s:i, s:s, s:o}", "code", error, "error", lkm_error_name(error), "message", json_text(sentence)));
        else
                ctl_refuse(code, "%s: %s", database, sentence);
        count(e, outcome, code);
}

void each_failed(struct each *e, const char *database, int error)
{
        fail(e, database, error == LKM_E_CANCELLED ? OUTCOME_CANCELLED : OUTCOME_FAILED, ctl_exit_code(error), error,
             ctl_sentence(e->c, error));
}

void each_refuse(struct each *e, const char *database, int code, const char *sentence)
{
        /* The one that comes nearest. */
        int error = code == EXIT_CODE_DENIED ? LKM_E_DENIED : code == EXIT_CODE_RECORD ? LKM_E_NOT_FOUND : LKM_E_IO;

        fail(e, database, OUTCOME_FAILED, code, error, sentence);
}

/* ---- in this process ---- */

static void run(struct each *e, const char *database)
{
        int r = e->c->lkm ? 0 : lkm_connect(&e->c->lkm, &e->c->connect);

        if (r)
                each_failed(e, database, r);
        else
                e->step(e, database);
}

/* ---- in a child, as the owner ---- */

static void child_run(struct each *e, const char *database, const struct owner *owner, pid_t parent, int fd)
{
        int r = owner_become(owner);

        e->tally = (struct tally){ 0 };
        if (r == 0) {
                /* Behind the change of user, which clears it. */
                prctl(PR_SET_PDEATHSIG, SIGTERM);
                cancelled = cancelled || getppid() != parent;
                run(e, database);
                lkm_free(&e->c->lkm);
        } else {
                _cleanup_(freep) char *sentence = NULL;

                if (asprintf(&sentence, "cannot become its owner, user %s: %s", owner->name, strerror(-r)) < 0)
                        sentence = NULL;
                each_refuse(e, database, EXIT_CODE_DENIED, sentence ? sentence : "cannot become its owner");
        }
        /* Shorter than PIPE_BUF: whole, or the parent sees nothing. */
        _exit(write(fd, &e->tally, sizeof(e->tally)) == sizeof(e->tally) ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void tally_add(struct tally *sum, const struct tally *t)
{
        for (size_t i = 0; i < OUTCOME_END; i++)
                sum->counts[i] += t->counts[i];
        sum->code = t->code > sum->code ? t->code : sum->code;
}

/* Wait for the child, and take what it counted. */
static void child_end(struct each *e, const char *database, pid_t pid, int fd)
{
        _cleanup_(freep) char *sentence = NULL;
        struct tally tally = { 0 };
        ssize_t n;
        int status = 0;

        do
                n = read(fd, &tally, sizeof(tally));
        while (n < 0 && errno == EINTR);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        child_pid = 0;
        if (n == sizeof(tally)) {
                tally_add(&e->tally, &tally);
                return;
        }
        if (asprintf(&sentence,
                     "the process that worked on it ended early (%s). `lkmctl recover` finishes or undoes what it had begun",
                     WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "without saying why") < 0)
                sentence = NULL;
        each_refuse(e, database, EXIT_CODE_FAILED, sentence ? sentence : "the process that worked on it ended early");
}

static void run_as_owner(struct each *e, const char *database)
{
        _cleanup_(owner_deinit) struct owner owner = { 0 };
        char sentence[OWNER_SENTENCE_MAX];
        int ends[2], r = owner_find(database, e->adopts, &owner, sentence);
        pid_t parent = getpid(), pid;
        sigset_t all, before;

        if (r) {
                each_refuse(e, database, r, sentence);
                return;
        }
        if (pipe2(ends, O_CLOEXEC) < 0) {
                each_refuse(e, database, EXIT_CODE_FAILED, strerror(errno));
                return;
        }
        fflush(NULL); /* or the child would print it again */
        /* No signal may come between the child and the knowledge of it. */
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, &before);
        pid = fork();
        child_pid = pid > 0 ? pid : 0;
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (pid == 0) {
                close(ends[0]);
                child_run(e, database, &owner, parent, ends[1]);
        }
        close(ends[1]);
        if (pid < 0)
                each_refuse(e, database, EXIT_CODE_FAILED, strerror(errno));
        else
                child_end(e, database, pid, ends[0]);
        close(ends[0]);
}

/* ---- all of them ---- */

void each_database(struct each *e, const char *database)
{
        e->tally.n_databases++;
        if (cancelled)
                count(e, OUTCOME_NOT_BEGUN, EXIT_CODE_FAILED);
        else if (geteuid() == 0)
                run_as_owner(e, database);
        else
                run(e, database);
}

static int print_summary_json(const struct tally *t)
{
        json_t *summary = json_pack("{s:I}", "databases", (json_int_t)t->n_databases);

        for (size_t i = 0; i < OUTCOME_END; i++)
                json_object_set_new(summary, outcomes[i].name, json_integer(t->counts[i]));
        return ctl_print_json(json_pack("{s:o}", "summary", summary));
}

static int print_summary(const struct tally *t)
{
        const char *between = ": ";

        printf("%u database%s", t->n_databases, t->n_databases == 1 ? "" : "s");
        for (size_t i = 0; i < OUTCOME_END; i++) {
                if (t->counts[i] == 0)
                        continue;
                printf("%s%u %s", between, t->counts[i], outcomes[i].words);
                between = ", ";
        }
        putchar('\n');
        return ctl_flush();
}

int each_end(struct each *e, bool always)
{
        const struct tally *t = &e->tally;
        int r = 0;

        if (always || t->n_databases > 1)
                r = e->c->json ? print_summary_json(t) : print_summary(t);
        return r > t->code ? r : t->code;
}

int each_arguments(struct ctl *c, each_step *step)
{
        struct each e;

        each_begin(&e, c, step);
        for (int i = 0; i < c->n_arguments; i++)
                each_database(&e, c->arguments[i]);
        return each_end(&e, false);
}
