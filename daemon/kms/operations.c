/* SPDX-License-Identifier: Apache-2.0 */
/* operations: what each request of lkmd does here. The table at the end is the whole protocol of lkm-kms. */
#include <errno.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/kms/session.h"

static const char FEATURES[] = "kms rewrap describe reload check policy";

enum { TIMEOUT_MSEC = 10000 }; /* of a peer that says none */

void operation_orphan_all(struct session *c)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &c->calls) {
                list_entry(node, struct operation, link)->session = NULL;
                list_unlink(node);
        }
}

static void operation_answer(struct operation *o, const struct provider_result *result)
{
        union message message;

        if (result->error) {
                message = (union message){ .error = { .number_ = MESSAGE_ERROR,
                                                      .code = (uint16_t)result->error,
                                                      .sentence = bytes_from_string(
                                                              result->sentence ? result->sentence
                                                                               : proto_error_sentence(result->error)),
                                                      .retry_after_msec = result->retry_after_msec } };
        } else if (o->answer == MESSAGE_KMS_GENERATED) {
                message = (union message){ .kms_generated = { .number_ = MESSAGE_KMS_GENERATED,
                                                              .key = result->key,
                                                              .kek_id = result->kek_id,
                                                              .wrapped = result->wrapped,
                                                              .request_id = result->request_id } };
        } else if (o->answer == MESSAGE_KMS_UNWRAPPED) {
                message = (union message){ .kms_unwrapped = { .number_ = MESSAGE_KMS_UNWRAPPED,
                                                              .key = result->key,
                                                              .request_id = result->request_id } };
        } else {
                message = (union message){ .kms_wrapped = { .number_ = MESSAGE_KMS_WRAPPED,
                                                            .kek_id = result->kek_id,
                                                            .wrapped = result->wrapped,
                                                            .request_id = result->request_id } };
        }
        session_answer(o->session, o->request_id, &message);
}

void operation_end(struct operation *o)
{
        struct session *c = o->session;
        struct server *s = o->server;

        s->n_calls--;
        if (c) {
                list_unlink(&o->link);
                c->n_calls--;
        }
        kek_table_unref(o->keks);
        free(o);
        if (c && !c->processing)
                session_settle(c);
        server_stop_if_drained(s);
}

static void operation_done(struct provider_call *call, const struct provider_result *result)
{
        struct operation *o = list_entry(call, struct operation, call);

        kek_entry_note(o->entry, result->error, result->sentence);
        if (o->session)
                operation_answer(o, result);
        operation_end(o);
}

struct kek_entry *operation_find_kek(struct session *c, uint32_t request_id, struct bytes name)
{
        struct kek_entry *entry = kek_table_find(c->server->keks, name);
        struct sentence why;

        if (!entry) {
                sentence_set(
                        &why,
                        "lkm-kms has no [kek %.*s] in its configuration. Correct the name, or reload lkm-kms when it was just added",
                        (int)name.n, (const char *)name.data);
                session_answer_error(c, request_id, PROTO_ERROR_KMS_NOT_FOUND, why.text);
                return NULL;
        }
        if (!kek_table_retry(c->server->keks, entry)) {
                session_answer_error(c, request_id, PROTO_ERROR_KMS_MISCONFIGURED, entry->why.text);
                return NULL;
        }
        return entry;
}

struct operation *operation_new(struct session *c, uint32_t request_id, struct kek_entry *entry, uint32_t timeout_msec,
                                enum message_number answer, size_t size)
{
        struct operation *o;

        if (!entry)
                return NULL;
        if (c->n_calls >= KMS_IN_FLIGHT_MAX) {
                session_answer_error(c, request_id, PROTO_ERROR_QUOTA, NULL);
                return NULL;
        }
        o = calloc(1, size);
        if (!o) {
                session_answer_error(c, request_id, PROTO_ERROR_INTERNAL, NULL);
                return NULL;
        }
        o->call.deadline_usec = clock_boottime_usec() + (timeout_msec > 0 ? timeout_msec : TIMEOUT_MSEC) * USEC_PER_MSEC;
        o->entry = entry;
        o->server = c->server;
        o->session = c;
        o->keks = kek_table_ref(c->server->keks);
        o->answer = answer;
        o->request_id = request_id;
        list_init(&o->link);
        list_append(&c->calls, &o->link);
        c->n_calls++;
        c->server->n_calls++;
        return o;
}

/* A call whose result is the answer; NULL when the request has been answered. */
static struct provider_call *call_new(struct session *c, uint32_t request_id, struct kek_entry *entry, uint32_t timeout_msec,
                                      enum message_number answer)
{
        struct operation *o = operation_new(c, request_id, entry, timeout_msec, answer, sizeof(*o));

        if (!o)
                return NULL;
        o->call.done = operation_done;
        return &o->call;
}

/* ---- one function for each request ---- */

static void on_hello(struct session *c, uint32_t request_id, const union message *m)
{
        union message welcome = { .welcome = { .number_ = MESSAGE_WELCOME,
                                               .features = { (const uint8_t *)FEATURES, sizeof(FEATURES) - 1 },
                                               .software = BYTES_LITERAL("lkm-kms " LKM_VERSION),
                                               .frame_max = FRAME_MAX,
                                               .in_flight_max = KMS_IN_FLIGHT_MAX } };

        if (c->greeted) {
                session_answer_error(c, request_id, PROTO_ERROR_PROTOCOL,
                                     "HELLO was sent twice. Update the older of the two programs");
                c->closing = true;
        } else if (m->hello.version_min > m->hello.version_max || m->hello.version_min > PROTOCOL_VERSION_MAX ||
                   m->hello.version_max < PROTOCOL_VERSION_MIN) {
                session_answer_error(c, request_id, PROTO_ERROR_VERSION, NULL);
                c->closing = true;
        } else {
                welcome.welcome.version =
                        m->hello.version_max < PROTOCOL_VERSION_MAX ? m->hello.version_max : PROTOCOL_VERSION_MAX;
                session_answer(c, request_id, &welcome);
                c->greeted = true;
        }
}

