/* SPDX-License-Identifier: Apache-2.0 */
/* load: the keys of databases that have one. A rotation that was interrupted is ended on the way, where the caller wants the database's
 * own key. */
#include "client/database.h"
#include "client/rotate.h"

static int refuse_arguments(struct lkm *lkm)
{
        return lkm ? error_set_default(lkm, LKM_E_ARGUMENT) : LKM_E_ARGUMENT;
}

static int load(struct lkm *lkm, const char *database_path, const char *scope, uint32_t version, struct lkm_key **ret_key)
{
        _cleanup_(database_record_deinit) struct database_record record = { 0 };
        int r = connection_check(lkm);

        if (r == 0)
                r = database_record_read(lkm, database_path, &record);
        return r ? r : database_record_get(lkm, &record, NULL, scope, version, ret_key);
}

static uint32_t pending_of(const struct lkm_key *key)
{
        struct lkm_key_info info;

        return lkm_key_info(key, &info) == 0 ? info.pending : 0;
}

int lkm_load(struct lkm *lkm, const char *database_path, const char *scope, struct lkm_key **ret_key)
{
        _cleanup_(lkm_key_free) struct lkm_key *key = NULL;
        int r;

        if (!ret_key)
                return refuse_arguments(lkm);
        r = load(lkm, database_path, scope, 0, &key);
        if (r)
                return r;
        if (pending_of(key))
                return rotate_load(lkm, database_path, scope, ret_key);
        *ret_key = TAKE_PTR(key);
        return 0;
}

int lkm_load_version(struct lkm *lkm, const char *database_path, uint32_t version, struct lkm_key **ret_key)
{
        if (!ret_key || version == 0)
                return refuse_arguments(lkm);
        return load(lkm, database_path, NULL, version, ret_key);
}

int lkm_needs_rotation(struct lkm *lkm, const char *database_path, int *ret_needed)
{
        _cleanup_(lkm_key_free) struct lkm_key *key = NULL;
        struct lkm_key_info info;
        int r;

        if (!ret_needed)
                return refuse_arguments(lkm);
        r = load(lkm, database_path, NULL, 0, &key);
        if (r == 0)
                r = lkm_key_info(key, &info);
        if (r)
                return r;
        *ret_needed = info.pending || (info.flags & LKM_KEY_ROTATION_DUE) ? 1 : 0;
        return 0;
}
