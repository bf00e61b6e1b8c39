/* SPDX-License-Identifier: Apache-2.0 */
/* lkm-kms: wraps and unwraps DEKs for lkmd. This file: options, allocators, start and end. */
#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <signal.h>
#include <systemd/sd-daemon.h>

#include "common/clock.h"
#include "common/harden.h"
#include "common/log.h"
#include "daemon/kms/http.h"
#include "daemon/kms/local-kek.h"
#include "daemon/kms/server.h"
#include "daemon/listen.h"

enum {
        ARENA_SMALL = 1024, /* KEK versions, twice during a reload, and the DEKs of calls under way */
        ARENA_LARGE = 64, /* frames being read and written */
        ARENA_BODY = 40, /* bodies of HTTP requests and answers under way: 16 full batches, and what is asked beside */
};

struct arguments {
        const char *config_path, *generate_path, *add_path, *client;
        bool check;
};

/* ---- libraries' memory: wiped when freed ---- */

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

/* Before any other call of these libraries. */
static int set_allocators(void)
{
        if (CRYPTO_set_mem_functions(crypto_malloc, crypto_realloc, crypto_free) != 1)
                return -EBUSY;
        json_set_alloc_funcs(secret_malloc, secret_free);
        event_set_mem_functions(secret_malloc, secret_realloc, secret_free);
        return http_global_init();
}

/* ---- the commands that are not the daemon ---- */

static int generate_kek(const char *path)
{
        struct sentence why;

        if (local_kek_generate(path, &why) < 0) {
                log_error("%s", why.text);
                return EXIT_FAILURE;
        }
        printf("%s: new KEK, version 1. Keep a copy in a safe place: without it no database opens.\n", path);
        return EXIT_SUCCESS;
}

static int add_kek_version(const char *path)
{
        struct sentence why;
        uint32_t number;

        if (local_kek_add_version(path, &number, &why) < 0) {
                log_error("%s", why.text);
                return EXIT_FAILURE;
        }
        printf("%s: version %u wraps from the next reload of lkm-kms on. Keep a new copy in a safe place.\n", path,
               number);
        return EXIT_SUCCESS;
}

