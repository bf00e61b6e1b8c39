/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-kms: one call of AWS KMS in the JSON 1.1 protocol: what the operations share to read their parameters, find and
 * authorize a key, and fail as KMS does. An operation returns 0 with its answer in @result, or KMS_E_FAILED after
 * kms_fail() or one of its friends.
 */
#pragma once

#include "tests/mock-kms/mock.h"

enum { KMS_E_FAILED = 1 };

struct kms_call {
        struct mock *mock;
        const struct aws_user *user;
        const char *region;
        const json_t *body;
        json_t *result;

        int status;
        const char *code; /* static */
        const char *message_name; /* "message", "Message", or NULL: KMS is not of one mind */
        char *message;
};

/** kms_fail() - an error with a lower-case "message". Return: KMS_E_FAILED, as all of these. */
int kms_fail(struct kms_call *c, const char *code, const char *format, ...) _printf_(3, 4);
/** kms_deny() - AccessDeniedException, whose "Message" has a capital. */
int kms_deny(struct kms_call *c, const char *format, ...) _printf_(2, 3);
/** kms_fail_silently() - a code without any sentence. */
int kms_fail_silently(struct kms_call *c, const char *code);

/** kms_text() - a string member. *@ret_text: NULL when it is absent and not @required. */
int kms_text(struct kms_call *c, const char **ret_text, const char *name, bool required, size_t max);
/** kms_blob() - a base64 member of 1 to @max bytes; *@ret_data to release with free(). */
int kms_blob(struct kms_call *c, uint8_t **ret_data, size_t *ret_n, const char *name, size_t max);
/** kms_context() - an encryption context in one form whatever its order; to release with free(). */
int kms_context(struct kms_call *c, uint8_t **ret_aad, size_t *ret_n, const char *name);
/** kms_grants() - the shape of GrantTokens. */
int kms_grants(struct kms_call *c);
/** kms_allowed() - policy, and grants that were sent. */
int kms_allowed(struct kms_call *c, const char *action, const char *resource);
/** kms_key() - the key that member @name names, if the caller may do @action with it. */
int kms_key(struct kms_call *c, struct aws_key_use *ret, const char *name, const char *action);
/** kms_usable() - by its state. */
int kms_usable(struct kms_call *c, const struct aws_key_use *use);
/** kms_dry_run() - the last step before an operation acts. */
int kms_dry_run(struct kms_call *c);

/* The operations. */
int kms_generate_data_key(struct kms_call *c);
int kms_generate_data_key_without_plaintext(struct kms_call *c);
int kms_encrypt(struct kms_call *c);
int kms_decrypt(struct kms_call *c);
int kms_re_encrypt(struct kms_call *c);
int kms_describe_key(struct kms_call *c);
int kms_create_key(struct kms_call *c);
int kms_create_alias(struct kms_call *c);
int kms_enable_key(struct kms_call *c);
int kms_disable_key(struct kms_call *c);
int kms_schedule_key_deletion(struct kms_call *c);
