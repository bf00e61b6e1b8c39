/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-audit-journal: the checkpoints of the audit log that the journal has. */
#include <errno.h>
#include <inttypes.h>
#include <systemd/sd-journal.h>

#include "client/lkmctl-audit.h"

static void journal_closep(sd_journal **journal)
{
        sd_journal_close(*journal);
}

/* The value of the field @name of the current entry; without bytes when it has none. Borrowed until the next call. */
static struct bytes field(sd_journal *journal, const char *name)
{
        size_t n_name = strlen(name) + 1, n;
        const void *data;

        if (sd_journal_get_data(journal, name, &data, &n) < 0 || n < n_name)
                return (struct bytes){ 0 };
        return (struct bytes){ (const uint8_t *)data + n_name, n - n_name };
}

static uint64_t number(struct bytes text)
{
        uint64_t value = 0;

        for (size_t i = 0; i < text.n; i++) {
                if (text.data[i] < '0' || text.data[i] > '9' || __builtin_mul_overflow(value, 10, &value) ||
                    __builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value))
                        return 0;
        }
        return value;
}

static struct bytes last_component(struct bytes path)
{
        for (size_t i = path.n; i > 0; i--) {
                if (path.data[i - 1] == '/')
                        return (struct bytes){ path.data + i, path.n - i };
        }
        return path;
}

static int add_match(sd_journal *journal, const char *name, const char *value)
{
        _cleanup_(freep) char *match = NULL;

        if (asprintf(&match, "%s=%s", name, value) < 0) {
                match = NULL;
                return -ENOMEM;
        }
        return sd_journal_add_match(journal, match, 0);
}

static int journal_open(sd_journal **ret_journal, const char *folder, const char *path, uid_t owner)
{
        _cleanup_(freep) char *real = realpath(path, NULL);
        char uid[16];
        int r;

        if (folder)
                return sd_journal_open_directory(ret_journal, folder, 0);
        snprintf(uid, sizeof(uid), "%u", (unsigned)owner);
        r = sd_journal_open(ret_journal, SD_JOURNAL_LOCAL_ONLY);
        if (r >= 0)
                r = add_match(*ret_journal, "LKM_AUDIT_FILE", path);
        if (r >= 0 && real) /* or: lkmd knows it by another one */
                r = add_match(*ret_journal, "LKM_AUDIT_FILE", real);
        if (r >= 0)
                r = add_match(*ret_journal, "_UID", uid);
        return r;
}

int audit_journal_read(struct audit_anchors *anchors, unsigned source, const char *folder, const char *path, uid_t owner, uint64_t since_usec,
                       size_t *ret_n)
{
        _cleanup_(journal_closep) sd_journal *journal = NULL;
        struct bytes name = last_component(bytes_from_string(path));
        int r = journal_open(&journal, folder, path, owner);

        *ret_n = 0;
        if (r >= 0)
                r = sd_journal_seek_realtime_usec(journal, since_usec);
        while (r >= 0 && (r = sd_journal_next(journal)) > 0) {
                uint64_t sequence = number(field(journal, "LKM_AUDIT_SEQ")), sent;

                if (sequence == 0 || !bytes_equal(last_component(field(journal, "LKM_AUDIT_FILE")), name))
                        continue;
                if (sd_journal_get_realtime_usec(journal, &sent) < 0 || sent < since_usec)
                        continue;
                r = audit_anchors_add(anchors, sequence, field(journal, "LKM_AUDIT_HASH"), source);
                *ret_n += r == 0;
                r = r == -EINVAL ? 0 : r;
        }
        return r < 0 ? r : 0;
}
