/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/run/supervisor.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/run/child.h"
#include "daemon/run/notify.h"

enum {
        BACKOFF_FIRST_MSEC = 100,
        BACKOFF_MAX_MSEC = 10000,
        ALIVE_SECONDS = 10, /* after that long the next end is no longer part of a series */
        START_SECONDS = 90, /* lkmd may take that long until it is ready */
        STOP_SECONDS = 5, /* then SIGKILL */
};

/** One of the two daemons. */
struct service {
        struct supervisor *supervisor;
        struct child_options options;
        pid_t pid; /* 0 = not running */
        uint64_t started_usec;
        unsigned backoff_msec; /* 0 = the last end was no failure */
        struct event *restart;
        struct event *demand; /* of lkm-kms: its listening socket becomes readable */
};

struct supervisor {
        const struct supervisor_options *options;
        struct event_base *base;
        struct service lkmd, kms;
        pid_t command_pid;
        struct notify notify;
        struct event *notified, *signalled, *start_limit, *stop_limit;
        int signal_fd, status;
        bool ready, stopping;
};

static const int handled[] = { SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1 };

static void handled_set(sigset_t *ret_set)
{
        sigemptyset(ret_set);
        for (size_t i = 0; i < ELEMENTSOF(handled); i++)
                sigaddset(ret_set, handled[i]);
}

int supervisor_block_signals(sigset_t *ret_previous)
{
        sigset_t set;

        /* A parent that ignored SIGCHLD would have made us so too, and children would vanish without a status. */
        if (signal(SIGCHLD, SIG_DFL) == SIG_ERR)
                return -errno;
        handled_set(&set);
        return sigprocmask(SIG_BLOCK, &set, ret_previous) < 0 ? -errno : 0;
}

static bool timer_arm(struct event *timer, unsigned msec)
{
        struct timeval tv = { .tv_sec = (time_t)(msec / 1000), .tv_usec = (suseconds_t)(msec % 1000 * 1000) };

        return event_add(timer, &tv) == 0;
}

/* ---- the end ---- */

static void signal_child(pid_t pid, int number)
{
        if (pid > 0)
                kill(pid, number);
}

/* lkmd goes first: while it drains it may still need lkm-kms. */
static void supervisor_stop_next(struct supervisor *s)
{
        if (s->lkmd.pid > 0 || s->command_pid > 0)
                return;
        event_del(s->kms.demand);
        if (s->kms.pid > 0)
                signal_child(s->kms.pid, SIGTERM);
        else
                event_base_loopbreak(s->base);
}

static void supervisor_stop(struct supervisor *s, int status)
{
        if (s->stopping)
                return;
        s->stopping = true;
        s->status = status;
        sd_notify(0, "STOPPING=1");
        event_del(s->lkmd.restart);
        event_del(s->kms.restart);
        event_del(s->start_limit);
        timer_arm(s->stop_limit, STOP_SECONDS * 1000);
        signal_child(s->lkmd.pid, SIGTERM);
        signal_child(s->command_pid, SIGTERM);
        supervisor_stop_next(s);
}

static void on_stop_limit(evutil_socket_t fd, short what, void *userdata)
{
        struct supervisor *s = userdata;

        log_warning("not all processes ended in %d s; killing them", STOP_SECONDS);
        signal_child(s->lkmd.pid, SIGKILL);
        signal_child(s->kms.pid, SIGKILL);
        signal_child(s->command_pid, SIGKILL);
}

static void on_start_limit(evutil_socket_t fd, short what, void *userdata)
{
        log_error("lkmd was not ready in %d s; giving up", START_SECONDS);
        supervisor_stop(userdata, -ETIMEDOUT);
}

/* ---- the daemons ---- */

static void service_start(struct service *v)
{
        int r = child_start(&v->pid, &v->options);

        v->started_usec = clock_boottime_usec();
        if (r == 0)
                return;
        v->pid = 0;
        log_error("cannot start %s: %s", v->options.name, strerror(-r));
        v->backoff_msec = v->backoff_msec ? v->backoff_msec : BACKOFF_FIRST_MSEC;
        timer_arm(v->restart, v->backoff_msec);
}

