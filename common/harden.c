/* SPDX-License-Identifier: Apache-2.0 */
#include "common/harden.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

int harden_process(void)
{
        static const struct rlimit no_core = { 0, 0 };

        umask(077);
        if (setrlimit(RLIMIT_CORE, &no_core) < 0)
                return -errno;
        /* Not dumpable also means: /proc/self/mem and ptrace(2) are closed to other processes of this user. */
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                return -errno;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        return 0;
}
