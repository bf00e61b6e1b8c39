/* SPDX-License-Identifier: Apache-2.0 */
/* confinement: what lkmd has to do with its sandbox: what it needs from outside, when it goes in, and what can no longer be changed then. */
#include <assert.h>
#include <errno.h>
#include <jansson.h>

#include "common/log.h"
#include "daemon/lkmd.h"

#define PASSWD_FILE "/etc/passwd"
#define GROUP_FILE "/etc/group"

/* Return: 0, or -EINVAL with *@ret_error filled. */
static int reload_check(const struct lkmd *d, const struct config *config, struct config_error *ret_error)
{
        if (strcmp(config->audit_file, d->config->audit_file) == 0)
                return 0;
        snprintf(ret_error->text, sizeof(ret_error->text),
                 "%s: audit_file in [lkmd] is now %.200s; lkmd was started with %.200s and is confined to the folder of that: restart lkmd to change it",
                 d->config_path, config->audit_file, d->config->audit_file);
        return -EINVAL;
}

int lkmd_read_config(struct lkmd *d, struct config **ret_config, struct config_error *ret_error)
{
        _cleanup_(config_unrefp) struct config *config = NULL;
        int r = d->names ? 0 : names_new(&d->names, PASSWD_FILE, GROUP_FILE);
        size_t n;

        if (r == 0)
                r = config_read_with(&config, d->config_path, d->names, ret_error);
        if (r == 0 && d->config)
                r = reload_check(d, config, ret_error);
        if (r == -EACCES && d->sandbox.landlock_abi > 0) {
                n = strlen(ret_error->text);
                snprintf(ret_error->text + n, sizeof(ret_error->text) - n,
                         ". If it is in another folder than when lkmd was started, restart lkmd: it is confined to those");
        }
        if (r == 0)
                *ret_config = TAKE_PTR(config);
        return r;
}

int lkmd_confine_files(struct lkmd *d)
{
        struct sandbox_files files = { .config_path = d->config_path,
                                       .names = { PASSWD_FILE, GROUP_FILE },
                                       .audit_file = d->config->audit_file };
        const char *why;
        int r;

        static_assert(ELEMENTSOF(files.sockets) >= LISTENER_COUNT, "there is a place for each socket");
        for (unsigned i = 0; i < LISTENER_COUNT; i++)
                files.sockets[i] = d->listeners.sockets[i].bound ? d->listeners.sockets[i].path : NULL;
        json_object_seed(0); /* it reads /dev/urandom, the first time */
        r = sandbox_confine_files(&d->sandbox, &files, &why);
        if (r < 0)
                log_error("cannot enter the sandbox (%s): %s", strerror(-r), why);
        if (r == SANDBOX_E_UNKNOWN)
                log_info("this kernel has no Landlock, or it is switched off: what lkmd can open is what its user can");
        return r < 0 ? r : 0;
}

int lkmd_enter_sandbox(struct lkmd *d)
{
        const char *why;
        int r;

        names_seal(d->names);
        r = sandbox_enter(&d->sandbox, &why);
        if (r < 0)
                log_error("cannot enter the sandbox (%s): %s", strerror(-r), why);
        return r;
}
