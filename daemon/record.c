/* SPDX-License-Identifier: Apache-2.0 */
/* record: parsing, and what a parsed record tells. Building and the mac are in record-write.c. */
#include "daemon/record.h"

#include <errno.h>
#include <jansson.h>

#include "common/clock.h"

/* ---- typed access: each says in *why which member is wrong ---- */

static const char *get_string(json_t *object, const char *member, size_t maximum, const char **why)
{
        json_t *value = json_object_get(object, member);

        if (json_is_string(value) && json_string_length(value) <= maximum &&
            bytes_is_text(bytes_from_string(json_string_value(value))))
                return json_string_value(value);
        *why = member;
        return NULL;
}

static bool get_number(json_t *object, const char *member, uint32_t low, uint32_t high, uint32_t *ret_n, const char **why)
{
        json_t *value = json_object_get(object, member);

        if (json_is_integer(value) && json_integer_value(value) >= low && json_integer_value(value) <= high) {
                *ret_n = (uint32_t)json_integer_value(value);
                return true;
        }
        *why = member;
        return false;
}

static bool get_date(json_t *object, const char *member, uint64_t *ret_usec, const char **why)
{
        const char *text = get_string(object, member, CLOCK_TEXT_LENGTH, why);

        if (text && clock_parse(ret_usec, text) == 0)
                return true;
        *why = member;
        return false;
}

/* Base64 to heap. Return: 0, RECORD_E_DAMAGED, -ENOMEM. */
static int get_blob(json_t *object, const char *member, uint8_t **ret_data, size_t *ret_n, const char **why)
{
        const char *text = get_string(object, member, BASE64_LENGTH(WRAPPED_MAX), why);
        uint8_t *data;

        if (!text || !*text)
                return *why = member, RECORD_E_DAMAGED;
        data = malloc(strlen(text));
        if (!data)
                return -ENOMEM;
        if (base64_parse(data, ret_n, text, strlen(text)) < 0) {
                free(data);
                return *why = member, RECORD_E_DAMAGED;
        }
        *ret_data = data;
        return 0;
}

/* Every member is one of @names or @optional (NULL-terminated), and each of @names is there. */
static bool members_may_be(json_t *object, const char *const *names, const char *const *optional, const char **why)
{
        size_t n = 0, n_optional = 0;

        if (!json_is_object(object))
                return false;
        for (; names[n]; n++) {
                if (!json_object_get(object, names[n])) {
                        *why = names[n];
                        return false;
                }
        }
        for (; *optional; optional++)
                n_optional += json_object_get(object, *optional) != NULL;
        if (json_object_size(object) == n + n_optional)
                return true;
        *why = "a member that no record has";
        return false;
}

static bool members_are(json_t *object, const char *const *names, const char **why)
{
        return members_may_be(object, names, (const char *const[]){ NULL }, why);
}

/* ---- parts ---- */

static int parse_context(struct record *r, json_t *object, const char **why)
{
        const char *key;
        json_t *value;

        *why = "encryption_context";
        if (!json_is_object(object) || json_object_size(object) > 8)
                return RECORD_E_DAMAGED;
        json_object_foreach (object, key, value) {
                struct bytes k = bytes_from_string(key), v;

                if (!json_is_string(value))
                        return RECORD_E_DAMAGED;
                v = bytes_from_string(json_string_value(value));
                if (v.n != json_string_length(value) || k.n == 0 || k.n > PAIR_KEY_MAX || v.n > PAIR_VALUE_MAX || !bytes_is_text(k) ||
                    !bytes_is_text(v) || strncmp(key, "lkm:", 4) == 0)
                        return RECORD_E_DAMAGED;
                r->encryption_context.pair[r->encryption_context.n].key = k;
                r->encryption_context.pair[r->encryption_context.n++].value = v;
        }
        return pairs_sort(&r->encryption_context) < 0 ? RECORD_E_DAMAGED : 0;
}

static int parse_wrap(struct record_wrap *wrap, json_t *object, const char **why)
{
        const char *id = get_string(object, "kek_id", KEK_ID_MAX, why);

        if (!id || !*id)
                return *why = "kek_id", RECORD_E_DAMAGED;
        wrap->kek_id = strdup(id);
        if (!wrap->kek_id)
                return -ENOMEM;
        return get_blob(object, "encrypted_dek", &wrap->wrapped, &wrap->n_wrapped, why);
}

