/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox-helper: for test_sandbox.py. Goes into the sandbox of lkmd, in a child for each try, and tells what became of it.
 *   list           the calls that are allowed: NUMBER NAME often|rare
 *   calls          each native number that there is, and some more: NUMBER OUTCOME
 *   x32 | ia32     the same for the other two kinds of calls that an x86-64 kernel may know
 *   arguments      calls on the list with arguments that are not allowed, or are: NAME OUTCOME
 *   threads        a thread that was there before tries a call that is not on the list: OUTCOME
 *   last-words     an assertion fails inside, then the allocator finds a pointer that is none, each with its words on standard error: OUTCOME
 *   stopped        a timed wait, during which the process is stopped and let go on: OUTCOME
 *   files CONFIG AUDIT SOCKET ACTION…   confines its files as lkmd with these paths does, then ACTION:ARGUMENT, or ACTION:FROM:TO, each: ACTION:… ERROR
 *                  where wait: lets go on what was written so far, and then waits for a byte
 *   abi            the version of Landlock of this kernel, 0 without
 *   refused CALL COMMAND…   run COMMAND where CALL, seccomp or landlock, is not permitted; or missing: it says that it has no Landlock
 * An outcome is "killed" (by the sandbox), "ended N" or "signal N".
 */
#include <asm/unistd.h>
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common/cleanup.h"
#include "daemon/sandbox.h"

enum { LAST_NUMBER = 1023, X32_BIT = 0x40000000 };

static void enter(void)
{
        struct sandbox s = { 0 };
        const char *why = "?";

        if (sandbox_confine_calls(&s, &why) == 0)
                return;
        fprintf(stderr, "%s\n", why);
        abort();
}

static int print_status(int status)
{
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
                puts("killed");
        else if (WIFSIGNALED(status))
                printf("signal %d\n", WTERMSIG(status));
        else
                printf("ended %d\n", WEXITSTATUS(status));
        return EXIT_SUCCESS;
}

/* Run @try with @argument in a child that has entered the sandbox, and print the outcome. */
static void outcome(void (*try)(long argument), long argument)
{
        int status;
        pid_t pid;

        fflush(stdout);
        pid = fork();
        if (pid == 0) {
                static const struct rlimit no_core = { 0, 0 };

                setrlimit(RLIMIT_CORE, &no_core);
                enter();
                try(argument);
                syscall(SYS_exit_group, 0);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid) {
                perror("fork");
                exit(EXIT_FAILURE);
        }
        print_status(status);
}

/* ---- every number ---- */

static void call_native(long number)
{
        /* The arguments that the list checks, where it checks any; else ones that no call can do anything with. */
        switch (number) {
        case SYS_socket:
                syscall(number, AF_UNIX, SOCK_STREAM, 0);
                break;
        case SYS_getsockopt:
                syscall(number, -1, SOL_SOCKET, 0, NULL, NULL);
                break;
        case SYS_madvise:
                syscall(number, NULL, 0, MADV_DONTNEED);
                break;
        default:
                syscall(number, -1L, 0L, 0L, 0L, 0L, 0L);
        }
}

static void call_ia32(long number)
{
#ifdef __x86_64__
        long result;

        __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(-1L), "c"(0L), "d"(0L), "S"(0L), "D"(0L) : "memory", "r8", "r9", "r10", "r11");
        (void)result;
#endif
}

static int each_number(void (*try)(long), long first)
{
        for (long n = 0; n <= LAST_NUMBER; n++) {
                printf("%ld ", n);
                outcome(try, first + n);
        }
        return EXIT_SUCCESS;
}

/* ---- arguments ---- */

static void make_socket(long family)
{
        syscall(SYS_socket, family, SOCK_STREAM, 0);
}

