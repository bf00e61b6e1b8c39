/* SPDX-License-Identifier: Apache-2.0 */
#include "client/async.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>

#include "client/database.h"
#include "client/key.h"
#include "common/clock.h"

enum { SEND_AT = 16 * 1024 }; /* bytes queued that are sent without waiting for lkm_dispatch() */

/** One request on its way: GET, or for a record of format 1: GET, UPGRADE, GET. */
struct request {
        struct list link;
        uint32_t id;
        uint64_t deadline_usec;
        struct database_record record; /* empty for lkm_get_begin(), which upgrades nothing */
        bool upgrading;
        char scope[SCOPE_NAME_MAX + 1];
        lkm_key_callback *callback;
        void *userdata;
};

static void request_free(struct lkm *lkm, struct request *r)
{
        list_unlink(&r->link);
        lkm->n_requests--;
        database_record_deinit(&r->record);
        free(r);
}

/* Call back, last of all: the callback may begin other requests. */
static void request_end(struct lkm *lkm, struct request *r, int error, struct lkm_key *key)
{
        char message[ERROR_MESSAGE_MAX] = "";
        lkm_key_callback *callback = r->callback;
        void *userdata = r->userdata;

        if (error)
                snprintf(message, sizeof(message), "%s", lkm->message);
        request_free(lkm, r);
        callback(userdata, error, message, key);
}

void async_fail_all(struct lkm *lkm, int error)
{
        struct list failed = LIST_INIT(failed);

        /* Only those that are there now: a callback may begin new ones on a new connection. */
        while (!list_is_empty(&lkm->requests)) {
                struct list *node = lkm->requests.next;

                list_unlink(node);
                list_append(&failed, node);
        }
        while (!list_is_empty(&failed))
                request_end(lkm, list_entry(failed.next, struct request, link), error, NULL);
}

/* ---- beginning ---- */

static int request_queue(struct lkm *lkm, struct request *r, struct bytes record)
{
        struct bytes scope = bytes_from_string(r->scope);
        union message get = { .get = { .number_ = MESSAGE_GET, .record = record, .scope = scope } };
        union message upgrade = { .upgrade = { .number_ = MESSAGE_UPGRADE, .record = record, .scope = scope } };
        int error = connection_queue(lkm, r->upgrading ? &upgrade : &get, &r->id);

        if (error)
                return error;
        r->deadline_usec = clock_add(clock_boottime_usec(), lkm->timeout_usec);
        return 0;
}

static int request_new(struct lkm *lkm, struct request **ret_request, const char *scope, lkm_key_callback *callback,
                       void *userdata)
{
        struct request *r;
        int error = connection_check(lkm);

        if (error)
                return error;
        assert(lkm); /* connection_check() refuses NULL */
        if (!callback || (scope && strlen(scope) > SCOPE_NAME_MAX))
                return error_set_default(lkm, LKM_E_ARGUMENT);
        /* HELLO counts too until it is answered. */
        if (lkm->n_requests + 1 >= IN_FLIGHT_MAX)
                return error_set(lkm, LKM_E_BUSY, "%zu requests are unanswered. Call lkm_dispatch() first",
                                 lkm->n_requests);
        /* The end of a session is told to its requests first. */
        if (lkm->ending || (lkm->fd < 0 && lkm->n_requests > 0))
                return error_set_default(lkm, LKM_E_NO_DAEMON);
        error = connection_open(lkm);
        if (error)
                return error;
        r = calloc(1, sizeof(*r));
        if (!r)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        list_init(&r->link);
        list_append(&lkm->requests, &r->link);
        lkm->n_requests++;
        snprintf(r->scope, sizeof(r->scope), "%s", scope ? scope : "");
        r->callback = callback;
        r->userdata = userdata;
        *ret_request = r;
        return 0;
}

/* What cannot be sent now waits for lkm_dispatch(); a failure shows there too, by callback. */
static void connection_send_some(struct lkm *lkm)
{
        if (stream_pending(lkm->stream) >= SEND_AT)
                (void)stream_flush(lkm->stream, MSG_DONTWAIT);
}

int lkm_get_begin(struct lkm *lkm, const void *record, size_t n_record, const char *scope, lkm_key_callback *callback,
                  void *userdata)
{
        struct request *request = NULL;
        int r;

        if (lkm && (!record || n_record == 0))
                return error_set_default(lkm, LKM_E_ARGUMENT);
        r = request_new(lkm, &request, scope, callback, userdata);
        if (r)
                return r;
        r = request_queue(lkm, request, (struct bytes){ record, n_record });
        if (r)
                request_free(lkm, request);
        else
                connection_send_some(lkm);
        return r;
}

int lkm_load_begin(struct lkm *lkm, const char *database_path, const char *scope, lkm_key_callback *callback,
                   void *userdata)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };
        struct request *request = NULL;
        int r = connection_check(lkm);

        if (r)
                return r;
        r = database_record_read(lkm, database_path, &record);
        if (r == 0)
                r = request_new(lkm, &request, scope, callback, userdata);
        if (r)
                return r;
        assert(request);
        request->record = TAKE_STRUCT(record, { 0 });
        r = request_queue(lkm, request, (struct bytes){ request->record.data, request->record.n });
        if (r)
                request_free(lkm, request);
        else
                connection_send_some(lkm);
        return r;
}

/* ---- answers ---- */

static struct request *request_find(struct lkm *lkm, uint32_t id)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &lkm->requests) {
                struct request *r = list_entry(node, struct request, link);

                if (r->id == id)
                        return r;
        }
        return NULL;
}

