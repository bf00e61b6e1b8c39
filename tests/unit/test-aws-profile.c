/* SPDX-License-Identifier: Apache-2.0 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "daemon/kms/aws-profile.h"
#include "tests/unit/suite.h"

#define KEYS "aws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = wJalrXUtnFEMI\n"

static struct aws_profiles *profiles;
static struct sentence why;
static bool has_secrets;
static char directory[64], path[128];

static void setup(void)
{
        ck_assert_int_eq(secret_arena_init(64, 8, 4, NULL), 0);
        ck_assert_int_eq(aws_profiles_new(&profiles), 0);
        snprintf(directory, sizeof(directory), "/tmp/lkm-aws-profile-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/file", directory);
}

static void teardown(void)
{
        profiles = aws_profiles_free(profiles);
        unlink(path);
        rmdir(directory);
        secret_arena_deinit();
}

static int parse_bytes(struct bytes text, enum aws_profiles_file file, const char *keep)
{
        /* In a block of its own size, so that valgrind sees a read past its end. */
        _cleanup_(freep) uint8_t *copy = malloc(text.n > 0 ? text.n : 1);

        memcpy(copy, text.data, text.n);
        return aws_profiles_parse(profiles, (struct bytes){ copy, text.n }, file, "FILE", keep, &has_secrets, &why);
}

static int parse(const char *text, enum aws_profiles_file file, const char *keep)
{
        return parse_bytes(bytes_from_string(text), file, keep);
}

static const char *get(const char *profile, const char *key)
{
        const struct aws_section *section = aws_profiles_find(profiles, AWS_SECTION_PROFILE, profile);

        return section ? aws_section_get(section, key) : NULL;
}

static bool is_secret(const char *profile, const char *key, const char *text)
{
        struct secret *secret = aws_section_secret(aws_profiles_find(profiles, AWS_SECTION_PROFILE, profile), key);
        uint8_t *view;
        bool equal;

        if (!secret)
                return false;
        view = secret_view_begin(secret);
        equal = bytes_equal((struct bytes){ view, secret_size(secret) }, bytes_from_string(text));
        secret_view_end(secret, &view);
        return equal;
}

static void write_file(const char *text, mode_t mode)
{
        int fd;

        unlink(path); /* the one before may be read-only */
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        ck_assert_int_eq(fchmod(fd, mode), 0);
        close(fd);
}

START_TEST(malformed_lines_are_refused_with_their_number)
{
        static const struct {
                const char *text, *why;
        } bad[] = {
                { "region = eu\n", "FILE:1: a property stands before" },
                { "[default\nregion = eu\n", "FILE:1: a section has no ']'" },
                { "\n[default] x\n", "FILE:2: something follows" },
                { "[]\n", "FILE:1: the name of a section is empty" },
                { "[profile]\n[profile \"]\n", "FILE:2: the name of a section has no closing quote" },
                { "[profile \"\"]\n", "FILE:1: the name of a section is empty" },
                { "[default]\nregion\n", "FILE:2: expected [SECTION]" },
                { "[default]\nregion: eu\n", "FILE:2: expected [SECTION]" },
                { "[default]\n= eu\n", "FILE:2: nothing stands before the '='" },
                { "[default]\nre gion = eu\n", "FILE:2: the name of a property has white space" },
                { "[default]\nr\xc3\xa9gion = eu\n", "FILE:2: the name of a property has white space" },
                { "[default]\nregion = eu\nregion = us\n", "FILE:3: this property occurs twice" },
                { "[default]\nREGION = eu\nregion = us\n", "FILE:3: this property occurs twice" },
                { "[default]\nregion = eu\n[default]\n", "FILE:3: this section occurs twice" },
                { "[default]\n[profile default]\n", "FILE:2: this section occurs twice" },
                { "[default]\nregion = eu\n  west = 1\n", "FILE:3: the line is indented" },
                { "[default]\nregion = eu-west-1 # Ireland\n", "FILE:2: the value has white space in it. A comment" },
                { "[default]\naws_secret_access_key = abc def\n", "FILE:2: the value has white space" },
                { "[default]\nnote = \xff\n", "FILE:2: a value is not valid UTF-8" },
                { "[default]\nnote = a\x01z\n", "FILE:2: a control character" },
                { "[default]\rregion = eu\r", "FILE:1: a control character" },
                { "\xef\xbb\xbf[default]\n", "FILE:1: the file begins with a byte order mark" },
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                profiles = aws_profiles_free(profiles);
                ck_assert_int_eq(aws_profiles_new(&profiles), 0);
                ck_assert_msg(parse(bad[i].text, AWS_PROFILES_CONFIG, NULL) == -EINVAL, "%s", bad[i].text);
                ck_assert_msg(strncmp(why.text, bad[i].why, strlen(bad[i].why)) == 0, "%s: %s", bad[i].text, why.text);
        }
}
END_TEST

