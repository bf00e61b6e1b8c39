/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault: what shall go wrong, for which requests and how often. Faults are asked in the order in which they were set: all
 * delays that match add up, and of the other kinds the first that matches counts.
 */
#pragma once

#include "common/list.h"
#include "tests/mock-kms/request.h"

enum fault_kind {
        FAULT_NONE,
        FAULT_THROTTLE, /* too many requests */
        FAULT_DELAY, /* the answer comes later; others are served meanwhile */
        FAULT_CUT, /* the connection ends in the middle of the answer's body */
        FAULT_STATUS, /* another status, with a body of one's own or the service's usual one */
        FAULT_EXPIRE_TOKENS, /* at once, when it is set */
        FAULT_LOSE_REGION, /* the connection ends without any answer */
        FAULT_REDIRECT, /* 307 to the same path at another place */
        FAULT_GARBAGE, /* 200 with a body that is none */
};

struct fault {
        struct list link;
        enum fault_kind kind;
        char *service, *operation, *region; /* NULL matches all */
        int64_t count; /* how often; -1 = until it is removed */
        uint64_t delay_msec;
        int status;
        int retry_after; /* seconds, for throttle and status; 0 = not said, as the services themselves do */
        char *body, *location; /* or NULL */
};

struct faults {
        struct list list;
};

/** What happens to one request. */
struct fault_plan {
        uint64_t delay_msec;
        enum fault_kind kind; /* never FAULT_DELAY */
        int status, retry_after;
        char *body, *location; /* or NULL */
};

void faults_init(struct faults *s);
void faults_deinit(struct faults *s);
/** fault_kind_parse() - Return: FAULT_NONE for an unknown one. */
enum fault_kind fault_kind_parse(const char *name);
const char *fault_kind_name(enum fault_kind kind); /* or NULL for FAULT_NONE */
/** fault_add() - @f is copied. */
void fault_add(struct faults *s, const struct fault *f);
/** fault_take() - what happens to @r, one time less for each fault that takes part. */
void fault_take(struct fault_plan *ret, struct faults *s, const char *service, const struct request *r);
void fault_plan_deinit(struct fault_plan *p);
