/* SPDX-License-Identifier: Apache-2.0 */
/* vault-answer: the body of an answer of Vault, in its parts; what is secret in it lies in locked memory and nowhere else. Pure. */
#pragma once

#include <jansson.h>

#include "daemon/kms/json-secret.h"
#include "daemon/kms/vault-error.h"

/** The members that are secret. */
enum vault_secret {
        VAULT_SECRET_PLAINTEXT,
        VAULT_SECRET_CLIENT_TOKEN,
        VAULT_SECRET_SECRET_ID,
        VAULT_SECRET_TOKEN, /* of wrap_info */
        VAULT_SECRET_ID, /* lookup-self repeats the token as this */
};
#define VAULT_BATCH_MAX 64
#define VAULT_ANSWER_SECRETS_MAX (VAULT_BATCH_MAX + 8)

struct vault_answer {
        json_t *root; /* NULL: no body, or no JSON object */
        json_t *data, *auth; /* borrowed from root; NULL when absent */
        json_t *batch; /* data.batch_results, an array; or NULL */
        size_t n_secrets;
        struct json_secret secrets[VAULT_ANSWER_SECRETS_MAX];
        char text[VAULT_TEXT_MAX + 1]; /* the errors, fit to be shown */
        char ignored[VAULT_TEXT_MAX + 1]; /* the warning that parameters were ignored, or "" */
};

/** vault_answer_parse() - @body: overwritten; or NULL. A body that is no JSON object is no failure, since proxies send such: root is NULL. Return: 0, or
 *  -ENOBUFS when locked memory is short. Release with vault_answer_deinit(). */
int vault_answer_parse(struct vault_answer *ret_answer, struct secret *body);
void vault_answer_deinit(struct vault_answer *a);

/** vault_answer_secret() - a secret member, by its name and its place in an array; borrowed, or NULL. */
struct secret *vault_answer_secret(const struct vault_answer *a, enum vault_secret which, size_t i_item);
/** vault_answer_request_id() - what its audit log calls the request; without bytes when there is none. Borrowed. */
struct bytes vault_answer_request_id(const struct vault_answer *a);
/** vault_ciphertext_version() - of a text of the form "vault:vN:BASE64"; 0 when it has another form. */
uint32_t vault_ciphertext_version(struct bytes text);
