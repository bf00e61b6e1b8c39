/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control: the requests to /mock/, by which a test sets up the services, makes them fail and reads what was asked of
 * them. JSON in, JSON out; what is not understood is an error with a sentence, so that a misspelt member is found.
 */
#pragma once

#include "tests/mock-kms/fault.h"
#include "tests/mock-kms/journal.h"
#include "tests/mock-kms/mock.h"

struct control {
        struct mock *mock;
        struct faults *faults;
        struct journal *journal;
};

bool control_claims(const struct request *r);
void control_handle(struct control *c, const struct request *r, struct answer *a);
