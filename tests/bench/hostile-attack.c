/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hostile-attack: everything at once that one uid can do to lkmd with many connections. Each connection has a role, by its number:
 *
 *   slow       a byte a second, of a HELLO that never ends
 *   half       the begin of a frame of the greatest length, then a byte a second
 *   flood      cached gets, 64 in flight
 *   deaf       the same, and answers are not read
 *   create     new keys, 16 in flight
 *   garbage    random bytes after HELLO, until it is closed
 *   longest    whole frames of the greatest length, which hold a record that has to be parsed to its end
 *   leak       PINGs with 100 descriptors each
 *
 * A connection that is refused or closed is opened again at once, so that there is a flood of connects, too. Prints one JSON object of counts.
 *
 *   hostile-attack SOCKET SECONDS CONNECTIONS
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "proto/frame.h"
#include "tests/bench/samples.h"

enum { LEAKED = 100, EVENTS = 256, DRIBBLES = 64, OPENS = 64 };

enum role { ROLE_SLOW, ROLE_HALF, ROLE_FLOOD, ROLE_DEAF, ROLE_CREATE, ROLE_GARBAGE, ROLE_LONGEST, ROLE_LEAK, ROLE_COUNT };

struct text {
        uint8_t *data;
        size_t n;
};

struct attacker {
        int fd; /* -1: to be opened */
        enum role role;
        bool writable; /* as far as is known */
        size_t sent;   /* bytes of the round of its text */
};

struct attack {
        struct sockaddr_un address;
        int epoll_fd, null_fd;
        struct attacker *all;
        size_t n, next_open, next_dribble;
        struct text texts[ROLE_COUNT]; /* what each role sends, over and over, after what it sends once */
        struct text hello;
        uint64_t n_opened, n_failed, n_closed, n_sent, n_received, n_open, n_open_max;
};

static _Noreturn void fail(const char *what)
{
        fprintf(stderr, "hostile-attack: %s: %s\n", what, strerror(errno));
        exit(1);
}

/* ---- what is sent ---- */

static void text_add(struct text *t, const union message *message)
{
        size_t n;

        t->data = realloc(t->data, t->n + FRAME_MAX);
        if (!t->data || message_pack(message, (uint32_t)t->n + 1, t->data + t->n, FRAME_MAX, &n) != 0)
                fail("a message");
        t->n += n;
}

/* One question on a connection of its own. Return: a frame of the answer, which lives for ever. */
static const uint8_t *ask(const struct attack *a, const union message *question, size_t *ret_n)
{
        static uint8_t answer[2 * FRAME_MAX];
        struct text t = { 0 };
        size_t n = 0, welcome;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        text_add(&t, &(union message){ .hello = { .number_ = MESSAGE_HELLO, .version_min = 1, .version_max = 1 } });
        text_add(&t, question);
        if (connect(fd, (const struct sockaddr *)&a->address, sizeof(a->address)) < 0 || send(fd, t.data, t.n, 0) != (ssize_t)t.n)
                fail("connect");
        free(t.data);
        for (;;) {
                ssize_t r = recv(fd, answer + n, sizeof(answer) - n, 0);

                if (r <= 0)
                        fail("an answer");
                n += (size_t)r;
                if (n < 4)
                        continue;
                welcome = bytes_get_u32(answer) + 4;
                if (n >= welcome + 4 && n >= welcome + bytes_get_u32(answer + welcome) + 4)
                        break;
        }
        close(fd);
        *ret_n = n - welcome;
        return answer + welcome;
}

/* A record that is well formed, and of nobody, and as long as may be. */
static struct bytes longest_record(void)
{
        static char text[RECORD_MAX];
        size_t n = (size_t)snprintf(text, sizeof(text), "{\"format\":2,\"versions\":[");

        while (n + 100 < sizeof(text))
                n += (size_t)snprintf(text + n, sizeof(text) - n, "{\"number\":1,\"state\":\"retired\",\"wraps\":[{\"kek_id\":\"k\"}]},");
        memcpy(text + n - 1, "]}", 2);
        return (struct bytes){ (const uint8_t *)text, n + 1 };
}

