/* SPDX-License-Identifier: Apache-2.0 */
/* aws-settings: what decides where credentials come from: the KEK's configuration, the variables if they count, and the shared files. */
#pragma once

#include "daemon/kms/aws-environment.h"
#include "daemon/kms/aws-profile.h"

/** Both outlive what is made of them. */
struct aws_settings {
        const struct config_kek *config;
        const struct aws_environment *environment; /* NULL: variables do not count */
};

/** aws_settings_profiles() - read the shared files. @keep: whose secrets are kept, or NULL. Return: 0 or -errno with *ret_why filled. */
int aws_settings_profiles(struct aws_profiles **ret_profiles, const struct aws_settings *settings, const char *keep, struct sentence *ret_why);
