/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl-adopt: a database that was made without lkm becomes one of lkm's, in its place: its key is put into a record, and rotated at once. A
 * crash leaves either the database as it was, without a .key, or an ordinary database of lkm's with its record; so another call goes on.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "client/adopt.h"
#include "client/kdf.h"
#include "client/key.h"
#include "client/keyfile.h"
#include "client/lkmctl-progress.h"
#include "client/passphrase.h"

enum { HEAD_SIZE = 65536 }; /* the largest page */

static void key_freep(struct lkm_key **key)
{
        lkm_key_free(key);
}

static void adoption_deinit(struct adoption *a)
{
        a->key = secret_unref(a->key);
        free(TAKE_PTR(a->head));
}

/* ---- its record ---- */

/* The record is on the disk before anything else changes. */
static int import(struct adoption *a)
{
        struct lkm *lkm = adoption_lkm(a);
        union message answer, request = { .import = { .number_ = MESSAGE_IMPORT,
                                                      .key = a->key,
                                                      .cipher_library = BYTES_LITERAL("sqlcipher"),
                                                      .cipher_compatibility = (uint8_t)a->compatibility,
                                                      .page_size = a->page_size } };
        _cleanup_(freep) char *path = NULL;
        int r;

        if (a->each.c->scope)
                request.import.scope = bytes_from_string(a->each.c->scope);
        if (a->each.c->label)
                request.import.label = bytes_from_string(a->each.c->label);
        if (keyfile_path(&path, a->database) < 0)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        r = connection_call(lkm, &request, MESSAGE_RECORD, &answer);
        if (r)
                return r;
        r = keyfile_create(path, answer.record.record);
        connection_settle(lkm);
        if (r == -EEXIST)
                return error_set(lkm, LKM_E_ROTATION_IN_PROGRESS, "another process adopts the database too. Run this again when it has ended.");
        if (r < 0)
                return error_set(lkm, LKM_E_IO, "cannot create %s: %s. Check its folder's owner, its permissions and the space on the disk.", path,
                                 strerror(-r));
        return 0;
}

/* ---- a database of lkm's, at last ---- */

static json_t *report(const struct lkm_key_info *info)
{
        char id[UUID_TEXT_LENGTH + 1];

        uuid_format(id, info->database_id);
        return json_pack("{s:s, s:o, s:I}", "database_id", id, "scope", json_text(info->scope), "version", (json_int_t)info->version);
}

static void tell(struct adoption *a, const struct lkm_key_info *info, bool changed)
{
        _cleanup_(freep) char *text = NULL;
        int n;

        if (changed)
                n = asprintf(&text,
                             "adopted: key %u, scope %s. What opened it before does so no longer; from now on %s.key belongs into every backup. Backups made "
                             "before keep their old key, which is also version 1 of %s.key, for those whom allow_history admits",
                             (unsigned)info->version, info->scope, a->database, a->database);
        else
                n = asprintf(&text, "is adopted already: key %u, scope %s", (unsigned)info->version, info->scope);
        text = n < 0 ? NULL : text;
        each_done(&a->each, a->database, changed ? OUTCOME_ADOPTED : OUTCOME_NOTHING, text ? text : "adopted", report(info));
}

static int rotate(struct adoption *a)
{
        struct progress progress;
        struct lkm_rotate_options options = { .progress = progress_callback, .userdata = &progress, .timeout_msec = a->each.c->timeout_msec };
        _cleanup_(key_freep) struct lkm_key *key = NULL;
        struct lkm *lkm = adoption_lkm(a);
        struct lkm_key_info info;
        int r;

        progress_begin(&progress, a->each.c, a->database);
        r = lkm_rotate(lkm, a->database, &options);
        progress_end(&progress);
        if (r) {
                _cleanup_(freep) char *why = strdup(lkm_error_message(lkm));

                return error_set(lkm, r, "%s The database has its .key now, but still under the old key: run the same command again, which goes on from here.",
                                 why ? why : lkm_strerror(r));
        }
        r = lkm_load(lkm, a->database, NULL, &key);
        if (r)
                return r;
        lkm_key_info(key, &info);
        tell(a, &info, true);
        return 0;
}

/* There is a record: of an adoption that was interrupted, or of one that ended, or of another database. */
static int resume(struct adoption *a)
{
        _cleanup_(key_freep) struct lkm_key *key = NULL;
        struct lkm *lkm = adoption_lkm(a);
        struct lkm_key_info info;
        struct worker_result result;
        int r = lkm_load(lkm, a->database, a->each.c->scope, &key);

        if (r)
                return r;
        lkm_key_info(key, &info);
        a->compatibility = info.cipher_compatibility;
        a->page_size = info.page_size;
        r = adoption_run(a, "probe", a->database, key_secret(key), info.version, &result);
        if (r && r != LKM_E_WRONG_KEY)
                return r;
        if (r || result.n_opens != 1)
                return error_set(lkm, LKM_E_WRONG_KEY,
                                 "its .key is there already, and does not open it: that is another database's, or a copy of before was put in the place of the adopted "
                                 "database. If so, move the .key to a safe place, then adopt again. Nothing was changed.");
        if (info.version == 1)
                return rotate(a);
        tell(a, &info, false);
        return 0;
}

