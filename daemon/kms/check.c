/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check: KMS_CHECK uses a KEK for all that lkm needs of it, one step after the other, on a key that is thrown away and an encryption
 * context of its own; KMS_POLICY tells what leave that takes. Nothing here changes a record or a database.
 */
#include <errno.h>
#include <jansson.h>

#include "common/log.h"
#include "daemon/kms/session.h"

enum step {
        STEP_GENERATE,
        STEP_UNWRAP,  /* what was wrapped gives the same key */
        STEP_CONTEXT, /* and does not under another context */
        STEP_WRAP,
        STEP_REWRAP,  /* and what came of it still gives the same key */
        STEP_COUNT,
};

static const struct {
        const char *name;
        enum provider_operation operation;
} steps[STEP_COUNT] = {
        [STEP_GENERATE] = { "generate", PROVIDER_GENERATE }, [STEP_UNWRAP] = { "unwrap", PROVIDER_UNWRAP },
        [STEP_CONTEXT] = { "context", PROVIDER_UNWRAP },     [STEP_WRAP] = { "wrap", PROVIDER_WRAP },
        [STEP_REWRAP] = { "rewrap", PROVIDER_REWRAP },
};

struct outcome {
        bool tried, done;
        enum proto_error error; /* of a step that was tried and not done */
        struct sentence why;
};

struct check {
        struct operation operation; /* first: it is freed by this */
        enum step step;
        bool unwraps_again; /* STEP_REWRAP: its new wrap is being unwrapped */
        bool outage;        /* nothing more is asked of a KMS that is away */
        struct secret *dek;
        char kek_id[KEK_ID_MAX + 1];
        uint8_t wrapped[WRAPPED_MAX];
        size_t n_wrapped;
        char id[UUID_TEXT_LENGTH + 1], other_id[UUID_TEXT_LENGTH + 1];
        struct outcome outcomes[STEP_COUNT];
};

/* ---- the report ---- */

static json_t *step_json(const struct check *k, enum step step)
{
        const struct kek_entry *entry = k->operation.entry;
        const struct outcome *o = &k->outcomes[step];
        const char *permission = NULL, *sentence = o->why.text;

        if (o->error == PROTO_ERROR_KMS_DENIED)
                permission = entry->provider->permission(entry->kek, steps[step].operation);
        if (!o->tried)
                sentence = "not tried: a step before it did not give what this one needs";
        return json_pack("{s:s, s:b, s:s, s:s, s:s}", "step", steps[step].name, "done", o->done, "error",
                         o->error ? proto_error_name(o->error) : "", "sentence", sentence, "permission", permission ? permission : "");
}

static char *check_json(const struct check *k)
{
        const struct kek_entry *entry = k->operation.entry;
        struct provider_description description = { .kek_id = "" };
        json_t *array = json_array(), *report;
        bool usable = true;
        char *text = NULL;

        entry->provider->describe(entry->kek, &description);
        for (unsigned i = 0; i < STEP_COUNT; i++) {
                usable = usable && k->outcomes[i].done;
                json_array_append_new(array, step_json(k, (enum step)i));
        }
        report = json_pack("{s:s, s:s, s:b, s:o}", "kek", entry->config->name, "kek_id", *k->kek_id ? k->kek_id : description.kek_id,
                           "usable", usable, "steps", array);
        if (report && json_array_size(array) == STEP_COUNT)
                text = json_dumps(report, JSON_COMPACT);
        json_decref(report);
        return text;
}

static void check_answer(const struct check *k)
{
        union message report = { .report = { .number_ = MESSAGE_REPORT } };
        char *text = check_json(k);

        if (text) {
                report.report.json = bytes_from_string(text);
                session_answer(k->operation.session, k->operation.request_id, &report);
        } else {
                session_answer_error(k->operation.session, k->operation.request_id, PROTO_ERROR_INTERNAL, NULL);
        }
        secret_free(text); /* jansson's allocator is set to it */
}

/* What the check says about the KEK: its first failure. That a wrap of its own is not accepted is the KEK's fault, not the record's. */
static void check_note(const struct check *k)
{
        const struct outcome *failed = NULL;
        enum proto_error error;

        for (unsigned i = 0; i < STEP_COUNT && !failed; i++)
                failed = k->outcomes[i].error ? &k->outcomes[i] : NULL;
        if (!failed) {
                kek_entry_note(k->operation.entry, PROTO_ERROR_NONE, NULL);
                return;
        }
        error = failed->error;
        if (error == PROTO_ERROR_KMS_CORRUPT || error == PROTO_ERROR_KMS_NOT_MINE)
                error = PROTO_ERROR_KMS_MISCONFIGURED;
        kek_entry_note(k->operation.entry, error, failed->why.text);
}

