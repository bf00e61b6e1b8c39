/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/aws-key.h"

#include "tests/mock-kms/aws-identity.h"

/*
 * A blob: five bytes as real ones begin with, version, length of the id, id, sealed data key, and a checksum, so that
 * any damage is InvalidCiphertextException and none looks like another key.
 */
static const uint8_t blob_magic[] = { 0x01, 0x02, 0x02, 0x00, 0x78, 0x01 };
enum { BLOB_CHECKSUM_SIZE = 16, BLOB_HEAD_SIZE = sizeof(blob_magic) + 1 };

struct alias {
        struct list link;
        char region[AWS_REGION_MAX + 1];
        char *name;
        struct aws_key *key; /* keys are never removed before their aliases */
};

static const struct {
        const char *name, *problem, *code;
} states[] = {
        { "Enabled", NULL, NULL },
        { "Updating", NULL, NULL },
        { "Disabled", " is disabled.", "DisabledException" },
        { "PendingDeletion", " is pending deletion.", "KMSInvalidStateException" },
        { "PendingReplicaDeletion", " is pending replica deletion.", "KMSInvalidStateException" },
        { "PendingImport", " is pending import.", "KMSInvalidStateException" },
        { "Unavailable", " is unavailable.", "KMSInvalidStateException" },
        { "Creating", " is creating.", "KMSInvalidStateException" },
};

const char *aws_state_find(const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                if (text_equal(states[i].name, name))
                        return states[i].name;
        return NULL;
}

const char *aws_state_problem(const char *state, const char **ret_code)
{
        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                if (strcmp(states[i].name, state) == 0) {
                        *ret_code = states[i].code;
                        return states[i].problem;
                }
        return NULL;
}

void aws_keys_init(struct aws_keys *s)
{
        list_init(&s->keys);
        list_init(&s->aliases);
}

void aws_keys_deinit(struct aws_keys *s)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &s->aliases) {
                struct alias *a = list_entry(node, struct alias, link);

                list_unlink(node);
                free(a->name);
                free(a);
        }
        list_for_each_safe (node, following, &s->keys) {
                struct aws_key *k = list_entry(node, struct aws_key, link);

                list_unlink(node);
                for (size_t i = 0; i < k->n_replicas; i++)
                        free(k->replicas[i].arn);
                free(k->id);
                free(k->description);
                free(k);
        }
}

/* ---- names ---- */

static const char *partition(const char *region)
{
        if (text_starts(region, "cn-"))
                return "aws-cn";
        return text_starts(region, "us-gov-") ? "aws-us-gov" : "aws";
}

static bool id_is_multi_region(const char *id)
{
        return strlen(id) == 36 && text_starts(id, "mrk-") && strspn(id + 4, "0123456789abcdef") == 32;
}

static bool id_is_valid(const char *id)
{
        uint8_t uuid[UUID_SIZE];

        return id_is_multi_region(id) || uuid_parse(uuid, id, strlen(id)) == 0;
}

static char *key_arn(const char *region, const char *id)
{
        return text_format("arn:%s:kms:%s:" AWS_ACCOUNT ":key/%s", partition(region), region, id);
}

char *aws_alias_arn(const char *region, const char *name)
{
        return text_format("arn:%s:kms:%s:" AWS_ACCOUNT ":%s", partition(region), region, name);
}

/* ---- keys and aliases ---- */

static char *id_new(bool multi_region)
{
        return multi_region ? text_random("mrk-", 32, "0123456789abcdef") : text_uuid();
}

struct aws_key *aws_key_new(struct aws_keys *s, const char *id, bool multi_region, const char *description,
                            uint64_t now_usec)
{
        uint8_t digest[SHA256_SIZE];
        struct aws_key *k;

        if (id && (!id_is_valid(id) || id_is_multi_region(id) != multi_region || aws_key_find(s, id, strlen(id))))
                return NULL;
        k = memory_new(sizeof(*k));
        k->id = id ? text_copy(id) : id_new(multi_region);
        k->description = text_copy(description ? description : "");
        k->multi_region = multi_region;
        k->created_usec = now_usec;
        random_bytes(k->material, sizeof(k->material));
        sha256(digest, (struct bytes){ k->material, sizeof(k->material) });
        hex_format(k->material_id, digest, sizeof(digest));
        list_init(&k->link);
        list_append(&s->keys, &k->link);
        return k;
}

