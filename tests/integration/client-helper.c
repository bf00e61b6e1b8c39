/* SPDX-License-Identifier: Apache-2.0 */
/* client-helper: an application of liblkm and lkm-sqlcipher, as their manuals say, for the integration tests. Each command prints what
 * came of it; an error as its name and, on the next line, its sentence. */
#define SQLITE_HAS_CODEC 1
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lkm-sqlcipher.h"

enum { ASYNC_MAX = 128, THREADS = 24, LOADS = 40 };

static int say(int error, const char *message)
{
        printf("%s\n%s\n", lkm_error_name(error), message);
        fflush(stdout);
        return error ? 1 : 0;
}

static void wait_for_line(const char *text)
{
        printf("%s\n", text);
        fflush(stdout);
        while (getchar() != '\n' && !feof(stdin)) {
                /* the test goes on when it likes */
        }
}

static void must(int error, const struct lkm *lkm)
{
        if (error)
                exit(say(error, lkm_error_message(lkm)));
}

static int print_row(void *userdata, int n, char **values, char **names)
{
        (void)userdata;
        (void)names;
        for (int i = 0; i < n; i++)
                printf("%s%s", i ? "|" : "", values[i] ? values[i] : "NULL");
        putchar('\n');
        return 0;
}

/* open FLAGS TIMEOUT-MSEC DB SQL [hold]; the deadline is that of the database alone, 0: the default of everything */
static int command_open(char **a)
{
        struct lkm_sqlcipher_options options = { .timeout_msec = (uint32_t)strtoul(a[1], NULL, 10) };
        char *error = NULL;
        sqlite3 *db;
        int r;

        if (options.timeout_msec)
                must(lkm_connect(&options.lkm, NULL), options.lkm);
        r = lkm_sqlcipher_open(a[2], (int)strtol(a[0], NULL, 10), &options, &db);
        lkm_free(&options.lkm);
        if (r)
                return say(r, lkm_sqlcipher_message());
        if (sqlite3_exec(db, a[3], print_row, NULL, &error) != SQLITE_OK) {
                printf("SQL\n%s\n", error);
                sqlite3_free(error);
                sqlite3_close(db);
                return 1;
        }
        if (a[4])
                wait_for_line("holding");
        return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}

/* A second connection must not cost the first one its locks (POSIX locks end with any close of the file). */
static int command_locks(char **a)
{
        sqlite3 *first, *second = NULL;
        struct lkm_sqlcipher_options options = { .timeout_msec = 1 };
        int r;

        must(lkm_connect(&options.lkm, NULL), options.lkm);
        r = lkm_sqlcipher_open(a[0], LKM_OPEN_CREATE, NULL, &first);
        if (r)
                return say(r, lkm_sqlcipher_message());
        sqlite3_exec(first, "CREATE TABLE IF NOT EXISTS t(x); BEGIN IMMEDIATE", NULL, NULL, NULL);
        r = lkm_sqlcipher_open(a[0], 0, &options, &second);
        lkm_free(&options.lkm);
        printf("%s\n", lkm_error_name(r));
        wait_for_line("holding");
        sqlite3_close(second);
        return sqlite3_exec(first, "COMMIT", NULL, NULL, NULL) == SQLITE_OK && sqlite3_close(first) == SQLITE_OK ? 0
                                                                                                                 : 1;
}

static void print_id(const struct lkm_key *key)
{
        struct lkm_key_info info;

        lkm_key_info(key, &info);
        for (size_t i = 0; i < sizeof(info.database_id); i++)
                printf("%02x", info.database_id[i]);
        printf(" %s %u\n", info.scope, (unsigned)info.version);
}

/* get-or-create DB [SCOPE] */
static int command_get_or_create(char **a)
{
        struct lkm_create_options options = { .scope = a[1] };
        struct lkm *lkm = NULL;
        struct lkm_key *key;

        must(lkm_connect(&lkm, NULL), lkm);
        must(lkm_get_or_create(lkm, a[0], &options, &key), lkm);
        print_id(key);
        lkm_key_free(&key);
        lkm_free(&lkm);
        return 0;
}

/* reconnect DB: load, wait for a line, load again on the same handle */
static int command_reconnect(char **a)
{
        struct lkm *lkm = NULL;
        struct lkm_key *key;

        must(lkm_connect(&lkm, NULL), lkm);
        must(lkm_load(lkm, a[0], NULL, &key), lkm);
        lkm_key_free(&key);
        wait_for_line("loaded");
        must(lkm_load(lkm, a[0], NULL, &key), lkm);
        print_id(key);
        lkm_key_free(&key);
        lkm_free(&lkm);
        return 0;
}

