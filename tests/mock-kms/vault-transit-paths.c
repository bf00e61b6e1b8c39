/* SPDX-License-Identifier: Apache-2.0 */
/* The paths of the Transit engine. */
#include "tests/mock-kms/service.h"
#include "tests/mock-kms/vault-transit.h"

static uint64_t now_seconds(const struct vault_call *c)
{
        return mock_now_usec(c->mock) / USEC_PER_SEC;
}

/* Return: NULL after the error. */
static struct transit_key *key_of(struct vault_call *c, const char *name)
{
        struct transit_key *k = transit_key_find(c->vault, c->mount, name);

        if (!k)
                vault_error(c, 400, "encryption key not found");
        return k;
}

/* ---- keys ---- */

static void create_key(struct vault_call *c)
{
        const char *type = json_text(c->body, "type");
        bool derived = json_loose_flag(c->body, "derived", false),
             convergent = json_loose_flag(c->body, "convergent_encryption", false);
        struct transit_key *k = transit_key_find(c->vault, c->mount, c->parts[0]);

        if (type && strcmp(type, "aes256-gcm96") != 0) {
                vault_error(c, 400, "unknown key type %s", type);
                return;
        }
        if (convergent && !derived) {
                vault_error(c, 400, "convergent encryption requires derivation to be enabled");
                return;
        }
        if (!k) {
                k = transit_key_new(c->vault, c->mount, c->parts[0], now_seconds(c));
                k->derived = derived;
                k->convergent = convergent;
                k->exportable = json_loose_flag(c->body, "exportable", false);
                k->allow_plaintext_backup = json_loose_flag(c->body, "allow_plaintext_backup", false);
        }
        vault_reply(c, transit_key_report(k));
}

static void delete_key(struct vault_call *c)
{
        struct transit_key *k = transit_key_find(c->vault, c->mount, c->parts[0]);

        if (!k) {
                vault_error(c, 400, "error deleting policy %s: could not delete key; not found", c->parts[0]);
        } else if (!k->deletion_allowed) {
                vault_error(c, 400, "error deleting policy %s: deletion is not allowed for this key", c->parts[0]);
        } else {
                transit_key_free(k);
                vault_reply_empty(c);
        }
}

static void one_key(struct vault_call *c)
{
        const struct transit_key *k = transit_key_find(c->vault, c->mount, c->parts[0]);

        if (c->operation == VAULT_UPDATE)
                create_key(c);
        else if (c->operation == VAULT_DELETE)
                delete_key(c);
        else if (!k)
                vault_error_nothing(c, 404);
        else
                vault_reply(c, transit_key_report(k));
}

static void list_keys(struct vault_call *c)
{
        json_t *names = json_take(json_array());

        for (struct list *node = c->vault->keys.next; node != &c->vault->keys; node = node->next) {
                const struct transit_key *k = list_entry(node, struct transit_key, link);

                if (strcmp(k->mount, c->mount) == 0)
                        json_array_append_new(names, json_take(json_string(k->name)));
        }
        if (json_array_size(names))
                vault_reply(c, json_pack("{s:o}", "keys", names));
        else {
                json_decref(names);
                vault_error_nothing(c, 404);
        }
}

static void rotate_key(struct vault_call *c)
{
        struct transit_key *k = transit_key_find(c->vault, c->mount, c->parts[0]);

        if (!k) {
                vault_error(c, 400, "key not found");
                return;
        }
        transit_key_rotate(k, now_seconds(c));
        vault_reply(c, transit_key_report(k));
}

static void configure_key(struct vault_call *c)
{
        struct transit_key *k = transit_key_find(c->vault, c->mount, c->parts[0]);
        json_int_t decryption, encryption;

        if (!k) {
                vault_error(c, 400, "no existing key named %s could be found", c->parts[0]);
                return;
        }
        decryption = json_loose_number(c->body, "min_decryption_version", (json_int_t)k->min_decryption_version);
        encryption = json_loose_number(c->body, "min_encryption_version", (json_int_t)k->min_encryption_version);
        if (decryption < 0 || encryption < 0) {
                vault_error(c, 400, "min %s version cannot be negative", decryption < 0 ? "decryption" : "encryption");
        } else if (decryption > (json_int_t)k->n_versions || encryption > (json_int_t)k->n_versions) {
                bool is_decryption = decryption > (json_int_t)k->n_versions;

                vault_error(c, 400, "cannot set min %s version of %lld, latest key version is %u",
                            is_decryption ? "decryption" : "encryption",
                            (long long)(is_decryption ? decryption : encryption), k->n_versions);
        } else {
                k->min_decryption_version = decryption ? (unsigned)decryption : 1;
                k->min_encryption_version = (unsigned)encryption;
                k->deletion_allowed = json_loose_flag(c->body, "deletion_allowed", k->deletion_allowed);
                k->exportable = k->exportable || json_loose_flag(c->body, "exportable", false);
                k->allow_plaintext_backup =
                        k->allow_plaintext_backup || json_loose_flag(c->body, "allow_plaintext_backup", false);
                vault_reply(c, transit_key_report(k));
        }
}

