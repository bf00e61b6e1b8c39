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
        const struct provider *provider; /* NULL when kms_type is not known */
        struct kek *kek; /* NULL when it cannot be used: see why */
        struct sentence why;
        uint64_t since_wall_usec; /* when it became usable, or unusable */
};

struct kek_table {
        unsigned n_refs;
        struct config *config; /* owned reference */
        struct event_base *base;
        size_t n;
        struct kek_entry entries[];
};

/** kek_table_new() - load all KEKs of @config; one that fails is kept as unusable. Return: 0 or -ENOMEM. */
int kek_table_new(struct kek_table **ret_table, struct config *config, struct event_base *base);
struct kek_table *kek_table_ref(struct kek_table *t);
struct kek_table *kek_table_unref(struct kek_table *t);
DEFINE_CLEANUP(struct kek_table *, kek_table_unref)

/** kek_table_find() - by name, or NULL. */
struct kek_entry *kek_table_find(struct kek_table *t, struct bytes name);
/** kek_table_retry() - try once more to load an unusable KEK. Return: whether it is usable now. */
bool kek_table_retry(struct kek_table *t, struct kek_entry *entry);
/** kek_table_json() - the REPORT of KMS_DESCRIBE for @only, or for all when NULL. Return: text to release with
 *  secret_free(), or NULL when out of memory. */
char *kek_table_json(const struct kek_table *t, const struct kek_entry *only);
