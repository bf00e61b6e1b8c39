/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "common/cleanup.h"
#include "daemon/kms/aws-endpoint.h"
#include "suite.h"

#define ID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define MRK "mrk-1234abcd12ab34cd56ef1234567890ab"
#define ARN(region, resource) "arn:aws:kms:" region ":111122223333:" resource

static void nothing(void)
{
}

static void expect_url(const char *service, const char *region, bool fips, bool dual_stack, const char *expected)
{
        char url[AWS_URL_MAX];

        ck_assert_int_eq(aws_endpoint_url(url, service, region, fips, dual_stack), 0);
        ck_assert_str_eq(url, expected);
}

START_TEST(every_partition_has_its_hosts)
{
        static const struct {
                const char *region, *partition, *plain, *dual;
        } cases[] = {
                { "us-east-1", "aws", "amazonaws.com", "api.aws" },
                { "eu-central-1", "aws", "amazonaws.com", "api.aws" },
                { "ap-southeast-12", "aws", "amazonaws.com", "api.aws" },
                { "sa-east-1", "aws", "amazonaws.com", "api.aws" },
                { "ca-west-1", "aws", "amazonaws.com", "api.aws" },
                { "me-central-1", "aws", "amazonaws.com", "api.aws" },
                { "af-south-1", "aws", "amazonaws.com", "api.aws" },
                { "il-central-1", "aws", "amazonaws.com", "api.aws" },
                { "mx-central-1", "aws", "amazonaws.com", "api.aws" },
                { "cn-north-1", "aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn" },
                { "us-gov-west-1", "aws-us-gov", "amazonaws.com", "api.aws" },
                { "eusc-de-east-1", "aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu" },
                { "us-iso-east-1", "aws-iso", "c2s.ic.gov", "api.aws.ic.gov" },
                { "us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud" },
                { "eu-isoe-west-1", "aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk" },
                { "us-isof-south-1", "aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov" },
                { "xx-new-1", "aws", "amazonaws.com", "api.aws" },
                { "local", "aws", "amazonaws.com", "api.aws" },
        };
        char expected[AWS_URL_MAX];

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                ck_assert_str_eq(aws_partition(cases[i].region), cases[i].partition);
                for (unsigned how = 0; how < 4; how++) {
                        bool fips = how & 1, dual_stack = how & 2;

                        snprintf(expected, sizeof(expected), "https://kms%s.%s.%s", fips ? "-fips" : "",
                                 cases[i].region, dual_stack ? cases[i].dual : cases[i].plain);
                        expect_url("kms", cases[i].region, fips, dual_stack, expected);
                }
        }
}
END_TEST

START_TEST(patterns_of_partitions_are_matched_in_whole)
{
        static const char *const regions[] = {
                "us-gov-west", "us-gov-west-", "us-gov-west-1a", "us-gov--1",      "us-government-west-1",
                "cn-north",    "cnn-north-1",  "eusc-fr-east-1", "us-isox-east-1", "",
                "us",          "us-"
        };

        for (size_t i = 0; i < ELEMENTSOF(regions); i++)
                ck_assert_str_eq(aws_partition(regions[i]), "aws");
        ck_assert_str_eq(aws_partition("us-gov-east-1"), "aws-us-gov");
}
END_TEST

START_TEST(sts_of_govcloud_is_fips_under_its_plain_name)
{
        expect_url("sts", "us-gov-west-1", true, false, "https://sts.us-gov-west-1.amazonaws.com");
        expect_url("sts", "us-gov-west-1", true, true, "https://sts-fips.us-gov-west-1.api.aws");
        expect_url("sts", "us-east-1", true, false, "https://sts-fips.us-east-1.amazonaws.com");
        expect_url("sts", "us-east-1", false, false, "https://sts.us-east-1.amazonaws.com");
}
END_TEST

