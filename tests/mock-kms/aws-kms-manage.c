/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of AWS KMS that make, describe and change keys. */
#include "tests/mock-kms/aws-kms.h"

enum { ALIAS_MAX = 256, WINDOW_MIN_DAYS = 7, WINDOW_MAX_DAYS = 30 };

static double epoch(uint64_t usec)
{
        return (double)(usec / USEC_PER_MSEC) / 1000;
}

static json_t *region_of(const struct aws_replica *r)
{
        return json_pack("{s:s, s:s}", "Arn", r->arn, "Region", r->region);
}

static void put_multi_region(json_t *metadata, const struct aws_key_use *use)
{
        json_t *replicas = json_take(json_array()), *configuration = json_take(json_object());

        for (size_t i = 1; i < use->key->n_replicas; i++)
                if (json_array_append_new(replicas, region_of(&use->key->replicas[i])) < 0)
                        abort();
        json_put(configuration, "MultiRegionKeyType",
                 json_string(use->replica == &use->key->replicas[0] ? "PRIMARY" : "REPLICA"));
        json_put(configuration, "PrimaryKey", region_of(&use->key->replicas[0]));
        json_put(configuration, "ReplicaKeys", replicas);
        json_put(metadata, "MultiRegionConfiguration", configuration);
}

static json_t *metadata_of(const struct aws_key_use *use)
{
        const struct aws_replica *r = use->replica;
        json_t *metadata = json_take(json_pack(
                "{s:s, s:s, s:s, s:f, s:b, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:[s], s:b}", "AWSAccountId", AWS_ACCOUNT,
                "KeyId", use->key->id, "Arn", r->arn, "CreationDate", epoch(use->key->created_usec), "Enabled",
                strcmp(r->state, "Enabled") == 0, "Description", use->key->description, "KeyUsage", "ENCRYPT_DECRYPT",
                "KeyState", r->state, "Origin", "AWS_KMS", "KeyManager", "CUSTOMER", "CustomerMasterKeySpec",
                "SYMMETRIC_DEFAULT", "KeySpec", "SYMMETRIC_DEFAULT", "EncryptionAlgorithms", "SYMMETRIC_DEFAULT",
                "MultiRegion", use->key->multi_region));

        json_put(metadata, "CurrentKeyMaterialId", json_string(use->key->material_id));
        if (use->key->multi_region)
                put_multi_region(metadata, use);
        if (r->deletion_usec)
                json_put(metadata, "DeletionDate", json_real(epoch(r->deletion_usec)));
        return metadata;
}

int kms_describe_key(struct kms_call *c)
{
        struct aws_key_use use;
        int outcome = kms_grants(c);

        if (outcome || (outcome = kms_key(c, &use, "KeyId", "kms:DescribeKey")))
                return outcome;
        json_put(c->result, "KeyMetadata", metadata_of(&use));
        return 0;
}

int kms_create_key(struct kms_call *c)
{
        const char *description, *usage, *spec;
        struct aws_key_use use;
        struct aws_key *key;
        int outcome = kms_text(c, &description, "Description", false, 8192);

        if (outcome || (outcome = kms_text(c, &usage, "KeyUsage", false, 64)) ||
            (outcome = kms_text(c, &spec, "KeySpec", false, 64)) || (outcome = kms_allowed(c, "kms:CreateKey", "*")))
                return outcome;
        if ((usage && strcmp(usage, "ENCRYPT_DECRYPT") != 0) || (spec && strcmp(spec, "SYMMETRIC_DEFAULT") != 0))
                return kms_fail(c, "UnsupportedOperationException",
                                "lkm-mock-kms has symmetric keys for encryption only.");
        key = aws_key_new(&c->mock->keys, NULL, json_flag(c->body, "MultiRegion", false), description,
                          mock_now_usec(c->mock));
        use = (struct aws_key_use){ key, aws_key_replicate(key, c->region) };
        json_put(c->result, "KeyMetadata", metadata_of(&use));
        return 0;
}

int kms_create_alias(struct kms_call *c)
{
        _cleanup_(freep) char *arn = NULL;
        const char *name;
        struct aws_key_use use;
        int outcome = kms_text(c, &name, "AliasName", true, ALIAS_MAX);

        if (outcome)
                return outcome;
        if (!text_starts(name, "alias/") || strspn(name, TEXT_UPPER TEXT_LOWER TEXT_DIGITS ":/_-") != strlen(name))
                return kms_fail(c, "ValidationException", "Invalid identifier");
        if (text_starts(name, "alias/aws/"))
                return kms_fail(c, "NotAuthorizedException", "Aliases that begin with alias/aws/ are reserved.");
        outcome = kms_key(c, &use, "TargetKeyId", "kms:CreateAlias");
        if (outcome)
                return outcome;
        arn = aws_alias_arn(c->region, name);
        if (aws_alias_new(&c->mock->keys, c->region, name, use.key))
                return kms_fail(c, "AlreadyExistsException", "An alias with the name %s already exists", arn);
        return 0;
}

static int set_state(struct kms_call *c, const char *action, const char *state)
{
        struct aws_key_use use;
        int outcome = kms_key(c, &use, "KeyId", action);

        if (outcome)
                return outcome;
        if (strcmp(use.replica->state, "Enabled") != 0 && strcmp(use.replica->state, "Disabled") != 0)
                return kms_usable(c, &use);
        use.replica->state = aws_state_find(state);
        return 0;
}

int kms_enable_key(struct kms_call *c)
{
        return set_state(c, "kms:EnableKey", "Enabled");
}

int kms_disable_key(struct kms_call *c)
{
        return set_state(c, "kms:DisableKey", "Disabled");
}

int kms_schedule_key_deletion(struct kms_call *c)
{
        int64_t days = json_number(c->body, "PendingWindowInDays", WINDOW_MAX_DAYS);
        struct aws_key_use use;
        int outcome;

        if (days < WINDOW_MIN_DAYS || days > WINDOW_MAX_DAYS)
                return kms_fail(c, "ValidationException",
                                "1 validation error detected: Value '%lld' at 'pendingWindowInDays' failed to satisfy "
                                "constraint: Member must have value %s than or equal to %d",
                                (long long)days, days < WINDOW_MIN_DAYS ? "greater" : "less",
                                days < WINDOW_MIN_DAYS ? WINDOW_MIN_DAYS : WINDOW_MAX_DAYS);
        outcome = kms_key(c, &use, "KeyId", "kms:ScheduleKeyDeletion");
        if (outcome)
                return outcome;
        if (use.replica->deletion_usec)
                return kms_usable(c, &use);
        use.replica->state = aws_state_find("PendingDeletion");
        use.replica->deletion_usec = mock_now_usec(c->mock) + (uint64_t)days * 24 * 3600 * USEC_PER_SEC;
        json_put(c->result, "KeyId", json_string(use.replica->arn));
        json_put(c->result, "DeletionDate", json_real(epoch(use.replica->deletion_usec)));
        json_put(c->result, "KeyState", json_string(use.replica->state));
        json_put(c->result, "PendingWindowInDays", json_integer(days));
        return 0;
}