/* ---- data keys ---- */

static void datakey_make(struct vault_call *c, const struct transit_key *k, size_t n, bool with_plaintext)
{
        uint8_t plain[64];
        struct transit_item item = { .context = json_text(c->body, "context"),
                                     .associated_data = json_text(c->body, "associated_data"),
                                     .version = (unsigned)json_loose_number(c->body, "key_version", 0) };
        _cleanup_(freep) char *text = NULL, *ciphertext = NULL, *problem = NULL;
        unsigned version;
        json_t *data;

        random_bytes(plain, n);
        item.text = text = text_base64(plain, n);
        if (c->vault->knows_no_datakey_aad)
                item.associated_data = NULL;
        ciphertext = transit_encrypt(k, &item, &version, &problem);
        if (!ciphertext) {
                vault_error(c, 400, "%s", problem);
                return;
        }
        data = json_take(json_pack("{s:s, s:i}", "ciphertext", ciphertext, "key_version", (int)version));
        if (with_plaintext)
                json_put(data, "plaintext", json_string(text));
        vault_reply(c, data);
}

static void datakey(struct vault_call *c)
{
        bool with_plaintext = strcmp(c->parts[0], "plaintext") == 0;
        json_int_t bits = json_loose_number(c->body, "bits", 256);
        _cleanup_(freep) char *bad_context = transit_base64_problem(json_text(c->body, "context"));
        const struct transit_key *k;

        if (c->vault->knows_no_datakey_aad && json_object_get(c->body, "associated_data"))
                vault_warn(c, "Endpoint ignored these unrecognized parameters: [associated_data]");
        if (!with_plaintext && strcmp(c->parts[0], "wrapped") != 0) {
                vault_error(c, 400, "Invalid path, must be 'plaintext' or 'wrapped'");
                return;
        }
        if (bad_context) {
                vault_error(c, 400, "failed to base64-decode context");
                return;
        }
        k = key_of(c, c->parts[1]);
        if (!k)
                return;
        if (bits != 128 && bits != 256 && bits != 512)
                vault_error(c, 400, "invalid bit length");
        else
                datakey_make(c, k, (size_t)bits / 8, with_plaintext);
}

/* ---- encrypt, decrypt, rewrap: one item or a batch ---- */

/** What one of the three does with one item. Return: what it found, or NULL with the problem. */
struct work {
        const char *input; /* name of the parameter */
        const char *missing;
        bool (*run)(const struct transit_key *k, const struct transit_item *item, json_t *result, char **ret_problem);
};

static bool run_encrypt(const struct transit_key *k, const struct transit_item *item, json_t *result,
                        char **ret_problem)
{
        unsigned version;
        _cleanup_(freep) char *ciphertext = transit_encrypt(k, item, &version, ret_problem);

        if (!ciphertext)
                return false;
        json_put(result, "ciphertext", json_string(ciphertext));
        json_put(result, "key_version", json_integer(version));
        return true;
}

static bool run_decrypt(const struct transit_key *k, const struct transit_item *item, json_t *result,
                        char **ret_problem)
{
        _cleanup_(freep) char *plaintext = transit_decrypt(k, item, ret_problem);

        if (plaintext)
                json_put(result, "plaintext", json_string(plaintext));
        return plaintext;
}

/* Associated data is not known here, in no product: a blob that has it cannot be rewrapped. */
static bool run_rewrap(const struct transit_key *k, const struct transit_item *item, json_t *result, char **ret_problem)
{
        struct transit_item bare = { .text = item->text, .context = item->context },
                            fresh = { .context = item->context, .version = item->version };
        _cleanup_(freep) char *plaintext = transit_decrypt(k, &bare, ret_problem);

        if (!plaintext)
                return false;
        fresh.text = plaintext;
        return run_encrypt(k, &fresh, result, ret_problem);
}

static const struct work work_encrypt = { "plaintext", "missing plaintext to encrypt", run_encrypt };
static const struct work work_decrypt = { "ciphertext", "missing ciphertext to decrypt", run_decrypt };
static const struct work work_rewrap = { "ciphertext", "missing ciphertext to decrypt", run_rewrap };

static struct transit_item item_of(const json_t *from, const struct work *w)
{
        return (struct transit_item){ .text = json_text(from, w->input),
                                      .context = json_text(from, "context"),
                                      .associated_data = json_text(from, "associated_data"),
                                      .version = (unsigned)json_loose_number(from, "key_version", 0) };
}

