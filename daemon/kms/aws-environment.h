/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-environment: the AWS_* variables, for those KEKs whose configuration says that they count. The secrets among them are moved into locked memory
 * when they are first asked for, and wiped where the process was given them; they live as long as somebody uses this.
 */
#pragma once

#include "common/secret.h"
#include "daemon/kms/provider.h"

enum aws_variable_secret {
        AWS_VARIABLE_SECRET_ACCESS_KEY,
        AWS_VARIABLE_SESSION_TOKEN,
        AWS_VARIABLE_CONTAINER_TOKEN,
        AWS_VARIABLE_SECRET_COUNT,
};

struct aws_environment;

/** aws_environment_get() - a new reference to the only one. Return: 0; -ENOMEM; -ENOBUFS, *ret_why filled. */
int aws_environment_get(struct aws_environment **ret_environment, struct sentence *ret_why);
struct aws_environment *aws_environment_unref(struct aws_environment *e);
DEFINE_CLEANUP(struct aws_environment *, aws_environment_unref)

/** aws_environment_text() - the variable @name, or NULL when it is not set or empty. Also NULL without @e. */
const char *aws_environment_text(const struct aws_environment *e, const char *name);
/** aws_environment_secret() - borrowed, or NULL when there is none. */
struct secret *aws_environment_secret(const struct aws_environment *e, enum aws_variable_secret which);
/** aws_environment_was_taken() - the secrets were there, and went with the last one who used them. */
bool aws_environment_was_taken(const struct aws_environment *e);
