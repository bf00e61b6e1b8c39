/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-environment.h"

#include <assert.h>
#include <errno.h>

struct aws_environment {
        unsigned n_refs;
        struct secret *secrets[AWS_VARIABLE_SECRET_COUNT];
};

/* Names of one secret, the first that is set counts. */
static const char *const names[AWS_VARIABLE_SECRET_COUNT][2] = {
        [AWS_VARIABLE_SECRET_ACCESS_KEY] = { "AWS_SECRET_ACCESS_KEY" },
        [AWS_VARIABLE_SESSION_TOKEN] = { "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN" },
        [AWS_VARIABLE_CONTAINER_TOKEN] = { "AWS_CONTAINER_AUTHORIZATION_TOKEN" },
};

/* The environment is the process's, and so is this. */
static struct aws_environment *only;
static bool taken;

/* Move the value of @name out of the environment. Return: 0, also when there is none or *ret_secret was set before; or as secret_new(). */
static int secret_take(struct secret **ret_secret, const char *name)
{
        char *value = getenv(name);
        size_t n = value ? strlen(value) : 0;
        uint8_t *view;
        int r;

        if (n == 0)
                return 0;
        if (!*ret_secret) {
                r = secret_new(ret_secret, n);
                if (r < 0)
                        return r == -EINVAL ? -ENOBUFS : r;
                view = secret_view_begin(*ret_secret);
                memcpy(view, value, n);
                secret_view_end(*ret_secret, &view);
        }
        secret_wipe(value, n); /* there it is empty from now on, which the SDKs take for not set */
        taken = true;
        return 0;
}

int aws_environment_get(struct aws_environment **ret_environment, struct sentence *ret_why)
{
        struct aws_environment *e = only ? only : calloc(1, sizeof(*e));
        int r = e ? 0 : -ENOMEM;

        for (size_t i = 0; r == 0 && !only && i < AWS_VARIABLE_SECRET_COUNT; i++)
                for (size_t j = 0; r == 0 && j < ELEMENTSOF(names[i]) && names[i][j]; j++)
                        r = secret_take(&e->secrets[i], names[i][j]);
        if (r < 0) {
                for (size_t i = 0; e && i < AWS_VARIABLE_SECRET_COUNT; i++)
                        secret_unref(e->secrets[i]);
                free(e);
                sentence_set(ret_why, "the AWS variables of the environment cannot be read: no memory is left, or one is longer than %d bytes",
                             SECRET_BODY_MAX);
                return r;
        }
        only = e;
        e->n_refs++;
        *ret_environment = e;
        return 0;
}

struct aws_environment *aws_environment_unref(struct aws_environment *e)
{
        if (!e || --e->n_refs > 0)
                return NULL;
        assert(e == only);
        for (size_t i = 0; i < AWS_VARIABLE_SECRET_COUNT; i++)
                secret_unref(e->secrets[i]);
        free(e);
        only = NULL;
        return NULL;
}

const char *aws_environment_text(const struct aws_environment *e, const char *name)
{
        const char *value = e ? getenv(name) : NULL;

        return value && *value ? value : NULL;
}

struct secret *aws_environment_secret(const struct aws_environment *e, enum aws_variable_secret which)
{
        return e ? e->secrets[which] : NULL;
}

bool aws_environment_was_taken(const struct aws_environment *e)
{
        return e && taken && !e->secrets[AWS_VARIABLE_SECRET_ACCESS_KEY];
}