static void answer_done(struct session *c, uint32_t request_id)
{
        session_answer(c, request_id, &(union message){ .done = { .number_ = MESSAGE_DONE } });
}

static void on_ping(struct session *c, uint32_t request_id, const union message *m)
{
        answer_done(c, request_id);
}

static void on_generate(struct session *c, uint32_t request_id, const union message *m)
{
        struct kek_entry *entry = operation_find_kek(c, request_id, m->kms_generate.kek);
        struct provider_call *call = call_new(c, request_id, entry, m->kms_generate.timeout_msec, MESSAGE_KMS_GENERATED);

        if (call)
                entry->provider->generate(entry->kek, call, &m->kms_generate.context);
}

static void on_unwrap(struct session *c, uint32_t request_id, const union message *m)
{
        struct kek_entry *entry = operation_find_kek(c, request_id, m->kms_unwrap.kek);
        struct provider_call *call = call_new(c, request_id, entry, m->kms_unwrap.timeout_msec, MESSAGE_KMS_UNWRAPPED);

        if (call)
                entry->provider->unwrap(entry->kek, call, m->kms_unwrap.kek_id, m->kms_unwrap.wrapped, &m->kms_unwrap.context);
}

static void on_wrap(struct session *c, uint32_t request_id, const union message *m)
{
        struct kek_entry *entry = operation_find_kek(c, request_id, m->kms_wrap.kek);
        struct provider_call *call = call_new(c, request_id, entry, m->kms_wrap.timeout_msec, MESSAGE_KMS_WRAPPED);

        if (call)
                entry->provider->wrap(entry->kek, call, m->kms_wrap.key, &m->kms_wrap.context);
}

static void on_rewrap(struct session *c, uint32_t request_id, const union message *m)
{
        struct kek_entry *entry = operation_find_kek(c, request_id, m->kms_rewrap.kek);
        struct provider_call *call = call_new(c, request_id, entry, m->kms_rewrap.timeout_msec, MESSAGE_KMS_WRAPPED);

        if (call)
                entry->provider->rewrap(entry->kek, call, m->kms_rewrap.kek_id, m->kms_rewrap.wrapped, &m->kms_rewrap.context);
}

static void on_describe(struct session *c, uint32_t request_id, const union message *m)
{
        struct kek_table *keks = c->server->keks;
        struct kek_entry *only = NULL;
        union message report = { .report = { .number_ = MESSAGE_REPORT } };
        char *text;

        if (m->kms_describe.kek.n > 0 && !(only = kek_table_find(keks, m->kms_describe.kek))) {
                session_answer_error(c, request_id, PROTO_ERROR_KMS_NOT_FOUND, NULL);
                return;
        }
        for (size_t i = 0; i < keks->n; i++)
                kek_table_retry(keks, &keks->entries[i]);
        text = kek_table_json(keks, only);
        if (text) {
                report.report.json = bytes_from_string(text);
                session_answer(c, request_id, &report);
        } else {
                session_answer_error(c, request_id, PROTO_ERROR_INTERNAL, NULL);
        }
        secret_free(text); /* jansson's allocator is set to it */
}

static void on_reload(struct session *c, uint32_t request_id, const union message *m)
{
        struct sentence why;

        if (server_try_reload(c->server, &why))
                answer_done(c, request_id);
        else
                session_answer_error(c, request_id, PROTO_ERROR_KMS_MISCONFIGURED, why.text);
}

static const struct {
        enum message_number number;
        void (*begin)(struct session *c, uint32_t request_id, const union message *m);
} operations[] = {
        { MESSAGE_HELLO, on_hello },           { MESSAGE_PING, on_ping },         { MESSAGE_KMS_GENERATE, on_generate },
        { MESSAGE_KMS_UNWRAP, on_unwrap },     { MESSAGE_KMS_WRAP, on_wrap },     { MESSAGE_KMS_REWRAP, on_rewrap },
        { MESSAGE_KMS_DESCRIBE, on_describe }, { MESSAGE_KMS_RELOAD, on_reload }, { MESSAGE_KMS_CHECK, on_check },
        { MESSAGE_KMS_POLICY, on_policy },
};

void operation_begin(struct session *c, const struct frame_header *header, const uint8_t *data, size_t n)
{
        union message m;
        int r;

        c->server->last_request_usec = clock_boottime_usec();
        if (!c->greeted && header->number != MESSAGE_HELLO) {
                session_answer_error(c, header->request_id, PROTO_ERROR_PROTOCOL, "the first request must be HELLO");
                c->closing = true;
                return;
        }
        r = message_unpack(&m, data, n);
        if (r == FRAME_E_INVALID) {
                session_answer_error(c, header->request_id, PROTO_ERROR_PROTOCOL, NULL);
                c->closing = true;
                return;
        }
        if (r < 0) {
                session_answer_error(c, header->request_id, PROTO_ERROR_INTERNAL, NULL);
                return;
        }
        for (size_t i = 0; r == 0 && i < ELEMENTSOF(operations); i++) {
                if (operations[i].number == m.number) {
                        operations[i].begin(c, header->request_id, &m);
                        message_deinit(&m);
                        return;
                }
        }
        if (r == 0)
                message_deinit(&m);
        session_answer_error(c, header->request_id, PROTO_ERROR_UNSUPPORTED, NULL);
}
