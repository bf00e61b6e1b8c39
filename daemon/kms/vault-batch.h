/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-batch: unwraps of one KEK, several in one request when many are wanted at once: 1,000 cold keys are some 16 requests, not 1,000. What
 * Vault says of one wrap decides that wrap alone.
 */
#pragma once

#include "daemon/kms/vault-key.h"

/** SHA-256 of the packed encryption context. */
#define VAULT_CONTEXT_SIZE 32

struct vault_batch;

/** vault_batch_new() - all borrowed; they outlive it. @permission: to decrypt. Return: 0 or -ENOMEM. */
int vault_batch_new(struct vault_batch **ret_batch, const struct vault_server *server, struct exchange_queue *queue, struct vault_token *auth,
                    struct vault_key *key, const char *permission);
/** vault_batch_free() - no unwrap is under way. */
struct vault_batch *vault_batch_free(struct vault_batch *b);

/** vault_batch_unwrap() - @call ends later, from the event loop. @wrapped: of the form that vault_ciphertext_version() knows. Return: 0 or -ENOMEM. */
int vault_batch_unwrap(struct vault_batch *b, struct provider_call *call, struct bytes wrapped, const uint8_t context[VAULT_CONTEXT_SIZE]);

/** vault_operation_authorize() - the authorize() of what uses the key: the key is known to be good, and there is a token. */
int vault_operation_authorize(struct vault_call *c, struct vault_key *key, struct vault_token *auth);
