/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a token follows Vault's own lifetime watcher (HashiCorp's and OpenBao's api/lifetime_watcher.go say the same): a grace of 10 to 20 %
 * of the lease; renewed at once, then after 2/3 of what remains plus 1/3 of the grace; when renewals no longer keep the remaining time
 * out of the grace, a new login. Renewals that fail come again after 10 s, doubled up to 5 minutes; logins, as Vault Agent does it, after
 * 1 s, doubled up to 5 minutes, less up to a quarter of it. Who waits for a login does not wait that long: at most 30 s pass between attempts
 * for them, and a changed file ends the pause.
 */
#include "daemon/kms/vault-token.h"

#include <errno.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/kms/json-write.h"
#include "daemon/kms/vault-login.h"

#define CALL_USEC (UINT64_C(10) * USEC_PER_SEC) /* for a login, a renewal, a look at the token */
#define LOGIN_PAUSE_USEC (UINT64_C(1) * USEC_PER_SEC)
#define PAUSE_MAX_USEC (UINT64_C(300) * USEC_PER_SEC)
#define ASKED_PAUSE_MAX_USEC (UINT64_C(30) * USEC_PER_SEC)
#define RENEWAL_PAUSE_USEC (UINT64_C(10) * USEC_PER_SEC)
enum { DOUBLINGS_MAX = 16 };

struct vault_token {
        const struct vault_server *server;
        struct exchange_queue queue;
        struct vault_login *login;
        bool logging_in;

        struct secret *token; /* NULL = none */
        unsigned generation; /* of the token */
        bool renewable;
        uint64_t ends_usec; /* CLOCK_BOOTTIME */
        uint64_t lease_usec, grace_usec;

        struct vault_call renewal, lookup;
        bool renewing, looking;
        unsigned n_renewal_failures, n_login_failures;
        uint64_t failed_usec; /* CLOCK_BOOTTIME of the last login that failed */
        uint64_t failed_stamp; /* the files at that time */
        bool failed_finally; /* nothing but other files can mend it */
        enum proto_error error; /* of that login */
        struct sentence why;

        struct list waiters; /* of struct vault_call, by auth_link */
        struct event *timer; /* renew, or log in ahead */
        struct event *kick; /* see to the waiters, from the event loop */
};

static uint64_t random_below(uint64_t n)
{
        uint32_t random = 0;

        /* Without randomness there is no spread, and nothing else is lost. */
        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
                random = 0;
        return n * (random >> 8) >> 24;
}

static uint64_t doubled(uint64_t usec, unsigned n, uint64_t max)
{
        n = n > DOUBLINGS_MAX ? DOUBLINGS_MAX : n;
        return usec << n < max ? usec << n : max;
}

static void timer_set(struct event *timer, uint64_t usec)
{
        struct timeval tv = { .tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_usec = (suseconds_t)(usec % USEC_PER_SEC) };

        event_add(timer, &tv);
}

static void waiters_kick(struct vault_token *a)
{
        if (!list_is_empty(&a->waiters))
                timer_set(a->kick, 0);
}

/* ---- those who wait ---- */

static bool token_is_good(const struct vault_token *a)
{
        return a->token && clock_boottime_usec() < a->ends_usec;
}

static void token_drop(struct vault_token *a)
{
        a->token = secret_unref(a->token);
        event_del(a->timer);
        if (a->renewing)
                vault_call_cancel(&a->renewal);
        vault_call_deinit(&a->renewal);
        a->renewing = false;
}

static void token_give(struct vault_token *a, struct vault_call *c)
{
        secret_unref(c->token);
        c->token = secret_ref(a->token);
        c->token_generation = a->generation;
        c->doubts = false;
}

int vault_token_authorize(struct vault_token *a, struct vault_call *c)
{
        if (c->doubts && a->token && a->generation != c->token_generation)
                c->doubts = false; /* somebody else found out: there is another token already */
        if (!c->doubts && token_is_good(a)) {
                token_give(a, c);
                return 0;
        }
        list_append(&a->waiters, &c->auth_link);
        waiters_kick(a);
        return EXCHANGE_WAIT;
}

