/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer-races SOCKET CGROUP-A CGROUP-B UID-A UID-B UNIT-RECORD UID-RECORD ROUNDS SEED -- LKMD ARGUMENT...: processes that connect to lkmd, exec, exit and leave their
 * socket to another one, while their numbers are given to processes of somebody else at once. To be run as the first process of a process
 * namespace with its own /proc, as root.
 *
 * A is in the control group and has the uid that the policy allows for the two records; B has neither. Each round one of them connects, and
 * the answers to two GETs on its connection are compared with who it was. Numbers are reused by clone3(2) with set_tid, at once and as often as
 * wanted: each worker makes do with one. Meanwhile lkmd is stopped and let go on at moments by chance, so that what takes it microseconds
 * takes as long as what the others do.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/torture/chance.h"

enum {
        WORKERS = 4,
        FIRST_NUMBER = 1000, /* of the workers' connectors: far from what the kernel gives by itself */
        SKIPPED = 77,
        TIMEOUT_SECONDS = 60,
        MESSAGE_HELLO = 0x0001, MESSAGE_WELCOME = 0x8001, MESSAGE_GET = 0x0011, MESSAGE_KEY = 0x8011, MESSAGE_ERROR = 0x8000, ERROR_DENIED = 10,
        ID_BY_UNIT = 2, ID_BY_UID = 3, /* of the requests */
        BY_UNIT = 1, BY_UID = 2, BROKEN = 64, /* what a conversation brought: exit statuses */
        REQUEST_MAX = 3 * 65536,
};

enum behaviour {
        STAY,  /* asks itself */
        EXEC,  /* connects, runs another program, and that asks */
        EXIT,  /* connects and is gone; somebody else asks */
        REUSE, /* the same, and who asks has its number and is the other one of A and B */
        BEHAVIOURS,
};

static const char *const behaviours[] = { "stay", "exec", "exit", "reuse" };

/* Shared by the workers: added to atomically. [of B or A][what the connector did]. */
struct counts {
        unsigned long rounds[2][BEHAVIOURS], by_unit[2][BEHAVIOURS], by_uid[2][BEHAVIOURS], broken;
};

static struct counts *counts;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static int cgroups[2], self_fd, request_fd; /* indexed by whether it is A */
static uid_t uids[2];
static uint8_t request[REQUEST_MAX];
static size_t n_request;

static void fail(const char *what)
{
        perror(what);
        exit(1);
}

/* ---- the conversation ---- */

static void put(const void *data, size_t n)
{
        if (n_request + n > sizeof(request))
                fail("the records are too long");
        memcpy(request + n_request, data, n);
        n_request += n;
}

static void put_u16(uint16_t n)
{
        n = htobe16(n);
        put(&n, sizeof(n));
}

static void put_u32(uint32_t n)
{
        n = htobe32(n);
        put(&n, sizeof(n));
}

static void put_header(uint16_t number, uint32_t id, size_t n_fields)
{
        put_u32((uint32_t)(8 + n_fields));
        put_u16(number);
        put_u16(0);
        put_u32(id);
}

static void put_get(uint32_t id, const char *path)
{
        uint8_t record[65536];
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, record, sizeof(record));

        if (n <= 0)
                fail(path);
        close(fd);
        put_header(MESSAGE_GET, id, 6 + (size_t)n);
        put_u16(1);
        put_u32((uint32_t)n);
        put(record, (size_t)n);
}

static void make_request(const char *unit_record, const char *uid_record)
{
        put_header(MESSAGE_HELLO, 1, 16);
        for (uint16_t tag = 1; tag <= 2; tag++) {
                put_u16(tag);
                put_u32(2);
                put_u16(1);
        }
        put_get(ID_BY_UNIT, unit_record);
        put_get(ID_BY_UID, uid_record);
        request_fd = memfd_create("request", 0); /* for who comes by exec */
        if (request_fd < 0 || write(request_fd, request, n_request) != (ssize_t)n_request)
                fail("memfd");
}

static bool read_all(int fd, void *to, size_t n)
{
        ssize_t got;

        for (uint8_t *at = to; n > 0; at += got, n -= (size_t)got) {
                got = recv(fd, at, n, 0);
                if (got <= 0)
                        return false;
        }
        return true;
}

