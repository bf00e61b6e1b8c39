/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unwraps that arrive in one turn of the loop go together. FLIGHTS_EAGER requests may be under way with fewer than a full batch; beyond that, what
 * arrives collects until one of them ends or a batch is full. So a single unwrap never waits for another one, a stuck request does not
 * stop those behind it, and under load the batches fill themselves.
 *
 * A batch of which some items failed has status 400 and tells each item's error. When a batch is refused as a whole with 400 or 413, one of
 * its items may be the cause: they are asked for again, one by one.
 */
#include "daemon/kms/vault-batch.h"

#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/json-write.h"

enum {
        FLIGHTS_MAX = EXCHANGE_CALLS_MAX,
        FLIGHTS_EAGER = 4,
        ITEM_OVERHEAD = 128, /* of JSON, for each item */
};

/* One unwrap. */
struct unwrap {
        struct list link; /* in waiting, while in no flight */
        struct vault_batch *batch;
        struct flight *flight; /* NULL = waiting */
        size_t i; /* in the flight */
        struct provider_call *call;
        struct event *timer; /* the deadline */
        bool alone; /* not to be put into a batch again */
        /* how it ended */
        enum proto_error error;
        struct sentence *why; /* owned; NULL = none */
        struct secret *key;
        uint8_t context[VAULT_CONTEXT_SIZE];
        size_t n_wrapped;
        uint8_t wrapped[];
};

/* One request. */
struct flight {
        struct list link; /* in flights */
        struct vault_call call;
        struct vault_batch *batch;
        size_t n;
        struct unwrap *unwraps[VAULT_BATCH_MAX]; /* NULL: nobody waits for it any more */
};

struct vault_batch {
        const struct vault_server *server;
        struct exchange_queue *queue;
        struct vault_token *auth;
        struct vault_key *key;
        const char *permission;
        struct list waiting; /* of struct unwrap */
        struct list flights; /* of struct flight */
        size_t n_waiting, n_flights;
        struct event *kick; /* send what waits, at the end of this turn of the loop */
};

static void batch_send(struct vault_batch *b);

static void kick(struct vault_batch *b)
{
        static const struct timeval now = { 0, 0 };

        event_add(b->kick, &now);
}

/* ---- one unwrap ---- */

static void unwrap_leave(struct unwrap *u)
{
        if (u->flight) {
                u->flight->unwraps[u->i] = NULL;
                u->flight = NULL;
        } else if (!list_is_empty(&u->link)) {
                list_unlink(&u->link);
                u->batch->n_waiting--;
        }
}

static void unwrap_end(struct unwrap *u, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct provider_result result = { .error = error, .sentence = sentence, .retry_after_msec = retry_after_msec,
                                          .key = error ? NULL : u->key };

        if (!error && u->flight) /* one request for all that were in it */
                result.request_id = provider_request_id_get(&u->flight->call.request_id);
        unwrap_leave(u);
        event_free(u->timer);
        u->call->done(u->call, &result);
        secret_unref(u->key);
        free(u->why);
        free(u);
}

static void on_deadline(evutil_socket_t fd, short what, void *userdata)
{
        struct unwrap *u = userdata;
        struct vault_batch *b = u->batch;
        struct sentence why;

        if (*b->queue->last_outage.text)
                why = b->queue->last_outage;
        else
                sentence_set(&why, "Vault at %s did not answer in time. Check it and the network", b->server->host);
        unwrap_end(u, PROTO_ERROR_KMS_UNREACHABLE, why.text, 0);
}

static void unwrap_fail(struct unwrap *u, enum proto_error error, const struct sentence *why)
{
        u->error = error;
        u->why = malloc(sizeof(*u->why));
        if (u->why)
                *u->why = *why;
}

static void unwrap_take(struct unwrap *u, struct secret *text)
{
        struct sentence why;
        int r = text ? secret_from_base64(&u->key, text, KEY_SIZE) : -EINVAL;

        if (r == 0)
                return;
        if (r == -EINVAL)
                sentence_set(&why, "Vault at %s: what the wrap holds is no key of 32 bytes. Restore the .key file from a backup",
                             u->batch->server->host);
        else
                sentence_set(&why, "no locked memory is left. Ask again when other requests have ended");
        unwrap_fail(u, r == -EINVAL ? PROTO_ERROR_KMS_CORRUPT : PROTO_ERROR_INTERNAL, &why);
}

/* ---- the answer ---- */

static void item_read(struct flight *f, size_t i, const json_t *item, struct secret *text)
{
        const char *message = json_string_value(json_object_get(item, "error"));
        struct unwrap *u = f->unwraps[i];
        const struct vault_meaning *meaning;
        struct vault_names names = f->batch->server->names;
        char shown[VAULT_TEXT_MAX + 1] = "";
        struct sentence why;

        if (!u)
                return;
        if (!message || !*message) {
                unwrap_take(u, text);
                return;
        }
        meaning = vault_error_find(VAULT_KIND_TRANSIT, 400, message);
        names.permission = f->batch->permission;
        vault_error_text(shown, message);
        vault_error_sentence(&why, meaning, &names, 400, shown);
        unwrap_fail(u, meaning->error, &why);
}

