/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe: which key a database has, by every one of its pages. The only writes that it makes before one key fits them all are those by which SQLite
 * rolls a journal back.
 */
#include <errno.h>
#include <sys/stat.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/check.h"
#include "client/rekey/paths.h"
#include "client/rekey/scan.h"

/* Every page against every key. @ret_only: as scan_only(). */
static int look(struct work *work, int *ret_only, unsigned *ret_compatibility)
{
        _cleanup_(image_deinit) struct image image = IMAGE_INIT;
        _cleanup_(scan_deinit) struct scan scan = { 0 };
        int r = image_open(&image, work);

        if (r == 0)
                r = scan_begin(&scan, &image, work);
        if (r == 0)
                r = scan_pages(&scan, &image, work, NULL, NULL);
        if (r)
                return r;
        scan_tell(&scan, work);
        *ret_only = scan_only(&scan, work);
        *ret_compatibility = scan.format.compatibility;
        return *ret_only >= 0 ? image_sync(&image, work) : 0;
}

/*
 * A rekey that was killed before its first page or after its commit leaves a journal with nothing in it, or with zeros for a header, the old pages
 * behind it. It is SQLite that removes it, under its locks; where it does not, that does no harm: the next transaction uses the file again.
 */
static int remove_cold_journal(struct work *work, struct handle *h)
{
        _cleanup_(freep) char *mode = NULL, *journal = NULL;
        int r;

        if (paths_side(&journal, work->path, "-journal") < 0)
                return answer_refuse(LKM_E_NO_MEMORY, "No memory is left. Free some, then ask again.");
        if (access(journal, F_OK) < 0)
                return 0;
        r = handle_text(h, "PRAGMA journal_mode", &mode);
        if (r == 0 && strcmp(mode, "delete") == 0)
                sqlite3_exec(h->db, "PRAGMA journal_mode = PERSIST; PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
        return r;
}

/* What SQLCipher itself says of that key. Closing the last connection of a WAL database ends its -wal. */
static int open_with(struct work *work, const struct work_key *key, unsigned compatibility, bool *ret_opens)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        int code, r = handle_open(&h, work, work->path, key->secret, compatibility, work->job.page_size, SQLITE_OPEN_READWRITE);

        if (r)
                return r;
        code = handle_read(&h);
        *ret_opens = code == SQLITE_OK;
        if (code == SQLITE_OK)
                return remove_cold_journal(work, &h);
        return (code & 0xff) == SQLITE_NOTADB || (code & 0xff) == SQLITE_CORRUPT ? 0 : handle_refuse(&h, code);
}

static int restore_wal(struct work *work, const struct work_key *key, unsigned compatibility, const char *sql)
{
        _cleanup_(handle_deinit) struct handle h = { 0 };
        int r = handle_open(&h, work, work->path, key->secret, compatibility, work->job.page_size, SQLITE_OPEN_READWRITE);

        return r == 0 ? handle_set(&h, sql, "wal") : r;
}

int probe_run(struct work *work)
{
        unsigned compatibility;
        const struct work_key *key;
        struct stat status;
        bool opens = false;
        int only, r;

        if (stat(work->path, &status) < 0 ? errno == ENOENT : S_ISREG(status.st_mode) && status.st_size == 0) {
                answer_line("empty");
                answer_line("library %u", work->library);
                return 0;
        }
        r = check_file(work, false, NULL);
        if (r == 0)
                r = check_journal(work);
        if (r == 0)
                r = look(work, &only, &compatibility);
        if (r || only < 0)
                return r;
        key = &work->keys[only];
        r = open_with(work, key, compatibility, &opens);
        if (r || !opens)
                return r;
        answer_line("opens %u", key->version);
        if (!(work->job.flags & REKEY_RESTORE_WAL))
                return 0;
        /* Set by one connection, read by another. */
        r = restore_wal(work, key, compatibility, "PRAGMA journal_mode = WAL");
        return r == 0 ? restore_wal(work, key, compatibility, "PRAGMA journal_mode") : r;
}
