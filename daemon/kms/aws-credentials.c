/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source: what is in use, when it is renewed, and who waits. Keys are renewed 15 minutes ahead and served to their end, so that an outage of
 * whoever gives them is not ours; a failed fetch is not repeated for a while, so that an outage is not made worse by those who ask.
 */
#include "daemon/kms/aws-credentials.h"

#include <errno.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/kms/aws-fetch.h"
#include "daemon/kms/aws-refresh.h"

#define REJECTED_MAX 2

struct aws_credentials_source {
        const struct config_kek *config;
        struct aws_environment *environment;
        struct aws_fetch_context context;
        struct aws_credentials *current; /* or NULL */
        uint64_t fetched_usec;           /* CLOCK_BOOTTIME */
        uint64_t refresh_wall_usec;
        struct {
                struct aws_credentials *credentials;
                uint64_t until_usec; /* CLOCK_BOOTTIME */
        } rejected[REJECTED_MAX]; /* the last ones that KMS did not take */
        size_t i_rejected;
        unsigned n_rejected_early; /* in a row, soon after they were fetched */
        struct list waiting; /* of struct aws_credentials_call */
        struct aws_fetch *fetch;
        struct aws_way_call way;
        struct event *work, *timer; /* to do now; to renew in time */
        bool renewing;              /* the work to do is to renew */
        unsigned n_failures;        /* in a row */
        uint64_t pause_usec;        /* CLOCK_BOOTTIME until which the last error stands for an answer */
        enum proto_error last_error;
        struct sentence last_why;
};

static uint32_t random_number(void)
{
        uint32_t random;

        return getrandom(&random, sizeof(random), GRND_NONBLOCK) == sizeof(random) ? random : (uint32_t)clock_boottime_usec();
}

/* ---- sets ---- */

static bool is_same_secret(const struct secret *a, const struct secret *b)
{
        return a && b ? secret_equal(a, b) : a == b;
}

static bool is_same(const struct aws_credentials *a, const struct aws_credentials *b)
{
        return a == b || (strcmp(a->access_key_id, b->access_key_id) == 0 && is_same_secret(a->secret_access_key, b->secret_access_key) &&
                          is_same_secret(a->session_token, b->session_token));
}

static bool is_rejected(const struct aws_credentials_source *s, const struct aws_credentials *c)
{
        uint64_t now = clock_boottime_usec();

        for (size_t i = 0; i < REJECTED_MAX; i++)
                if (s->rejected[i].credentials && now < s->rejected[i].until_usec && is_same(s->rejected[i].credentials, c))
                        return true;
        return false;
}

static bool is_usable(const struct aws_credentials_source *s)
{
        return s->current && s->current->expires_wall_usec > clock_wall_usec();
}

/* ---- telling ---- */

static void tell_all(struct aws_credentials_source *s, struct aws_credentials *credentials, enum proto_error error, const char *why)
{
        /* One of those who are told may reject them. */
        _cleanup_(aws_credentials_unrefp) struct aws_credentials *held = credentials ? aws_credentials_ref(credentials) : NULL;
        struct list all = LIST_INIT(all);

        while (!list_is_empty(&s->waiting)) {
                struct list *node = s->waiting.next;

                list_unlink(node);
                list_append(&all, node);
        }
        while (!list_is_empty(&all)) {
                struct aws_credentials_call *call = list_entry(all.next, struct aws_credentials_call, link);

                list_unlink(&call->link);
                call->done(call, held, error, why);
        }
}

/* ---- fetching ---- */

static void timer_set(struct aws_credentials_source *s, uint64_t usec)
{
        struct timeval time = { .tv_sec = (time_t)(usec / USEC_PER_SEC), .tv_usec = (suseconds_t)(usec % USEC_PER_SEC) };

        if (evtimer_add(s->timer, &time) < 0)
                log_warning("KEK %s: no timer for its credentials; they are renewed when they are used", s->config->name);
}

static void take_failure(struct aws_credentials_source *s, enum proto_error error, const char *why)
{
        char until[CLOCK_TEXT_LENGTH + 1];
        uint64_t pause;

        s->n_failures++;
        s->last_error = error;
        sentence_set(&s->last_why, "%s", why);
        pause = credentials_pause_usec(s->n_failures, random_number());
        if (is_usable(s)) {
                if (s->n_failures == 1 && s->current->expires_wall_usec != USEC_INFINITY) {
                        clock_format(until, s->current->expires_wall_usec);
                        log_warning("KEK %s: its credentials could not be renewed; the old ones are good until %s: %s", s->config->name, until, why);
                }
                timer_set(s, pause);
        } else if (pause > CREDENTIALS_HOLD_USEC) {
                pause = CREDENTIALS_HOLD_USEC;
        }
        s->pause_usec = clock_add(clock_boottime_usec(), pause);
        if (is_usable(s))
                tell_all(s, s->current, PROTO_ERROR_NONE, "");
        else
                tell_all(s, NULL, s->last_error, s->last_why.text);
}

