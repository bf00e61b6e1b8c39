/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What counts is the end of the process, so that a grandchild that keeps the pipes open does not hold the answer up. Its group is ended before it is
 * reaped: until then nobody else can have its number.
 */
#include "daemon/kms/aws-process.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "common/clock.h"

struct aws_process {
        struct aws_way_call *call;
        pid_t pid; /* 0 when reaped */
        int out_fd, error_fd;
        struct event *child_event, *out_event, *error_event, *timer;
        uint64_t time_usec;
        struct secret *out;
        size_t n_out;
        bool too_much;
        char errors[AWS_PROCESS_STDERR_MAX + 1];
        size_t n_errors;
        char *program, *source;
};

/* ---- the command ---- */

void aws_command_deinit(struct aws_command *command)
{
        free(command->text);
        *command = (struct aws_command){ 0 };
}

static bool is_space(char c)
{
        return c == ' ' || c == '\t';
}

/* Move one word of *from, without its quotes, to *to, which lies before it. Return: false when a quote stays open. */
static bool word_take(const char **from, char **to)
{
        char quote = '\0';

        for (; **from && (quote || !is_space(**from)); (*from)++) {
                char c = **from;

                if (c == quote && quote) {
                        quote = '\0';
                } else if (!quote && (c == '\'' || c == '"')) {
                        quote = c;
                } else {
                        if (c == '\\' && quote != '\'' && (!quote || (*from)[1] == '"' || (*from)[1] == '\\') && (*from)[1])
                                c = *++(*from);
                        *(*to)++ = c;
                }
        }
        return !quote;
}

int aws_command_parse(struct aws_command *ret_command, const char *text, struct sentence *ret_why)
{
        struct aws_command command = { .text = malloc(strlen(text) + 2) };
        char *to = command.text;
        size_t n = 0;

        if (!command.text) {
                sentence_set(ret_why, "credential_process cannot be run: out of memory");
                return -ENOMEM;
        }
        for (;;) {
                while (is_space(*text))
                        text++;
                if (!*text)
                        break;
                if (n == AWS_PROCESS_WORDS_MAX) {
                        sentence_set(ret_why, "credential_process has more than %d words", AWS_PROCESS_WORDS_MAX);
                        aws_command_deinit(&command);
                        return -EINVAL;
                }
                command.words[n++] = to;
                if (!word_take(&text, &to)) {
                        sentence_set(ret_why, "credential_process has a quote that is not closed");
                        aws_command_deinit(&command);
                        return -EINVAL;
                }
                *to++ = '\0';
        }
        if (n == 0 || *command.words[0] != '/') {
                sentence_set(ret_why, "credential_process has to begin with the absolute path of a program");
                aws_command_deinit(&command);
                return -EINVAL;
        }
        *ret_command = command;
        return 0;
}

/* ---- the end ---- */

static void event_drop(struct event **event, int *fd)
{
        if (*event)
                event_free(*event);
        *event = NULL;
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
}

/* Return: its status as of waitpid(2), or -1. */
static int end_and_reap(struct aws_process *p)
{
        int status = -1;
        pid_t pid;

        kill(-p->pid, SIGKILL);
        kill(p->pid, SIGKILL); /* without effect on one that has ended */
        do
                pid = waitpid(p->pid, &status, 0);
        while (pid < 0 && errno == EINTR);
        p->pid = 0;
        return pid < 0 ? -1 : status;
}

struct aws_process *aws_process_free(struct aws_process *p)
{
        int none = -1;

        if (!p)
                return NULL;
        event_drop(&p->timer, &none);
        event_drop(&p->child_event, &none);
        event_drop(&p->out_event, &p->out_fd);
        event_drop(&p->error_event, &p->error_fd);
        if (p->pid > 0)
                end_and_reap(p);
        secret_unref(p->out);
        secret_wipe(p->errors, sizeof(p->errors));
        free(p->program);
        free(p->source);
        free(p);
        return NULL;
}

/* Tell the owner, who frees @p there. */
static void fail(struct aws_process *p, enum proto_error error, const struct sentence *why)
{
        p->call->done(p->call, NULL, error, why->text);
}

/* What it wrote on stderr, as the rest of a sentence. */
static const char *errors_text(struct aws_process *p)
{
        while (p->n_errors > 0 && (uint8_t)p->errors[p->n_errors - 1] <= ' ')
                p->n_errors--;
        p->errors[p->n_errors] = '\0';
        for (size_t i = 0; i < p->n_errors; i++)
                if (p->errors[i] == '\n' || p->errors[i] == '\r' || p->errors[i] == '\t')
                        p->errors[i] = ' ';
        return p->n_errors > 0 ? p->errors : "it printed no reason";
}