static void map(long protection)
{
        syscall(SYS_mmap, NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void advise(long advice)
{
        syscall(SYS_madvise, NULL, 0, advice);
}

static void ask_socket(long level)
{
        syscall(SYS_getsockopt, -1, level, 0, NULL, NULL);
}

static int arguments(void)
{
        static const struct {
                const char *name;
                void (*try)(long);
                long argument;
        } tries[] = {
                { "socket-unix", make_socket, AF_UNIX },
                { "socket-inet", make_socket, AF_INET },
                { "socket-inet6", make_socket, AF_INET6 },
                { "socket-netlink", make_socket, AF_NETLINK },
                { "socket-packet", make_socket, AF_PACKET },
                { "socket-vsock", make_socket, AF_VSOCK },
                { "mmap-read-write", map, PROT_READ | PROT_WRITE },
                { "mmap-exec", map, PROT_EXEC },
                { "mmap-read-exec", map, PROT_READ | PROT_EXEC },
                { "madvise-dontneed", advise, MADV_DONTNEED },
                { "madvise-hugepage", advise, MADV_HUGEPAGE },
                { "madvise-dodump", advise, MADV_DODUMP },
                { "madvise-dofork", advise, MADV_DOFORK },
                { "getsockopt-socket", ask_socket, SOL_SOCKET },
                { "getsockopt-tcp", ask_socket, 6 },
        };

        for (size_t i = 0; i < ELEMENTSOF(tries); i++) {
                printf("%s ", tries[i].name);
                outcome(tries[i].try, tries[i].argument);
        }
        return EXIT_SUCCESS;
}

/* ---- threads ---- */

static pthread_barrier_t entered;

static void *call_in_thread(void *unused)
{
        pthread_barrier_wait(&entered);
        syscall(SYS_uname, NULL);
        return NULL;
}

static int threads(void)
{
        pid_t pid = fork();
        pthread_t thread;
        int status;

        if (pid == 0) {
                pthread_barrier_init(&entered, NULL, 2);
                if (pthread_create(&thread, NULL, call_in_thread, NULL) != 0)
                        return EXIT_FAILURE;
                enter();
                pthread_barrier_wait(&entered);
                pthread_join(thread, NULL);
                return EXIT_SUCCESS;
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
                return EXIT_FAILURE;
        puts(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? "killed" : "not killed");
        return EXIT_SUCCESS;
}

/* ---- the last words, and going on ---- */

static void fail_assertion(long argument)
{
        assert(argument == 0);
}

static void free_what_is_none(long offset)
{
        char *memory = malloc(64), *volatile wrong = memory + offset;

        free(wrong);
}

/* In memory that the child shares. */
static uint32_t *word;

/* An absolute time, as of pthread_cond_timedwait(3), after which nobody looks. */
static void wait_for_word(long unused)
{
        static const struct timespec never = { .tv_sec = 1L << 40 };

        while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == 0) {
                if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET, 0, &never, NULL, FUTEX_BITSET_MATCH_ANY) < 0 && errno != EINTR && errno != EAGAIN)
                        syscall(SYS_exit_group, 1);
        }
}

/* Wait until the kernel says that @pid sleeps. Return: false when it is gone. */
static bool is_asleep(pid_t pid)
{
        char path[64], state = '?';

        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        while (state != 'S') {
                _cleanup_(fclosep) FILE *file = fopen(path, "re");

                if (!file || fscanf(file, "%*d %*s %c", &state) != 1 || state == 'Z')
                        return false;
                sched_yield();
        }
        return true;
}

static int stopped(void)
{
        int status, entered_pipe[2];
        pid_t pid;
        char byte = 0;

        word = mmap(NULL, sizeof(*word), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (word == MAP_FAILED || pipe2(entered_pipe, O_CLOEXEC) < 0)
                return EXIT_FAILURE;
        pid = fork();
        if (pid == 0) {
                enter();
                if (write(entered_pipe[1], &byte, 1) == 1)
                        wait_for_word(0);
                syscall(SYS_exit_group, 0);
        }
        close(entered_pipe[1]);
        if (pid < 0 || read(entered_pipe[0], &byte, 1) != 1 || !is_asleep(pid) || kill(pid, SIGSTOP) < 0 || waitpid(pid, &status, WUNTRACED) != pid ||
            !WIFSTOPPED(status) || kill(pid, SIGCONT) < 0)
                return EXIT_FAILURE;
        if (is_asleep(pid)) {
                __atomic_store_n(word, 1, __ATOMIC_RELEASE);
                syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
        }
        return waitpid(pid, &status, 0) == pid ? print_status(status) : EXIT_FAILURE;
}

/* ---- files ---- */

static int try_open(const char *path, int flags)
{
        _cleanup_(closep) int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK, 0600);

        return fd < 0 ? errno : 0;
}

static int try_tcp(const char *port, bool connects)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        _cleanup_(closep) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        int r = connects ? connect(fd, (struct sockaddr *)&address, sizeof(address)) : bind(fd, (struct sockaddr *)&address, sizeof(address));

        return r < 0 ? errno : 0;
}

static int try_unix(const char *name, bool connects)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t n = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
        int r;

        snprintf(address.sun_path, sizeof(address.sun_path), "%s", name);
        if (*name == '@')
                address.sun_path[0] = '\0';
        r = connects ? connect(fd, (struct sockaddr *)&address, n) : bind(fd, (struct sockaddr *)&address, n);
        return r < 0 ? errno : 0;
}

