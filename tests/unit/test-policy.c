/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/policy.h"
#include "tests/unit/suite.h"

enum { USER = 100, ROTATOR = 200, HISTORIAN = 300, ADMIN = 400, RESCUER = 500, ROOT = 0 };

static char texts[][16] = { "uid:100", "uid:200", "gid:300", "uid:400", "uid:500" };
static struct policy_rule user = { POLICY_RULE_USER, USER, texts[0] }, rotator = { POLICY_RULE_USER, ROTATOR, texts[1] },
                          historian = { POLICY_RULE_GROUP, HISTORIAN, texts[2] }, admin = { POLICY_RULE_USER, ADMIN, texts[3] },
                          rescuer = { POLICY_RULE_USER, RESCUER, texts[4] };
static struct config_scope scope = { .allow = { 1, &user }, .allow_rotate = { 1, &rotator }, .allow_history = { 1, &historian }, .allow_recover = { 1, &rescuer } };
static struct config config = { .admin = { 1, &admin } };

static bool may(uint32_t uid, uint32_t gid, enum policy_right right, const char *wanted_rule)
{
        struct peer peer = { .uid = uid, .gid = gid };
        const char *rule = NULL;
        bool allowed = policy_decide(&config, right == POLICY_RIGHT_ADMIN ? NULL : &scope, &peer, right, &rule);

        ck_assert_str_eq(rule, allowed ? wanted_rule : "no rule");
        return allowed;
}

/* Each right has its own list, and being on one says nothing about the others. Root is nobody in particular. */
START_TEST(each_right_is_decided_by_its_own_rules)
{
        static const struct {
                enum policy_right right;
                uint32_t holder;
                const char *rule;
        } rights[] = { { POLICY_RIGHT_USE, USER, texts[0] },           { POLICY_RIGHT_CREATE, USER, texts[0] },
                       { POLICY_RIGHT_ROTATE, ROTATOR, texts[1] },     { POLICY_RIGHT_HISTORY, HISTORIAN, texts[2] },
                       { POLICY_RIGHT_RECOVER, RESCUER, texts[4] },    { POLICY_RIGHT_ADMIN, ADMIN, texts[3] } };
        static const uint32_t everybody[] = { USER, ROTATOR, HISTORIAN, ADMIN, RESCUER, ROOT };

        for (size_t i = 0; i < ELEMENTSOF(rights); i++) {
                for (size_t j = 0; j < ELEMENTSOF(everybody); j++) {
                        bool holds = rights[i].holder == everybody[j];

                        /* As a uid, and as a gid of somebody else. */
                        ck_assert_int_eq(may(everybody[j], 1, rights[i].right, rights[i].rule), holds && everybody[j] != HISTORIAN);
                        ck_assert_int_eq(may(1, everybody[j], rights[i].right, rights[i].rule), holds && everybody[j] == HISTORIAN);
                }
        }
}
END_TEST

START_TEST(a_supplementary_group_counts_and_one_rule_is_enough)
{
        static uint32_t groups[] = { 5, HISTORIAN };
        struct policy_rule both[] = { { POLICY_RULE_USER, 7, texts[0] }, { POLICY_RULE_GROUP, HISTORIAN, texts[2] } };
        struct config_scope two = { .allow_history = { 2, both } };
        struct peer member = { .uid = 1, .gid = 1, .n_groups = 2, .groups = groups };
        const char *rule;

        ck_assert(policy_decide(&config, &two, &member, POLICY_RIGHT_HISTORY, &rule));
        ck_assert_str_eq(rule, texts[2]);
        member.n_groups = 1;
        ck_assert(!policy_decide(&config, &two, &member, POLICY_RIGHT_HISTORY, NULL));
}
END_TEST

/* The whole name, and of a process whose unit is known. */
START_TEST(a_unit_is_matched_exactly)
{
        static char clinic[] = "unit:clinic.service", north[] = "unit:clinic@north.service";
        static const struct {
                const char *unit, *rule;
        } cases[] = { { "clinic.service", clinic },
                      { "clinic@north.service", north },
                      { "clinic@south.service", NULL },
                      { "clinic@.service", NULL },
                      { "clinic.servic", NULL },
                      { "clinic.service2", NULL },
                      { "Clinic.service", NULL },
                      { "", NULL },
                      { NULL, NULL } };
        struct policy_rule units[] = { { POLICY_RULE_UNIT, 0, clinic }, { POLICY_RULE_UNIT, 0, north } };
        struct config_scope open = { .allow = { 2, units } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(freep) char *unit = cases[i].unit ? strdup(cases[i].unit) : NULL;
                struct peer peer = { .unit = unit };
                const char *rule = NULL;

                ck_assert_int_eq(policy_decide(&config, &open, &peer, POLICY_RIGHT_USE, &rule), cases[i].rule != NULL);
                ck_assert_str_eq(rule, cases[i].rule ? cases[i].rule : "no rule");
        }
}
END_TEST

START_TEST(without_rules_nobody_has_any_right)
{
        struct config_scope empty = { 0 };
        struct config none = { 0 };
        struct peer root = { 0 };

        for (unsigned right = POLICY_RIGHT_USE; right <= POLICY_RIGHT_ADMIN; right++)
                ck_assert(!policy_decide(&none, right == POLICY_RIGHT_ADMIN ? NULL : &empty, &root, right, NULL));
}
END_TEST

START_TEST(names_of_rights_are_those_of_the_protocol)
{
        static const char *const names[] = { "use", "create", "rotate", "history", "recover", "admin" };

        for (unsigned right = POLICY_RIGHT_USE; right <= POLICY_RIGHT_ADMIN; right++)
                ck_assert_str_eq(policy_right_name(right), names[right]);
}
END_TEST

static void nothing(void)
{
}

int main(void)
{
        const struct promise all[] = { { each_right_is_decided_by_its_own_rules },
                                       { a_supplementary_group_counts_and_one_rule_is_enough },
                                       { a_unit_is_matched_exactly },
                                       { without_rules_nobody_has_any_right },
                                       { names_of_rights_are_those_of_the_protocol } };

        return suite_run("policy", nothing, nothing, all, ELEMENTSOF(all));
}