/* Whether new @c can be used at all. */
static bool check(struct aws_credentials_source *s, const struct aws_credentials *c, struct sentence *ret_why)
{
        char expired[CLOCK_TEXT_LENGTH + 1];

        if (is_rejected(s, c)) {
                sentence_set(ret_why, "AWS does not accept access key %s of %s, and there are no others. Change the credentials there; the same ones "
                                      "are tried again in a minute, as new keys take a while to be known everywhere",
                             c->access_key_id, c->source);
                return false;
        }
        if (c->expires_wall_usec <= clock_wall_usec()) {
                clock_format(expired, c->expires_wall_usec);
                sentence_set(ret_why, "access key %s of %s has expired already, at %s. Renew it there, and check this machine's clock",
                             c->access_key_id, c->source, expired);
                return false;
        }
        return true;
}

static void take_credentials(struct aws_credentials_source *s, struct aws_credentials *c)
{
        uint64_t now = clock_wall_usec();
        struct sentence why;

        if (!check(s, c, &why)) {
                take_failure(s, PROTO_ERROR_KMS_CREDENTIALS, why.text);
                return;
        }
        if (s->n_failures > 0 && is_usable(s))
                log_notice("KEK %s: its credentials are renewed again", s->config->name);
        aws_credentials_ref(c);
        aws_credentials_unref(s->current);
        s->current = c;
        s->n_failures = 0;
        s->pause_usec = 0;
        s->fetched_usec = clock_boottime_usec();
        s->refresh_wall_usec = credentials_refresh_at(now, c->expires_wall_usec, random_number());
        if (s->refresh_wall_usec != USEC_INFINITY)
                timer_set(s, s->refresh_wall_usec - now);
        else
                evtimer_del(s->timer);
        tell_all(s, c, PROTO_ERROR_NONE, "");
}

static void on_fetched(struct aws_way_call *way, struct aws_credentials *credentials, enum proto_error error, const char *why)
{
        struct aws_credentials_source *s = list_entry(way, struct aws_credentials_source, way);
        struct aws_fetch *fetch = TAKE_PTR(s->fetch);

        if (credentials)
                take_credentials(s, credentials);
        else
                take_failure(s, error, why);
        aws_fetch_free(fetch); /* it holds @credentials */
}

static void on_work(evutil_socket_t fd, short what, void *userdata)
{
        struct aws_credentials_source *s = userdata;
        bool renewing = s->renewing;

        s->renewing = false;
        if (is_usable(s))
                tell_all(s, s->current, PROTO_ERROR_NONE, "");
        if (s->fetch || (list_is_empty(&s->waiting) && !renewing))
                return;
        if (!renewing && clock_boottime_usec() < s->pause_usec) {
                tell_all(s, NULL, s->last_error, s->last_why.text);
                return;
        }
        s->fetch = aws_fetch_new(&s->context, &s->way);
        if (s->fetch)
                aws_fetch_start(s->fetch);
        else
                take_failure(s, PROTO_ERROR_KMS_UNREACHABLE, "no credentials: out of memory. Try again");
}

static void renew(struct aws_credentials_source *s)
{
        s->renewing = true;
        event_active(s->work, EV_TIMEOUT, 0);
}

static void on_timer(evutil_socket_t fd, short what, void *userdata)
{
        struct aws_credentials_source *s = userdata;

        if (is_usable(s)) /* what has ended is renewed when it is asked for */
                renew(s);
}

/* ---- for those who ask ---- */

struct aws_credentials *aws_credentials_now(struct aws_credentials_source *s)
{
        if (!is_usable(s))
                return NULL;
        /* The timer does not run while the machine sleeps, nor follow a changed clock. */
        if (!s->fetch && clock_wall_usec() >= s->refresh_wall_usec && clock_boottime_usec() >= s->pause_usec)
                renew(s);
        return s->current;
}

void aws_credentials_get(struct aws_credentials_source *s, struct aws_credentials_call *call)
{
        list_init(&call->link);
        list_append(&s->waiting, &call->link);
        event_active(s->work, EV_TIMEOUT, 0);
}

void aws_credentials_cancel(struct aws_credentials_source *s, struct aws_credentials_call *call)
{
        list_unlink(&call->link);
}

