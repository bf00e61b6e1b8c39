/* SPDX-License-Identifier: Apache-2.0 */
/* lkmd: start, signals, timers, end. What it does with a request is in request.c. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <systemd/sd-daemon.h>

#include "common/clock.h"
#include "common/harden.h"
#include "common/log.h"
#include "daemon/lkmd.h"
#include "daemon/manager.h"

enum {
        ARENA_SPARE_KEYS = 1024, /* in flight, beside the cached ones */
        ARENA_FRAMES = 64,
        DRAIN_SECONDS = 5,
};

static void on_evicted(void *userdata, const struct cache_entry *entry, enum cache_reason reason)
{
        struct lkmd *d = userdata;
        struct audit_event event = { .event = "evict",
                                     .scope = entry->scope,
                                     .database_id = entry->database_id,
                                     .version = entry->version,
                                     .reason = cache_reason_name(reason),
                                     .weight = AUDIT_WEIGHT_NOTABLE };

        if (reason != CACHE_REASON_ALL) /* lkmd_wipe_all() says it once */
                lkmd_audit(d, &event);
}

void lkmd_wipe_all(struct lkmd *d, const char *why)
{
        struct audit_event event = { .event = "wipe", .reason = why, .weight = AUDIT_WEIGHT_LAST };

        event.count = cache_evict_all(d->cache);
        lkmd_audit(d, &event);
        log_notice("wiped all %zu cached keys (%s)", (size_t)event.count, why);
}

/* ---- expiry: a timer on CLOCK_BOOTTIME, which libevent's own timers are not ---- */

static void expiry_arm(struct lkmd *d)
{
        uint64_t deadline = cache_deadline(d->cache);
        struct itimerspec at = { 0 };

        if (deadline == d->armed_usec)
                return;
        if (deadline != USEC_INFINITY) {
                at.it_value.tv_sec = (time_t)(deadline / USEC_PER_SEC);
                at.it_value.tv_nsec = (long)(deadline % USEC_PER_SEC * 1000) + 1; /* zero would disarm */
        }
        if (timerfd_settime(d->expiry_fd, TFD_TIMER_ABSTIME, &at, NULL) == 0)
                d->armed_usec = deadline;
}

void lkmd_expire(struct lkmd *d, uint64_t now)
{
        if (cache_deadline(d->cache) <= now)
                cache_expire(d->cache, now);
        expiry_arm(d);
}

