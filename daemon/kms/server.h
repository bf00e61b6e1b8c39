/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: lkm-kms's side of the protocol: accepts, decodes, finds the KEK and lets its provider work. Owns connections,
 * the KEK table and the configuration. Knows no provider's inside, no policy and no record.
 */
#pragma once

#include <event2/event.h>
#include <stdbool.h>

#include "daemon/config.h"

struct server;

/**
 * server_new()
 * @config:      a reference is taken
 * @config_path: borrowed; must outlive the server; for reloads
 * @listen_fd:   owned from now on, also on failure
 * @idle_exit:   whether the process may end when idle: only where something starts it again
 */
int server_new(struct server **ret_server, struct event_base *base, struct config *config, const char *config_path,
               int listen_fd, bool idle_exit);
struct server *server_free(struct server *s);
DEFINE_CLEANUP(struct server *, server_free)

/** server_reload() - read the configuration and all KEKs again; the old stay when something is worse than before.
 *  Logs, and tells the service manager. */
void server_reload(struct server *s);
/** server_drain() - take no more requests, answer those under way, then end the event loop. */
void server_drain(struct server *s);
