/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-login: one login at a time to Vault, by the method that the configuration gives: files are read anew, a response-wrapped secret id
 * is looked up and unwrapped first, and at the end there is a token. When to log in, and how long a token is good, is vault-token's business.
 */
#pragma once

#include "daemon/kms/vault-call.h"

/** What a login, a renewal or a look at a token gives. */
struct vault_lease {
        struct secret *token; /* borrowed for the call of done(); NULL from vault_lease_of_auth() of a renewal that repeats none */
        uint64_t duration_usec; /* from now; USEC_INFINITY = it never ends */
        bool renewable;
};

struct vault_login;

/** vault_login_new() - reads nothing yet. @server, @queue: borrowed; they outlive the login. Return: 0 or -ENOMEM. */
int vault_login_new(struct vault_login **ret_login, const struct vault_server *server, struct exchange_queue *queue,
                    /** done() - once for each start: @lease with no error. @is_final: nothing but other files can mend it. */
                    void (*done)(void *userdata, enum proto_error error, const char *sentence, const struct vault_lease *lease, bool is_final),
                    void *userdata);
/** vault_login_free() - ends what is under way without done(). */
struct vault_login *vault_login_free(struct vault_login *l);

/** vault_login_start() - none is under way. Return: PROTO_ERROR_NONE, and done() will follow from the event loop; else the class, with *ret_why filled. */
enum proto_error vault_login_start(struct vault_login *l, uint64_t deadline_usec, struct sentence *ret_why);
/** vault_login_check() - whether the file that a login reads can be read, now. Return: 0, or -errno with *ret_why filled. */
int vault_login_check(const struct config_kek *config, struct sentence *ret_why);
/** vault_login_stamp() - a number that changes when the files do that a login reads. */
uint64_t vault_login_stamp(const struct vault_login *l);
/** vault_login_method() - for people: "the token in FILE", "the AppRole login at auth/approle". Borrowed. */
const char *vault_login_method(const struct vault_login *l);

/** vault_lease_of_auth() - from the auth member of an answer. Return: whether it has one. */
bool vault_lease_of_auth(struct vault_lease *ret_lease, const struct vault_answer *answer);
/** vault_lease_of_lookup() - from the data of lookup-self. Return: whether it has them. */
bool vault_lease_of_lookup(struct vault_lease *ret_lease, const struct vault_answer *answer);