/* ping TIMEOUT-MSEC */
static int command_ping(char **a)
{
        struct lkm_options options = { .timeout_msec = (uint32_t)strtoul(a[0], NULL, 10) };
        struct lkm *lkm = NULL;
        int r = lkm_connect(&lkm, &options);

        if (r == 0)
                r = lkm_ping(lkm);
        r = say(r, lkm_error_message(lkm));
        lkm_free(&lkm);
        return r;
}

/* ---- asynchronous ---- */

struct answers {
        unsigned n;
        int error;
        struct lkm_key *keys[ASYNC_MAX];
};

static void answered(void *userdata, int error, const char *message, struct lkm_key *key)
{
        struct answers *answers = userdata;

        if (error && !answers->error) {
                answers->error = error;
                say(error, message);
        }
        answers->keys[answers->n++] = key;
}

static bool same_key(struct lkm_key *a, struct lkm_key *b)
{
        const uint8_t *left, *right;
        size_t n_left, n_right;
        bool same = true;

        if (lkm_key_view_begin(a, LKM_FORMAT_RAW, &left, &n_left) ||
            lkm_key_view_begin(b, LKM_FORMAT_RAW, &right, &n_right))
                return false;
        for (size_t i = 0; i < n_left; i++)
                same = same && left[i] == right[i];
        lkm_key_view_end(a, &left);
        lkm_key_view_end(b, &right);
        return same && n_left == n_right;
}

/* async N DB: N loads at once in an event loop */
static int command_async(char **a)
{
        unsigned n = (unsigned)strtoul(a[0], NULL, 10);
        struct answers answers = { 0 };
        struct lkm *lkm = NULL;
        int r = 0;

        must(lkm_connect(&lkm, NULL), lkm);
        for (unsigned i = 0; i < n && n <= ASYNC_MAX; i++)
                must(lkm_load_begin(lkm, a[1], NULL, answered, &answers), lkm);
        if (lkm_ping(lkm) != LKM_E_BUSY)
                return 1;
        while (answers.n < n && r == 0) {
                struct pollfd p = { .fd = lkm_fd(lkm), .events = lkm_events(lkm) };

                poll(&p, 1, lkm_timeout_msec(lkm));
                r = lkm_dispatch(lkm);
        }
        for (unsigned i = 1; i < answers.n && !answers.error; i++) {
                if (!same_key(answers.keys[0], answers.keys[i]))
                        return 1;
        }
        printf("%u answers\n", answers.n);
        if (!answers.error && lkm_ping(lkm) != 0)
                return 1;
        for (unsigned i = 0; i < answers.n; i++)
                lkm_key_free(&answers.keys[i]);
        lkm_free(&lkm);
        return answers.error ? 1 : 0;
}

/* ---- forks and threads ---- */

/* What a child leaves as it is, kept in sight of leak checkers. */
static struct lkm *volatile kept;

static int in_child(struct lkm *lkm, struct lkm_key *key, const char *path)
{
        struct lkm *own = NULL;
        struct lkm_key *other = NULL;
        const uint8_t *bytes;
        size_t n;
        bool refused = lkm_load(lkm, path, NULL, &other) == LKM_E_FORKED && lkm_ping(lkm) == LKM_E_FORKED &&
                       lkm_dispatch(lkm) == LKM_E_FORKED && lkm_connect(&own, NULL) == LKM_E_FORKED &&
                       lkm_key_view_begin(key, LKM_FORMAT_RAW, &bytes, &n) == LKM_E_FORKED;

        kept = lkm;
        lkm_key_free(&key);
        lkm_free(&lkm);
        return refused ? 0 : 1;
}

/* fork DB */
static int command_fork(char **a)
{
        struct lkm *lkm = NULL;
        struct lkm_key *key, *again;
        int status;
        pid_t child;

        must(lkm_connect(&lkm, NULL), lkm);
        must(lkm_load(lkm, a[0], NULL, &key), lkm);
        child = fork();
        if (child == 0)
                _exit(in_child(lkm, key, a[0]));
        if (waitpid(child, &status, 0) != child || status != 0)
                return 1;
        must(lkm_load(lkm, a[0], NULL, &again), lkm); /* the parent goes on as before */
        if (!same_key(key, again))
                return 1;
        lkm_key_free(&key);
        lkm_key_free(&again);
        lkm_free(&lkm);
        return 0;
}

/* handles DB: more idle ones than the arena has slots for frames, and their keys */
static int command_handles(char **a)
{
        struct lkm *lkms[THREADS] = { 0 };
        struct lkm_key *keys[THREADS];

        for (int i = 0; i < THREADS; i++) {
                must(lkm_connect(&lkms[i], NULL), NULL);
                must(lkm_ping(lkms[i]), lkms[i]);
                must(lkm_load(lkms[i], a[0], NULL, &keys[i]), lkms[i]);
        }
        for (int i = 0; i < THREADS; i++) {
                if (!same_key(keys[0], keys[i ? i : 1]))
                        return 1;
        }
        for (int i = 0; i < THREADS; i++) {
                lkm_key_free(&keys[i]);
                lkm_free(&lkms[i]);
        }
        return 0;
}

