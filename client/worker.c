/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process belongs to an application that we know nothing of: it may ignore SIGCHLD, wait for any child, have closed its standard
 * descriptors, keep secret ones open. So it is killed by a pidfd, reaped by its number alone, gets no descriptor but its own, and no write of
 * ours can raise SIGPIPE.
 */
#include "client/worker.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "client/worker-lines.h"
#include "common/clock.h"

enum {
        LINE_ROOM = 8192,  /* twice what lkm-rekey writes */
        TICK_MSEC = 400,  /* between two calls of the callback, at most; promised is a second */
        LOCK_FD = 3,      /* where the worker has it */
        STANDARD_FDS = 3, /* input, output, error */
};

struct process {
        pid_t pid; /* 0 when reaped */
        int pid_fd; /* -1 where the kernel has none */
        int job_fd, lines_fd; /* our ends */
        bool cancelled;
        int last; /* 0, or WORKER_LINE_E_DONE, _ERROR or _INVALID once that line came */
        char line[LINE_ROOM];
        size_t n_line;
        uint64_t done, total, told_usec;
};

/* ---- where it is ---- */

/* The path of the object that has this code. The program itself has no name there. */
static int own_path(char **ret_path)
{
        static const char here;
        struct link_map *map = NULL;
        Dl_info info;

        if (dladdr1(&here, &info, (void **)&map, RTLD_DL_LINKMAP) == 0 || !map || !map->l_name || !*map->l_name)
                *ret_path = realpath("/proc/self/exe", NULL);
        else
                *ret_path = realpath(map->l_name, NULL);
        return *ret_path ? 0 : -errno;
}

int worker_find(char **ret_path)
{
        _cleanup_(freep) char *own = NULL, *beside = NULL;
        static const char installed[] = LKM_LIBEXECDIR "/lkm-rekey";

        if (own_path(&own) == 0) {
                if (asprintf(&beside, "%.*s/lkm-rekey", (int)(strrchr(own, '/') - own), own) < 0) {
                        beside = NULL;
                        return -ENOMEM;
                }
                if (access(beside, X_OK) == 0) {
                        *ret_path = TAKE_PTR(beside);
                        return 0;
                }
        }
        if (access(installed, X_OK) < 0)
                return -ENOENT;
        *ret_path = strdup(installed);
        return *ret_path ? 0 : -ENOMEM;
}

/* ---- its start ---- */

/* Out of the way of the standard descriptors, which the application may have closed. */
static int fd_raise(int *fd)
{
        int raised;

        if (*fd >= STANDARD_FDS)
                return 0;
        raised = fcntl(*fd, F_DUPFD_CLOEXEC, STANDARD_FDS);
        if (raised < 0)
                return -errno;
        close(*fd);
        *fd = raised;
        return 0;
}

static int file_actions(posix_spawn_file_actions_t *actions, int job_fd, int lines_fd, int lock_fd)
{
        int r = posix_spawn_file_actions_adddup2(actions, job_fd, STDIN_FILENO);

        if (r == 0)
                r = posix_spawn_file_actions_adddup2(actions, lines_fd, STDOUT_FILENO);
        if (r == 0 && fcntl(STDERR_FILENO, F_GETFD) < 0)
                r = posix_spawn_file_actions_addopen(actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
        if (r == 0 && lock_fd >= 0)
                r = posix_spawn_file_actions_adddup2(actions, lock_fd, LOCK_FD);
        if (r == 0)
                r = posix_spawn_file_actions_addclosefrom_np(actions, lock_fd >= 0 ? LOCK_FD + 1 : LOCK_FD);
        return -r;
}

/* No signal ignored, and a group of its own: an interrupt from the terminal is the application's, which cancels. One that comes before the new
 * process has left our group stays blocked there: it would end the worker without a reason that anybody could tell. */
static int attributes(posix_spawnattr_t *attributes_)
{
        sigset_t interrupt, all;
        int r;

        sigemptyset(&interrupt);
        sigaddset(&interrupt, SIGINT);
        sigfillset(&all);
        r = posix_spawnattr_setsigmask(attributes_, &interrupt);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(attributes_, &all);
        if (r == 0)
                r = posix_spawnattr_setpgroup(attributes_, 0);
        if (r == 0)
                r = posix_spawnattr_setflags(attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
        return -r;
}

static int spawn(pid_t *ret_pid, const struct worker_task *task, const char *program, int job_fd, int lines_fd, int lock_fd)
{
        char name[] = "lkm-rekey";
        char *arguments[] = { name, (char *)(uintptr_t)task->command, (char *)(uintptr_t)task->database,
                              (char *)(uintptr_t)task->target, NULL };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attribute;
        int r = -posix_spawn_file_actions_init(&actions);

        if (r < 0)
                return r;
        r = -posix_spawnattr_init(&attribute);
        if (r == 0) {
                r = file_actions(&actions, job_fd, lines_fd, lock_fd);
                if (r == 0)
                        r = attributes(&attribute);
                if (r == 0)
                        r = -posix_spawn(ret_pid, program, &actions, &attribute, arguments, environ);
                posix_spawnattr_destroy(&attribute);
        }
        posix_spawn_file_actions_destroy(&actions);
        return r;
}

static int process_start(struct process *p, const struct worker_task *task, const char *program)
{
        _cleanup_(closep) int their_job_fd = -1, their_lines_fd = -1, lock_fd = -1;
        int job[2], lines[2], r;

        /* A pair of sockets, since a write to a pipe without reader raises SIGPIPE. */
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, job) < 0)
                return -errno;
        p->job_fd = job[0];
        their_job_fd = job[1];
        if (pipe2(lines, O_CLOEXEC) < 0)
                return -errno;
        p->lines_fd = lines[0];
        their_lines_fd = lines[1];
        if (task->lock_fd >= 0) {
                lock_fd = fcntl(task->lock_fd, F_DUPFD_CLOEXEC, STANDARD_FDS);
                if (lock_fd < 0)
                        return -errno;
        }
        r = fd_raise(&their_job_fd);
        if (r == 0)
                r = fd_raise(&their_lines_fd);
        if (r == 0)
                r = spawn(&p->pid, task, program, their_job_fd, their_lines_fd, lock_fd);
        if (r < 0)
                return r;
        /* It waits for its job, so that the number is still its own. */
        p->pid_fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
        return 0;
}