/* All who wait go on. Those that find no token come back. */
static void waiters_ready(struct vault_token *a)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &a->waiters) {
                list_unlink(node);
                vault_call_ready(list_entry(node, struct vault_call, auth_link));
        }
}

/* Those who wait for a login, or for lookup-self, fail. */
static void waiters_fail(struct vault_token *a, bool doubting, enum proto_error error, const char *sentence)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &a->waiters) {
                struct vault_call *c = list_entry(node, struct vault_call, auth_link);

                if (c->doubts != doubting)
                        continue;
                list_unlink(node);
                vault_call_fail(c, error, sentence);
        }
}

/* ---- logins ---- */

static void waiters_fail_all(struct vault_token *a)
{
        waiters_fail(a, true, a->error, a->why.text);
        waiters_fail(a, false, a->error, a->why.text);
}

static uint64_t login_pause_usec(const struct vault_token *a)
{
        uint64_t pause = doubled(LOGIN_PAUSE_USEC, a->n_login_failures > 0 ? a->n_login_failures - 1 : 0, PAUSE_MAX_USEC);

        return pause - random_below(pause / 4);
}

/* Whether those who wait have to be told of the last failure, in place of another attempt. An outage is the queue's breaker's to watch over. */
static bool login_is_held_off(const struct vault_token *a)
{
        uint64_t pause = doubled(LOGIN_PAUSE_USEC, a->n_login_failures > 0 ? a->n_login_failures - 1 : 0, ASKED_PAUSE_MAX_USEC);

        if (!a->error || vault_error_is_outage(a->error) || vault_login_stamp(a->login) != a->failed_stamp)
                return false;
        return a->failed_finally || clock_boottime_usec() - a->failed_usec < pause;
}

static void login_failed(struct vault_token *a, enum proto_error error, const char *sentence, bool is_final)
{
        a->error = error;
        a->failed_finally = is_final;
        a->failed_usec = clock_boottime_usec();
        a->failed_stamp = vault_login_stamp(a->login);
        a->n_login_failures++;
        sentence_set(&a->why, "%s", sentence ? sentence : "no memory is left for a login. Ask again when other requests have ended");
        if (token_is_good(a)) { /* a login ahead: the old one serves meanwhile */
                if (a->n_login_failures == 1)
                        log_warning("[kek %s]: cannot log in again ahead of time: %s", a->server->config->name, a->why.text);
                timer_set(a->timer, login_pause_usec(a));
                waiters_kick(a);
        } else {
                waiters_fail_all(a);
        }
}

static void login_begin(struct vault_token *a)
{
        struct sentence why;
        enum proto_error error;

        if (a->logging_in)
                return;
        a->logging_in = true;
        error = vault_login_start(a->login, clock_boottime_usec() + CALL_USEC, &why);
        if (error) {
                a->logging_in = false;
                login_failed(a, error, why.text, false);
        }
}

/* How long to leave the token alone; 0 when it is time for another. */
static uint64_t watch_pause_usec(const struct vault_token *a, uint64_t remaining)
{
        uint64_t pause = remaining / 3 * 2 + a->grace_usec / 3;

        return remaining <= a->grace_usec || remaining - pause <= a->grace_usec ? 0 : pause;
}

/* Go on with the life of a token that has @lease_usec from now. */
static void watch(struct vault_token *a, uint64_t lease_usec, bool is_new)
{
        uint64_t pause;

        a->ends_usec = clock_add(clock_boottime_usec(), lease_usec);
        if (lease_usec == USEC_INFINITY)
                return;
        /* While the lease grows the grace is that of the new one; when it no longer does, the end nears. */
        if (is_new || lease_usec > a->lease_usec)
                a->grace_usec = lease_usec / 10 + random_below(lease_usec / 10);
        a->lease_usec = lease_usec;
        pause = is_new && a->renewable ? USEC_PER_MSEC : watch_pause_usec(a, lease_usec);
        if (pause > 0)
                timer_set(a->timer, pause);
        else
                login_begin(a);
}

/* The file still holds the token that nears its end. It serves on; where renewals did not come through they are tried again, else another
 * one is hoped for. */