static void attack_prepare(struct attack *a)
{
        union message create = { .create = { .number_ = MESSAGE_CREATE, .scope = BYTES_LITERAL("attacker") } };
        union message get = { .get = { .number_ = MESSAGE_GET } }, longest = { .get = { .number_ = MESSAGE_GET, .record = longest_record() } };
        union message ping = { .ping = { .number_ = MESSAGE_PING } }, record;
        struct text *t = a->texts;
        size_t n;
        const uint8_t *answer = ask(a, &create, &n);

        if (message_unpack(&record, answer, n) != 0 || record.number != MESSAGE_RECORD)
                fail("no record");
        get.get.record = record.record.record;
        text_add(&a->hello, &(union message){ .hello = { .number_ = MESSAGE_HELLO, .version_min = 1, .version_max = 1 } });
        text_add(&t[ROLE_SLOW], &(union message){ .hello = { .number_ = MESSAGE_HELLO, .version_min = 1, .version_max = 1, .software = BYTES_LITERAL("never") } });
        text_add(&t[ROLE_HALF], &longest);
        for (unsigned i = 0; i < 64; i++) {
                text_add(&t[ROLE_FLOOD], &get);
                text_add(&t[ROLE_DEAF], &get);
        }
        for (unsigned i = 0; i < 16; i++)
                text_add(&t[ROLE_CREATE], &create);
        text_add(&t[ROLE_LONGEST], &longest);
        text_add(&t[ROLE_LEAK], &ping);
        t[ROLE_GARBAGE] = (struct text){ malloc(4096), 4096 };
        for (size_t i = 0; i < 4096; i++)
                t[ROLE_GARBAGE].data[i] = (uint8_t)(i < 2 ? 0 : random());
}

/* ---- connections ---- */

static void attacker_close(struct attack *a, struct attacker *one)
{
        close(one->fd);
        one->fd = -1;
        a->n_open--;
        a->n_closed++;
}

static void attacker_open(struct attack *a, struct attacker *one)
{
        struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = one };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                fail("socket");
        if (connect(fd, (const struct sockaddr *)&a->address, sizeof(a->address)) < 0) {
                a->n_failed++; /* the backlog is full */
                close(fd);
                return;
        }
        one->fd = fd;
        one->sent = 0;
        one->writable = true;
        a->n_opened++;
        if (++a->n_open > a->n_open_max)
                a->n_open_max = a->n_open;
        if (epoll_ctl(a->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
                fail("epoll_ctl");
        if (one->role != ROLE_SLOW && send(fd, a->hello.data, a->hello.n, MSG_NOSIGNAL) < 0)
                attacker_close(a, one);
}

static ssize_t send_leak(const struct attack *a, int fd, const struct text *t)
{
        union {
                struct cmsghdr header;
                uint8_t bytes[CMSG_SPACE(LEAKED * sizeof(int))];
        } control = { 0 };
        struct iovec part = { t->data, t->n };
        struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        int fds[LEAKED];

        for (unsigned i = 0; i < LEAKED; i++)
                fds[i] = a->null_fd;
        *c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(fds)) };
        memcpy(CMSG_DATA(c), fds, sizeof(fds));
        return sendmsg(fd, &message, MSG_NOSIGNAL);
}

/* One write of what the role sends; @limit: bytes at most. */
static void attacker_send(struct attack *a, struct attacker *one, size_t limit)
{
        const struct text *t = &a->texts[one->role];
        size_t n = t->n - one->sent < limit ? t->n - one->sent : limit;
        ssize_t r = one->role == ROLE_LEAK ? send_leak(a, one->fd, t) : send(one->fd, t->data + one->sent, n, MSG_NOSIGNAL);

        if (r < 0 && (errno == EAGAIN || errno == ETOOMANYREFS)) {
                one->writable = errno != EAGAIN;
                return;
        }
        if (r < 0) {
                attacker_close(a, one);
                return;
        }
        a->n_sent += (size_t)r;
        one->sent = (one->sent + (size_t)r) % t->n;
        if (one->role == ROLE_SLOW && one->sent == t->n - 1)
                one->sent--; /* it never ends */
}

