/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vault-acl: Vault's ACL policies, as far as `path "…" { capabilities = ["…"] }` goes, with "*" at the end of a path and
 * "+" for one of its parts. What is not allowed is denied, and "deny" wins.
 */
#pragma once

#include "tests/mock-kms/text.h"

enum {
        ACL_CREATE = 1 << 0,
        ACL_READ = 1 << 1,
        ACL_UPDATE = 1 << 2,
        ACL_DELETE = 1 << 3,
        ACL_LIST = 1 << 4,
        ACL_SUDO = 1 << 5,
        ACL_DENY = 1 << 6,
};

/**
 * acl_parse() - the rules of a policy: { path: bits }
 * @ret_problem: Vault's sentence on failure, to release with free()
 * Return: a new reference, or NULL.
 */
json_t *acl_parse(const char *policy, char **ret_problem);
/**
 * acl_bits() - what a token may do with @path
 * @rules:    array of what acl_parse() gave
 * Return: ACL_* of the rule that fits best; 0 for none, or when it is ACL_DENY.
 */
unsigned acl_bits(const json_t *rules, const char *path);
/** acl_names() - the names of @bits, "deny" for none; a new array. */
json_t *acl_names(unsigned bits);
