/* SPDX-License-Identifier: Apache-2.0 */
/*
 * golden: golden.json, whose frames the wire tests send and compare. The path is argv[1] of each test.
 */
#pragma once

#include <jansson.h>

#include "proto/frame.h"

struct golden {
        const char *message; /* its name */
        uint32_t request_id;
        json_t *fields; /* borrowed from the file, which stays loaded */
        uint8_t *frame;
        size_t n_frame;
};

/** golden_load() - read all vectors; ends the process when the file is not as it should be. */
struct golden *golden_load(const char *path, size_t *ret_n);
void golden_free(struct golden *vectors, size_t n);
