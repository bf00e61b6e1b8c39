/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kms-link: one connection to somebody who serves the provider's half of the protocol: lkmd's to the KMS worker, and the worker's to each
 * provider behind a socket. Connects when there is something to ask, keeps at most as many calls unanswered as the peer's WELCOME allows
 * (IN_FLIGHT_MAX before it) and the rest in order, repeats a call on a new connection when the peer went away under it, and ends every call
 * by its deadline. Knows messages, not records or policy.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <event2/event.h>

#include "common/list.h"
#include "proto/frame.h"

struct kms_link;

/** One call. Embedded by its owner; all fields but @fill, @done and @userdata belong to kms-link.c. */
struct kms_call {
        /* Write the request to *ret_message; asked again for each attempt. It borrows from the owner. */
        void (*fill)(struct kms_call *call, union message *ret_message);
        /* The end: @error is 0 and @reply the answer, or @error is the peer's, KMS_UNREACHABLE (it is away, or did not answer in
         * time) or KMS_MISCONFIGURED (it broke the protocol), and @reply NULL. @sentence is for people, "" when there is none. The
         * owner may free the call. */
        void (*done)(struct kms_call *call, unsigned error, const union message *reply, const char *sentence);
        void *userdata;
        struct list link;
        struct event *timer;
        uint64_t deadline_usec; /* CLOCK_BOOTTIME */
        uint64_t queued_until;  /* how many bytes the connection had been given with this one's */
        struct kms_link *owner;
        uint32_t request_id;
        unsigned attempts;
        bool sent;
};

struct kms_link_counters {
        uint64_t requests, failures;
};

/**
 * kms_link_new() - nothing is connected yet
 * @path: copied
 * @self: name and version of this program, for the peer's log; static
 * @peer: who is at the other end, for sentences: "the KMS worker"; static
 * Return: 0 or -ENOMEM.
 */
int kms_link_new(struct kms_link **ret_link, struct event_base *base, const char *path, const char *self, const char *peer);
/** kms_link_free() - no call is under way; may be called by the done() of the last one. */
struct kms_link *kms_link_free(struct kms_link *l);

/** kms_call_left_msec() - for a request's timeout_msec: seven eighths of what is left until the call's deadline, at least 1, so that the peer
 *  has the time to say why it could not. */
uint32_t kms_call_left_msec(const struct kms_call *call);
/** kms_link_call() - begin @call; it ends within @timeout_usec, never inside this function. Return: 0 or -ENOMEM. */
int kms_link_call(struct kms_link *l, struct kms_call *call, uint64_t timeout_usec);
/** kms_link_cancel() - end @call without done(). Allowed, for a call that was zero-filled, when it is not under way. */
void kms_link_cancel(struct kms_call *call);

bool kms_link_is_connected(const struct kms_link *l);
const char *kms_link_last_error(const struct kms_link *l);
const struct kms_link_counters *kms_link_counters(const struct kms_link *l);
