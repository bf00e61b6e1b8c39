/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener: where lkmd accepts connections: the socket for everybody, and the one for administrators where there is one. Which of both a connection
 * came by decides whether it may ask what needs the right `admin`, beside the policy. A part of struct lkmd.
 */
#pragma once

#include <stdbool.h>

#include "daemon/listen.h"

struct lkmd;
struct event;

enum { LISTENER_ORDINARY, LISTENER_ADMIN, LISTENER_COUNT };

struct listener {
        struct lkmd *daemon;
        struct event *event; /* NULL: this one does not exist */
        bool is_admin;
};

struct listeners {
        struct listener each[LISTENER_COUNT];
        struct listen_socket sockets[LISTENER_COUNT]; /* paths are borrowed from @config */
        struct config *config; /* of the start: a reload opens no other sockets */
        struct event *again;   /* after a pause */
        char *path;            /* of the ordinary one, as clients know it; NULL: it has none */
        char *admin_path;      /* NULL: requests that need `admin` are answered on every connection */
};

/** listeners_open() - take over or bind the sockets; says in the log what is wrong. Return: 0 or -errno. */
int listeners_open(struct lkmd *d);
/** listeners_start() - accept from the next turn of the loop on. Return: 0 or -ENOMEM. */
int listeners_start(struct lkmd *d);
/** listeners_pause() - accept nothing, for a second or until listeners_go_on(). */
void listeners_pause(struct lkmd *d);
/** listeners_go_on() - accept again, unless lkmd is stopping. Harmless when it does. */
void listeners_go_on(struct lkmd *d);
/** listeners_end() - accept nothing any more; clients that come wait for whoever has the sockets next. */
void listeners_end(struct lkmd *d);
/** listeners_deinit() - free and close everything, and remove the files that were bound. */
void listeners_deinit(struct lkmd *d);
/** listeners_check() - say in the log when a new configuration wants other sockets: that needs a restart. */
void listeners_check(const struct lkmd *d);
/** listeners_report() - the member `sockets` of the status: a json_t. */
void *listeners_report(const struct lkmd *d);
