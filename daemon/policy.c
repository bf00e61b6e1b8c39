/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/policy.h"

#include <string.h>

static bool peer_is_in_group(const struct peer *peer, uint32_t gid)
{
        for (size_t i = 0; i < peer->n_groups; i++) {
                if (peer->groups[i] == gid)
                        return true;
        }
        return peer->gid == gid;
}

static bool rule_matches(const struct policy_rule *rule, const struct peer *peer)
{
        switch (rule->kind) {
        case POLICY_RULE_USER:
                return rule->id == peer->uid;
        case POLICY_RULE_GROUP:
                return peer_is_in_group(peer, rule->id);
        case POLICY_RULE_UNIT:
                return peer->unit && strcmp(rule->text + strlen(POLICY_RULE_UNIT_PREFIX), peer->unit) == 0;
        }
        return false;
}

static const struct policy_rules *policy_rules(const struct config *config, const struct config_scope *scope, enum policy_right right)
{
        switch (right) {
        case POLICY_RIGHT_ADMIN:
                return &config->admin;
        case POLICY_RIGHT_ROTATE:
                return &scope->allow_rotate;
        case POLICY_RIGHT_HISTORY:
                return &scope->allow_history;
        case POLICY_RIGHT_RECOVER:
                return &scope->allow_recover;
        case POLICY_RIGHT_USE:
        case POLICY_RIGHT_CREATE:
                break;
        }
        return &scope->allow;
}

bool policy_decide(const struct config *config, const struct config_scope *scope, const struct peer *peer,
                   enum policy_right right, const char **ret_rule)
{
        const struct policy_rules *rules = policy_rules(config, scope, right);
        const char *decided = "no rule";
        bool allowed = false;

        for (size_t i = 0; i < rules->n && !allowed; i++) {
                allowed = rule_matches(&rules->rule[i], peer);
                if (allowed)
                        decided = rules->rule[i].text;
        }
        if (ret_rule)
                *ret_rule = decided;
        return allowed;
}

const char *policy_right_name(enum policy_right right)
{
        static const char *const names[] = { [POLICY_RIGHT_USE] = "use", [POLICY_RIGHT_CREATE] = "create",
                                             [POLICY_RIGHT_ROTATE] = "rotate", [POLICY_RIGHT_HISTORY] = "history",
                                             [POLICY_RIGHT_RECOVER] = "recover", [POLICY_RIGHT_ADMIN] = "admin" };

        return names[right];
}
