/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pages of a database of any bytes, with a -wal of any bytes, against two keys. The first byte tells the format, the next two how much of the rest is the
 * database. Each page counts for one thing, and no slot stays behind. What is told goes nowhere.
 */
#include <fcntl.h>

#include "client/rekey/scan.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"

enum { N_KEYS = 2 };

static struct secret *key_new(uint8_t value)
{
        struct secret *key;
        uint8_t *view;

        check(secret_new(&key, KEY_SIZE) == 0);
        view = secret_view_begin(key);
        memset(view, value, KEY_SIZE);
        secret_view_end(key, &view);
        return key;
}

static int count(void *userdata, uint64_t first, size_t n, const uint8_t *fits, uint8_t *pages)
{
        uint64_t *next = userdata;

        check(first == *next);
        *next += n;
        for (size_t i = 0; i < n; i++)
                check(fits[i] < N_KEYS || fits[i] == SCAN_ZERO || fits[i] == SCAN_UNKNOWN);
        return 0;
}

static void scan(const struct work *work)
{
        struct image image = IMAGE_INIT;
        struct scan found = { 0 };
        uint64_t next = 1;

        if (image_open(&image, work) == 0 && scan_begin(&found, &image, work) == 0 && scan_pages(&found, &image, work, count, &next) == 0) {
                check(next == found.n_pages + 1 && found.n_pages == found.n_zero + found.n_unknown + found.n_fit[0] + found.n_fit[1]);
                check((found.n_unknown == 0) == (found.first_unknown == 0));
                check(scan_only(&found, work) < N_KEYS);
        }
        scan_deinit(&found);
        image_deinit(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        static char path[256];
        struct work_key keys[N_KEYS];
        struct bytes input = { data, n };
        uint8_t format = fuzz_byte(&input);
        size_t n_database = (size_t)fuzz_byte(&input) << 8;
        struct work work = { .database = "fuzz.db", .path = path, .job = { .compatibility = format & 1 ? 4 : 3, .n_keys = N_KEYS }, .keys = keys, .library = 4 };

        n_database |= fuzz_byte(&input);
        if (!*path) {
                int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

                check(dup2(fd, STDOUT_FILENO) >= 0);
        }
        snprintf(path, sizeof(path), "%s", scratch_write("fuzz.db", fuzz_take(&input, n_database)));
        scratch_write("fuzz.db-wal", input);
        scratch_write("fuzz.db-shm", (struct bytes){ 0 });
        check_arena();
        for (size_t i = 0; i < N_KEYS; i++)
                keys[i] = (struct work_key){ .version = (uint32_t)i + 1, .secret = key_new((uint8_t)(i + 1)) };
        scan(&work);
        for (size_t i = 0; i < N_KEYS; i++)
                secret_unref(keys[i].secret);
        check_arena();
        return 0;
}