START_TEST(nul_bytes_are_refused)
{
        ck_assert_int_eq(parse_bytes(BYTES_LITERAL("[default]\nregion = e\0u\n"), AWS_PROFILES_CONFIG, NULL), -EINVAL);
        ck_assert_ptr_nonnull(strstr(why.text, "control character"));
}
END_TEST

START_TEST(no_sentence_quotes_a_secret)
{
        static const char *const bad[] = { "[default]\naws_secret_access_key = SECRETSECRET x\n", "[default]\nSECRETSECRET\n",
                                           "[default]\naws_secret_access_key = SECRETSECRET\naws_secret_access_key = SECRETSECRET\n" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                profiles = aws_profiles_free(profiles);
                ck_assert_int_eq(aws_profiles_new(&profiles), 0);
                ck_assert_int_eq(parse(bad[i], AWS_PROFILES_CREDENTIALS, "default"), -EINVAL);
                ck_assert_ptr_null(strstr(why.text, "SECRETSECRET"));
        }
}
END_TEST

START_TEST(huge_lines_are_refused)
{
        static char text[3 * SECRET_LARGE_MAX];
        int n = snprintf(text, sizeof(text), "[default]\naws_session_token = ");

        memset(text + n, 'x', SECRET_LARGE_MAX + 1);
        ck_assert_int_eq(parse(text, AWS_PROFILES_CREDENTIALS, "default"), -EINVAL);
        ck_assert_ptr_nonnull(strstr(why.text, "FILE:2: a value is longer than 8192 bytes"));

        profiles = aws_profiles_free(profiles);
        ck_assert_int_eq(aws_profiles_new(&profiles), 0);
        text[n + SECRET_LARGE_MAX] = '\0';
        ck_assert_int_eq(parse(text, AWS_PROFILES_CREDENTIALS, "default"), 0);

        n = snprintf(text, sizeof(text), "[default]\n");
        memset(text + n, 'k', 65);
        snprintf(text + n + 65, sizeof(text) - (size_t)n - 65, " = 1\n");
        ck_assert_int_eq(parse(text, AWS_PROFILES_CONFIG, NULL), -EINVAL);
        ck_assert_ptr_nonnull(strstr(why.text, "longer than 64 characters"));

        n = snprintf(text, sizeof(text), "[profile ");
        memset(text + n, 'k', 129);
        snprintf(text + n + 129, sizeof(text) - (size_t)n - 129, "]\n");
        ck_assert_int_eq(parse(text, AWS_PROFILES_CONFIG, NULL), -EINVAL);
        ck_assert_ptr_nonnull(strstr(why.text, "longer than 128 bytes"));
}
END_TEST

