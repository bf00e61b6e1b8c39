/* SPDX-License-Identifier: Apache-2.0 */
/* aws-sso: credentials of a role by the token that `aws sso login` left in the home folder. That token is used, never renewed. */
#pragma once

#include "daemon/kms/aws-chain.h"
#include "daemon/kms/aws-get.h"

/** aws_sso_start() - Return: 0 or -errno with *ret_why filled. */
int aws_sso_start(struct aws_get **ret_get, const struct aws_surroundings *around, const struct aws_settings *settings,
                  const struct aws_plan *plan, struct aws_way_call *call, struct sentence *ret_why);
