/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/vault-key.h"

#include <errno.h>

#include "common/clock.h"
#include "common/log.h"

#define CHECK_USEC (UINT64_C(10) * USEC_PER_SEC) /* for one check */
#define DAY_USEC (UINT64_C(24) * 3600 * USEC_PER_SEC)
#define AGAIN_USEC (UINT64_C(600) * USEC_PER_SEC) /* after a check that could not be made */
#define BAD_USEC (UINT64_C(5) * USEC_PER_SEC) /* a key that will not do is not read again before */

struct vault_key {
        const struct vault_server *server;
        struct vault_token *auth;
        enum { KEY_UNKNOWN, KEY_GOOD, KEY_BAD } state;
        enum proto_error error; /* while bad */
        struct sentence why;
        struct sentence note;
        uint32_t version;
        uint64_t checked_usec; /* CLOCK_BOOTTIME */
        struct vault_call call;
        bool checking;
        struct event *timer;
        struct list waiters; /* of struct vault_call, by key_link */
        char permission[KEK_ID_MAX];
        /* of the check under way */
        enum proto_error found;
        struct sentence found_why, found_note;
        uint32_t found_version;
};

/* ---- the rules ---- */

/* Append "NAME is VALUE" to the list in @text. */
static void fault_add(char *text, size_t n_text, const char *name, const char *value)
{
        size_t n = strlen(text);

        snprintf(text + n, n_text - n, "%s%s is %s", n > 0 ? ", " : "", name, value);
}

static void expect(const json_t *data, const char *name, bool wanted, char *faults, size_t n_faults)
{
        if (json_is_true(json_object_get(data, name)) != wanted)
                fault_add(faults, n_faults, name, wanted ? "not true" : "true");
}

enum proto_error vault_key_judge(const struct vault_server *server, const json_t *data, struct sentence *ret_why, struct sentence *ret_note,
                                 uint32_t *ret_version)
{
        const char *type = json_string_value(json_object_get(data, "type")), *mount = server->names.mount, *key = server->names.key;
        json_int_t version = json_integer_value(json_object_get(data, "latest_version"));
        char faults[300] = "", notes[100] = "";

        *ret_version = version > 0 && version <= INT32_MAX ? (uint32_t)version : 0;
        *ret_why->text = *ret_note->text = '\0';
        if (json_is_true(json_object_get(data, "soft_deleted"))) {
                sentence_set(ret_why, "the key %s/keys/%s is marked as deleted. Restore it, or name another in kek_id", mount, key);
                return PROTO_ERROR_KMS_STATE;
        }
        expect(data, "derived", true, faults, sizeof(faults));
        if (!type || (strcmp(type, "aes256-gcm96") != 0 && strcmp(type, "chacha20-poly1305") != 0))
                fault_add(faults, sizeof(faults), "type", type && strlen(type) < 40 ? type : "missing");
        expect(data, "supports_encryption", true, faults, sizeof(faults));
        expect(data, "supports_decryption", true, faults, sizeof(faults));
        expect(data, "convergent_encryption", false, faults, sizeof(faults));
        expect(data, "exportable", false, notes, sizeof(notes));
        expect(data, "allow_plaintext_backup", false, notes, sizeof(notes));
        if (*notes)
                sentence_set(ret_note, "of the key %s/keys/%s, %s: whoever has leave at Vault can take it out. That cannot be set back; make another key", mount,
                             key, notes);
        if (!*faults)
                return PROTO_ERROR_NONE;
        sentence_set(ret_why,
                     "the key %s/keys/%s does not bind the encryption context as lkm needs it: %s. These are fixed when a key is made: make another with "
                     "`vault write -f %s/keys/NAME type=aes256-gcm96 derived=true`, and name it in kek_id",
                     mount, key, faults, mount);
        return PROTO_ERROR_KMS_MISCONFIGURED;
}

/* ---- the check ---- */

static void timer_set(struct vault_key *k, uint64_t usec)
{
        struct timeval tv = { .tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_usec = (suseconds_t)(usec % USEC_PER_SEC) };

        event_add(k->timer, &tv);
}

static void waiters_end(struct vault_key *k, enum proto_error error, const char *sentence)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &k->waiters) {
                struct vault_call *c = list_entry(node, struct vault_call, key_link);

                list_unlink(node);
                if (error)
                        vault_call_fail(c, error, sentence);
                else
                        vault_call_ready(c);
        }
}

static void check_read(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict)
{
        struct vault_key *k = call->userdata;

        if (!answer->data) {
                vault_call_refuse(call, verdict, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT,
                                  "it does not tell the properties of the key. Check address, and what lies between");
                return;
        }
        k->found = vault_key_judge(k->server, answer->data, &k->found_why, &k->found_note, &k->found_version);
        if (k->found)
                vault_call_refuse(call, verdict, k->found, EXCHANGE_END, "%s", k->found_why.text);
}

