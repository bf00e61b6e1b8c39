/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer: who is at the other end of a connection, as the kernel tells it. What is decided by it is policy.c's.
 *
 * User and groups are those that the process had when it connected. The unit is that of the process which connected, found by a handle of
 * it (pidfd) and not by its number, so that a number that was given to another process in the meantime is never taken for it; a process
 * that is gone has no unit.
 */
#pragma once

#include "daemon/policy.h"

/** Named outcomes. */
enum {
        PEER_E_KERNEL = 1, /* the kernel has no SO_PEERPIDFD */
        PEER_E_PROC,       /* /proc does not tell about processes */
};

/**
 * peer_read() - the credentials of the peer of the connected AF_UNIX socket @fd
 * @ret_peer: on 0 and PEER_E_PROC; release with peer_deinit()
 *
 * Asks with getsockopt(2): SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD; and reads /proc/self/fdinfo/FD and /proc/PID/cgroup. The unit is
 * NULL when it cannot be told, whatever the reason.
 *
 * Return: 0; PEER_E_PROC when the process is there, and /proc hides it; -errno: then there are no credentials.
 */
int peer_read(struct peer *ret_peer, int fd);
/** peer_deinit() - free what @peer owns. */
void peer_deinit(struct peer *peer);

/**
 * peer_probe() - can the unit of a peer be told on this machine
 *
 * Tried once, on a socket pair of its own; later calls give the same answer without a system call. Not for use by several threads.
 *
 * Return: 0; PEER_E_KERNEL; PEER_E_PROC; -errno.
 */
int peer_probe(void);