static void timer_read(int fd)
{
        uint64_t n;

        if (read(fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
                log_error("cannot read a timer: %s", strerror(errno));
}

static void on_expiry(evutil_socket_t fd, short what, void *userdata)
{
        struct lkmd *d = userdata;

        timer_read(fd);
        d->armed_usec = USEC_INFINITY;
        lkmd_expire(d, clock_boottime_usec());
}

/* ---- signals ---- */

static void retime(struct lkmd *d);

static void on_reloaded_kms(struct kms_call *call, unsigned error, const union message *reply, const char *sentence)
{
        if (error)
                log_warning("lkm-kms keeps its old configuration: %s",
                            *sentence ? sentence : proto_error_sentence(error));
        free(call);
}

static void fill_reload(struct kms_call *call, union message *ret_message)
{
        ret_message->kms_reload = (struct message_kms_reload){ .number_ = MESSAGE_KMS_RELOAD };
}

static void reload_kms(struct lkmd *d)
{
        struct kms_call *call = calloc(1, sizeof(*call));

        /* A worker that is not running reads the new configuration when it starts. */
        if (!call || !kms_link_is_connected(d->kms)) {
                free(call);
                return;
        }
        call->fill = fill_reload;
        call->done = on_reloaded_kms;
        if (kms_link_call(d->kms, call, d->config->kms_timeout_usec) < 0)
                free(call);
}

static void on_reload(evutil_socket_t fd, short what, void *userdata)
{
        struct lkmd *d = userdata;
        struct config *config;
        struct config_error error;
        char told[sizeof(error.text) + 128];
        int r;

        snprintf(told, sizeof(told), "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)clock_monotonic_usec());
        manager_tell(d->manager_fd, told);
        r = lkmd_read_config(d, &config, &error);
        d->reload_failed = r < 0;
        if (r < 0) {
                log_error("%s. The old configuration stays in force", r == -ENOMEM ? "out of memory" : error.text);
                auditing_reload(d); /* the log may have been moved away all the same */
                snprintf(told, sizeof(told), "READY=1\nSTATUS=Reload failed, the old configuration is in force: %s", error.text);
                manager_tell(d->manager_fd, told);
                return;
        }
        config_unref(d->config);
        d->config = config;
        log_set_max_level(config->log_level);
        auditing_reload(d);
        listeners_check(d);
        retime(d);
        turn_configure(d);
        reload_kms(d);
        log_notice("read %s again, scopes: %zu", d->config_path, config->n_scopes);
        manager_tell(d->manager_fd, "READY=1\nSTATUS=Serving");
}

struct retiming {
        struct cache_entry **entries;
        size_t n;
};

static bool retime_collect(void *userdata, struct cache_entry *entry)
{
        struct retiming *all = userdata;

        all->entries[all->n++] = entry;
        return true;
}

/* Cached keys take on the times of the new configuration; those whose scope is gone go. */
static void retime(struct lkmd *d)
{
        struct retiming all = { .entries = calloc(cache_size(d->cache) + 1, sizeof(struct cache_entry *)) };

        if (!all.entries) {
                lkmd_wipe_all(d, "reload");
                return;
        }
        cache_each(d->cache, retime_collect, &all);
        for (size_t i = 0; i < all.n; i++) {
                const struct config_scope *scope =
                        config_scope_find(d->config, bytes_from_string(all.entries[i]->scope));

                if (scope)
                        cache_retime(d->cache, all.entries[i],
                                     &(struct cache_times){ scope->cache_ttl_usec, scope->stale_grace_usec,
                                                            scope->cache_max_age_usec });
                else
                        cache_evict(d->cache, all.entries[i], CACHE_REASON_DENIED);
        }
        free(all.entries);
        lkmd_expire(d, clock_boottime_usec());
}

static void on_wipe(evutil_socket_t fd, short what, void *userdata)
{
        lkmd_wipe_all(userdata, "SIGUSR1");
}

void lkmd_stop_if_drained(struct lkmd *d)
{
        if (d->draining && d->n_flights == 0 && d->n_questions == 0 && d->n_changes == 0 && d->n_audit_waiters == 0)
                event_base_loopexit(d->base, NULL);
}

static void on_drained(evutil_socket_t fd, short what, void *userdata)
{
        struct lkmd *d = userdata;

        event_base_loopexit(d->base, NULL);
}

/* No new connections; what waits at the KMS gets its answer, but not for ever. */
static void on_terminate(evutil_socket_t fd, short what, void *userdata)
{
        static const struct timeval limit = { .tv_sec = DRAIN_SECONDS, .tv_usec = 0 };
        struct lkmd *d = userdata;

        if (d->draining)
                return;
        d->draining = true;
        manager_tell(d->manager_fd, "STOPPING=1\nSTATUS=Stopping");
        listeners_end(d);
        event_add(d->drain, &limit);
        leases_drain(d);
        lkmd_stop_if_drained(d);
}

static void on_minute(evutil_socket_t fd, short what, void *userdata)
{
        timer_read(fd);
        connection_sum_up(userdata);
        auditing_minute(userdata);
        usage_forget(&((struct lkmd *)userdata)->usage, clock_boottime_usec());
}

static void on_watchdog(evutil_socket_t fd, short what, void *userdata)
{
        const struct lkmd *d = userdata;

        timer_read(fd);
        manager_tell(d->manager_fd, "WATCHDOG=1");
}

/* ---- start ---- */

/* Run @run every @usec. A timer of libevent's own would make each epoll_wait(2) set up and tear down a timeout. */
static int start_periodic(struct lkmd *d, struct event **ret_event, uint64_t usec, event_callback_fn run)
{
        struct timespec period = { .tv_sec = (time_t)(usec / USEC_PER_SEC),
                                   .tv_nsec = (long)(usec % USEC_PER_SEC * 1000) };
        struct itimerspec times = { .it_value = period, .it_interval = period };
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

        if (fd < 0)
                return -errno;
        *ret_event = event_new(d->base, fd, EV_READ | EV_PERSIST, run, d);
        if (!*ret_event) {
                close(fd);
                return -ENOMEM;
        }
        return timerfd_settime(fd, 0, &times, NULL) < 0 ? -errno : event_add(*ret_event, NULL) < 0 ? -ENOMEM : 0;
}

static void stop_periodic(struct event *event)
{
        if (!event)
                return;
        close(event_get_fd(event));
        event_free(event);
}

static int start_events(struct lkmd *d)
{
        const struct {
                int number;
                event_callback_fn run;
        } signals[] = {
                { SIGHUP, on_reload }, { SIGUSR1, on_wipe }, { SIGTERM, on_terminate }, { SIGINT, on_terminate }
        };
        uint64_t watchdog_usec = 0;
        int r;

        d->expiry = event_new(d->base, d->expiry_fd, EV_READ | EV_PERSIST, on_expiry, d);
        d->drain = evtimer_new(d->base, on_drained, d);
        if (!d->expiry || !d->drain)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
                d->signals[i] = evsignal_new(d->base, signals[i].number, signals[i].run, d);
                if (!d->signals[i] || event_add(d->signals[i], NULL) < 0)
                        return -ENOMEM;
        }
        if (event_add(d->expiry, NULL) < 0)
                return -ENOMEM;
        r = listeners_start(d);
        if (r == 0)
                r = start_periodic(d, &d->minute, 60 * USEC_PER_SEC, on_minute);
        if (r == 0 && sd_watchdog_enabled(0, &watchdog_usec) > 0)
                r = start_periodic(d, &d->watchdog, watchdog_usec / 2, on_watchdog);
        return r;
}

/* Return: how many descriptors there may be. */
static uint64_t raise_descriptor_limit(void)
{
        struct rlimit limit, raised;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return UINT64_MAX;
        raised = (struct rlimit){ limit.rlim_max, limit.rlim_max };
        return limit.rlim_cur < limit.rlim_max && setrlimit(RLIMIT_NOFILE, &raised) == 0 ? raised.rlim_cur : limit.rlim_cur;
}

static int start(struct lkmd *d)
{
        const char *why;
        int r = secret_arena_init(d->config->cache_keys + ARENA_SPARE_KEYS, ARENA_FRAMES, 0, &why);

        if (r < 0) {
                log_error("%s", why);
                return r;
        }
        d->n_descriptors = raise_descriptor_limit();
        r = manager_open(&d->manager_fd);
        if (r < 0)
                log_warning("cannot reach the service manager at $NOTIFY_SOCKET: %s", strerror(-r));
        d->pid = getpid();
        d->started_usec = clock_boottime_usec();
        d->sha256 = EVP_MD_CTX_new();
        d->base = event_base_new();
        d->expiry_fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
        if (!d->sha256 || EVP_DigestInit_ex2(d->sha256, EVP_sha256(), NULL) != 1 || !d->base || d->expiry_fd < 0)
                return -ENOMEM;
        r = cache_new(&d->cache, d->config->cache_keys, on_evicted, d);
        if (r == 0)
                r = kms_link_new(&d->kms, d->base, d->config->kms_socket, "lkmd " LKM_VERSION, "the KMS worker");
        if (r == 0)
                r = listeners_open(d);
        if (r == 0)
                r = lkmd_confine_files(d);
        if (r == 0)
                r = auditing_start(d);
        if (r == 0)
                r = turn_start(d);
        return r < 0 ? r : start_events(d);
}

static void stop(struct lkmd *d)
{
        struct event *events[] = { d->expiry, d->drain, d->signals[0], d->signals[1], d->signals[2], d->signals[3] };

        if (d->base)
                connection_close_all(d);
        cache_free(d->cache);
        auditing_stop(d);
        listeners_deinit(d);
        for (size_t i = 0; i < ELEMENTSOF(events); i++) {
                if (events[i])
                        event_free(events[i]);
        }
        stop_periodic(d->minute);
        stop_periodic(d->watchdog);
        turn_stop(d);
        if (d->kms)
                kms_link_free(d->kms);
        usage_deinit(&d->usage); /* requests that waited there were counted */
        if (d->expiry_fd >= 0)
                close(d->expiry_fd);
        EVP_MD_CTX_free(d->sha256);
        if (d->base)
                event_base_free(d->base);
        config_unref(d->config);
        names_free(d->names);
        if (d->manager_fd >= 0)
                close(d->manager_fd);
        free(d->config_path);
}

static int run(const char *config_path)
{
        struct lkmd d = { .expiry_fd = -1, .manager_fd = -1, .spare_fd = -1, .armed_usec = USEC_INFINITY, .turn_armed_usec = USEC_INFINITY, .audit_journal = { .fd = -1 } };
        struct config_error error = { 0 };
        int r;

        list_init(&d.connections);
        list_init(&d.flights);
        list_init(&d.audit_waiters);
        list_init(&d.turns);
        list_init(&d.held);
        list_init(&d.due);
        usage_init(&d.usage);
        leases_start(&d);
        d.config_path = strdup(config_path);
        r = d.config_path ? lkmd_read_config(&d, &d.config, &error) : -ENOMEM;
        if (r < 0) {
                log_error("%s", r == -ENOMEM ? "out of memory" : error.text);
        } else {
                log_set_max_level(d.config->log_level);
                r = start(&d);
        }
        if (r == 0)
                r = lkmd_enter_sandbox(&d);
        if (r == 0) {
                log_info("serving %s, scopes: %zu", d.config->socket, d.config->n_scopes);
                manager_tell(d.manager_fd, "READY=1\nSTATUS=Serving");
                r = turn_run(&d);
        }
        stop(&d);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int check_config(const char *config_path)
{
        struct config *config;
        struct config_error error = { 0 };
        int r = config_read(&config, config_path, &error);

        if (r < 0) {
                fprintf(stderr, "%s\n", r == -ENOMEM ? "out of memory" : error.text);
                return EXIT_FAILURE;
        }
        printf("%s is good, KEKs: %zu, scopes: %zu\n", config_path, config->n_keks, config->n_scopes);
        config_unref(config);
        return EXIT_SUCCESS;
}

static void usage(FILE *out)
{
        fputs("Usage: lkmd [OPTION]...\n"
              "Hold the keys of encrypted databases and hand them to the processes that policy allows.\n"
              "\n"
              "  --config FILE    configuration (default /etc/lkm/lkmd.conf, with FILE.d/*.conf)\n"
              "  --check-config   read the configuration, say what is wrong with it, and exit\n"
              "  --version        print the version and exit\n"
              "  --help           print this text and exit\n"
              "\n"
              "Signals: HUP reads the configuration again, USR1 wipes all keys, TERM ends.\n"
              "See lkmd(8) and lkmd.conf(5).\n",
              out);
}

int main(int argc, char **argv)
{
        static const struct option options[] = { { "config", required_argument, NULL, 'c' },
                                                 { "check-config", no_argument, NULL, 'k' },
                                                 { "version", no_argument, NULL, 'v' },
                                                 { "help", no_argument, NULL, 'h' },
                                                 { 0 } };
        const char *config_path = "/etc/lkm/lkmd.conf";
        bool only_check = false;
        int option, r;

        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                switch (option) {
                case 'c':
                        config_path = optarg;
                        break;
                case 'k':
                        only_check = true;
                        break;
                case 'v':
                        puts("lkmd " LKM_VERSION);
                        return EXIT_SUCCESS;
                case 'h':
                        usage(stdout);
                        return EXIT_SUCCESS;
                default:
                        usage(stderr);
                        return 2;
                }
        }
        if (optind < argc) {
                usage(stderr);
                return 2;
        }
        if (only_check)
                return check_config(config_path);
        log_init("lkmd", LOG_LEVEL_INFO);
        r = harden_process();
        if (r < 0) {
                log_error("cannot harden the process: %s", strerror(-r));
                return EXIT_FAILURE;
        }
        signal(SIGPIPE, SIG_IGN);
        signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of write(2), not the end */
        return run(config_path);
}
