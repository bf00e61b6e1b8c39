/* SPDX-License-Identifier: Apache-2.0 */
/*
 * local-kek: the KEK file of the local provider, read and written. Owns the KEK's versions as secrets; knows nothing of
 * wraps, nor of the configuration.
 *
 * The file: mode 0600, owned by root or by whoever runs. First line "lkm-local-kek 1 UUID", then one line for each
 * version, "NUMBER HEX64", numbers ascending from 1 or more; the highest wraps, all unwrap.
 */
#pragma once

#include "common/secret.h"
#include "daemon/kms/provider.h"

/* Version numbers and so versions of one KEK; the file then fits one large slot of the arena. */
#define LOCAL_KEK_VERSION_MAX 100
#define LOCAL_KEK_ID_PREFIX "local:"

struct local_kek_version {
        uint32_t number;
        struct secret *key;
};

struct local_kek {
        char id[sizeof(LOCAL_KEK_ID_PREFIX) + UUID_TEXT_LENGTH];
        char *path;
        size_t n_versions;
        struct local_kek_version versions[LOCAL_KEK_VERSION_MAX];
};

enum local_kek_source {
        LOCAL_KEK_FILE, /* mode 0600 or less, owned by root or the caller */
        LOCAL_KEK_CREDENTIAL, /* of systemd: group may read, for systemd shows its ACL mask there */
        LOCAL_KEK_TOOL, /* as FILE, but any owner: a person named the file on a command line */
};

/** local_kek_read() - Return: 0; -EACCES (permissions), -EINVAL (content) or -errno, with *ret_why filled. */
int local_kek_read(struct local_kek **ret_kek, const char *path, enum local_kek_source source,
                   struct sentence *ret_why);
struct local_kek *local_kek_free(struct local_kek *kek);
DEFINE_CLEANUP(struct local_kek *, local_kek_free)

/** local_kek_version_find() - or NULL. local_kek_newest() - the one that wraps. */
const struct local_kek_version *local_kek_version_find(const struct local_kek *kek, uint32_t number);
const struct local_kek_version *local_kek_newest(const struct local_kek *kek);

/** local_kek_generate() - a new KEK file with version 1; never overwrites. Return: 0, or -errno with *ret_why filled. */
int local_kek_generate(const char *path, struct sentence *ret_why);
/** local_kek_add_version() - add a random version to an existing file, atomically, owner kept.
 *  Return: 0 with the new number, or -errno with *ret_why filled. */
int local_kek_add_version(const char *path, uint32_t *ret_number, struct sentence *ret_why);
