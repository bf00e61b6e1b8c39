/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-metadata: credentials of the role of an EC2 instance, from its metadata service, version 2 only: a session token first, then the role's name, then
 * its keys. The token is kept for its lifetime. Never by a proxy.
 */
#pragma once

#include "daemon/kms/aws-environment.h"
#include "daemon/kms/aws-way.h"

struct aws_metadata;

/** aws_metadata_new() - asks nothing yet. @environment: may name another endpoint; NULL: variables do not count. Return: 0 or -ENOMEM. */
int aws_metadata_new(struct aws_metadata **ret_metadata, const struct aws_surroundings *around, const struct aws_environment *environment);
struct aws_metadata *aws_metadata_free(struct aws_metadata *m);
DEFINE_CLEANUP(struct aws_metadata *, aws_metadata_free)

/** aws_metadata_start() - one question at a time. Return: 0 or -errno with *ret_why filled. */
int aws_metadata_start(struct aws_metadata *m, struct aws_way_call *call, struct sentence *ret_why);
/** aws_metadata_cancel() - @call is not told. */
void aws_metadata_cancel(struct aws_metadata *m);
/** aws_metadata_has_answered() - there is such a service here, so that its silence is an outage. */
bool aws_metadata_has_answered(const struct aws_metadata *m);

/** metadata_expiry() - until when keys that the service gives count: while it has no newer ones, old ones go on, for AWS takes them for a while.
 *  @random: any number. */
uint64_t metadata_expiry(uint64_t now_wall_usec, uint64_t expires_wall_usec, uint32_t random);