static int check_config(const struct config *config, const char *path)
{
        static const struct kms_environment nothing;
        bool good = true;

        for (size_t i = 0; i < config->n_keks; i++) {
                const struct provider *provider = provider_find(config->keks[i].kms_type);
                struct sentence why;
                struct kek *kek;

                if (provider->kek_new(&kek, &config->keks[i], &nothing, &why) == 0) {
                        provider->kek_free(kek);
                        continue;
                }
                log_error("%s: [kek %s]: %s", path, config->keks[i].name, why.text);
                good = false;
        }
        if (good)
                printf("%s: %zu KEK%s, all usable\n", path, config->n_keks, config->n_keks == 1 ? "" : "s");
        return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- the daemon ---- */

static void on_terminate(evutil_socket_t number, short what, void *userdata)
{
        server_drain(userdata);
}

static void on_reload(evutil_socket_t number, short what, void *userdata)
{
        server_reload(userdata);
}

static void on_watchdog(evutil_socket_t fd, short what, void *userdata)
{
        sd_notify(0, "WATCHDOG=1");
}

/* Tell the service manager twice in each of its periods that the loop turns. *ret_event stays NULL where it does not ask for that. */
static int start_watchdog(struct event **ret_event, struct event_base *base)
{
        uint64_t usec = 0;
        struct timeval period;

        if (sd_watchdog_enabled(0, &usec) <= 0)
                return 0;
        usec /= 2;
        period = (struct timeval){ .tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_usec = (suseconds_t)(usec % USEC_PER_SEC) };
        *ret_event = event_new(base, -1, EV_PERSIST, on_watchdog, NULL);
        return *ret_event && event_add(*ret_event, &period) == 0 ? 0 : -ENOMEM;
}

static int serve(struct event_base *base, struct server *server)
{
        static const struct {
                int number;
                event_callback_fn handle;
        } signals[] = { { SIGTERM, on_terminate }, { SIGINT, on_terminate }, { SIGHUP, on_reload } };
        struct event *events[ELEMENTSOF(signals)] = { NULL }, *watchdog = NULL;
        int r = start_watchdog(&watchdog, base);

        for (size_t i = 0; i < ELEMENTSOF(signals) && r == 0; i++) {
                events[i] = evsignal_new(base, signals[i].number, signals[i].handle, server);
                if (!events[i] || event_add(events[i], NULL) < 0)
                        r = -ENOMEM;
        }
        if (r == 0) {
                sd_notify(0, "READY=1\nSTATUS=Serving");
                r = event_base_dispatch(base) < 0 ? -EIO : 0;
        }
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                if (events[i])
                        event_free(events[i]);
        if (watchdog)
                event_free(watchdog);
        return r;
}

/* The uid of --client's USER, a name or a number. */
static int client_find(uid_t *ret_uid, const char *user)
{
        const struct passwd *entry;
        char *end = NULL;
        unsigned long number;

        errno = 0;
        number = strtoul(user, &end, 10);
        if (*user >= '0' && *user <= '9' && !*end && errno == 0 && number < UINT32_MAX) {
                *ret_uid = (uid_t)number;
                return 0;
        }
        entry = getpwnam(user);
        if (!entry) {
                log_error("there is no user %s: let --client name the user that lkmd runs as, or give its number", user);
                return -ENOENT;
        }
        *ret_uid = entry->pw_uid;
        return 0;
}

static int run(struct config *config, const char *config_path, uid_t client_uid)
{
        struct kms_environment environment = { .base = event_base_new() };
        struct server *server = NULL;
        bool bound = false;
        int fd = -1, r;

        if (!environment.base || http_new(&environment.http, environment.base) < 0) {
                log_error("cannot make an event loop: %s", strerror(errno));
                return EXIT_FAILURE;
        }
        r = listen_socket(&fd, &bound, config->kms_socket, 0600);
        if (r < 0) {
                log_error("cannot listen on %s: %s", config->kms_socket,
                          r == -EADDRINUSE ? "another lkm-kms serves it; stop that first" : strerror(-r));
        } else {
                r = server_new(&server, &environment, config, config_path, fd, client_uid, !bound);
                if (r == 0)
                        r = serve(environment.base, server);
                if (r < 0)
                        log_error("cannot serve: %s", strerror(-r));
        }
        if (bound)
                unlink(config->kms_socket);
        if (server && server_n_calls(server) > 0) /* providers still hold what they were given: the kernel clears it */
                _exit(EXIT_FAILURE);
        server_free(server);
        http_free(environment.http);
        event_base_free(environment.base);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int with_config(const struct arguments *arguments)
{
        _cleanup_(config_unrefp) struct config *config = NULL;
        struct config_error error;
        uid_t client_uid = SERVER_CLIENT_SELF;
        int r = config_read(&config, arguments->config_path, &error);

        if (r < 0) {
                log_error("%s", r == -ENOMEM ? "out of memory" : error.text);
                return EXIT_FAILURE;
        }
        log_set_max_level(config->log_level);
        if (arguments->check)
                return check_config(config, arguments->config_path);
        if (arguments->client && client_find(&client_uid, arguments->client) < 0)
                return EXIT_FAILURE;
        return run(config, arguments->config_path, client_uid);
}

static void usage(FILE *out)
{
        fputs("Usage: lkm-kms [OPTION]...\n"
              "Wrap and unwrap the keys of lkmd under key-encryption keys (KEKs).\n"
              "\n"
              "  --config FILE           configuration (default /etc/lkm/lkmd.conf, with FILE.d/*.conf)\n"
              "  --client USER           serve USER alone, a name or number (default: root, and the user that runs lkm-kms)\n"
              "  --check-config          read the configuration and the KEKs, say what is wrong with them, and exit\n"
              "  --generate-kek FILE     make a new local KEK in FILE, which must not exist, and exit\n"
              "  --add-kek-version FILE  add a new version to the local KEK in FILE, and exit\n"
              "  --version               print the version and exit\n"
              "  --help                  print this text and exit\n"
              "\n"
              "Signals: HUP reads the configuration and the KEKs again, TERM ends.\n"
              "See lkm-kms(8) and lkmd.conf(5).\n",
              out);
}

/* Return: 0 to go on, else the exit status plus 1. */
static int parse_arguments(struct arguments *a, int argc, char **argv)
{
        static const struct option options[] = {
                { "config", required_argument, NULL, 'c' },
                { "check-config", no_argument, NULL, 'k' },
                { "client", required_argument, NULL, 'u' },
                { "generate-kek", required_argument, NULL, 'g' },
                { "add-kek-version", required_argument, NULL, 'a' },
                { "version", no_argument, NULL, 'v' },
                { "help", no_argument, NULL, 'h' },
                { 0 },
        };
        int option;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                switch (option) {
                case 'c':
                        a->config_path = optarg;
                        break;
                case 'u':
                        a->client = optarg;
                        break;
                case 'k':
                        a->check = true;
                        break;
                case 'g':
                        a->generate_path = optarg;
                        break;
                case 'a':
                        a->add_path = optarg;
                        break;
                case 'v':
                        puts("lkm-kms " LKM_VERSION);
                        return 1 + EXIT_SUCCESS;
                case 'h':
                        usage(stdout);
                        return 1 + EXIT_SUCCESS;
                default:
                        usage(stderr);
                        return 1 + 2;
                }
        }
        if (optind == argc && a->check + !!a->generate_path + !!a->add_path <= 1)
                return 0;
        usage(stderr);
        return 1 + 2;
}

int main(int argc, char **argv)
{
        struct arguments arguments = { .config_path = "/etc/lkm/lkmd.conf" };
        const char *why;
        int r, status;

        log_init("lkm-kms", LOG_LEVEL_INFO);
        r = harden_process();
        if (r < 0) {
                log_error("cannot harden the process: %s", strerror(-r));
                return EXIT_FAILURE;
        }
        r = set_allocators();
        if (r < 0) {
                log_error("libcrypto or libcurl does not take the zeroing allocator, so keys would stay in memory; not started");
                return EXIT_FAILURE;
        }
        r = parse_arguments(&arguments, argc, argv);
        if (r > 0)
                return r - 1;
        signal(SIGPIPE, SIG_IGN);
        r = secret_arena_init(ARENA_SMALL, ARENA_LARGE, ARENA_BODY, &why);
        if (r < 0) {
                log_error("%s", why);
                return EXIT_FAILURE;
        }
        if (arguments.generate_path)
                status = generate_kek(arguments.generate_path);
        else if (arguments.add_path)
                status = add_kek_version(arguments.add_path);
        else
                status = with_config(&arguments);
        secret_arena_deinit();
        return status;
}