static void on_restart(evutil_socket_t fd, short what, void *userdata)
{
        struct service *v = userdata;

        if (v->demand)
                event_add(v->demand, NULL);
        else
                service_start(v);
}

static void on_demand(evutil_socket_t fd, short what, void *userdata)
{
        service_start(userdata);
}

static void service_backoff(struct service *v, int status)
{
        bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;

        if (clock_boottime_usec() - v->started_usec >= ALIVE_SECONDS * USEC_PER_SEC)
                v->backoff_msec = 0;
        if (!failed && v->demand)
                v->backoff_msec = 0; /* lkm-kms ends by itself when idle */
        else if (v->backoff_msec == 0)
                v->backoff_msec = BACKOFF_FIRST_MSEC;
        else
                v->backoff_msec = v->backoff_msec > BACKOFF_MAX_MSEC / 2 ? BACKOFF_MAX_MSEC : v->backoff_msec * 2;
}

static void service_ended(struct service *v, int status)
{
        struct supervisor *s = v->supervisor;
        bool exited = WIFEXITED(status);

        v->pid = 0;
        if (s->stopping) {
                if (v->demand && s->lkmd.pid > 0)
                        event_add(v->demand, NULL);
                supervisor_stop_next(s);
                return;
        }
        if (v == &s->lkmd && !s->ready && exited) {
                log_error("lkmd ended with status %d before it was ready; its message above says why",
                          WEXITSTATUS(status));
                supervisor_stop(s, -ECHILD);
                return;
        }
        service_backoff(v, status);
        if (v->backoff_msec == 0)
                event_add(v->demand, NULL);
        else
                timer_arm(v->restart, v->backoff_msec);
        if (v->backoff_msec > 0)
                log_warning("%s ended by %s %d; starting it again in %u ms", v->options.name,
                            exited ? "exit status" : "signal", exited ? WEXITSTATUS(status) : WTERMSIG(status),
                            v->backoff_msec);
}

/* ---- COMMAND ---- */

static void command_ended(struct supervisor *s, int status)
{
        s->command_pid = 0;
        if (s->stopping)
                supervisor_stop_next(s);
        else
                supervisor_stop(s, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void on_first_ready(struct supervisor *s)
{
        int r;

        s->ready = true;
        event_del(s->start_limit);
        sd_notify(0, "READY=1\nSTATUS=Serving");
        if (!s->options->command) {
                child_print_hint("LKM_SOCKET", s->options->socket_path);
                if (s->options->admin_socket_path)
                        child_print_hint("LKM_ADMIN_SOCKET", s->options->admin_socket_path);
                return;
        }
        r = child_start_command(&s->command_pid, s->options->command, s->options->socket_path, s->options->admin_socket_path,
                                s->options->mask);
        if (r < 0) {
                log_error("cannot start %s: %s", s->options->command[0], strerror(-r));
                supervisor_stop(s, r);
        }
}

static void on_notified(evutil_socket_t fd, short what, void *userdata)
{
        struct supervisor *s = userdata;

        if (notify_take(&s->notify, s->lkmd.pid) == NOTIFY_E_READY && !s->ready && !s->stopping)
                on_first_ready(s);
}

/* ---- signals ---- */

static void reap(struct supervisor *s)
{
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                if (pid == s->lkmd.pid)
                        service_ended(&s->lkmd, status);
                else if (pid == s->kms.pid)
                        service_ended(&s->kms, status);
                else if (pid == s->command_pid)
                        command_ended(s, status);
        }
}

/* SIGINT, SIGQUIT, SIGTERM, and the hangup of our terminal. */
static void on_end_wanted(struct supervisor *s, const struct signalfd_siginfo *info)
{
        bool by_terminal = info->ssi_code == SI_KERNEL;

        if (s->command_pid == 0) {
                supervisor_stop(s, s->options->command ? 128 + (int)info->ssi_signo : 0);
                return;
        }
        /* COMMAND decides, as if lkm-run were not there. The terminal has told it already, being of the same group. */
        if (!by_terminal)
                kill(s->command_pid, (int)info->ssi_signo);
}

static void on_signalled(evutil_socket_t fd, short what, void *userdata)
{
        struct supervisor *s = userdata;
        struct signalfd_siginfo info;

        while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
                bool hangup = info.ssi_signo == SIGHUP && info.ssi_code == SI_KERNEL;

                if (info.ssi_signo == SIGCHLD) {
                        reap(s);
                } else if (info.ssi_signo == SIGHUP && !hangup) {
                        signal_child(s->lkmd.pid, SIGHUP); /* it tells lkm-kms */
                } else if (info.ssi_signo == SIGUSR1) {
                        signal_child(s->lkmd.pid, SIGUSR1);
                } else {
                        on_end_wanted(s, &info);
                }
        }
}