static void check_end(struct check *k)
{
        check_note(k);
        if (k->operation.session)
                check_answer(k);
        secret_unref(k->dek);
        operation_end(&k->operation);
}

/* ---- the steps ---- */

static void step_run(struct check *k)
{
        struct kek *kek = k->operation.entry->kek;
        const struct provider *provider = k->operation.entry->provider;
        struct provider_call *call = &k->operation.call;
        struct bytes kek_id = bytes_from_string(k->kek_id), wrapped = { k->wrapped, k->n_wrapped };
        struct pairs context = { .n = 1, .pair = { { BYTES_LITERAL("lkm:check"), bytes_from_string(k->id) } } };

        if (k->step == STEP_CONTEXT)
                context.pair[0].value = bytes_from_string(k->other_id);
        if (k->step == STEP_GENERATE)
                provider->generate(kek, call, &context);
        else if (k->step == STEP_WRAP)
                provider->wrap(kek, call, k->dek, &context);
        else if (k->step == STEP_REWRAP && !k->unwraps_again)
                provider->rewrap(kek, call, kek_id, wrapped, &context);
        else
                provider->unwrap(kek, call, kek_id, wrapped, &context);
}

static bool step_is_possible(const struct check *k, enum step step)
{
        switch (step) {
        case STEP_GENERATE:
                return true;
        case STEP_WRAP:
                return k->dek;
        case STEP_CONTEXT:
                return k->outcomes[STEP_UNWRAP].done;
        case STEP_UNWRAP:
        case STEP_REWRAP:
                return k->n_wrapped > 0;
        case STEP_COUNT:
                break;
        }
        return false;
}

/* The first step that was not tried and can be. Return: false when there is none. */
static bool step_find(struct check *k)
{
        for (unsigned i = 0; i < STEP_COUNT && !k->outage; i++) {
                if (k->outcomes[i].tried || !step_is_possible(k, (enum step)i))
                        continue;
                k->step = (enum step)i;
                return true;
        }
        return false;
}

static void step_fail(struct check *k, enum proto_error error, const char *sentence)
{
        struct outcome *o = &k->outcomes[k->step];

        o->error = error;
        sentence_set(&o->why, "%s", sentence ? sentence : proto_error_sentence(error));
        k->outage = error == PROTO_ERROR_KMS_UNREACHABLE || error == PROTO_ERROR_KMS_THROTTLED || error == PROTO_ERROR_KMS_CREDENTIALS;
        /* Without leave to make a key the other steps can still be proven, on one that is made here. */
        if (k->step == STEP_GENERATE && error == PROTO_ERROR_KMS_DENIED)
                secret_new_random(&k->dek, KEY_SIZE);
}

/* Keep the wrap that @result brings, for the steps that follow. */
static bool wrap_take(struct check *k, const struct provider_result *result)
{
        if (result->wrapped.n == 0 || result->wrapped.n > sizeof(k->wrapped) || result->kek_id.n == 0 || result->kek_id.n > KEK_ID_MAX) {
                step_fail(k, PROTO_ERROR_KMS_MISCONFIGURED, "the answer has no wrapped key, or one that is too long");
                return false;
        }
        /* A provider may answer with the id that it was given, which lies here. */
        memmove(k->wrapped, result->wrapped.data, result->wrapped.n);
        k->n_wrapped = result->wrapped.n;
        memmove(k->kek_id, result->kek_id.data, result->kek_id.n);
        k->kek_id[result->kek_id.n] = '\0';
        return true;
}

static void key_compare(struct check *k, const struct provider_result *result)
{
        k->outcomes[k->step].done = secret_equal(result->key, k->dek);
        if (!k->outcomes[k->step].done)
                step_fail(k, PROTO_ERROR_KMS_MISCONFIGURED,
                          "what was wrapped unwraps to another key: databases whose key is wrapped by this KEK would be lost. Do not use it");
}