static const char *const states[] = { [RECORD_STATE_PENDING] = "pending", [RECORD_STATE_CURRENT] = "current",
                                      [RECORD_STATE_RETIRED] = "retired", [RECORD_STATE_DESTROYED] = "destroyed" };

static bool parse_state(enum record_state *ret_state, const char *text)
{
        for (unsigned i = 0; text && i < ELEMENTSOF(states); i++) {
                if (strcmp(states[i], text) == 0) {
                        *ret_state = (enum record_state)i;
                        return true;
                }
        }
        return false;
}

const char *record_state_text(enum record_state state)
{
        return states[state];
}

/* What only some states have. A record of before these members, with a retired version that does not say when, is one too. */
static bool parse_state_members(struct record_version *v, json_t *object, const char **why)
{
        bool has_ended = v->state == RECORD_STATE_RETIRED || v->state == RECORD_STATE_DESTROYED;
        const char *mode;

        if (json_object_get(object, "ended_at") && (!has_ended || !get_date(object, "ended_at", &v->ended_at_usec, why)))
                return *why = "ended_at", false;
        if (!json_object_get(object, "journal_mode"))
                return true;
        mode = get_string(object, "journal_mode", 3, why);
        v->restore_wal = mode && strcmp(mode, "wal") == 0 && v->state == RECORD_STATE_PENDING;
        *why = "journal_mode";
        return v->restore_wal;
}

static int parse_version(struct record_version *v, json_t *object, const char **why)
{
        static const char *const members[] = { "number", "state", "created_at", "wraps", NULL };
        static const char *const optional[] = { "ended_at", "journal_mode", NULL };
        static const char *const wrap_members[] = { "kek_id", "encrypted_dek", NULL };
        json_t *wraps, *wrap;
        size_t i;
        int r = 0;

        *why = "versions";
        if (!members_may_be(object, members, optional, why) || !get_number(object, "number", 1, UINT32_MAX, &v->number, why) ||
            !get_date(object, "created_at", &v->created_at_usec, why))
                return RECORD_E_DAMAGED;
        if (!parse_state(&v->state, get_string(object, "state", 16, why)))
                return *why = "state", RECORD_E_DAMAGED;
        if (!parse_state_members(v, object, why))
                return RECORD_E_DAMAGED;
        wraps = json_object_get(object, "wraps");
        *why = "wraps";
        if (!json_is_array(wraps) || json_array_size(wraps) > RECORD_WRAPS_MAX ||
            (json_array_size(wraps) == 0) != (v->state == RECORD_STATE_DESTROYED))
                return RECORD_E_DAMAGED;
        json_array_foreach (wraps, i, wrap) {
                if (!members_are(wrap, wrap_members, why))
                        return RECORD_E_DAMAGED;
                v->n_wraps++;
                r = parse_wrap(&v->wraps[i], wrap, why);
                if (r)
                        return r;
        }
        return 0;
}

static int parse_versions(struct record *r, json_t *array, const char **why)
{
        size_t n_current = 0, i;
        json_t *object;
        int result;

        *why = "versions";
        if (!json_is_array(array) || json_array_size(array) == 0 || json_array_size(array) > RECORD_VERSIONS_MAX)
                return RECORD_E_DAMAGED;
        r->versions = calloc(json_array_size(array), sizeof(*r->versions));
        if (!r->versions)
                return -ENOMEM;
        json_array_foreach (array, i, object) {
                r->n_versions++;
                result = parse_version(&r->versions[i], object, why);
                if (result)
                        return result;
                *why = "versions";
                if (i > 0 && r->versions[i].number <= r->versions[i - 1].number)
                        return RECORD_E_DAMAGED;
                if (i > 0 && r->versions[i - 1].state == RECORD_STATE_PENDING) /* it is the last one */
                        return RECORD_E_DAMAGED;
                n_current += r->versions[i].state == RECORD_STATE_CURRENT;
        }
        return n_current == 1 ? 0 : RECORD_E_DAMAGED;
}

static int parse_cipher(struct record *r, json_t *object, const char **why)
{
        static const char *const members[] = { "library", "compatibility", "page_size", NULL };
        const char *library;
        uint32_t compatibility;

        *why = "cipher";
        if (!members_are(object, members, why))
                return RECORD_E_DAMAGED;
        library = get_string(object, "library", sizeof(r->cipher.library) - 1, why);
        if (!library || !get_number(object, "compatibility", 0, 255, &compatibility, why) ||
            !get_number(object, "page_size", 0, 65536, &r->cipher.page_size, why))
                return RECORD_E_DAMAGED;
        snprintf(r->cipher.library, sizeof(r->cipher.library), "%s", library);
        r->cipher.compatibility = (uint8_t)compatibility;
        return 0;
}

