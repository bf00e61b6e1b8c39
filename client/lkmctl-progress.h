/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl-progress: how far a rotation is: a line that is redrawn on a terminal, JSON lines for programs, else nothing. Its callback also
 * tells liblkm that the user wants the end.
 */
#pragma once

#include "client/lkmctl.h"

struct progress {
        bool is_json, is_terminal;
        const char *database;     /* borrowed */
        enum lkm_phase phase;     /* 0: none yet */
        uint64_t begun_usec;      /* CLOCK_BOOTTIME */
        uint64_t phase_usec;      /* when the phase began */
        uint64_t shown_usec;      /* 0: nothing was shown yet */
        size_t width;             /* of the line on the terminal now */
};

/** progress_begin() - @database has to outlive it. */
void progress_begin(struct progress *p, const struct ctl *c, const char *database);
/** progress_callback() - of lkm_rotate_options; @userdata: the struct progress. Return: 1 when a signal has asked for the end, else 0. */
int progress_callback(void *userdata, const struct lkm_progress *progress);
/** progress_end() - take the line away. Return: seconds since the begin. */
double progress_end(struct progress *p);
/** format_bytes() - "12.3 MiB". */
#define BYTES_TEXT_MAX 32
void format_bytes(char ret_text[BYTES_TEXT_MAX], double n);
