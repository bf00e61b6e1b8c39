/* SPDX-License-Identifier: Apache-2.0 */
/*
 * async: requests whose answers come by callback. lkm.h has the contract.
 */
#pragma once

#include "client/connection.h"

/** async_fail_all() - call back every unanswered request with @error and the handle's message. */
void async_fail_all(struct lkm *lkm, int error);