/* What both formats have on top. */
static int parse_common(struct record *r, json_t *root, struct record_wrap *mirror, uint32_t *ret_version, const char **why)
{
        const char *spec = get_string(root, "dek_spec", 16, why);
        int result;

        if (!spec || strcmp(spec, "AES_256") != 0)
                return *why = "dek_spec", RECORD_E_DAMAGED;
        if (!get_number(root, "version", 1, UINT32_MAX, ret_version, why) || !get_date(root, "created_at", &r->created_at_usec, why))
                return RECORD_E_DAMAGED;
        if (!json_is_null(json_object_get(root, "rotated_at")) && !get_date(root, "rotated_at", &r->rotated_at_usec, why))
                return RECORD_E_DAMAGED;
        result = parse_context(r, json_object_get(root, "encryption_context"), why);
        return result ? result : parse_wrap(mirror, root, why);
}

static int parse_format_1(struct record *r, json_t *root, const char **why)
{
        static const char *const members[] = { "encrypted_dek", "kek_id", "version", "created_at",
                                               "rotated_at", "encryption_context", "dek_spec", NULL };
        int result;

        if (!members_are(root, members, why))
                return RECORD_E_DAMAGED;
        r->versions = calloc(1, sizeof(*r->versions));
        if (!r->versions)
                return -ENOMEM;
        r->n_versions = 1;
        r->versions->n_wraps = 1;
        r->versions->state = RECORD_STATE_CURRENT;
        result = parse_common(r, root, &r->versions->wraps[0], &r->versions->number, why);
        r->versions->created_at_usec = r->rotated_at_usec ? r->rotated_at_usec : r->created_at_usec;
        return result;
}

static bool mirror_fits(const struct record_version *current, const struct record_wrap *mirror, uint32_t version)
{
        const struct record_wrap *first = &current->wraps[0];

        return current->number == version && strcmp(first->kek_id, mirror->kek_id) == 0 &&
               bytes_equal((struct bytes){ first->wrapped, first->n_wrapped }, (struct bytes){ mirror->wrapped, mirror->n_wrapped });
}

static int parse_identity(struct record *r, json_t *root, const char **why)
{
        const char *id = get_string(root, "database_id", UUID_TEXT_LENGTH, why);
        const char *scope = get_string(root, "scope", SCOPE_NAME_MAX, why), *label, *mac;
        uint8_t digest[BASE64_LENGTH(sizeof(r->mac)) / 4 * 3];
        size_t n;

        if (!id || uuid_parse(r->database_id, id, strlen(id)) < 0)
                return *why = "database_id", RECORD_E_DAMAGED;
        if (!scope || !*scope)
                return *why = "scope", RECORD_E_DAMAGED;
        snprintf(r->scope, sizeof(r->scope), "%s", scope);
        if (json_object_get(root, "label")) {
                label = get_string(root, "label", RECORD_LABEL_MAX, why);
                if (!label || !*label || !bytes_is_text(bytes_from_string(label)))
                        return *why = "label", RECORD_E_DAMAGED;
                snprintf(r->label, sizeof(r->label), "%s", label);
        }
        mac = get_string(root, "mac", BASE64_LENGTH(sizeof(r->mac)), why);
        if (!mac || base64_parse(digest, &n, mac, strlen(mac)) < 0 || n != sizeof(r->mac))
                return *why = "mac", RECORD_E_DAMAGED;
        memcpy(r->mac, digest, sizeof(r->mac));
        return 0;
}

static int parse_format_2(struct record *r, json_t *root, const char **why)
{
        static const char *const members[] = { "format", "database_id", "scope", "cipher", "encrypted_dek", "kek_id", "version",
                                               "created_at", "rotated_at", "encryption_context", "dek_spec", "versions", "mac",
                                               NULL };
        struct record_wrap mirror = { 0 };
        uint32_t version;
        int result;

        if (!members_may_be(root, members, (const char *const[]){ "label", NULL }, why))
                return RECORD_E_DAMAGED;
        result = parse_identity(r, root, why);
        if (result == 0)
                result = parse_cipher(r, json_object_get(root, "cipher"), why);
        if (result == 0)
                result = parse_versions(r, json_object_get(root, "versions"), why);
        if (result == 0)
                result = parse_common(r, root, &mirror, &version, why);
        if (result == 0 && !mirror_fits(record_current(r), &mirror, version)) {
                *why = "the members on top do not mirror the current version";
                result = RECORD_E_DAMAGED;
        }
        record_wrap_deinit(&mirror);
        return result;
}