static void *thread_main(void *path)
{
        struct lkm *lkm = NULL;
        struct lkm_key *key;
        const uint8_t *bytes;
        size_t n;

        must(lkm_connect(&lkm, NULL), lkm);
        for (int i = 0; i < LOADS; i++) {
                must(lkm_load(lkm, path, NULL, &key), lkm);
                must(lkm_key_view_begin(key, LKM_FORMAT_RAW, &bytes, &n), lkm);
                lkm_key_view_end(key, &bytes);
                lkm_key_free(&key);
        }
        lkm_free(&lkm);
        return NULL;
}

/* threads DB: more of them than the arena has slots for frames */
static int command_threads(char **a)
{
        pthread_t threads[THREADS];

        for (int i = 0; i < THREADS; i++) {
                if (pthread_create(&threads[i], NULL, thread_main, a[0]) != 0)
                        return 1;
        }
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        return 0;
}

/* ---- rotation ---- */

/** What the callback of a rotation does: nothing but tell, wait for a line, or cancel, when a phase begins or is half done. */
struct watch {
        unsigned phase; /* the last that was told */
        const char *what;
        unsigned at;
        bool acted;
        unsigned calls;
        uint64_t done, total;
};

static int watch_progress(void *userdata, const struct lkm_progress *progress)
{
        struct watch *w = userdata;

        if (w->phase != (unsigned)progress->phase)
                printf("phase %u\n", (unsigned)progress->phase);
        if (w->phase > (unsigned)progress->phase || progress->done > progress->total ||
            (w->phase == (unsigned)progress->phase && progress->total == w->total && progress->done < w->done))
                printf("backwards\n");
        w->phase = (unsigned)progress->phase;
        w->done = progress->done;
        w->total = progress->total;
        fflush(stdout);
        if (w->acted || !w->what || w->at != w->phase)
                return 0;
        if (strcmp(w->what, "tick") == 0) {
                printf("tick\n");
                fflush(stdout);
                return 0;
        }
        if (strcmp(w->what, "half") == 0 && progress->done * 2 < progress->total + 1)
                return 0;
        /* At the third call: in the middle of something. */
        if (strcmp(w->what, "late") == 0 && ++w->calls < 3)
                return 0;
        w->acted = true;
        if (strcmp(w->what, "late") == 0) {
                printf("cancelled\n");
                fflush(stdout);
        }
        if (strcmp(w->what, "hold") == 0)
                wait_for_line("holding");
        return strcmp(w->what, "hold") == 0 ? 0 : 1;
}

/* rotate TIMEOUT-MSEC DB [hold|cancel|half|late|tick PHASE] */
static int command_rotate(char **a)
{
        struct watch watch = { .what = a[2], .at = a[2] && a[3] ? (unsigned)strtoul(a[3], NULL, 10) : 0 };
        struct lkm_rotate_options options = { .progress = watch_progress,
                                              .userdata = &watch,
                                              .timeout_msec = (uint32_t)strtoul(a[0], NULL, 10) };
        struct lkm *lkm = NULL;
        int r;

        must(lkm_connect(&lkm, NULL), lkm);
        r = lkm_rotate(lkm, a[1], &options);
        r = say(r, r ? lkm_error_message(lkm) : "");
        lkm_free(&lkm);
        return r;
}

/* rotate-own DB: while this process has it open, in a transaction, and again when it was closed */
static int command_rotate_own(char **a)
{
        struct lkm_rotate_options options = { .timeout_msec = 1 };
        struct lkm *lkm = NULL;
        sqlite3 *db;
        int r = lkm_sqlcipher_open(a[0], 0, NULL, &db);

        if (r)
                return say(r, lkm_sqlcipher_message());
        must(lkm_connect(&lkm, NULL), lkm);
        sqlite3_exec(db, "BEGIN IMMEDIATE; INSERT INTO t VALUES('own')", NULL, NULL, NULL);
        r = lkm_rotate(lkm, a[0], &options);
        say(r, lkm_error_message(lkm));
        if (sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK || sqlite3_close(db) != SQLITE_OK)
                return 1;
        r = lkm_rotate(lkm, a[0], NULL);
        r = say(r, r ? lkm_error_message(lkm) : "");
        lkm_free(&lkm);
        return r;
}

