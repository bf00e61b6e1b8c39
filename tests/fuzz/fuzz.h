/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz: what a fuzz target is. libFuzzer calls LLVMFuzzerTestOneInput() with its own inputs; without it, replay.c calls
 * it with the files of a corpus and with every file's prefixes and changed bytes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
