/* SPDX-License-Identifier: Apache-2.0 */
#include "client/passphrase.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <termios.h>

enum { ROOM = PASSPHRASE_MAX + 2 }; /* the newline, and one byte that shows that there are too many */

_printf_(3, 4) static int refuse(char why[PASSPHRASE_WHY_MAX], int error, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(why, PASSPHRASE_WHY_MAX, format, arguments);
        va_end(arguments);
        return error;
}

/* ---- bytes ---- */

/* Read to the end of @fd, or with @one to the end of one read(2), which on a terminal is a line. Return: bytes, or -errno. */
static ssize_t read_secret(int fd, uint8_t *view, bool one)
{
        size_t n = 0;
        ssize_t k;

        do {
                k = read(fd, view + n, ROOM - n);
                if (k < 0 && errno == EINTR && !one)
                        continue;
                if (k < 0)
                        return -errno;
                n += (size_t)k;
        } while (k > 0 && n < ROOM && !one);
        return (ssize_t)n;
}

/* Make what was read a passphrase: without its newline, and neither empty nor too long. */
static int take(struct secret **ret_passphrase, struct secret *text, size_t n, const char *where, char why[PASSPHRASE_WHY_MAX])
{
        uint8_t *view = secret_view_begin(text);

        if (n > 0 && view[n - 1] == '\n')
                n--;
        secret_view_end(text, &view);
        if (n == 0)
                return refuse(why, -ENODATA, "%s gave an empty passphrase. Give it the right one", where);
        if (n > PASSPHRASE_MAX)
                return refuse(why, -EMSGSIZE, "%s gave more than %d bytes, which no passphrase has. Give it the right one", where, PASSPHRASE_MAX);
        secret_resize(text, n);
        *ret_passphrase = secret_ref(text);
        return 0;
}

/* ---- files and descriptors ---- */

int passphrase_open(int *ret_fd, const char *path, char ret_why[PASSPHRASE_WHY_MAX])
{
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        struct stat status;

        if (fd < 0 || fstat(fd, &status) < 0)
                return refuse(ret_why, -errno, "cannot open %s: %s. Check the path and its permissions", path, strerror(errno));
        if (S_ISREG(status.st_mode) && (status.st_mode & 077))
                return refuse(ret_why, -EACCES, "%s has mode %04o, so others may read or change the passphrase. Run `chmod 600 %s`", path,
                              status.st_mode & 07777, path);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int read_descriptor(struct secret **ret_passphrase, const struct passphrase_source *source, char why[PASSPHRASE_WHY_MAX])
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        uint8_t *view;
        char number[32];
        const char *where = source->name ? source->name : number;
        int fd = source->fd;
        ssize_t n;

        if (secret_new(&text, ROOM) < 0)
                return refuse(why, -ENOBUFS, "no locked memory is left for the passphrase");
        view = secret_view_begin(text);
        n = read_secret(fd, view, false);
        secret_view_end(text, &view);
        snprintf(number, sizeof(number), "descriptor %d", fd);
        if (n < 0)
                return refuse(why, (int)n, "cannot read the passphrase from %s: %s", where, strerror((int)-n));
        /* What it leads to is not for the processes that are started later. */
        if (fd > STDERR_FILENO)
                close(fd);
        return take(ret_passphrase, text, (size_t)n, where, why);
}

/* ---- the terminal ---- */

/* Those that end or stop a process while it waits for a person. */
static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP };
static volatile sig_atomic_t caught;

static void on_signal(int number)
{
        caught = number;
}

/** A terminal with its echo off, and what has to be put back. */
struct terminal {
        int fd;
        struct termios settings;
        sigset_t mask;
        struct sigaction actions[ELEMENTSOF(signals)];
};

/* The signals come through only while terminal_wait() waits, so none falls between a look at `caught` and the wait. To be ended in any case but
 * that of no terminal. */
static int terminal_begin(struct terminal *t)
{
        struct sigaction action = { .sa_handler = on_signal };
        struct termios quiet;
        sigset_t blocked;

        if (tcgetattr(t->fd, &t->settings) < 0)
                return -ENOTTY;
        sigemptyset(&blocked);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                sigaddset(&blocked, signals[i]);
        sigprocmask(SIG_BLOCK, &blocked, &t->mask);
        caught = 0;
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                sigaction(signals[i], &action, &t->actions[i]);
        quiet = t->settings;
        quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK);
        quiet.c_lflag |= ICANON | ISIG | ECHONL;
        return tcsetattr(t->fd, TCSAFLUSH, &quiet) < 0 ? -errno : 0;
}

static void terminal_end(struct terminal *t)
{
        tcsetattr(t->fd, TCSAFLUSH, &t->settings);
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                sigaction(signals[i], &t->actions[i], NULL);
        /* Raised while still blocked, it arrives with the old action as the mask is put back. */
        if (caught)
                raise(caught);
        sigprocmask(SIG_SETMASK, &t->mask, NULL);
}

static int terminal_wait(const struct terminal *t)
{
        struct pollfd ready = { .fd = t->fd, .events = POLLIN };

        while (ppoll(&ready, 1, NULL, &t->mask) < 0) {
                if (errno != EINTR || caught)
                        return -errno;
        }
        return 0;
}

static ssize_t terminal_ask(struct terminal *t, const char *prompt, uint8_t *view)
{
        ssize_t n = terminal_begin(t);

        if (n == -ENOTTY)
                return n;
        if (n == 0 && write(t->fd, prompt, strlen(prompt)) < 0)
                n = -errno;
        if (n == 0)
                n = terminal_wait(t);
        if (n == 0)
                n = read_secret(t->fd, view, true);
        terminal_end(t);
        return n;
}

static int read_terminal(struct secret **ret_passphrase, const char *prompt, char why[PASSPHRASE_WHY_MAX])
{
        _cleanup_(closep) int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        struct terminal terminal = { .fd = fd };
        uint8_t *view;
        ssize_t n;

        if (fd < 0)
                return refuse(why, -errno, "there is no terminal to ask for the passphrase. Use --passphrase-file or --passphrase-fd");
        if (secret_new(&text, ROOM) < 0)
                return refuse(why, -ENOBUFS, "no locked memory is left for the passphrase");
        view = secret_view_begin(text);
        do
                n = terminal_ask(&terminal, prompt, view);
        while (n == -EINTR && caught == SIGTSTP); /* stopped, and continued: ask again */
        secret_view_end(text, &view);
        if (n < 0)
                return refuse(why, (int)n, "cannot read the passphrase from the terminal: %s", strerror((int)-n));
        return take(ret_passphrase, text, (size_t)n, "the terminal", why);
}

int passphrase_read(struct secret **ret_passphrase, const struct passphrase_source *source, char ret_why[PASSPHRASE_WHY_MAX])
{
        return source->fd >= 0 ? read_descriptor(ret_passphrase, source, ret_why) : read_terminal(ret_passphrase, source->prompt, ret_why);
}
