/* SPDX-License-Identifier: Apache-2.0 */
/*
 * policy: who may do what. One pure function over integers that the kernel vouches for; default deny. Must not read
 * files, names or clocks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/config.h"

/** Kernel credentials of a peer, read when it was accepted (peer.h). */
struct peer {
        uint32_t uid, gid;
        int32_t pid; /* for the audit log only, never for a decision */
        size_t n_groups;
        uint32_t *groups; /* supplementary groups, owned by the connection */
        char *unit;       /* system unit, owned by the connection; NULL when it is not known */
};

enum policy_right {
        POLICY_RIGHT_USE,     /* get, check, evict by record, upgrade */
        POLICY_RIGHT_CREATE,  /* create, import */
        POLICY_RIGHT_ROTATE,  /* rotate, commit, abort, the pending key, rewrap, rekek, quiesce */
        POLICY_RIGHT_HISTORY, /* keys of retired versions, purge */
        POLICY_RIGHT_RECOVER, /* keys of any version, to put a damaged database together */
        POLICY_RIGHT_ADMIN,   /* status, list, evict by id, lock, unlock; has no scope */
};

/**
 * policy_decide() - may @peer exercise @right
 * @scope:    NULL for POLICY_RIGHT_ADMIN
 * @ret_rule: the text of the rule that decided, borrowed from @config; "no rule" when denied. May be NULL.
 */
bool policy_decide(const struct config *config, const struct config_scope *scope, const struct peer *peer,
                   enum policy_right right, const char **ret_rule);
/** policy_right_name() - "use", "create", "rotate", "history", "recover", "admin". */
const char *policy_right_name(enum policy_right right);