static void finish(struct aws_process *p, int status)
{
        _cleanup_(aws_credentials_unrefp) struct aws_credentials *credentials = NULL;
        struct sentence why, what;

        if (p->too_much) {
                sentence_set(&why, "credential_process %s printed more than %d bytes, so it is none", p->program, SECRET_BODY_MAX);
                return fail(p, PROTO_ERROR_KMS_CREDENTIALS, &why);
        }
        if (status < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
                bool exited = status >= 0 && WIFEXITED(status);

                sentence_set(&why, "credential_process %s %s %d: %s", p->program, exited ? "ended with status" : "was ended by signal",
                             exited ? WEXITSTATUS(status) : status >= 0 ? WTERMSIG(status) : 0, errors_text(p));
                return fail(p, PROTO_ERROR_KMS_CREDENTIALS, &why);
        }
        if (p->n_out > 0)
                secret_resize(p->out, p->n_out);
        if (aws_answer_json(&credentials, p->n_out > 0 ? p->out : NULL, AWS_ANSWER_PROCESS, p->source, &what) < 0) {
                sentence_set(&why, "credential_process %s %s", p->program, what.text);
                return fail(p, PROTO_ERROR_KMS_CREDENTIALS, &why);
        }
        p->call->done(p->call, credentials, PROTO_ERROR_NONE, "");
}

/* ---- its output ---- */

/* Return: more than 0 when there may be more at once, 0 at the end, -EAGAIN. */
static int read_piece(int fd, uint8_t *to, size_t n)
{
        ssize_t k = read(fd, to, n);

        return k < 0 ? (errno == EINTR ? -EINTR : errno == EAGAIN ? -EAGAIN : 0) : (int)k;
}

static int read_out(struct aws_process *p)
{
        size_t room = secret_size(p->out) - p->n_out;
        uint8_t *view = secret_view_begin(p->out), beyond;
        int n = read_piece(p->out_fd, room > 0 ? view + p->n_out : &beyond, room > 0 ? room : 1);

        secret_view_end(p->out, &view);
        secret_wipe(&beyond, sizeof(beyond));
        if (n > 0 && room > 0)
                p->n_out += (size_t)n;
        p->too_much = p->too_much || (n > 0 && room == 0);
        return n;
}

/* All that is there. Return: whether its end is still open. */
static bool drain_out(struct aws_process *p)
{
        int n;

        do
                n = read_out(p);
        while ((n > 0 && !p->too_much) || n == -EINTR);
        return n != 0;
}

/* One piece: whoever writes without end is ended by the timer. */
static int read_error(struct aws_process *p)
{
        uint8_t text[256];
        int n = read_piece(p->error_fd, text, sizeof(text));
        size_t room = AWS_PROCESS_STDERR_MAX - p->n_errors, n_kept = n > 0 ? (size_t)n : 0;

        n_kept = n_kept < room ? n_kept : room;
        memcpy(p->errors + p->n_errors, text, n_kept);
        p->n_errors += n_kept;
        secret_wipe(text, sizeof(text));
        return n;
}

static void on_out(evutil_socket_t fd, short what, void *userdata)
{
        struct aws_process *p = userdata;
        bool open = drain_out(p);

        if (p->too_much)
                finish(p, end_and_reap(p));
        else if (!open)
                event_del(p->out_event); /* all that is left to wait for is its own end */
}

static void on_error(evutil_socket_t fd, short what, void *userdata)
{
        struct aws_process *p = userdata;

        if (read_error(p) == 0)
                event_del(p->error_event);
}

/* Some child has ended. */
static void on_child(evutil_socket_t number, short what, void *userdata)
{
        struct aws_process *p = userdata;
        siginfo_t info = { 0 };

        if (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != p->pid)
                return;
        drain_out(p);
        for (int i = 0; i < 256 && read_error(p) > 0; i++)
                ;
        finish(p, end_and_reap(p));
}

static void on_time(evutil_socket_t fd, short what, void *userdata)
{
        struct aws_process *p = userdata;
        struct sentence why;

        sentence_set(&why, "credential_process %s did not end within %" PRIu64 " ms, and was ended. Run it by hand as the user of lkm-kms: %s",
                     p->program, p->time_usec / USEC_PER_MSEC, errors_text(p));
        end_and_reap(p);
        fail(p, PROTO_ERROR_KMS_UNREACHABLE, &why);
}

/* ---- the start ---- */

