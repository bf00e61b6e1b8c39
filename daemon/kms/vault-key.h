/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-key: whether the key in the transit engine is one that binds the encryption context. It is read before anything is made or unwrapped, and
 * daily: a key that is not derived takes any context and decrypts under any other, without a word.
 */
#pragma once

#include "daemon/kms/vault-token.h"

struct vault_key;

/** vault_key_new() - the first check begins with the event loop. @server, @auth: borrowed; they outlive the key. Return: 0 or -ENOMEM. */
int vault_key_new(struct vault_key **ret_key, const struct vault_server *server, struct vault_token *auth);
struct vault_key *vault_key_free(struct vault_key *k);

/** vault_key_is_good() - whether the check has passed. Else @call is told by vault_call_ready() or vault_call_fail(). */
bool vault_key_is_good(struct vault_key *k, struct vault_call *call);
/** vault_key_error() - Return: the class of a key that will not do, with *ret_sentence set (borrowed); PROTO_ERROR_NONE when nothing is known against it.
 *  A key that will not do is read again from time to time, when somebody asks. */
enum proto_error vault_key_error(struct vault_key *k, const char **ret_sentence);
/** vault_key_version() - the newest version that is known, 0 while none is. vault_key_note_version() - one was seen on a wrap. */
uint32_t vault_key_version(const struct vault_key *k);
void vault_key_note_version(struct vault_key *k, uint32_t version);
/** vault_key_why() - what stands against the key; NULL for nothing. vault_key_note() - what an administrator may want to change though the key works; NULL
 *  for nothing. Borrowed. */
const char *vault_key_why(const struct vault_key *k);
const char *vault_key_note(const struct vault_key *k);

/** vault_key_judge() - the rules, alone: what is wrong with the properties in @data, and what is only to be noted ("" for nothing). */
enum proto_error vault_key_judge(const struct vault_server *server, const json_t *data, struct sentence *ret_why, struct sentence *ret_note,
                                 uint32_t *ret_version);
