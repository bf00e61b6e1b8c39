/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/page.h"

#include "client/rekey/work.h"
#include "common/bytes.h"
#include "tests/unit/cipher-database.h"
#include "tests/unit/suite.h"

static char directory[] = "/tmp/lkm-test-page.XXXXXX", path[64];
static struct work work;

static void setup(void)
{
        memcpy(directory, "/tmp/lkm-test-page.XXXXXX", sizeof(directory));
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/a.db", directory);
        ck_assert_int_eq(secret_arena_init(64, 4, 0, NULL), 0);
        cipher_work(&work, path, 2);
}

static void teardown(void)
{
        work_deinit(&work);
        secret_arena_deinit();
        unlink(path);
        rmdir(directory);
}

/* The formats that the linked library writes, each with several page sizes. */
static const struct {
        unsigned compatibility, size;
} formats[] = { { 3, 0 }, { 3, 2048 }, { 3, 4096 }, { 3, 65536 }, { 4, 0 }, { 4, 2048 }, { 4, 1024 }, { 4, 65536 } };

/** A database of one of these formats, read into memory, and both keys made ready for it. */
struct sample {
        struct page_format format;
        uint8_t *data;
        uint32_t n;
        struct page_key *keys[2];
};

static bool sample_init(struct sample *s, size_t i)
{
        sqlite3 *db;
        size_t n;

        if (formats[i].compatibility > work.library)
                return false;
        ck_assert(page_format_init(&s->format, formats[i].compatibility, formats[i].size));
        unlink(path);
        db = cipher_open(&work, 0, cipher_format(&work, formats[i].compatibility, formats[i].size));
        cipher_fill(db, 200);
        sqlite3_close(db);
        s->data = cipher_read_file(path, &n);
        ck_assert_uint_eq(n % s->format.size, 0);
        s->n = (uint32_t)(n / s->format.size);
        ck_assert_uint_ge(s->n, 2);
        for (size_t k = 0; k < 2; k++)
                ck_assert_int_eq(page_key_new(&s->keys[k], &s->format, work.keys[k].secret, s->data), 0);
        return true;
}

static void sample_deinit(struct sample *s)
{
        page_key_free(s->keys[0]);
        page_key_free(s->keys[1]);
        free(s->data);
}

static uint8_t *sample_page(const struct sample *s, uint32_t number)
{
        return s->data + (size_t)(number - 1) * s->format.size;
}

START_TEST(every_page_of_the_library_fits_its_key_and_no_other)
{
        for (size_t i = 0; i < ELEMENTSOF(formats); i++) {
                struct sample s;

                if (!sample_init(&s, i))
                        continue;
                for (uint32_t number = 1; number <= s.n; number++) {
                        ck_assert_msg(page_fits(s.keys[0], sample_page(&s, number), number), "format %zu, page %u", i, number);
                        ck_assert(!page_fits(s.keys[1], sample_page(&s, number), number));
                        ck_assert(!page_fits(s.keys[0], sample_page(&s, number), number + 1));
                }
                sample_deinit(&s);
        }
}
END_TEST

START_TEST(a_page_with_one_bit_changed_does_not_fit)
{
        for (size_t i = 0; i < ELEMENTSOF(formats); i++) {
                struct sample s;

                if (formats[i].size > 4096 || !sample_init(&s, i))
                        continue;
                for (uint32_t number = 1; number <= 2; number++) {
                        size_t covered = s.format.size - s.format.reserve + PAGE_IV_SIZE + s.format.hmac;

                        /* All but the salt, which makes another key, and the padding. */
                        for (size_t at = number == 1 ? PAGE_SALT_SIZE : 0; at < covered; at++) {
                                sample_page(&s, number)[at] ^= 1;
                                ck_assert_msg(!page_fits(s.keys[0], sample_page(&s, number), number), "byte %zu of page %u", at, number);
                                sample_page(&s, number)[at] ^= 1;
                        }
                        for (size_t at = covered; at < s.format.size; at++)
                                sample_page(&s, number)[at] ^= 1;
                        ck_assert(page_fits(s.keys[0], sample_page(&s, number), number));
                }
                sample_deinit(&s);
        }
}
END_TEST

