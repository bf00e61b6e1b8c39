/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/aws-answer.h"
#include "daemon/kms/aws-xml.h"
#include "tests/unit/suite.h"

static struct aws_credentials *credentials;
static struct sentence why;

static void setup(void)
{
        ck_assert_int_eq(secret_arena_init(64, 8, 4, NULL), 0);
}

static void teardown(void)
{
        credentials = aws_credentials_unref(credentials);
        secret_arena_deinit(); /* checks that nothing is left */
}

static struct secret *secret_of(const char *text)
{
        struct secret *s;
        uint8_t *view;

        ck_assert_int_eq(secret_new(&s, strlen(text)), 0);
        view = secret_view_begin(s);
        memcpy(view, text, strlen(text));
        secret_view_end(s, &view);
        return s;
}

static bool secret_is(struct secret *secret, const char *text)
{
        _cleanup_(secret_unrefp) struct secret *other = secret_of(text);

        return secret && secret_equal(secret, other);
}

/* ---- XML ---- */

static int find(const char *xml, struct aws_xml_text *texts, size_t n)
{
        /* In a block of its own size, so that valgrind sees a read past its end. */
        static uint8_t *copy;

        free(copy);
        copy = malloc(strlen(xml) + 1);
        memcpy(copy, xml, strlen(xml));
        return aws_xml_find((struct bytes){ copy, strlen(xml) }, "P", texts, n);
}

START_TEST(xml_that_is_not_well_formed_is_refused)
{
        static const char *const bad[] = {
                "", " ", "text", "<", "<a", "<a>", "<a></b>", "<a></a", "<a><b></a></b>", "<a/><b/>", "<a>text</a>more", "</a>", "<a b></a>",
                "<a b=c></a>", "<a b='c></a>", "<a b=\"<\"></a>", "<!DOCTYPE a><a/>", "<a><!-- x --></a>", "<a><![CDATA[x]]></a>", "<?xml version='1.0'",
                "<?xmlversion?><a/>", "<a><?php ?></a>", "<a / ></a>", "< a></a>", "<a><P/><P/></a>", "<P><X>1</X><X>2</X></P>", "<P><X/><X/></P>",
                "<a><b><c><d><e><f><g><h><i><j><k><l><m><n><o><p><q/></p></o></n></m></l></k></j></i></h></g></f></e></d></c></b></a>",
        };
        struct aws_xml_text texts[] = { { "X" } };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ck_assert_msg(find(bad[i], texts, 1) == -EINVAL, "%s", bad[i]);
        ck_assert_int_eq(aws_xml_find(BYTES_LITERAL("<a>\0</a>"), "P", texts, 1), -EINVAL);
}
END_TEST

START_TEST(xml_texts_are_found_inside_their_parent_only)
{
        struct aws_xml_text texts[] = { { "X" }, { "Y" }, { "Z" }, { "V" } };

        ck_assert_int_eq(find("<?xml version='1.0'?>\n<R xmlns=\"https://x/\"><X>no</X><P a = '1' ><Y/>\n<X>yes &amp; no</X>"
                              "<Z><X>no</X></Z></P><X>no</X></R>\n",
                              texts, 4),
                         0);
        ck_assert(bytes_equal(texts[0].text, BYTES_LITERAL("yes &amp; no")));
        ck_assert(texts[1].text.data && texts[1].text.n == 0);
        ck_assert(!texts[2].text.data && !texts[3].text.data);
        ck_assert_int_eq(find("<R><X>no</X></R>", texts, 4), 0);
        ck_assert(!texts[0].text.data);
}
END_TEST

START_TEST(references_are_the_five_of_xml)
{
        uint8_t to[64];
        size_t n;

        ck_assert_int_eq(aws_xml_unescape(to, &n, BYTES_LITERAL("a&amp;b&lt;&gt;&quot;&apos;")), 0);
        ck_assert(bytes_equal((struct bytes){ to, n }, BYTES_LITERAL("a&b<>\"'")));
        ck_assert_int_eq(aws_xml_unescape(to, &n, BYTES_LITERAL("")), 0);
        ck_assert_uint_eq(n, 0);
        ck_assert_int_eq(aws_xml_unescape(to, &n, BYTES_LITERAL("&#65;")), -EINVAL);
        ck_assert_int_eq(aws_xml_unescape(to, &n, BYTES_LITERAL("&am")), -EINVAL);
        ck_assert_int_eq(aws_xml_unescape(to, &n, BYTES_LITERAL("a&")), -EINVAL);
}
END_TEST

