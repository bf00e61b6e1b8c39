/* SPDX-License-Identifier: Apache-2.0 */
#define SQLITE_HAS_CODEC 1
#include "client/kdf.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>

#include "proto/frame.h"
#include "tests/unit/suite.h"

static void setup(void)
{
        const char *why;

        ck_assert_int_eq(kdf_init(), 0);
        ck_assert_int_eq(secret_arena_init(8, 4, 0, &why), 0);
}

static void teardown(void)
{
        secret_arena_deinit();
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

static void assert_begins(struct secret *key, const char *hex)
{
        uint8_t *view = secret_view_begin(key), expected[KEY_SIZE];
        size_t n = strlen(hex) / 2;

        ck_assert_int_eq(hex_parse(expected, n, hex, 2 * n), 0);
        ck_assert(bytes_equal((struct bytes){ view, n }, (struct bytes){ expected, n }));
        secret_view_end(key, &view);
}

/* RFC 6070 gives 20 bytes with SHA-1, RFC 7914 section 11 has 64 with SHA-256: each the beginning of longer output. For SHA-512 there is none; a real
 * database is below. */
START_TEST(vectors_of_the_rfcs_come_out)
{
        static const struct {
                enum kdf_digest digest;
                const char *passphrase;
                struct bytes salt;
                uint32_t rounds;
                const char *hex;
        } vectors[] = {
                { KDF_SHA1, "password", BYTES_LITERAL("salt"), 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6" },
                { KDF_SHA1, "password", BYTES_LITERAL("salt"), 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957" },
                { KDF_SHA1, "password", BYTES_LITERAL("salt"), 4096, "4b007901b765489abead49d926f721d065a429c1" },
                { KDF_SHA1, "passwordPASSWORDpassword", BYTES_LITERAL("saltSALTsaltSALTsaltSALTsaltSALTsalt"), 4096,
                  "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038" },
                { KDF_SHA256, "passwd", BYTES_LITERAL("salt"), 1, "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc" },
                { KDF_SHA256, "Password", BYTES_LITERAL("NaCl"), 80000, "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56" },
        };

        for (size_t i = 0; i < ELEMENTSOF(vectors); i++) {
                _cleanup_(secret_unrefp) struct secret *passphrase = secret_of(vectors[i].passphrase), *key = NULL;

                ck_assert_int_eq(kdf_pbkdf2(&key, vectors[i].digest, passphrase, vectors[i].salt, vectors[i].rounds), 0);
                ck_assert_uint_eq(secret_size(key), KEY_SIZE);
                assert_begins(key, vectors[i].hex);
        }
}
END_TEST

START_TEST(rounds_that_make_no_sense_are_refused)
{
        _cleanup_(secret_unrefp) struct secret *passphrase = secret_of("p"), *key = NULL;

        ck_assert_int_eq(kdf_pbkdf2(&key, KDF_SHA1, passphrase, BYTES_LITERAL("salt"), 0), -EINVAL);
        ck_assert_int_eq(kdf_pbkdf2(&key, KDF_SHA1, passphrase, BYTES_LITERAL("salt"), KDF_ROUNDS_MAX + 1), -EINVAL);
        ck_assert_ptr_null(key);
}
END_TEST

/* ---- a database that the linked SQLCipher makes ---- */

static int count_rows(void *userdata, int n, char **values, char **names)
{
        ++*(int *)userdata;
        return 0;
}

static int library_major(sqlite3 *db)
{
        sqlite3_stmt *statement;
        int major;

        ck_assert_int_eq(sqlite3_prepare_v2(db, "PRAGMA cipher_version", -1, &statement, NULL), SQLITE_OK);
        ck_assert_int_eq(sqlite3_step(statement), SQLITE_ROW);
        major = sqlite3_column_int(statement, 0);
        sqlite3_finalize(statement);
        return major;
}

static int make_database(const char *path, const char *passphrase)
{
        sqlite3 *db;
        int major;

        ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
        major = library_major(db);
        ck_assert_int_eq(sqlite3_key(db, passphrase, (int)strlen(passphrase)), SQLITE_OK);
        ck_assert_int_eq(sqlite3_exec(db, "CREATE TABLE t(x); INSERT INTO t VALUES(1), (2)", NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        return major;
}

/* Whether @key, as a raw key, opens the database, and its rows can be read. */
static bool opens(const char *path, struct secret *key)
{
        char text[2 * KEY_SIZE + 4] = "x'";
        uint8_t *view = secret_view_begin(key);
        sqlite3 *db;
        int rows = 0, code;

        hex_format(text + 2, view, KEY_SIZE);
        secret_view_end(key, &view);
        text[2 + 2 * KEY_SIZE] = '\'';
        ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
        ck_assert_int_eq(sqlite3_key(db, text, 2 * KEY_SIZE + 3), SQLITE_OK);
        code = sqlite3_exec(db, "SELECT x FROM t", count_rows, &rows, NULL);
        sqlite3_close(db);
        return code == SQLITE_OK && rows == 2;
}

START_TEST(passphrase_of_a_real_database_becomes_its_raw_key)
{
        char path[] = "/tmp/lkm-test-kdf.XXXXXX";
        int fd = mkstemp(path), major = make_database(path, "correct horse");
        _cleanup_(secret_unrefp) struct secret *right = secret_of("correct horse"), *wrong = secret_of("correct house"), *key = NULL, *other = NULL;
        enum kdf_digest digest = major >= 4 ? KDF_SHA512 : KDF_SHA1;
        uint32_t rounds = major >= 4 ? 256000 : 64000;
        uint8_t salt[16];

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(pread(fd, salt, sizeof(salt), 0), sizeof(salt));
        close(fd);
        ck_assert_int_eq(kdf_pbkdf2(&key, digest, right, (struct bytes){ salt, sizeof(salt) }, rounds), 0);
        ck_assert_int_eq(kdf_pbkdf2(&other, digest, wrong, (struct bytes){ salt, sizeof(salt) }, rounds), 0);
        ck_assert(opens(path, key));
        ck_assert(!opens(path, other));
        unlink(path);
}
END_TEST

/* ---- raw keys ---- */

#define DIGITS "000102030405060708090A0B0C0D0E0F101112131415161718191a1b1c1d1e1f"
#define SALT_DIGITS "73616c7473616c7473616c7473616c74"

static int parse(struct secret **ret_key, const char *text)
{
        _cleanup_(secret_unrefp) struct secret *s = secret_of(text);

        return kdf_raw(ret_key, s, BYTES_LITERAL("saltsaltsaltsalt"));
}

START_TEST(raw_keys_are_taken_in_each_form)
{
        static const char *const forms[] = { DIGITS, "x'" DIGITS "'", "X'" DIGITS "'", "x'" DIGITS SALT_DIGITS "'" };

        for (size_t i = 0; i < ELEMENTSOF(forms); i++) {
                _cleanup_(secret_unrefp) struct secret *key = NULL;

                ck_assert_int_eq(parse(&key, forms[i]), 0);
                assert_begins(key, DIGITS);
        }
}
END_TEST

START_TEST(what_is_no_raw_key_is_told_from_one_with_another_salt)
{
        static const char *const others[] = { "x", DIGITS "0", "x'" DIGITS, "x'" DIGITS "x", "y'" DIGITS "'", "x'" DIGITS "00'",
                                              "x'g00102030405060708090A0B0C0D0E0F101112131415161718191a1b1c1d1e1f'",
                                              "x'" DIGITS "7g616c7473616c7473616c7473616c74'", DIGITS SALT_DIGITS };
        struct secret *key = NULL;

        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                ck_assert_int_eq(parse(&key, others[i]), KDF_E_NOT_RAW);
        ck_assert_int_eq(parse(&key, "x'" DIGITS "00616c7473616c7473616c7473616c74'"), KDF_E_OTHER_SALT);
        ck_assert_ptr_null(key);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { vectors_of_the_rfcs_come_out },
                { rounds_that_make_no_sense_are_refused },
                { passphrase_of_a_real_database_becomes_its_raw_key },
                { raw_keys_are_taken_in_each_form },
                { what_is_no_raw_key_is_told_from_one_with_another_salt },
        };

        return suite_run("kdf", setup, teardown, promises, ELEMENTSOF(promises));
}