static void check_passed(struct vault_key *k)
{
        if (strcmp(k->note.text, k->found_note.text) != 0 && *k->found_note.text)
                log_warning("[kek %s]: %s", k->server->config->name, k->found_note.text);
        k->state = KEY_GOOD;
        k->note = k->found_note;
        k->version = k->found_version > k->version ? k->found_version : k->version;
        *k->why.text = '\0';
        timer_set(k, DAY_USEC);
        waiters_end(k, PROTO_ERROR_NONE, "");
}

static void check_failed(struct vault_key *k, enum proto_error error, const char *sentence)
{
        struct sentence why;

        sentence_set(&why, "%s", sentence && *sentence ? sentence : proto_error_sentence(error));
        /* An outage says nothing of the key, nor does a login that fails: what was good stays so, and the rest is to be found out. */
        if (!vault_error_is_outage(error) && error != PROTO_ERROR_KMS_CREDENTIALS && error != PROTO_ERROR_INTERNAL) {
                /* Where somebody waits, the call's end is logged. */
                if (list_is_empty(&k->waiters) && (k->state != KEY_BAD || strcmp(k->why.text, why.text) != 0))
                        log_error("[kek %s]: %s", k->server->config->name, why.text);
                k->state = KEY_BAD;
                k->error = error;
                k->why = why;
        }
        timer_set(k, k->state == KEY_GOOD ? AGAIN_USEC : DAY_USEC);
        waiters_end(k, error, why.text);
}

static void check_done(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct vault_key *k = call->userdata;

        k->checking = false;
        k->checked_usec = clock_boottime_usec();
        vault_call_deinit(call);
        if (error)
                check_failed(k, error, sentence);
        else
                check_passed(k);
}

static void check_begin(struct vault_key *k)
{
        struct vault_call *c = &k->call;
        char *path;
        int r;

        if (k->checking)
                return;
        if (asprintf(&path, "%s/keys/%s", k->server->names.mount, k->server->names.key) < 0)
                path = NULL;
        r = vault_call_init(c, k->server, VAULT_KIND_KEY, "GET", path);
        if (r == 0) {
                c->read = check_read;
                c->done = check_done;
                c->userdata = k;
                c->permission = k->permission;
                vault_token_attach(k->auth, c);
                r = vault_call_start(c, vault_token_queue(k->auth), clock_boottime_usec() + CHECK_USEC);
        }
        k->checking = r == 0;
        if (r < 0) {
                vault_call_deinit(c);
                timer_set(k, BAD_USEC);
        }
}

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
        check_begin(userdata);
}

/* ---- for the calls ---- */

bool vault_key_is_good(struct vault_key *k, struct vault_call *call)
{
        if (k->state == KEY_GOOD)
                return true;
        list_append(&k->waiters, &call->key_link);
        check_begin(k);
        return false;
}

enum proto_error vault_key_error(struct vault_key *k, const char **ret_sentence)
{
        if (k->state != KEY_BAD || clock_boottime_usec() - k->checked_usec >= BAD_USEC)
                return PROTO_ERROR_NONE;
        *ret_sentence = k->why.text;
        return k->error;
}

uint32_t vault_key_version(const struct vault_key *k)
{
        return k->version;
}

void vault_key_note_version(struct vault_key *k, uint32_t version)
{
        k->version = version > k->version ? version : k->version;
}

const char *vault_key_why(const struct vault_key *k)
{
        return k->state == KEY_BAD ? k->why.text : NULL;
}

const char *vault_key_note(const struct vault_key *k)
{
        return *k->note.text ? k->note.text : NULL;
}

int vault_key_new(struct vault_key **ret_key, const struct vault_server *server, struct vault_token *auth)
{
        struct vault_key *k = calloc(1, sizeof(*k));

        if (!k)
                return -ENOMEM;
        k->server = server;
        k->auth = auth;
        list_init(&k->waiters);
        snprintf(k->permission, sizeof(k->permission), "read on %s/keys/%s", server->names.mount, server->names.key);
        k->timer = evtimer_new(server->environment->base, on_timer, k);
        if (!k->timer) {
                vault_key_free(k);
                return -ENOMEM;
        }
        timer_set(k, 0);
        *ret_key = k;
        return 0;
}

struct vault_key *vault_key_free(struct vault_key *k)
{
        if (!k)
                return NULL;
        if (k->checking)
                vault_call_cancel(&k->call);
        vault_call_deinit(&k->call);
        if (k->timer)
                event_free(k->timer);
        free(k);
        return NULL;
}
