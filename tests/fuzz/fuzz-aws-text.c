/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text that the AWS side reads from outside, on any bytes. The first byte tells what the rest is: 'x' XML, 'c' a configuration file, anything else a
 * credentials file. Texts that are found lie inside the input; a sentence is text; what a file gives once it gives again; no slot stays behind.
 */
#include <errno.h>

#include "daemon/kms/aws-profile.h"
#include "daemon/kms/aws-xml.h"
#include "tests/fuzz/fuzz.h"

static void try_xml(struct bytes xml)
{
        struct aws_xml_text texts[] = { { "AccessKeyId" }, { "SecretAccessKey" }, { "SessionToken" }, { "Expiration" } };
        int r = aws_xml_find(xml, "Credentials", texts, ELEMENTSOF(texts));

        check(r == 0 || r == -EINVAL);
        for (size_t i = 0; r == 0 && i < ELEMENTSOF(texts); i++) {
                struct bytes t = texts[i].text;
                _cleanup_(freep) uint8_t *to = malloc(t.n > 0 ? t.n : 1);
                size_t n;

                if (!t.data)
                        continue;
                check(to && t.data >= xml.data && t.data + t.n <= xml.data + xml.n);
                check(!memchr(t.data, '<', t.n));
                if (aws_xml_unescape(to, &n, t) == 0)
                        check(n <= t.n && (n == t.n || memchr(t.data, '&', t.n)));
        }
}

/* Return: a sum over what is known of the profiles of the corpus. */
static size_t look(const struct aws_profiles *p)
{
        static const char *const names[] = { "default", "a", "b c" },
                                 *const property_names[] = { "region", "aws_access_key_id", "aws_secret_access_key", "kms.endpoint_url" };
        size_t sum = 0;

        for (int kind = AWS_SECTION_PROFILE; kind <= AWS_SECTION_OTHER; kind++)
                for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                        const struct aws_section *section = aws_profiles_find(p, (enum aws_section_kind)kind, names[i]);

                        for (size_t j = 0; section && j < ELEMENTSOF(property_names); j++) {
                                const char *value = aws_section_get(section, property_names[j]);
                                struct secret *secret = aws_section_secret(section, property_names[j]);

                                sum = sum * 31 + (value ? strlen(value) + 1 : 0) + (secret ? secret_size(secret) : 0);
                                check(!secret || (value && !*value));
                        }
                }
        return sum;
}

static size_t try_profiles(struct bytes text, enum aws_profiles_file file)
{
        _cleanup_(aws_profiles_freep) struct aws_profiles *p = NULL;
        struct sentence why = { 0 };
        bool has_secrets;
        int r;

        check(aws_profiles_new(&p) == 0);
        r = aws_profiles_parse(p, text, file, "FILE", "a", &has_secrets, &why);
        check(r == 0 || r == -EINVAL || r == -ENOBUFS);
        check((r < 0) == (*why.text != '\0') && bytes_is_text(bytes_from_string(why.text)));
        return look(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        size_t small, large;

        if (secret_arena_backing() == SECRET_BACKING_NONE)
                check(secret_arena_init(64, 64, 4, NULL) == 0);
        if (n == 0)
                return 0;
        if (*data == 'x') {
                try_xml((struct bytes){ data + 1, n - 1 });
        } else {
                enum aws_profiles_file file = *data == 'c' ? AWS_PROFILES_CONFIG : AWS_PROFILES_CREDENTIALS;
                struct bytes text = { data + 1, n - 1 };

                check(try_profiles(text, file) == try_profiles(text, file));
        }
        secret_arena_usage(&small, NULL, &large, NULL);
        check(small + large == 0);
        return 0;
}
