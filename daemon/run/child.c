/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/run/child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <systemd/sd-daemon.h>

#include "common/cleanup.h"
#include "common/log.h"

static void child_fail(const char *what)
{
        log_error("cannot run %s: %s", what, strerror(errno));
        _exit(errno == ENOENT ? 127 : 126);
}

static bool child_descriptors(const struct child_options *o)
{
        int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC), fds[ELEMENTSOF(o->listen)];

        /* stdout is COMMAND's. */
        if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
                return false;
        /* First out of the way: what one becomes may be what another one is. */
        for (size_t i = 0; i < o->n_listen; i++) {
                fds[i] = fcntl(o->listen[i].fd, F_DUPFD_CLOEXEC, SD_LISTEN_FDS_START + (int)ELEMENTSOF(fds));
                if (fds[i] < 0)
                        return false;
        }
        for (size_t i = 0; i < o->n_listen; i++) {
                if (dup2(fds[i], SD_LISTEN_FDS_START + (int)i) < 0)
                        return false;
        }
        return true;
}

static bool child_environment(const struct child_options *o)
{
        char pid[24], n[24], names[64] = "";
        size_t length = 0;

        snprintf(pid, sizeof(pid), "%ld", (long)getpid());
        snprintf(n, sizeof(n), "%zu", o->n_listen);
        for (size_t i = 0; i < o->n_listen; i++)
                length += (size_t)snprintf(names + length, sizeof(names) - length, "%s%s", i ? ":" : "", o->listen[i].name);
        if (setenv("LISTEN_FDS", n, 1) < 0 || setenv("LISTEN_PID", pid, 1) < 0 || setenv("LISTEN_FDNAMES", names, 1) < 0)
                return false;
        /* Our own service manager's words are not for the child. */
        if (unsetenv("WATCHDOG_USEC") < 0 || unsetenv("WATCHDOG_PID") < 0 || unsetenv("NOTIFY_SOCKET") < 0)
                return false;
        return !o->notify_socket || setenv("NOTIFY_SOCKET", o->notify_socket, 1) == 0;
}

static void child_become_daemon(const struct child_options *o, pid_t parent)
{
        /* Its own process group: Ctrl-C in the terminal is for lkm-run, which ends the daemons in order. */
        if (setpgid(0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
                child_fail(o->program);
        if (getppid() != parent)
                _exit(0);
        if (!child_descriptors(o) || !child_environment(o) || sigprocmask(SIG_SETMASK, o->mask, NULL) < 0)
                child_fail(o->program);
        execl(o->program, o->name, "--config", o->config_path, (char *)NULL);
        child_fail(o->program);
}

int child_start(pid_t *ret_pid, const struct child_options *options)
{
        pid_t parent = getpid(), pid = fork();

        if (pid < 0)
                return -errno;
        if (pid == 0)
                child_become_daemon(options, parent);
        *ret_pid = pid;
        return 0;
}

int child_start_command(pid_t *ret_pid, char *const *argv, const char *socket_path, const char *admin_socket_path, const sigset_t *mask)
{
        pid_t pid = fork();

        if (pid < 0)
                return -errno;
        if (pid == 0) {
                if (setenv("LKM_SOCKET", socket_path, 1) < 0 || (admin_socket_path && setenv("LKM_ADMIN_SOCKET", admin_socket_path, 1) < 0) ||
                    sigprocmask(SIG_SETMASK, mask, NULL) < 0)
                        child_fail(argv[0]);
                execvp(argv[0], argv);
                child_fail(argv[0]);
        }
        *ret_pid = pid;
        return 0;
}

void child_print_hint(const char *name, const char *socket_path)
{
        bool plain = strspn(socket_path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+@:,") ==
                     strlen(socket_path);

        printf("%s=", name);
        if (plain)
                fputs(socket_path, stdout);
        for (const char *c = plain ? "" : socket_path; *c; c++) {
                if (c == socket_path)
                        putchar('\'');
                if (*c == '\'')
                        fputs("'\\''", stdout);
                else
                        putchar(*c);
                if (c[1] == '\0')
                        putchar('\'');
        }
        printf("; export %s\n", name);
        fflush(stdout);
}
