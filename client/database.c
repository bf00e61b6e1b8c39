/* SPDX-License-Identifier: Apache-2.0 */
#include "client/database.h"

#include <errno.h>

#include "client/key.h"

enum { CIPHER_LIBRARY_MAX = 32, LABEL_MAX = 64 };

/* ---- records ---- */

void database_record_deinit(struct database_record *record)
{
        free(record->path);
        free(record->data);
        *record = (struct database_record){ 0 };
}

int database_path_error(struct lkm *lkm, const char *what, const char *path, int negative_errno)
{
        return error_set(lkm, LKM_E_IO, "cannot %s %s: %s. Check its owner, its permissions and the space on the disk.",
                         what, path, strerror(-negative_errno));
}

/* There is no record: is there a database that has lost it? */
static int record_absent(struct lkm *lkm, const char *database_path)
{
        int exists = keyfile_database_exists(database_path);

        if (exists < 0)
                return database_path_error(lkm, "look at", database_path, exists);
        if (exists)
                return error_set(
                        lkm, LKM_E_KEY_MISSING,
                        "%s exists, but %s.key does not. Restore the .key from a backup: no other key opens the database, and "
                        "none is made for it.",
                        database_path, database_path);
        return error_set(lkm, LKM_E_NOT_FOUND,
                         "there is neither %s nor %s.key. Check the path, or create the database first.", database_path,
                         database_path);
}

int database_record_read(struct lkm *lkm, const char *database_path, struct database_record *ret_record)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };
        int r;

        if (!database_path || !*database_path)
                return error_set(lkm, LKM_E_ARGUMENT, "the database's path is empty");
        r = keyfile_path(&record.path, database_path);
        if (r < 0)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        r = keyfile_read(record.path, &record.data, &record.n);
        if (r == -ENOENT)
                return record_absent(lkm, database_path);
        if (r == KEYFILE_E_INVALID)
                return error_set(
                        lkm, LKM_E_RECORD_DAMAGED,
                        "%s is empty, over 64 KiB or no regular file. Restore it from a backup; do not delete it.",
                        record.path);
        if (r < 0)
                return database_path_error(lkm, "read", record.path, r);
        *ret_record = TAKE_STRUCT(record, { 0 });
        return 0;
}

static int record_take_copy(struct lkm *lkm, struct database_record *record, struct bytes newer)
{
        uint8_t *data = newer.n > 0 ? malloc(newer.n) : NULL;

        if (!data)
                return error_set_default(lkm, newer.n > 0 ? LKM_E_NO_MEMORY : LKM_E_PROTOCOL);
        memcpy(data, newer.data, newer.n);
        free(record->data);
        record->data = data;
        record->n = newer.n;
        return 0;
}

static void record_read_again(struct database_record *record)
{
        free(TAKE_PTR(record->data));
        record->n = 0;
        (void)keyfile_read(record->path, &record->data, &record->n);
}

int database_record_put(struct lkm *lkm, struct database_record *record, struct keyfile_lock *lock, struct bytes newer)
{
        int r = keyfile_replace(lock, newer);

        if (r == 0)
                return record_take_copy(lkm, record, newer);
        record_read_again(record);
        return database_path_error(lkm, "replace", record->path, r);
}

/* Under the lock. Return: 0, -errno. */
static int record_replace(struct database_record *record, struct keyfile_lock *lock, struct bytes older, struct bytes newer)
{
        _cleanup_(freep) uint8_t *now = NULL;
        size_t n;
        int r = keyfile_read(lock->path, &now, &n);

        if (r)
                return r < 0 ? r : -EBADMSG;
        if (bytes_equal((struct bytes){ now, n }, older))
                return keyfile_replace(lock, newer);
        free(record->data);
        record->data = TAKE_PTR(now);
        record->n = n;
        return 0;
}

int database_record_upgraded(struct lkm *lkm, struct database_record *record, struct keyfile_lock *lock, struct bytes newer)
{
        _cleanup_(database_record_deinit) struct database_record older = { .data = record->data, .n = record->n };
        struct keyfile_lock own = KEYFILE_LOCK_INIT;
        int r;

        record->data = NULL;
        r = record_take_copy(lkm, record, newer);
        if (r)
                return r;
        if (!lock)
                r = keyfile_lock(&own, record->path, 0);
        if (r == 0)
                r = record_replace(record, lock ? lock : &own, (struct bytes){ older.data, older.n }, newer);
        keyfile_unlock(&own);
        /* Whoever only reads the database has its key all the same; its owner will write the upgrade, or just does. */
        if (r < 0 && r != -EACCES && r != -EPERM && r != -EROFS && r != -EWOULDBLOCK)
                return database_path_error(lkm, "replace", record->path, r);
        return 0;
}

/* ---- keys ---- */

static struct bytes text_or_none(const char *text)
{
        return text ? bytes_from_string(text) : (struct bytes){ 0 };
}

static int key_from_answer(struct lkm *lkm, union message *answer, struct lkm_key **ret_key)
{
        int r = key_new(ret_key, &answer->key);

        message_deinit(answer);
        connection_settle(lkm);
        if (r < 0)
                return error_set_default(lkm, r == -ENOMEM ? LKM_E_NO_MEMORY : LKM_E_PROTOCOL);
        return 0;
}

enum { PURPOSE_RECOVER = 1 };

static int ask(struct lkm *lkm, const union message *request, struct lkm_key **ret_key)
{
        union message answer;
        int r = connection_call(lkm, request, MESSAGE_KEY, &answer);

        return r ? r : key_from_answer(lkm, &answer, ret_key);
}

