/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/change.h"

#include <errno.h>

#include "daemon/request.h"

static int change_ask(struct change *c);

const char *change_text(enum change_kind kind)
{
        static const char *const names[] = {
                [CHANGE_READ] = "release", [CHANGE_RECOVER] = "recover", [CHANGE_ROTATE] = "rotate", [CHANGE_COMMIT] = "commit", [CHANGE_ABORT] = "abort",
                [CHANGE_PURGE] = "purge",  [CHANGE_REWRAP] = "rewrap", [CHANGE_REKEK] = "rekek",
        };

        return names[kind];
}

enum proto_error change_refusal(const struct change_order *order)
{
        const struct record *r = order->record;
        const struct record_version *pending = record_pending(r), *v = record_version_find(r, order->version);

        switch (order->kind) {
        case CHANGE_ROTATE:
                if (pending)
                        return PROTO_ERROR_ROTATION_IN_PROGRESS;
                return r->versions[r->n_versions - 1].number == UINT32_MAX ? PROTO_ERROR_RECORD_FULL : PROTO_ERROR_NONE;
        case CHANGE_COMMIT:
        case CHANGE_ABORT:
                return pending && pending->number == order->version ? PROTO_ERROR_NONE : PROTO_ERROR_NOT_PENDING;
        case CHANGE_READ:
        case CHANGE_RECOVER:
        case CHANGE_PURGE:
                if (!v || v->state == RECORD_STATE_DESTROYED)
                        return PROTO_ERROR_VERSION_UNKNOWN;
                return order->kind == CHANGE_PURGE && v->state != RECORD_STATE_RETIRED ? PROTO_ERROR_VERSION_IN_USE : PROTO_ERROR_NONE;
        case CHANGE_REWRAP:
        case CHANGE_REKEK:
                break;
        }
        return PROTO_ERROR_NONE;
}

static void change_set_under_way(struct change *c, bool under_way)
{
        c->daemon->n_changes += under_way;
        c->daemon->n_changes -= c->under_way;
        c->under_way = under_way;
}

struct change *change_free(struct change *c)
{
        if (!c)
                return NULL;
        kms_link_cancel(&c->call);
        change_set_under_way(c, false);
        for (size_t i = 0; c->made && i < c->n_next; i++) {
                for (size_t j = 0; j < c->made[i].n; j++)
                        record_wrap_deinit(&c->made[i].wraps[j]);
        }
        free(c->made);
        free(c->next);
        free(c->keks);
        secret_unref(c->key);
        secret_unref(c->read);
        secret_unref(c->current);
        origin_unref(c->origin);
        origin_unref(c->current_origin);
        record_unref(c->record);
        config_unref(c->config);
        free(c);
        return NULL;
}

/* ---- what fails ---- */

static const struct record_version *change_version(const struct change *c)
{
        return &c->next[c->i_version];
}

static void change_fail(struct change *c, unsigned error, const char *sentence)
{
        if (flight_error_rank(error) < flight_error_rank(c->error))
                return;
        c->error = error;
        c->current_failed = !c->current;
        if (c->current && change_version(c)->state != RECORD_STATE_CURRENT)
                snprintf(c->sentence, sizeof(c->sentence), "version %u: %s", change_version(c)->number, sentence);
        else
                snprintf(c->sentence, sizeof(c->sentence), "%s", sentence);
}

/* ---- the steps: what is missing decides the next one ---- */

static size_t change_index(const struct change *c, uint32_t number)
{
        size_t i = 0;

        while (c->next[i].number != number)
                i++;
        return i;
}

static bool change_go(struct change *c, enum change_step step, size_t i_version)
{
        c->step = step;
        c->i_version = i_version;
        c->i_wrap = step == CHANGE_STEP_REWRAP ? c->made[i_version].n : 0;
        c->i_kek = step == CHANGE_STEP_WRAP ? c->made[i_version].n : 0;
        record_context(&c->context, &c->context_storage, c->record, c->next[i_version].number);
        return true;
}

