/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/check.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/holders.h"
#include "client/rekey/meter.h"
#include "client/rekey/paths.h"
#include "client/rekey/scan.h"
#include "common/bytes.h"
#include "common/clock.h"

enum {
        WAIT_MSEC = 50,
        SPARE = 16 << 20,      /* free bytes that are left */
        FILE_SPARE = 64 << 10, /* what a journal has beside pages */
};

static int refuse_file(const struct work *work, const char *what)
{
        return answer_refuse(LKM_E_IO, "%s could not be %s: %s. Check its owner, its permissions and its disk, then ask again.", work->database, what,
                             strerrordesc_np(errno));
}

/* ---- the file ---- */

static int check_header(const struct work *work, int fd)
{
        static const uint8_t plain[PAGE_SALT_SIZE] = "SQLite format 3";
        uint8_t header[PAGE_SALT_SIZE];
        ssize_t n = pread(fd, header, sizeof(header), 0);

        if (n < 0)
                return refuse_file(work, "read");
        if (bytes_equal((struct bytes){ header, (size_t)n }, (struct bytes){ plain, sizeof(plain) }))
                return answer_refuse(LKM_E_PLAINTEXT, "%s is not encrypted: any SQLite reads it. Export it into a new encrypted database.", work->database);
        return 0;
}

int check_file(const struct work *work, bool writable, uint64_t *ret_n)
{
        _cleanup_(closep) int fd = -1;
        struct stat status;

        if (stat(work->path, &status) < 0)
                return errno == ENOENT ? answer_refuse(LKM_E_NOT_FOUND, "There is no database %s. Check the path.", work->database)
                                       : refuse_file(work, "found");
        if (!S_ISREG(status.st_mode))
                return answer_refuse(LKM_E_IO, "%s is no regular file. Check the path.", work->database);
        fd = open(work->path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return refuse_file(work, writable ? "opened for writing" : "opened");
        if (work->job.compatibility > work->library)
                return answer_refuse(LKM_E_CIPHER_VERSION, "%s has the format of SQLCipher %u, and lkm-rekey has SQLCipher %u. Install SQLCipher %u.",
                                     work->database, work->job.compatibility, work->library, work->job.compatibility);
        if (ret_n)
                *ret_n = (uint64_t)status.st_size;
        return check_header(work, fd);
}

/* ---- the space ---- */

int check_side(const struct work *work, const char *suffix, uint64_t *ret_n)
{
        _cleanup_(freep) char *path = NULL;
        struct stat status;

        if (paths_side(&path, work->path, suffix) < 0)
                return answer_refuse(LKM_E_NO_MEMORY, "No memory is left. Free some, then ask again.");
        *ret_n = stat(path, &status) == 0 ? (uint64_t)status.st_size : 0;
        return 0;
}

int check_space(const char *path, const char *named, uint64_t n, const char *doing)
{
        _cleanup_(freep) char *directory = NULL;
        struct statvfs space;
        struct rlimit limit;
        uint64_t need = n + n / 5, free_bytes;

        if (paths_directory(&directory, path) < 0)
                return answer_refuse(LKM_E_NO_MEMORY, "No memory is left. Free some, then ask again.");
        if (access(directory, W_OK | X_OK) < 0 || statvfs(directory, &space) < 0)
                return answer_refuse(LKM_E_IO, "No file can be made in the folder of %s: %s. Let its owner write there.", named, strerrordesc_np(errno));
        free_bytes = space.f_bavail * space.f_frsize;
        if (free_bytes < need + SPARE)
                return answer_refuse(LKM_E_NO_SPACE,
                                     "%s %s needs %llu MiB of free space beside it, and there are %llu MiB. Free some, then ask again; nothing was "
                                     "changed.",
                                     doing, named, (unsigned long long)((need + SPARE + (1 << 20) - 1) >> 20), (unsigned long long)(free_bytes >> 20));
        if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < need + FILE_SPARE)
                return answer_refuse(LKM_E_NO_SPACE,
                                     "%s %s needs a file of %llu KiB, and this process may write %llu KiB at most. Raise the limit on the size of "
                                     "files (`ulimit -f`, LimitFSIZE=); nothing was changed.",
                                     doing, named, (unsigned long long)((need + FILE_SPARE + 1023) >> 10), (unsigned long long)(limit.rlim_cur >> 10));
        return 0;
}

/* ---- others ---- */

static bool in_the_way(const struct work *work, const struct holders *holders)
{
        return holders_lock(holders) || (holders->n > 0 && !(work->job.flags & REKEY_IGNORE_OPEN));
}

/* Locks are waited for; a program that keeps the database open is not, since that may be for days. */
static int check_holders(const struct work *work, bool *ret_open)
{
        uint64_t deadline = clock_add(clock_boottime_usec(), work->job.timeout_msec * USEC_PER_MSEC);
        struct holders holders;
        int r;

        while ((r = holders_find(&holders, work->path)) == 0 && holders_lock(&holders) && clock_boottime_usec() < deadline) {
                poll(NULL, 0, WAIT_MSEC);
                meter_wait();
        }
        if (r < 0) {
                errno = -r;
                return refuse_file(work, "read");
        }
        if (in_the_way(work, &holders))
                return holders_refuse(work, &holders);
        holders_tell(&holders);
        *ret_open = holders.n > 0;
        return 0;
}

/* ---- a journal that a process left ---- */

/*
 * SQLite rolls back before it decrypts, so any key does. A random one opens nothing, so that SQLite cannot do more than that; and it is not shown the
 * -wal, which it would write into the database when it closes that.
 */
