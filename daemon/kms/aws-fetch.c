/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-fetch.h"

#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/aws-container.h"
#include "daemon/kms/aws-process.h"
#include "daemon/kms/aws-sso.h"
#include "daemon/kms/aws-sts.h"

struct aws_fetch {
        struct aws_fetch_context *context;
        struct aws_way_call *call;
        struct aws_plan plan;
        bool is_planned;
        struct aws_way_call way; /* what is under way calls this */
        bool asks_metadata;
        struct aws_get *get;
        struct aws_process *process;
        struct aws_sts *sts;
        struct aws_credentials *credentials; /* of the base, then of each role */
        size_t i_role;
        char source[512]; /* of what the role that is assumed gives */
};

static void way_end(struct aws_fetch *f)
{
        if (f->asks_metadata)
                aws_metadata_cancel(f->context->metadata);
        f->asks_metadata = false;
        f->get = aws_get_free(f->get);
        f->process = aws_process_free(f->process);
        f->sts = aws_sts_free(f->sts);
}

struct aws_fetch *aws_fetch_free(struct aws_fetch *f)
{
        if (!f)
                return NULL;
        way_end(f);
        aws_credentials_unref(f->credentials);
        if (f->is_planned)
                aws_plan_deinit(&f->plan);
        free(f);
        return NULL;
}

/* ---- keys that lie ready ---- */

static int environment_keys(struct aws_fetch *f, struct sentence *ret_why)
{
        const struct aws_environment *e = f->context->settings.environment;
        const char *expires = aws_environment_text(e, "AWS_CREDENTIAL_EXPIRATION");
        uint64_t expires_usec = USEC_INFINITY;
        int r;

        if (expires && aws_answer_time(&expires_usec, expires) < 0) {
                sentence_set(ret_why, "AWS_CREDENTIAL_EXPIRATION is no time such as 2030-01-31T12:00:00Z");
                return -EINVAL;
        }
        r = aws_credentials_new(&f->credentials, aws_environment_text(e, "AWS_ACCESS_KEY_ID"),
                                aws_environment_secret(e, AWS_VARIABLE_SECRET_ACCESS_KEY), aws_environment_secret(e, AWS_VARIABLE_SESSION_TOKEN),
                                expires_usec, f->plan.source);
        if (r < 0)
                sentence_set(ret_why, r == -EINVAL ? "AWS_ACCESS_KEY_ID is none" : "out of memory");
        return r;
}

/* The files are read once more, this time with the secrets of the profile. */
static int profile_keys(struct aws_fetch *f, struct sentence *ret_why)
{
        _cleanup_(aws_profiles_freep) struct aws_profiles *profiles = NULL;
        const struct aws_section *section;
        struct secret *secret, *token;
        const char *id;
        int r = aws_settings_profiles(&profiles, &f->context->settings, f->plan.profile, ret_why);

        if (r < 0)
                return r;
        section = aws_profiles_find(profiles, AWS_SECTION_PROFILE, f->plan.profile);
        id = section ? aws_section_get(section, "aws_access_key_id") : NULL;
        secret = section ? aws_section_secret(section, "aws_secret_access_key") : NULL;
        if (!id || !secret) {
                sentence_set(ret_why, "profile %s has changed meanwhile. Try again", f->plan.profile);
                return -EAGAIN;
        }
        token = aws_section_secret(section, "aws_session_token");
        if (!token)
                token = aws_section_secret(section, "aws_security_token");
        r = aws_credentials_new(&f->credentials, id, secret, token, USEC_INFINITY, f->plan.source);
        if (r == -EINVAL)
                sentence_set(ret_why, "profile %s: aws_access_key_id is none", f->plan.profile);
        else if (r < 0)
                sentence_set(ret_why, "profile %s: out of memory", f->plan.profile);
        return r;
}

/* ---- what has to be asked ---- */

static int sts_start(struct aws_fetch *f, const struct aws_role *role, struct secret *token, struct sentence *ret_why)
{
        struct aws_sts_request request = { .role = role,
                                           .url = f->plan.sts_url,
                                           .region = f->plan.region,
                                           .signer = token ? NULL : f->credentials,
                                           .token = token,
                                           .offset_usec = &f->context->offset_usec,
                                           .source = f->source };

        return aws_sts_start(&f->sts, &f->context->around, &request, &f->way, ret_why);
}