static void login_gave_the_same(struct vault_token *a)
{
        unsigned long long left = (a->ends_usec - clock_boottime_usec()) / USEC_PER_SEC;

        if (a->renewable && a->n_renewal_failures > 0) {
                a->n_login_failures = a->n_renewal_failures = 0;
                timer_set(a->timer, USEC_PER_MSEC);
        } else {
                if (a->n_login_failures++ == 0)
                        log_warning("[kek %s]: %s ends in %llu s and cannot be renewed further. Put a new one there", a->server->config->name,
                                    vault_login_method(a->login), left);
                timer_set(a->timer, login_pause_usec(a));
        }
        waiters_ready(a);
}

static void login_done(void *userdata, enum proto_error error, const char *sentence, const struct vault_lease *lease, bool is_final)
{
        struct vault_token *a = userdata;

        a->logging_in = false;
        if (error) {
                login_failed(a, error, sentence, is_final);
                return;
        }
        a->error = PROTO_ERROR_NONE;
        if (token_is_good(a) && secret_equal(a->token, lease->token)) {
                login_gave_the_same(a);
                return;
        }
        token_drop(a);
        a->token = secret_ref(lease->token);
        a->generation++;
        a->renewable = lease->renewable;
        a->n_login_failures = a->n_renewal_failures = 0;
        watch(a, lease->duration_usec, true);
        waiters_ready(a);
}

/* ---- renewals ---- */

static void renewal_read(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict)
{
        struct vault_token *a = call->userdata;
        struct vault_lease lease;

        if (!vault_lease_of_auth(&lease, answer)) {
                vault_call_refuse(call, verdict, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, "it renewed the token without saying for how long");
                return;
        }
        a->n_renewal_failures = 0;
        a->renewable = lease.renewable;
        /* A token that can be renewed does end: no time at all is the last second. */
        watch(a, lease.duration_usec == USEC_INFINITY ? USEC_PER_SEC : lease.duration_usec, false);
}

static void renewal_done(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct vault_token *a = call->userdata;
        uint64_t now = clock_boottime_usec(), remaining = a->ends_usec > now ? a->ends_usec - now : 0, pause;

        a->renewing = false;
        vault_call_deinit(call);
        if (!error)
                return;
        pause = doubled(RENEWAL_PAUSE_USEC, a->n_renewal_failures++, PAUSE_MAX_USEC);
        if (!vault_error_is_outage(error) || remaining <= a->grace_usec || remaining - a->grace_usec <= pause)
                login_begin(a);
        else
                timer_set(a->timer, pause);
}

static void renewal_begin(struct vault_token *a)
{
        struct vault_call *c = &a->renewal;
        struct json_writer w;
        int r = vault_call_init(c, a->server, VAULT_KIND_TOKEN, "POST", strdup("auth/token/renew-self"));

        c->read = renewal_read;
        c->done = renewal_done;
        c->userdata = a;
        c->token = secret_ref(a->token);
        if (r == 0)
                r = json_writer_init(&w, SECRET_SMALL_MAX);
        if (r == 0) {
                json_write_open(&w, NULL, '{');
                json_write_close(&w, '}');
                r = json_writer_end(&w, &c->body);
                json_writer_deinit(&w);
        }
        if (r == 0)
                r = vault_call_start(c, &a->queue, clock_boottime_usec() + CALL_USEC);
        a->renewing = r == 0;
        if (r < 0) {
                vault_call_deinit(c);
                timer_set(a->timer, RENEWAL_PAUSE_USEC);
        }
}

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
        struct vault_token *a = userdata;
        uint64_t now = clock_boottime_usec();

        if (!a->token || a->renewing)
                return;
        if (now >= a->ends_usec) /* a sleep lay between; the next who asks logs in */
                token_drop(a);
        else if (a->n_login_failures > 0 || !a->renewable)
                login_begin(a);
        else
                renewal_begin(a);
}

/* ---- doubt: is it the token, or may it not? ---- */

static bool on_doubt(struct vault_call *c)
{
        if (c->doubted)
                return false;
        return c->doubts = c->doubted = true;
}

static void lookup_read(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict)
{
}