/* The wrap that was just made, by the KEK that made it. */
static bool change_go_prove(struct change *c)
{
        c->step = CHANGE_STEP_PROVE;
        c->i_wrap = c->made[c->i_version].n_proved;
        return true;
}

static bool read_next(struct change *c)
{
        if (!c->read && c->version == record_current(c->record)->number)
                c->read = secret_ref(c->current);
        return !c->read && change_go(c, CHANGE_STEP_UNWRAP, change_index(c, c->version));
}

/* The new version, which is the last: made, and wrapped under the other KEKs. */
static bool rotate_next(struct change *c)
{
        size_t last = c->n_next - 1;

        if (!c->key)
                return change_go(c, CHANGE_STEP_GENERATE, last);
        if (c->made[last].n > c->made[last].n_proved)
                return change_go_prove(c);
        return c->made[last].n < c->scope->n_keks && change_go(c, CHANGE_STEP_WRAP, last);
}

/* REWRAP and REKEK: version by version its key, and then as many wraps as it has, or as the scope has KEKs. */
static bool wraps_next(struct change *c)
{
        for (size_t i = 0; i < c->n_next; i++) {
                const struct change_wraps *made = &c->made[i];
                size_t n_wanted = c->next[i].n_wraps == 0 || c->kind == CHANGE_REWRAP ? c->next[i].n_wraps : c->scope->n_keks;

                if (made->n_proved == n_wanted)
                        continue;
                if (made->n > made->n_proved)
                        return change_go_prove(c);
                if (made->n == 0) { /* the version begins */
                        if (c->key && c->i_version != i)
                                c->key = secret_unref(c->key);
                        if (!c->key && c->next[i].state == RECORD_STATE_CURRENT)
                                c->key = secret_ref(c->current);
                        if (!c->key)
                                return change_go(c, CHANGE_STEP_UNWRAP, i);
                }
                return change_go(c, c->kind == CHANGE_REWRAP ? CHANGE_STEP_REWRAP : CHANGE_STEP_WRAP, i);
        }
        return false;
}

/* Return: false when all is there. */
static bool change_next(struct change *c)
{
        if (!c->current)
                return change_go(c, CHANGE_STEP_UNWRAP, change_index(c, record_current(c->record)->number));
        switch (c->kind) {
        case CHANGE_READ:
        case CHANGE_RECOVER:
        case CHANGE_COMMIT:
                return read_next(c);
        case CHANGE_ROTATE:
                return rotate_next(c);
        case CHANGE_REWRAP:
        case CHANGE_REKEK:
                return wraps_next(c);
        case CHANGE_ABORT:
        case CHANGE_PURGE:
                break;
        }
        return false;
}

/* After a failure: another wrap or KEK to try. Return: false when none is left. */
static bool change_try_another(struct change *c)
{
        switch (c->step) {
        case CHANGE_STEP_UNWRAP:
                if (++c->i_wrap < change_version(c)->n_wraps)
                        return true;
                c->i_wrap = 0;
                return ++c->i_kek < c->n_keks;
        case CHANGE_STEP_REWRAP:
                return ++c->i_kek < c->n_keks;
        case CHANGE_STEP_GENERATE:
        case CHANGE_STEP_WRAP:
        case CHANGE_STEP_PROVE:
                break;
        }
        return false;
}

/* ---- the calls ---- */

