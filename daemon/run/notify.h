/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify: the receiving end of sd_notify(3), an abstract datagram socket whose messages count only from the process
 * they are expected of.
 */
#pragma once

#include <sys/types.h>

enum { NOTIFY_E_READY = 1 };

struct notify {
        int fd;
        char address[16]; /* for NOTIFY_SOCKET */
};

/** notify_init() - Return: 0 or -errno. */
int notify_init(struct notify *n);
void notify_deinit(struct notify *n);
/** notify_take() - receive one message. Return: NOTIFY_E_READY when it says READY=1 and @pid sent it; else 0. */
int notify_take(struct notify *n, pid_t pid);
