/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/vault-error.h"

#include <ctype.h>

enum {
        TRANSIT = VAULT_KIND_TRANSIT,
        KEY = VAULT_KIND_KEY,
        LOGIN = VAULT_KIND_LOGIN,
        WRAPPING = VAULT_KIND_WRAPPING,
        TOKEN = VAULT_KIND_TOKEN,
        ANY = TRANSIT | KEY | LOGIN | WRAPPING | TOKEN,
        TOKEN_WORD_MIN = 24, /* shorter words are no tokens */
};

#define LOG_OF_VAULT "Look into the log of Vault"
#define BACKUP "Restore the .key file from a backup"

/* The first line that fits. Statuses and texts: Vault's HTTP API and Transit documentation, and answers recorded from OpenBao 2.7.2. */
static const struct vault_meaning meanings[] = {
        /* ---- a node that does not serve ---- */
        { ANY, 307, 307, NULL, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_AT_ONCE, VAULT_SPECIAL_FOLLOW,
          "it is a standby and sends lkm-kms to another node", "Name the active node in address, or in redirect_hosts" },
        { ANY, 300, 399, NULL, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "it sends lkm-kms elsewhere, as Vault itself never does", "Correct address: something else answers there" },
        { ANY, 412, 412, NULL, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE,
          "the node has not yet seen what was written at another one", "Wait, and check the replication if it goes on" },
        { ANY, 429, 429, NULL, PROTO_ERROR_KMS_THROTTLED, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE, "a rate limit is used up",
          "Wait, or raise the quota (`vault list sys/quotas/rate-limit`)" },
        { ANY, 472, 472, NULL, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE,
          "the node is of a secondary cluster for disaster recovery, which does not serve", "Name the primary cluster in address" },
        { ANY, 473, 473, NULL, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE,
          "the node is a performance standby, which does not serve this", "Name the active node in address" },
        { ANY, 503, 503, "sealed", PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_END, VAULT_SPECIAL_NONE, "Vault is sealed",
          "Unseal it (`vault operator unseal`); lkm-kms then goes on by itself" },
        { ANY, 503, 503, NULL, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE,
          "no node serves: sealed, in maintenance, or without an active node", "Check `vault status`" },
        { ANY, 501, 501, NULL, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_END, VAULT_SPECIAL_NONE, "Vault is not initialized",
          "Initialize it (`vault operator init`), or correct address" },
        { ANY, 500, 500, "active cluster node not found", PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE,
          "the cluster has no active node; it may be choosing one", "Wait, and check `vault operator raft list-peers` if it goes on" },
        { ANY, 502, 502, NULL, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE,
          "a service that Vault asked, or the way to Vault, failed", LOG_OF_VAULT },
        { ANY, 500, 599, NULL, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE, "it failed inside", LOG_OF_VAULT },

        /* ---- what Transit says of a wrap or a key ---- */
        { TRANSIT, 400, 400, "message authentication failed", PROTO_ERROR_KMS_CORRUPT, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "the wrap does not authenticate: it is damaged, or was made for another record or under another key", BACKUP },
        { TRANSIT, 400, 400, "version is too new", PROTO_ERROR_KMS_NOT_FOUND, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "the wrap was made under a newer version of {mount}/keys/{key} than there is now",
          "Restore Vault from a newer backup; the key must have been set back or made anew" },
        { TRANSIT, 400, 400, "too old", PROTO_ERROR_KMS_STATE, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "the wrap was made under a version of the key below min_decryption_version",
          "Lower it (`vault write {mount}/keys/{key}/config min_decryption_version=N`), rewrap the records, then raise it again" },
        { TRANSIT, 400, 400, "invalid ciphertext", PROTO_ERROR_KMS_CORRUPT, EXCHANGE_END, VAULT_SPECIAL_NONE, "the wrap is damaged",
          BACKUP },
        { TRANSIT, 400, 400, "key not found", PROTO_ERROR_KMS_NOT_FOUND, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "there is no key {mount}/keys/{key}", "Restore it from a backup, or correct kek_id and mount" },
        { TRANSIT | KEY, 400, 400, "soft", PROTO_ERROR_KMS_STATE, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "the key {mount}/keys/{key} is marked as deleted", "Restore it (`bao write -f {mount}/keys/{key}/soft-delete-restore`)" },
        { TRANSIT, 400, 400, "missing 'context'", PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "the encryption context did not arrive", "Look for a proxy that changes requests, else report this as a bug of lkm" },
        { TRANSIT, 400, 400, "base64", PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "it cannot read what lkm-kms sent", "Look for a proxy that changes requests, else report this as a bug of lkm" },
        { TRANSIT, 400, 400, "bit length", PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "it does not make keys of 256 bits", "Check that {mount} is a transit engine" },
        { TRANSIT, 400, 400, NULL, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE, "it refuses the request",
          "Check the key (`vault read {mount}/keys/{key}`)" },
        { ANY, 404, 404, "namespace not found", PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "there is no such namespace", "Correct namespace (`vault namespace list`)" },
        { KEY, 404, 404, "no handler", PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE, "nothing is mounted at {mount}",
          "Correct mount and namespace, or run `vault secrets enable -path={mount} transit`" },
        { KEY, 404, 404, NULL, PROTO_ERROR_KMS_NOT_FOUND, EXCHANGE_END, VAULT_SPECIAL_NONE, "there is no key {mount}/keys/{key}",
          "Correct kek_id, or make it: `vault write -f {mount}/keys/{key} type=aes256-gcm96 derived=true`" },

        /* ---- logins ---- */
        { WRAPPING, 400, 400, NULL, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, VAULT_SPECIAL_ALARM,
          "the wrapping token of the secret id was used before, or has expired",
          "Find out who used it: that secret id may be stolen. Revoke it, then put a new wrapping token into secret_id_file" },
        { WRAPPING, 403, 403, NULL, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, VAULT_SPECIAL_ALARM,
          "the wrapping token of the secret id is not valid",
          "Find out who used it: that secret id may be stolen. Revoke it, then put a new wrapping token into secret_id_file" },
        { LOGIN, 400, 401, NULL, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, VAULT_SPECIAL_NONE, "the login is refused",
          "Check the role and what lkm-kms shows to log in: it may be wrong, expired or used up" },
        { LOGIN, 403, 403, NULL, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, VAULT_SPECIAL_NONE, "the login is refused",
          "Check the role, its bound claims or networks, and what lkm-kms shows to log in" },
        { LOGIN, 404, 405, NULL, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE, "there is no such login",
          "Check auth, auth_mount and namespace (`vault auth list`)" },
        { TOKEN, 400, 403, NULL, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "the token has expired, was revoked, or is unknown", "Give lkm-kms a new one" },

        /* ---- leave ---- */
        { ANY, 403, 403, NULL, PROTO_ERROR_KMS_DENIED, EXCHANGE_AT_ONCE, VAULT_SPECIAL_TOKEN, "the token may not do this",
          "Its policies must allow {permission}; `lkmctl kek policy` prints a policy" },
        { ANY, 401, 401, NULL, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, VAULT_SPECIAL_NONE,
          "something before Vault wants other credentials", "Check address and what lies between" },
        { ANY, 407, 407, NULL, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE, "the proxy wants credentials",
          "Correct proxy" },

        /* ---- the wrong place ---- */
        { ANY, 404, 404, "no handler", PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE, "nothing is mounted at {mount}",
          "Correct mount and namespace, or run `vault secrets enable -path={mount} transit`" },
        { ANY, 404, 404, NULL, PROTO_ERROR_KMS_NOT_FOUND, EXCHANGE_END, VAULT_SPECIAL_NONE, "there is no {mount}/keys/{key}",
          "Correct kek_id, mount and namespace" },
        { ANY, 405, 405, NULL, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE, "{mount} is no transit engine",
          "Correct mount (`vault secrets list`)" },
        { ANY, 408, 408, NULL, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE, "the request came too slowly",
          "Check the network" },
        { ANY, 400, 499, NULL, PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, VAULT_SPECIAL_NONE, "it refuses the request",
          "Check address, mount and kek_id" },
        { ANY, 0, 999, NULL, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, VAULT_SPECIAL_NONE, "it gives an answer that is not Vault's",
          "Check address, and what lies between" },
};

