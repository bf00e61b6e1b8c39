/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-error: what an answer of Vault or OpenBao that is no success means: the class that decides what lkmd does, whether it is worth asking
 * again, and a sentence for people. One table. The texts are no interface of Vault's, so they are looked for loosely, and what is not
 * known is final. Pure.
 */
#pragma once

#include "daemon/kms/exchange.h"

/** What was asked. The same status means different things. */
enum vault_kind {
        VAULT_KIND_TRANSIT = 1,  /* datakey, encrypt, decrypt, rewrap */
        VAULT_KIND_KEY = 2,      /* reading the key's properties */
        VAULT_KIND_LOGIN = 4,    /* auth/METHOD/login */
        VAULT_KIND_WRAPPING = 8, /* sys/wrapping/lookup and unwrap */
        VAULT_KIND_TOKEN = 16,   /* lookup-self, renew-self */
};

/** What to do beside what the class and the action say. */
enum vault_special {
        VAULT_SPECIAL_NONE,
        VAULT_SPECIAL_FOLLOW, /* the header Location names the active node */
        VAULT_SPECIAL_TOKEN,  /* lookup-self tells whether the token has ended (then log in again) or may not do this */
        VAULT_SPECIAL_ALARM,  /* somebody else may have used the wrapping token: say so loudly, and do not try again */
};

struct vault_meaning {
        unsigned kinds; /* of enum vault_kind */
        int status_min, status_max;
        const char *text; /* in lower case, to be found in an error's text; NULL: whatever it says */
        enum proto_error error;
        enum exchange_action action;
        enum vault_special special;
        const char *what, *todo; /* {mount}, {key} and {permission} are replaced */
};

/** What a sentence names. */
struct vault_names {
        const char *host, *mount, *key;
        const char *permission; /* as "update on transit/decrypt/NAME" */
};

#define VAULT_TEXT_MAX 200

/** vault_error_is_outage() - whether @error says nothing of keys and tokens, but that Vault is away or busy. */
bool vault_error_is_outage(enum proto_error error);
/** vault_error_find() - @text: the errors of the answer, joined; "" for none. Return: never NULL. */
const struct vault_meaning *vault_error_find(enum vault_kind kind, int status, const char *text);
/** vault_error_sentence() - "Vault at HOST: WHAT (status N: TEXT). WHAT TO DO". */
void vault_error_sentence(struct sentence *ret_sentence, const struct vault_meaning *meaning, const struct vault_names *names, int status,
                          const char *text);
/** vault_error_text() - append @text to what is in @ret_text, fit to be shown: one line, not over VAULT_TEXT_MAX, and without words that look like a token. */
void vault_error_text(char ret_text[VAULT_TEXT_MAX + 1], const char *text);
