/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret: the locked arena and the byte strings that live in it.
 *
 * One arena per process, created first thing in main() (or on the first lkm_connect() of an application), of fixed
 * size, locked, guarded, never dumped, never inherited by a fork. A `struct secret` is a counted reference to one slot
 * of it. Bytes are reached only between secret_view_begin() and secret_view_end(); the files that may do so are listed
 * in tests/lint/secret-views. There is no function that copies, prints or compares a secret into ordinary memory.
 * Knows nothing of keys, records or sockets. Making, referencing and releasing secrets is thread safe, and so is the
 * arena; the bytes and the size of one secret are for one thread at a time. In a child of fork(2) the arena is absent:
 * the child may release what it inherited and make an arena of its own, but a view there faults.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/cleanup.h"

/** Largest secret that fits a small slot, in bytes: keys live here. */
#define SECRET_SMALL_MAX 48
/** Largest secret that fits a large slot, in bytes: frames that may carry a key live here. */
#define SECRET_LARGE_MAX 8192
/** Largest secret at all, in bytes, for which there may be body slots: answers of a KMS lie here. */
#define SECRET_BODY_MAX 32768

struct secret;

/** Where the arena's memory comes from, for `lkmctl status` and the log. */
enum secret_backing {
        SECRET_BACKING_NONE,
        SECRET_BACKING_MEMFD_SECRET,
        SECRET_BACKING_MLOCK,
};

/**
 * secret_arena_init() - create this process's arena
 * @n_small:   number of small slots
 * @n_large:   number of large slots
 * @n_body:    number of body slots, 0 for none
 * @ret_error: on failure a sentence that names the limit to raise and to what; static storage, never NULL then.
 *             May be NULL.
 *
 * Locks and populates every page before it returns, so that a later use cannot fail.
 *
 * Return: 0; -EALREADY when the arena exists; -EINVAL for no small or large slot, or a size that overflows; else the -errno of the
 *         call that failed (-EPERM, -ENOMEM, -EAGAIN when it could not be locked); -EADV when it could not be kept out of core dumps and children.
 */
int secret_arena_init(size_t n_small, size_t n_large, size_t n_body, const char **ret_error);

/** secret_arena_deinit() - wipe and unmap the arena; every secret must have been released. */
void secret_arena_deinit(void);

enum secret_backing secret_arena_backing(void);
/** secret_arena_forked() - whether this is a fork(2)ed child of the process that made the arena: it has no secrets. */
bool secret_arena_forked(void);
/** secret_arena_usage() - slots in use and in all; any pointer may be NULL. */
void secret_arena_usage(size_t *ret_small_used, size_t *ret_small, size_t *ret_large_used, size_t *ret_large);
/** secret_arena_contains() - whether @address lies inside the arena's usable pages. For tests and asserts. */
bool secret_arena_contains(const void *address);

/**
 * secret_new() - a zero-filled secret of @n bytes, reference count 1
 *
 * Return: 0; -EINVAL when n is 0 or over SECRET_BODY_MAX; -ENOBUFS when no slot of that class is free.
 */
int secret_new(struct secret **ret_secret, size_t n);
/** secret_new_random() - secret_new() filled by getrandom(2). Return: as secret_new(), or its -errno. */
int secret_new_random(struct secret **ret_secret, size_t n);

struct secret *secret_ref(struct secret *s);
/** secret_unref() - drop a reference; the last one wipes the slot and checks its canaries (abort on damage). NULL is
 *  allowed. Return: NULL. */
struct secret *secret_unref(struct secret *s);
DEFINE_CLEANUP(struct secret *, secret_unref)

/** secret_size() - length in bytes as given to secret_new() or secret_resize(). */
size_t secret_size(const struct secret *s);
/** secret_resize() - to @n bytes, at least 1 and at most the maximum of its class of slots (SECRET_SMALL_MAX for a secret that was made no
 *  larger). The bytes stay where they are; what is cut off is wiped, what is added is zero. */
void secret_resize(struct secret *s, size_t n);
/** secret_equal() - constant time for equal lengths. */
bool secret_equal(const struct secret *a, const struct secret *b);

/**
 * secret_view_begin() - borrow the bytes of @s until secret_view_end()
 * Return: the bytes, secret_size() of them, writable. Never NULL.
 */
uint8_t *secret_view_begin(struct secret *s);
/** secret_view_end() - give the view back; sets *@view to NULL. */
void secret_view_end(struct secret *s, uint8_t **view);

/** secret_wipe() - clear @n bytes so that no compiler drops it (explicit_bzero). */
void secret_wipe(void *p, size_t n);
/** secret_wipe_stack() - clear the dead stack below the caller (16 KiB): call after crypto and parsing of secrets. */
void secret_wipe_stack(void);

/**
 * Zeroing allocators, for libraries that we do not control: pass them to CRYPTO_set_mem_functions() (wrapped),
 * curl_global_init_mem() and json_set_alloc_funcs(). free and realloc wipe the old block in whole. Thread safe.
 */
void *secret_malloc(size_t n);
void *secret_calloc(size_t n, size_t size);
void *secret_realloc(void *p, size_t n);
char *secret_strdup(const char *s);
void secret_free(void *p);