static void change_fill(struct kms_call *call, union message *ret_message)
{
        struct change *c = call->userdata;
        uint32_t timeout_msec = kms_call_left_msec(call);
        const struct record_wrap *wraps = c->step == CHANGE_STEP_PROVE ? c->made[c->i_version].wraps : change_version(c)->wraps;
        const struct record_wrap *wrap = &wraps[c->i_wrap];

        switch (c->step) {
        case CHANGE_STEP_UNWRAP:
        case CHANGE_STEP_PROVE:
                ret_message->kms_unwrap = (struct message_kms_unwrap){ .number_ = MESSAGE_KMS_UNWRAP,
                                                                       .kek = bytes_from_string(c->keks[c->i_kek]->name),
                                                                       .kek_id = bytes_from_string(wrap->kek_id),
                                                                       .wrapped = { wrap->wrapped, wrap->n_wrapped },
                                                                       .context = c->context,
                                                                       .timeout_msec = timeout_msec };
                return;
        case CHANGE_STEP_REWRAP:
                ret_message->kms_rewrap = (struct message_kms_rewrap){ .number_ = MESSAGE_KMS_REWRAP,
                                                                       .kek = bytes_from_string(c->keks[c->i_kek]->name),
                                                                       .kek_id = bytes_from_string(wrap->kek_id),
                                                                       .wrapped = { wrap->wrapped, wrap->n_wrapped },
                                                                       .context = c->context,
                                                                       .timeout_msec = timeout_msec };
                return;
        case CHANGE_STEP_GENERATE:
                ret_message->kms_generate = (struct message_kms_generate){ .number_ = MESSAGE_KMS_GENERATE,
                                                                           .kek = bytes_from_string(c->scope->keks[0]->name),
                                                                           .context = c->context,
                                                                           .timeout_msec = timeout_msec };
                return;
        case CHANGE_STEP_WRAP:
                ret_message->kms_wrap = (struct message_kms_wrap){ .number_ = MESSAGE_KMS_WRAP,
                                                                   .key = c->key,
                                                                   .kek = bytes_from_string(c->scope->keks[c->i_kek]->name),
                                                                   .context = c->context,
                                                                   .timeout_msec = timeout_msec };
                return;
        }
}

static int change_add_wrap(struct change *c, struct bytes kek_id, struct bytes wrapped)
{
        struct change_wraps *made = &c->made[c->i_version];
        int r;

        if (made->n == RECORD_WRAPS_MAX || kek_id.n == 0 || wrapped.n == 0)
                return -EMSGSIZE;
        r = record_wrap_copy(&made->wraps[made->n], kek_id, wrapped);
        made->n += r == 0;
        return r;
}

/* The KEK of the step that is under way: a new wrap is by one of the scope, a rewrap by any that knows the old one. */
static const struct config_kek *change_wrapping_kek(const struct change *c)
{
        return c->step == CHANGE_STEP_WRAP ? c->scope->keks[c->i_kek] : c->keks[c->i_kek];
}

static int change_set_origin(struct change *c, const char *kek, struct bytes kek_id, struct bytes request_id)
{
        struct origin **origin = c->current ? &c->origin : &c->current_origin;

        if (!*origin)
                *origin = origin_new(kek, kek_id, request_id);
        return *origin ? 0 : -ENOMEM;
}

/* The current key proves the record: until then it is a claim. Return: 0, RECORD_E_MAC, -errno. */
static int change_verify(struct change *c, struct secret *current)
{
        int r = record_verify(c->record, current);

        secret_wipe_stack();
        if (r == 0)
                c->current = secret_ref(current);
        return r;
}

static int change_take_key(struct change *c, struct secret *key, struct bytes request_id)
{
        struct bytes kek_id = bytes_from_string(change_version(c)->wraps[c->i_wrap].kek_id);
        bool is_read = c->kind == CHANGE_READ || c->kind == CHANGE_RECOVER || c->kind == CHANGE_COMMIT, is_asked_for = !c->current || is_read;

        if (is_asked_for && change_set_origin(c, c->keks[c->i_kek]->name, kek_id, request_id) < 0)
                return -ENOMEM;
        if (!c->current)
                return change_verify(c, key);
        if (is_read)
                c->read = secret_ref(key);
        else
                c->key = secret_ref(key);
        return 0;
}

/* Take what an answer brings. Return: 0; RECORD_E_MAC; -EBADMSG: a wrap that was made holds another key; -errno: it is not what was asked
 * for, or there is no memory. */
