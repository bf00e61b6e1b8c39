/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_read() on any bytes: the main file, and after a zero byte the one drop-in. A refusal is one sentence that names a file; what is taken keeps
 * the promises of config.h, and is the same when it is read again.
 */
#include <errno.h>

#include "daemon/config.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"

static void check_rules(const struct policy_rules *rules)
{
        for (size_t i = 0; i < rules->n; i++)
                check(rules->rule[i].text && bytes_is_text(bytes_from_string(rules->rule[i].text)));
}

static void check_scope(const struct config *c, const struct config_scope *scope)
{
        check(scope->n_keks > 0 && scope->n_keks <= c->n_keks);
        for (size_t i = 0; i < scope->n_keks; i++)
                check(config_kek_find(c, bytes_from_string(scope->keks[i]->name)) == scope->keks[i]);
        for (size_t i = 1; i < scope->encryption_context.n; i++)
                check(!bytes_equal(scope->encryption_context.pair[i - 1].key, scope->encryption_context.pair[i].key));
        check(config_scope_find(c, bytes_from_string(scope->name)) == scope);
        check_rules(&scope->allow);
        check_rules(&scope->allow_rotate);
        check_rules(&scope->allow_history);
}

static void check_config(const struct config *c)
{
        check(c->socket && *c->socket == '/' && c->kms_socket && *c->kms_socket == '/' && c->audit_file && *c->audit_file == '/');
        check(c->cache_keys > 0 && c->max_connections > 0);
        check_rules(&c->admin);
        for (size_t i = 0; i < c->n_keks; i++)
                check(c->keks[i].name && strlen(c->keks[i].name) <= SCOPE_NAME_MAX && c->keks[i].kms_type < KMS_TYPE_COUNT);
        for (size_t i = 0; i < c->n_scopes; i++)
                check_scope(c, &c->scopes[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        _cleanup_(config_unrefp) struct config *config = NULL, *again = NULL;
        struct bytes input = { data, n };
        struct config_error error = { 0 };
        const char *path = scratch_write("lkmd.conf", fuzz_until(&input, '\0'));
        int r;

        scratch_folder("lkmd.conf.d");
        scratch_write("lkmd.conf.d/10.conf", input);
        r = config_read(&config, path, &error);
        check(r == 0 || r == -EINVAL);
        if (r < 0) {
                check(*error.text && bytes_is_text(bytes_from_string(error.text)));
                return 0;
        }
        check_config(config);
        check(config_read(&again, path, &error) == 0);
        check(again->n_keks == config->n_keks && again->n_scopes == config->n_scopes && again->cache_keys == config->cache_keys);
        return 0;
}