static void lookup_done(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct vault_token *a = call->userdata;
        struct list *node, *following;
        bool was_current = a->token && secret_equal(a->token, call->token);

        a->looking = false;
        vault_call_deinit(call);
        if (error == PROTO_ERROR_KMS_CREDENTIALS) {
                if (was_current) {
                        log_notice("[kek %s]: the token has ended or was revoked; logging in again", a->server->config->name);
                        token_drop(a);
                }
                waiters_kick(a);
                return;
        }
        if (error) {
                waiters_fail(a, true, error, sentence);
                return;
        }
        /* The token is good, so what was refused is not allowed. */
        list_for_each_safe (node, following, &a->waiters) {
                struct vault_call *c = list_entry(node, struct vault_call, auth_link);

                if (!c->doubts || !was_current || c->token_generation != a->generation)
                        continue;
                list_unlink(node);
                vault_call_fail(c, PROTO_ERROR_KMS_DENIED, c->denial.text);
        }
        waiters_kick(a);
}

static void lookup_begin(struct vault_token *a)
{
        struct vault_call *c = &a->lookup;
        int r;

        if (a->looking)
                return;
        r = vault_call_init(c, a->server, VAULT_KIND_TOKEN, "GET", strdup("auth/token/lookup-self"));
        c->read = lookup_read;
        c->done = lookup_done;
        c->userdata = a;
        c->token = secret_ref(a->token);
        if (r == 0)
                r = vault_call_start(c, &a->queue, clock_boottime_usec() + CALL_USEC);
        a->looking = r == 0;
        if (r < 0) {
                vault_call_deinit(c);
                waiters_fail(a, true, PROTO_ERROR_INTERNAL, "out of memory. Ask again when other requests have ended");
        }
}

/* See what those who wait wait for. */
static void on_kick(evutil_socket_t fd, short what, void *userdata)
{
        struct vault_token *a = userdata;
        struct list *node, *following;
        bool any_doubts = false;

        if (list_is_empty(&a->waiters) || a->logging_in)
                return;
        if (!token_is_good(a)) {
                token_drop(a);
                if (login_is_held_off(a))
                        waiters_fail_all(a);
                else
                        login_begin(a);
                return;
        }
        list_for_each_safe (node, following, &a->waiters) {
                struct vault_call *c = list_entry(node, struct vault_call, auth_link);

                if (c->doubts && c->token_generation == a->generation) {
                        any_doubts = true;
                        continue;
                }
                list_unlink(node);
                vault_call_ready(c);
        }
        if (any_doubts)
                lookup_begin(a);
}

/* ---- begin and end ---- */

static int authorize(struct vault_call *c)
{
        return vault_token_authorize(c->authority, c);
}

void vault_token_attach(struct vault_token *a, struct vault_call *call)
{
        call->authority = a;
        call->authorize = authorize;
        call->is_in_doubt = on_doubt;
}

struct exchange_queue *vault_token_queue(struct vault_token *a)
{
        return &a->queue;
}

int vault_token_new(struct vault_token **ret_auth, const struct vault_server *server)
{
        struct vault_token *a = calloc(1, sizeof(*a));

        if (!a)
                return -ENOMEM;
        a->server = server;
        list_init(&a->waiters);
        exchange_queue_init(&a->queue, server->environment);
        a->timer = evtimer_new(server->environment->base, on_timer, a);
        a->kick = evtimer_new(server->environment->base, on_kick, a);
        if (!a->timer || !a->kick || vault_login_new(&a->login, server, &a->queue, login_done, a) < 0) {
                vault_token_free(a);
                return -ENOMEM;
        }
        *ret_auth = a;
        return 0;
}

struct vault_token *vault_token_free(struct vault_token *a)
{
        if (!a)
                return NULL;
        vault_login_free(a->login);
        if (a->looking)
                vault_call_cancel(&a->lookup);
        vault_call_deinit(&a->lookup);
        if (a->renewing)
                vault_call_cancel(&a->renewal);
        vault_call_deinit(&a->renewal);
        secret_unref(a->token);
        if (a->timer)
                event_free(a->timer);
        if (a->kick)
                event_free(a->kick);
        exchange_queue_deinit(&a->queue);
        free(a);
        return NULL;
}
