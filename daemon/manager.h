/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manager: tells the service manager how lkmd is, by the protocol of sd_notify(3) and over one socket that is opened at the start. sd_notify() itself
 * makes and sets up a socket for each message, which the sandbox has no room for.
 */
#pragma once

/** manager_open() - connect to $NOTIFY_SOCKET. @ret_fd: -1 when there is no service manager that wants to know. Return: 0 or -errno. */
int manager_open(int *ret_fd);
/** manager_tell() - @text: assignments as in sd_notify(3), one a line. Does nothing with @fd -1; a manager that is gone does not matter. */
void manager_tell(int fd, const char *text);