START_TEST(more_sections_or_properties_than_the_limit_are_refused)
{
        static char text[16384];
        size_t n = 0;

        for (int i = 0; i < 257; i++)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "[p%d]\n", i);
        ck_assert_int_eq(parse(text, AWS_PROFILES_CREDENTIALS, NULL), -EINVAL);
        ck_assert_ptr_nonnull(strstr(why.text, "more than 256 sections"));

        n = (size_t)snprintf(text, sizeof(text), "[p1]\n");
        for (int i = 0; i < 129; i++)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "k%d = 1\n", i);
        ck_assert_int_eq(parse(text, AWS_PROFILES_CONFIG, NULL), -EINVAL);
}
END_TEST

START_TEST(files_without_an_end_of_line_or_without_anything_are_good)
{
        ck_assert_int_eq(parse("", AWS_PROFILES_CONFIG, NULL), 0);
        ck_assert_int_eq(parse("# only a comment", AWS_PROFILES_CONFIG, NULL), 0);
        ck_assert_int_eq(parse("[default]\nregion=eu", AWS_PROFILES_CONFIG, NULL), 0);
        ck_assert_str_eq(get("default", "region"), "eu");
}
END_TEST

START_TEST(windows_line_ends_and_comments_are_good)
{
        ck_assert_int_eq(parse("; a\r\n[default]  # b\r\n# c\r\nRegion = eu\r\n\r\n  # d\r\noutput =\r\nrole_arn=arn:aws:iam::1:role/a=b\r\n",
                               AWS_PROFILES_CONFIG, NULL),
                         0);
        ck_assert_str_eq(get("default", "region"), "eu");
        ck_assert_str_eq(get("default", "role_arn"), "arn:aws:iam::1:role/a=b");
        ck_assert_ptr_null(get("default", "output"));
}
END_TEST

START_TEST(names_may_be_quoted_and_have_spaces)
{
        ck_assert_int_eq(parse("[profile \"my work\"]\nregion = a\n[profile 'b']\nregion = b\n[profile c d]\nregion = c\n", AWS_PROFILES_CONFIG,
                               NULL),
                         0);
        ck_assert_str_eq(get("my work", "region"), "a");
        ck_assert_str_eq(get("b", "region"), "b");
        ck_assert_str_eq(get("c d", "region"), "c");
}
END_TEST

START_TEST(sections_of_the_two_files_are_named_differently)
{
        ck_assert_int_eq(parse("[a]\nregion = x\n[profile b]\nregion = b\n[sso-session s]\nsso_region = s\n", AWS_PROFILES_CONFIG, NULL), 0);
        ck_assert_int_eq(parse("[c]\nregion = c\n[profile d]\nregion = d\n", AWS_PROFILES_CREDENTIALS, NULL), 0);
        ck_assert_ptr_null(get("a", "region"));
        ck_assert_ptr_nonnull(aws_profiles_find(profiles, AWS_SECTION_OTHER, "a"));
        ck_assert_str_eq(get("b", "region"), "b");
        ck_assert_str_eq(get("c", "region"), "c");
        ck_assert_ptr_null(get("d", "region"));
        ck_assert_str_eq(aws_section_get(aws_profiles_find(profiles, AWS_SECTION_SSO_SESSION, "s"), "sso_region"), "s");
}
END_TEST

START_TEST(nested_values_are_found_and_end_with_the_indentation)
{
        const struct aws_section *section;

        ck_assert_int_eq(parse("[services dev]\nkms =\n  endpoint_url = https://kms.test\n  other = 1\nsts =\n\tendpoint_url = https://sts.test\n"
                               "plain = 2\n",
                               AWS_PROFILES_CONFIG, NULL),
                         0);
        section = aws_profiles_find(profiles, AWS_SECTION_SERVICES, "dev");
        ck_assert_ptr_nonnull(section);
        ck_assert_str_eq(aws_section_name(section), "dev");
        ck_assert_str_eq(aws_section_get(section, "kms.endpoint_url"), "https://kms.test");
        ck_assert_str_eq(aws_section_get(section, "sts.endpoint_url"), "https://sts.test");
        ck_assert_str_eq(aws_section_get(section, "plain"), "2");
        ck_assert_ptr_null(aws_section_get(section, "endpoint_url"));
}
END_TEST