/* ---- what lies there ---- */

static int read_head(struct adoption *a)
{
        _cleanup_(closep) int fd = open(a->database, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct lkm *lkm = adoption_lkm(a);
        struct stat status;
        ssize_t n;

        if (fd < 0 && errno == ENOENT)
                return error_set(lkm, LKM_E_NOT_FOUND, "there is no such database. Check the path.");
        if (fd < 0 || fstat(fd, &status) < 0)
                return error_set(lkm, LKM_E_IO, "cannot open it: %s. Run lkmctl as its owner.", strerror(errno));
        if (!S_ISREG(status.st_mode) || status.st_size == 0)
                return error_set(lkm, LKM_E_NOT_FOUND, "it is %s. Check the path.", S_ISREG(status.st_mode) ? "empty" : "no regular file");
        if (status.st_uid != geteuid())
                return error_set(lkm, LKM_E_IO, "it belongs to another user, who could not read the .key. Run lkmctl as its owner, or as root.");
        a->head = calloc(1, HEAD_SIZE);
        if (!a->head)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        n = pread(fd, a->head, HEAD_SIZE, 0);
        if (n < 0)
                return error_set(lkm, LKM_E_IO, "cannot read it: %s. Check the disk.", strerror(errno));
        a->n_head = (size_t)n;
        return 0;
}

static bool is_plaintext(const struct adoption *a)
{
        const struct bytes magic = BYTES_LITERAL("SQLite format 3\0");

        return a->n_head >= magic.n && bytes_equal((struct bytes){ a->head, magic.n }, magic);
}

static int adopt_in_place(struct adoption *a)
{
        _cleanup_(freep) char *path = NULL;
        struct worker_result result;
        int r;

        if (adoption_options(a)->to)
                return error_set(adoption_lkm(a), LKM_E_ARGUMENT, "it is encrypted, and adopted where it is: leave --to out.");
        if (keyfile_path(&path, a->database) < 0)
                return error_set_default(adoption_lkm(a), LKM_E_NO_MEMORY);
        if (access(path, F_OK) == 0)
                return resume(a);
        r = adoption_find_key(a);
        if (r == 0)
                r = adoption_run(a, "check", a->database, a->key, 1, &result);
        if (r == 0 && each_is_cancelled())
                r = error_set(adoption_lkm(a), LKM_E_CANCELLED, "cancelled. Nothing was changed.");
        if (r == 0)
                r = import(a);
        return r ? r : rotate(a);
}

static void adopt_step(struct each *e, const char *database)
{
        struct adoption *a = (struct adoption *)e;
        int r;

        a->database = database;
        r = read_head(a);
        if (r == 0)
                r = is_plaintext(a) ? adoption_export(a) : adopt_in_place(a);
        if (r)
                each_failed(e, database, r);
        adoption_deinit(a);
}

/* ---- the options ---- */

static int check_options(const struct ctl_adopt *o)
{
        if (o->raw && (o->side_file || o->rounds))
                return ctl_refuse(EXIT_CODE_USAGE, "a raw key has neither rounds nor a side file: leave --raw out for a passphrase");
        if (o->passphrase_file && o->has_passphrase_fd)
                return ctl_refuse(EXIT_CODE_USAGE, "--passphrase-file and --passphrase-fd exclude each other");
        if (o->page_size & (o->page_size - 1))
                return ctl_refuse(EXIT_CODE_USAGE, "--page-size takes a power of two");
        return EXIT_CODE_OK;
}

/* With the rights of who calls: root may name files here that the database's owner cannot read. */
static int open_files(struct adoption *a)
{
        const struct ctl_adopt *o = adoption_options(a);
        char why[PASSPHRASE_WHY_MAX];
        int r = 0;

        a->passphrase_fd = o->has_passphrase_fd ? (int)o->passphrase_fd : -1;
        if (o->passphrase_file && passphrase_open(&a->passphrase_fd, o->passphrase_file, why) < 0)
                return ctl_refuse(EXIT_CODE_FAILED, "%s", why);
        if (o->side_file)
                r = sidefile_read(&a->sidefile, o->side_file);
        if (r < 0)
                return ctl_refuse(EXIT_CODE_FAILED, "cannot read %s: %s. Check the path and its permissions", o->side_file, strerror(-r));
        if (r)
                return ctl_refuse(EXIT_CODE_FAILED,
                                  "%s holds no salt: neither 8 to 64 bytes, nor their hex or base64, nor a JSON object with `salt` and `iterations`. Check that it "
                                  "is the right file",
                                  o->side_file);
        return EXIT_CODE_OK;
}

int command_adopt(struct ctl *c)
{
        struct adoption a = { .passphrase_fd = -1 };
        int r = check_options(&c->adopt);

        if (r)
                return r;
        if (kdf_init() < 0)
                return ctl_refuse(EXIT_CODE_FAILED, "libcrypto was in use before its memory could be guarded. Install all of lkm again");
        each_begin(&a.each, c, adopt_step);
        a.each.adopts = true;
        r = open_files(&a);
        if (r)
                return r;
        each_database(&a.each, c->arguments[0]);
        return each_end(&a.each, false);
}