/* One answer. Return: 0 for WELCOME and DENIED, a bit for the key of either request, BROKEN. */
static int read_answer(int fd)
{
        uint8_t body[4096];
        uint32_t n, id;
        uint16_t number, code;

        if (!read_all(fd, &n, sizeof(n)))
                return BROKEN;
        n = be32toh(n);
        if (n < 16 || n > sizeof(body) || !read_all(fd, body, n))
                return BROKEN;
        memcpy(&number, body, sizeof(number));
        memcpy(&id, body + 4, sizeof(id));
        memcpy(&code, body + 14, sizeof(code)); /* the first field of ERROR */
        number = be16toh(number);
        id = be32toh(id);
        if (number == MESSAGE_KEY && (id == ID_BY_UNIT || id == ID_BY_UID))
                return id == ID_BY_UNIT ? BY_UNIT : BY_UID;
        return number == MESSAGE_WELCOME || (number == MESSAGE_ERROR && be16toh(code) == ERROR_DENIED) ? 0 : BROKEN;
}

/* Ask for both records. Return: BY_UNIT and BY_UID for the keys that came; BROKEN. */
static int converse(int fd)
{
        int result = 0;

        if (send(fd, request, n_request, MSG_NOSIGNAL) != (ssize_t)n_request)
                return BROKEN;
        for (int answers = 0; answers < 3; answers++)
                result |= read_answer(fd);
        return result;
}

/* ---- processes ---- */

/* A child with @number in the control group of A or B, and of that uid. Return: as fork(2). */
static pid_t child_start(pid_t number, bool is_a)
{
        struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)(unsigned)cgroups[is_a],
                                   .set_tid = (uint64_t)(uintptr_t)&number, .set_tid_size = 1 };
        pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

        if (pid < 0) {
                perror("clone3");
                exit(errno == EPERM || errno == ENOSYS || errno == EINVAL ? SKIPPED : 1);
        }
        if (pid == 0 && (setgroups(0, NULL) < 0 || setresgid(uids[is_a], uids[is_a], uids[is_a]) < 0 || setresuid(uids[is_a], uids[is_a], uids[is_a]) < 0))
                _exit(BROKEN);
        return pid;
}

static int child_end(pid_t pid)
{
        int status;

        if (waitpid(pid, &status, 0) != pid)
                fail("waitpid");
        return WIFEXITED(status) ? WEXITSTATUS(status) : BROKEN;
}

static void become_other_program(int fd)
{
        char fd_text[16], request_text[16];
        char *const arguments[] = { (char[]){ "peer-races" }, fd_text, request_text, NULL }, *const environment[] = { NULL };

        snprintf(fd_text, sizeof(fd_text), "%d", fd);
        snprintf(request_text, sizeof(request_text), "%d", request_fd);
        fexecve(self_fd, arguments, environment);
        _exit(BROKEN);
}

/* What the exec of a connector comes to: FD REQUEST-FD. */
static int other_program(char **argv)
{
        n_request = (size_t)pread((int)strtol(argv[2], NULL, 10), request, sizeof(request), 0);
        return converse((int)strtol(argv[1], NULL, 10));
}

static int new_socket(void)
{
        struct timeval limit = { .tv_sec = TIMEOUT_SECONDS, .tv_usec = 0 };
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
                fail("socket");
        return fd;
}

/* One round. Return: what whoever asked was given. */
static int play(pid_t number, bool is_a, enum behaviour what)
{
        int fd = new_socket(), result;
        pid_t pid = child_start(number, is_a);

        if (pid == 0) {
                if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                        _exit(BROKEN);
                if (what == EXEC)
                        become_other_program(fd);
                _exit(what == STAY ? converse(fd) : 0);
        }
        result = child_end(pid);
        if (result == 0 && what == EXIT)
                result = converse(fd);
        if (result == 0 && what == REUSE) {
                pid = child_start(number, !is_a);
                if (pid == 0)
                        _exit(converse(fd));
                result = child_end(pid);
        }
        close(fd);
        return result;
}

