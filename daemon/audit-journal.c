/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/audit-journal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/cleanup.h"
#include "common/log.h"

enum { PRIORITY = LOG_LEVEL_NOTICE, ENTRY_MAX = 8192 };

static int journal_connect(int fd)
{
        static const struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/run/systemd/journal/socket" };

        return connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

void audit_journal_open(struct audit_journal *j)
{
        j->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (j->fd >= 0 && journal_connect(j->fd) < 0)
                audit_journal_close(j);
}

void audit_journal_close(struct audit_journal *j)
{
        if (j->fd >= 0)
                close(j->fd);
        j->fd = -1;
}

static int journal_send(const struct audit_journal *j, const char *entry, size_t n)
{
        if (j->fd < 0)
                return -ENOTCONN;
        return send(j->fd, entry, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void audit_journal_tell(struct audit_journal *j, uint64_t sequence, const char *hash, const char *file)
{
        char entry[ENTRY_MAX];
        /* A path with a newline would begin a field of its own. */
        int n = snprintf(entry, sizeof(entry),
                         "MESSAGE=audit checkpoint %" PRIu64 " %s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=lkmd\nLKM_AUDIT_SEQ=%" PRIu64
                         "\nLKM_AUDIT_HASH=%s\nLKM_AUDIT_FILE=%.*s\n",
                         sequence, hash, PRIORITY, sequence, hash, (int)strcspn(file, "\n"), file);
        bool fits = n > 0 && (size_t)n < sizeof(entry);
        int r = fits ? journal_send(j, entry, (size_t)n) : -EMSGSIZE;

        /* The journal was started again: the socket of before leads nowhere. */
        if (r < 0 && fits && j->fd >= 0 && journal_connect(j->fd) == 0)
                r = journal_send(j, entry, (size_t)n);
        if (r < 0)
                log_notice("audit checkpoint %" PRIu64 " %s", sequence, hash);
}