/* The job and its keys, straight from locked memory. A worker that is gone shows at the end of its lines. */
static int process_send(struct process *p, const struct worker_task *task)
{
        struct rekey_job job = {
                .magic = REKEY_MAGIC,
                .compatibility = task->compatibility,
                .page_size = task->page_size,
                .timeout_msec = task->timeout_msec,
                .flags = task->flags,
                .n_keys = (uint32_t)task->n_keys,
        };
        struct iovec parts[1 + 2 * REKEY_KEYS_MAX];
        struct msghdr message = { .msg_iov = parts, .msg_iovlen = 1 + 2 * task->n_keys };
        uint32_t versions[REKEY_KEYS_MAX];
        uint8_t *views[REKEY_KEYS_MAX];
        size_t n = sizeof(job) + task->n_keys * sizeof(struct rekey_job_key);
        ssize_t sent;

        parts[0] = (struct iovec){ &job, sizeof(job) };
        for (size_t i = 0; i < task->n_keys; i++) {
                versions[i] = task->keys[i].version;
                views[i] = secret_view_begin(task->keys[i].key);
                parts[1 + 2 * i] = (struct iovec){ &versions[i], sizeof(versions[i]) };
                parts[2 + 2 * i] = (struct iovec){ views[i], KEY_SIZE };
        }
        do
                sent = sendmsg(p->job_fd, &message, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        for (size_t i = 0; i < task->n_keys; i++)
                secret_view_end(task->keys[i].key, &views[i]);
        if (sent < 0 && errno != EPIPE && errno != ECONNRESET)
                return -errno;
        closep(&p->job_fd);
        p->job_fd = -1;
        return sent >= 0 && (size_t)sent != n ? -EIO : 0;
}

/* ---- its lines ---- */

static void process_kill(const struct process *p)
{
        if (p->pid_fd >= 0)
                syscall(SYS_pidfd_send_signal, p->pid_fd, SIGKILL, NULL, 0);
        else if (p->pid > 0)
                kill(p->pid, SIGKILL);
}

static void process_tell(struct process *p, const struct worker_task *task)
{
        p->told_usec = clock_boottime_usec();
        if (task->progress && !p->cancelled && task->progress(task->userdata, p->done, p->total) != 0) {
                p->cancelled = true;
                process_kill(p);
        }
}

static void process_line(struct process *p, const struct worker_task *task, struct worker_result *result)
{
        char copy[LINE_ROOM];
        int r;

        if (p->last)
                return;
        snprintf(copy, sizeof(copy), "%s", p->line); /* parsing cuts the line into words */
        r = worker_line_take(result, copy, &p->done, &p->total);
        if (r == WORKER_LINE_E_PROGRESS)
                process_tell(p, task);
        else if (r == WORKER_LINE_E_OTHER && task->line)
                task->line(task->userdata, p->line);
        else if (r == WORKER_LINE_E_DONE || r == WORKER_LINE_E_ERROR || r == WORKER_LINE_E_INVALID)
                p->last = r;
}

/* Return: whether it keeps to job.h. */
static bool process_take(struct process *p, const struct worker_task *task, struct worker_result *result, const char *data, size_t n)
{
        for (size_t i = 0; i < n && p->last != WORKER_LINE_E_INVALID; i++) {
                if (data[i] != '\n') {
                        p->line[p->n_line++] = data[i];
                        if (p->n_line == sizeof(p->line))
                                return false;
                        continue;
                }
                p->line[p->n_line] = '\0';
                process_line(p, task, result);
                p->n_line = 0;
        }
        return p->last != WORKER_LINE_E_INVALID;
}

/* Until the end of its output, which is its own end, or that of its right to go on. */
static void process_listen(struct process *p, const struct worker_task *task, struct worker_result *result)
{
        char data[LINE_ROOM];

        p->told_usec = clock_boottime_usec();
        for (;;) {
                struct pollfd readable = { .fd = p->lines_fd, .events = POLLIN };
                int ready = poll(&readable, 1, TICK_MSEC);

                if (ready > 0) {
                        ssize_t n = read(p->lines_fd, data, sizeof(data));

                        if (n == 0 || (n < 0 && errno != EINTR))
                                return;
                        if (n > 0 && !process_take(p, task, result, data, (size_t)n)) {
                                p->last = WORKER_LINE_E_INVALID;
                                process_kill(p);
                                return;
                        }
                }
                if (clock_boottime_usec() - p->told_usec >= TICK_MSEC * USEC_PER_MSEC)
                        process_tell(p, task);
        }
}

/* ---- its end ---- */

/* Return: its status as of waitpid(2), or -1 when somebody else reaped it. */
static int process_reap(struct process *p)
{
        struct pollfd ended = { .fd = p->pid_fd, .events = POLLIN };
        int status = -1;
        pid_t pid;

        do
                pid = waitpid(p->pid, &status, 0);
        while (pid < 0 && errno == EINTR);
        /* SIGCHLD is ignored, or another thread waits for any child. It may not have ended yet. */
        while (pid < 0 && p->pid_fd >= 0 && poll(&ended, 1, -1) < 0 && errno == EINTR) {
                /* again */
        }
        p->pid = 0;
        return pid < 0 ? -1 : status;
}

static void process_deinit(struct process *p)
{
        closep(&p->job_fd);
        if (p->pid > 0) {
                process_kill(p);
                process_reap(p);
        }
        closep(&p->lines_fd);
        closep(&p->pid_fd);
}

static int refuse_death(struct worker_result *result, const struct process *p, int status)
{
        result->error = LKM_E_IO;
        result->died = true;
        if (p->last == WORKER_LINE_E_INVALID)
                snprintf(result->sentence, sizeof(result->sentence),
                         "lkm-rekey answered what this liblkm does not understand. Install both from one version of lkm.");
        else if (status >= 0 && WIFSIGNALED(status))
                snprintf(result->sentence, sizeof(result->sentence), "lkm-rekey was ended by signal %d. Look into the system's log, then try again.",
                         WTERMSIG(status));
        else
                snprintf(result->sentence, sizeof(result->sentence), "lkm-rekey ended without an answer. Look into the system's log, then try again.");
        return WORKER_E_DIED;
}

static int process_outcome(const struct process *p, int status, struct worker_result *result)
{
        if (p->cancelled)
                return WORKER_E_CANCELLED;
        if (p->last == WORKER_LINE_E_ERROR)
                return WORKER_E_REFUSED;
        if (p->last == WORKER_LINE_E_DONE && (status == -1 || status == 0))
                return 0;
        return refuse_death(result, p, status);
}

int worker_run(const struct worker_task *task, struct worker_result *ret_result)
{
        _cleanup_(process_deinit) struct process p = { .pid_fd = -1, .job_fd = -1, .lines_fd = -1 };
        _cleanup_(freep) char *found = NULL;
        int r;

        *ret_result = (struct worker_result){ 0 };
        if (task->n_keys == 0 || task->n_keys > REKEY_KEYS_MAX)
                return -EINVAL;
        if (!task->program) {
                r = worker_find(&found);
                if (r < 0)
                        return r;
        }
        r = process_start(&p, task, task->program ? task->program : found);
        if (r == 0)
                r = process_send(&p, task);
        if (r < 0)
                return r;
        process_listen(&p, task, ret_result);
        return process_outcome(&p, process_reap(&p), ret_result);
}
