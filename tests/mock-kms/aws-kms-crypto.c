/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of AWS KMS that handle keys and ciphertexts. */
#include "tests/mock-kms/aws-kms.h"

enum { PLAINTEXT_MAX = 4096, BLOB_MAX = 6144, NUMBER_OF_BYTES_MAX = 1024 };

/* Who may read a blob is not told from whether its key exists. */
#define BLOB_DENIED                                                                                                      \
        "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are " \
        "not allowed to access."

static int data_key_size(struct kms_call *c, size_t *ret_n)
{
        const json_t *number = json_object_get(c->body, "NumberOfBytes");
        const char *spec;
        int outcome = kms_text(c, &spec, "KeySpec", false, 64);

        if (outcome)
                return outcome;
        if (!number || json_is_null(number)) {
                *ret_n = text_equal(spec, "AES_256") ? 32 : 16;
                if (!spec)
                        return kms_fail(c, "ValidationException", "Please specify either number of bytes or key spec.");
                if (!text_equal(spec, "AES_256") && !text_equal(spec, "AES_128"))
                        return kms_fail(c, "ValidationException",
                                        "1 validation error detected: Value '%s' at 'keySpec' failed to satisfy "
                                        "constraint: Member must satisfy enum value set: [AES_256, AES_128]",
                                        spec);
                return 0;
        }
        if (!json_is_integer(number))
                return kms_fail_silently(c, "SerializationException");
        if (spec)
                return kms_fail(c, "ValidationException", "Please specify either number of bytes or key spec.");
        if (json_integer_value(number) < 1 || json_integer_value(number) > NUMBER_OF_BYTES_MAX)
                return kms_fail(c, "ValidationException",
                                "1 validation error detected: Value '%lld' at 'numberOfBytes' failed to satisfy "
                                "constraint: Member must have value %s than or equal to %d",
                                (long long)json_integer_value(number),
                                json_integer_value(number) < 1 ? "greater" : "less",
                                json_integer_value(number) < 1 ? 1 : NUMBER_OF_BYTES_MAX);
        *ret_n = (size_t)json_integer_value(number);
        return 0;
}

static int generate(struct kms_call *c, const char *action, bool with_plaintext)
{
        _cleanup_(freep) uint8_t *aad = NULL, *blob = NULL;
        uint8_t plain[NUMBER_OF_BYTES_MAX];
        size_t n = 0, n_aad, n_blob;
        struct aws_key_use use;
        int outcome = data_key_size(c, &n);

        if (outcome || (outcome = kms_context(c, &aad, &n_aad, "EncryptionContext")) || (outcome = kms_grants(c)) ||
            (outcome = kms_key(c, &use, "KeyId", action)) || (outcome = kms_usable(c, &use)) ||
            (outcome = kms_dry_run(c)))
                return outcome;
        random_bytes(plain, n);
        blob = aws_blob_new(&n_blob, use.key, (struct bytes){ aad, n_aad }, (struct bytes){ plain, n });
        json_put_base64(c->result, "CiphertextBlob", blob, n_blob);
        if (with_plaintext)
                json_put_base64(c->result, "Plaintext", plain, n);
        json_put(c->result, "KeyId", json_string(use.replica->arn));
        json_put(c->result, "KeyMaterialId", json_string(use.key->material_id));
        return 0;
}

int kms_generate_data_key(struct kms_call *c)
{
        return generate(c, "kms:GenerateDataKey", true);
}

int kms_generate_data_key_without_plaintext(struct kms_call *c)
{
        return generate(c, "kms:GenerateDataKeyWithoutPlaintext", false);
}

static int check_algorithm(struct kms_call *c, const char *name)
{
        const char *algorithm;
        int outcome = kms_text(c, &algorithm, name, false, 64);

        if (outcome || !algorithm || strcmp(algorithm, "SYMMETRIC_DEFAULT") == 0)
                return outcome;
        if (strcmp(algorithm, "RSAES_OAEP_SHA_1") == 0 || strcmp(algorithm, "RSAES_OAEP_SHA_256") == 0)
                return kms_fail_silently(c, "InvalidKeyUsageException");
        return kms_fail(
                c, "ValidationException",
                "1 validation error detected: Value '%s' at 'encryptionAlgorithm' failed to satisfy constraint: "
                "Member must satisfy enum value set: [RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SYMMETRIC_DEFAULT]",
                algorithm);
}

int kms_encrypt(struct kms_call *c)
{
        _cleanup_(freep) uint8_t *aad = NULL, *plain = NULL, *blob = NULL;
        size_t n_aad, n_plain, n_blob;
        struct aws_key_use use;
        int outcome = kms_blob(c, &plain, &n_plain, "Plaintext", PLAINTEXT_MAX);

        if (outcome || (outcome = check_algorithm(c, "EncryptionAlgorithm")) ||
            (outcome = kms_context(c, &aad, &n_aad, "EncryptionContext")) || (outcome = kms_grants(c)) ||
            (outcome = kms_key(c, &use, "KeyId", "kms:Encrypt")) || (outcome = kms_usable(c, &use)) ||
            (outcome = kms_dry_run(c)))
                return outcome;
        blob = aws_blob_new(&n_blob, use.key, (struct bytes){ aad, n_aad }, (struct bytes){ plain, n_plain });
        json_put_base64(c->result, "CiphertextBlob", blob, n_blob);
        json_put(c->result, "KeyId", json_string(use.replica->arn));
        json_put(c->result, "EncryptionAlgorithm", json_string("SYMMETRIC_DEFAULT"));
        return 0;
}

