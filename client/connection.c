/* SPDX-License-Identifier: Apache-2.0 */
#include "client/connection.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>

#include "client/async.h"
#include "common/clock.h"

enum {
        ARENA_KEYS = 128, /* small slots, unless the first handle asks for another number */
        ARENA_FRAMES = 8, /* large ones: what is being sent or received at this moment, and formatted views */
        OUT_MAX = 1 << 20, /* bytes that may wait unsent */
        TIMEOUT_MSEC = 10000,
        ARENA_WAIT_MSEC = 1,
        TRIES = 3, /* of one call, when a daemon that is being restarted ends the session before it answers */
};

/* ---- the arena ---- */

static int arena_ready(const struct lkm_options *o)
{
        size_t keys = o && o->max_keys ? o->max_keys : ARENA_KEYS;
        const char *why = NULL;
        int r;

        if (secret_arena_forked())
                return error_set_default(NULL, LKM_E_FORKED);
        r = secret_arena_init(keys, ARENA_FRAMES, 0, &why);
        if (r < 0 && r != -EALREADY)
                return error_set(NULL, r == -EINVAL ? LKM_E_ARGUMENT : LKM_E_MEMLOCK, "%s.", why);
        return 0;
}

/* ---- opening and closing ---- */

static int default_socket(char **ret_socket)
{
        const char *set = secure_getenv("LKM_SOCKET"), *runtime = secure_getenv("XDG_RUNTIME_DIR");
        _cleanup_(freep) char *own = NULL;
        struct stat status;

        if (set && *set) {
                *ret_socket = strdup(set);
                return *ret_socket ? 0 : -ENOMEM;
        }
        if (runtime && *runtime == '/') {
                if (asprintf(&own, "%s/lkm/lkm.sock", runtime) < 0) {
                        own = NULL;
                        return -ENOMEM;
                }
                if (stat(own, &status) == 0) {
                        *ret_socket = TAKE_PTR(own);
                        return 0;
                }
        }
        *ret_socket = strdup("/run/lkm/lkm.sock");
        return *ret_socket ? 0 : -ENOMEM;
}

int connection_new(struct lkm **ret_lkm, const struct lkm_options *o)
{
        struct lkm *lkm = calloc(1, sizeof(*lkm));
        int r;

        if (!lkm)
                return -ENOMEM;
        lkm->fd = -1;
        list_init(&lkm->requests);
        lkm->timeout_usec = (o && o->timeout_msec ? o->timeout_msec : TIMEOUT_MSEC) * USEC_PER_MSEC;
        lkm->software = strdup(o && o->software ? o->software : "liblkm " LKM_VERSION);
        r = lkm->software ? 0 : -ENOMEM;
        if (r == 0 && o && o->socket)
                r = (lkm->socket = strdup(o->socket)) ? 0 : -ENOMEM;
        else if (r == 0)
                r = default_socket(&lkm->socket);
        if (r < 0)
                lkm_free(&lkm);
        else
                *ret_lkm = lkm;
        return r;
}

int lkm_connect(struct lkm **ret_lkm, const struct lkm_options *options)
{
        struct lkm *lkm;
        int r;

        if (!ret_lkm || (options && options->software && strlen(options->software) > 64))
                return error_set_default(NULL, LKM_E_ARGUMENT);
        r = arena_ready(options);
        if (r)
                return r;
        r = connection_new(&lkm, options);
        if (r < 0)
                return error_set_errno(NULL, r, "lkm_connect");
        r = connection_open(lkm);
        if (r) {
                error_write(NULL, "%s", lkm->message);
                lkm_free(&lkm);
                return r;
        }
        *ret_lkm = lkm;
        return 0;
}

void lkm_free(struct lkm **lkm)
{
        struct lkm *l = lkm ? TAKE_PTR(*lkm) : NULL;

        if (!l)
                return;
        /* In a forked child the descriptor is a copy of its own, but the buffers would lie in memory that it does not have: it is left
         * as it is. */
        if (secret_arena_forked()) {
                closep(&l->fd);
                return;
        }
        l->ending = true;
        connection_close(l);
        async_fail_all(l, error_set_default(l, LKM_E_NO_DAEMON));
        free(l->socket);
        free(l->software);
        free(l);
}