/* Under another context the same wrap has to be refused. */
static void context_judge(struct check *k, const struct provider_result *result)
{
        if (result->error == PROTO_ERROR_KMS_CORRUPT)
                k->outcomes[STEP_CONTEXT].done = true;
        else if (result->error)
                step_fail(k, result->error, result->sentence);
        else
                step_fail(k, PROTO_ERROR_KMS_MISCONFIGURED,
                          "the KEK does not bind a wrapped key to its encryption context: it was unwrapped under another one, so that a key copied "
                          "into another record would open there. Do not use it. In Vault, use a key that was made with derived=true");
}

static void step_judge(struct check *k, const struct provider_result *result)
{
        if (k->step == STEP_CONTEXT) {
                context_judge(k, result);
                return;
        }
        if (result->error) {
                step_fail(k, result->error, result->sentence);
                return;
        }
        switch (k->step) {
        case STEP_GENERATE:
                k->dek = secret_ref(result->key);
                k->outcomes[STEP_GENERATE].done = wrap_take(k, result);
                return;
        case STEP_WRAP:
                k->outcomes[STEP_WRAP].done = wrap_take(k, result);
                return;
        case STEP_REWRAP:
                if (k->unwraps_again)
                        key_compare(k, result);
                else
                        k->outcomes[STEP_REWRAP].done = wrap_take(k, result);
                return;
        default:
                key_compare(k, result);
        }
}

static void step_ended(struct provider_call *call, const struct provider_result *result)
{
        struct check *k = (struct check *)(void *)list_entry(call, struct operation, call);
        bool go_on;

        k->outcomes[k->step].tried = true;
        k->outcomes[k->step].done = false;
        step_judge(k, result);
        if (k->step == STEP_REWRAP && k->outcomes[STEP_REWRAP].done && !k->unwraps_again && k->outcomes[STEP_UNWRAP].done) {
                k->unwraps_again = true;
                go_on = true;
        } else {
                go_on = step_find(k);
        }
        if (go_on && k->operation.session)
                step_run(k);
        else
                check_end(k);
}

static int random_id(char ret_text[UUID_TEXT_LENGTH + 1])
{
        uint8_t id[UUID_SIZE];
        int r = uuid_random(id);

        if (r == 0)
                uuid_format(ret_text, id);
        return r;
}

void on_check(struct session *c, uint32_t request_id, const union message *m)
{
        struct kek_entry *entry = operation_find_kek(c, request_id, m->kms_check.kek);
        struct operation *o = operation_new(c, request_id, entry, m->kms_check.timeout_msec, MESSAGE_REPORT, sizeof(struct check));
        struct check *k = (struct check *)(void *)o;

        if (!k)
                return;
        o->call.done = step_ended;
        if (random_id(k->id) < 0 || random_id(k->other_id) < 0) {
                session_answer_error(c, request_id, PROTO_ERROR_INTERNAL, NULL);
                operation_end(o);
                return;
        }
        step_run(k);
}

/* ---- KMS_POLICY ---- */

static void policy_answer(struct session *c, uint32_t request_id, const struct config_kek *config, const char *policy)
{
        json_t *json = json_pack("{s:s, s:s, s:s}", "kek", config->name, "type", kms_type_text(config->kms_type), "policy", policy);
        char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
        union message report = { .report = { .number_ = MESSAGE_REPORT } };

        json_decref(json);
        if (text) {
                report.report.json = bytes_from_string(text);
                session_answer(c, request_id, &report);
        } else {
                session_answer_error(c, request_id, PROTO_ERROR_INTERNAL, NULL);
        }
        secret_free(text);
}

void on_policy(struct session *c, uint32_t request_id, const union message *m)
{
        struct kek_entry *entry = operation_find_kek(c, request_id, m->kms_policy.kek);
        _cleanup_(freep) char *policy = NULL;
        struct sentence why;

        if (!entry)
                return;
        if (!entry->provider->policy) {
                sentence_set(&why,
                             "there are no policies to write for kms_type = %s: who may use the KEK is decided by the permissions of its file or "
                             "socket",
                             kms_type_text(entry->config->kms_type));
                session_answer_error(c, request_id, PROTO_ERROR_KMS_MISCONFIGURED, why.text);
                return;
        }
        policy = entry->provider->policy(entry->kek);
        if (policy)
                policy_answer(c, request_id, entry->config, policy);
        else
                session_answer_error(c, request_id, PROTO_ERROR_INTERNAL, NULL);
}