/** A ciphertext that came in, opened. */
struct opened {
        uint8_t *blob, *aad, *plain;
        size_t n_blob, n_aad, n_plain;
        struct aws_key_use use;
};

static void opened_deinit(struct opened *o)
{
        free(o->blob);
        free(o->aad);
        free(o->plain);
}

/* The key that the blob names, against the one that the caller names. */
static int find_key(struct kms_call *c, struct opened *o, const char *key_name, const char *action)
{
        struct aws_key_use named = { 0 };
        const char *id, *given;
        size_t n_id;
        int outcome = kms_text(c, &given, key_name, false, 2048);

        if (outcome || (given && (outcome = kms_key(c, &named, key_name, action))))
                return outcome;
        if (aws_blob_id(&id, &n_id, (struct bytes){ o->blob, o->n_blob }))
                return kms_fail_silently(c, "InvalidCiphertextException");
        o->use.key = aws_key_find(&c->mock->keys, id, n_id);
        o->use.replica = o->use.key ? aws_key_in(o->use.key, c->region) : NULL;
        if (named.key && named.key != o->use.key)
                return kms_fail(c, "IncorrectKeyException",
                                "The key ID in the request does not identify a CMK that can perform this operation.");
        if (!o->use.replica)
                return kms_deny(c, BLOB_DENIED);
        return kms_allowed(c, action, o->use.replica->arn);
}

static int open_blob(struct kms_call *c, struct opened *o, const char *key_name, const char *context_name,
                     const char *action)
{
        int outcome = kms_blob(c, &o->blob, &o->n_blob, "CiphertextBlob", BLOB_MAX);

        if (outcome || (outcome = kms_context(c, &o->aad, &o->n_aad, context_name)) || (outcome = kms_grants(c)) ||
            (outcome = find_key(c, o, key_name, action)) || (outcome = kms_usable(c, &o->use)))
                return outcome;
        if (aws_blob_open(&o->plain, &o->n_plain, o->use.key, (struct bytes){ o->aad, o->n_aad },
                          (struct bytes){ o->blob, o->n_blob }))
                return kms_fail_silently(c, "InvalidCiphertextException");
        return 0;
}

int kms_decrypt(struct kms_call *c)
{
        __attribute__((__cleanup__(opened_deinit))) struct opened o = { 0 };
        int outcome = check_algorithm(c, "EncryptionAlgorithm");

        if (outcome || (outcome = open_blob(c, &o, "KeyId", "EncryptionContext", "kms:Decrypt")) ||
            (outcome = kms_dry_run(c)))
                return outcome;
        json_put(c->result, "KeyId", json_string(o.use.replica->arn));
        json_put_base64(c->result, "Plaintext", o.plain, o.n_plain);
        json_put(c->result, "EncryptionAlgorithm", json_string("SYMMETRIC_DEFAULT"));
        json_put(c->result, "KeyMaterialId", json_string(o.use.key->material_id));
        return 0;
}

int kms_re_encrypt(struct kms_call *c)
{
        __attribute__((__cleanup__(opened_deinit))) struct opened o = { 0 };
        _cleanup_(freep) uint8_t *aad = NULL, *blob = NULL;
        size_t n_aad, n_blob;
        struct aws_key_use use;
        int outcome = check_algorithm(c, "SourceEncryptionAlgorithm");

        if (outcome || (outcome = check_algorithm(c, "DestinationEncryptionAlgorithm")) ||
            (outcome = kms_context(c, &aad, &n_aad, "DestinationEncryptionContext")) ||
            (outcome = kms_key(c, &use, "DestinationKeyId", "kms:ReEncryptTo")) || (outcome = kms_usable(c, &use)) ||
            (outcome = open_blob(c, &o, "SourceKeyId", "SourceEncryptionContext", "kms:ReEncryptFrom")) ||
            (outcome = kms_dry_run(c)))
                return outcome;
        blob = aws_blob_new(&n_blob, use.key, (struct bytes){ aad, n_aad }, (struct bytes){ o.plain, o.n_plain });
        json_put_base64(c->result, "CiphertextBlob", blob, n_blob);
        json_put(c->result, "SourceKeyId", json_string(o.use.replica->arn));
        json_put(c->result, "KeyId", json_string(use.replica->arn));
        json_put(c->result, "SourceEncryptionAlgorithm", json_string("SYMMETRIC_DEFAULT"));
        json_put(c->result, "DestinationEncryptionAlgorithm", json_string("SYMMETRIC_DEFAULT"));
        json_put(c->result, "SourceKeyMaterialId", json_string(o.use.key->material_id));
        json_put(c->result, "DestinationKeyMaterialId", json_string(use.key->material_id));
        return 0;
}
