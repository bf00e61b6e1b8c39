/* SPDX-License-Identifier: Apache-2.0 */
/* aws-endpoint: regions, partitions, ARNs and hosts of AWS. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/bytes.h"

#define AWS_HOST_MAX 256
#define AWS_URL_MAX 320
#define AWS_REGION_MAX 63

/** The parts of arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE; borrowed. */
struct aws_arn {
        struct bytes partition, service, region, account, resource; /* resource: key/ID or alias/NAME */
};
/** aws_arn_parse() - split at the first five colons. Return: 0 or -EINVAL. */
int aws_arn_parse(struct aws_arn *ret_arn, struct bytes text);
/** aws_arn_is_key() - of a KMS key with an account of 12 digits; not an alias. */
bool aws_arn_is_key(struct bytes text);
/** aws_key_id_is_valid() - one of the four forms that KeyId takes. */
bool aws_key_id_is_valid(const char *key_id);
/** aws_arn_is_same_key() - equal, or related multi-Region keys: ids that begin with mrk-, ARNs that differ in the region only. */
bool aws_arn_is_same_key(struct bytes a, struct bytes b);
/** aws_arn_in_region() - @arn, whose key is a multi-Region key, with another region. Return: 0; -EINVAL (no mrk- key, or too long). */
int aws_arn_in_region(char *ret_arn, size_t n, struct bytes arn, const char *region);

/** aws_endpoint_url() - https://HOST of @service ("kms", "sts") in @region. Return: 0 or -EINVAL for a region that is no host label. */
int aws_endpoint_url(char ret_url[AWS_URL_MAX], const char *service, const char *region, bool fips, bool dual_stack);
/** aws_partition() - "aws", "aws-us-gov", "aws-cn", …; "aws" for a region of no known pattern. */
const char *aws_partition(const char *region);
