/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key: one key as the application holds it: the secret, and what the daemon's answer said about it.
 */
#pragma once

#include <stdbool.h>

#include "client/lkm.h"
#include "proto/frame.h"

/**
 * key_new() - from a KEY message
 * @m: its secret is moved into the key and becomes NULL, on success only
 * Return: 0; -ENOMEM; -EBADMSG when the secret is not KEY_SIZE bytes.
 */
int key_new(struct lkm_key **ret_key, struct message_key *m);
/** key_secret() - its bytes, borrowed; KEY_SIZE of them. */
struct secret *key_secret(struct lkm_key *key);
/** key_restores_wal() - of a pending key: the rotation that made it left WAL mode. */
bool key_restores_wal(const struct lkm_key *key);
