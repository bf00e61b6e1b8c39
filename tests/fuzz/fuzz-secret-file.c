/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of lkm-kms that hold secrets, with any content. The first byte tells which: 'k' a local KEK, to which a version is added when it is one; 'w'
 * one word (a token, a secret id); anything else a whole file. A refusal has a sentence, which holds nothing of the file; no slot stays behind.
 */
#include <errno.h>

#include "daemon/kms/local-kek.h"
#include "daemon/kms/secret-file.h"
#include "proto/frame.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/scratch.h"

static void check_refusal(int r, const struct sentence *why)
{
        check(r == -EINVAL || r == -ENODATA || r == -EMSGSIZE);
        check(*why->text && bytes_is_text(bytes_from_string(why->text)));
}

static void check_kek(const struct local_kek *kek)
{
        check(kek->n_versions >= 1 && kek->n_versions <= LOCAL_KEK_VERSION_MAX);
        check(strncmp(kek->id, LOCAL_KEK_ID_PREFIX, strlen(LOCAL_KEK_ID_PREFIX)) == 0 && strlen(kek->id) == sizeof(kek->id) - 1);
        check(local_kek_newest(kek) == &kek->versions[kek->n_versions - 1]);
        for (size_t i = 0; i < kek->n_versions; i++) {
                check(i == 0 || kek->versions[i].number > kek->versions[i - 1].number);
                check(secret_size(kek->versions[i].key) == KEY_SIZE);
                check(local_kek_version_find(kek, kek->versions[i].number) == &kek->versions[i]);
        }
}

static void try_kek(const char *path)
{
        _cleanup_(local_kek_freep) struct local_kek *kek = NULL, *grown = NULL;
        struct sentence why = { 0 };
        uint32_t number;
        int r = local_kek_read(&kek, path, LOCAL_KEK_FILE, &why);

        if (r < 0) {
                check_refusal(r, &why);
                return;
        }
        check_kek(kek);
        if (local_kek_newest(kek)->number == LOCAL_KEK_VERSION_MAX)
                return;
        check(local_kek_add_version(path, &number, &why) == 0);
        check(local_kek_read(&grown, path, LOCAL_KEK_FILE, &why) == 0);
        check_kek(grown);
        check(grown->n_versions == kek->n_versions + 1 && local_kek_newest(grown)->number == number);
        for (size_t i = 0; i < kek->n_versions; i++)
                check(secret_equal(kek->versions[i].key, grown->versions[i].key));
}

static void try_word(const char *path, struct bytes content)
{
        struct sentence why = { 0 };
        struct secret *word = NULL;
        int r = secret_file_read_word(&word, path, SECRET_FILE_OWN, &why);
        uint8_t *view;

        if (r < 0) {
                check_refusal(r, &why);
                return;
        }
        view = secret_view_begin(word);
        check(secret_size(word) <= content.n && bytes_equal((struct bytes){ view, secret_size(word) }, (struct bytes){ content.data, secret_size(word) }));
        for (size_t i = 0; i < secret_size(word); i++)
                check(view[i] > ' ' && view[i] < 0x7f);
        secret_view_end(word, &view);
        secret_unref(word);
}

static void try_file(const char *path, struct bytes content)
{
        struct sentence why = { 0 };
        struct secret *text = NULL;
        bool is_private = false;
        int r = secret_file_read(&text, &is_private, path, SECRET_FILE_OWN, &why);

        check(r == (content.n == 0 ? -ENODATA : content.n > SECRET_BODY_MAX ? -EMSGSIZE : 0));
        if (r < 0)
                check_refusal(r, &why);
        else
                check(is_private && secret_size(text) == content.n);
        secret_unref(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct bytes input = { data, n };
        uint8_t kind = fuzz_byte(&input);
        const char *path = scratch_write("secret", input);

        check_arena();
        if (kind == 'k')
                try_kek(path);
        else if (kind == 'w')
                try_word(path, input);
        else
                try_file(path, input);
        check_arena();
        return 0;
}
