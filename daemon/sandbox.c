/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox: what is in force, read from the kernel and not from what was asked of it. */
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "common/cleanup.h"
#include "common/log.h"

/* What can no longer be asked once the filter is there. */
static void look_before(struct sandbox *s)
{
        struct rlimit limit;

        s->dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
        s->core_limit = getrlimit(RLIMIT_CORE, &limit) < 0 ? -1 : limit.rlim_cur > INT64_MAX ? INT64_MAX : (int64_t)limit.rlim_cur;
}

/* Return: the number behind "@name:\t" in @status, or -1. */
static long long status_number(const char *status, const char *name, int base)
{
        size_t n = strlen(name);
        const char *at = status;

        while ((at = strstr(at, name))) {
                if ((at == status || at[-1] == '\n') && at[n] == ':')
                        return (long long)strtoull(at + n + 1, NULL, base);
                at += n;
        }
        return -1;
}

static void look_after(struct sandbox *s)
{
        _cleanup_(closep) int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
        char status[8192];
        ssize_t n = fd < 0 ? -1 : read(fd, status, sizeof(status) - 1);
        long long capabilities;

        s->seccomp = s->no_new_privs = s->n_capabilities = -1;
        if (n < 0) {
                log_warning("cannot read /proc/self/status: %s. The status does not tell what of the sandbox is in force", strerror(errno));
                return;
        }
        status[n] = '\0';
        s->seccomp = (int)status_number(status, "Seccomp", 10);
        s->no_new_privs = (int)status_number(status, "NoNewPrivs", 10);
        capabilities = status_number(status, "CapPrm", 16);
        if (strstr(status, "CapPrm:"))
                s->n_capabilities = __builtin_popcountll((unsigned long long)capabilities);
}

int sandbox_enter(struct sandbox *s, const char **ret_why)
{
        int r;

        look_before(s);
        r = sandbox_confine_calls(s, ret_why);
        if (r < 0)
                return r;
        if (r == SANDBOX_E_UNKNOWN)
                log_warning("this kernel was built without seccomp: lkmd serves without a filter of its system calls");
        look_after(s);
        return 0;
}

/* ---- the status ---- */

static void set(json_t *report, const char *member, int64_t value, bool is_boolean)
{
        if (value >= 0)
                json_object_set_new(report, member, is_boolean ? json_boolean(value) : json_integer((json_int_t)value));
}

json_t *sandbox_report(const struct sandbox *s)
{
        const char *seccomp = s->seccomp == 2 ? s->n_calls > 0 ? "kill-process" : "inherited" : "none";
        json_t *report = json_pack("{s:i, s:i}", "seccomp_calls", (int)s->n_calls, "landlock_abi", s->landlock_abi);

        if (!report)
                return NULL;
        if (s->seccomp >= 0)
                json_object_set_new(report, "seccomp", json_string(seccomp));
        if (s->n_calls > 0)
                json_object_set_new(report, "network", json_string("unix"));
        set(report, "no_new_privs", s->no_new_privs, true);
        set(report, "capabilities", s->n_capabilities, false);
        set(report, "dumpable", s->dumpable < 0 ? -1 : s->dumpable != 0, true);
        set(report, "core_limit", s->core_limit, false);
        return report;
}