/* Whether each item of the answer is at the place of its question. Servers older than `reference` repeat none. */
static bool batch_is_in_order(const json_t *batch, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                const char *reference = json_string_value(json_object_get(json_array_get(batch, i), "reference"));
                char wanted[24];

                snprintf(wanted, sizeof(wanted), "%zu", i);
                if (reference && *reference && strcmp(reference, wanted) != 0)
                        return false;
        }
        return true;
}

static void flight_read(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict)
{
        struct flight *f = call->userdata;

        if (!answer->data) {
                vault_call_refuse(call, verdict, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT,
                                  "it gives an answer without data. Check address, and what lies between");
                return;
        }
        if (f->n == 1) {
                item_read(f, 0, NULL, vault_answer_secret(answer, VAULT_SECRET_PLAINTEXT, 0));
                return;
        }
        if (json_array_size(answer->batch) != f->n || !batch_is_in_order(answer->batch, f->n)) {
                vault_call_refuse(call, verdict, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT,
                                  "it answered %zu of %zu questions, or in another order. Check what lies between, and update Vault",
                                  json_array_size(answer->batch), f->n);
                return;
        }
        for (size_t i = 0; i < f->n; i++)
                item_read(f, i, json_array_get(answer->batch, i), vault_answer_secret(answer, VAULT_SECRET_PLAINTEXT, i));
}

/* Whether one item may be why all were refused. */
static bool is_for_one_item(const struct flight *f, enum proto_error error)
{
        return f->n > 1 && (f->call.status == 400 || f->call.status == 413) && !vault_error_is_outage(error);
}

static void flight_done(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct flight *f = call->userdata;
        struct vault_batch *b = f->batch;
        bool one_by_one = error && is_for_one_item(f, error);

        b->n_flights--;
        list_unlink(&f->link);
        for (size_t i = 0; i < f->n; i++) {
                struct unwrap *u = f->unwraps[i];

                if (!u)
                        continue;
                if (one_by_one) {
                        unwrap_leave(u);
                        u->alone = true;
                        list_append(&b->waiting, &u->link);
                        b->n_waiting++;
                } else if (error) {
                        unwrap_end(u, error, sentence, retry_after_msec);
                } else {
                        unwrap_end(u, u->error, u->why ? u->why->text : NULL, 0);
                }
        }
        vault_call_deinit(&f->call);
        free(f);
        kick(b);
}

/* ---- the request ---- */

static int flight_authorize(struct vault_call *c)
{
        const struct flight *f = c->userdata;

        return vault_operation_authorize(c, f->batch->key, f->batch->auth);
}

static void item_write(struct json_writer *w, const struct unwrap *u, bool in_batch)
{
        char reference[24];

        json_write_text(w, "ciphertext", (struct bytes){ u->wrapped, u->n_wrapped });
        json_write_base64(w, "context", (struct bytes){ u->context, sizeof(u->context) });
        if (in_batch) {
                snprintf(reference, sizeof(reference), "%zu", u->i);
                json_write_text(w, "reference", bytes_from_string(reference));
        }
}

static int flight_body(struct flight *f, size_t size)
{
        struct json_writer w;
        int r = json_writer_init(&w, size);

        if (r < 0)
                return r;
        json_write_open(&w, NULL, '{');
        if (f->n == 1) {
                item_write(&w, f->unwraps[0], false);
        } else {
                json_write_open(&w, "batch_input", '[');
                for (size_t i = 0; i < f->n; i++) {
                        json_write_open(&w, NULL, '{');
                        item_write(&w, f->unwraps[i], true);
                        json_write_close(&w, '}');
                }
                json_write_close(&w, ']');
        }
        json_write_close(&w, '}');
        r = json_writer_end(&w, &f->call.body);
        json_writer_deinit(&w);
        return r;
}

/* Put the first of those who wait into @f: as many as fit. Return: bytes of their JSON. */
static size_t flight_load(struct flight *f)
{
        struct vault_batch *b = f->batch;
        const struct unwrap *first = NULL;
        size_t size = ITEM_OVERHEAD;

        while (!list_is_empty(&b->waiting) && f->n < VAULT_BATCH_MAX) {
                struct unwrap *u = list_entry(b->waiting.next, struct unwrap, link);
                size_t n = u->n_wrapped + ITEM_OVERHEAD;

                if (first && (u->alone || first->alone || size + n > SECRET_BODY_MAX))
                        break;
                unwrap_leave(u);
                u->flight = f;
                u->i = f->n;
                f->unwraps[f->n++] = u;
                first = first ? first : u;
                size += n;
        }
        return size;
}

