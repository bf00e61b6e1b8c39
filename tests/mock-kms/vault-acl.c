/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/vault-acl.h"

static const struct {
        const char *name;
        unsigned bit;
} capabilities[] = {
        { "create", ACL_CREATE }, { "read", ACL_READ }, { "update", ACL_UPDATE }, { "delete", ACL_DELETE },
        { "list", ACL_LIST },     { "sudo", ACL_SUDO }, { "deny", ACL_DENY },
};

/* ---- reading the language ---- */

/** Where we are in a policy. */
struct reader {
        const char *at;
        char *problem; /* once set, nothing more is read */
};

static void fail(struct reader *r, const char *what)
{
        if (!r->problem)
                r->problem = text_format("failed to parse policy: %s near \"%.16s\"", what, r->at);
}

static void skip_blanks(struct reader *r)
{
        for (;;) {
                r->at += strspn(r->at, " \t\r\n");
                if (*r->at == '#' || text_starts(r->at, "//")) {
                        r->at += strcspn(r->at, "\n");
                } else if (text_starts(r->at, "/*")) {
                        const char *end = strstr(r->at + 2, "*/");

                        r->at = end ? end + 2 : r->at + strlen(r->at);
                } else {
                        return;
                }
        }
}

static bool take(struct reader *r, const char *token)
{
        skip_blanks(r);
        if (!text_starts(r->at, token))
                return false;
        r->at += strlen(token);
        return true;
}

static void expect(struct reader *r, const char *token)
{
        if (!r->problem && !take(r, token))
                fail(r, "unexpected text");
}

/* A text in quotes without escapes, to release with free(); NULL after a problem. */
static char *quoted(struct reader *r)
{
        const char *end;
        char *text;

        expect(r, "\"");
        end = r->problem ? NULL : strchr(r->at, '"');
        if (!end) {
                fail(r, "literal not terminated");
                return NULL;
        }
        text = text_format("%.*s", (int)(end - r->at), r->at);
        r->at = end + 1;
        return text;
}

static unsigned capability(struct reader *r, const char *path)
{
        _cleanup_(freep) char *name = quoted(r);

        for (size_t i = 0; name && i < ELEMENTSOF(capabilities); i++)
                if (strcmp(capabilities[i].name, name) == 0)
                        return capabilities[i].bit;
        if (name && !r->problem)
                r->problem = text_format("failed to parse policy: path \"%s\": path \"%s\": invalid capability \"%s\"",
                                         path, path, name);
        return 0;
}

static void parse_rule(struct reader *r, json_t *rules)
{
        _cleanup_(freep) char *path = NULL;
        unsigned bits = 0;

        expect(r, "path");
        path = quoted(r);
        expect(r, "{");
        expect(r, "capabilities");
        expect(r, "=");
        expect(r, "[");
        while (!r->problem && !take(r, "]")) {
                bits |= capability(r, path);
                take(r, ",");
        }
        expect(r, "}");
        if (!r->problem)
                json_put(rules, path, json_integer((json_int_t)bits | json_number(rules, path, 0)));
}

json_t *acl_parse(const char *policy, char **ret_problem)
{
        _cleanup_(json_decrefp) json_t *rules = json_take(json_object());
        struct reader r = { .at = policy };

        skip_blanks(&r);
        while (!r.problem && *r.at) {
                parse_rule(&r, rules);
                skip_blanks(&r);
        }
        if (r.problem) {
                *ret_problem = r.problem;
                return NULL;
        }
        return TAKE_PTR(rules);
}

/* ---- deciding ---- */

static bool matches(const char *pattern, const char *path)
{
        for (; *pattern; pattern++) {
                if (*pattern == '*' && !pattern[1])
                        return true;
                if (*pattern == '+') {
                        size_t n = strcspn(path, "/");

                        if (n == 0)
                                return false;
                        path += n;
                        continue;
                }
                if (*pattern != *path)
                        return false;
                path++;
        }
        return !*path;
}

/* The one that says more of the path before its first wildcard goes first; one without any, before all. */
static bool is_better(const char *pattern, const char *best)
{
        size_t n, n_best;

        if (!best)
                return true;
        n = strcspn(pattern, "*+");
        n_best = strcspn(best, "*+");
        if (!pattern[n] != !best[n_best])
                return !pattern[n];
        return n != n_best ? n > n_best : strlen(pattern) > strlen(best);
}

unsigned acl_bits(const json_t *rules, const char *path)
{
        const char *best = NULL, *pattern;
        unsigned bits = 0;
        json_t *policy, *value;
        size_t i;

        json_array_foreach(rules, i, policy)
        {
                json_object_foreach(policy, pattern, value)
                {
                        if (!matches(pattern, path))
                                continue;
                        if (best && strcmp(pattern, best) == 0)
                                bits |= (unsigned)json_integer_value(value);
                        else if (is_better(pattern, best)) {
                                best = pattern;
                                bits = (unsigned)json_integer_value(value);
                        }
                }
        }
        return bits & ACL_DENY ? 0 : bits;
}

json_t *acl_names(unsigned bits)
{
        json_t *names = json_take(json_array());

        for (size_t i = 0; i < ELEMENTSOF(capabilities); i++)
                if (bits & capabilities[i].bit)
                        json_array_append_new(names, json_take(json_string(capabilities[i].name)));
        if (bits == 0)
                json_array_append_new(names, json_take(json_string("deny")));
        return names;
}
