/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child: starts one process: a daemon with its listening sockets, or COMMAND. Knows no events and no restarts.
 */
#pragma once

#include <signal.h>
#include <stddef.h>
#include <sys/types.h>

struct child_options {
        const char *name, *program, *config_path;
        size_t n_listen;
        struct child_socket {
                int fd;
                const char *name; /* for LISTEN_FDNAMES */
        } listen[2]; /* become the descriptors from 3 on, announced by LISTEN_FDS */
        const char *notify_socket; /* or NULL */
        const sigset_t *mask;
};

/** child_start() - start a daemon; it ends by SIGTERM when we die. Return: 0 or -errno; a program that cannot be run
 *  ends with status 127. */
int child_start(pid_t *ret_pid, const struct child_options *options);
/** child_start_command() - start @argv with LKM_SOCKET = @socket_path, and LKM_ADMIN_SOCKET = @admin_socket_path unless that is NULL; status 127 when it is not found, 126 when it
 *  cannot be run. Return: 0 or -errno. */
int child_start_command(pid_t *ret_pid, char *const *argv, const char *socket_path, const char *admin_socket_path, const sigset_t *mask);
/** child_print_hint() - the shell line that lets other programs find @socket_path by the environment variable @name, on stdout. */
void child_print_hint(const char *name, const char *socket_path);
