/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-token: the token of one KEK: had by one login for all who wait, kept in locked memory alone, renewed while Vault lets it, replaced by a new
 * login before it ends, and served to its real end. Logging in again is nothing unusual. Also the queue for what is asked beside the
 * KEK's own calls, so that these never stand in the way of a login that they wait for.
 */
#pragma once

#include "daemon/kms/vault-call.h"

struct vault_token;

/** vault_token_new() - asks nothing yet. @server: borrowed; outlives it. Return: 0 or -ENOMEM. */
int vault_token_new(struct vault_token **ret_auth, const struct vault_server *server);
/** vault_token_free() - no call that is attached is under way. */
struct vault_token *vault_token_free(struct vault_token *a);

/** vault_token_queue() - for calls that others wait for. */
struct exchange_queue *vault_token_queue(struct vault_token *a);

/** vault_token_attach() - have @call authorized by this: after vault_call_init(), before vault_call_start(). */
void vault_token_attach(struct vault_token *a, struct vault_call *call);
/** vault_token_authorize() - what vault_token_attach() sets as authorize(), for who has something else to see to before. */
int vault_token_authorize(struct vault_token *a, struct vault_call *call);
