/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config-parse: one parser for each type of option. Each writes to @at, the option's place in its section's struct, and
 * returns 0, -ENOMEM, or -EINVAL with *ret_why a phrase that ends the sentence "KEY: …" and says what is allowed.
 */
#pragma once

#include "daemon/config.h"

typedef int (*config_parse_fn)(struct config *config, void *at, const char *value, const char **ret_why);

int config_parse_path(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_name(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_mode(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_capacity(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_days(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_duration(struct config *config, void *at, const char *value, const char **ret_why);
/** config_parse_idle() - a duration; 0 means never (USEC_INFINITY). */
int config_parse_idle(struct config *config, void *at, const char *value, const char **ret_why);
int config_parse_boolean(struct config *config, void *at, const char *value, const char **ret_why);
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