static int act(const char *action, const char *from, const char *to)
{
        char *const none[] = { NULL };

        if (strcmp(action, "read") == 0)
                return try_open(from, O_RDONLY);
        if (strcmp(action, "write") == 0)
                return try_open(from, O_WRONLY);
        if (strcmp(action, "create") == 0)
                return try_open(from, O_WRONLY | O_CREAT | O_EXCL);
        if (strcmp(action, "truncate") == 0)
                return truncate(from, 0) < 0 ? errno : 0;
        if (strcmp(action, "remove") == 0)
                return unlink(from) < 0 ? errno : 0;
        if (strcmp(action, "rename") == 0)
                return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0) < 0 ? errno : 0;
        if (strcmp(action, "link") == 0)
                return symlink("/", from) < 0 ? errno : 0;
        if (strcmp(action, "folder") == 0)
                return mkdir(from, 0700) < 0 ? errno : 0;
        if (strcmp(action, "execute") == 0)
                return execve(from, none, none) < 0 ? errno : 0;
        if (strcmp(action, "connect-tcp") == 0 || strcmp(action, "bind-tcp") == 0)
                return try_tcp(from, *action == 'c');
        if (strcmp(action, "connect") == 0 || strcmp(action, "bind") == 0)
                return try_unix(from, *action == 'c');
        if (strcmp(action, "signal") == 0)
                return kill((pid_t)strtol(from, NULL, 10), 0) < 0 ? errno : 0;
        if (strcmp(action, "wait") == 0) {
                fflush(stdout);
                return getchar() == EOF ? EIO : 0;
        }
        return ENOSYS;
}

static int files(char **arguments)
{
        const struct sandbox_files paths = { .config_path = arguments[0],
                                             .names = { "/etc/passwd", "/etc/group" },
                                             .audit_file = arguments[1],
                                             .sockets = { *arguments[2] ? arguments[2] : NULL } };
        struct sandbox s = { 0 };
        const char *why = "no Landlock";

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sandbox_confine_files(&s, &paths, &why) != 0) {
                fprintf(stderr, "%s: %m\n", why);
                return EXIT_FAILURE;
        }
        for (char **argument = arguments + 3; *argument; argument++) {
                char *copy = strdup(*argument), *from = copy ? strchr(copy, ':') : NULL, *to;
                int error;

                if (!from)
                        return 2;
                *from++ = '\0';
                to = strchr(from, ':');
                if (to)
                        *to++ = '\0';
                error = act(copy, from, to);
                printf("%s %s\n", *argument, error ? strerrorname_np(error) : "0");
                free(copy);
        }
        return EXIT_SUCCESS;
}

/* ---- others ---- */

static int list(void)
{
        const char *name;
        int number;
        bool often;

        for (size_t i = 0; sandbox_call_next(i, &name, &number, &often); i++)
                printf("%d %s %s\n", number, name, often ? "often" : "rare");
        return EXIT_SUCCESS;
}

static int abi(void)
{
        long version = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */);

        printf("%ld\n", version < 0 ? 0 : version);
        return EXIT_SUCCESS;
}

static int refused(const char *call, char **command)
{
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        int r;

        if (!filter)
                return EXIT_FAILURE;
        if (strcmp(call, "seccomp") == 0) {
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(seccomp), 0);
                if (r == 0)
                        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_SECCOMP));
        } else {
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(strcmp(call, "missing") == 0 ? ENOSYS : EPERM), SYS_landlock_create_ruleset, 0);
        }
        if (r < 0 || seccomp_load(filter) < 0)
                return EXIT_FAILURE;
        execv(command[0], command);
        perror(command[0]);
        return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
        const char *what = argc > 1 ? argv[1] : "";

        if (strcmp(what, "list") == 0)
                return list();
        if (strcmp(what, "calls") == 0)
                return each_number(call_native, 0);
        if (strcmp(what, "x32") == 0)
                return each_number(call_native, X32_BIT);
        if (strcmp(what, "ia32") == 0)
                return each_number(call_ia32, 0);
        if (strcmp(what, "arguments") == 0)
                return arguments();
        if (strcmp(what, "threads") == 0)
                return threads();
        if (strcmp(what, "last-words") == 0) {
                outcome(fail_assertion, 1);
                outcome(free_what_is_none, 8);
                return EXIT_SUCCESS;
        }
        if (strcmp(what, "stopped") == 0)
                return stopped();
        if (strcmp(what, "abi") == 0)
                return abi();
        if (strcmp(what, "files") == 0 && argc > 5)
                return files(argv + 2);
        if (strcmp(what, "refused") == 0 && argc > 3)
                return refused(argv[2], argv + 3);
        return 2;
}