static void attacker_receive(struct attack *a, struct attacker *one)
{
        static uint8_t buffer[65536];
        ssize_t r;

        if (one->role == ROLE_DEAF)
                return;
        do {
                r = recv(one->fd, buffer, sizeof(buffer), 0);
                if (r > 0)
                        a->n_received += (size_t)r;
        } while (r == sizeof(buffer));
        if (r == 0 || (r < 0 && errno != EAGAIN))
                attacker_close(a, one);
}

/* ---- all of them ---- */

/* Some of those that are not open, and a byte of some slow ones: a second takes all of them. */
static void attack_step(struct attack *a)
{
        for (unsigned i = 0; i < OPENS; i++) {
                struct attacker *one = &a->all[a->next_open++ % a->n];

                if (one->fd < 0)
                        attacker_open(a, one);
                else if (one->writable && one->role > ROLE_HALF)
                        attacker_send(a, one, SIZE_MAX);
        }
}

static void attack_dribble(struct attack *a, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                struct attacker *one = &a->all[a->next_dribble++ % a->n];

                if (one->fd >= 0 && one->role <= ROLE_HALF)
                        attacker_send(a, one, one->role == ROLE_HALF && one->sent == 0 ? 64 : 1);
        }
}

static void attack_run(struct attack *a, unsigned seconds)
{
        uint64_t begin = samples_now(), now = begin, dribbled = 0;

        while (now < begin + seconds * UINT64_C(1000000000)) {
                struct epoll_event events[EVENTS];
                int n = epoll_wait(a->epoll_fd, events, EVENTS, 0);

                for (int i = 0; i < n; i++) {
                        struct attacker *one = events[i].data.ptr;

                        if (events[i].events & EPOLLOUT)
                                one->writable = true;
                        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                                attacker_receive(a, one);
                        if (one->fd >= 0 && events[i].events & EPOLLHUP)
                                attacker_close(a, one);
                }
                attack_step(a);
                now = samples_now();
                attack_dribble(a, (size_t)((now - begin) / 1000 * a->n / 1000000 - dribbled));
                dribbled = (now - begin) / 1000 * a->n / 1000000;
        }
}

int main(int argc, char **argv)
{
        struct attack a = { .address = { .sun_family = AF_UNIX }, .epoll_fd = epoll_create1(EPOLL_CLOEXEC), .null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC) };
        unsigned seconds = argc == 4 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
        struct rlimit limit;

        if (seconds == 0 || strlen(argv[1]) >= sizeof(a.address.sun_path)) {
                fprintf(stderr, "usage: hostile-attack SOCKET SECONDS CONNECTIONS\n");
                return 2;
        }
        memcpy(a.address.sun_path, argv[1], strlen(argv[1]) + 1);
        a.n = strtoul(argv[3], NULL, 10);
        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < a.n + 16) {
                fprintf(stderr, "hostile-attack: needs `ulimit -n %zu`\n", a.n + 16);
                return 2;
        }
        a.all = calloc(a.n, sizeof(*a.all));
        if (!a.all)
                abort();
        for (size_t i = 0; i < a.n; i++)
                a.all[i] = (struct attacker){ .fd = -1, .role = (enum role)(i % ROLE_COUNT) };
        attack_prepare(&a);
        attack_run(&a, seconds);
        printf("{\"opened\": %zu, \"backlog_full\": %zu, \"closed_by_lkmd\": %zu, \"open_most\": %zu, \"bytes_sent\": %zu, \"bytes_received\": %zu}\n",
               (size_t)a.n_opened, (size_t)a.n_failed, (size_t)a.n_closed, (size_t)a.n_open_max, (size_t)a.n_sent, (size_t)a.n_received);
        return 0;
}
