/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deny-calls ERRNO CALL… -- PROGRAM [ARGUMENT…]: run PROGRAM on a kernel that answers each of these system calls with that error number, as an old
 * one does, or one of a container. Status 77 when the filter cannot be set.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        unsigned number = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
        int i = 2;

        for (; filter && i < argc && strcmp(argv[i], "--") != 0; i++) {
                int call = seccomp_syscall_resolve_name(argv[i]);

                if (call == __NR_SCMP_ERROR || seccomp_rule_add(filter, SCMP_ACT_ERRNO(number), call, 0) < 0) {
                        fprintf(stderr, "cannot deny %s here\n", argv[i]);
                        return 77;
                }
        }
        if (!filter || i + 1 >= argc) {
                fputs("Usage: deny-calls ERRNO CALL... -- PROGRAM [ARGUMENT]...\n", stderr);
                return 2;
        }
        if (seccomp_load(filter) < 0) {
                fputs("no filter of system calls can be set here\n", stderr);
                return 77;
        }
        seccomp_release(filter);
        execvp(argv[i + 1], argv + i + 1);
        perror(argv[i + 1]);
        return 127;
}
