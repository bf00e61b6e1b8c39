/* SPDX-License-Identifier: Apache-2.0 */
/* load DATABASE: ask for its key in several threads, half of them on a connection that they keep and half on a new one each time, until standard
 * input ends. Prints "ready" when each thread has got the key once, and at the end what came of it as JSON. */
#include <lkm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 4 };

static atomic_bool ending;
static atomic_ulong n_requests, n_failed;
static atomic_uint n_ready;
static pthread_mutex_t first_lock = PTHREAD_MUTEX_INITIALIZER;
static char first[512]; /* failure */
static const char *database;

static void failed(int error, const char *kind, const char *message)
{
        atomic_fetch_add(&n_failed, 1);
        pthread_mutex_lock(&first_lock);
        if (!first[0]) {
                snprintf(first, sizeof(first), "%s connection: %s: %s", kind, lkm_error_name(error), message);
                for (char *c = first; *c; c++) {
                        if (*c == '"' || *c == '\\' || *c == '\n')
                                *c = ' ';
                }
        }
        pthread_mutex_unlock(&first_lock);
}

static void *ask(void *userdata)
{
        const struct lkm_options options = { .software = "lkm-load" };
        bool keeps = userdata != NULL, ready = false;
        struct lkm *lkm = NULL;

        while (!atomic_load(&ending)) {
                struct lkm_key *key = NULL;
                int r = lkm ? 0 : lkm_connect(&lkm, &options);

                if (r == 0)
                        r = lkm_load(lkm, database, NULL, &key);
                atomic_fetch_add(&n_requests, 1);
                if (r)
                        failed(r, keeps ? "kept" : "new", lkm_error_message(lkm));
                else if (!ready && atomic_fetch_add(&n_ready, 1) + 1 == THREADS) {
                        puts("ready");
                        fflush(stdout);
                }
                ready = ready || !r;
                lkm_key_free(&key);
                if (!keeps)
                        lkm_free(&lkm);
        }
        lkm_free(&lkm);
        return NULL;
}

int main(int argc, char **argv)
{
        pthread_t threads[THREADS];

        if (argc != 2) {
                fputs("Usage: lkm-load DATABASE\n", stderr);
                return 2;
        }
        database = argv[1];
        for (size_t i = 0; i < THREADS; i++) {
                if (pthread_create(&threads[i], NULL, ask, i % 2 ? &threads : NULL) != 0)
                        return 1;
        }
        while (getchar() != EOF) {
                /* the test says when */
        }
        atomic_store(&ending, true);
        for (size_t i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        printf("{\"requests\": %lu, \"failed\": %lu, \"first\": \"%s\"}\n", atomic_load(&n_requests), atomic_load(&n_failed), first);
        return 0;
}
