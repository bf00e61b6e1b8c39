/* SPDX-License-Identifier: Apache-2.0 */
/* aws-endpoint: the table of partitions is that of the AWS SDKs; a new region of a known pattern needs no change here. */
#include "daemon/kms/aws-endpoint.h"

#include <errno.h>

#include "common/cleanup.h"

static const char DIGITS[] = "0123456789", HEX[] = "0123456789abcdefABCDEF",
                  ALNUM[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

enum { KEY_ID_MAX = 2048, ALIAS_MAX = 256, ACCOUNT_DIGITS = 12, MRK_DIGITS = 32 };

/* ---- partitions ---- */

static const struct partition {
        const char *name, *prefixes[12]; /* a region is one of these, '-', a word, '-', a number */
        const char *suffix, *dual_suffix;
} partitions[] = {
        { "aws-us-gov", { "us-gov" }, "amazonaws.com", "api.aws" },
        { "aws-iso", { "us-iso" }, "c2s.ic.gov", "api.aws.ic.gov" },
        { "aws-iso-b", { "us-isob" }, "sc2s.sgov.gov", "api.aws.scloud" },
        { "aws-iso-e", { "eu-isoe" }, "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk" },
        { "aws-iso-f", { "us-isof" }, "csp.hci.ic.gov", "api.aws.hci.ic.gov" },
        { "aws-eusc", { "eusc-de" }, "amazonaws.eu", "api.amazonwebservices.eu" },
        { "aws-cn", { "cn" }, "amazonaws.com.cn", "api.amazonwebservices.com.cn" },
        { "aws",
          { "us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx" },
          "amazonaws.com",
          "api.aws" }, /* and what no other matches */
};

static bool region_matches(const char *region, const char *prefix)
{
        size_t n = strlen(prefix), n_word, n_digits;

        if (strncmp(region, prefix, n) != 0 || region[n] != '-')
                return false;
        region += n + 1;
        n_word = strspn(region, ALNUM);
        if (n_word == 0 || region[n_word] != '-')
                return false;
        region += n_word + 1;
        n_digits = strspn(region, DIGITS);
        return n_digits > 0 && region[n_digits] == '\0';
}

static const struct partition *partition_of(const char *region)
{
        for (size_t i = 0; i < ELEMENTSOF(partitions) - 1; i++)
                for (size_t j = 0; partitions[i].prefixes[j]; j++)
                        if (region_matches(region, partitions[i].prefixes[j]))
                                return &partitions[i];
        return &partitions[ELEMENTSOF(partitions) - 1];
}

const char *aws_partition(const char *region)
{
        return partition_of(region)->name;
}

/* ---- hosts ---- */

/* What can be a label of a host's name, and nothing else in a URL. */
static bool region_is_valid(struct bytes region)
{
        if (region.n == 0 || region.n > AWS_REGION_MAX || region.data[0] == '-' || region.data[region.n - 1] == '-')
                return false;
        for (size_t i = 0; i < region.n; i++) {
                uint8_t c = region.data[i];

                if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
                        return false;
        }
        return true;
}

int aws_endpoint_url(char ret_url[AWS_URL_MAX], const char *service, const char *region, bool fips, bool dual_stack)
{
        const struct partition *partition = partition_of(region);
        int n;

        if (!region_is_valid(bytes_from_string(region)))
                return -EINVAL;
        /* In GovCloud the plain STS is the FIPS one. */
        if (fips && !dual_stack && strcmp(service, "sts") == 0 && strcmp(partition->name, "aws-us-gov") == 0)
                fips = false;
        n = snprintf(ret_url, AWS_URL_MAX, "https://%s%s.%s.%s", service, fips ? "-fips" : "", region,
                     dual_stack ? partition->dual_suffix : partition->suffix);
        return n < AWS_URL_MAX ? 0 : -EINVAL;
}

/* ---- ARNs and key ids ---- */

static bool begins_with(struct bytes b, const char *prefix)
{
        size_t n = strlen(prefix);

        return b.n >= n && bytes_equal((struct bytes){ b.data, n }, bytes_from_string(prefix));
}

static struct bytes without(struct bytes b, size_t n)
{
        return (struct bytes){ b.data + n, b.n - n };
}

static bool is_of(struct bytes b, const char *characters)
{
        for (size_t i = 0; i < b.n; i++)
                if (b.data[i] == 0 || !strchr(characters, b.data[i]))
                        return false;
        return true;
}

int aws_arn_parse(struct aws_arn *ret_arn, struct bytes text)
{
        struct aws_arn arn;
        struct bytes *parts[] = { &arn.partition, &arn.service, &arn.region, &arn.account };

        if (!begins_with(text, "arn:"))
                return -EINVAL;
        text = without(text, 4);
        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                const uint8_t *colon = text.n > 0 ? memchr(text.data, ':', text.n) : NULL;

                if (!colon)
                        return -EINVAL;
                *parts[i] = (struct bytes){ text.data, (size_t)(colon - text.data) };
                text = without(text, parts[i]->n + 1);
        }
        if (arn.partition.n == 0 || arn.service.n == 0 || text.n == 0)
                return -EINVAL;
        arn.resource = text;
        *ret_arn = arn;
        return 0;
}

