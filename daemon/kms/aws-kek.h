/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-kek: which key in AWS KMS a [kek] is, and what is known of it. A key ARN says it; a bare id leaves only the account open; an alias has to
 * be resolved. Knows nothing of DEKs.
 *
 * Whether a record's wrap is this KEK's is decided by the ARN that the record gives, without asking KMS where that can be:
 *
 *   key ARN   the same ARN, or that of a related multi-Region key
 *   bare id   the same id in this region (or an mrk- id in any): ids are not given twice
 *   alias     resolved by DescribeKey, once; every answer to a question that named the alias teaches it too. Where DescribeKey is not
 *             allowed, the wrap is tried with the alias itself as KeyId: KMS then refuses what was made under another key, so that
 *             nothing of the record has to be trusted, and its answer is compared with the record
 *
 * Once known, the ARN is what is asked for. An alias that was pointed at another key is noticed when a record names a key that does not fit and
 * the last look is 5 minutes old, and after a restart or reload.
 */
#pragma once

#include "daemon/kms/aws-call.h"

struct aws_kek {
        struct aws_service service;
        const struct config_kek *config;
        const struct kms_environment *environment;
        json_t *grant_tokens; /* or NULL */
        enum { AWS_KEK_BY_ARN, AWS_KEK_BY_ID, AWS_KEK_BY_ALIAS } form; /* of config->kek_id */
        char arn[KEK_ID_MAX + 1]; /* "" while it is not known */
        uint64_t fresh_until_usec; /* CLOCK_BOOTTIME: until then nothing is asked about a record that does not fit */
        struct sentence why; /* what DescribeKey found against it; "" = nothing */
        bool may_not_describe;
        struct aws_call *describing; /* NULL when none is under way */
        struct list waiting; /* of struct aws_kek_call */
};

int aws_kek_new(struct aws_kek **ret_kek, const struct config_kek *config, const struct kms_environment *environment,
                struct sentence *ret_why);
void aws_kek_free(struct aws_kek *k);

enum aws_kek_ownership {
        AWS_KEK_MINE,
        AWS_KEK_OTHER,
        AWS_KEK_UNKNOWN, /* KMS has to be asked */
};
/** aws_kek_owns() - whether @record_id, from a record, is the ARN of this key. */
enum aws_kek_ownership aws_kek_owns(const struct aws_kek *k, struct bytes record_id);
/** aws_kek_not_mine() - the sentence for a record of another key. */
void aws_kek_not_mine(const struct aws_kek *k, const char *record_id, struct sentence *ret_why);

/** aws_kek_id_for() - the KeyId to ask with. @record_id: NULL when there is no record. */
void aws_kek_id_for(const struct aws_kek *k, const char *record_id, char ret_id[KEK_ID_MAX + 1]);
/** aws_kek_fits() - whether @answered is the ARN of the key that @asked_id names, as far as that can be told. */
bool aws_kek_fits(const struct aws_kek *k, const char *asked_id, const char *answered);
/** aws_kek_learn() - KMS answered to @asked_id in the name of @arn, which fits. */
void aws_kek_learn(struct aws_kek *k, const char *asked_id, const char *arn);
/** aws_kek_note() - how a question about @asked_id has ended. */
void aws_kek_note(struct aws_kek *k, const char *asked_id, enum proto_error error);

/** Who waits for the ARN. Embedded. */
struct aws_kek_call {
        /** done() - once, from the event loop. Without an error aws_kek_owns() tells more now, or the configured id is to be asked. */
        void (*done)(struct aws_kek_call *call, enum proto_error error, const char *sentence,
                     uint32_t retry_after_msec);
        /* private */
        struct list link;
        struct event *timer;
};
enum {
        AWS_KEK_E_ASK = 1, /* it cannot be resolved: ask with the configured id */
};
/** aws_kek_resolve() - have @call told; one question for all who wait. Return: 0; AWS_KEK_E_ASK; -ENOMEM and what aws_call_start() returns. */
int aws_kek_resolve(struct aws_kek *k, struct aws_kek_call *call, uint64_t deadline_usec);

/** aws_kek_policy() - the least IAM policy. Return: text to release with free(), or NULL when out of memory. */
char *aws_kek_policy(const struct aws_kek *k);
