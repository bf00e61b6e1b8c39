/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config-parse.h"

#include <ctype.h>
#include <errno.h>

#include "common/clock.h"
#include "daemon/names.h"
#include "daemon/peer.h"
#include "daemon/unit.h"

enum { RULES_MAX = 64, SCOPE_KEKS_MAX = 8, USER_PAIRS_MAX = 8 };

int config_refuse(const char **ret_why, const char *why)
{
        *ret_why = why;
        return -EINVAL;
}

/* Digits only, no sign, no white space. Return: 0 or -EINVAL. */
static int parse_u64(uint64_t *ret_n, const char *text, const char **ret_end)
{
        char *end;

        if (!isdigit((unsigned char)*text))
                return -EINVAL;
        errno = 0;
        *ret_n = strtoull(text, &end, 10);
        *ret_end = end;
        return errno ? -EINVAL : 0;
}

int config_parse_range(unsigned *at, const char *value, uint64_t low, uint64_t high)
{
        const char *end;
        uint64_t n;

        if (parse_u64(&n, value, &end) < 0 || *end || n < low || n > high)
                return -EINVAL;
        *at = (unsigned)n;
        return 0;
}

bool config_name_is_valid(const char *name)
{
        size_t n = strlen(name);

        return n >= 1 && n <= SCOPE_NAME_MAX && *name != '.' && *name != '-' &&
               strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

int config_set_string(char **at, const char *value)
{
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        free(*at);
        *at = copy;
        return 0;
}

int config_parse_path(struct config *config, void *at, const char *value, const char **ret_why)
{
        if (*value != '/')
                return config_refuse(ret_why, "give an absolute path");
        return config_set_string(at, value);
}

int config_parse_name(struct config *config, void *at, const char *value, const char **ret_why)
{
        if (!config_name_is_valid(value))
                return config_refuse(ret_why, "give a name of letters, digits, '.', '_' and '-', at most 64");
        return config_set_string(at, value);
}

int config_parse_mode(struct config *config, void *at, const char *value, const char **ret_why)
{
        size_t n = strlen(value);

        if (n < 3 || n > 4 || strspn(value, "01234567") != n || (n == 4 && *value != '0'))
                return config_refuse(ret_why, "give permissions in octal, such as 0660");
        *(unsigned *)at = (unsigned)strtoul(value, NULL, 8);
        return 0;
}

int config_parse_capacity(struct config *config, void *at, const char *value, const char **ret_why)
{
        if (config_parse_range(at, value, 1, 1000000) < 0)
                return config_refuse(ret_why, "give a number from 1 to 1000000");
        return 0;
}

int config_parse_limit(struct config *config, void *at, const char *value, const char **ret_why)
{
        if (config_parse_range(at, value, 0, 1000000) < 0)
                return config_refuse(ret_why, "give a number from 0 to 1000000; 0 is no limit");
        return 0;
}

int config_parse_days(struct config *config, void *at, const char *value, const char **ret_why)
{
        if (config_parse_range(at, value, 1, 36500) < 0)
                return config_refuse(ret_why, "give a number of days from 1 to 36500");
        return 0;
}

int config_parse_duration(struct config *config, void *at, const char *value, const char **ret_why)
{
        static const struct {
                const char *unit;
                uint64_t usec;
        } units[] = { { "us", 1 },
                      { "ms", USEC_PER_MSEC },
                      { "s", USEC_PER_SEC },
                      { "min", 60 * USEC_PER_SEC },
                      { "h", 3600 * USEC_PER_SEC },
                      { "d", 86400 * USEC_PER_SEC } };
        const char *unit;
        uint64_t n;

        if (parse_u64(&n, value, &unit) < 0)
                return config_refuse(ret_why, "give a duration, such as 500ms, 90s, 15min, 24h or 7d");
        unit += strspn(unit, " ");
        for (size_t i = 0; i < ELEMENTSOF(units); i++) {
                if (strcmp(unit, units[i].unit) != 0)
                        continue;
                if (n > UINT64_C(36500) * 86400 * USEC_PER_SEC / units[i].usec)
                        return config_refuse(ret_why, "give a duration of at most 36500d");
                *(uint64_t *)at = n * units[i].usec;
                return 0;
        }
        if (n == 0 && !*unit) {
                *(uint64_t *)at = 0;
                return 0;
        }
        return config_refuse(ret_why, "give a duration with its unit: us, ms, s, min, h or d");
}

int config_parse_idle(struct config *config, void *at, const char *value, const char **ret_why)
{
        int r = config_parse_duration(config, at, value, ret_why);

        if (r == 0 && *(uint64_t *)at == 0)
                *(uint64_t *)at = USEC_INFINITY;
        return r;
}

int config_parse_boolean(struct config *config, void *at, const char *value, const char **ret_why)
{
        bool yes = strcmp(value, "yes") == 0 || strcmp(value, "true") == 0 || strcmp(value, "on") == 0;
        bool no = strcmp(value, "no") == 0 || strcmp(value, "false") == 0 || strcmp(value, "off") == 0;

        if (!yes && !no)
                return config_refuse(ret_why, "give yes or no");
        *(bool *)at = yes;
        return 0;
}

int config_parse_size(struct config *config, void *at, const char *value, const char **ret_why)
{
        static const struct {
                const char *unit;
                uint64_t bytes;
        } units[] = { { "", 1 }, { "K", 1024 }, { "M", 1024 * 1024 }, { "G", 1024 * 1024 * 1024 } };
        const char *unit;
        uint64_t n;

        if (parse_u64(&n, value, &unit) == 0) {
                for (size_t i = 0; i < ELEMENTSOF(units); i++) {
                        if (strcmp(unit, units[i].unit) != 0 || n > (UINT64_C(1) << 50) / units[i].bytes)
                                continue;
                        *(uint64_t *)at = n * units[i].bytes;
                        return 0;
                }
        }
        return config_refuse(ret_why, "give a number of bytes, such as 65536, 512K, 64M or 2G; 0 is without limit");
}

int config_parse_buffer(struct config *config, void *at, const char *value, const char **ret_why)
{
        int r = config_parse_size(config, at, value, ret_why);

        return r == 0 && *(uint64_t *)at < 2 * FRAME_MAX ? config_refuse(ret_why, "give at least 144K, two of the longest requests") : r;
}

int config_parse_audit_sync(struct config *config, void *at, const char *value, const char **ret_why)
{
        bool always = strcmp(value, "always") == 0;

        if (!always && strcmp(value, "batch") != 0)
                return config_refuse(ret_why, "give always or batch");
        *(enum audit_sync_mode *)at = always ? AUDIT_SYNC_ALWAYS : AUDIT_SYNC_BATCH;
        return 0;
}

int config_parse_log_level(struct config *config, void *at, const char *value, const char **ret_why)
{
        if (log_level_parse(at, value) < 0)
                return config_refuse(ret_why, "give error, warning, notice, info or debug");
        return 0;
}

int config_parse_dek_spec(struct config *config, void *at, const char *value, const char **ret_why)
{
        return strcmp(value, "AES_256") == 0 ? 0 : config_refuse(ret_why, "AES_256 is the only one");
}

/* The next word of a list separated by spaces; @text moves past it. Heap, or NULL at the end or out of memory. */
static char *next_word(const char **text)
{
        const char *start = *text + strspn(*text, " \t");
        size_t n = strcspn(start, " \t");

        *text = start + n;
        return n > 0 ? strndup(start, n) : NULL;
}

/* ---- rules ---- */

void config_rules_deinit(struct policy_rules *rules)
{
        for (size_t i = 0; i < rules->n; i++)
                free(rules->rule[i].text);
        free(rules->rule);
        *rules = (struct policy_rules){ 0 };
}

static int rule_resolve_number(struct policy_rule *rule, const char *text)
{
        const char *end;
        uint64_t n;

        if (parse_u64(&n, text, &end) < 0 || *end || n >= UINT32_MAX)
                return -EINVAL;
        rule->id = (uint32_t)n;
        return 0;
}

static int rule_resolve_name(struct config *config, struct policy_rule *rule, enum names_kind kind, const char *name, const char **ret_why)
{
        int r = names_find(config->names, kind, name, &rule->id);

        if (r == NAMES_E_UNKNOWN)
                return config_refuse(ret_why, kind == NAMES_USER ? "no such user on this machine" : "no such group on this machine");
        if (r == NAMES_E_SEALED)
                return config_refuse(ret_why, "the sandbox keeps lkmd from looking up a name that is new to it; restart lkmd, or give the number with "
                                              "uid: or gid:");
        return r;
}

static int rule_parse_unit(struct policy_rule *rule, const char *name, const char **ret_why)
{
        const char *wrong = unit_name_check(name);

        rule->kind = POLICY_RULE_UNIT;
        if (wrong)
                return config_refuse(ret_why, wrong);
        switch (peer_probe()) {
        case 0:
                return 0;
        case PEER_E_KERNEL:
                return config_refuse(ret_why, "this kernel does not tell the unit of a client (SO_PEERPIDFD): Linux 6.5 or later is needed; "
                                              "use user:, uid:, group: or gid: instead");
        default:
                return config_refuse(ret_why, "the unit of a client is read from /proc, which cannot be used here; mount it for this process");
        }
}

static int rule_parse(struct config *config, struct policy_rule *rule, const char *word, const char **ret_why)
{
        const char *name = strchr(word, ':');
        size_t n = name ? (size_t)(name - word) : 0;

        name = name ? name + 1 : "";
        rule->kind = *word == 'g' ? POLICY_RULE_GROUP : POLICY_RULE_USER;
        if (n == 3 && (strncmp(word, "uid", n) == 0 || strncmp(word, "gid", n) == 0))
                return rule_resolve_number(rule, name) < 0 ? config_refuse(ret_why, "uid: and gid: take a number") : 0;
        if (n == 4 && strncmp(word, "user", n) == 0)
                return rule_resolve_name(config, rule, NAMES_USER, name, ret_why);
        if (n == 5 && strncmp(word, "group", n) == 0)
                return rule_resolve_name(config, rule, NAMES_GROUP, name, ret_why);
        if (strncmp(word, POLICY_RULE_UNIT_PREFIX, n + 1) == 0 && n + 1 == strlen(POLICY_RULE_UNIT_PREFIX))
                return rule_parse_unit(rule, name, ret_why);
        return config_refuse(ret_why, "give a list of user:NAME, uid:NUMBER, group:NAME, gid:NUMBER and unit:NAME, separated by spaces");
}

int config_parse_rules(struct config *config, void *at, const char *value, const char **ret_why)
{
        struct policy_rules *rules = at;
        char *word;
        int r = 0;

        config_rules_deinit(rules);
        rules->rule = calloc(RULES_MAX, sizeof(*rules->rule));
        if (!rules->rule)
                return -ENOMEM;
        while (r == 0 && (word = next_word(&value))) {
                if (rules->n == RULES_MAX) {
                        free(word);
                        return config_refuse(ret_why, "at most 64 rules fit; use a group");
                }
                r = rule_parse(config, &rules->rule[rules->n], word, ret_why);
                rules->rule[rules->n++].text = word;
        }
        return r;
}

/* ---- scopes ---- */

int config_parse_keks(struct config *config, void *at, const char *value, const char **ret_why)
{
        struct config_scope *scope = at;
        const char *rest = value;

        scope->n_keks = 0;
        free(scope->keks);
        scope->keks = calloc(SCOPE_KEKS_MAX, sizeof(*scope->keks));
        if (!scope->keks)
                return -ENOMEM;
        for (;;) {
                size_t n = strcspn(rest += strspn(rest, " \t,"), " \t,");

                if (n == 0)
                        break;
                if (scope->n_keks == SCOPE_KEKS_MAX)
                        return config_refuse(ret_why, "at most 8 KEKs fit");
                scope->keks[scope->n_keks] = config_kek_find(config, (struct bytes){ (const uint8_t *)rest, n });
                if (!scope->keks[scope->n_keks])
                        return config_refuse(ret_why, "no [kek NAME] section of that name; define it, or correct the name");
                scope->n_keks++;
                rest += n;
        }
        return scope->n_keks > 0 ? 0 : config_refuse(ret_why, "name at least one [kek NAME]");
}

static int context_add(struct config_scope *scope, char *word, const char **ret_why)
{
        struct pairs *pairs = &scope->encryption_context;
        char *equals = strchr(word, '=');
        struct bytes key, value;

        if (!equals || equals == word)
                return config_refuse(ret_why, "give pairs KEY=VALUE, separated by spaces");
        key = (struct bytes){ (const uint8_t *)word, (size_t)(equals - word) };
        value = bytes_from_string(equals + 1);
        if (strncmp(word, "lkm:", 4) == 0 || strncmp(word, "aws:", 4) == 0)
                return config_refuse(ret_why, "keys that begin with lkm: or aws: are reserved");
        if (pairs->n == USER_PAIRS_MAX || key.n > PAIR_KEY_MAX || value.n > PAIR_VALUE_MAX || !bytes_is_text(key) ||
            !bytes_is_text(value))
                return config_refuse(ret_why, "at most 8 pairs, keys of 128 bytes and values of 384, in UTF-8");
        pairs->pair[pairs->n].key = key;
        pairs->pair[pairs->n++].value = value;
        return 0;
}

int config_parse_context(struct config *config, void *at, const char *value, const char **ret_why)
{
        struct config_scope *scope = at;
        char *word;
        int r = config_set_string(&scope->context_text, value);

        scope->encryption_context.n = 0;
        /* The pairs borrow from context_text: words are cut out of it in place. */
        for (char *rest = scope->context_text; r == 0;) {
                word = rest + strspn(rest, " \t");
                rest = word + strcspn(word, " \t");
                if (rest == word)
                        break;
                if (*rest)
                        *rest++ = '\0';
                r = context_add(scope, word, ret_why);
        }
        if (r == 0 && pairs_sort(&scope->encryption_context) < 0)
                return config_refuse(ret_why, "a key is given twice");
        return r;
}
