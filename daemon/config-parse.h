/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config-parse: one parser for each type of option. Each writes to @at, the option's place in its section's struct, and
 * returns 0, -ENOMEM, or -EINVAL with *ret_why a phrase that ends the sentence "KEY: …" and says what is allowed.
 */
#pragma once

#include "daemon/config.h"

/** config_refuse() - set *@ret_why to @why. Return: -EINVAL. config_set_string() - a copy of @value. Return: 0 or -ENOMEM.
 *  config_parse_range() - a decimal number. Return: 0 or -EINVAL. */
int config_refuse(const char **ret_why, const char *why);
int config_set_string(char **at, const char *value);
int config_parse_range(unsigned *at, const char *value, uint64_t low, uint64_t high);

typedef int (*config_parse_fn)(struct config *config, void *at, const char *value, const char **ret_why);

int config_parse_path(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_name(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_mode(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_capacity(struct config *config, void *at, const char *value, const char **ret_why);
/** config_parse_limit() - as a capacity, or 0 for none. */
int config_parse_limit(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_days(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_duration(struct config *config, void *at, const char *value, const char **ret_why);
/** config_parse_idle() - a duration; 0 means never (USEC_INFINITY). */
int config_parse_idle(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_boolean(struct config *config, void *at, const char *value, const char **ret_why);
/* Bytes, with K, M or G; 0 = without limit. */
int config_parse_size(struct config *config, void *at, const char *value, const char **ret_why);
/* Bytes for buffers: those of two frames at least, so that one gets through. */
int config_parse_buffer(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_audit_sync(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_log_level(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_rules(struct config *config, void *at, const char *value, const char **ret_why);
/** config_parse_keks() - @at: struct config_scope. Every KEK has to be defined. */
int config_parse_keks(struct config *config, void *at, const char *value, const char **ret_why);
/** config_parse_context() - @at: struct config_scope. */
int config_parse_context(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_dek_spec(struct config *config, void *at, const char *value, const char **ret_why);

/** config_name_is_valid() - [A-Za-z0-9._-], 1 to 64, not beginning with '.' or '-'. */
bool config_name_is_valid(const char *name);
void config_rules_deinit(struct policy_rules *rules);

/* config-kek.c: of [kek NAME]. */

/** config_parse_file() - an absolute path, or credential:NAME for a file that the service manager passes. */
int config_parse_file(struct config *config, void *at, const char *value, const char **ret_why);
/** config_parse_text() - printable ASCII without white space, at most 2048 bytes. config_parse_words() - with single spaces between. */
int config_parse_text(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_words(struct config *config, void *at, const char *value, const char **ret_why);
/** config_parse_url() - https://HOST[:PORT][/PATH]; http:// only to this machine. */
int config_parse_url(struct config *config, void *at, const char *value, const char **ret_why);
/** config_parse_proxy() - http://HOST:PORT or https://HOST:PORT. */
int config_parse_proxy(struct config *config, void *at, const char *value, const char **ret_why);
/** config_parse_mount() - a path inside Vault: names with '/' between. */
int config_parse_mount(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_kms_type(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_vault_auth(struct config *config, void *at, const char *value, const char **ret_why);
/** config_kek_check() - whether all is there that @kek's type needs. Return: 0, or -EINVAL with *@ret_why a phrase that follows the
 *  section's name. */
int config_kek_check(const struct config_kek *kek, const char **ret_why);
