/* SPDX-License-Identifier: Apache-2.0 */
/*
 * job: what liblkm and lkmctl tell lkm-rekey, and what it answers. lkm-rekey is one process for one step of one operation on one
 * database; it knows records and daemons nowhere, and holds keys only as long as that step takes.
 *
 *     lkm-rekey COMMAND DATABASE [TARGET]
 *
 * Standard input is a pipe with one struct rekey_job and then its n_keys keys, each a struct rekey_job_key; never an argument, a file or the environment.
 * Standard output is a pipe with the lines below. The last one is `done` or `error`; a worker whose output ends without either has died, and then
 * nothing is known. What `rekey` says of itself is never evidence: a `probe` in another process is.
 *
 *     progress DONE TOTAL          bytes of this step, at least once a second
 *     mode MODE                    check: the database's journal mode, "wal" or another
 *     holder PID KIND COMMAND      check, rekey: who is in the way. KIND: "lock" (holds one of SQLite's locks) or "open" (has the file open)
 *     fits VERSION PAGES           probe, salvage: how many pages have an HMAC that fits that key; a line for each key
 *     pages TOTAL ZERO UNKNOWN     probe, salvage: pages in all; of zeros only (which fit every key); that fit no key
 *     opens VERSION                probe: the key with which SQLCipher opens the database and every page fits. None: no such line
 *     empty                        probe: there is no database, or it has no bytes
 *     library MAJOR                probe, after `empty`: the SQLCipher that would write one, 3 or 4
 *     range FIRST LAST VERSION     salvage: pages FIRST to LAST, from 1, fit that key; VERSION 0: none
 *     table NAME ROWS              export: a table, and how many rows were copied and counted again
 *     error NUMBER SENTENCE        enum lkm_error, and the sentence for people
 *     done
 *
 * | command | keys | does |
 * |---|---|---|
 * | check   | the current one | refuses what `rekey` would refuse; changes nothing |
 * | rekey   | the current one, the new one | re-encrypts the database; changes nothing else |
 * | probe   | any number | rolls a hot journal back, as SQLite does, then checks every page; with REKEY_RESTORE_WAL, sets WAL mode when exactly one opens |
 * | salvage | any number; the first one is the target's | without TARGET tells page by page; with it, writes a new file under the first key if every page fits one. Never
 * |         | | writes to DATABASE, nor has a journal rolled back: with a hot one it refuses to write TARGET |
 * | export  | the new one | copies a plaintext DATABASE into a new encrypted TARGET, and compares the two; a TARGET that is there already is compared only |
 */
#pragma once

#include <stdint.h>

#include "proto/frame.h"

enum rekey_flags {
        REKEY_RESTORE_WAL = 1, /* probe */
        REKEY_IGNORE_OPEN = 2, /* check, rekey: holders of the kind "open" do not refuse; they are told all the same */
};

enum { REKEY_KEYS_MAX = 64, REKEY_MAGIC = 0x6c6b6d31 };

struct rekey_job {
        uint32_t magic;         /* REKEY_MAGIC */
        uint32_t compatibility; /* 3 or 4; 0: the library's own, else 3 */
        uint32_t page_size;     /* bytes; 0: the format's usual */
        uint32_t timeout_msec;  /* how long to wait for a lock; 0: not at all */
        uint32_t flags;         /* enum rekey_flags */
        uint32_t n_keys;        /* 1 to REKEY_KEYS_MAX */
};

struct rekey_job_key {
        uint32_t version; /* 1 or more; told back in the lines */
        uint8_t key[KEY_SIZE];
};