static int change_take(struct change *c, const union message *reply)
{
        switch (c->step) {
        case CHANGE_STEP_PROVE:
                if (reply->number != MESSAGE_KMS_UNWRAPPED)
                        return -EPROTO;
                if (!secret_equal(c->key, reply->kms_unwrapped.key))
                        return -EBADMSG;
                c->made[c->i_version].n_proved++;
                return 0;
        case CHANGE_STEP_UNWRAP:
                if (reply->number != MESSAGE_KMS_UNWRAPPED || secret_size(reply->kms_unwrapped.key) != KEY_SIZE)
                        return -EPROTO;
                return change_take_key(c, reply->kms_unwrapped.key, reply->kms_unwrapped.request_id);
        case CHANGE_STEP_GENERATE:
                if (reply->number != MESSAGE_KMS_GENERATED || secret_size(reply->kms_generated.key) != KEY_SIZE)
                        return -EPROTO;
                c->key = secret_ref(reply->kms_generated.key);
                if (change_set_origin(c, c->scope->keks[0]->name, reply->kms_generated.kek_id, reply->kms_generated.request_id) < 0)
                        return -ENOMEM;
                return change_add_wrap(c, reply->kms_generated.kek_id, reply->kms_generated.wrapped);
        case CHANGE_STEP_WRAP:
        case CHANGE_STEP_REWRAP:
                if (reply->number != MESSAGE_KMS_WRAPPED)
                        return -EPROTO;
                if (change_set_origin(c, change_wrapping_kek(c)->name, reply->kms_wrapped.kek_id, reply->kms_wrapped.request_id) < 0)
                        return -ENOMEM;
                return change_add_wrap(c, reply->kms_wrapped.kek_id, reply->kms_wrapped.wrapped);
        }
        return -EPROTO;
}

struct secret *change_signer(const struct change *c)
{
        return c->kind == CHANGE_COMMIT ? c->read : c->current;
}

struct origin *change_signer_origin(const struct change *c)
{
        return c->kind == CHANGE_COMMIT ? c->origin : c->current_origin;
}

/* Nothing is missing: the versions become those of the next record. */
static void change_finish(struct change *c)
{
        for (size_t i = 0; i < c->n_next; i++) {
                if (c->made[i].n == 0)
                        continue;
                memcpy(c->next[i].wraps, c->made[i].wraps, sizeof(c->made[i].wraps));
                c->next[i].n_wraps = c->made[i].n;
        }
        if (c->kind == CHANGE_COMMIT || c->kind == CHANGE_ABORT)
                record_versions_end(c->next, c->n_next, c->kind == CHANGE_COMMIT, c->now_wall);
        if (c->kind == CHANGE_COMMIT)
                c->rotated_at_usec = c->now_wall;
        if (c->kind == CHANGE_PURGE) {
                struct record_version *v = &c->next[change_index(c, c->version)];

                v->state = RECORD_STATE_DESTROYED;
                v->ended_at_usec = c->now_wall;
                v->n_wraps = 0;
        }
}

/* Hand the outcome to its owner. */
static void change_land(struct change *c)
{
        struct lkmd *d = c->daemon;
        struct request *r = list_entry(c->waiters.next, struct request, link);

        list_unlink(&r->link);
        change_set_under_way(c, false);
        request_resume(r, NULL); /* and c is gone */
        lkmd_stop_if_drained(d);
}