/* The name behind "key/" may be of any form: AWS has added one before, and what an answer names must not be refused for that. */
static bool key_name_is_valid(struct bytes name)
{
        return name.n > 0 && name.n <= KEY_ID_MAX && name.data[0] != '-' &&
               is_of(name, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-");
}

static bool partition_is_valid(struct bytes partition)
{
        return begins_with(partition, "aws") && is_of(partition, "abcdefghijklmnopqrstuvwxyz-");
}

/* Parse the ARN of something in KMS whose resource begins with @kind. */
static bool arn_parse_kind(struct aws_arn *ret_arn, struct bytes text, const char *kind)
{
        return aws_arn_parse(ret_arn, text) == 0 && partition_is_valid(ret_arn->partition) &&
               bytes_equal(ret_arn->service, BYTES_LITERAL("kms")) && region_is_valid(ret_arn->region) &&
               ret_arn->account.n == ACCOUNT_DIGITS && is_of(ret_arn->account, DIGITS) &&
               begins_with(ret_arn->resource, kind);
}

static bool arn_parse_key(struct aws_arn *ret_arn, struct bytes text)
{
        return arn_parse_kind(ret_arn, text, "key/") && key_name_is_valid(without(ret_arn->resource, 4));
}

bool aws_arn_is_key(struct bytes text)
{
        struct aws_arn arn;

        return arn_parse_key(&arn, text);
}

static bool is_alias(struct bytes b)
{
        return begins_with(b, "alias/") && b.n > 6 && b.n <= ALIAS_MAX &&
               is_of(without(b, 6), "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/_-");
}

/* A bare id, as somebody writes it into a configuration: strict, since an alias without "alias/" looks much the same. */
static bool is_bare_id(struct bytes b)
{
        static const uint8_t dashes[] = { 8, 13, 18, 23 };

        if (begins_with(b, "mrk-"))
                return b.n == 4 + MRK_DIGITS && is_of(without(b, 4), HEX);
        if (b.n != UUID_TEXT_LENGTH)
                return false;
        for (size_t i = 0, dash = 0; i < b.n; i++) {
                bool is_dash = dash < sizeof(dashes) && dashes[dash] == i;

                if (is_dash ? b.data[i] != '-' : !is_of((struct bytes){ b.data + i, 1 }, HEX))
                        return false;
                dash += is_dash;
        }
        return true;
}

bool aws_key_id_is_valid(const char *key_id)
{
        struct bytes text = bytes_from_string(key_id);
        struct aws_arn arn;

        if (text.n > KEY_ID_MAX)
                return false;
        return is_bare_id(text) || is_alias(text) || aws_arn_is_key(text) ||
               (arn_parse_kind(&arn, text, "alias/") && is_alias(arn.resource));
}

bool aws_arn_is_same_key(struct bytes a, struct bytes b)
{
        struct aws_arn x, y;

        if (!arn_parse_key(&x, a) || !arn_parse_key(&y, b))
                return false;
        return bytes_equal(x.partition, y.partition) && bytes_equal(x.account, y.account) &&
               bytes_equal(x.resource, y.resource) &&
               (bytes_equal(x.region, y.region) || begins_with(x.resource, "key/mrk-"));
}

int aws_arn_in_region(char *ret_arn, size_t n, struct bytes text, const char *region)
{
        struct aws_arn arn;
        int length;

        if (!arn_parse_key(&arn, text) || !begins_with(arn.resource, "key/mrk-") ||
            !region_is_valid(bytes_from_string(region)))
                return -EINVAL;
        length = snprintf(ret_arn, n, "arn:%.*s:kms:%s:%.*s:%.*s", (int)arn.partition.n,
                          (const char *)arn.partition.data, region, (int)arn.account.n, (const char *)arn.account.data,
                          (int)arn.resource.n, (const char *)arn.resource.data);
        return (size_t)length < n ? 0 : -EINVAL;
}
