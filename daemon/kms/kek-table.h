/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kek-table: the KEKs of one configuration, each with its provider, or with the sentence why it cannot be used. Counted,
 * since calls under way keep the table alive through a reload. Knows no connection.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/kms/provider.h"

struct kek_entry {
        const struct config_kek *config;
        const struct provider *provider;
        struct kek *kek; /* NULL when it could not be loaded: see why */
        enum proto_error class; /* of the failure that `why` tells; 0 = it could not be loaded, or can be used */
        struct sentence why; /* why it cannot be used; "" when the last call worked, or none was made */
        uint64_t since_wall_usec; /* when it became usable, or unusable */
        struct sentence last_error; /* of a call or of loading; stays when a later one works */
        uint64_t last_error_wall_usec; /* 0 = none */
};

struct kek_table {
        unsigned n_refs;
        struct config *config; /* owned reference */
        const struct kms_environment *environment; /* of the process */
        size_t n;
        struct kek_entry entries[];
};

/** kek_table_new() - load all KEKs of @config; one that fails is kept as unusable. Return: 0 or -ENOMEM. */
int kek_table_new(struct kek_table **ret_table, struct config *config, const struct kms_environment *environment);
struct kek_table *kek_table_ref(struct kek_table *t);
struct kek_table *kek_table_unref(struct kek_table *t);
DEFINE_CLEANUP(struct kek_table *, kek_table_unref)

/** kek_table_find() - by name, or NULL. */
struct kek_entry *kek_table_find(struct kek_table *t, struct bytes name);
/** kek_table_retry() - try once more to load an unusable KEK. Return: whether it is usable now. */
bool kek_table_retry(struct kek_table *t, struct kek_entry *entry);
/** kek_entry_note() - how a call of @entry's KEK ended: keeps its readiness, and logs when that changes. What says something about one
 *  record only (KMS_CORRUPT, KMS_NOT_MINE) says nothing about the KEK. @sentence: NULL = the error list's own. */
void kek_entry_note(struct kek_entry *entry, enum proto_error error, const char *sentence);
/** kek_table_json() - the REPORT of KMS_DESCRIBE for @only, or for all when NULL. Return: text to release with
 *  secret_free(), or NULL when out of memory. */
char *kek_table_json(const struct kek_table *t, const struct kek_entry *only);
