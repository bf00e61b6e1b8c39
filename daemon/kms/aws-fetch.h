/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-fetch: one way from nothing to credentials, walked once: the files are read, the chain decides, the base is asked, then one role after the
 * other is assumed.
 */
#pragma once

#include "daemon/kms/aws-chain.h"
#include "daemon/kms/aws-metadata.h"

/** What fetches of one source share; outlives them. */
struct aws_fetch_context {
        struct aws_surroundings around;
        struct aws_settings settings;
        struct aws_metadata *metadata;
        int64_t offset_usec; /* of AWS's clock */
};

struct aws_fetch;

/** aws_fetch_new() - Return: the fetch, or NULL when out of memory. */
struct aws_fetch *aws_fetch_new(struct aws_fetch_context *context, struct aws_way_call *call);
/** aws_fetch_start() - unlike a way it may end inside; its owner may free it in done(). */
void aws_fetch_start(struct aws_fetch *f);
struct aws_fetch *aws_fetch_free(struct aws_fetch *f);
DEFINE_CLEANUP(struct aws_fetch *, aws_fetch_free)