START_TEST(properties_may_all_be_indented)
{
        ck_assert_int_eq(parse("[default]\n  region = eu\n  output = json\n  s3 =\n    a = 1\n[profile b]\nregion = us\n", AWS_PROFILES_CONFIG, NULL),
                         0);
        ck_assert_str_eq(get("default", "region"), "eu");
        ck_assert_str_eq(get("default", "output"), "json");
        ck_assert_str_eq(get("default", "s3.a"), "1");
        ck_assert_str_eq(get("b", "region"), "us");
}
END_TEST

START_TEST(the_credentials_file_wins)
{
        ck_assert_int_eq(parse("[default]\nregion = eu\naws_access_key_id = A\naws_secret_access_key = a\n", AWS_PROFILES_CONFIG, "default"), 0);
        ck_assert_int_eq(parse("[default]\naws_access_key_id = B\naws_secret_access_key = b\n", AWS_PROFILES_CREDENTIALS, "default"), 0);
        ck_assert_str_eq(get("default", "aws_access_key_id"), "B");
        ck_assert(is_secret("default", "aws_secret_access_key", "b"));
        ck_assert_str_eq(get("default", "region"), "eu");
}
END_TEST

START_TEST(secrets_are_kept_for_one_profile_and_never_as_text)
{
        size_t used;

        ck_assert_int_eq(parse("[a]\n" KEYS "aws_session_token = token\n[b]\n" KEYS "[c]\nregion = eu\n", AWS_PROFILES_CREDENTIALS, "b"), 0);
        ck_assert(has_secrets);
        ck_assert_str_eq(get("a", "aws_secret_access_key"), "");
        ck_assert_str_eq(get("a", "aws_session_token"), "");
        ck_assert_ptr_null(aws_section_secret(aws_profiles_find(profiles, AWS_SECTION_PROFILE, "a"), "aws_secret_access_key"));
        ck_assert_str_eq(get("b", "aws_secret_access_key"), "");
        ck_assert(is_secret("b", "aws_secret_access_key", "wJalrXUtnFEMI"));
        secret_arena_usage(&used, NULL, NULL, NULL);
        ck_assert_uint_eq(used, 1);
        ck_assert_int_eq(parse("[profile d]\nregion = eu\n", AWS_PROFILES_CONFIG, "b"), 0);
        ck_assert(!has_secrets);
}
END_TEST

START_TEST(an_arena_without_room_is_reported)
{
        struct secret *all[64];

        for (size_t i = 0; i < ELEMENTSOF(all); i++)
                ck_assert_int_eq(secret_new(&all[i], 1), 0);
        ck_assert_int_eq(parse("[a]\n" KEYS, AWS_PROFILES_CREDENTIALS, "a"), -ENOBUFS);
        ck_assert_ptr_nonnull(strstr(why.text, "no locked memory"));
        for (size_t i = 0; i < ELEMENTSOF(all); i++)
                secret_unref(all[i]);
}
END_TEST

static int read_as(enum aws_profiles_file file)
{
        profiles = aws_profiles_free(profiles);
        ck_assert_int_eq(aws_profiles_new(&profiles), 0);
        return aws_profiles_read(profiles, path, file, "a", &why);
}

START_TEST(credentials_that_others_may_read_are_refused)
{
        write_file("[a]\n" KEYS, 0600);
        ck_assert_int_eq(read_as(AWS_PROFILES_CREDENTIALS), 0);
        ck_assert(is_secret("a", "aws_secret_access_key", "wJalrXUtnFEMI"));
        write_file("[a]\n" KEYS, 0640);
        ck_assert_int_eq(read_as(AWS_PROFILES_CREDENTIALS), -EACCES);
        ck_assert_ptr_nonnull(strstr(why.text, "chmod 600"));
        write_file("[a]\n" KEYS, 0604);
        ck_assert_int_eq(read_as(AWS_PROFILES_CREDENTIALS), -EACCES);
}
END_TEST

