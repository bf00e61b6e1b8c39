/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/meter.h"

#include <errno.h>
#include <sqlite3.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "common/clock.h"

/* What a slice may have, and how long its way to the disk should take. The first slices are small: nothing is known of the disk yet. None is so large
 * that a disk which others begin to use needs more than a second for it. */
#define SLICE_MIN (UINT64_C(1) << 20)
#define SLICE_FIRST (UINT64_C(4) << 20)
#define SLICE_MAX (UINT64_C(16) << 20)
#define SLICE_USEC (UINT64_C(100) * USEC_PER_MSEC)

static struct {
        bool counting, hide_wal;
        uint64_t done, total;
        uint64_t slice; /* bytes */
        int failure;
} meter;

/* SQLite writes a journal in three small pieces for each page; here they are gathered. No more than the largest page: SQLite's unix layer does not
 * write 128 KiB at once. */
#define GATHER_SIZE (64 << 10)

/** SQLite's file, and behind it the one of the layer below. */
struct meter_file {
        sqlite3_file base;
        bool sliced;
        uint64_t unsynced;       /* bytes written since the last sync */
        uint8_t *gathered;       /* GATHER_SIZE bytes; NULL for what is no journal */
        sqlite3_int64 gather_at; /* where the first of them goes */
        int n_gathered;
};

static sqlite3_vfs *below(const sqlite3_vfs *vfs)
{
        return vfs->pAppData;
}

static struct meter_file *own(sqlite3_file *file)
{
        return (struct meter_file *)(void *)file;
}

static sqlite3_file *real(sqlite3_file *file)
{
        return (sqlite3_file *)(void *)(own(file) + 1);
}

/* ---- what is counted ---- */

static int failed(int code)
{
        if (code != SQLITE_OK && meter.failure == 0)
                meter.failure = (code & 0xff) == SQLITE_FULL ? ENOSPC : errno ? errno : EIO;
        return code;
}

/* What the next slice may have, from how long this one took. */
static void slice_learn(uint64_t bytes, uint64_t usec)
{
        uint64_t fits = usec > 0 ? bytes * SLICE_USEC / usec : SLICE_MAX;

        if (bytes < SLICE_MIN)
                return;
        if (fits > 2 * meter.slice)
                fits = 2 * meter.slice;
        meter.slice = fits < SLICE_MIN ? SLICE_MIN : fits > SLICE_MAX ? SLICE_MAX : fits;
}

static int file_sync(struct meter_file *f, int flags)
{
        uint64_t before = clock_boottime_usec();
        int code;

        errno = 0;
        code = failed(real(&f->base)->pMethods->xSync(real(&f->base), flags));
        if (code == SQLITE_OK) {
                slice_learn(f->unsynced, clock_boottime_usec() - before);
                f->unsynced = 0;
        }
        return code;
}

/* Below @f. A sync that failed is told to SQLite as a write that failed: the kernel would not tell it a second time. */
static int file_write(struct meter_file *f, const void *data, int n, sqlite3_int64 offset)
{
        int code;

        errno = 0;
        code = failed(real(&f->base)->pMethods->xWrite(real(&f->base), data, n, offset));
        if (code != SQLITE_OK || !meter.counting)
                return code;
        f->unsynced += (uint64_t)n;
        if (f->sliced && f->unsynced >= meter.slice)
                code = file_sync(f, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);
        meter.done += (uint64_t)n;
        answer_progress(meter.done, meter.total);
        return code;
}

/*
 * What was gathered goes below. Nothing depends on it before: SQLite syncs a journal before it writes what that is the journal of, and no other
 * process looks at it while this one has its locks. What could not be written is given up, as it is when a process dies.
 */
static int file_flush(struct meter_file *f)
{
        int n = f->n_gathered;

        f->n_gathered = 0;
        return n > 0 ? file_write(f, f->gathered, n, f->gather_at) : SQLITE_OK;
}

static int meter_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 offset)
{
        struct meter_file *f = own(file);
        int code = SQLITE_OK;

        if (!f->gathered || n > GATHER_SIZE / 2) {
                code = file_flush(f);
                return code == SQLITE_OK ? file_write(f, data, n, offset) : code;
        }
        if (f->n_gathered > 0 && (offset != f->gather_at + f->n_gathered || n > GATHER_SIZE - f->n_gathered))
                code = file_flush(f);
        if (code != SQLITE_OK)
                return code;
        if (f->n_gathered == 0)
                f->gather_at = offset;
        memcpy(f->gathered + f->n_gathered, data, (size_t)n);
        f->n_gathered += n;
        return SQLITE_OK;
}

static int meter_sync(sqlite3_file *file, int flags)
{
        int code = file_flush(own(file));

        if (code == SQLITE_OK)
                code = file_sync(own(file), flags);
        if (meter.counting)
                answer_progress(meter.done, meter.total);
        return code;
}

static int meter_truncate(sqlite3_file *file, sqlite3_int64 n)
{
        int code = file_flush(own(file));

        errno = 0;
        return code == SQLITE_OK ? failed(real(file)->pMethods->xTruncate(real(file), n)) : code;
}

void meter_begin(uint64_t total)
{
        meter.counting = true;
        meter.done = 0;
        meter.total = total;
        meter.slice = SLICE_FIRST;
        meter.failure = 0;
        answer_progress_end(0, total);
}

void meter_end(void)
{
        meter.counting = false;
}

