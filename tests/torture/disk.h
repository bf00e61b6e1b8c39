/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk: a model of what a disk may hold after the power was lost, for one directory and the calls that changed it.
 *
 * The model. A call changes the page cache. What has reached the disk for certain ("durable") is what was there in the beginning, and
 * - of a file: the writes and changes of size before its last fsync or fdatasync; its mode, before its last fsync;
 * - of the directory: the names as they were at its last fsync. The fsync of a file makes none of its names durable, as POSIX has it.
 * Whatever else was done until the power went may have reached the disk or not, in any order that is not excluded here:
 * - writes: each sector of 512 bytes for itself, so pages tear; one sector is never torn. A later write of a sector hides the earlier one,
 *   or is lost and shows it;
 * - size: a file may have grown without the content, which then is zeros or garbage; grown less than was written; a shrinking may be lost;
 * - names: creation, link, rename and unlink, each is lost or done as a whole (so rename is atomic, as on every Linux file system with a
 *   journal), in a prefix of their order (ext4, XFS, btrfs) or any subset of them (which POSIX allows and no journal does). Names and
 *   content are independent: a name may point to a file whose content never arrived.
 * A sync that was under way counts as not done; everything that it would have written may be there.
 *
 * This is harder than ext4 in its default mode (data=ordered, delayed allocation), and covers it. Not in the model: a disk that lies about
 * flushes, or destroys sectors that were not being written.
 *
 * A state is one directory that the power loss may leave. It is drawn by a seed, so that it can be had again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;

/** What is kept of that which is not durable. */
enum disk_kept {
        DISK_ALL,     /* all of it */
        DISK_NONE,    /* nothing */
        DISK_LAST,    /* content: the last call alone; names: the last one alone */
        DISK_SECTORS, /* content: each sector by chance; names: each by chance */
        DISK_MIXED,   /* content: of each file, one of the above by chance; names: a prefix by chance */
        N_DISK_KEPT,
};

/** disk_new() - remember the directory as it is, all of it durable. Aborts on every failure, like all of this: it is a test. */
struct disk *disk_new(const char *directory);
struct disk *disk_free(struct disk *d);

/** disk_record() - run a command with record-calls around it, and take in what it did. @library: path of record-calls.
 *  Return: its wait status. */
int disk_record(struct disk *d, const char *library, char *const command[]);
/** disk_n_calls() - how many calls were recorded. */
size_t disk_n_calls(const struct disk *d);
/** disk_is_sync() - whether call @i, from 0, made something durable. */
bool disk_is_sync(const struct disk *d, size_t i);
/** disk_describe() - call @i as text, for reports. */
void disk_describe(const struct disk *d, size_t i, char *text, size_t room);
/** disk_compare() - whether all the calls, with nothing lost, give the directory that is there. Return: true, or false and says on
 *  stdout what differs. */
bool disk_compare(struct disk *d);

/** disk_seek() - go to the moment after the first @n calls. Forward only, unless @n is 0. */
void disk_seek(struct disk *d, size_t n);
/** disk_n_pending() - how many calls are not durable at this moment. */
size_t disk_n_pending(const struct disk *d);
/**
 * disk_draw() - draw a state of this moment
 * @seed: of everything that is by chance
 * Return: a number that tells the state from others, for counting distinct ones.
 */
uint64_t disk_draw(struct disk *d, enum disk_kept content, enum disk_kept names, uint64_t seed);
/** disk_put() - make @directory hold the state that was drawn, and nothing else. */
void disk_put(const struct disk *d, const char *directory);