static void count(unsigned long *counter)
{
        __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static void work(unsigned worker, unsigned long rounds, uint64_t seed)
{
        struct chance chance = chance_init(seed + worker);

        for (unsigned long i = 0; i < rounds; i++) {
                bool is_a = chance_below(&chance, 2);
                unsigned long of = chance_below(&chance, 8); /* an exec takes long */
                enum behaviour what = of == 0 ? EXEC : of == 1 ? STAY : of < 4 ? EXIT : REUSE;
                int result = play((pid_t)(FIRST_NUMBER + worker), is_a, what);

                count(&counts->rounds[is_a][what]);
                if (result & BROKEN)
                        count(&counts->broken);
                if (result & BY_UNIT)
                        count(&counts->by_unit[is_a][what]);
                if (result & BY_UID)
                        count(&counts->by_uid[is_a][what]);
        }
        exit(0);
}

/* ---- lkmd ---- */

static pid_t start_lkmd(char **argv)
{
        pid_t pid = fork();

        if (pid == 0) {
                execv(argv[0], argv);
                fail(argv[0]);
        }
        for (unsigned tries = 0;; tries++) {
                int fd = new_socket(), r = connect(fd, (struct sockaddr *)&address, sizeof(address));

                close(fd);
                if (r == 0)
                        return pid;
                if (tries == 3000 || waitpid(pid, NULL, WNOHANG) != 0) {
                        fprintf(stderr, "lkmd does not serve\n");
                        exit(1);
                }
                poll(NULL, 0, 10);
        }
}

/* Until no worker is left. */
static int disturb(pid_t lkmd, unsigned n_workers, uint64_t seed)
{
        struct chance chance = chance_init(seed);
        int status, failed = 0;
        pid_t pid;

        while (n_workers > 0) {
                struct timespec stopped = { 0, (long)chance_below(&chance, 400) * 1000 }, running = { 0, (long)chance_below(&chance, 100) * 1000 };

                kill(lkmd, SIGSTOP);
                ppoll(NULL, 0, &stopped, NULL);
                kill(lkmd, SIGCONT);
                ppoll(NULL, 0, &running, NULL);
                while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                        n_workers -= pid != lkmd;
                        if (pid == lkmd || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
                                failed = pid != lkmd && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
                        if (pid == lkmd)
                                return failed;
                }
        }
        kill(lkmd, SIGTERM);
        waitpid(lkmd, &status, 0);
        return failed;
}

static void print(void)
{
        const char *separator = "";

        printf("{\"broken\": %lu, \"rounds\": [", counts->broken);
        for (int is_a = 0; is_a < 2; is_a++) {
                for (int what = 0; what < BEHAVIOURS; what++) {
                        printf("%s{\"who\": \"%s\", \"what\": \"%s\", \"rounds\": %lu, \"by_unit\": %lu, \"by_uid\": %lu}", separator, is_a ? "A" : "B",
                               behaviours[what], counts->rounds[is_a][what], counts->by_unit[is_a][what], counts->by_uid[is_a][what]);
                        separator = ", ";
                }
        }
        puts("]}");
}

int main(int argc, char **argv)
{
        unsigned long rounds;
        uint64_t seed;
        pid_t lkmd;
        int failed;

        if (argc == 3)
                return other_program(argv);
        if (argc < 12 || strcmp(argv[10], "--") != 0 || strlen(argv[1]) >= sizeof(address.sun_path))
                return 2;
        memcpy(address.sun_path, argv[1], strlen(argv[1]));
        for (int is_a = 0; is_a < 2; is_a++) {
                cgroups[is_a] = open(argv[is_a ? 2 : 3], O_PATH | O_DIRECTORY | O_CLOEXEC);
                uids[is_a] = (uid_t)strtoul(argv[is_a ? 4 : 5], NULL, 10);
                if (cgroups[is_a] < 0)
                        fail("control group");
        }
        make_request(argv[6], argv[7]);
        rounds = strtoul(argv[8], NULL, 10);
        seed = strtoull(argv[9], NULL, 10);
        self_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        counts = mmap(NULL, sizeof(*counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (self_fd < 0 || counts == MAP_FAILED)
                fail("start");
        lkmd = start_lkmd(argv + 11);
        for (unsigned i = 0; i < WORKERS; i++) {
                pid_t pid = fork();

                if (pid < 0)
                        fail("fork");
                if (pid == 0)
                        work(i, rounds / WORKERS, seed);
        }
        failed = disturb(lkmd, WORKERS, seed);
        print();
        return failed;
}
