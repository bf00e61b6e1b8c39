/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metadata: the EC2 instance metadata service, version 2 only, and the endpoint that gives credentials to a container.
 */
#pragma once

#include "tests/mock-kms/text.h"

struct metadata {
        char *role, *region;
        char *container_token; /* what the Authorization header must be; NULL = none is asked for */
        char *code; /* of the credentials, "Success" */
        uint64_t expires_in_usec;
        json_t *policy; /* of the credentials given out, or NULL */
        json_t *tokens; /* session token of IMDSv2: when it ends, microseconds by the server's clock */
        char *current; /* access key id that was given out last, or NULL */
};

void metadata_init(struct metadata *s);
void metadata_deinit(struct metadata *s);
