/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease-helper: an application that keeps databases open, as liblkm's manual says, for the integration tests.
 *
 *     lease-helper hold DB [TIMEOUT-MSEC]    takes a lease, then does what it reads: wanted, wait (until it is), yield MSEC, fd, fork, free; says what came of it
 *     lease-helper crowd DB N                takes N leases, one session each, says how many it got, waits for a line
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lkm.h"

enum { CROWD_MAX = 256, LINE_MAX_BYTES = 128 };

static void say(int error, const char *message)
{
        printf("%s %s\n", lkm_error_name(error), message);
        fflush(stdout);
}

static int failed(int error, const struct lkm *lkm)
{
        say(error, lkm_error_message(lkm));
        return 1;
}

/* As an event loop does it: the descriptor may change, and ends when the daemon does. */
static void wait_until_wanted(struct lkm_lease *lease)
{
        while (!lkm_lease_is_wanted(lease)) {
                struct pollfd p = { .fd = lkm_lease_fd(lease), .events = POLLIN };

                poll(&p, 1, p.fd < 0 ? 10 : -1);
        }
}

static int in_child(struct lkm_lease *lease)
{
        int as_promised = lkm_lease_is_wanted(lease) == 0 && lkm_lease_fd(lease) == -1 && lkm_lease_yield(lease, 1) == LKM_E_FORKED;

        lkm_lease_free(&lease);
        return as_promised ? 0 : 1;
}

static void do_fork(struct lkm_lease *lease)
{
        int status = 1;
        pid_t child = fork();

        if (child == 0)
                _exit(in_child(lease));
        waitpid(child, &status, 0);
        printf("%s\n", status == 0 ? "refused in the child" : "NOT REFUSED");
        fflush(stdout);
}

static int command_hold(char **a)
{
        struct lkm_lease *lease = NULL;
        struct lkm *lkm = NULL;
        char line[LINE_MAX_BYTES];
        struct lkm_options options = { .timeout_msec = a[1] ? (uint32_t)strtoul(a[1], NULL, 10) : 0 };
        int r = lkm_connect(&lkm, &options);

        if (r == 0)
                r = lkm_lease_new(lkm, a[0], &lease);
        if (r)
                return failed(r, lkm);
        lkm_free(&lkm); /* which the lease does not need */
        say(0, "");
        while (fgets(line, sizeof(line), stdin)) {
                if (strcmp(line, "wanted\n") == 0) {
                        printf("%d\n", lkm_lease_is_wanted(lease));
                        fflush(stdout);
                } else if (strcmp(line, "wait\n") == 0) {
                        wait_until_wanted(lease);
                        say(0, "wanted");
                } else if (strncmp(line, "yield ", 6) == 0) {
                        r = lkm_lease_yield(lease, (uint32_t)strtoul(line + 6, NULL, 10));
                        say(r, r ? lkm_error_message(NULL) : "");
                } else if (strcmp(line, "fork\n") == 0) {
                        do_fork(lease);
                } else {
                        break;
                }
        }
        lkm_lease_free(&lease);
        return 0;
}

static int command_crowd(char **a)
{
        static struct lkm_lease *leases[CROWD_MAX];
        struct lkm *lkm = NULL;
        int n = 0, wanted = (int)strtol(a[1], NULL, 10), r = lkm_connect(&lkm, NULL);

        while (r == 0 && n < wanted && n < CROWD_MAX) {
                r = lkm_lease_new(lkm, a[0], &leases[n]);
                n += r == 0;
        }
        say(r, r ? lkm_error_message(lkm) : "");
        while (getchar() != '\n' && !feof(stdin)) {
                /* the test goes on when it likes */
        }
        while (n > 0)
                lkm_lease_free(&leases[--n]);
        lkm_free(&lkm);
        return 0;
}

int main(int argc, char **argv)
{
        if (argc >= 3 && strcmp(argv[1], "hold") == 0)
                return command_hold(argv + 2);
        if (argc == 4 && strcmp(argv[1], "crowd") == 0)
                return command_crowd(argv + 2);
        fputs("lease-helper: wrong use\n", stderr);
        return 2;
}
