/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main() of a fuzz target that is not built with libFuzzer: replay CORPUS… runs the target on each file of these
 * folders; then on every prefix of it, and with each byte set to a few values that break things. Always the same inputs.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>

#include "common/cleanup.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_MAX = 128 * 1024, MUTATED_MAX = 4096 };

static size_t n_runs;

/* In a block of its own size, so that the sanitizers see a read past its end. */
static void run(const uint8_t *data, size_t n)
{
        _cleanup_(freep) uint8_t *input = malloc(n > 0 ? n : 1);

        if (!input)
                abort();
        memcpy(input, data, n);
        LLVMFuzzerTestOneInput(input, n);
        n_runs++;
}

static void run_mutated(uint8_t *data, size_t n)
{
        static const uint8_t values[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };

        for (size_t i = 0; i < n; i++) {
                uint8_t saved = data[i];

                run(data, i);
                for (size_t j = 0; j < sizeof(values); j++) {
                        data[i] = values[j];
                        run(data, n);
                }
                data[i] = (uint8_t)(saved + 1);
                run(data, n);
                data[i] = (uint8_t)(saved - 1);
                run(data, n);
                data[i] = saved;
        }
}

static int replay_file(const char *path)
{
        static uint8_t data[INPUT_MAX];
        _cleanup_(fclosep) FILE *f = fopen(path, "re");
        size_t n;

        if (!f)
                return -errno;
        n = fread(data, 1, sizeof(data), f);
        run(data, n);
        if (n <= MUTATED_MAX)
                run_mutated(data, n);
        return 0;
}

static int replay_folder(const char *folder)
{
        DIR *directory = opendir(folder);
        struct dirent *entry;
        int r = 0;

        if (!directory)
                return -errno;
        while (r == 0 && (entry = readdir(directory))) {
                char path[PATH_MAX];

                if (entry->d_name[0] == '.')
                        continue;
                snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
                r = replay_file(path);
        }
        closedir(directory);
        return r;
}

int main(int argc, char **argv)
{
        for (int i = 1; i < argc; i++) {
                int r = replay_folder(argv[i]);

                if (r < 0) {
                        fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
                        return 1;
                }
        }
        printf("%zu inputs\n", n_runs);
        return n_runs == 0;
}
