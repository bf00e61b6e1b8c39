/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stages: the functions that request.c's tables are made of. Each takes the request one step on and says what is next
 * (enum stage_result), or a negative -errno. Included by request.c and stages*.c only.
 */
#pragma once

#include "daemon/request.h"

/** request_wait() - suspend @r in @waiters of a flight, question or change; it goes on with its next stage. Return: STAGE_WAIT or -ENOMEM. */
int request_wait(struct request *r, struct list *waiters);
/** request_refresh() - start a flight that renews @r's cached key while it still serves. Return: 0 or -errno. */
int request_refresh(struct request *r);
/** request_turn() - a GET, during decode: from here on the way of a version that is not the current one. */
void request_turn(struct request *r);

/** Values of GET's `purpose`. */
enum { GET_PURPOSE_USE, GET_PURPOSE_RECOVER };

/* Parts of stages that several files have. */

/** request_parse() - @text to r->record, or refuse. Return: enum stage_result. */
int request_parse(struct request *r, struct bytes text);
/** request_find_scope() - r->scope of that name, or refuse. request_find_record_scope() - the same for the name that a record has. Return: enum
 *  stage_result. */
int request_find_scope(struct request *r, struct bytes name);
int request_find_record_scope(struct request *r, const char *name);
/** request_decode() - find the scope of the record in @text, and its entry in the cache. @scope: refuse a record of another one, when it is
 *  not empty. @parse: r->record is needed, too when the cache has it. Return: enum stage_result, -errno. */
int request_decode(struct request *r, struct bytes text, struct bytes scope, bool parse);
/** request_authorize() - may the peer exercise @right in r->scope; a denial is audited. Return: enum stage_result. */
int request_authorize(struct request *r, enum policy_right right);
/** request_store() - @item, whose key is r->key, into the cache; sets r->entry. Return: enum stage_result. */
int request_store(struct request *r, const struct cache_item *item);
/** request_event() - an audit event of this request. */
struct audit_event request_event(const struct request *r, const char *name);
/** request_event_origin() - which KEK the key of @event came from; @origin may be NULL. */
void request_event_origin(struct audit_event *event, const struct origin *origin);
/** request_wait_durable() - with audit_sync = always, wait until the audit line @sequence is durable. Return: enum stage_result, -errno. */
int request_wait_durable(struct request *r, uint64_t sequence);
/** request_audit() - write @event, or refuse; with audit_sync = always wait until it is durable. Return: enum stage_result. */
int request_audit(struct request *r, const struct audit_event *event);

/* decode: from the message to what it names (scope, record) */
int stage_decode_get(struct request *r);
int stage_decode_check(struct request *r);
int stage_decode_create(struct request *r);
int stage_decode_upgrade(struct request *r);
int stage_decode_lease(struct request *r);
int stage_decode_evict(struct request *r);
int stage_decode_import(struct request *r);
/* authorize */
int stage_authorize_use(struct request *r);
int stage_authorize_check(struct request *r);
int stage_authorize_create(struct request *r);
int stage_authorize_evict(struct request *r);
int stage_authorize_admin(struct request *r);
/* cache, unwrap */
int stage_cache(struct request *r);
int stage_unwrap(struct request *r);
int stage_generate(struct request *r);
int stage_rewrap(struct request *r);
int stage_import(struct request *r);
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

/* stages-explain.c: which rule decides, for the caller or somebody else */
int stage_decode_explain(struct request *r);
int stage_authorize_explain(struct request *r);
int stage_reply_explain(struct request *r);

/* stages-change.c: the next record, and versions that are not the current one */
int stage_decode_change(struct request *r);
int stage_authorize_rotate(struct request *r);
int stage_authorize_history(struct request *r);
int stage_authorize_read(struct request *r);
int stage_cache_current(struct request *r);
int stage_change(struct request *r);
int stage_verify_change(struct request *r);
int stage_store_next(struct request *r);
int stage_audit_change(struct request *r);
int stage_reply_change(struct request *r);
int stage_reply_version(struct request *r);
