/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake-rekey: what an lkm-rekey might do, by the name of its command; for test-worker. Tells of its job what the test asks for, never a key.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/rekey/job.h"

static struct rekey_job job;
static struct rekey_job_key keys[REKEY_KEYS_MAX];

static int job_read(void)
{
        size_t n = 0, n_keys = 0;
        ssize_t got;

        while (n < sizeof(job) && (got = read(0, (char *)&job + n, sizeof(job) - n)) > 0)
                n += (size_t)got;
        while (n_keys < sizeof(keys) && (got = read(0, (char *)keys + n_keys, sizeof(keys) - n_keys)) > 0)
                n_keys += (size_t)got;
        return job.magic == REKEY_MAGIC && n_keys == job.n_keys * sizeof(keys[0]) ? 0 : -1;
}

/* Each byte of key I is I. */
static int keys_are_right(void)
{
        for (uint32_t i = 0; i < job.n_keys; i++) {
                if (keys[i].version != i + 1)
                        return 0;
                for (size_t k = 0; k < sizeof(keys[i].key); k++) {
                        if (keys[i].key[k] != i)
                                return 0;
                }
        }
        return 1;
}

static void tell_process(void)
{
        sigset_t blocked;
        int open_fds = 0;

        for (int fd = 0; fd < 256; fd++)
                open_fds += fcntl(fd, F_GETFD) >= 0;
        sigprocmask(SIG_SETMASK, NULL, &blocked);
        printf("table fds %d\ntable blocked %d\ntable sigchld %d\n", open_fds, sigismember(&blocked, SIGTERM),
               signal(SIGCHLD, SIG_DFL) == SIG_IGN);
}

static _Noreturn void wait_for_ever(void)
{
        for (;;)
                pause();
}

/* ---- the commands: each ends the process, or goes on to the usual lines ---- */

static void command_silent(void)
{
        _exit(0);
}

static void command_killed(void)
{
        raise(SIGKILL);
}

static void command_garbage(void)
{
        puts("\1\2\377 what\nholder x open y");
        fflush(stdout);
        wait_for_ever();
}

static void command_endless(void)
{
        while (write(1, "progress 1 2 ", 13) > 0) {
                /* no line ends */
        }
        wait_for_ever();
}

static void command_flood(void)
{
        while (puts("table a 1") >= 0) {
                /* lines without end */
        }
}

static void command_hang(void)
{
        puts("progress 5 10");
        fflush(stdout);
        wait_for_ever();
}

static const char refusal[] = "holder 1 open systemd\nholder 22 lock a b\tc\nerror 114 Somebody has it.\ndone\n";

static void command_refuse(void)
{
        fputs(refusal, stdout);
        fflush(stdout);
        _exit(1);
}

/* The same, but the rest only when the reader has taken the first @n bytes; success once there are no more. */
static _Noreturn void refuse_in_two(size_t n)
{
        int unread = 1;

        if (n >= strlen(refusal))
                _exit(puts("done") < 0 || fflush(stdout) != 0);
        for (ssize_t written = write(1, refusal, n); written > 0 && unread > 0;) {
                if (ioctl(1, FIONREAD, &unread) < 0)
                        break;
                poll(NULL, 0, unread > 0 ? 1 : 0);
        }
        _exit(write(1, refusal + n, strlen(refusal) - n) < 0 ? 2 : 1);
}

static void command_done_and_killed(void)
{
        puts("done");
        fflush(stdout);
        raise(SIGKILL);
}

static void command_unended(void)
{
        fputs("progress 1 2\ndone", stdout);
        fflush(stdout);
        _exit(0);
}

static void command_holders(void)
{
        for (int i = 1; i <= 40; i++)
                printf("holder %d open p%d\n", i, i);
}

static void command_tell(void)
{
        printf("table job %u %u %u %u %u\n", job.compatibility, job.page_size, job.timeout_msec, job.flags, job.n_keys);
        printf("table keys %d\n", keys_are_right());
        tell_process();
}

int main(int argc, char **argv)
{
        static const struct {
                const char *name;
                void (*run)(void);
        } commands[] = {
                { "silent", command_silent },   { "killed", command_killed },   { "garbage", command_garbage },
                { "endless", command_endless }, { "flood", command_flood },     { "hang", command_hang },
                { "refuse", command_refuse },   { "unended", command_unended }, { "done-and-killed", command_done_and_killed },
                { "holders", command_holders }, { "tell", command_tell },
        };

        if (argc < 3 || strcmp(argv[1], "deaf") == 0 || job_read() < 0)
                return 0;
        if (strncmp(argv[1], "cut-", 4) == 0)
                refuse_in_two(strtoul(argv[1] + 4, NULL, 10));
        for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
                if (strcmp(argv[1], commands[i].name) == 0)
                        commands[i].run();
        }
        printf("table arguments %d %s %s\n", argc, argv[2], argc > 3 ? argv[3] : "-");
        puts("progress 0 10\nmode wal\nfits 1 7\nfits 2 3\npages 10 2 1\nopens 2\nrange 1 9 2\nempty\nsomething new\nprogress 10 10\ndone");
        return 0;
}
