/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server: lkm-kms's side of the protocol: accepts, decodes, finds the KEK and lets its provider work. Owns connections,
 * the KEK table and the configuration. Knows no provider's inside, no policy and no record.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "daemon/kms/provider.h"

struct server;

/** Who may connect, where it is not one user alone: root, and the user that lkm-kms runs as. */
#define SERVER_CLIENT_SELF ((uid_t)-1)

/**
 * server_new()
 * @environment: borrowed; must outlive the server
 * @config:      a reference is taken
 * @config_path: borrowed; must outlive the server; for reloads
 * @listen_fd:   owned from now on, also on failure
 * @client_uid:  the one user who may connect, or SERVER_CLIENT_SELF
 * @idle_exit:   whether the process may end when idle: only where something starts it again
 */
int server_new(struct server **ret_server, const struct kms_environment *environment, struct config *config,
               const char *config_path, int listen_fd, uid_t client_uid, bool idle_exit);
/** server_free() - every call has ended: see server_n_calls(). */
struct server *server_free(struct server *s);
DEFINE_CLEANUP(struct server *, server_free)

/** server_n_calls() - calls that providers still work on. */
size_t server_n_calls(const struct server *s);
/** server_reload() - read the configuration and all KEKs again; the old stay when something is worse than before.
 *  Logs, and tells the service manager. */
void server_reload(struct server *s);
/** server_drain() - take no more requests, answer those under way, then end the event loop. */
void server_drain(struct server *s);
