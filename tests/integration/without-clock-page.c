/* SPDX-License-Identifier: Apache-2.0 */
/*
 * without-clock-page PROGRAM [ARGUMENT]...: run a program that is not told of the page in which the kernel keeps the clocks (vdso(7)), as if the machine's clock
 * could not be read there: the C library then makes a system call for each look. A grandchild does it: it traces this process until PROGRAM's image is
 * there, and takes the page's address off the list of what a program is told at its start.
 */
#include <elf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORD = sizeof(long) };

static long peek(pid_t pid, unsigned long address)
{
        return ptrace(PTRACE_PEEKDATA, pid, (void *)address, NULL);
}

/* On the stack of a new image: how many arguments, the arguments, NULL, the environment, NULL, and pairs of a type and a value. */
static int hide(pid_t pid)
{
#ifdef __x86_64__
        struct user_regs_struct registers;
        unsigned long at;

        if (ptrace(PTRACE_GETREGS, pid, NULL, &registers) < 0)
                return -1;
        at = registers.rsp + WORD * (unsigned long)(peek(pid, registers.rsp) + 2);
        while (peek(pid, at) != 0)
                at += WORD;
        for (at += WORD; peek(pid, at) != AT_NULL; at += 2 * WORD) {
                if (peek(pid, at) == AT_SYSINFO_EHDR)
                        return ptrace(PTRACE_POKEDATA, pid, (void *)at, (void *)AT_IGNORE) < 0 ? -1 : 0;
        }
#endif
        return -1;
}

static int trace(pid_t pid, int ready_fd)
{
        int status = 0;

        if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)PTRACE_O_TRACEEXEC) < 0 || write(ready_fd, "", 1) != 1)
                return EXIT_FAILURE;
        /* Signals are told, too, such as that its child has ended. */
        while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && status >> 8 != (SIGTRAP | PTRACE_EVENT_EXEC << 8))
                ptrace(PTRACE_CONT, pid, NULL, (void *)(long)(status >> 16 ? 0 : WSTOPSIG(status)));
        if (!WIFSTOPPED(status))
                return EXIT_FAILURE;
        if (hide(pid) < 0)
                ptrace(PTRACE_KILL, pid, NULL, NULL);
        ptrace(PTRACE_DETACH, pid, NULL, NULL);
        return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
        pid_t own = getpid(), child;
        int ready[2];
        char byte;

        if (argc < 2 || pipe(ready) < 0)
                return 2;
        prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
        child = fork();
        if (child == 0)
                _exit(fork() == 0 ? trace(own, ready[1]) : EXIT_SUCCESS);
        close(ready[1]);
        if (child < 0 || waitpid(child, NULL, 0) != child || read(ready[0], &byte, 1) != 1)
                return 2;
        close(ready[0]);
        execv(argv[1], argv + 1);
        perror(argv[1]);
        return 127;
}
