/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/vault-unwrapped.h"

static struct list all = LIST_INIT(all);

struct vault_unwrapped *vault_unwrapped_get(const char *path)
{
        struct list *node, *following;
        struct vault_unwrapped *u;

        list_for_each_safe (node, following, &all) {
                u = list_entry(node, struct vault_unwrapped, link);
                if (strcmp(u->path, path) == 0) {
                        u->n_refs++;
                        return u;
                }
        }
        u = calloc(1, sizeof(*u));
        if (!u || !(u->path = strdup(path))) {
                free(u);
                return NULL;
        }
        u->n_refs = 1;
        list_init(&u->link);
        list_append(&all, &u->link);
        return u;
}

struct vault_unwrapped *vault_unwrapped_unref(struct vault_unwrapped *u)
{
        if (!u || --u->n_refs > 0)
                return NULL;
        list_unlink(&u->link);
        secret_unref(u->secret_id);
        free(u->path);
        free(u);
        return NULL;
}

void vault_unwrapped_note(struct vault_unwrapped *u, struct secret *token)
{
        uint8_t digest[SHA256_DIGEST_LENGTH], *view = secret_view_begin(token);

        SHA256(view, secret_size(token), digest);
        secret_view_end(token, &view);
        if (bytes_equal((struct bytes){ digest, sizeof(digest) }, (struct bytes){ u->digest, sizeof(u->digest) }))
                return;
        u->secret_id = secret_unref(u->secret_id);
        u->used = false;
        memcpy(u->digest, digest, sizeof(digest));
}