/* ---- begin ---- */

static int service_init(struct service *v, struct supervisor *s, const char *name, const char *program,
                        struct child_socket socket, struct child_socket other)
{
        v->supervisor = s;
        v->options = (struct child_options){ .name = name,
                                             .program = program,
                                             .config_path = s->options->config_path,
                                             .n_listen = other.fd < 0 ? 1 : 2,
                                             .listen = { socket, other },
                                             .mask = s->options->mask };
        v->restart = evtimer_new(s->base, on_restart, v);
        return v->restart ? 0 : -ENOMEM;
}

static int supervisor_init(struct supervisor *s)
{
        sigset_t set;
        int r;

        s->base = event_base_new();
        if (!s->base)
                return -ENOMEM;
        r = service_init(&s->lkmd, s, "lkmd", s->options->lkmd_program, (struct child_socket){ s->options->lkmd_fd, "lkm" },
                         (struct child_socket){ s->options->admin_fd, "lkm-admin" });
        if (r == 0)
                r = service_init(&s->kms, s, "lkm-kms", s->options->kms_program, (struct child_socket){ s->options->kms_fd, "lkm-kms" },
                                 (struct child_socket){ .fd = -1 });
        if (r == 0)
                r = notify_init(&s->notify);
        if (r < 0)
                return r;
        s->lkmd.options.notify_socket = s->notify.address;
        handled_set(&set);
        s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (s->signal_fd < 0)
                return -errno;
        s->kms.demand = event_new(s->base, s->options->kms_fd, EV_READ, on_demand, &s->kms);
        s->notified = event_new(s->base, s->notify.fd, EV_READ | EV_PERSIST, on_notified, s);
        s->signalled = event_new(s->base, s->signal_fd, EV_READ | EV_PERSIST, on_signalled, s);
        s->start_limit = evtimer_new(s->base, on_start_limit, s);
        s->stop_limit = evtimer_new(s->base, on_stop_limit, s);
        if (!s->kms.demand || !s->notified || !s->signalled || !s->start_limit || !s->stop_limit)
                return -ENOMEM;
        if (event_add(s->kms.demand, NULL) < 0 || event_add(s->notified, NULL) < 0 ||
            event_add(s->signalled, NULL) < 0 || !timer_arm(s->start_limit, START_SECONDS * 1000))
                return -ENOMEM;
        return 0;
}

static void supervisor_deinit(struct supervisor *s)
{
        struct event *events[] = { s->lkmd.restart, s->kms.restart, s->kms.demand, s->notified,
                                   s->signalled,    s->start_limit, s->stop_limit };

        for (size_t i = 0; i < ELEMENTSOF(events); i++)
                if (events[i])
                        event_free(events[i]);
        notify_deinit(&s->notify);
        if (s->signal_fd >= 0)
                close(s->signal_fd);
        if (s->base)
                event_base_free(s->base);
}

int supervisor_run(const struct supervisor_options *options)
{
        struct supervisor s = { .options = options, .signal_fd = -1, .notify = { .fd = -1 } };
        int r = supervisor_init(&s);

        if (r == 0) {
                service_start(&s.lkmd);
                if (event_base_dispatch(s.base) < 0)
                        r = -EIO;
        }
        if (r < 0)
                log_error("cannot supervise: %s", strerror(-r));
        supervisor_deinit(&s);
        return r < 0 ? r : s.status;
}