/* recover TIMEOUT-MSEC DB */
static int command_recover(char **a)
{
        static const char *const names[] = { "NOTHING", "FINISHED", "UNDONE" };
        struct lkm_rotate_options options = { .timeout_msec = (uint32_t)strtoul(a[0], NULL, 10) };
        enum lkm_recovery recovery;
        struct lkm *lkm = NULL;

        must(lkm_connect(&lkm, NULL), lkm);
        must(lkm_recover(lkm, a[1], &options, &recovery), lkm);
        puts(names[recovery]);
        lkm_free(&lkm);
        return 0;
}

/* needs DB */
static int command_needs(char **a)
{
        struct lkm *lkm = NULL;
        int needed;

        must(lkm_connect(&lkm, NULL), lkm);
        must(lkm_needs_rotation(lkm, a[0], &needed), lkm);
        printf("%d\n", needed);
        lkm_free(&lkm);
        return 0;
}

/* load DB [SCOPE [TIMEOUT-MSEC]]: the version, and that of a rotation which has not ended */
static int command_load(char **a)
{
        struct lkm_options connect = { .timeout_msec = a[1] && a[2] ? (uint32_t)strtoul(a[2], NULL, 10) : 0 };
        struct lkm_key_info info;
        struct lkm *lkm = NULL;
        struct lkm_key *key;

        must(lkm_connect(&lkm, &connect), lkm);
        must(lkm_load(lkm, a[0], a[1] && *a[1] ? a[1] : NULL, &key), lkm);
        lkm_key_info(key, &info);
        printf("%u %u\n", (unsigned)info.version, (unsigned)info.pending);
        lkm_key_free(&key);
        lkm_free(&lkm);
        return 0;
}

/* load-version DB VERSION FILE SQL: a file, such as a backup, under that key of the database */
static int command_load_version(char **a)
{
        struct lkm_key_info info;
        struct lkm *lkm = NULL;
        struct lkm_key *key;
        const uint8_t *text;
        sqlite3 *db;
        size_t n;
        int code;

        must(lkm_connect(&lkm, NULL), lkm);
        must(lkm_load_version(lkm, a[0], (uint32_t)strtoul(a[1], NULL, 10), &key), lkm);
        lkm_key_info(key, &info);
        must(lkm_key_view_begin(key, LKM_FORMAT_PRAGMA, &text, &n), NULL);
        if (sqlite3_open(a[2], &db) != SQLITE_OK || sqlite3_key(db, text, (int)n) != SQLITE_OK)
                return 1;
        lkm_key_view_end(key, &text);
        code = sqlite3_exec(db, a[3], print_row, NULL, NULL);
        if (code != SQLITE_OK)
                printf("%s\n", sqlite3_errmsg(db));
        sqlite3_close(db);
        printf("version %u\n", (unsigned)info.version);
        lkm_key_free(&key);
        lkm_free(&lkm);
        return code == SQLITE_OK ? 0 : 1;
}

static bool hold_when_loaded;

/* Around liblkm's: between a key that was loaded and the database that is opened with it, a rotation may come and go. */
int lkm_load(struct lkm *lkm, const char *database_path, const char *scope, struct lkm_key **ret_key)
{
        int (*next)(struct lkm *, const char *, const char *, struct lkm_key **) =
                (int (*)(struct lkm *, const char *, const char *, struct lkm_key **))(uintptr_t)dlsym(RTLD_NEXT, "lkm_load");
        int r = next(lkm, database_path, scope, ret_key);

        if (hold_when_loaded) {
                hold_when_loaded = false;
                wait_for_line("loaded");
        }
        return r;
}

/* open-late FLAGS TIMEOUT-MSEC DB SQL: waits when it has the key */
static int command_open_late(char **a)
{
        hold_when_loaded = true;
        return command_open(a);
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                int n;
                int (*run)(char **arguments);
        } commands[] = {
                { "open", 4, command_open },
                { "locks", 1, command_locks },
                { "get-or-create", 1, command_get_or_create },
                { "ping", 1, command_ping },
                { "async", 2, command_async },
                { "reconnect", 1, command_reconnect },
                { "fork", 1, command_fork },
                { "threads", 1, command_threads },
                { "handles", 1, command_handles },
                { "rotate", 2, command_rotate },
                { "rotate-own", 1, command_rotate_own },
                { "recover", 2, command_recover },
                { "needs", 1, command_needs },
                { "load", 1, command_load },
                { "load-version", 4, command_load_version },
                { "open-late", 4, command_open_late },
        };

        for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++) {
                if (strcmp(commands[i].name, argv[1]) == 0 && argc - 2 >= commands[i].n)
                        return commands[i].run(argv + 2);
        }
        fputs("client-helper: wrong use\n", stderr);
        return 2;
}
