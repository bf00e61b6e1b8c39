/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor: keeps lkmd running, starts lkm-kms when somebody connects to it, and runs COMMAND when lkmd is ready.
 * Holds the listening sockets over their ends, so that a client that comes meanwhile waits instead of failing. Knows
 * nothing of configurations and messages.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>

struct supervisor_options {
        const char *lkmd_program, *kms_program, *config_path;
        const char *socket_path; /* for LKM_SOCKET */
        const char *admin_socket_path; /* for LKM_ADMIN_SOCKET; NULL: there is none */
        int lkmd_fd, admin_fd, kms_fd; /* listening sockets, borrowed; admin_fd may be -1 */
        char *const *command; /* argv, or NULL: serve until a signal comes */
        const sigset_t *mask; /* signal mask that the children get */
};

/** supervisor_block_signals() - block what supervisor_run() takes by signalfd(2); first thing in main(). */
int supervisor_block_signals(sigset_t *ret_previous);

/**
 * supervisor_run() - start everything; return when all has ended
 * Return: the exit status: COMMAND's, 128 + its signal, 126 or 127 when it cannot be run; 0 after SIGTERM or SIGINT
 *         without COMMAND; -errno, having logged why, when lkmd did not start.
 */
int supervisor_run(const struct supervisor_options *options);
