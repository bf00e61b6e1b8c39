/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease: both ends of getting a database closed for a rotation. struct lkm_lease is the holder's, on a session of its own; lkm.h has its
 * contract. What a rotator asks goes through the rotator's own session: the daemon ends a quiescence with the connection that asked for it,
 * so a rotator that dies sends everybody back to work. Knows no database, and no lock.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "client/connection.h"

enum {
        LEASE_QUIESCE_MAX_MSEC = 60000, /* one question waits no longer; ask again */
        LEASE_HOLDERS_MAX = 256,        /* told in one answer */
};

/** Who holds a lease of the database, on the daemon's word. */
struct lease_holder {
        uid_t uid;
        gid_t gid;
        pid_t pid;    /* 0 when it is in another pid namespace */
        bool yielded; /* it has closed the database */
};

/** The answer to QUIESCE. Zeros are an empty one. */
struct lease_quiescence {
        bool quiet; /* every holder has yielded, or there is none */
        bool more;  /* there are more than LEASE_HOLDERS_MAX; those who have not yielded come first */
        size_t n_holders;
        struct lease_holder *holders; /* heap */
};

/** lease_quiescence_deinit() - harmless on zeros. */
void lease_quiescence_deinit(struct lease_quiescence *q);
/** lease_quiescence_parse() - from the REPORT's JSON, NUL-terminated. Return: 0, -EBADMSG, -ENOMEM. */
int lease_quiescence_parse(struct lease_quiescence *ret_quiescence, const char *json);
/** lease_quiescence_format() - who has not yielded, for the sentence to the user: "process 4711 (user 1000), …". A long list is cut. */
void lease_quiescence_format(char *ret_text, size_t n, const struct lease_quiescence *q);

/**
 * lease_quiesce() - ask all holders of leases to close the database, and wait until they have
 * @lkm:             the rotator's session, which must stay the same until the end: the quiescence ends with it
 * @record, @n_record: content of the .key file, of any version of the database
 * @timeout_msec:    at most LEASE_QUIESCE_MAX_MSEC; 0: do not wait. It is waited beyond the session's own deadline
 * @ret_quiescence:  release with lease_quiescence_deinit(). It is no error when it is not quiet: ask again, or give up with lease_resume()
 *
 * May be called again on the same session, to wait in pieces: whoever has yielded stays so. Only one database at a time.
 *
 * Return: 0; LKM_E_ROTATION_IN_PROGRESS when another session quiesces the database; LKM_E_UNSUPPORTED of a daemon without leases: then
 *         there are no holders; LKM_E_DENIED, and what else connection_call() says.
 */
int lease_quiesce(struct lkm *lkm, const uint8_t *record, size_t n_record, uint32_t timeout_msec,
                  struct lease_quiescence *ret_quiescence);
/** lease_resume() - end the quiescence of this session: holders open the database again. Harmless when there is none. Return: 0 or the error,
 *  which matters little: the end of the session does the same. */
int lease_resume(struct lkm *lkm);