static uint64_t flight_deadline(const struct flight *f)
{
        uint64_t deadline = 0;

        for (size_t i = 0; i < f->n; i++)
                if (f->unwraps[i]->call->deadline_usec > deadline)
                        deadline = f->unwraps[i]->call->deadline_usec;
        return deadline;
}

static int flight_start(struct flight *f, size_t size)
{
        struct vault_batch *b = f->batch;
        struct vault_call *c = &f->call;
        char *path;
        int r;

        if (asprintf(&path, "%s/decrypt/%s", b->server->names.mount, b->server->names.key) < 0)
                path = NULL;
        r = vault_call_init(c, b->server, VAULT_KIND_TRANSIT, "POST", path);
        if (r < 0)
                return r;
        vault_token_attach(b->auth, c);
        c->authorize = flight_authorize;
        c->read = flight_read;
        c->done = flight_done;
        c->userdata = f;
        c->permission = b->permission;
        r = flight_body(f, size);
        return r < 0 ? r : vault_call_start(c, b->queue, flight_deadline(f));
}

/* Send the first of those who wait. Return: whether to go on. */
static bool flight_new(struct vault_batch *b)
{
        struct flight *f = calloc(1, sizeof(*f));
        int r;

        if (!f)
                return false;
        f->batch = b;
        list_init(&f->link);
        r = flight_start(f, flight_load(f));
        if (r == 0) {
                b->n_flights++;
                list_append(&b->flights, &f->link);
                return true;
        }
        /* Back in their order, to be sent when another flight has given its memory back; if there is none, they fail. */
        for (size_t i = f->n; i-- > 0;) {
                struct unwrap *u = f->unwraps[i];

                unwrap_leave(u);
                if (b->n_flights > 0) {
                        list_prepend(&b->waiting, &u->link);
                        b->n_waiting++;
                } else {
                        unwrap_end(u, PROTO_ERROR_INTERNAL, "no locked memory is left. Ask again when other requests have ended", 0);
                }
        }
        vault_call_deinit(&f->call);
        free(f);
        return false;
}

static void batch_send(struct vault_batch *b)
{
        while (b->n_waiting > 0 && b->n_flights < FLIGHTS_MAX) {
                if (b->n_flights >= FLIGHTS_EAGER && b->n_waiting < VAULT_BATCH_MAX)
                        return;
                if (!flight_new(b))
                        return;
        }
}

static void on_kick(evutil_socket_t fd, short what, void *userdata)
{
        batch_send(userdata);
}

/* ---- for the provider ---- */

int vault_operation_authorize(struct vault_call *c, struct vault_key *key, struct vault_token *auth)
{
        return vault_key_is_good(key, c) ? vault_token_authorize(auth, c) : EXCHANGE_WAIT;
}

int vault_batch_unwrap(struct vault_batch *b, struct provider_call *call, struct bytes wrapped, const uint8_t context[VAULT_CONTEXT_SIZE])
{
        uint64_t now = clock_boottime_usec(), left = call->deadline_usec > now ? call->deadline_usec - now : 0;
        struct timeval tv = { .tv_sec = (time_t)(left / USEC_PER_SEC), .tv_usec = (suseconds_t)(left % USEC_PER_SEC) };
        struct unwrap *u = calloc(1, sizeof(*u) + wrapped.n);

        if (!u)
                return -ENOMEM;
        u->batch = b;
        u->call = call;
        u->n_wrapped = wrapped.n;
        memcpy(u->wrapped, wrapped.data, wrapped.n);
        memcpy(u->context, context, sizeof(u->context));
        list_init(&u->link);
        u->timer = evtimer_new(b->server->environment->base, on_deadline, u);
        if (!u->timer || event_add(u->timer, &tv) < 0) {
                if (u->timer)
                        event_free(u->timer);
                free(u);
                return -ENOMEM;
        }
        list_append(&b->waiting, &u->link);
        b->n_waiting++;
        kick(b);
        return 0;
}

int vault_batch_new(struct vault_batch **ret_batch, const struct vault_server *server, struct exchange_queue *queue, struct vault_token *auth,
                    struct vault_key *key, const char *permission)
{
        struct vault_batch *b = calloc(1, sizeof(*b));

        if (!b)
                return -ENOMEM;
        *b = (struct vault_batch){ .server = server, .queue = queue, .auth = auth, .key = key, .permission = permission };
        list_init(&b->waiting);
        list_init(&b->flights);
        b->kick = evtimer_new(server->environment->base, on_kick, b);
        if (!b->kick) {
                free(b);
                return -ENOMEM;
        }
        *ret_batch = b;
        return 0;
}

struct vault_batch *vault_batch_free(struct vault_batch *b)
{
        struct list *node, *following;

        if (!b)
                return NULL;
        /* Flights whose askers have all gone. */
        list_for_each_safe (node, following, &b->flights) {
                struct flight *f = list_entry(node, struct flight, link);

                vault_call_cancel(&f->call);
                vault_call_deinit(&f->call);
                free(f);
        }
        event_free(b->kick);
        free(b);
        return NULL;
}
