/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mock: everything that the server knows, all of it in memory and forgotten by mock_reset().
 */
#pragma once

#include "common/clock.h"
#include "tests/mock-kms/aws-identity.h"
#include "tests/mock-kms/aws-key.h"
#include "tests/mock-kms/metadata.h"
#include "tests/mock-kms/vault.h"

struct mock {
        int64_t clock_offset_usec; /* of every service's clock, against the real one */
        struct aws_identities identities;
        struct aws_keys keys;
        struct metadata metadata;
        struct vault vault;
};

void mock_init(struct mock *m);
void mock_deinit(struct mock *m);
/** mock_reset() - as at the start. */
void mock_reset(struct mock *m);
/** mock_now_usec() - wall clock, with the offset that a test has set. */
uint64_t mock_now_usec(const struct mock *m);
