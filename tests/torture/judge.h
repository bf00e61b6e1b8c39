/* SPDX-License-Identifier: Apache-2.0 */
/*
 * judge: whether a database survived. It opens it as an application would, in this process; what it has to do for that beyond opening is counted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum verdict {
        VERDICT_SOUND,   /* the next open worked, without anybody's help, and everything is there */
        VERDICT_LOST,    /* no known key opens it, or rows are gone */
        VERDICT_FLIPPED, /* a key that its record does not hold for the current one opens it */
        VERDICT_MANUAL,  /* it did not open by itself; a command helped */
        N_VERDICTS,
};

struct judgement {
        enum verdict verdict;
        uint32_t version; /* of the key that opened it */
        char why[1024];   /* "" when sound */
};

/*
 * Two programs are made of this, each with a judge of its own:
 * - judge-naive.c: of databases with {database}.keys, a file of keys in hex, one a line, the current one first: for the controls;
 * - judge-lkm.c: of databases with {database}.key, through liblkm as applications use it: recovery is what lkm_sqlcipher_open() does of itself.
 * Both abort when the test itself is broken.
 */

/** judge_state() - open it, compare, write JUDGE_ROWS rows, open it again. @ret_judgement: zeros in the beginning. */
void judge_state(const char *database, uint64_t content_hash, struct judgement *ret_judgement);

enum { JUDGE_ROWS = 10 };