bool vault_error_is_outage(enum proto_error error)
{
        return error == PROTO_ERROR_KMS_UNREACHABLE || error == PROTO_ERROR_KMS_THROTTLED;
}

static bool text_has(const char *text, const char *part)
{
        return !part || strcasestr(text, part);
}

const struct vault_meaning *vault_error_find(enum vault_kind kind, int status, const char *text)
{
        const struct vault_meaning *m = meanings;

        /* The last line fits everything. */
        for (; m < meanings + ELEMENTSOF(meanings) - 1; m++) {
                if ((m->kinds & (unsigned)kind) && status >= m->status_min && status <= m->status_max && text_has(text, m->text))
                        break;
        }
        return m;
}

/* ---- for people ---- */

/* Copy @text with its {names} replaced. */
static void names_insert(char *ret_text, size_t n, const char *text, const struct vault_names *names)
{
        const struct {
                const char *name, *value;
        } known[] = { { "{mount}", names->mount }, { "{key}", names->key }, { "{permission}", names->permission } };
        size_t at = 0;

        while (*text && at + 1 < n) {
                size_t i = 0;

                while (i < ELEMENTSOF(known) && strncmp(text, known[i].name, strlen(known[i].name)) != 0)
                        i++;
                if (i == ELEMENTSOF(known)) {
                        ret_text[at++] = *text++;
                        continue;
                }
                at += (size_t)snprintf(ret_text + at, n - at, "%s", known[i].value ? known[i].value : "");
                if (at >= n)
                        at = n - 1;
                text += strlen(known[i].name);
        }
        ret_text[at] = '\0';
}

