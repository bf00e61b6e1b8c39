/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-kek.h"

#include <errno.h>

#include "common/clock.h"
#include "common/log.h"

enum {
        GRANT_TOKENS_MAX = 10, /* of KMS */
        GRANT_TOKENS_BYTES_MAX = 12 * 1024, /* so that a request stays within HTTP_BODY_MAX */
};
#define RESOLVE_TIMEOUT_USEC (10 * USEC_PER_SEC)
#define ALIAS_GOOD_USEC (300 * USEC_PER_SEC)

/* ---- the configuration ---- */

static bool has_prefix(const char *text, const char *prefix)
{
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool bytes_begin(struct bytes b, const char *prefix)
{
        size_t n = strlen(prefix);

        return b.n >= n && bytes_equal((struct bytes){ b.data, n }, bytes_from_string(prefix));
}

/* The alias's name in an alias or alias ARN. */
static const char *alias_of(const char *key_id)
{
        return strstr(key_id, "alias/");
}

/* Find form and region of @k. Return: 0 or -EINVAL. */
static int read_key_id(struct aws_kek *k, const struct config_kek *config, char ret_region[AWS_REGION_MAX + 1],
                       struct sentence *ret_why)
{
        const char *id = config->kek_id, *alias = alias_of(id);
        struct aws_arn arn;
        bool is_arn;

        if (!aws_key_id_is_valid(id) || strlen(id) > KEK_ID_MAX) {
                sentence_set(
                        ret_why,
                        "kek_id = %.200s of [kek %s] names no key: give a key ARN (arn:aws:kms:REGION:ACCOUNT:key/ID), a key id, "
                        "alias/NAME or an alias ARN",
                        id, config->name);
                return -EINVAL;
        }
        is_arn = aws_arn_parse(&arn, bytes_from_string(id)) == 0;
        k->form = aws_arn_is_key(bytes_from_string(id)) ? AWS_KEK_BY_ARN
                  : alias                               ? AWS_KEK_BY_ALIAS
                                                        : AWS_KEK_BY_ID;
        if (alias && has_prefix(alias, "alias/aws/")) {
                sentence_set(
                        ret_why,
                        "kek_id = %s of [kek %s] is a key that AWS keeps for its own services. Make a key of your own, and name it or its alias",
                        id, config->name);
                return -EINVAL;
        }
        if (is_arn && config->region && !bytes_equal(arn.region, bytes_from_string(config->region))) {
                sentence_set(
                        ret_why,
                        "region = %s of [kek %s] is not the region of its kek_id, which is %.*s. Take region out, or name the key that is "
                        "in that region",
                        config->region, config->name, (int)arn.region.n, (const char *)arn.region.data);
                return -EINVAL;
        }
        if (is_arn)
                snprintf(ret_region, AWS_REGION_MAX + 1, "%.*s", (int)arn.region.n, (const char *)arn.region.data);
        else if (!config->region || snprintf(ret_region, AWS_REGION_MAX + 1, "%s", config->region) > AWS_REGION_MAX) {
                sentence_set(ret_why, "[kek %s] needs a region, such as eu-central-1, since its kek_id is no ARN",
                             config->name);
                return -EINVAL;
        }
        return 0;
}

static int read_grant_tokens(struct aws_kek *k, const char *tokens, struct sentence *ret_why)
{
        k->grant_tokens = tokens ? json_array() : NULL;
        if (!tokens)
                return 0;
        if (strlen(tokens) > GRANT_TOKENS_BYTES_MAX) {
                sentence_set(
                        ret_why,
                        "grant_tokens of [kek %s] are longer than %d bytes. Take out those of grants that have spread (5 minutes)",
                        k->config->name, GRANT_TOKENS_BYTES_MAX);
                return -EINVAL;
        }
        for (size_t n; *tokens; tokens += n + (tokens[n] == ' ')) {
                n = strcspn(tokens, " ");
                if (json_array_append_new(k->grant_tokens, json_stringn(tokens, n)) < 0) {
                        sentence_set(ret_why, "out of memory");
                        return -ENOMEM;
                }
        }
        if (json_array_size(k->grant_tokens) > GRANT_TOKENS_MAX) {
                sentence_set(ret_why, "[kek %s] has more than %d grant_tokens, which KMS does not take",
                             k->config->name, GRANT_TOKENS_MAX);
                return -EINVAL;
        }
        return 0;
}

int aws_kek_new(struct aws_kek **ret_kek, const struct config_kek *config, const struct kms_environment *environment,
                struct sentence *ret_why)
{
        struct aws_kek *k = calloc(1, sizeof(*k));
        char region[AWS_REGION_MAX + 1] = "";
        int r;

        if (!k) {
                sentence_set(ret_why, "out of memory");
                return -ENOMEM;
        }
        k->config = config;
        k->environment = environment;
        list_init(&k->waiting);
        r = read_key_id(k, config, region, ret_why);
        if (r == 0)
                r = read_grant_tokens(k, config->grant_tokens, ret_why);
        if (r == 0)
                r = aws_service_init(&k->service, config, environment, region, ret_why);
        if (r < 0) {
                json_decref(k->grant_tokens);
                free(k);
                return r;
        }
        if (k->form == AWS_KEK_BY_ARN)
                snprintf(k->arn, sizeof(k->arn), "%s", config->kek_id);
        *ret_kek = k;
        return 0;
}

void aws_kek_free(struct aws_kek *k)
{
        if (k->describing) { /* those who waited for it have gone */
                aws_call_cancel(k->describing);
                aws_call_deinit(k->describing);
                free(k->describing);
        }
        aws_service_deinit(&k->service);
        json_decref(k->grant_tokens);
        free(k);
}

/* ---- whose is it ---- */

static bool alias_is_fresh(const struct aws_kek *k)
{
        return clock_boottime_usec() < k->fresh_until_usec;
}

/* A key that the configured id may name: in its region, and of its account and id as far as it says. */
static bool may_be_named(const struct aws_kek *k, struct bytes text, bool any_region_of_mrk)
{
        struct bytes id = bytes_from_string(k->config->kek_id), region = bytes_from_string(k->service.region);
        struct aws_arn arn, alias;

        if (!aws_arn_is_key(text) || aws_arn_parse(&arn, text) < 0)
                return false;
        if (!bytes_equal(arn.region, region) && !(any_region_of_mrk && bytes_begin(arn.resource, "key/mrk-")))
                return false;
        if (k->form == AWS_KEK_BY_ID)
                return bytes_equal((struct bytes){ arn.resource.data + 4, arn.resource.n - 4 }, id);
        return aws_arn_parse(&alias, id) < 0 ||
               (bytes_equal(arn.account, alias.account) && bytes_equal(arn.partition, alias.partition));
}

enum aws_kek_ownership aws_kek_owns(const struct aws_kek *k, struct bytes record_id)
{
        if (*k->arn && aws_arn_is_same_key(record_id, bytes_from_string(k->arn)))
                return AWS_KEK_MINE;
        if (k->form == AWS_KEK_BY_ARN || !may_be_named(k, record_id, true))
                return AWS_KEK_OTHER;
        if (k->form == AWS_KEK_BY_ID)
                return *k->arn ? AWS_KEK_OTHER : AWS_KEK_MINE;
        return *k->arn && alias_is_fresh(k) ? AWS_KEK_OTHER : AWS_KEK_UNKNOWN;
}

void aws_kek_not_mine(const struct aws_kek *k, const char *record_id, struct sentence *ret_why)
{
        bool says_more = *k->arn && k->form != AWS_KEK_BY_ARN;

        sentence_set(
                ret_why,
                "the record's wrap is of %s, and [kek %s] is %s%s%s. Add a [kek] with that key to the scope's keks",
                record_id, k->config->name, k->config->kek_id, says_more ? ", which is " : "", says_more ? k->arn : "");
}

void aws_kek_id_for(const struct aws_kek *k, const char *record_id, char ret_id[KEK_ID_MAX + 1])
{
        struct bytes record = record_id ? bytes_from_string(record_id) : (struct bytes){ 0 };
        const char *id = *k->arn ? k->arn : k->config->kek_id;

        if (record_id && k->form == AWS_KEK_BY_ALIAS && aws_kek_owns(k, record) == AWS_KEK_UNKNOWN)
                id = k->config->kek_id;
        else if (record_id && !*k->arn && k->form == AWS_KEK_BY_ID) {
                /* That of a multi-Region key in this region, where only its own ARN is known. */
                if (aws_arn_in_region(ret_id, KEK_ID_MAX + 1, record, k->service.region) == 0)
                        return;
                id = record_id;
        }
        snprintf(ret_id, KEK_ID_MAX + 1, "%s", id);
}

bool aws_kek_fits(const struct aws_kek *k, const char *asked_id, const char *answered)
{
        if (aws_arn_is_key(bytes_from_string(asked_id)))
                return aws_arn_is_same_key(bytes_from_string(asked_id), bytes_from_string(answered));
        return may_be_named(k, bytes_from_string(answered), false);
}

void aws_kek_learn(struct aws_kek *k, const char *asked_id, const char *arn)
{
        if (k->form == AWS_KEK_BY_ARN || (*k->arn && aws_arn_is_key(bytes_from_string(asked_id))))
                return;
        if (*k->arn && strcmp(k->arn, arn) != 0)
                log_notice("KEK %s: %s is no longer %s, but %s", k->config->name, k->config->kek_id, k->arn, arn);
        snprintf(k->arn, sizeof(k->arn), "%s", arn);
        k->fresh_until_usec = clock_add(clock_boottime_usec(), ALIAS_GOOD_USEC);
}

void aws_kek_note(struct aws_kek *k, const char *asked_id, enum proto_error error)
{
        if (error == PROTO_ERROR_NONE)
                *k->why.text = '\0';
        else if (error == PROTO_ERROR_KMS_NOT_MINE && strcmp(asked_id, k->config->kek_id) == 0)
                k->fresh_until_usec =
                        clock_add(clock_boottime_usec(), ALIAS_GOOD_USEC); /* the alias was looked at just now */
}

/* ---- DescribeKey ---- */

static const char *member(const json_t *object, const char *name)
{
        const char *value = json_string_value(json_object_get(object, name));

        return value ? value : "";
}

/* What stands against the key that @metadata describes. */
static enum proto_error metadata_judge(const struct aws_kek *k, const json_t *metadata, struct sentence *ret_why)
{
        const char *state = member(metadata, "KeyState"), *usage = member(metadata, "KeyUsage"),
                   *spec = member(metadata, "KeySpec");
        bool works = *state ? strcmp(state, "Enabled") == 0 || strcmp(state, "Updating") == 0
                            : json_is_true(json_object_get(metadata, "Enabled"));

        if (!*spec)
                spec = member(metadata, "CustomerMasterKeySpec");
        /* What is not said is left to the operations to find out. */
        if ((*usage && strcmp(usage, "ENCRYPT_DECRYPT") != 0) || (*spec && strcmp(spec, "SYMMETRIC_DEFAULT") != 0)) {
                sentence_set(
                        ret_why,
                        "%s is a key for %s of the kind %s; a KEK has to be one for ENCRYPT_DECRYPT of the kind SYMMETRIC_DEFAULT. Name such "
                        "a key in kek_id of [kek %s]",
                        k->arn, *usage ? usage : "an unknown use", *spec ? spec : "unknown", k->config->name);
                return PROTO_ERROR_KMS_MISCONFIGURED;
        }
        if (works)
                return PROTO_ERROR_NONE;
        if (!*state || strcmp(state, "Disabled") == 0) {
                sentence_set(ret_why, "%s is disabled. Enable it in AWS KMS, or use another KEK", k->arn);
                return PROTO_ERROR_KMS_DENIED;
        }
        sentence_set(
                ret_why,
                "%s is in the state %s, which does not allow its use. Cancel its deletion, import its material, or wait until it is made",
                k->arn, state);
        return PROTO_ERROR_KMS_STATE;
}

/** DescribeKey under way. */
struct describing {
        struct aws_call call; /* first: kek->describing */
        struct aws_kek *kek;
        bool answered;
};

static enum proto_error on_description(struct aws_call *call, const json_t *answer, struct sentence *ret_why)
{
        struct describing *d = list_entry(call, struct describing, call);
        struct aws_kek *k = d->kek;
        const json_t *metadata = json_object_get(answer, "KeyMetadata");
        const char *arn = member(metadata, "Arn");
        enum proto_error error;

        d->answered = true;
        if (strlen(arn) > KEK_ID_MAX || !aws_kek_fits(k, k->config->kek_id, arn)) {
                sentence_set(
                        ret_why,
                        "AWS KMS, asked which key %s is, answers with another one. Check kek_id, endpoint and proxy of [kek %s]",
                        k->config->kek_id, k->config->name);
                return PROTO_ERROR_KMS_MISCONFIGURED;
        }
        aws_kek_learn(k, k->config->kek_id, arn);
        error = metadata_judge(k, metadata, ret_why);
        if (error)
                k->why = *ret_why;
        return error;
}

static void waiter_end(struct aws_kek_call *w, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        list_unlink(&w->link);
        event_free(w->timer);
        w->done(w, error, sentence, retry_after_msec);
}

/* The last one that is told may take the KEK with it: nothing of it is touched after the first. */
static void on_described(struct aws_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct describing *d = list_entry(call, struct describing, call);
        struct aws_kek *k = d->kek;
        struct list waiting = LIST_INIT(waiting);
        struct sentence why;

        if (error == PROTO_ERROR_KMS_DENIED && !d->answered) {
                k->may_not_describe = true;
                log_notice("KEK %s: its wraps are tried with %s as it is, since it may not be looked up. %s",
                           k->config->name, k->config->kek_id, sentence);
                error = PROTO_ERROR_NONE;
        }
        sentence_set(&why, "%s", sentence);
        while (!list_is_empty(&k->waiting)) {
                struct list *node = k->waiting.next;

                list_unlink(node);
                list_append(&waiting, node);
        }
        k->describing = NULL;
        aws_call_deinit(call);
        free(d);
        while (!list_is_empty(&waiting))
                waiter_end(list_entry(waiting.next, struct aws_kek_call, link), error, error ? why.text : "",
                           retry_after_msec);
}

static int describe(struct aws_kek *k)
{
        json_t *request = json_pack("{s:s}", "KeyId", k->config->kek_id);
        struct describing *d = calloc(1, sizeof(*d));
        int r = -ENOMEM;

        if (request && d && (!k->grant_tokens || json_object_set(request, "GrantTokens", k->grant_tokens) == 0)) {
                d->kek = k;
                d->call.accept = on_description;
                d->call.done = on_described;
                r = aws_call_start(&d->call, &k->service, AWS_DESCRIBE_KEY, request, k->config->kek_id, NULL,
                                   clock_add(clock_boottime_usec(), RESOLVE_TIMEOUT_USEC));
                if (r == 0)
                        k->describing = &TAKE_PTR(d)->call;
                else
                        aws_call_deinit(&d->call);
        }
        json_decref(request);
        free(d);
        return r;
}

static void on_deadline(evutil_socket_t fd, short what, void *userdata)
{
        waiter_end(
                userdata, PROTO_ERROR_KMS_UNREACHABLE,
                "AWS KMS did not say in time which key the alias is. Check the network between, and the endpoint's address",
                0);
}

int aws_kek_resolve(struct aws_kek *k, struct aws_kek_call *call, uint64_t deadline_usec)
{
        uint64_t now = clock_boottime_usec(), left = deadline_usec > now ? deadline_usec - now : 0;
        struct timeval tv = { .tv_sec = (time_t)(left / USEC_PER_SEC), .tv_usec = (suseconds_t)(left % USEC_PER_SEC) };
        int r = 0;

        if (k->may_not_describe)
                return AWS_KEK_E_ASK;
        list_init(&call->link);
        call->timer = evtimer_new(k->environment->base, on_deadline, call);
        if (!call->timer)
                return -ENOMEM;
        if (!k->describing)
                r = describe(k);
        if (r < 0) {
                event_free(call->timer);
                return r;
        }
        event_add(call->timer, &tv);
        list_append(&k->waiting, &call->link);
        return 0;
}

/* ---- the policy ---- */

/* The Resource: AWS takes no alias there, so an alias becomes a condition on all keys of its account. */
static void policy_resource(const struct aws_kek *k, char *ret_resource, size_t n)
{
        const char *known = *k->arn ? k->arn : k->config->kek_id;
        struct aws_arn arn = { .partition = bytes_from_string(aws_partition(k->service.region)),
                               .account = BYTES_LITERAL("*") };

        if (*k->arn && k->form != AWS_KEK_BY_ALIAS) {
                snprintf(ret_resource, n, "%s", k->arn);
                return;
        }
        aws_arn_parse(&arn, bytes_from_string(known));
        snprintf(ret_resource, n, "arn:%.*s:kms:%s:%.*s:key/%s", (int)arn.partition.n, (const char *)arn.partition.data,
                 k->service.region, (int)arn.account.n, (const char *)arn.account.data,
                 k->form == AWS_KEK_BY_ID ? k->config->kek_id : "*");
}

char *aws_kek_policy(const struct aws_kek *k)
{
        char resource[KEK_ID_MAX + 1], *text;
        json_t *statement, *policy;

        policy_resource(k, resource, sizeof(resource));
        statement = json_pack("{s:s, s:s, s:[s,s,s,s,s,s], s:s}", "Sid", "LkmKek", "Effect", "Allow", "Action",
                              "kms:GenerateDataKey", "kms:Decrypt", "kms:Encrypt", "kms:ReEncryptFrom",
                              "kms:ReEncryptTo", "kms:DescribeKey", "Resource", resource);
        if (statement && k->form == AWS_KEK_BY_ALIAS &&
            json_object_set_new(statement, "Condition",
                                json_pack("{s:{s:s}}", "ForAnyValue:StringEquals", "kms:ResourceAliases",
                                          alias_of(k->config->kek_id))) < 0) {
                json_decref(statement);
                return NULL;
        }
        policy = json_pack("{s:s, s:[o]}", "Version", "2012-10-17", "Statement", statement);
        text = policy ? json_dumps(policy, JSON_INDENT(2)) : NULL;
        json_decref(policy);
        return text;
}