START_TEST(a_decrypted_first_page_is_sqlites_own)
{
        for (size_t i = 0; i < ELEMENTSOF(formats); i++) {
                struct sample s;
                uint8_t *page;

                if (!sample_init(&s, i))
                        continue;
                page = s.data;
                ck_assert_int_eq(page_decrypt(s.keys[0], page, 1), 0);
                /* Offsets of the database header: page size, where 1 stands for 65,536; reserved bytes, of which
                 * SQLCipher 4 leaves its own number in a file of format 3; the constants 64, 32, 32. */
                ck_assert_uint_eq(bytes_get_u16(page + 16), s.format.size == 65536 ? 1 : s.format.size);
                ck_assert_uint_ge(page[20], s.format.reserve);
                ck_assert(page[21] == 64 && page[22] == 32 && page[23] == 32);
                sample_deinit(&s);
        }
}
END_TEST

START_TEST(the_library_reads_what_was_encrypted_here)
{
        for (size_t i = 0; i < ELEMENTSOF(formats); i++) {
                struct sample s;
                sqlite3 *db;

                if (!sample_init(&s, i))
                        continue;
                for (uint32_t number = 1; number <= s.n; number++) {
                        ck_assert_int_eq(page_decrypt(s.keys[0], sample_page(&s, number), number), 0);
                        ck_assert_int_eq(page_encrypt(s.keys[1], sample_page(&s, number), number), 0);
                        ck_assert(page_fits(s.keys[1], sample_page(&s, number), number));
                        ck_assert(!page_fits(s.keys[0], sample_page(&s, number), number));
                }
                cipher_write_file(path, s.data, (size_t)s.n * s.format.size);
                db = cipher_open(&work, 1, cipher_format(&work, formats[i].compatibility, formats[i].size));
                ck_assert_int_eq(cipher_value(db, "SELECT count(*) FROM t"), 200);
                sqlite3_close(db);
                sample_deinit(&s);
        }
}
END_TEST

START_TEST(no_iv_is_used_twice)
{
        struct sample s;
        uint8_t *first, *second, iv[PAGE_IV_SIZE];

        ck_assert(sample_init(&s, 0));
        first = sample_page(&s, 2);
        ck_assert_int_eq(page_decrypt(s.keys[0], first, 2), 0);
        ck_assert_int_eq(page_encrypt(s.keys[0], first, 2), 0);
        second = first + s.format.size - s.format.reserve;
        memcpy(iv, second, sizeof(iv));
        ck_assert_int_eq(page_decrypt(s.keys[0], first, 2), 0);
        ck_assert_int_eq(page_encrypt(s.keys[0], first, 2), 0);
        ck_assert(!bytes_equal((struct bytes){ iv, sizeof(iv) }, (struct bytes){ second, sizeof(iv) }));
        sample_deinit(&s);
}
END_TEST

START_TEST(a_page_of_zeros_is_told_from_all_others)
{
        struct page_format format;
        uint64_t words[512] = { 0 };
        uint8_t *page = (uint8_t *)words;

        ck_assert(page_format_init(&format, 4, 0));
        ck_assert(page_is_zero(&format, page));
        for (size_t i = 0; i < format.size; i++) {
                page[i] = 0x80;
                ck_assert(!page_is_zero(&format, page));
                page[i] = 0;
        }
}
END_TEST

START_TEST(formats_that_do_not_exist_are_refused)
{
        struct page_format format;

        ck_assert(!page_format_init(&format, 2, 0));
        ck_assert(!page_format_init(&format, 5, 4096));
        ck_assert(!page_format_init(&format, 4, 512));
        ck_assert(!page_format_init(&format, 4, 131072));
        ck_assert(!page_format_init(&format, 4, 1000));
        ck_assert(page_format_init(&format, 3, 0));
        ck_assert_uint_eq(format.size, 1024);
        ck_assert_uint_eq(format.reserve, 48);
        ck_assert(page_is_lock(&format, 0x40000000 / 1024 + 1));
        ck_assert(!page_is_lock(&format, 0x40000000 / 1024));
        ck_assert(page_format_init(&format, 4, 0));
        ck_assert_uint_eq(format.size, 4096);
        ck_assert_uint_eq(format.reserve, 80);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { every_page_of_the_library_fits_its_key_and_no_other },
                { a_page_with_one_bit_changed_does_not_fit },
                { a_decrypted_first_page_is_sqlites_own },
                { the_library_reads_what_was_encrypted_here },
                { no_iv_is_used_twice },
                { a_page_of_zeros_is_told_from_all_others },
                { formats_that_do_not_exist_are_refused },
        };

        return suite_run("page", setup, teardown, promises, ELEMENTSOF(promises));
}