int connection_check(struct lkm *lkm)
{
        if (!lkm)
                return LKM_E_ARGUMENT;
        return secret_arena_forked() ? error_set_default(lkm, LKM_E_FORKED) : 0;
}

void connection_close(struct lkm *lkm)
{
        lkm->stream = stream_free(lkm->stream);
        closep(&lkm->fd);
        lkm->fd = -1;
}

int connection_lost(struct lkm *lkm, int negative_errno)
{
        connection_close(lkm);
        if (negative_errno == -EAGAIN)
                return error_set(lkm, LKM_E_TIMEOUT, "lkmd at %s took no request in %u ms. %s", lkm->socket,
                                 (unsigned)(lkm->timeout_usec / USEC_PER_MSEC), lkm_strerror(LKM_E_TIMEOUT));
        if (negative_errno == 0)
                return error_set(lkm, LKM_E_NO_DAEMON,
                                 "lkmd at %s ended the connection before it answered. Ask again; its log says why.",
                                 lkm->socket);
        return error_set(
                lkm, LKM_E_NO_DAEMON, "cannot talk to lkmd at %s: %s. %s", lkm->socket, strerror(-negative_errno),
                negative_errno == -EACCES ? "Whoever may connect is set by `socket_mode` and the folder's permissions."
                                          : lkm_strerror(LKM_E_NO_DAEMON));
}

static void connection_set_wait(struct lkm *lkm, uint64_t usec)
{
        struct timeval t;

        if (lkm->wait_usec == usec)
                return;
        usec = usec ? usec : 1; /* 0 would mean for ever */
        t = (struct timeval){ .tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_usec = (suseconds_t)(usec % USEC_PER_SEC) };
        if (setsockopt(lkm->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) == 0)
                lkm->wait_usec = usec;
}

static int connection_hello(struct lkm *lkm)
{
        union message hello = { .hello = { .number_ = MESSAGE_HELLO,
                                           .version_min = PROTOCOL_VERSION_MIN,
                                           .version_max = PROTOCOL_VERSION_MAX,
                                           .software = bytes_from_string(lkm->software) } };

        return connection_queue(lkm, &hello, &lkm->hello_id);
}