static int get(struct lkm *lkm, struct bytes record, const char *scope, uint32_t version, struct lkm_key **ret_key)
{
        const union message request = {
                .get = { .number_ = MESSAGE_GET, .record = record, .scope = text_or_none(scope), .version = version }
        };

        return ask(lkm, &request, ret_key);
}

int database_record_recover(struct lkm *lkm, const struct database_record *record, uint32_t version, struct lkm_key **ret_key)
{
        const union message request = {
                .get = { .number_ = MESSAGE_GET, .record = { record->data, record->n }, .version = version, .purpose = PURPOSE_RECOVER }
        };

        return ask(lkm, &request, ret_key);
}

int lkm_get(struct lkm *lkm, const void *record, size_t n_record, const char *scope, struct lkm_key **ret_key)
{
        if (!record || n_record == 0 || !ret_key)
                return lkm ? error_set_default(lkm, LKM_E_ARGUMENT) : LKM_E_ARGUMENT;
        return get(lkm, (struct bytes){ record, n_record }, scope, 0, ret_key);
}

static int record_upgrade(struct lkm *lkm, struct database_record *record, struct keyfile_lock *lock, const char *scope)
{
        union message request = {
                .upgrade = { .number_ = MESSAGE_UPGRADE,
                             .record = { record->data, record->n },
                             .scope = text_or_none(scope) },
        };
        union message answer;
        int r = connection_call(lkm, &request, MESSAGE_RECORD, &answer);

        if (r)
                return r;
        r = database_record_upgraded(lkm, record, lock, answer.record.record);
        connection_settle(lkm);
        return r;
}

int database_record_get(struct lkm *lkm, struct database_record *record, struct keyfile_lock *lock, const char *scope, uint32_t version,
                        struct lkm_key **ret_key)
{
        int r = get(lkm, (struct bytes){ record->data, record->n }, scope, version, ret_key);

        if (r != LKM_E_RECORD_OUTDATED)
                return r;
        r = record_upgrade(lkm, record, lock, scope);
        return r ? r : get(lkm, (struct bytes){ record->data, record->n }, scope, version, ret_key);
}

static int refuse_existing(struct lkm *lkm, const char *path)
{
        return error_set(lkm, LKM_E_EXISTS,
                         "%s exists already, and nothing is overwritten. Load it instead, or choose another path.",
                         path);
}

/* Neither a database nor, by now, a record of it may be there. Asked again after CREATE, which may have taken seconds. */
static int database_is_absent(struct lkm *lkm, const char *database_path)
{
        int exists = keyfile_database_exists(database_path);

        if (exists < 0)
                return database_path_error(lkm, "look at", database_path, exists);
        return exists ? refuse_existing(lkm, database_path) : 0;
}

/* Write @content where no record may be, and keep a copy. */
static int record_write(struct lkm *lkm, const char *database_path, struct database_record *record,
                        struct bytes content)
{
        int r = database_is_absent(lkm, database_path);

        if (r)
                return r;
        r = keyfile_create(record->path, content);
        if (r == -EEXIST)
                return refuse_existing(lkm, record->path);
        if (r < 0)
                return database_path_error(lkm, "create", record->path, r);
        record->data = malloc(content.n);
        if (!record->data)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        memcpy(record->data, content.data, content.n);
        record->n = content.n;
        return 0;
}

static int record_create(struct lkm *lkm, const char *database_path, const struct lkm_create_options *o,
                         struct database_record *record)
{
        union message request = { .create = { .number_ = MESSAGE_CREATE } }, answer;
        int r;

        if (o) {
                request.create.scope = text_or_none(o->scope);
                request.create.cipher_library = text_or_none(o->cipher_library);
                request.create.cipher_compatibility = (uint8_t)o->cipher_compatibility;
                request.create.page_size = o->page_size;
                request.create.label = text_or_none(o->label);
        }
        r = connection_call(lkm, &request, MESSAGE_RECORD, &answer);
        if (r)
                return r;
        r = record_write(lkm, database_path, record, answer.record.record);
        connection_settle(lkm);
        return r;
}

int lkm_initialize(struct lkm *lkm, const char *database_path, const struct lkm_create_options *options,
                   struct lkm_key **ret_key)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 }, existing = { 0 };
        int r = connection_check(lkm);

        if (r)
                return r;
        if (!ret_key ||
            (options && (options->cipher_compatibility > UINT8_MAX || (options->label && strlen(options->label) > LABEL_MAX) ||
                         (options->cipher_library && strlen(options->cipher_library) > CIPHER_LIBRARY_MAX))))
                return error_set_default(lkm, LKM_E_ARGUMENT);
        r = database_record_read(lkm, database_path, &existing);
        if (r == 0 || r == LKM_E_RECORD_DAMAGED)
                return error_set(
                        lkm, LKM_E_EXISTS,
                        "%s.key exists already, and nothing is overwritten. Load it instead, or choose another path.",
                        database_path);
        if (r == LKM_E_KEY_MISSING)
                return refuse_existing(lkm, database_path);
        if (r != LKM_E_NOT_FOUND)
                return r;
        if (keyfile_path(&record.path, database_path) < 0)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        r = record_create(lkm, database_path, options, &record);
        return r ? r : lkm_get(lkm, record.data, record.n, NULL, ret_key);
}

int lkm_get_or_create(struct lkm *lkm, const char *database_path, const struct lkm_create_options *options,
                      struct lkm_key **ret_key)
{
        const char *scope = options ? options->scope : NULL;
        int r = lkm_load(lkm, database_path, scope, ret_key);

        if (r != LKM_E_NOT_FOUND)
                return r;
        r = lkm_initialize(lkm, database_path, options, ret_key);
        /* Somebody was faster. A database without a record is then refused by lkm_load(). */
        return r == LKM_E_EXISTS ? lkm_load(lkm, database_path, scope, ret_key) : r;
}