/* ---- times ---- */

START_TEST(times_have_an_offset_and_may_have_a_fraction)
{
        static const struct {
                const char *text;
                uint64_t seconds;
        } good[] = { { "2026-01-01T00:00:00Z", 1767225600 },      { "2026-01-01T00:00:00.123456Z", 1767225600 },
                     { "2026-01-01T01:30:00+01:30", 1767225600 }, { "2025-12-31T19:00:00-0500", 1767225600 } };
        static const char *const bad[] = { "", "2026-01-01", "2026-01-01T00:00:00", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00.Z",
                                           "2026-01-01 00:00:00Z", "2026-01-01T00:00:00+1", "2026-01-01T00:00:00+99:00", "2026-01-01T00:00:00ZZ",
                                           "1970-01-01T00:00:00+01:00" };
        uint64_t usec;

        for (size_t i = 0; i < ELEMENTSOF(good); i++) {
                ck_assert_msg(aws_answer_time(&usec, good[i].text) == 0, "%s", good[i].text);
                ck_assert_uint_eq(usec, good[i].seconds * USEC_PER_SEC);
        }
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ck_assert_msg(aws_answer_time(&usec, bad[i]) == -EINVAL, "%s", bad[i]);
}
END_TEST

/* ---- JSON ---- */

#define EXPIRATION ",\"Expiration\":\"2026-01-01T00:00:00Z\""
#define ID "\"AccessKeyId\":\"AKID\""
#define SECRET ",\"SecretAccessKey\":\"SECRETKEY\""
#define TOKEN ",\"Token\":\"TOKEN\""

static int from_json(const char *text, enum aws_answer_kind kind)
{
        _cleanup_(secret_unrefp) struct secret *body = *text ? secret_of(text) : NULL;

        credentials = aws_credentials_unref(credentials);
        return aws_answer_json(&credentials, body, kind, "test", &why);
}

START_TEST(answers_without_all_of_it_are_refused)
{
        static const char *const bad[] = { "", "x", "[]", "null", "{}", "{" ID EXPIRATION "}", "{" ID SECRET EXPIRATION "}", "{" ID SECRET TOKEN "}",
                                           "{" ID SECRET TOKEN ",\"Expiration\":\"never\"}", "{" ID SECRET TOKEN ",\"Expiration\":12}",
                                           "{\"AccessKeyId\":\"A/B\"" SECRET TOKEN EXPIRATION "}", "{\"AccessKeyId\":\"\"" SECRET TOKEN EXPIRATION "}",
                                           "{" ID SECRET SECRET TOKEN EXPIRATION "}", "{" ID ",\"SecretAccessKey\":null" TOKEN EXPIRATION "}",
                                           "{" ID SECRET TOKEN EXPIRATION ",\"more\":" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                ck_assert_msg(from_json(bad[i], AWS_ANSWER_CONTAINER) == -EINVAL, "%s", bad[i]);
                ck_assert_ptr_null(strstr(why.text, "SECRETKEY"));
        }
}
END_TEST

