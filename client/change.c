/* SPDX-License-Identifier: Apache-2.0 */
#include "client/change.h"

#include <errno.h>

int change_begin(struct lkm *lkm, const char *database_path, uint64_t deadline_usec, struct change *ret_change)
{
        _cleanup_(database_record_deinit) struct database_record before = { 0 };
        _cleanup_(change_end) struct change change = CHANGE_INIT;
        /* What is wrong with the file is told by reading it; the lock says only that it cannot be had. */
        int r = database_record_read(lkm, database_path, &before);

        if (r)
                return r;
        r = keyfile_lock(&change.lock, before.path, deadline_usec);
        if (r == -EWOULDBLOCK)
                return error_set(lkm, LKM_E_ROTATION_IN_PROGRESS, "another process changes %s, as a rotation does. Let it end, then ask again.",
                                 before.path);
        if (r < 0)
                return error_set(lkm, LKM_E_IO, "cannot lock %s: %s. Check its owner and its permissions.", before.path, strerror(-r));
        r = database_record_read(lkm, database_path, &change.record);
        if (r)
                return r;
        *ret_change = TAKE_STRUCT(change, CHANGE_INIT);
        return 0;
}

void change_end(struct change *change)
{
        keyfile_unlock(&change->lock);
        database_record_deinit(&change->record);
}

/* Where the record stands in each request that makes another one of it. Return: 0 or -EINVAL. */
static int request_set_record(union message *request, struct bytes record)
{
        switch (request->number) {
        case MESSAGE_ROTATE:
                request->rotate.record = record;
                return 0;
        case MESSAGE_COMMIT:
                request->commit.record = record;
                return 0;
        case MESSAGE_ABORT:
                request->abort.record = record;
                return 0;
        case MESSAGE_PURGE:
                request->purge.record = record;
                return 0;
        case MESSAGE_REWRAP:
                request->rewrap.record = record;
                return 0;
        case MESSAGE_REKEK:
                request->rekek.record = record;
                return 0;
        default:
                return -EINVAL;
        }
}

/* Keep a copy before the file is replaced: after that nothing may fail for want of memory. */
static int change_write(struct lkm *lkm, struct change *change, struct bytes next)
{
        _cleanup_(freep) uint8_t *data = malloc(next.n ? next.n : 1);
        int r;

        if (!data)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        memcpy(data, next.data, next.n);
        r = keyfile_replace(&change->lock, next);
        if (r < 0)
                return error_set(lkm, LKM_E_IO, "cannot replace %s: %s. Check its owner, its permissions and the space on the disk.",
                                 change->record.path, strerror(-r));
        free(change->record.data);
        change->record.data = TAKE_PTR(data);
        change->record.n = next.n;
        return 0;
}

int change_ask(struct lkm *lkm, struct change *change, union message *request)
{
        union message answer;
        int r = request_set_record(request, (struct bytes){ change->record.data, change->record.n });

        if (r < 0)
                return error_set_default(lkm, LKM_E_ARGUMENT);
        r = connection_call(lkm, request, MESSAGE_RECORD, &answer);
        if (r)
                return r;
        r = change_write(lkm, change, answer.record.record);
        connection_settle(lkm);
        return r;
}
