/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox-calls: the filter of system calls. What is on the list, and why: sandbox-calls.def. */
#include <assert.h>
#include <errno.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "common/cleanup.h"
#include "daemon/sandbox.h"

enum { CALLS_MAX = 40, RARE = false, OFTEN = true };

static const struct {
        const char *name;
        int number;
        bool often;
} calls[] = {
#define CALL(name, when, why) { #name, SCMP_SYS(name), when },
#include "daemon/sandbox-calls.def"
#undef CALL
};
static_assert(ELEMENTSOF(calls) <= CALLS_MAX, "the list has become too long: see its head");

/* Arguments: a call that has lines here is allowed with one of them, and not otherwise. */
static const struct {
        int number;
        struct scmp_arg_cmp argument;
} checks[] = {
        { SCMP_SYS(socket), SCMP_A0_32(SCMP_CMP_EQ, AF_UNIX) },
        { SCMP_SYS(getsockopt), SCMP_A1_32(SCMP_CMP_EQ, SOL_SOCKET) },
        { SCMP_SYS(mmap), SCMP_A2_32(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
        /* Not MADV_DODUMP, nor MADV_DOFORK: they would undo what protects the memory for keys. */
        { SCMP_SYS(madvise), SCMP_A2_32(SCMP_CMP_EQ, MADV_DONTNEED) },
        { SCMP_SYS(madvise), SCMP_A2_32(SCMP_CMP_EQ, MADV_HUGEPAGE) },
};

bool sandbox_call_next(size_t i, const char **ret_name, int *ret_number, bool *ret_often)
{
        if (i >= ELEMENTSOF(calls))
                return false;
        *ret_name = calls[i].name;
        *ret_number = calls[i].number;
        *ret_often = calls[i].often;
        return true;
}

static int call_allow(scmp_filter_ctx filter, int number)
{
        bool checked = false;
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(checks) && r == 0; i++) {
                if (checks[i].number != number)
                        continue;
                checked = true;
                r = seccomp_rule_add_exact_array(filter, SCMP_ACT_ALLOW, number, 1, &checks[i].argument);
        }
        return checked || r < 0 ? r : seccomp_rule_add_exact(filter, SCMP_ACT_ALLOW, number, 0);
}

static int filter_build(scmp_filter_ctx filter)
{
        /* A new filter is for the native architecture alone; x32 counts as another one. */
        int r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

        if (r == 0)
                r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 1);
        if (r == 0)
                r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
        for (size_t i = 0; i < ELEMENTSOF(calls) && r == 0; i++)
                r = call_allow(filter, calls[i].number);
        return r;
}

int sandbox_confine_calls(struct sandbox *s, const char **ret_why)
{
        scmp_filter_ctx filter;
        int r;

        /* EINVAL is what a kernel without it says; one with a filter of somebody else's around us says something else. */
        if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0 && errno == EINVAL)
                return SANDBOX_E_UNKNOWN;
        filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
        /* None is made, without a reason, when the kernel cannot be asked whether it knows to end a process. */
        r = filter ? filter_build(filter) : -EOPNOTSUPP;
        if (r == 0)
                r = seccomp_load(filter);
        seccomp_release(filter);
        if (r == 0)
                s->n_calls = ELEMENTSOF(calls);
        else
                *ret_why = "the kernel does not take the filter of system calls that lkmd puts on itself. Linux 4.14 or later has what it needs; "
                           "a container has to permit seccomp(2)";
        return r;
}
