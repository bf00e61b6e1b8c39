/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz: what a fuzz target is. libFuzzer calls LLVMFuzzerTestOneInput() with its own inputs; without it, replay.c calls
 * it with the files of a corpus and with every file's prefixes and changed bytes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/** check() - abort unless @ok: the target has found something. */
void check(bool ok);
/** check_arena() - make the arena at the first call; later ones check that no slot stayed behind. Call it at the begin and the end of each input. */
void check_arena(void);

/** fuzz_take() - the first @n bytes of *@input, or all if there are fewer, which moves behind them. fuzz_byte() - one; 0 at the end. */
struct bytes fuzz_take(struct bytes *input, size_t n);
uint8_t fuzz_byte(struct bytes *input);
/** fuzz_until() - what stands before the next byte @end, which is taken too; all when there is none. */
struct bytes fuzz_until(struct bytes *input, uint8_t end);
