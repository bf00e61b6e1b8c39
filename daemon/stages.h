/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stages: the functions that request.c's tables are made of. Each takes the request one step on and says what is next
 * (enum stage_result), or a negative -errno. Included by request.c and stages*.c only.
 */
#pragma once

#include "daemon/request.h"

/** request_wait() - suspend @r in @waiters of a flight or question; it goes on with its next stage. Return: STAGE_WAIT or -ENOMEM. */
int request_wait(struct request *r, struct list *waiters);
/** request_refresh() - start a flight that renews @r's cached key while it still serves. Return: 0 or -errno. */
int request_refresh(struct request *r);

/* decode: from the message to what it names (scope, record) */
int stage_decode_record(struct request *r);
int stage_decode_create(struct request *r);
int stage_decode_upgrade(struct request *r);
int stage_decode_lease(struct request *r);
int stage_decode_evict(struct request *r);
int stage_decode_explain(struct request *r);
/* authorize */
int stage_authorize_use(struct request *r);
int stage_authorize_create(struct request *r);
int stage_authorize_rotate(struct request *r);
int stage_authorize_evict(struct request *r);
int stage_authorize_admin(struct request *r);
/* cache, unwrap */
int stage_cache(struct request *r);
int stage_unwrap(struct request *r);
int stage_generate(struct request *r);
int stage_rewrap(struct request *r);
int stage_ask_kms(struct request *r);
/* verify, store */
int stage_verify(struct request *r);
int stage_store(struct request *r);
int stage_store_new(struct request *r);
/* audit */
int stage_audit_release(struct request *r);
int stage_audit(struct request *r);
/* reply */
int stage_reply_key(struct request *r);
int stage_reply_record(struct request *r);
int stage_reply_done(struct request *r);
int stage_reply_nothing(struct request *r);
int stage_evict(struct request *r);
int stage_lock(struct request *r);
/* stages-lease.c: quiesce, and the replies about leases */
int stage_quiesce(struct request *r);
int stage_lease(struct request *r);
int stage_yield(struct request *r);
int stage_resume(struct request *r);