START_TEST(the_four_dialects_are_understood)
{
        ck_assert_int_eq(from_json("{\"Code\":\"Success\"," ID SECRET TOKEN EXPIRATION ",\"Type\":\"AWS-HMAC\"}", AWS_ANSWER_METADATA), 0);
        ck_assert_str_eq(credentials->access_key_id, "AKID");
        ck_assert(secret_is(credentials->secret_access_key, "SECRETKEY"));
        ck_assert(secret_is(credentials->session_token, "TOKEN"));
        ck_assert_str_eq(credentials->source, "test");
        ck_assert_int_eq(from_json("{" ID SECRET TOKEN EXPIRATION ",\"RoleArn\":\"arn:x\"}", AWS_ANSWER_CONTAINER), 0);
        ck_assert_int_eq(from_json("{\"Version\":1," ID SECRET ",\"SessionToken\":\"S\"}", AWS_ANSWER_PROCESS), 0);
        ck_assert(secret_is(credentials->session_token, "S"));
        ck_assert_int_eq(from_json("{\"roleCredentials\":{\"accessKeyId\":\"AKID\",\"secretAccessKey\":\"K\",\"sessionToken\":\"T\",\"expiration\":1767225600000}}",
                                   AWS_ANSWER_SSO),
                         0);
        ck_assert_uint_eq(credentials->expires_wall_usec, UINT64_C(1767225600) * USEC_PER_SEC);
        ck_assert_int_eq(from_json("{\"accessKeyId\":\"AKID\",\"secretAccessKey\":\"K\",\"sessionToken\":\"T\",\"expiration\":1767225600000}",
                                   AWS_ANSWER_SSO),
                         -EINVAL);
}
END_TEST

START_TEST(metadata_that_report_an_error_are_one)
{
        ck_assert_int_eq(from_json("{\"Code\":\"AssumeRoleUnauthorizedAccess\",\"Message\":\"EC2 cannot assume the role\"}", AWS_ANSWER_METADATA), -EINVAL);
        ck_assert_ptr_nonnull(strstr(why.text, "AssumeRoleUnauthorizedAccess: EC2 cannot assume the role"));
}
END_TEST

/* ---- the XML of STS ---- */

static int from_xml(const char *text)
{
        _cleanup_(secret_unrefp) struct secret *body = *text ? secret_of(text) : NULL;

        credentials = aws_credentials_unref(credentials);
        return aws_answer_xml(&credentials, body, "test", &why);
}

#define STS(inner) "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>" inner \
                   "</Credentials></AssumeRoleResult></AssumeRoleResponse>"

START_TEST(credentials_of_sts_are_found_in_any_order)
{
        ck_assert_int_eq(from_xml(STS("<SessionToken>T&amp;U</SessionToken><Expiration>2026-01-01T00:00:00.5Z</Expiration>"
                                      "<AccessKeyId>ASIA</AccessKeyId>\n<SecretAccessKey>K/+=</SecretAccessKey>")),
                         0);
        ck_assert_str_eq(credentials->access_key_id, "ASIA");
        ck_assert(secret_is(credentials->secret_access_key, "K/+="));
        ck_assert(secret_is(credentials->session_token, "T&U"));
        ck_assert_uint_eq(credentials->expires_wall_usec, UINT64_C(1767225600) * USEC_PER_SEC);
}
END_TEST

START_TEST(answers_of_sts_without_all_of_it_are_refused)
{
        static const char *const bad[] = { "", "<html/>", STS(""), STS("<AccessKeyId>A</AccessKeyId><SecretAccessKey>K</SecretAccessKey>"),
                                           STS("<AccessKeyId>A</AccessKeyId><SecretAccessKey/><SessionToken>T</SessionToken>"
                                               "<Expiration>2026-01-01T00:00:00Z</Expiration>"),
                                           STS("<AccessKeyId>A</AccessKeyId><SecretAccessKey>SECRETKEY&bad;</SecretAccessKey>"
                                               "<SessionToken>T</SessionToken><Expiration>2026-01-01T00:00:00Z</Expiration>") };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                ck_assert_msg(from_xml(bad[i]) == -EINVAL, "%s", bad[i]);
                ck_assert_ptr_null(strstr(why.text, "SECRETKEY"));
        }
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { xml_that_is_not_well_formed_is_refused },
                { xml_texts_are_found_inside_their_parent_only },
                { references_are_the_five_of_xml },
                { times_have_an_offset_and_may_have_a_fraction },
                { answers_without_all_of_it_are_refused },
                { the_four_dialects_are_understood },
                { metadata_that_report_an_error_are_one },
                { credentials_of_sts_are_found_in_any_order },
                { answers_of_sts_without_all_of_it_are_refused },
        };

        return suite_run("aws-answer", setup, teardown, promises, ELEMENTSOF(promises));
}
