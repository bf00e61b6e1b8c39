/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms-link.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/clock.h"
#include "proto/stream.h"

/* OUT_MAX: what waits to be sent lies in slots that clients' frames need, too. */
enum { ATTEMPTS_MAX = 3, OUT_MAX = 64 * 1024 };

struct kms_link {
        struct event_base *base;
        char *path;
        const char *self, *peer; /* for HELLO, and for sentences */
        int fd;
        struct stream *stream;
        struct event *readable, *writable, *kick;
        struct list calls; /* sent ones and waiting ones, in order of arrival */
        size_t n_sent, in_flight_max;
        uint32_t next_id;
        uint64_t n_queued; /* bytes, on this connection */
        char last_error[1100]; /* a sentence of the protocol's is at most 1024 bytes */
        unsigned refusal; /* the ERROR by which the peer ended the connection, or 0; its sentence is in last_error */
        unsigned n_busy;  /* its functions on the stack, above whom calls end */
        bool is_freed;    /* by one of these calls: the last function on the stack frees */
        struct kms_link_counters counters;
};

static void link_kick(evutil_socket_t fd, short what, void *userdata);

int kms_link_new(struct kms_link **ret_link, struct event_base *base, const char *path, const char *self, const char *peer)
{
        struct kms_link *l = calloc(1, sizeof(*l));

        if (!l)
                return -ENOMEM;
        l->base = base;
        l->self = self;
        l->peer = peer;
        l->fd = -1;
        l->next_id = 1;
        list_init(&l->calls);
        l->path = strdup(path);
        l->kick = evtimer_new(base, link_kick, l);
        if (!l->path || !l->kick) {
                kms_link_free(l);
                return -ENOMEM;
        }
        *ret_link = l;
        return 0;
}

static void link_disconnect(struct kms_link *l)
{
        if (l->readable)
                event_free(TAKE_PTR(l->readable));
        if (l->writable)
                event_free(TAKE_PTR(l->writable));
        l->stream = stream_free(l->stream);
        if (l->fd >= 0)
                close(TAKE_FD(l->fd));
}

struct kms_link *kms_link_free(struct kms_link *l)
{
        if (!l)
                return NULL;
        if (l->n_busy > 0) {
                l->is_freed = true;
                return NULL;
        }
        link_disconnect(l);
        if (l->kick)
                event_free(l->kick);
        free(l->path);
        free(l);
        return NULL;
}

/* Between these a call may end, and its owner free the link. */
static void link_enter(struct kms_link *l)
{
        l->n_busy++;
}

static void link_leave(struct kms_link *l)
{
        if (--l->n_busy == 0 && l->is_freed)
                kms_link_free(l);
}

static void link_note(struct kms_link *l, const char *what, int error)
{
        snprintf(l->last_error, sizeof(l->last_error), "%s %s at %s: %s", what, l->peer, l->path, strerror(error));
}

/* Let the loop call link_kick(): nothing ends or is sent from inside its own beginning. */
static void link_wake(struct kms_link *l)
{
        static const struct timeval now = { 0, 0 };

        event_add(l->kick, &now);
}

static void call_end(struct kms_call *call, unsigned error, const union message *reply, const char *sentence)
{
        struct kms_link *l = call->owner;

        list_unlink(&call->link);
        if (call->sent)
                l->n_sent--;
        event_free(TAKE_PTR(call->timer));
        if (error)
                l->counters.failures++;
        call->done(call, error, reply, sentence);
}

/* Say why the connection is gone, unless the peer did. Return: the class of the calls that end by it. */
static enum proto_error link_explain(struct kms_link *l, int error)
{
        if (l->refusal)
                return l->refusal == PROTO_ERROR_QUOTA || l->refusal == PROTO_ERROR_SHUTTING_DOWN ? PROTO_ERROR_KMS_UNREACHABLE
                                                                                                 : PROTO_ERROR_KMS_MISCONFIGURED;
        if (error != EPROTO) {
                link_note(l, "lost the connection to", error);
                return PROTO_ERROR_KMS_UNREACHABLE;
        }
        snprintf(l->last_error, sizeof(l->last_error), "%s at %s breaks the protocol. Update the older of the two programs", l->peer, l->path);
        return PROTO_ERROR_KMS_MISCONFIGURED;
}

/* The connection is gone: what was under way is asked again on the next one, a few times. */
static void link_lost(struct kms_link *l, int error)
{
        struct list *node, *following, over = LIST_INIT(over);
        enum proto_error class = link_explain(l, error);

        link_disconnect(l);
        l->n_sent = 0;
        list_for_each_safe(node, following, &l->calls) {
                struct kms_call *call = list_entry(node, struct kms_call, link);
                bool was_sent = call->sent;

                call->sent = false;
                if (was_sent && call->attempts >= ATTEMPTS_MAX) {
                        list_unlink(node);
                        list_append(&over, node);
                }
        }
        while (!list_is_empty(&over))
                call_end(list_entry(over.next, struct kms_call, link), class, NULL, l->last_error);
        if (!list_is_empty(&l->calls))
                link_wake(l);
}

