/* SPDX-License-Identifier: Apache-2.0 */
/* aws-container: credentials of a container, from the endpoint that ECS or EKS Pod Identity names in its variables. Never by a proxy. */
#pragma once

#include "daemon/kms/aws-environment.h"
#include "daemon/kms/secret-file.h"
#include "daemon/kms/aws-get.h"

/** aws_container_url() - where to ask: the relative variable wins. http:// is for this machine and for the two services alone.
 *  Return: 0; -EINVAL with *ret_why filled. */
int aws_container_url(char ret_url[AWS_GET_URL_MAX], const char *relative, const char *full, struct sentence *ret_why);
/** aws_container_start() - Return: 0 or -errno with *ret_why filled. */
int aws_container_start(struct aws_get **ret_get, const struct aws_surroundings *around, const struct aws_environment *environment,
                        const char *source, struct aws_way_call *call, struct sentence *ret_why);