START_TEST(region_that_is_no_host_label_is_refused)
{
        static char long_label[AWS_REGION_MAX + 2];
        static const char *const regions[] = { "",           "-us",     "us-",     "us.east",    "US-EAST-1",
                                               "us east",    "us/../x", "us@evil", "us-east-1#", "us-east-1:80",
                                               "us\xc3\xbc", "a\n",     "a%2e",    "_",          long_label };
        char url[AWS_URL_MAX] = "untouched", longest[AWS_REGION_MAX + 1];

        memset(long_label, 'a', sizeof(long_label) - 1);
        for (size_t i = 0; i < ELEMENTSOF(regions); i++)
                ck_assert_int_eq(aws_endpoint_url(url, "kms", regions[i], false, false), -EINVAL);
        ck_assert_str_eq(url, "untouched");
        memset(longest, 'a', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = '\0';
        ck_assert_int_eq(aws_endpoint_url(url, "kms", longest, true, true), 0);
}
END_TEST

static void expect_part(struct bytes part, const char *expected)
{
        ck_assert(bytes_equal(part, bytes_from_string(expected)));
}

START_TEST(arn_is_split_at_its_first_five_colons)
{
        struct aws_arn arn;

        ck_assert_int_eq(aws_arn_parse(&arn, BYTES_LITERAL("arn:aws-cn:kms:cn-north-1:111122223333:alias/a:b:c")), 0);
        expect_part(arn.partition, "aws-cn");
        expect_part(arn.service, "kms");
        expect_part(arn.region, "cn-north-1");
        expect_part(arn.account, "111122223333");
        expect_part(arn.resource, "alias/a:b:c");
        ck_assert_int_eq(aws_arn_parse(&arn, BYTES_LITERAL("arn:aws:iam::111122223333:role/x")), 0);
        expect_part(arn.region, "");
}
END_TEST

START_TEST(what_is_no_arn_is_refused)
{
        static const char *const texts[] = { "",
                                             "arn",
                                             "arn:",
                                             "arn:aws",
                                             "arn:aws:kms:r:a",
                                             "arn:aws:kms:r:a:",
                                             "arn::kms:r:a:x",
                                             "arn:aws::r:a:x",
                                             "ARN:aws:kms:r:a:x",
                                             "xarn:aws:kms:r:a:x" };
        struct aws_arn arn;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                ck_assert_int_eq(aws_arn_parse(&arn, bytes_from_string(texts[i])), -EINVAL);
        ck_assert_int_eq(aws_arn_parse(&arn, (struct bytes){ 0 }), -EINVAL);
}
END_TEST

START_TEST(only_the_arn_of_a_key_is_one)
{
        static const char *const good[] = { (ARN("us-east-1", "key/" ID)), (ARN("eu-west-1", "key/" MRK)),
                                            "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/" ID };
        static const char *const bad[] = { "",
                                           ID,
                                           "alias/x",
                                           ARN("us-east-1", "alias/x"),
                                           ARN("us-east-1", "key/"),
                                           ARN("us-east-1", "key/-"),
                                           ARN("us-east-1", "key/a b"),
                                           ARN("us-east-1", "key/a/b"),
                                           ARN("us-east-1", "key/a:b"),
                                           ARN("us-east-1", "keys/" ID),
                                           ARN("", "key/" ID),
                                           ARN("US", "key/" ID),
                                           ARN("a.b", "key/" ID),
                                           "arn:aws:kms:us-east-1:11112222333:key/" ID,
                                           "arn:aws:kms:us-east-1:1111222233334:key/" ID,
                                           "arn:aws:kms:us-east-1:11112222333x:key/" ID,
                                           "arn:aws:s3:us-east-1:111122223333:key/" ID,
                                           "arn:azure:kms:us-east-1:111122223333:key/" ID,
                                           "arn:aws\n:kms:us-east-1:111122223333:key/" ID };

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                ck_assert_msg(aws_arn_is_key(bytes_from_string(good[i])), "%s", good[i]);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ck_assert_msg(!aws_arn_is_key(bytes_from_string(bad[i])), "%s", bad[i]);
        /* A NUL is a character like another, and no good one. */
        ck_assert(!aws_arn_is_key(BYTES_LITERAL("arn:aws:kms:us-east-1:111122223333:key/a\0b")));
}
END_TEST

START_TEST(key_id_has_four_forms)
{
        static char long_alias[300] = "alias/";
        static const char *const good[] = {
                ID, MRK, "alias/lkm", "alias/a/b_c-D", ARN("us-east-1", "key/" ID), ARN("us-east-1", "alias/lkm")
        };
        static const char *const bad[] = { "",
                                           "lkm",
                                           "key/" ID,
                                           "alias/",
                                           "alias/a b",
                                           "alias/a:b",
                                           "alias/\xc3\xbc",
                                           "Alias/x",
                                           "mrk-",
                                           "mrk-1234abcd-12ab-34cd-56ef-1234567890ab",
                                           "mrk-1234abcd12ab34cd56ef1234567890ag",
                                           "1234abcd-12ab-34cd-56ef-1234567890a",
                                           "1234abcd-12ab-34cd-56ef-1234567890abc",
                                           "1234abcd-12ab-34cd-56ef-1234567890ag",
                                           "1234abcd012ab-34cd-56ef-1234567890ab",
                                           "1234-bcd-12ab-34cd-56ef-1234567890ab",
                                           ARN("us-east-1", "alias/"),
                                           ARN("us-east-1", "role/x"),
                                           " alias/x",
                                           long_alias };

        memset(long_alias + 6, 'a', sizeof(long_alias) - 7);
        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                ck_assert_msg(aws_key_id_is_valid(good[i]), "%s", good[i]);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ck_assert_msg(!aws_key_id_is_valid(bad[i]), "%s", bad[i]);
}
END_TEST

static bool is_same(const char *a, const char *b)
{
        bool same = aws_arn_is_same_key(bytes_from_string(a), bytes_from_string(b));

        ck_assert_int_eq(same, aws_arn_is_same_key(bytes_from_string(b), bytes_from_string(a)));
        return same;
}

START_TEST(multi_region_keys_differ_in_the_region_only)
{
        ck_assert(is_same(ARN("us-east-1", "key/" ID), ARN("us-east-1", "key/" ID)));
        ck_assert(is_same(ARN("us-east-1", "key/" MRK), ARN("eu-west-1", "key/" MRK)));
        ck_assert(!is_same(ARN("us-east-1", "key/" ID), ARN("eu-west-1", "key/" ID)));
        ck_assert(!is_same(ARN("us-east-1", "key/" MRK), ARN("us-east-1", "key/" MRK "0")));
        ck_assert(!is_same(ARN("us-east-1", "key/" MRK), "arn:aws:kms:eu-west-1:999999999999:key/" MRK));
        ck_assert(!is_same(ARN("us-east-1", "key/" MRK), "arn:aws-cn:kms:cn-north-1:111122223333:key/" MRK));
        ck_assert(!is_same(ARN("us-east-1", "alias/mrk-x"), ARN("eu-west-1", "alias/mrk-x")));
        ck_assert(!is_same("", ""));
        ck_assert(!is_same(ID, ID));
}
END_TEST

START_TEST(multi_region_key_is_named_in_another_region)
{
        char arn[128], small[sizeof(ARN("eu-west-1", "key/" MRK)) - 1];

        ck_assert_int_eq(aws_arn_in_region(arn, sizeof(arn), BYTES_LITERAL(ARN("us-east-1", "key/" MRK)), "eu-west-1"),
                         0);
        ck_assert_str_eq(arn, ARN("eu-west-1", "key/" MRK));
        ck_assert_int_eq(aws_arn_in_region(arn, sizeof(arn), BYTES_LITERAL(ARN("us-east-1", "key/" ID)), "eu-west-1"),
                         -EINVAL);
        ck_assert_int_eq(
                aws_arn_in_region(arn, sizeof(arn), BYTES_LITERAL(ARN("us-east-1", "alias/mrk-x")), "eu-west-1"),
                -EINVAL);
        ck_assert_int_eq(aws_arn_in_region(arn, sizeof(arn), BYTES_LITERAL(ARN("us-east-1", "key/" MRK)), "eu.west"),
                         -EINVAL);
        ck_assert_int_eq(aws_arn_in_region(arn, sizeof(arn), BYTES_LITERAL(MRK), "eu-west-1"), -EINVAL);
        ck_assert_int_eq(
                aws_arn_in_region(small, sizeof(small), BYTES_LITERAL(ARN("us-east-1", "key/" MRK)), "eu-west-1"),
                -EINVAL);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { every_partition_has_its_hosts },
                { patterns_of_partitions_are_matched_in_whole },
                { sts_of_govcloud_is_fips_under_its_plain_name },
                { region_that_is_no_host_label_is_refused },
                { arn_is_split_at_its_first_five_colons },
                { what_is_no_arn_is_refused },
                { only_the_arn_of_a_key_is_one },
                { key_id_has_four_forms },
                { multi_region_keys_differ_in_the_region_only },
                { multi_region_key_is_named_in_another_region },
        };

        return suite_run("aws-endpoint", nothing, nothing, promises, ELEMENTSOF(promises));
}