/* The next request of the same load: UPGRADE, or GET of the upgraded record. It moves behind the others, whose deadlines are earlier. */
static void request_continue(struct lkm *lkm, struct request *r, bool upgrading)
{
        int error;

        r->upgrading = upgrading;
        list_unlink(&r->link);
        list_append(&lkm->requests, &r->link);
        error = request_queue(lkm, r, (struct bytes){ r->record.data, r->record.n });
        if (error)
                request_end(lkm, r, error, NULL);
}

static void request_upgraded(struct lkm *lkm, struct request *r, struct bytes record)
{
        int error = database_record_upgraded(lkm, &r->record, NULL, record);

        if (error)
                request_end(lkm, r, error, NULL);
        else
                request_continue(lkm, r, false);
}

/* Which key is the database's is known when the rotation has ended, and ending one may take long. */
static int refuse_pending(struct lkm *lkm, const struct request *r)
{
        return error_set(lkm, LKM_E_ROTATION_IN_PROGRESS,
                         "a rotation of the key in %s has not ended. Wait for it, or call lkm_recover(), then load again.", r->record.path);
}

static void request_answered(struct lkm *lkm, struct request *r, union message *answer, int error)
{
        struct lkm_key *key = NULL;
        struct lkm_key_info info;
        int made;

        if (error == LKM_E_RECORD_OUTDATED && r->record.data && !r->upgrading) {
                request_continue(lkm, r, true);
                return;
        }
        if (!error && r->upgrading && answer->number == MESSAGE_RECORD) {
                request_upgraded(lkm, r, answer->record.record);
                return;
        }
        if (!error && (r->upgrading || answer->number != MESSAGE_KEY))
                error = error_set_default(lkm, LKM_E_PROTOCOL);
        if (!error) {
                made = key_new(&key, &answer->key);
                if (made < 0)
                        error = error_set_default(lkm, made == -ENOMEM ? LKM_E_NO_MEMORY : LKM_E_PROTOCOL);
        }
        message_deinit(answer);
        if (!error && r->record.data && lkm_key_info(key, &info) == 0 && info.pending) {
                lkm_key_free(&key);
                error = refuse_pending(lkm, r);
        }
        request_end(lkm, r, error, key);
}

static int dispatch_answers(struct lkm *lkm)
{
        for (;;) {
                struct request *request;
                union message answer;
                uint32_t id;
                int error, r = connection_take(lkm, &id, &answer, &error);

                if (r)
                        return r == CONNECTION_E_AGAIN ? 0 : r;
                request = request_find(lkm, id);
                if (request)
                        request_answered(lkm, request, &answer, error);
                else
                        message_deinit(&answer); /* it was over its deadline */
                if (lkm->fd < 0)
                        return LKM_E_NO_DAEMON;
        }
}

static int dispatch_receive(struct lkm *lkm)
{
        int r = 0;

        while (r == 0) {
                int received = stream_receive(lkm->stream, MSG_DONTWAIT);

                if (received == STREAM_E_AGAIN || received == -ENOBUFS)
                        return 0;
                if (received == STREAM_E_CLOSED)
                        return connection_lost(lkm, 0);
                if (received)
                        return connection_lost(lkm, received < 0 ? received : -EPROTO);
                r = dispatch_answers(lkm);
                if (r == 0 && stream_received_all(lkm->stream))
                        break;
        }
        return r;
}

static void dispatch_deadlines(struct lkm *lkm)
{
        uint64_t now = clock_boottime_usec();

        while (!list_is_empty(&lkm->requests)) {
                struct request *first = list_entry(lkm->requests.next, struct request, link);

                if (first->deadline_usec > now)
                        return;
                request_end(lkm, first, error_set_default(lkm, LKM_E_TIMEOUT), NULL);
        }
}

static int dispatch(struct lkm *lkm)
{
        int r = stream_flush(lkm->stream, MSG_DONTWAIT);

        if (r < 0 && r != -EPIPE)
                return connection_lost(lkm, r);
        r = dispatch_receive(lkm);
        if (r)
                return r;
        dispatch_deadlines(lkm);
        r = stream_flush(lkm->stream, MSG_DONTWAIT); /* what the callbacks began */
        return r < 0 ? connection_lost(lkm, r) : 0;
}

int lkm_dispatch(struct lkm *lkm)
{
        int r = connection_check(lkm);

        if (r)
                return r;
        if (lkm->dispatching)
                return error_set_default(lkm, LKM_E_BUSY);
        if (lkm->fd < 0 && lkm->n_requests == 0)
                return error_set_default(lkm, LKM_E_NO_DAEMON);
        lkm->dispatching = true;
        r = lkm->fd < 0 ? error_set_default(lkm, LKM_E_NO_DAEMON) : dispatch(lkm);
        if (r) {
                connection_close(lkm);
                async_fail_all(lkm, r);
        }
        lkm->dispatching = false;
        return r;
}

int lkm_fd(const struct lkm *lkm)
{
        return lkm ? lkm->fd : -1;
}

short lkm_events(const struct lkm *lkm)
{
        return lkm && lkm->stream && stream_pending(lkm->stream) > 0 ? POLLIN | POLLOUT : POLLIN;
}

int lkm_timeout_msec(const struct lkm *lkm)
{
        uint64_t now = clock_boottime_usec(), left;
        const struct request *first;

        if (!lkm || list_is_empty(&lkm->requests))
                return -1;
        first = list_entry(lkm->requests.next, struct request, link);
        left = first->deadline_usec > now ? first->deadline_usec - now : 0;
        left = (left + USEC_PER_MSEC - 1) / USEC_PER_MSEC;
        return left > INT_MAX ? INT_MAX : (int)left;
}
