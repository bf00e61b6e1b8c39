/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/vault-answer.h"

#include <errno.h>

static const char *const secret_keys[] = { [VAULT_SECRET_PLAINTEXT] = "plaintext",
                                           [VAULT_SECRET_CLIENT_TOKEN] = "client_token",
                                           [VAULT_SECRET_SECRET_ID] = "secret_id",
                                           [VAULT_SECRET_TOKEN] = "token",
                                           [VAULT_SECRET_ID] = "id" };

static const char IGNORED[] = "Endpoint ignored these unrecognized parameters";

static json_t *body_parse(struct secret *body)
{
        uint8_t *view = secret_view_begin(body);
        /* jansson's own texts may quote the input: not even asked for. */
        json_t *root = json_loadb((const char *)view, secret_size(body), JSON_REJECT_DUPLICATES, NULL);

        secret_view_end(body, &view);
        if (json_is_object(root))
                return root;
        json_decref(root);
        return NULL;
}

static void texts_read(struct vault_answer *a)
{
        json_t *errors = json_object_get(a->root, "errors"), *warnings = json_object_get(a->root, "warnings"), *item;
        size_t i;

        json_array_foreach(errors, i, item)
                if (json_is_string(item))
                        vault_error_text(a->text, json_string_value(item));
        json_array_foreach(warnings, i, item)
                if (json_is_string(item) && strncmp(json_string_value(item), IGNORED, sizeof(IGNORED) - 1) == 0)
                        vault_error_text(a->ignored, json_string_value(item));
}

static json_t *object_of(const json_t *parent, const char *key)
{
        json_t *value = json_object_get(parent, key);

        return json_is_object(value) ? value : NULL;
}

int vault_answer_parse(struct vault_answer *ret_answer, struct secret *body)
{
        struct vault_answer *a = ret_answer;
        int r;

        *a = (struct vault_answer){ .root = NULL };
        if (!body)
                return 0;
        r = json_secret_take(body, secret_keys, ELEMENTSOF(secret_keys), a->secrets, ELEMENTSOF(a->secrets), &a->n_secrets);
        if (r != 0)
                return r < 0 ? r : 0;
        a->root = body_parse(body);
        if (!a->root)
                return 0;
        a->data = object_of(a->root, "data");
        a->auth = object_of(a->root, "auth");
        a->batch = json_object_get(a->data, "batch_results");
        if (!json_is_array(a->batch))
                a->batch = NULL;
        texts_read(a);
        return 0;
}

void vault_answer_deinit(struct vault_answer *a)
{
        json_secret_deinit(a->secrets, a->n_secrets);
        a->n_secrets = 0;
        json_decref(TAKE_PTR(a->root));
}

struct secret *vault_answer_secret(const struct vault_answer *a, enum vault_secret which, size_t i_item)
{
        for (size_t i = 0; i < a->n_secrets; i++)
                if (a->secrets[i].i_key == (size_t)which && a->secrets[i].i_item == i_item)
                        return a->secrets[i].value;
        return NULL;
}

struct bytes vault_answer_request_id(const struct vault_answer *a)
{
        const json_t *id = json_object_get(a->root, "request_id");

        return json_is_string(id) ? (struct bytes){ (const uint8_t *)json_string_value(id), json_string_length(id) } : (struct bytes){ 0 };
}

uint32_t vault_ciphertext_version(struct bytes text)
{
        static const char prefix[] = "vault:v";
        size_t i = sizeof(prefix) - 1, n_base64 = 0;
        uint32_t version = 0;

        if (text.n < i || !bytes_equal((struct bytes){ text.data, i }, BYTES_LITERAL("vault:v")) || text.n > WRAPPED_MAX)
                return 0;
        for (; i < text.n && text.data[i] >= '0' && text.data[i] <= '9' && version < 100000000; i++)
                version = version * 10 + (uint32_t)(text.data[i] - '0');
        if (i == text.n || text.data[i] != ':' || text.data[sizeof(prefix) - 1] == '0')
                return 0;
        for (i++; i < text.n && text.data[i] && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=", text.data[i]); i++)
                n_base64++;
        return i == text.n && n_base64 > 0 ? version : 0;
}