struct aws_replica *aws_key_replicate(struct aws_key *k, const char *region)
{
        struct aws_replica *r = &k->replicas[k->n_replicas];

        if (k->n_replicas == (k->multi_region ? AWS_REPLICAS_MAX : 1) || !*region || strlen(region) > AWS_REGION_MAX ||
            aws_key_in(k, region))
                return NULL;
        k->n_replicas++;
        snprintf(r->region, sizeof(r->region), "%s", region);
        r->arn = key_arn(region, k->id);
        r->state = "Enabled";
        return r;
}

struct aws_key *aws_key_find(const struct aws_keys *s, const char *id, size_t n_id)
{
        for (struct list *node = s->keys.next; node != &s->keys; node = node->next) {
                struct aws_key *k = list_entry(node, struct aws_key, link);

                if (strlen(k->id) == n_id && strncmp(k->id, id, n_id) == 0)
                        return k;
        }
        return NULL;
}

struct aws_replica *aws_key_in(struct aws_key *k, const char *region)
{
        for (size_t i = 0; i < k->n_replicas; i++)
                if (strcmp(k->replicas[i].region, region) == 0)
                        return &k->replicas[i];
        return NULL;
}

static struct aws_key *alias_find(const struct aws_keys *s, const char *region, const char *name)
{
        for (struct list *node = s->aliases.next; node != &s->aliases; node = node->next) {
                const struct alias *a = list_entry(node, struct alias, link);

                if (strcmp(a->region, region) == 0 && strcmp(a->name, name) == 0)
                        return a->key;
        }
        return NULL;
}

int aws_alias_new(struct aws_keys *s, const char *region, const char *name, struct aws_key *k)
{
        struct alias *a;

        if (alias_find(s, region, name))
                return AWS_KEY_E_EXISTS;
        a = memory_new(sizeof(*a));
        snprintf(a->region, sizeof(a->region), "%s", region);
        a->name = text_copy(name);
        a->key = k;
        list_init(&a->link);
        list_append(&s->aliases, &a->link);
        return 0;
}

/* ---- resolving ---- */

static int resolve_id(struct aws_key_use *ret, const struct aws_keys *s, const char *region, const char *id,
                      char **ret_problem)
{
        _cleanup_(freep) char *arn = NULL;

        if (!id_is_valid(id)) {
                *ret_problem = text_format("Invalid keyId '%s'", id);
                return AWS_KEY_E_MISSING;
        }
        ret->key = aws_key_find(s, id, strlen(id));
        ret->replica = ret->key ? aws_key_in(ret->key, region) : NULL;
        if (ret->replica)
                return 0;
        ret->key = NULL;
        arn = key_arn(region, id);
        *ret_problem = text_format("Key '%s' does not exist", arn);
        return AWS_KEY_E_MISSING;
}

static int resolve_alias(struct aws_key_use *ret, const struct aws_keys *s, const char *region, const char *name,
                         char **ret_problem)
{
        _cleanup_(freep) char *arn = NULL;

        ret->key = alias_find(s, region, name);
        ret->replica = ret->key ? aws_key_in(ret->key, region) : NULL;
        if (ret->replica)
                return 0;
        ret->key = NULL;
        arn = aws_alias_arn(region, name);
        *ret_problem = text_format("Alias %s is not found.", arn);
        return AWS_KEY_E_MISSING;
}