/* Return: false after the error of a batch that is none. */
static bool batch_is_valid(struct vault_call *c, const json_t *batch, const struct work *w)
{
        size_t n_contexts = 0, i;
        json_t *input;

        if (!json_is_array(batch)) {
                vault_error_listed(c, 500,
                                   "failed to parse batch input: source data must be an array or slice, got string");
                return false;
        }
        if (json_array_size(batch) == 0) {
                vault_error(c, 400, "missing batch input to process");
                return false;
        }
        json_array_foreach(batch, i, input)
        {
                if (!json_text(input, w->input)) {
                        vault_error_listed(c, 500, "failed to parse batch input: '[%zu].%s' %s", i, w->input,
                                           w->missing);
                        return false;
                }
                n_contexts += json_text(input, "context") && *json_text(input, "context");
        }
        if (n_contexts == 0 || n_contexts == json_array_size(batch))
                return true;
        vault_error(c, 400, "context should be set either in all the request blocks or in none");
        return false;
}

static void work_batch(struct vault_call *c, const struct transit_key *k, const struct work *w)
{
        json_t *batch = json_object_get(c->body, "batch_input"), *results = json_take(json_array()), *input;
        json_int_t status = json_loose_number(c->body, "partial_failure_response_code", 400);
        size_t n_failed = 0, i;

        json_array_foreach(batch, i, input)
        {
                struct transit_item item = item_of(input, w);
                _cleanup_(freep) char *problem = NULL;
                json_t *result = json_take(json_object());
                const char *reference = json_text(input, "reference");

                if (!w->run(k, &item, result, &problem)) {
                        n_failed++;
                        if (w == &work_decrypt)
                                json_put(result, "plaintext", json_string(""));
                        json_put(result, "error", json_string(problem));
                }
                json_put(result, "reference", json_string(reference ? reference : ""));
                if (json_array_append_new(results, result) < 0)
                        abort();
        }
        /* When all have failed, that is no partial failure. A batch of rewraps always succeeds: only its items tell. */
        if (n_failed == 0 || w == &work_rewrap)
                status = 200;
        else if (n_failed == json_array_size(batch))
                status = 400;
        vault_reply_status(c, (int)status, json_pack("{s:o}", "batch_results", results));
}

static void work_single(struct vault_call *c, const struct transit_key *k, const struct work *w)
{
        struct transit_item item = item_of(c->body, w);
        _cleanup_(freep) char *problem = NULL;
        json_t *result = json_take(json_object());

        if (w->run(k, &item, result, &problem)) {
                vault_reply(c, result);
                return;
        }
        json_decref(result);
        vault_error(c, 400, "%s", problem);
}

static void work(struct vault_call *c, const struct work *w)
{
        const json_t *batch = json_object_get(c->body, "batch_input");
        const char *text = json_text(c->body, w->input),
                   *context = json_text(batch ? json_array_get(batch, 0) : c->body, "context");
        struct transit_key *k;

        if (batch && !batch_is_valid(c, batch, w))
                return;
        if (!batch && (!text || (w != &work_encrypt && !*text))) {
                vault_error(c, 400, "%s", w->missing);
                return;
        }
        k = transit_key_find(c->vault, c->mount, c->parts[0]);
        if (!k && w == &work_encrypt) {
                k = transit_key_new(c->vault, c->mount, c->parts[0], now_seconds(c));
                k->derived = context && *context;
        }
        if (!k)
                vault_error(c, 400, "encryption key not found");
        else if (batch)
                work_batch(c, k, w);
        else
                work_single(c, k, w);
}

static void encrypt(struct vault_call *c)
{
        work(c, &work_encrypt);
}

static void decrypt(struct vault_call *c)
{
        work(c, &work_decrypt);
}

static void rewrap(struct vault_call *c)
{
        work(c, &work_rewrap);
}

static bool has_no_key(const struct vault_call *c)
{
        return !transit_key_find(c->vault, c->mount, c->parts[0]);
}

#define UPDATE VAULT_MAY(VAULT_UPDATE)
const struct vault_route vault_routes_transit[] = {
        { "transit", "keys", VAULT_MAY(VAULT_LIST), NULL, list_keys },
        { "transit", "keys/+", VAULT_MAY(VAULT_READ) | VAULT_MAY(VAULT_DELETE) | UPDATE,
          "name type derived convergent_encryption exportable allow_plaintext_backup context auto_rotate_period key_size",
          one_key },
        { "transit", "keys/+/rotate", UPDATE, "name", rotate_key },
        { "transit", "keys/+/config", UPDATE,
          "name min_decryption_version min_encryption_version deletion_allowed exportable allow_plaintext_backup auto_rotate_period",
          configure_key },
        { "transit", "datakey/+/+", UPDATE, "name plaintext context bits key_version associated_data", datakey },
        { "transit", "encrypt/+", UPDATE,
          "name plaintext context nonce type convergent_encryption key_version partial_failure_response_code associated_data batch_input",
          encrypt, .is_new = has_no_key },
        { "transit", "decrypt/+", UPDATE,
          "name ciphertext context nonce partial_failure_response_code associated_data batch_input", decrypt },
        { "transit", "rewrap/+", UPDATE, "name ciphertext context nonce key_version batch_input", rewrap },
        { NULL },
};