static int spawn_setup(posix_spawn_file_actions_t *files, posix_spawnattr_t *attributes, int out_fd, int error_fd)
{
        sigset_t none, all;
        int r;

        sigemptyset(&none);
        sigfillset(&all);
        r = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        r = r ? r : posix_spawn_file_actions_adddup2(files, out_fd, STDOUT_FILENO);
        r = r ? r : posix_spawn_file_actions_adddup2(files, error_fd, STDERR_FILENO);
        r = r ? r : posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
        r = r ? r : posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        r = r ? r : posix_spawnattr_setpgroup(attributes, 0);
        r = r ? r : posix_spawnattr_setsigmask(attributes, &none);
        r = r ? r : posix_spawnattr_setsigdefault(attributes, &all);
        return -r;
}

static int spawn(pid_t *ret_pid, const struct aws_command *command, int out_fd, int error_fd)
{
        _cleanup_(freep) char *home = NULL;
        char *environment[] = { (char[]){ "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }, (char[]){ "LANG=C.UTF-8" },
                                NULL, NULL };
        posix_spawn_file_actions_t files;
        posix_spawnattr_t attributes;
        int r;

        if (getenv("HOME") && asprintf(&home, "HOME=%s", getenv("HOME")) < 0) {
                home = NULL;
                return -ENOMEM;
        }
        environment[2] = home;
        if (posix_spawn_file_actions_init(&files) != 0)
                return -ENOMEM;
        if (posix_spawnattr_init(&attributes) != 0) {
                posix_spawn_file_actions_destroy(&files);
                return -ENOMEM;
        }
        r = spawn_setup(&files, &attributes, out_fd, error_fd);
        if (r == 0)
                r = -posix_spawn(ret_pid, command->words[0], &files, &attributes, command->words, environment);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&files);
        return r;
}

static struct event *watch(struct event_base *base, int fd, short what, event_callback_fn handle, struct aws_process *p)
{
        struct event *event = event_new(base, fd, (short)(what | EV_PERSIST), handle, p);

        if (event && event_add(event, NULL) < 0) {
                event_free(event);
                return NULL;
        }
        return event;
}

/* Run the program, with our ends of its pipes in @p. */
static int run(struct aws_process *p, const struct aws_command *command)
{
        /* Above the three that it gets, whatever of those is free here. */
        _cleanup_(closep) int out_low = -1, error_low = -1, out_fd = -1, error_fd = -1;
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        p->out_fd = ends[0];
        out_low = ends[1];
        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        p->error_fd = ends[0];
        error_low = ends[1];
        out_fd = fcntl(out_low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        error_fd = fcntl(error_low, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (out_fd < 0 || error_fd < 0 || fcntl(p->out_fd, F_SETFL, O_NONBLOCK) < 0 || fcntl(p->error_fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        return spawn(&p->pid, command, out_fd, error_fd);
}

static int start(struct aws_process *p, struct event_base *base, const struct aws_command *command)
{
        struct timeval time = { .tv_sec = (time_t)(p->time_usec / USEC_PER_SEC), .tv_usec = (suseconds_t)(p->time_usec % USEC_PER_SEC) };
        int r;

        if (access(command->words[0], X_OK) < 0)
                return -errno;
        r = secret_new(&p->out, SECRET_BODY_MAX);
        if (r < 0)
                return r;
        /* Before there is a child, so that its end is not missed. */
        p->child_event = watch(base, SIGCHLD, EV_SIGNAL, on_child, p);
        r = p->child_event ? run(p, command) : -ENOMEM;
        if (r < 0)
                return r;
        p->out_event = watch(base, p->out_fd, EV_READ, on_out, p);
        p->error_event = watch(base, p->error_fd, EV_READ, on_error, p);
        p->timer = evtimer_new(base, on_time, p);
        return p->out_event && p->error_event && p->timer && evtimer_add(p->timer, &time) == 0 ? 0 : -ENOMEM;
}

int aws_process_start(struct aws_process **ret_process, const struct aws_surroundings *around, const char *command, const char *source,
                      uint64_t time_usec, struct aws_way_call *call, struct sentence *ret_why)
{
        _cleanup_(aws_process_freep) struct aws_process *p = NULL;
        _cleanup_(aws_command_deinit) struct aws_command parsed = { 0 };
        int r = aws_command_parse(&parsed, command, ret_why);

        if (r < 0)
                return r;
        p = calloc(1, sizeof(*p));
        if (p) {
                p->call = call;
                p->time_usec = time_usec;
                p->out_fd = p->error_fd = -1;
                p->program = strdup(parsed.words[0]);
                p->source = strdup(source);
        }
        r = p && p->program && p->source ? start(p, around->base, &parsed) : -ENOMEM;
        if (r < 0) {
                sentence_set(ret_why, "credential_process %s cannot be run: %s", parsed.words[0],
                             r == -ENOBUFS ? "no locked memory is left" : strerror(-r));
                return r;
        }
        *ret_process = TAKE_PTR(p);
        return 0;
}