void aws_credentials_reject(struct aws_credentials_source *s, const struct aws_credentials *credentials)
{
        struct aws_credentials *c = (struct aws_credentials *)(uintptr_t)credentials;
        bool was_current = s->current && is_same(s->current, c);

        if (!is_rejected(s, c)) {
                aws_credentials_unref(s->rejected[s->i_rejected].credentials);
                s->rejected[s->i_rejected].credentials = aws_credentials_ref(c);
                s->rejected[s->i_rejected].until_usec = clock_add(clock_boottime_usec(), CREDENTIALS_REJECTED_USEC);
                s->i_rejected = (s->i_rejected + 1) % REJECTED_MAX;
        }
        if (!was_current)
                return;
        s->current = aws_credentials_unref(s->current);
        evtimer_del(s->timer);
        s->pause_usec = 0;
        /* Whoever gives us one set after the other that AWS does not take is not asked without end. */
        s->n_rejected_early = clock_boottime_usec() - s->fetched_usec < CREDENTIALS_HOLD_USEC ? s->n_rejected_early + 1 : 0;
        if (s->n_rejected_early > 1) {
                s->last_error = PROTO_ERROR_KMS_CREDENTIALS;
                sentence_set(&s->last_why, "AWS accepts none of the credentials of %s. Renew them there, and check this machine's clock", c->source);
                s->pause_usec = clock_add(clock_boottime_usec(), CREDENTIALS_HOLD_USEC);
        }
}

void aws_credentials_note_offset(struct aws_credentials_source *s, int64_t offset_usec)
{
        s->context.offset_usec = offset_usec;
}

const char *aws_credentials_describe(const struct aws_credentials_source *s, struct sentence *ret_text)
{
        char until[CLOCK_TEXT_LENGTH + 1];

        if (!is_usable(s)) {
                sentence_set(ret_text, s->n_failures > 0 ? "none: %s" : "not asked for yet%s", s->n_failures > 0 ? s->last_why.text : "");
        } else if (s->current->expires_wall_usec == USEC_INFINITY) {
                sentence_set(ret_text, "%s, access key %s", s->current->source, s->current->access_key_id);
        } else {
                clock_format(until, s->current->expires_wall_usec);
                sentence_set(ret_text, "%s, access key %s, good until %s", s->current->source, s->current->access_key_id, until);
        }
        return ret_text->text;
}

/* ---- the source ---- */

struct aws_credentials_source *aws_credentials_source_free(struct aws_credentials_source *s)
{
        if (!s)
                return NULL;
        while (!list_is_empty(&s->waiting))
                list_unlink(s->waiting.next);
        aws_fetch_free(s->fetch);
        aws_metadata_free(s->context.metadata);
        if (s->work)
                event_free(s->work);
        if (s->timer)
                event_free(s->timer);
        aws_credentials_unref(s->current);
        for (size_t i = 0; i < REJECTED_MAX; i++)
                aws_credentials_unref(s->rejected[i].credentials);
        aws_environment_unref(s->environment);
        free(s);
        return NULL;
}

/* What needs an event loop. */
static int source_init(struct aws_credentials_source *s, const struct kms_environment *environment)
{
        s->context.around = (struct aws_surroundings){ .base = environment->base,
                                                       .http = environment->http,
                                                       .transport = { .ca_file = s->config->ca_file, .proxy = s->config->proxy } };
        if (!environment->base)
                return 0;
        s->work = evtimer_new(environment->base, on_work, s);
        s->timer = evtimer_new(environment->base, on_timer, s);
        return s->work && s->timer ? aws_metadata_new(&s->context.metadata, &s->context.around, s->environment) : -ENOMEM;
}

int aws_credentials_source_new(struct aws_credentials_source **ret_source, const struct config_kek *config,
                               const struct kms_environment *environment, struct sentence *ret_why)
{
        _cleanup_(aws_credentials_source_freep) struct aws_credentials_source *s = calloc(1, sizeof(*s));
        struct aws_plan plan;
        int r;

        if (!s) {
                sentence_set(ret_why, "out of memory");
                return -ENOMEM;
        }
        s->config = config;
        s->way.done = on_fetched;
        list_init(&s->waiting);
        if (config->aws_environment) {
                r = aws_environment_get(&s->environment, ret_why);
                if (r < 0)
                        return r;
        }
        s->context.settings = (struct aws_settings){ .config = config, .environment = s->environment };
        r = aws_plan_make(&plan, &s->context.settings, ret_why);
        if (r < 0)
                return r;
        aws_plan_deinit(&plan);
        if (source_init(s, environment) < 0) {
                sentence_set(ret_why, "out of memory");
                return -ENOMEM;
        }
        *ret_source = TAKE_PTR(s);
        return 0;
}
