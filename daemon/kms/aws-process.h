/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-process: credential_process: a program that prints credentials as JSON. Run without a shell, in a process group of its own, with no descriptor
 * but its three and with an environment of PATH, HOME and LANG alone; ended with its group when it takes too long. What it prints is read by the
 * event loop into locked memory.
 */
#pragma once

#include "daemon/kms/aws-way.h"

#define AWS_PROCESS_TIME_USEC UINT64_C(30000000)
#define AWS_PROCESS_WORDS_MAX 64
#define AWS_PROCESS_STDERR_MAX 200

/** Words of a command, in one block of heap. */
struct aws_command {
        char *text;
        char *words[AWS_PROCESS_WORDS_MAX + 1]; /* NULL-terminated */
};
/** aws_command_parse() - split at white space, with '…', "…" and \ as in a shell; nothing else is special. Return: 0; -EINVAL with *ret_why (no
 *  absolute path first, an open quote, too many words); -ENOMEM. */
int aws_command_parse(struct aws_command *ret_command, const char *text, struct sentence *ret_why);
void aws_command_deinit(struct aws_command *command);

struct aws_process;

/**
 * aws_process_start() - run @command and have @call told
 * @source: for people; borrowed for this call
 * Return: 0; -EINVAL for a command that cannot be one; -errno when it cannot be run; with *ret_why filled.
 */
int aws_process_start(struct aws_process **ret_process, const struct aws_surroundings *around, const char *command, const char *source,
                      uint64_t time_usec, struct aws_way_call *call, struct sentence *ret_why);
/** aws_process_free() - ends it with its group if it still runs; @call is not told. */
struct aws_process *aws_process_free(struct aws_process *p);
DEFINE_CLEANUP(struct aws_process *, aws_process_free)