static int web_identity_start(struct aws_fetch *f, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *token = NULL;
        int r = secret_file_read(&token, NULL, f->plan.token_file, SECRET_FILE_PROJECTED, ret_why);

        if (r < 0)
                return r;
        snprintf(f->source, sizeof(f->source), "role %.200s by %.200s", f->plan.web_identity.arn, f->plan.source);
        return sts_start(f, &f->plan.web_identity, token, ret_why);
}

/* Return: 0 when the way has begun or f->credentials are there. */
static int base_start(struct aws_fetch *f, struct sentence *ret_why)
{
        struct aws_fetch_context *c = f->context;
        int r;

        switch (f->plan.base) {
        case AWS_BASE_ENVIRONMENT:
                return environment_keys(f, ret_why);
        case AWS_BASE_PROFILE_KEYS:
                return profile_keys(f, ret_why);
        case AWS_BASE_WEB_IDENTITY:
                return web_identity_start(f, ret_why);
        case AWS_BASE_SSO:
                return aws_sso_start(&f->get, &c->around, &c->settings, &f->plan, &f->way, ret_why);
        case AWS_BASE_PROCESS:
                return aws_process_start(&f->process, &c->around, f->plan.command, f->plan.source, AWS_PROCESS_TIME_USEC, &f->way, ret_why);
        case AWS_BASE_CONTAINER:
                return aws_container_start(&f->get, &c->around, c->settings.environment, f->plan.source, &f->way, ret_why);
        case AWS_BASE_METADATA:
                r = aws_metadata_start(c->metadata, &f->way, ret_why);
                f->asks_metadata = r == 0;
                return r;
        }
        return -EINVAL;
}

/* ---- the way ---- */

static void ended(struct aws_fetch *f, struct aws_credentials *credentials, enum proto_error error, const char *why)
{
        way_end(f);
        f->call->done(f->call, credentials, error, why); /* frees @f */
}

/* What could not even be begun. */
static void refused(struct aws_fetch *f, int r, const struct sentence *why)
{
        bool passes = r == -ENOMEM || r == -ENOBUFS || r == -EAGAIN || r == -EMFILE || r == -ENFILE;
        bool absent = r == -ENOENT || r == -ETIME; /* a token's file, or its end */

        ended(f, NULL, passes ? PROTO_ERROR_KMS_UNREACHABLE : absent ? PROTO_ERROR_KMS_CREDENTIALS : PROTO_ERROR_KMS_MISCONFIGURED, why->text);
}

/* With f->credentials: assume the next role, or end. */
static void proceed(struct aws_fetch *f)
{
        const struct aws_role *role = &f->plan.roles[f->i_role];
        struct sentence why;
        int r;

        if (f->i_role == f->plan.n_roles) {
                ended(f, f->credentials, PROTO_ERROR_NONE, "");
                return;
        }
        f->i_role++;
        snprintf(f->source, sizeof(f->source), "role %.200s by %.200s", role->arn, f->plan.source);
        r = sts_start(f, role, NULL, &why);
        if (r < 0)
                refused(f, r, &why);
}

static void on_way_done(struct aws_way_call *way, struct aws_credentials *credentials, enum proto_error error, const char *why)
{
        struct aws_fetch *f = list_entry(way, struct aws_fetch, way);
        struct sentence all;

        if (credentials) {
                aws_credentials_ref(credentials);
                aws_credentials_unref(f->credentials);
                f->credentials = credentials;
                way_end(f);
                proceed(f);
                return;
        }
        /* Their silence only counts as "not configured" where they have never said anything. */
        if (f->plan.is_last_resort && !aws_metadata_has_answered(f->context->metadata)) {
                sentence_set(&all, "no credentials are configured: %s; %s", f->plan.looked, why);
                ended(f, NULL, PROTO_ERROR_KMS_CREDENTIALS, all.text);
                return;
        }
        sentence_set(&all, "%s", why);
        ended(f, NULL, error, all.text);
}

struct aws_fetch *aws_fetch_new(struct aws_fetch_context *context, struct aws_way_call *call)
{
        struct aws_fetch *f = calloc(1, sizeof(*f));

        if (!f)
                return NULL;
        f->context = context;
        f->call = call;
        f->way.done = on_way_done;
        return f;
}

void aws_fetch_start(struct aws_fetch *f)
{
        struct sentence why;
        int r = aws_plan_make(&f->plan, &f->context->settings, &why);

        f->is_planned = r == 0;
        if (r == 0)
                r = base_start(f, &why);
        if (r < 0)
                refused(f, r, &why);
        else if (f->credentials)
                proceed(f);
}
