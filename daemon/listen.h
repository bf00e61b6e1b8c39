/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen: the listening socket of a daemon: handed over by systemd or lkm-run (LISTEN_FDS), or bound by itself.
 */
#pragma once

#include <stdbool.h>

/**
 * listen_socket()
 * @ret_fd:    non-blocking, close-on-exec
 * @ret_bound: true when this call made the path, which its owner then removes
 * @path:      used only when nothing was handed over; a socket nobody listens on is replaced
 * @mode:      permissions of the new socket
 * Return: 0; -EADDRINUSE when somebody serves @path; -EINVAL when what was handed over is no listening stream socket; -errno.
 */
int listen_socket(int *ret_fd, bool *ret_bound, const char *path, unsigned mode);
/** listen_was_handed_over() - whether LISTEN_FDS names a socket for this process. */
bool listen_was_handed_over(void);