void vault_error_sentence(struct sentence *ret_sentence, const struct vault_meaning *meaning, const struct vault_names *names, int status,
                          const char *text)
{
        char what[300], todo[400];

        names_insert(what, sizeof(what), meaning->what, names);
        names_insert(todo, sizeof(todo), meaning->todo, names);
        sentence_set(ret_sentence, "Vault at %s: %s (status %d%s%s). %s", names->host, what, status, *text ? ": " : "", text, todo);
}

static bool is_of_token(char c)
{
        return isalnum((unsigned char)c) || strchr("+=_.-", c);
}

void vault_error_text(char ret_text[VAULT_TEXT_MAX + 1], const char *text)
{
        size_t n = strlen(ret_text);

        if (n > 0 && n + 2 < VAULT_TEXT_MAX) {
                ret_text[n++] = ';';
                ret_text[n++] = ' ';
        }
        while (*text && n < VAULT_TEXT_MAX) {
                size_t word = 0;

                while (text[word] && is_of_token(text[word]))
                        word++;
                if (word >= TOKEN_WORD_MIN) {
                        n += (size_t)snprintf(ret_text + n, VAULT_TEXT_MAX + 1 - n, "...");
                        n = n > VAULT_TEXT_MAX ? VAULT_TEXT_MAX : n;
                        text += word;
                        continue;
                }
                for (; word > 0 && n < VAULT_TEXT_MAX; word--)
                        ret_text[n++] = *text++;
                if (!*text || is_of_token(*text))
                        continue;
                /* Runs of white space and bullets, which Vault's lists of errors have, become one space. */
                if (isspace((unsigned char)*text) || *text == '*') {
                        if (n > 0 && n < VAULT_TEXT_MAX && ret_text[n - 1] != ' ')
                                ret_text[n++] = ' ';
                        text++;
                } else if (n < VAULT_TEXT_MAX) {
                        ret_text[n++] = *text++;
                }
        }
        while (n > 0 && ret_text[n - 1] == ' ')
                n--;
        ret_text[n] = '\0';
        text_clean(ret_text); /* control characters, and a character cut in two by the limit */
}
