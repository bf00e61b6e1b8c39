/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-sts: credentials of a role from AWS's Security Token Service: AssumeRole, signed with other credentials, and AssumeRoleWithWebIdentity, which a
 * token vouches for. By AWS's query protocol: a form there, XML back.
 */
#pragma once

#include "daemon/kms/aws-chain.h"
#include "daemon/kms/aws-way.h"

struct aws_sts;

/** What to ask. All of it outlives the question, but for what is counted. */
struct aws_sts_request {
        const struct aws_role *role;
        const char *url, *region;
        struct aws_credentials *signer; /* a reference is taken; or NULL … */
        struct secret *token;           /* … and a web identity token; a reference is taken */
        int64_t *offset_usec;           /* of the server's clock; corrected by what it says */
        const char *source;
};

/** aws_sts_start() - Return: 0; -EINVAL (the token is too long), -ENOMEM, -ENOBUFS with *ret_why filled. */
int aws_sts_start(struct aws_sts **ret_sts, const struct aws_surroundings *around, const struct aws_sts_request *request,
                  struct aws_way_call *call, struct sentence *ret_why);
/** aws_sts_free() - @call is not told. */
struct aws_sts *aws_sts_free(struct aws_sts *sts);
DEFINE_CLEANUP(struct aws_sts *, aws_sts_free)
