/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkm-rekey: one step of one operation on one database, in a process of its own, because what SQLCipher does to a file can be trusted only
 * when another process has looked at it, and because the keys that SQLCipher and libcrypto leave in memory go with this process.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/handle.h"
#include "client/rekey/meter.h"
#include "client/rekey/paths.h"
#include "client/rekey/work.h"
#include "common/harden.h"

enum {
        /* For each key itself and the HMAC key made of it, in two formats; and a few. */
        ARENA_SMALL = 3 * REKEY_KEYS_MAX + 8,
        ARENA_LARGE = 2, /* a key as text */
};

static const struct command {
        const char *name;
        bool target;          /* whether TARGET has to be there; salvage may go without */
        unsigned min, max;    /* keys */
        int (*run)(struct work *work);
} commands[] = {
        { "check", false, 1, 1, check_run },
        { "rekey", false, 2, 2, rekey_run },
        { "probe", false, 1, REKEY_KEYS_MAX, probe_run },
        { "salvage", false, 1, REKEY_KEYS_MAX, salvage_run },
        { "export", true, 1, 1, export_run },
};

static const char help[] = "Usage: lkm-rekey COMMAND DATABASE [TARGET]\n"
                           "\n"
                           "One step of changing a database's key. Started by lkmctl and by programs that use liblkm, which hand the keys over in\n"
                           "a pipe; not for people. Commands: check, rekey, probe, salvage, export.\n"
                           "\n"
                           "Options:\n"
                           "  --help     Print this and exit\n"
                           "  --version  Print the version and exit\n";

static const struct command *command_find(int argc, char **argv)
{
        for (size_t i = 0; argc >= 3 && argc <= 4 && i < ELEMENTSOF(commands); i++) {
                const struct command *command = &commands[i];
                bool salvage = command->run == salvage_run;

                if (strcmp(argv[1], command->name) == 0 && (argc == 4 ? command->target || salvage : !command->target))
                        return command;
        }
        return NULL;
}

static void *crypto_malloc(size_t n, const char *file, int line)
{
        return secret_malloc(n);
}

static void *crypto_realloc(void *p, size_t n, const char *file, int line)
{
        return secret_realloc(p, n);
}

static void crypto_free(void *p, const char *file, int line)
{
        secret_free(p);
}

static int start(void)
{
        const char *why;
        int r = harden_process();

        if (r < 0)
                return answer_refuse(LKM_E_IO, "The process could not be hardened (%s). Look for a sandbox that forbids prctl(2).",
                                     strerrordesc_np(-r));
        /* A write over the limit on a file's size is an error that is told, and not the end. */
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN);
        if (CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1)
                return answer_refuse(LKM_E_NO_MEMORY, "libcrypto was in use before its memory could be set up. Reinstall lkm.");
        r = secret_arena_init(ARENA_SMALL, ARENA_LARGE, 0, &why);
        return r < 0 ? answer_refuse(LKM_E_MEMLOCK, "%s", why) : 0;
}

static int run(const struct command *command, struct work *work)
{
        int r = start();

        if (r == 0)
                r = work_read(work, STDIN_FILENO);
        if (r == 0 && (work->job.n_keys < command->min || work->job.n_keys > command->max))
                r = answer_refuse(LKM_E_ARGUMENT, "lkm-rekey %s was given %u keys. See to it that lkm's parts are of one version.",
                                  command->name, work->job.n_keys);
        if (r == 0) {
                int found = paths_resolve(&work->path, work->database);

                if (found < 0)
                        r = answer_refuse(LKM_E_IO, "%s could not be found: %s. Check the path.", work->database, strerrordesc_np(-found));
        }
        if (r == 0)
                r = handle_library(&work->library);
        if (r == 0)
                r = meter_register();
        return r == 0 ? command->run(work) : r;
}

int main(int argc, char **argv)
{
        const struct command *command = command_find(argc, argv);
        struct work work = { 0 };
        int r;

        if (argc == 2 && strcmp(argv[1], "--version") == 0)
                return puts("lkm-rekey " LKM_VERSION) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        if (argc == 2 && strcmp(argv[1], "--help") == 0)
                return fputs(help, stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        if (!command || !*argv[2]) {
                fputs("lkm-rekey: wrong arguments. Use `lkmctl rotate`, `recover`, `salvage` or `adopt`, which start it; --help says more.\n", stderr);
                return 2;
        }
        work.database = argv[2];
        work.target = argc == 4 ? argv[3] : NULL;
        r = run(command, &work);
        answer_end(r);
        work_deinit(&work);
        return r ? EXIT_FAILURE : EXIT_SUCCESS;
}
