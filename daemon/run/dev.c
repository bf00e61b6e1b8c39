/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/run/dev.h"

#include <errno.h>
#include <pwd.h>
#include <spawn.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "daemon/durable.h"

extern char **environ;

struct dev_paths {
        char *config_directory, *data_directory, *state_directory, *run_directory;
        char *config, *kek;
        bool run_is_private;
};

static void dev_paths_deinit(struct dev_paths *p)
{
        free(p->config_directory);
        free(p->data_directory);
        free(p->state_directory);
        free(p->run_directory);
        free(p->config);
        free(p->kek);
}

/* An absolute path without what would need quoting in the configuration; anything else counts as not set
 * (XDG Base Directory Specification: relative paths are to be ignored). */
static const char *environment_path(const char *name)
{
        const char *value = getenv(name);

        return value && *value == '/' && !strpbrk(value, "\n\r;#\"") ? value : NULL;
}

static const char *home(void)
{
        const char *directory = environment_path("HOME");
        const struct passwd *user;

        if (directory)
                return directory;
        user = getpwuid(geteuid());
        return user ? user->pw_dir : NULL;
}

/* "$VARIABLE/lkm", or "$HOME/FALLBACK/lkm". Return: NULL when neither is known. */
static char *xdg_directory(const char *variable, const char *fallback)
{
        const char *value = environment_path(variable), *directory = home();
        char *path = NULL;

        if (value ? asprintf(&path, "%s/lkm", value) < 0
                  : !directory || asprintf(&path, "%s/%s/lkm", directory, fallback) < 0)
                return NULL;
        return path;
}

static int dev_paths_init(struct dev_paths *p)
{
        const char *runtime = environment_path("XDG_RUNTIME_DIR");
        int r;

        p->config_directory = xdg_directory("XDG_CONFIG_HOME", ".config");
        p->data_directory = xdg_directory("XDG_DATA_HOME", ".local/share");
        p->state_directory = xdg_directory("XDG_STATE_HOME", ".local/state");
        if (!p->config_directory || !p->data_directory || !p->state_directory) {
                log_error("cannot tell where your files belong. Set HOME to your home directory");
                return -ENOENT;
        }
        p->run_is_private = runtime || geteuid() != 0;
        if (runtime)
                r = asprintf(&p->run_directory, "%s/lkm", runtime);
        else if (geteuid() == 0)
                r = asprintf(&p->run_directory, "/run/lkm");
        else
                r = asprintf(&p->run_directory, "%s/run", p->state_directory);
        if (r < 0 || asprintf(&p->config, "%s/dev.conf", p->config_directory) < 0 ||
            asprintf(&p->kek, "%s/dev.kek", p->data_directory) < 0) {
                log_error("out of memory");
                return -ENOMEM;
        }
        return 0;
}

static int make_directories(const struct dev_paths *p)
{
        const struct {
                const char *path;
                mode_t mode;
        } directories[] = {
                { p->config_directory, 0700 },
                { p->data_directory, 0700 },
                { p->state_directory, 0700 },
                /* /run/lkm is where every client looks: policy decides there, not the directory. */
                { p->run_directory, p->run_is_private ? 0700 : 0755 },
        };
        mode_t mask = umask(022);
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(directories) && r == 0; i++) {
                r = durable_mkdirs(directories[i].path, directories[i].mode);
                if (r < 0)
                        log_error("cannot make the folder %s: %s", directories[i].path, strerror(-r));
        }
        umask(mask);
        return r;
}

static int make_kek(const char *kms_program, const char *path)
{
        char *const argv[] = { (char *)(unsigned long)"lkm-kms", (char *)(unsigned long)"--generate-kek",
                               (char *)(unsigned long)path, NULL };
        posix_spawn_file_actions_t actions;
        int status, r;
        pid_t pid;

        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        /* What it says goes to stderr: stdout is COMMAND's. */
        r = posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn(&pid, kms_program, &actions, NULL, argv, environ);
        posix_spawn_file_actions_destroy(&actions);
        if (r != 0) {
                log_error("cannot run %s: %s", kms_program, strerror(r));
                return -r;
        }
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        /* Two that start at once: the other one made it. */
        return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || access(path, F_OK) == 0) ? 0 : -EIO;
}

static int make_config(const struct dev_paths *p)
{
        _cleanup_(freep) char *text = NULL;
        int n, r;

        n = asprintf(&text,
                     "# Made by `lkm-run --dev` for uid %u. Change it as you like: it is kept.\n"
                     "# See lkmd.conf(5).\n"
                     "\n"
                     "[lkmd]\n"
                     "socket = %s/lkm.sock\n"
                     "socket_mode = %s\n"
                     "kms_socket = %s/kms.sock\n"
                     "audit_file = %s/audit.jsonl\n"
                     "admin = uid:%u\n"
                     "\n"
                     "[kek local]\n"
                     "kms_type = local\n"
                     "kek_file = %s\n"
                     "\n"
                     "[scope default]\n"
                     "keks = local\n"
                     "allow = uid:%u\n"
                     "allow_history = uid:%u\n",
                     geteuid(), p->run_directory, p->run_is_private ? "0600" : "0666", p->run_directory,
                     p->state_directory, geteuid(), p->kek, geteuid(), geteuid());
        if (n < 0) {
                log_error("out of memory");
                return -ENOMEM;
        }
        r = durable_write(p->config, (struct bytes){ (const uint8_t *)text, (size_t)n }, DURABLE_OWNER_SELF, false);
        if (r < 0 && r != -EEXIST) {
                log_error("cannot write %s: %s", p->config, strerror(-r));
                return r;
        }
        return 0;
}

int dev_prepare(const char *kms_program, char **ret_config_path)
{
        _cleanup_(dev_paths_deinit) struct dev_paths p = { 0 };
        int r = dev_paths_init(&p);

        if (r == 0)
                r = make_directories(&p);
        /* The KEK comes first: a configuration that exists has one. */
        if (r == 0 && access(p.config, F_OK) < 0 && access(p.kek, F_OK) < 0)
                r = make_kek(kms_program, p.kek);
        if (r == 0 && access(p.config, F_OK) < 0)
                r = make_config(&p);
        if (r == 0)
                *ret_config_path = TAKE_PTR(p.config);
        return r;
}
