/* SPDX-License-Identifier: Apache-2.0 */
/*
 * harden: what every lkm executable does first: no core files, no tracing by other processes of the same user, no new
 * privileges, umask 077.
 */
#pragma once

/** harden_process() - Return: 0, or the -errno of the first prctl(2) or setrlimit(2) that failed: then do not start. */
int harden_process(void);
