/* SPDX-License-Identifier: Apache-2.0 */
/* Files and descriptors; the terminal is tried by tests/integration/test_passphrase.py, which can be one. */
#include "client/passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "tests/unit/suite.h"

static char why[PASSPHRASE_WHY_MAX];
static char path[] = "/tmp/lkm-test-passphrase.XXXXXX";

static void setup(void)
{
        const char *error;
        int fd;

        ck_assert_int_eq(secret_arena_init(4, 4, 0, &error), 0);
        memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
        fd = mkstemp(path);
        ck_assert_int_ge(fd, 0);
        close(fd);
}

static void teardown(void)
{
        unlink(path);
        secret_arena_deinit(); /* which checks that nothing was kept */
}

static void put(const void *data, size_t n, mode_t mode)
{
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, data, n), (ssize_t)n);
        ck_assert_int_eq(fchmod(fd, mode), 0);
}

static int from_file(struct secret **ret_passphrase)
{
        struct passphrase_source source = { .fd = -1 };
        int r = passphrase_open(&source.fd, path, why);

        return r < 0 ? r : passphrase_read(ret_passphrase, &source, why);
}

static void assert_is(struct secret *s, const void *data, size_t n)
{
        uint8_t *view = secret_view_begin(s);

        ck_assert(bytes_equal((struct bytes){ view, secret_size(s) }, (struct bytes){ data, n }));
        ck_assert(secret_arena_contains(view));
        secret_view_end(s, &view);
}

START_TEST(one_newline_at_the_end_is_not_part_of_it)
{
        static const struct {
                struct bytes content, passphrase;
        } cases[] = {
                { BYTES_LITERAL("secret"), BYTES_LITERAL("secret") },
                { BYTES_LITERAL("secret\n"), BYTES_LITERAL("secret") },
                { BYTES_LITERAL("secret\n\n"), BYTES_LITERAL("secret\n") },
                { BYTES_LITERAL(" two words \n"), BYTES_LITERAL(" two words ") },
                { BYTES_LITERAL("\0\1\xff"), BYTES_LITERAL("\0\1\xff") },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(secret_unrefp) struct secret *s = NULL;

                put(cases[i].content.data, cases[i].content.n, 0600);
                ck_assert_int_eq(from_file(&s), 0);
                assert_is(s, cases[i].passphrase.data, cases[i].passphrase.n);
        }
}
END_TEST

START_TEST(empty_and_endless_ones_are_refused)
{
        static char long_text[PASSPHRASE_MAX + 2];
        struct secret *s = NULL;

        put("", 0, 0600);
        ck_assert_int_eq(from_file(&s), -ENODATA);
        put("\n", 1, 0600);
        ck_assert_int_eq(from_file(&s), -ENODATA);
        memset(long_text, 'a', sizeof(long_text));
        put(long_text, PASSPHRASE_MAX + 1, 0600);
        ck_assert_int_eq(from_file(&s), -EMSGSIZE);
        put(long_text, sizeof(long_text), 0600);
        ck_assert_int_eq(from_file(&s), -EMSGSIZE);
        long_text[PASSPHRASE_MAX] = '\n';
        put(long_text, PASSPHRASE_MAX + 1, 0600);
        ck_assert_int_eq(from_file(&s), 0);
        assert_is(s, long_text, PASSPHRASE_MAX);
        secret_unref(s);
}
END_TEST

START_TEST(file_that_others_may_read_is_refused)
{
        static const mode_t modes[] = { 0640, 0604, 0620, 0602, 0644 };
        struct secret *s = NULL;

        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                put("secret\n", 7, modes[i]);
                ck_assert_int_eq(from_file(&s), -EACCES);
                ck_assert_ptr_nonnull(strstr(why, "chmod 600"));
        }
        unlink(path);
        ck_assert_int_eq(from_file(&s), -ENOENT);
        ck_assert_ptr_nonnull(strstr(why, path));
        ck_assert_ptr_null(s);
}
END_TEST

START_TEST(descriptor_is_read_to_its_end_and_closed)
{
        struct secret *s = NULL;
        int ends[2];

        ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
        ck_assert_int_eq(write(ends[1], "sec", 3), 3);
        ck_assert_int_eq(write(ends[1], "ret\n", 4), 4);
        close(ends[1]);
        ck_assert_int_eq(passphrase_read(&s, &(struct passphrase_source){ .fd = ends[0] }, why), 0);
        assert_is(s, "secret", 6);
        secret_unref(s);
        ck_assert_int_eq(fcntl(ends[0], F_GETFD), -1);
        ck_assert_int_eq(passphrase_read(&s, &(struct passphrase_source){ .fd = ends[0] }, why), -EBADF);
        ck_assert_ptr_nonnull(strstr(why, "descriptor"));
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { one_newline_at_the_end_is_not_part_of_it },
                { empty_and_endless_ones_are_refused },
                { file_that_others_may_read_is_refused },
                { descriptor_is_read_to_its_end_and_closed },
        };

        return suite_run("passphrase", setup, teardown, promises, ELEMENTSOF(promises));
}
