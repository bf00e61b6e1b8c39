/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl-each: one step for each of several databases: as its owner when root asks, going on after a failure, stopping after Ctrl-C. What
 * a step does to a database it does with that owner's rights; root only looks whose the files are.
 */
#pragma once

#include "client/lkmctl.h"

/** What became of a database; the words of the result lines and the summary. */
enum outcome {
        OUTCOME_FAILED,
        OUTCOME_CANCELLED,
        OUTCOME_ROTATED,
        OUTCOME_FINISHED,
        OUTCOME_UNDONE,
        OUTCOME_REWRAPPED,
        OUTCOME_PURGED,
        OUTCOME_ADOPTED,
        OUTCOME_SALVAGED,
        OUTCOME_LOOKED_AT,
        OUTCOME_NOTHING, /* there was nothing to do */
        OUTCOME_NOT_BEGUN,
        OUTCOME_END,
};

struct tally {
        uint32_t counts[OUTCOME_END];
        uint32_t n_databases;
        int code; /* the highest exit code */
};

struct each;
/** One step on @database, through e->c->lkm, which is connected. Tells its outcomes with each_done() or each_failed(). */
typedef void each_step(struct each *e, const char *database);

struct each {
        struct ctl *c;
        each_step *step;
        bool adopts; /* a database has no .key yet */
        struct tally tally;
};

/** each_begin() - take over SIGINT, SIGQUIT, SIGTERM and SIGHUP: the first one asks for the end, the next SIGINT or SIGQUIT ends at once. */
void each_begin(struct each *e, struct ctl *c, each_step *step);
/** each_database() - the step on one database, in a process of its own when root asks. */
void each_database(struct each *e, const char *database);
/** each_end() - print the summary when more than one database was meant or @always. Return: the highest exit code. */
int each_end(struct each *e, bool always);
/** each_arguments() - each_begin(), each_database() for each argument of @c, each_end(). Return: an exit code. */
int each_arguments(struct ctl *c, each_step *step);
/** each_is_cancelled() - whether a signal has asked for the end. */
bool each_is_cancelled(void);

/** each_done() - print and count an outcome. @text: for people, without the database's name; NULL prints nothing. @detail: members of the
 *  JSON line; taken over; may be NULL. */
void each_done(struct each *e, const char *database, enum outcome outcome, const char *text, json_t *detail);
/** each_failed() - print and count an error of liblkm. */
void each_failed(struct each *e, const char *database, int error);
/** each_refuse() - print and count why lkmctl itself does not go on, with its exit code. */
void each_refuse(struct each *e, const char *database, int code, const char *sentence);
