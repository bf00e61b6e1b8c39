/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkm-run: starts lkmd and lkm-kms without systemd, by the same socket hand-over. It holds no key, and does not call
 * harden_process(): COMMAND would inherit the limits, and could not run sudo.
 */
#include <errno.h>
#include <getopt.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "daemon/config.h"
#include "daemon/listen.h"
#include "daemon/run/dev.h"
#include "daemon/run/supervisor.h"

enum { STATUS_OWN_FAILURE = 125 }; /* with COMMAND, as env(1) and timeout(1) have it */

struct arguments {
        const char *config_path;
        bool dev;
        char *const *command; /* or NULL */
};

/* ---- where the daemons are ---- */

/* Return: path to release with free(), or NULL, having logged why. */
static char *program_find(const char *name)
{
        /* Beside lkm-run; where the build puts them; where they are installed. */
        static const struct {
                bool is_relative;
                const char *directory;
        } places[] = {
                { true, "." },
                { true, ".." },
                { true, "../kms" },
                { false, LKM_SBINDIR },
                { false, LKM_LIBEXECDIR },
                { false, LKM_BINDIR },
        };
        _cleanup_(freep) char *own = realpath("/proc/self/exe", NULL);
        char *slash = own ? strrchr(own, '/') : NULL;
        char *path;

        if (!slash) {
                log_error("cannot tell where lkm-run lies: %s. Mount /proc", strerror(errno));
                return NULL;
        }
        *slash = '\0';
        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                struct stat st;

                if (asprintf(&path, "%s%s%s/%s", places[i].is_relative ? own : "", places[i].is_relative ? "/" : "",
                             places[i].directory, name) < 0)
                        return NULL;
                if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0)
                        return path;
                free(path);
        }
        log_error("cannot find %s beside lkm-run in %s, nor in " LKM_SBINDIR ". Install lkm whole", name, own);
        return NULL;
}

/* ---- sockets ---- */

/* Make the last part of the socket's directory, as systemd or tmpfiles would. */
static void make_parent(const char *path)
{
        _cleanup_(freep) char *directory = strdup(path);
        char *slash = directory ? strrchr(directory, '/') : NULL;
        mode_t mask;

        if (!slash || slash == directory)
                return;
        *slash = '\0';
        mask = umask(022);
        mkdir(directory, 0755); /* fails mostly because it is there; listen_bind() says when it is not */
        umask(mask);
}

static int bind_socket(int *ret_fd, const char *path, mode_t mode)
{
        int r;

        make_parent(path);
        r = listen_bind(ret_fd, path, mode);
        if (r == -EADDRINUSE)
                log_error("%s is already served, by another lkm-run or by systemd. Use that one, or end it first",
                          path);
        else if (r < 0)
                log_error("cannot listen on %s: %s. Check that its folder exists and is yours", path, strerror(-r));
        return r;
}

/* ---- all together ---- */

static int run(const struct config *config, const char *config_path, char *const *command, const char *lkmd_program,
               const char *kms_program, const sigset_t *mask)
{
        _cleanup_(closep) int lkmd_fd = -1;
        _cleanup_(closep) int admin_fd = -1;
        _cleanup_(closep) int kms_fd = -1;
        struct supervisor_options options = { .lkmd_program = lkmd_program,
                                              .kms_program = kms_program,
                                              .config_path = config_path,
                                              .socket_path = config->socket,
                                              .admin_socket_path = config->admin_socket,
                                              .command = command,
                                              .mask = mask };
        int r = bind_socket(&lkmd_fd, config->socket, (mode_t)config->socket_mode);

        if (r < 0)
                return r;
        if (config->admin_socket)
                r = bind_socket(&admin_fd, config->admin_socket, (mode_t)config->admin_socket_mode);
        if (r == 0)
                r = bind_socket(&kms_fd, config->kms_socket, 0600);
        if (r == 0) {
                options.lkmd_fd = lkmd_fd;
                options.admin_fd = admin_fd;
                options.kms_fd = kms_fd;
                r = supervisor_run(&options);
                unlink(config->kms_socket);
        }
        if (admin_fd >= 0)
                unlink(config->admin_socket);
        unlink(config->socket);
        return r;
}

