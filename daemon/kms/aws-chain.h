/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-chain: where credentials are to come from: the order of the AWS SDKs, applied to the configuration, the variables and the shared files. The
 * first that is configured counts, and is wrong or right for itself; nothing is asked here, and no secret is read.
 */
#pragma once

#include "daemon/kms/aws-endpoint.h"
#include "daemon/kms/aws-environment.h"
#include "daemon/kms/aws-profile.h"

enum aws_base {
        AWS_BASE_ENVIRONMENT,
        AWS_BASE_PROFILE_KEYS,
        AWS_BASE_WEB_IDENTITY,
        AWS_BASE_SSO,
        AWS_BASE_PROCESS,
        AWS_BASE_CONTAINER,
        AWS_BASE_METADATA,
};

#define AWS_ROLES_MAX 8

/** A role to assume. Strings are borrowed from the plan's profiles and from the environment. */
struct aws_role {
        const char *arn, *session_name, *external_id; /* the last two may be NULL */
        unsigned duration_seconds;                    /* 0: what STS gives by default */
};

/** One way from nothing to credentials. */
struct aws_plan {
        struct aws_profiles *profiles; /* owned: without secrets */
        enum aws_base base;
        const char *profile;           /* that has it, or NULL */
        bool is_last_resort;           /* nothing was configured, so instance metadata are tried: whether there are any is not known */
        struct aws_role web_identity;
        const char *token_file;        /* of web identity */
        const char *command;           /* of credential_process */
        struct {
                const char *account_id, *role_name, *region;
                const char *cached_as; /* session's name or start URL */
        } sso;
        size_t n_roles;
        struct aws_role roles[AWS_ROLES_MAX]; /* in the order to assume them */
        char region[AWS_REGION_MAX + 1];      /* of STS */
        char sts_url[AWS_URL_MAX];
        char source[256]; /* for people */
        char looked[400]; /* for people: what is not configured */
};

/** What decides. All outlive the plan. */
struct aws_settings {
        const struct config_kek *config;
        const struct aws_environment *environment; /* NULL: variables do not count */
};

/** aws_plan_make() - Return: 0; -EINVAL or another -errno with *ret_why filled. */
int aws_plan_make(struct aws_plan *ret_plan, const struct aws_settings *settings, struct sentence *ret_why);
void aws_plan_deinit(struct aws_plan *plan);

/** aws_settings_profiles() - read the shared files. @keep: whose secrets are kept, or NULL. Return: 0 or -errno with *ret_why filled. */
int aws_settings_profiles(struct aws_profiles **ret_profiles, const struct aws_settings *settings, const char *keep, struct sentence *ret_why);