int connection_open(struct lkm *lkm)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct timeval t = { .tv_sec = (time_t)(lkm->timeout_usec / USEC_PER_SEC),
                             .tv_usec = (suseconds_t)(lkm->timeout_usec % USEC_PER_SEC) };
        size_t n = strlen(lkm->socket);
        int r = 0;

        if (lkm->fd >= 0)
                return 0;
        if (n == 0 || n >= sizeof(address.sun_path))
                return error_set(lkm, LKM_E_ARGUMENT, "the socket's path has %zu characters; 1 to %zu are possible", n,
                                 sizeof(address.sun_path) - 1);
        memcpy(address.sun_path, lkm->socket, n);
        lkm->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (lkm->blocks_not ? SOCK_NONBLOCK : 0), 0);
        if (lkm->fd < 0)
                return error_set_errno(lkm, -errno, "socket");
        lkm->wait_usec = 0;
        connection_set_wait(lkm, lkm->timeout_usec);
        /* The deadline of connect(2) too: it waits while the daemon's backlog is full. */
        if (setsockopt(lkm->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0 ||
            connect(lkm->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return connection_lost(lkm, -errno);
        r = stream_new(&lkm->stream, lkm->fd, OUT_MAX);
        if (r < 0) {
                connection_close(lkm);
                return error_set_errno(lkm, r, "connect");
        }
        r = connection_hello(lkm);
        if (r)
                connection_close(lkm);
        return r;
}

/* ---- requests and answers ---- */

int connection_queue(struct lkm *lkm, const union message *request, uint32_t *ret_id)
{
        uint32_t id = lkm->last_id + 1 ? lkm->last_id + 1 : 1;
        int r = stream_queue(lkm->stream, request, id);

        /* Other threads send and receive at this moment: their slots come back at once. */
        for (uint64_t end = clock_add(clock_boottime_usec(), lkm->timeout_usec);
             r == -ENOBUFS && clock_boottime_usec() < end;) {
                r = stream_flush(lkm->stream, MSG_DONTWAIT);
                if (r < 0)
                        return connection_lost(lkm, r);
                poll(NULL, 0, ARENA_WAIT_MSEC);
                r = stream_queue(lkm->stream, request, id);
        }
        if (r < 0)
                return error_set_errno(lkm, r, message_name((uint16_t)request->number));
        lkm->last_id = id;
        *ret_id = id;
        return 0;
}

static int connection_broken(struct lkm *lkm, int error)
{
        connection_close(lkm);
        return error_set(lkm, error, "lkmd at %s: %s", lkm->socket, lkm_strerror(error));
}

/* Unpack; ERROR and what cannot be had become *ret_error. */
static int connection_unpack(struct lkm *lkm, union message *ret_answer, int *ret_error, const uint8_t *data, size_t n)
{
        int r = message_unpack(ret_answer, data, n);

        if (r < 0) {
                *ret_error = error_set_errno(lkm, r, "answer");
                return 0;
        }
        if (r > 0)
                return connection_broken(lkm, LKM_E_PROTOCOL);
        *ret_error = ret_answer->number == MESSAGE_ERROR ? error_set_wire(lkm, &ret_answer->error) : 0;
        return 0;
}

/* The answer to HELLO, or an error about the connection itself, which has the id 0. */
static int connection_welcomed(struct lkm *lkm, union message *answer, int error)
{
        if (error) {
                connection_close(lkm);
                return error;
        }
        if (answer->number != MESSAGE_WELCOME)
                return connection_broken(lkm, LKM_E_PROTOCOL);
        if (answer->welcome.version < PROTOCOL_VERSION_MIN || answer->welcome.version > PROTOCOL_VERSION_MAX)
                return connection_broken(lkm, LKM_E_VERSION);
        lkm->hello_id = 0;
        return 0;
}

int connection_take(struct lkm *lkm, uint32_t *ret_id, union message *ret_answer, int *ret_error)
{
        for (;;) {
                struct frame_header header;
                union message answer;
                const uint8_t *data;
                size_t n;
                int error = 0, r = stream_next(lkm->stream, &header, &data, &n);

                if (r == STREAM_E_AGAIN)
                        return CONNECTION_E_AGAIN;
                if (r < 0)
                        return connection_lost(lkm, r);
                if (r > 0)
                        return connection_broken(lkm, LKM_E_PROTOCOL);
                answer.number = 0;
                r = connection_unpack(lkm, &answer, &error, data, n);
                if (r)
                        return r;
                if (header.request_id != 0 && header.request_id != lkm->hello_id) {
                        *ret_id = header.request_id;
                        *ret_answer = answer;
                        *ret_error = error;
                        return 0;
                }
                r = connection_welcomed(lkm, &answer, error);
                message_deinit(&answer);
                if (r)
                        return r;
        }
}

/* Wait for bytes, at most until @deadline; the usual answer comes with the first recv(2), whose limit stands already. */
static int connection_receive(struct lkm *lkm, uint64_t deadline, bool first)
{
        uint64_t now = first ? 0 : clock_boottime_usec(), piece = WAITING_MSEC * USEC_PER_MSEC;
        uint64_t left = first ? lkm->timeout_usec : now < deadline ? deadline - now : 0;
        bool pieces = lkm->waiting && left > piece;
        int r = STREAM_E_AGAIN;

        if (left > 0) {
                connection_set_wait(lkm, pieces ? piece : left);
                r = stream_receive(lkm->stream, 0);
        }
        if (r == STREAM_E_AGAIN && pieces) {
                lkm->waiting(lkm->waiting_userdata);
                return 0;
        }
        if (r == -ENOBUFS) {
                poll(NULL, 0, ARENA_WAIT_MSEC);
                return 0;
        }
        if (r == STREAM_E_AGAIN)
                return error_set(lkm, LKM_E_TIMEOUT, "lkmd at %s did not answer in %u ms. %s", lkm->socket,
                                 (unsigned)(lkm->timeout_usec / USEC_PER_MSEC), lkm_strerror(LKM_E_TIMEOUT));
        if (r == STREAM_E_INVALID)
                return connection_broken(lkm, LKM_E_PROTOCOL);
        return r == 0 ? 0 : connection_lost(lkm, r == STREAM_E_CLOSED ? 0 : r);
}

static int connection_wait(struct lkm *lkm, uint32_t id, uint64_t deadline, union message *ret_answer)
{
        for (bool first = true;;) {
                uint32_t answered = 0;
                union message answer;
                int error = 0, r = connection_take(lkm, &answered, &answer, &error);

                if (r == CONNECTION_E_AGAIN) {
                        r = connection_receive(lkm, deadline, first);
                        first = false;
                        if (r)
                                return r;
                        continue;
                }
                if (r)
                        return r;
                if (answered == id && !error)
                        *ret_answer = answer;
                else
                        message_deinit(&answer); /* an error, or the late answer to a request that was given up */
                if (answered == id)
                        return error;
        }
}

/* @ret_connected: whether somebody listened. */
static int connection_call_once(struct lkm *lkm, const union message *request, union message *ret_answer, bool *ret_connected)
{
        uint64_t deadline = clock_add(clock_boottime_usec(), lkm->timeout_usec);
        uint32_t id = 0;
        int r = connection_open(lkm);

        *ret_connected = r == 0;
        if (r)
                return r;
        r = connection_queue(lkm, request, &id);
        if (r)
                return r;
        r = stream_flush(lkm->stream, 0);
        if (r == STREAM_E_AGAIN)
                return connection_lost(lkm, -EAGAIN);
        if (r < 0 && r != -EPIPE)
                return connection_lost(lkm, r);
        /* A daemon that hangs up may have said why before. */
        return connection_wait(lkm, id, deadline, ret_answer);
}

int connection_call(struct lkm *lkm, const union message *request, enum message_number expected,
                    union message *ret_answer)
{
        union message answer;
        bool connected = true;
        int r = connection_check(lkm);

        if (r)
                return r;
        if (lkm->n_requests > 0 || lkm->dispatching)
                return error_set(
                        lkm, LKM_E_BUSY,
                        "asynchronous requests are unanswered on this handle. Use a second handle, or let them end");
        /* A daemon that ends the session unanswered, or says that it stops, was or is being restarted: a new session waits in the socket for
         * the next one. */
        for (unsigned i = 0; i < TRIES && connected; i++) {
                r = connection_call_once(lkm, request, &answer, &connected);
                if (r == LKM_E_SHUTTING_DOWN)
                        connection_close(lkm);
                else if (r != LKM_E_NO_DAEMON)
                        break;
        }
        if (r) {
                connection_settle(lkm);
                return r;
        }
        if (answer.number != expected) {
                message_deinit(&answer);
                return connection_broken(lkm, LKM_E_PROTOCOL);
        }
        *ret_answer = answer;
        return 0;
}

void connection_settle(struct lkm *lkm)
{
        struct frame_header header;
        const uint8_t *data;
        size_t n;
        int r = 0;

        /* What is whole here is a late answer to a request that was given up. */
        while (r == 0 && lkm->stream)
                r = stream_next(lkm->stream, &header, &data, &n);
        if (r && r != STREAM_E_AGAIN)
                connection_close(lkm);
}

int connection_report(struct lkm *lkm, const union message *request, char **ret_json)
{
        union message answer;
        int r = connection_call(lkm, request, MESSAGE_REPORT, &answer);

        if (r)
                return r;
        *ret_json = bytes_to_string(answer.report.json);
        connection_settle(lkm);
        return *ret_json ? 0 : error_set_default(lkm, LKM_E_NO_MEMORY);
}

int lkm_ping(struct lkm *lkm)
{
        union message request = { .ping = { .number_ = MESSAGE_PING } }, answer;
        int r = connection_call(lkm, &request, MESSAGE_DONE, &answer);

        if (r == 0)
                connection_settle(lkm);
        return r;
}