static void call_timeout(evutil_socket_t fd, short what, void *userdata)
{
        struct kms_call *call = userdata;
        struct kms_link *l = call->owner;
        char sentence[128];
        bool unread = call->sent && call->queued_until > l->n_queued - stream_pending(l->stream);

        snprintf(sentence, sizeof(sentence), "%s did not answer in time", l->peer);
        link_enter(l);
        call_end(call, PROTO_ERROR_KMS_UNREACHABLE, NULL, sentence);
        /* It has not even taken the question: what waits behind it will not be read either. */
        if (unread && l->stream && !l->is_freed)
                link_lost(l, ETIMEDOUT);
        link_leave(l);
}

/* The unanswered call with this number, or NULL: it was given up, or never was. */
static struct kms_call *link_find(const struct kms_link *l, uint32_t request_id)
{
        struct list *node, *following;

        list_for_each_safe(node, following, &l->calls) {
                struct kms_call *call = list_entry(node, struct kms_call, link);

                if (call->sent && call->request_id == request_id)
                        return call;
        }
        return NULL;
}

static void link_answer(struct kms_link *l, uint32_t request_id, const union message *reply)
{
        struct kms_call *call = link_find(l, request_id);
        _cleanup_(freep) char *sentence = NULL;

        if (reply->number == MESSAGE_WELCOME) {
                l->in_flight_max = reply->welcome.in_flight_max > 0 ? reply->welcome.in_flight_max : 1;
                return;
        }
        if (reply->number != MESSAGE_ERROR) {
                if (call)
                        call_end(call, 0, reply, "");
                return;
        }
        sentence = bytes_to_string(reply->error.sentence);
        snprintf(l->last_error, sizeof(l->last_error), "%s", sentence ? sentence : "");
        if (call) /* an error without a number is one all the same */
                call_end(call, reply->error.code ? reply->error.code : PROTO_ERROR_KMS_MISCONFIGURED, NULL, sentence ? sentence : "");
        else if (request_id == 0)
                l->refusal = reply->error.code;
}

/* One whole frame. Return: 0 or -errno. */
static int link_take(struct kms_link *l, const struct frame_header *header, const uint8_t *data, size_t n)
{
        struct kms_call *call;
        union message reply;
        int r = message_unpack(&reply, data, n);

        if (r == 0) {
                link_answer(l, header->request_id, &reply);
                message_deinit(&reply);
                return 0;
        }
        call = r < 0 ? NULL : link_find(l, header->request_id);
        if (!call)
                return r < 0 ? r : -EPROTO;
        call_end(call, PROTO_ERROR_KMS_MISCONFIGURED, NULL, "the answer breaks the protocol. Update the older of the two programs");
        return 0;
}

/* Return: 0, or the -errno for link_lost(): -EPROTO when the peer breaks the protocol. */
static int link_read(struct kms_link *l)
{
        int r = stream_receive(l->stream, MSG_DONTWAIT);

        if (r == STREAM_E_AGAIN)
                return 0;
        if (r)
                return r < 0 ? r : -ECONNRESET;
        while (r == 0 && l->stream && !l->is_freed) {
                struct frame_header header;
                const uint8_t *data;
                size_t n;

                r = stream_next(l->stream, &header, &data, &n);
                if (r == STREAM_E_AGAIN)
                        return 0;
                if (r > 0)
                        return -EPROTO;
                if (r == 0)
                        r = link_take(l, &header, data, n);
        }
        return r;
}