static int resolve_arn(struct aws_key_use *ret, const struct aws_keys *s, const char *region, const char *arn,
                       char **ret_problem)
{
        _cleanup_(freep) char *copy = text_copy(arn);
        char *rest = copy, *part[5]; /* arn, partition, service, region, account; the rest is the resource */

        for (size_t i = 0; i < ELEMENTSOF(part); i++)
                part[i] = strsep(&rest, ":");
        if (!rest || strcmp(part[2], "kms") != 0 || strlen(part[4]) != 12 || strspn(part[4], TEXT_DIGITS) != 12) {
                *ret_problem = text_format("Invalid arn %s", arn);
                return AWS_KEY_E_MISSING;
        }
        if (strcmp(part[3], region) != 0 || strcmp(part[1], partition(region)) != 0) {
                *ret_problem = text_format("Invalid arn %s", part[3]);
                return AWS_KEY_E_MISSING;
        }
        if (strcmp(part[4], AWS_ACCOUNT) != 0)
                return AWS_KEY_E_FOREIGN;
        if (text_starts(rest, "key/"))
                return resolve_id(ret, s, region, rest + 4, ret_problem);
        if (text_starts(rest, "alias/"))
                return resolve_alias(ret, s, region, rest, ret_problem);
        *ret_problem = text_format("Invalid arn %s", arn);
        return AWS_KEY_E_MISSING;
}

int aws_key_resolve(struct aws_key_use *ret, const struct aws_keys *s, const char *region, const char *name,
                    char **ret_problem)
{
        *ret = (struct aws_key_use){ 0 };
        if (text_starts(name, "arn:"))
                return resolve_arn(ret, s, region, name, ret_problem);
        if (text_starts(name, "alias/"))
                return resolve_alias(ret, s, region, name, ret_problem);
        return resolve_id(ret, s, region, name, ret_problem);
}

/* ---- blobs ---- */

uint8_t *aws_blob_new(size_t *ret_n, const struct aws_key *k, struct bytes aad, struct bytes plain)
{
        size_t n_id = strlen(k->id), n = BLOB_HEAD_SIZE + n_id + plain.n + GCM_OVERHEAD;
        uint8_t *blob = memory_new(n + BLOB_CHECKSUM_SIZE), digest[SHA256_SIZE];

        memcpy(blob, blob_magic, sizeof(blob_magic));
        blob[sizeof(blob_magic)] = (uint8_t)n_id;
        memcpy(blob + BLOB_HEAD_SIZE, k->id, n_id);
        gcm_seal(blob + BLOB_HEAD_SIZE + n_id, k->material, aad, plain);
        sha256(digest, (struct bytes){ blob, n });
        memcpy(blob + n, digest, BLOB_CHECKSUM_SIZE);
        *ret_n = n + BLOB_CHECKSUM_SIZE;
        return blob;
}

int aws_blob_id(const char **ret_id, size_t *ret_n, struct bytes blob)
{
        uint8_t digest[SHA256_SIZE];
        size_t n_id;

        if (blob.n < BLOB_HEAD_SIZE + GCM_OVERHEAD + BLOB_CHECKSUM_SIZE)
                return AWS_KEY_E_INVALID;
        sha256(digest, (struct bytes){ blob.data, blob.n - BLOB_CHECKSUM_SIZE });
        n_id = blob.data[sizeof(blob_magic)];
        if (!bytes_equal((struct bytes){ digest, BLOB_CHECKSUM_SIZE },
                         (struct bytes){ blob.data + blob.n - BLOB_CHECKSUM_SIZE, BLOB_CHECKSUM_SIZE }) ||
            !bytes_equal((struct bytes){ blob.data, sizeof(blob_magic) },
                         (struct bytes){ blob_magic, sizeof(blob_magic) }) ||
            blob.n < BLOB_HEAD_SIZE + n_id + GCM_OVERHEAD + BLOB_CHECKSUM_SIZE)
                return AWS_KEY_E_INVALID;
        *ret_id = (const char *)blob.data + BLOB_HEAD_SIZE;
        *ret_n = n_id;
        return 0;
}

int aws_blob_open(uint8_t **ret_plain, size_t *ret_n, const struct aws_key *k, struct bytes aad, struct bytes blob)
{
        size_t n_head = BLOB_HEAD_SIZE + strlen(k->id), n_sealed = blob.n - n_head - BLOB_CHECKSUM_SIZE;
        _cleanup_(freep) uint8_t *plain = memory_new(n_sealed);

        if (gcm_open(plain, k->material, aad, (struct bytes){ blob.data + n_head, n_sealed }) < 0)
                return AWS_KEY_E_INVALID;
        *ret_plain = TAKE_PTR(plain);
        *ret_n = n_sealed - GCM_OVERHEAD;
        return 0;
}