START_TEST(a_credential_of_systemd_may_be_readable_by_its_group)
{
        setenv("CREDENTIALS_DIRECTORY", directory, 1);
        write_file("[a]\n" KEYS, 0440);
        ck_assert_int_eq(read_as(AWS_PROFILES_CREDENTIALS), 0);
        write_file("[profile a]\n" KEYS, 0440);
        ck_assert_int_eq(read_as(AWS_PROFILES_CONFIG), 0);
        write_file("[a]\n" KEYS, 0444);
        ck_assert_int_eq(read_as(AWS_PROFILES_CREDENTIALS), -EACCES);
        unsetenv("CREDENTIALS_DIRECTORY");
        write_file("[a]\n" KEYS, 0440);
        ck_assert_int_eq(read_as(AWS_PROFILES_CREDENTIALS), -EACCES);
}
END_TEST

START_TEST(a_configuration_that_others_may_read_has_no_secrets)
{
        write_file("[profile a]\nregion = eu\n", 0644);
        ck_assert_int_eq(read_as(AWS_PROFILES_CONFIG), 0);
        write_file("[profile b]\n" KEYS, 0644);
        ck_assert_int_eq(read_as(AWS_PROFILES_CONFIG), -EACCES);
        ck_assert_ptr_nonnull(strstr(why.text, "holds a secret key"));
        write_file("[profile a]\nregion = eu\n", 0664);
        ck_assert_int_eq(read_as(AWS_PROFILES_CONFIG), -EACCES);
        ck_assert_ptr_nonnull(strstr(why.text, "others may change it"));
}
END_TEST

START_TEST(files_that_cannot_be_read_say_why)
{
        static char large[SECRET_BODY_MAX + 2];

        ck_assert_int_eq(read_as(AWS_PROFILES_CONFIG), -ENOENT);
        ck_assert_ptr_nonnull(strstr(why.text, path));
        write_file("", 0600);
        ck_assert_int_eq(read_as(AWS_PROFILES_CREDENTIALS), 0);
        memset(large, '#', sizeof(large) - 1);
        write_file(large, 0600);
        ck_assert_int_eq(read_as(AWS_PROFILES_CREDENTIALS), -EMSGSIZE);
        unlink(path);
        ck_assert_int_eq(mkfifo(path, 0600), 0);
        ck_assert_int_eq(read_as(AWS_PROFILES_CREDENTIALS), -EACCES);
        ck_assert_int_eq(aws_profiles_read(profiles, "credential:aws", AWS_PROFILES_CONFIG, NULL, &why), -ENOENT);
        ck_assert_ptr_nonnull(strstr(why.text, "LoadCredential="));
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { malformed_lines_are_refused_with_their_number },
                { nul_bytes_are_refused },
                { no_sentence_quotes_a_secret },
                { huge_lines_are_refused },
                { more_sections_or_properties_than_the_limit_are_refused },
                { files_without_an_end_of_line_or_without_anything_are_good },
                { windows_line_ends_and_comments_are_good },
                { names_may_be_quoted_and_have_spaces },
                { sections_of_the_two_files_are_named_differently },
                { nested_values_are_found_and_end_with_the_indentation },
                { properties_may_all_be_indented },
                { the_credentials_file_wins },
                { secrets_are_kept_for_one_profile_and_never_as_text },
                { an_arena_without_room_is_reported },
                { credentials_that_others_may_read_are_refused },
                { a_credential_of_systemd_may_be_readable_by_its_group },
                { a_configuration_that_others_may_read_has_no_secrets },
                { files_that_cannot_be_read_say_why },
        };

        return suite_run("aws-profile", setup, teardown, promises, ELEMENTSOF(promises));
}
