/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen: the listening AF_UNIX sockets of a daemon, taken over from systemd or lkm-run, or bound by the program itself.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
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

/** One of several sockets of a daemon. */
struct listen_socket {
        const char *name; /* FileDescriptorName= of what is handed over for it, borrowed */
        const char *path; /* where to bind it when nothing is; NULL: then there is none. Borrowed */
        mode_t mode;      /* of the file that is bound */
        int fd;           /* -1, or listening, owned */
        bool bound;       /* the file at @path was made here, so it is unlinked by listen_close() */
};

/**
 * listen_sockets() - the sockets that LISTEN_FDS and LISTEN_FDNAMES hand over, and the missing ones bound; unsets these variables
 * @sockets: name, path and mode are given. A single descriptor that has the name of none of them is the first one.
 * @ret_why: on failure a phrase for people about what is wrong with the hand-over, or the path that cannot be bound; borrowed
 *
 * Return: 0, every fd is non-blocking and close-on-exec, or -1 where neither was; -EINVAL for descriptors that do not fit @sockets;
 *         as listen_bind(). Nothing stays open or bound on failure.
 */
int listen_sockets(struct listen_socket *sockets, size_t n, const char **ret_why);
/** listen_close() - close, and remove what was bound. Harmless when repeated. */
void listen_close(struct listen_socket *sockets, size_t n);

/**
 * listen_socket() - the socket handed over, or else one bound at @path
 * @ret_bound: whether it was bound here, so that the caller unlinks @path at its end
 * Return: 0, or as the two above.
 */
int listen_socket(int *ret_fd, bool *ret_bound, const char *path, mode_t mode);