static void change_answered(struct kms_call *call, unsigned error, const union message *reply, const char *sentence)
{
        struct change *c = call->userdata;
        bool go_on;
        int r = 0;

        if (error == 0)
                r = change_take(c, reply);
        if (r == -EPROTO || r == -EMSGSIZE) {
                error = PROTO_ERROR_KMS_MISCONFIGURED;
                sentence = "the KMS worker gave an answer that does not fit the request";
        } else if (r == -EBADMSG) {
                error = PROTO_ERROR_KMS_MISCONFIGURED;
                sentence = "the key management service wrapped another key than it was given; its wraps cannot be used";
        }
        if (error) {
                change_fail(c, error, sentence);
                go_on = change_try_another(c);
        } else if (r) {
                change_fail(c, r > 0 ? PROTO_ERROR_KMS_CORRUPT : PROTO_ERROR_INTERNAL,
                            r > 0 ? "its mac does not fit its content" : strerror(-r));
                go_on = false;
        } else {
                c->error = 0;
                go_on = change_next(c);
        }
        if (go_on && change_ask(c) < 0) {
                change_fail(c, PROTO_ERROR_INTERNAL, strerror(ENOMEM));
                go_on = false;
        }
        if (go_on)
                return;
        if (c->error == 0)
                change_finish(c);
        change_land(c);
}

static int change_ask(struct change *c)
{
        c->call.fill = change_fill;
        c->call.done = change_answered;
        c->call.userdata = c;
        return kms_link_call(c->daemon->kms, &c->call, c->config->kms_timeout_usec);
}

/* ---- the beginning ---- */

/* The KEKs that may unwrap. A version that has to leave a KEK may be under one that the scope does not name any more. */
static int change_collect_keks(struct change *c)
{
        bool all = c->kind == CHANGE_REWRAP || c->kind == CHANGE_REKEK;

        c->keks = calloc(c->scope->n_keks + c->config->n_keks, sizeof(*c->keks));
        if (!c->keks)
                return -ENOMEM;
        for (size_t i = 0; i < c->scope->n_keks; i++)
                c->keks[c->n_keks++] = c->scope->keks[i];
        for (size_t i = 0; all && i < c->config->n_keks; i++) {
                bool known = false;

                for (size_t j = 0; j < c->scope->n_keks && !known; j++)
                        known = c->scope->keks[j] == &c->config->keks[i];
                if (!known)
                        c->keks[c->n_keks++] = &c->config->keks[i];
        }
        return 0;
}

/* The versions of the next record, but for the wraps that the KMS has to make. */
static int change_prepare(struct change *c, const struct change_order *order)
{
        const struct record *r = order->record;

        c->next = calloc(r->n_versions + 1, sizeof(*c->next));
        c->made = calloc(r->n_versions + 1, sizeof(*c->made));
        if (!c->next || !c->made)
                return -ENOMEM;
        memcpy(c->next, r->versions, r->n_versions * sizeof(*c->next));
        c->n_next = r->n_versions;
        c->rotated_at_usec = r->rotated_at_usec;
        if (c->kind == CHANGE_ROTATE) {
                c->version = r->versions[r->n_versions - 1].number + 1;
                c->next[c->n_next++] = (struct record_version){ .number = c->version, .state = RECORD_STATE_PENDING,
                                                                .created_at_usec = c->now_wall, .restore_wal = order->restore_wal };
        }
        return change_collect_keks(c);
}

int change_start(struct change **ret_change, struct lkmd *d, const struct change_order *order, uint64_t now_wall)
{
        struct change *c = calloc(1, sizeof(*c));
        int r;

        if (!c)
                return -ENOMEM;
        c->daemon = d;
        c->kind = order->kind;
        c->config = config_ref(order->config);
        c->scope = order->scope;
        c->record = record_ref(order->record);
        c->version = order->version;
        c->current_origin = origin_ref(order->origin);
        c->now_wall = now_wall;
        list_init(&c->waiters);
        r = change_prepare(c, order);
        if (r == 0 && order->current)
                r = change_verify(c, order->current);
        if (r > 0) {
                change_fail(c, PROTO_ERROR_KMS_CORRUPT, "its mac does not fit its content");
                r = CHANGE_E_DONE;
        } else if (r == 0 && change_next(c)) {
                r = change_ask(c);
                change_set_under_way(c, r == 0);
        } else if (r == 0) {
                change_finish(c);
                r = CHANGE_E_DONE;
        }
        if (r < 0) {
                change_free(c);
                return r;
        }
        *ret_change = c;
        return r;
}
