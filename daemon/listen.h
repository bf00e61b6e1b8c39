/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen: the listening AF_UNIX socket of a daemon, taken over from systemd or lkm-run, or bound by the program itself.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

/** Named outcome of listen_take_over(). */
enum { LISTEN_E_NONE = 1 };

/**
 * listen_take_over() - the socket that LISTEN_FDS hands over; unsets these variables
 * Return: 0 with a non-blocking, close-on-exec descriptor; LISTEN_E_NONE when there is none; -E2BIG for more than one;
 *         -ENOTSOCK when it is no listening AF_UNIX SOCK_STREAM socket; -errno.
 */
int listen_take_over(int *ret_fd);

/**
 * listen_bind() - bind and listen at @path; the socket file has @mode from its first instant
 *
 * A socket file that nobody serves is removed first. Changes the umask for a moment: for programs with one thread.
 *
 * Return: 0 with a non-blocking, close-on-exec descriptor; -EADDRINUSE when another process serves it; -ENOTSOCK when
 *         something else lies at @path; -ENAMETOOLONG; -errno.
 */
int listen_bind(int *ret_fd, const char *path, mode_t mode);

/**
 * listen_socket() - the socket handed over, or else one bound at @path
 * @ret_bound: whether it was bound here, so that the caller unlinks @path at its end
 * Return: 0, or as the two above.
 */
int listen_socket(int *ret_fd, bool *ret_bound, const char *path, mode_t mode);