static int roll_back(const struct work *work)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        _cleanup_(secret_unrefp) struct secret *nobody = NULL;
        int code, r;

        if (secret_new_random(&nobody, KEY_SIZE) < 0)
                return answer_refuse(LKM_E_NO_MEMORY, "No memory is left for a key. Free some, then ask again.");
        r = handle_open(&h, work, work->path, nobody, work_compatibility(work), work->job.page_size, SQLITE_OPEN_READWRITE);
        if (r)
                return r;
        code = handle_read(&h);
        if ((code & 0xff) == SQLITE_BUSY) {
                handle_deinit(&h);
                return holders_refuse(work, NULL);
        }
        return code == SQLITE_OK || (code & 0xff) == SQLITE_NOTADB ? 0 : handle_refuse(&h, code);
}

/* A journal is hot when it has a header, and nobody holds RESERVED: whoever wrote it has died. */
int check_journal_is_hot(const struct work *work, bool *ret_hot)
{
        _cleanup_(freep) char *path = NULL;
        _cleanup_(closep) int fd = -1;
        uint8_t first = 0;

        if (paths_side(&path, work->path, "-journal") < 0)
                return answer_refuse(LKM_E_NO_MEMORY, "No memory is left. Free some, then ask again.");
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 && errno != ENOENT)
                return answer_refuse(LKM_E_IO, "%s-journal could not be read: %s. Check its owner and its permissions, then ask again.", work->database,
                                     strerrordesc_np(errno));
        *ret_hot = fd >= 0 && pread(fd, &first, 1, 0) == 1 && first != 0;
        return 0;
}

int check_journal(const struct work *work)
{
        bool hot;
        uint64_t n;
        int r = check_journal_is_hot(work, &hot);

        if (r || !hot)
                return r;
        r = check_side(work, "-journal", &n);
        if (r)
                return r;
        meter_begin(n);
        meter_hide_wal(true);
        r = roll_back(work);
        meter_hide_wal(false);
        meter_end();
        if (r == 0)
                r = check_journal_is_hot(work, &hot);
        if (r == 0 && hot)
                r = answer_refuse(LKM_E_IO, "%s-journal, which an interrupted program left, could not be rolled back. Check the owner, the permissions and "
                                            "the free space of its folder, then ask again; delete nothing.",
                                  work->database);
        return r;
}

/* ---- all of it ---- */

static int refuse_unknown(const struct work *work, const struct scan *scan)
{
        if (!scan->first_fits[0])
                return answer_refuse(LKM_E_WRONG_KEY,
                                     "The key does not open %s: it is another database's, or the first page is damaged. Put the database's own .key "
                                     "beside it, or restore both from one backup.",
                                     work->database);
        return answer_refuse(LKM_E_MIXED,
                             "%llu of the %llu pages of %s do not fit its key; the first one is page %llu. Nothing was touched: keep the database and its "
                             ".key, and run `lkmctl salvage`, or restore a backup.",
                             (unsigned long long)scan->n_unknown, (unsigned long long)scan->n_pages, work->database,
                             (unsigned long long)scan->first_unknown);
}

static int check_pages(const struct work *work, bool whole, unsigned *ret_compatibility)
{
        _cleanup_(image_deinit) struct image image = IMAGE_INIT;
        _cleanup_(scan_deinit) struct scan scan = { 0 };
        struct work one = *work;
        int r = image_open(&image, work);

        /* The first key only: `rekey` has the new one too. */
        one.job.n_keys = 1;
        if (r == 0)
                r = scan_begin(&scan, &image, &one);
        if (r == 0 && whole && scan.first_fits[0])
                r = scan_pages(&scan, &image, &one, NULL, NULL);
        if (r == 0 && (!scan.first_fits[0] || scan.n_unknown > 0))
                r = refuse_unknown(work, &scan);
        if (r == 0)
                *ret_compatibility = scan.format.compatibility;
        return r;
}

int check_database(const struct work *work, bool whole, unsigned *ret_compatibility)
{
        bool open = false;
        uint64_t n, wal;
        int r = check_file(work, true, &n);

        if (r == 0 && n == 0)
                r = answer_refuse(LKM_E_NOT_FOUND, "The database %s has nothing in it yet. Use it first, or remove it together with its .key.", work->database);
        if (r == 0)
                r = check_side(work, "-wal", &wal);
        /* The journal will be about as large as the database, into which the -wal goes before. */
        if (r == 0)
                r = check_space(work->path, work->database, n + wal, "Changing the key of");
        if (r == 0)
                r = check_holders(work, &open);
        if (r == 0)
                r = check_journal(work);
        /* Looking at all pages keeps writers waiting. Where there are any, they will close it, and then this is asked again. */
        return r == 0 ? check_pages(work, whole && !open, ret_compatibility) : r;
}

int check_run(struct work *work)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        _cleanup_(freep) char *mode = NULL;
        unsigned compatibility;
        int code, r = check_database(work, true, &compatibility);

        if (r == 0)
                r = handle_open(&h, work, work->path, work->keys[0].secret, compatibility, work->job.page_size, SQLITE_OPEN_READWRITE);
        if (r)
                return r;
        code = handle_read(&h);
        if (code != SQLITE_OK)
                return handle_refuse(&h, code);
        r = handle_text(&h, "PRAGMA journal_mode", &mode);
        if (r == 0)
                answer_line("mode %s", mode);
        return r;
}
