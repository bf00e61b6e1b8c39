/* SPDX-License-Identifier: Apache-2.0 */
/*
 * names: users and groups by name, for the rules of the configuration. At the start the name services of the machine are asked (files, LDAP, …,
 * as nsswitch.conf(5) says). They load libraries and make connections, which the sandbox ends: from names_seal() on a name is looked up in
 * the files of users and groups, and among what was found before. Must not know of rules.
 */
#pragma once

#include <stdint.h>

#include "common/cleanup.h"

struct names;

enum names_kind { NAMES_USER, NAMES_GROUP };

/** Named outcomes of names_find(). */
enum {
        NAMES_E_UNKNOWN = 1, /* there is no such name */
        NAMES_E_SEALED,      /* it is in no file and was not asked for before names_seal(): perhaps the name services have it, perhaps not */
};

/** names_new() - @passwd, @group: paths in the formats of passwd(5) and group(5), for after names_seal(). Return: 0 or -ENOMEM. */
int names_new(struct names **ret_names, const char *passwd, const char *group);
struct names *names_free(struct names *n);
DEFINE_CLEANUP(struct names *, names_free)

/**
 * names_find() - the number of a user or a group
 * @n:      NULL: ask the name services, and remember nothing
 * @ret_id: untouched unless 0 is returned
 *
 * Return: 0, NAMES_E_*, or -ENOMEM.
 */
int names_find(struct names *n, enum names_kind kind, const char *name, uint32_t *ret_id);
/** names_seal() - the name services are not asked any more. Notes which of the names found so far the files have, so that one that is removed from
 *  its file later is not found among the old ones. */
void names_seal(struct names *n);