static int link_write(struct kms_link *l)
{
        int r = stream_flush(l->stream, MSG_DONTWAIT);

        if (r == STREAM_E_AGAIN)
                return event_add(l->writable, NULL) < 0 ? -ENOMEM : 0;
        /* It has hung up, and may have said why: link_readable() reads that, and the end. */
        return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

static void link_readable(evutil_socket_t fd, short what, void *userdata)
{
        struct kms_link *l = userdata;
        int r;

        link_enter(l);
        r = link_read(l);
        if (r < 0)
                link_lost(l, -r);
        else if (!list_is_empty(&l->calls))
                link_wake(l);
        link_leave(l);
        secret_wipe_stack();
}

static void link_writable(evutil_socket_t fd, short what, void *userdata)
{
        struct kms_link *l = userdata;
        int r;

        link_enter(l);
        r = link_write(l);
        if (r < 0)
                link_lost(l, -r);
        else if (!list_is_empty(&l->calls))
                link_wake(l); /* there is room for those that did not fit */
        link_leave(l);
}

static int link_connect(struct kms_link *l)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        union message hello = { .hello = { .number_ = MESSAGE_HELLO,
                                           .version_min = PROTOCOL_VERSION_MIN,
                                           .version_max = PROTOCOL_VERSION_MAX,
                                           .software = bytes_from_string(l->self) } };
        int r;

        if (l->stream)
                return 0;
        l->in_flight_max = IN_FLIGHT_MAX;
        l->n_queued = 0;
        l->refusal = 0;
        if (strlen(l->path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        memcpy(address.sun_path, l->path, strlen(l->path) + 1);
        l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (l->fd < 0)
                return -errno;
        if (connect(l->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return -errno;
        r = stream_new(&l->stream, l->fd, OUT_MAX);
        if (r < 0)
                return r;
        l->readable = event_new(l->base, l->fd, EV_READ | EV_PERSIST, link_readable, l);
        l->writable = event_new(l->base, l->fd, EV_WRITE, link_writable, l);
        if (!l->readable || !l->writable || event_add(l->readable, NULL) < 0)
                return -ENOMEM;
        r = stream_queue(l->stream, &hello, 0);
        l->n_queued = stream_pending(l->stream);
        return r;
}

static int link_send(struct kms_link *l, struct kms_call *call)
{
        union message message;
        size_t n_pending;
        int r;

        call->fill(call, &message);
        call->request_id = l->next_id++;
        n_pending = stream_pending(l->stream);
        r = stream_queue(l->stream, &message, call->request_id);
        if (r < 0)
                return r;
        l->n_queued += stream_pending(l->stream) - n_pending;
        call->queued_until = l->n_queued;
        call->sent = true;
        call->attempts++;
        l->n_sent++;
        l->counters.requests++;
        return 0;
}

/* Everything that waits fails: there is nobody to ask. */
static void link_fail_all(struct kms_link *l)
{
        while (!list_is_empty(&l->calls))
                call_end(list_entry(l->calls.next, struct kms_call, link), PROTO_ERROR_KMS_UNREACHABLE, NULL, l->last_error);
}

/* What waits, as far as the connection takes it. Return: whether something did not fit. */
static bool link_send_all(struct kms_link *l)
{
        struct list *node, *following;

        list_for_each_safe(node, following, &l->calls) {
                struct kms_call *call = list_entry(node, struct kms_call, link);
                int r;

                if (call->sent)
                        continue;
                if (l->n_sent >= l->in_flight_max)
                        break;
                r = link_send(l, call);
                if (r == -ENOBUFS)
                        return true;
                if (r < 0) {
                        /* Its end may change the list: go on in the loop's next turn. */
                        link_wake(l);
                        call_end(call, PROTO_ERROR_KMS_MISCONFIGURED, NULL, "the request does not fit the protocol's limits");
                        break;
                }
        }
        return false;
}

static void link_kick(evutil_socket_t fd, short what, void *userdata)
{
        struct kms_link *l = userdata;
        bool full;
        int r;

        link_enter(l);
        r = link_connect(l);
        if (r < 0) {
                link_note(l, "cannot connect to", -r);
                link_disconnect(l);
                l->n_sent = 0;
                link_fail_all(l);
        } else {
                full = link_send_all(l);
                r = link_write(l);
                if (r < 0)
                        link_lost(l, -r);
                else if (full && stream_pending(l->stream) == 0)
                        link_wake(l);
        }
        link_leave(l);
}

int kms_link_call(struct kms_link *l, struct kms_call *call, uint64_t timeout_usec)
{
        struct timeval timeout = { .tv_sec = (time_t)(timeout_usec / USEC_PER_SEC),
                                   .tv_usec = (suseconds_t)(timeout_usec % USEC_PER_SEC) };

        call->timer = evtimer_new(l->base, call_timeout, call);
        if (!call->timer || event_add(call->timer, &timeout) < 0) {
                if (call->timer)
                        event_free(TAKE_PTR(call->timer));
                return -ENOMEM;
        }
        call->owner = l;
        call->deadline_usec = clock_boottime_usec() + timeout_usec;
        call->attempts = 0;
        call->sent = false;
        list_init(&call->link);
        list_append(&l->calls, &call->link);
        link_wake(l);
        return 0;
}

void kms_link_cancel(struct kms_call *call)
{
        if (!call->timer)
                return;
        list_unlink(&call->link);
        if (call->sent)
                call->owner->n_sent--;
        event_free(TAKE_PTR(call->timer));
}

uint32_t kms_call_left_msec(const struct kms_call *call)
{
        uint64_t now = clock_boottime_usec(), left = call->deadline_usec > now ? call->deadline_usec - now : 0;

        left -= left / 8;
        return left < USEC_PER_MSEC ? 1 : left / USEC_PER_MSEC > UINT32_MAX ? UINT32_MAX : (uint32_t)(left / USEC_PER_MSEC);
}

bool kms_link_is_connected(const struct kms_link *l)
{
        return l->stream;
}

const char *kms_link_last_error(const struct kms_link *l)
{
        return l->last_error;
}

const struct kms_link_counters *kms_link_counters(const struct kms_link *l)
{
        return &l->counters;
}
