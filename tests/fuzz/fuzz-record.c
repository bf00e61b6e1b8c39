/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record_parse() and record_verify() on any bytes. What parses keeps the promises of record.h; the record that follows it, signed with the corpus' key,
 * parses, verifies, and says the same. A record that the key of the corpus verifies is one that the key has signed: none is made by chance.
 */
#include <errno.h>

#include "daemon/record.h"
#include "tests/fuzz/fuzz.h"

static struct secret *key_of_corpus(void)
{
        struct secret *key;
        uint8_t *view;

        check(secret_new(&key, KEY_SIZE) == 0);
        view = secret_view_begin(key);
        for (uint8_t i = 0; i < KEY_SIZE; i++)
                view[i] = i;
        secret_view_end(key, &view);
        return key;
}

static void check_record(const struct record *r)
{
        size_t n_current = 0;

        check(r->format == 1 || r->format == 2);
        check(r->n_versions >= 1 && r->n_versions <= RECORD_VERSIONS_MAX);
        for (size_t i = 0; i < r->n_versions; i++) {
                const struct record_version *v = &r->versions[i];

                n_current += v->state == RECORD_STATE_CURRENT;
                check(i == 0 || v->number > v[-1].number);
                check(v->n_wraps <= RECORD_WRAPS_MAX && (v->n_wraps == 0) == (v->state == RECORD_STATE_DESTROYED));
                check(v->state != RECORD_STATE_PENDING || i == r->n_versions - 1);
                for (size_t k = 0; k < v->n_wraps; k++)
                        check(v->wraps[k].n_wrapped > 0 && bytes_is_text(bytes_from_string(v->wraps[k].kek_id)));
        }
        check(n_current == 1 && record_current(r)->state == RECORD_STATE_CURRENT && record_version_find(r, 0) == record_current(r));
}

static void try_next(const struct record *r, struct secret *key)
{
        _cleanup_(record_unrefp) struct record *next = NULL;
        _cleanup_(freep) char *text = NULL;
        const struct record_next versions = { r->n_versions, r->versions, r->rotated_at_usec };
        const char *why;
        size_t n;
        int result = record_next_text(&text, &n, r, &versions, key);

        check(result == 0 || result == -EMSGSIZE);
        if (result < 0)
                return;
        check(n <= RECORD_MAX && record_parse(&next, (struct bytes){ (const uint8_t *)text, n }, &why) == 0);
        check(record_verify(next, key) == 0);
        check_record(next);
        check(next->n_versions <= r->n_versions && record_current(next)->number == record_current(r)->number);
        check(strcmp(next->scope, r->scope) == 0 && next->encryption_context.n == r->encryption_context.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct record *r = NULL;
        struct secret *key;
        const char *why = NULL;
        int result;

        check_arena();
        key = key_of_corpus();
        result = record_parse(&r, (struct bytes){ data, n }, &why);
        check(result == 0 || result == RECORD_E_DAMAGED || result == RECORD_E_NEWER);
        check(result != RECORD_E_DAMAGED || (why && *why));
        if (result == 0) {
                struct record_context_storage storage;
                struct pairs context;

                check(!memchr(data, '\0', n));
                check_record(r);
                record_context(&context, &storage, r, record_current(r)->number);
                check(context.n >= r->encryption_context.n);
                result = record_verify(r, key);
                check(result == 0 || result == RECORD_E_MAC);
                if (r->format == 2)
                        try_next(r, key);
        }
        record_unref(r);
        secret_unref(key);
        check_arena();
        return 0;
}