void meter_wait(void)
{
        answer_progress(meter.counting ? meter.done : 0, meter.total);
}

int meter_failure(void)
{
        return meter.failure;
}

void meter_hide_wal(bool hide)
{
        meter.hide_wal = hide;
}

/* ---- what is passed on ---- */

static int meter_close(sqlite3_file *file)
{
        file_flush(own(file));
        free(TAKE_PTR(own(file)->gathered));
        return real(file)->pMethods->xClose(real(file));
}

/* Whether the flush succeeds or not: a journal that was cut short is read up to there. */
static int meter_read(sqlite3_file *file, void *data, int n, sqlite3_int64 offset)
{
        file_flush(own(file));
        return real(file)->pMethods->xRead(real(file), data, n, offset);
}

static int meter_file_size(sqlite3_file *file, sqlite3_int64 *ret_n)
{
        file_flush(own(file));
        return real(file)->pMethods->xFileSize(real(file), ret_n);
}

static int meter_lock(sqlite3_file *file, int level)
{
        return real(file)->pMethods->xLock(real(file), level);
}

static int meter_unlock(sqlite3_file *file, int level)
{
        return real(file)->pMethods->xUnlock(real(file), level);
}

static int meter_check_reserved_lock(sqlite3_file *file, int *ret_locked)
{
        return real(file)->pMethods->xCheckReservedLock(real(file), ret_locked);
}

static int meter_file_control(sqlite3_file *file, int operation, void *argument)
{
        return real(file)->pMethods->xFileControl(real(file), operation, argument);
}

static int meter_sector_size(sqlite3_file *file)
{
        return real(file)->pMethods->xSectorSize(real(file));
}

static int meter_device_characteristics(sqlite3_file *file)
{
        return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int meter_shm_map(sqlite3_file *file, int region, int n, int extend, void volatile **ret_region)
{
        return real(file)->pMethods->xShmMap(real(file), region, n, extend, ret_region);
}

static int meter_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
        return real(file)->pMethods->xShmLock(real(file), offset, n, flags);
}

static void meter_shm_barrier(sqlite3_file *file)
{
        real(file)->pMethods->xShmBarrier(real(file));
}

static int meter_shm_unmap(sqlite3_file *file, int delete_it)
{
        return real(file)->pMethods->xShmUnmap(real(file), delete_it);
}

/* Version 2: with the shared memory of WAL, without the memory mapping of files, past which nothing could be counted. */
static const sqlite3_io_methods methods = {
        .iVersion = 2,
        .xClose = meter_close,
        .xRead = meter_read,
        .xWrite = meter_write,
        .xTruncate = meter_truncate,
        .xSync = meter_sync,
        .xFileSize = meter_file_size,
        .xLock = meter_lock,
        .xUnlock = meter_unlock,
        .xCheckReservedLock = meter_check_reserved_lock,
        .xFileControl = meter_file_control,
        .xSectorSize = meter_sector_size,
        .xDeviceCharacteristics = meter_device_characteristics,
        .xShmMap = meter_shm_map,
        .xShmLock = meter_shm_lock,
        .xShmBarrier = meter_shm_barrier,
        .xShmUnmap = meter_shm_unmap,
};

static int meter_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags, int *ret_flags)
{
        struct meter_file *f = own(file);
        int code;

        *f = (struct meter_file){ .sliced = (flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_MAIN_JOURNAL)) != 0 };
        real(file)->pMethods = NULL;
        errno = 0;
        code = below(vfs)->xOpen(below(vfs), path, real(file), flags, ret_flags);
        if (code != SQLITE_OK && (flags & SQLITE_OPEN_MAIN_JOURNAL))
                failed(code);
        if (code == SQLITE_OK && (flags & SQLITE_OPEN_MAIN_JOURNAL))
                f->gathered = malloc(GATHER_SIZE); /* without memory each piece goes by itself */
        /* SQLite closes whatever has methods, and nothing else. */
        if (real(file)->pMethods)
                f->base.pMethods = &methods;
        return code;
}

static int meter_delete(sqlite3_vfs *vfs, const char *path, int sync_directory)
{
        int code;

        errno = 0;
        code = below(vfs)->xDelete(below(vfs), path, sync_directory);
        return code == SQLITE_IOERR_DELETE_NOENT ? code : failed(code);
}

static int meter_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret_there)
{
        static const char wal[] = "-wal";
        size_t n = strlen(path);

        if (meter.hide_wal && n > sizeof(wal) - 1 && strcmp(path + n - (sizeof(wal) - 1), wal) == 0) {
                *ret_there = 0;
                return SQLITE_OK;
        }
        return below(vfs)->xAccess(below(vfs), path, flags, ret_there);
}

int meter_register(void)
{
        static sqlite3_vfs vfs;
        sqlite3_vfs *standard = sqlite3_vfs_find(NULL);

        /* What is not about files stays as it is: those functions do not look at their first parameter. */
        if (standard) {
                vfs = *standard;
                vfs.szOsFile = (int)sizeof(struct meter_file) + standard->szOsFile;
                vfs.zName = "lkm-rekey";
                vfs.pNext = NULL;
                vfs.pAppData = standard;
                vfs.xOpen = meter_open;
                vfs.xDelete = meter_delete;
                vfs.xAccess = meter_access;
        }
        if (!standard || sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
                return answer_refuse(LKM_E_NO_MEMORY, "SQLite could not start for want of memory. Free some, then ask again.");
        return 0;
}