int record_parse(struct record **ret_record, struct bytes text, const char **ret_why)
{
        _cleanup_(record_unrefp) struct record *r = calloc(1, sizeof(*r));
        json_error_t error;
        json_t *root, *format;
        int result;

        if (!r)
                return -ENOMEM;
        r->n_refs = 1;
        *ret_why = "not a JSON object";
        /* jansson takes a zero byte for the end, and what follows for nothing. */
        if (text.n == 0 || text.n > RECORD_MAX || memchr(text.data, '\0', text.n))
                return RECORD_E_DAMAGED;
        root = json_loadb((const char *)text.data, text.n, JSON_REJECT_DUPLICATES, &error);
        if (!root)
                return RECORD_E_DAMAGED;
        r->json = root;
        if (!json_is_object(root))
                return RECORD_E_DAMAGED;
        format = json_object_get(root, "format");
        if (json_is_integer(format) && json_integer_value(format) > 2)
                return RECORD_E_NEWER;
        if (format && (!json_is_integer(format) || json_integer_value(format) != 2))
                return *ret_why = "format", RECORD_E_DAMAGED;
        r->format = format ? 2 : 1;
        result = format ? parse_format_2(r, root, ret_why) : parse_format_1(r, root, ret_why);
        if (result)
                return result;
        *ret_record = TAKE_PTR(r);
        return 0;
}

struct record *record_ref(struct record *r)
{
        r->n_refs++;
        return r;
}

int record_wrap_copy(struct record_wrap *ret_wrap, struct bytes kek_id, struct bytes wrapped)
{
        struct record_wrap copy = { .kek_id = bytes_to_string(kek_id), .wrapped = malloc(wrapped.n), .n_wrapped = wrapped.n };

        if (!copy.kek_id || !copy.wrapped) {
                record_wrap_deinit(&copy);
                return -ENOMEM;
        }
        memcpy(copy.wrapped, wrapped.data, wrapped.n);
        *ret_wrap = copy;
        return 0;
}

void record_wrap_deinit(struct record_wrap *wrap)
{
        free(wrap->kek_id);
        free(wrap->wrapped);
}

struct record *record_unref(struct record *r)
{
        if (!r || --r->n_refs > 0)
                return NULL;
        for (size_t i = 0; i < r->n_versions; i++) {
                for (size_t j = 0; j < r->versions[i].n_wraps; j++)
                        record_wrap_deinit(&r->versions[i].wraps[j]);
        }
        free(r->versions);
        json_decref(r->json);
        free(r);
        return NULL;
}

const struct record_version *record_current(const struct record *r)
{
        for (size_t i = 0; i < r->n_versions; i++) {
                if (r->versions[i].state == RECORD_STATE_CURRENT)
                        return &r->versions[i];
        }
        return NULL; /* not after record_parse() */
}

const struct record_version *record_pending(const struct record *r)
{
        const struct record_version *last = &r->versions[r->n_versions - 1];

        return last->state == RECORD_STATE_PENDING ? last : NULL;
}

const struct record_version *record_version_find(const struct record *r, uint32_t number)
{
        for (size_t i = 0; i < r->n_versions && number > 0; i++) {
                if (r->versions[i].number == number)
                        return &r->versions[i];
        }
        return number == 0 ? record_current(r) : NULL;
}

void record_context(struct pairs *ret_pairs, struct record_context_storage *storage, const struct record *r, uint32_t version)
{
        *ret_pairs = r->encryption_context;
        if (r->format == 1)
                return;
        uuid_format(storage->database, r->database_id);
        snprintf(storage->version, sizeof(storage->version), "%u", version);
        ret_pairs->pair[ret_pairs->n].key = BYTES_LITERAL("lkm:scope");
        ret_pairs->pair[ret_pairs->n++].value = bytes_from_string(r->scope);
        ret_pairs->pair[ret_pairs->n].key = BYTES_LITERAL("lkm:database");
        ret_pairs->pair[ret_pairs->n++].value = bytes_from_string(storage->database);
        ret_pairs->pair[ret_pairs->n].key = BYTES_LITERAL("lkm:version");
        ret_pairs->pair[ret_pairs->n++].value = bytes_from_string(storage->version);
        pairs_sort(ret_pairs); /* the user's keys cannot begin with lkm: */
}