static int prepare_and_run(const struct arguments *a, const sigset_t *mask)
{
        _cleanup_(freep) char *lkmd_program = program_find("lkmd");
        _cleanup_(freep) char *kms_program = lkmd_program ? program_find("lkm-kms") : NULL;
        _cleanup_(freep) char *dev_path = NULL;
        _cleanup_(freep) char *config_path = NULL;
        _cleanup_(config_unrefp) struct config *config = NULL;
        struct config_error error;
        int r;

        if (!kms_program)
                return -ENOENT;
        if (a->dev) {
                r = dev_prepare(kms_program, &dev_path);
                if (r < 0)
                        return r;
        }
        config_path = realpath(a->dev ? dev_path : a->config_path, NULL);
        if (!config_path) {
                r = -errno;
                log_error("cannot read %s: %s. Name another with --config, or use --dev",
                          a->dev ? dev_path : a->config_path, strerror(-r));
                return r;
        }
        r = config_read(&config, config_path, &error);
        if (r < 0) {
                log_error("%s", r == -ENOMEM ? "out of memory" : error.text);
                return r;
        }
        return run(config, config_path, a->command, lkmd_program, kms_program, mask);
}

static void usage(FILE *out)
{
        fputs("Usage: lkm-run [--dev | --config FILE] [--] [COMMAND [ARGUMENT]...]\n"
              "Run lkmd and lkm-kms without systemd: in the foreground, or for as long as COMMAND runs.\n"
              "\n"
              "  --dev          private configuration, KEK, audit log and sockets in your XDG directories, made when missing\n"
              "  --config FILE  configuration (default /etc/lkm/lkmd.conf, with FILE.d/*.conf)\n"
              "  --version      print the version and exit\n"
              "  --help         print this text and exit\n"
              "\n"
              "COMMAND runs with LKM_SOCKET set, and with LKM_ADMIN_SOCKET where admin_socket is configured. The exit status is\n"
              "COMMAND's, or 128 + the signal that ended it; 126 when it cannot be run, 127 when it is not found, 125 when lkm-run\n"
              "itself failed.\n"
              "Signals: HUP reloads, USR1 wipes all keys, TERM and INT end (with COMMAND they are passed to it).\n"
              "See lkm-run(1).\n",
              out);
}

/* Return: 0 to go on, else the exit status plus 1. */
static int parse_arguments(struct arguments *a, int argc, char **argv)
{
        static const struct option options[] = { { "config", required_argument, NULL, 'c' },
                                                 { "dev", no_argument, NULL, 'd' },
                                                 { "version", no_argument, NULL, 'v' },
                                                 { "help", no_argument, NULL, 'h' },
                                                 { 0 } };
        int option;

        /* "+": options after COMMAND are its own. */
        while ((option = getopt_long(argc, argv, "+", options, NULL)) >= 0) {
                switch (option) {
                case 'c':
                        a->config_path = optarg;
                        break;
                case 'd':
                        a->dev = true;
                        break;
                case 'v':
                        puts("lkm-run " LKM_VERSION);
                        return 1 + EXIT_SUCCESS;
                case 'h':
                        usage(stdout);
                        return 1 + EXIT_SUCCESS;
                default:
                        usage(stderr);
                        return 1 + 2;
                }
        }
        if (a->dev && a->config_path) {
                usage(stderr);
                return 1 + 2;
        }
        if (!a->config_path)
                a->config_path = "/etc/lkm/lkmd.conf";
        a->command = optind < argc ? argv + optind : NULL;
        return 0;
}

int main(int argc, char **argv)
{
        struct arguments arguments = { 0 };
        sigset_t mask;
        int r;

        log_init("lkm-run", LOG_LEVEL_INFO);
        r = parse_arguments(&arguments, argc, argv);
        if (r > 0)
                return r - 1;
        r = supervisor_block_signals(&mask);
        if (r < 0)
                log_error("cannot block signals: %s", strerror(-r));
        else
                r = prepare_and_run(&arguments, &mask);
        if (r >= 0)
                return r;
        return arguments.command ? STATUS_OWN_FAILURE : EXIT_FAILURE;
}
