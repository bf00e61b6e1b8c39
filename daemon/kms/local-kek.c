/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/local-kek.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "daemon/durable.h"
#include "daemon/kms/secret-file.h"

#define HEADER "lkm-local-kek 1 "
enum { KEY_HEX = 2 * KEY_SIZE, VERSION_TEXT_MAX = 3 };

struct local_kek *local_kek_free(struct local_kek *kek)
{
        if (!kek)
                return NULL;
        for (size_t i = 0; i < kek->n_versions; i++)
                secret_unref(kek->versions[i].key);
        free(kek->path);
        free(kek);
        return NULL;
}

const struct local_kek_version *local_kek_version_find(const struct local_kek *kek, uint32_t number)
{
        for (size_t i = 0; i < kek->n_versions; i++)
                if (kek->versions[i].number == number)
                        return &kek->versions[i];
        return NULL;
}

const struct local_kek_version *local_kek_newest(const struct local_kek *kek)
{
        return &kek->versions[kek->n_versions - 1];
}

/* ---- reading ---- */

/* The next line of @text, without its newline, which is taken off @text. */
static struct bytes line_take(struct bytes *text)
{
        const uint8_t *end = memchr(text->data, '\n', text->n);
        struct bytes line = { text->data, end ? (size_t)(end - text->data) : text->n };
        size_t taken = line.n + (end ? 1 : 0);

        text->data += taken;
        text->n -= taken;
        return line;
}

static int header_parse(struct local_kek *kek, struct bytes line, struct sentence *ret_why)
{
        const size_t n_header = sizeof(HEADER) - 1;
        uint8_t uuid[UUID_SIZE];

        if (line.n == n_header + UUID_TEXT_LENGTH &&
            bytes_equal((struct bytes){ line.data, n_header }, BYTES_LITERAL(HEADER)) &&
            uuid_parse(uuid, (const char *)line.data + n_header, UUID_TEXT_LENGTH) == 0) {
                memcpy(kek->id, LOCAL_KEK_ID_PREFIX, sizeof(LOCAL_KEK_ID_PREFIX));
                uuid_format(kek->id + sizeof(LOCAL_KEK_ID_PREFIX) - 1, uuid);
                return 0;
        }
        sentence_set(ret_why,
                     "%s:1: the first line of a KEK file is \"" HEADER
                     "UUID\". Restore the file from a backup, or make a new KEK "
                     "with `lkm-kms --generate-kek FILE`",
                     kek->path);
        return -EINVAL;
}

/* Decimal without leading zeros, then one space. Return: the number, or 0. */
static uint32_t version_number_parse(struct bytes line, size_t *ret_n)
{
        uint32_t number = 0;
        size_t i = 0;

        while (i < line.n && i < VERSION_TEXT_MAX && line.data[i] >= '0' && line.data[i] <= '9')
                number = number * 10 + (uint32_t)(line.data[i++] - '0');
        if (i == 0 || line.data[0] == '0' || i == line.n || line.data[i] != ' ')
                return 0;
        *ret_n = i + 1;
        return number;
}

static int version_parse(struct local_kek *kek, struct bytes line, unsigned line_number, struct sentence *ret_why)
{
        struct local_kek_version *version = &kek->versions[kek->n_versions];
        uint32_t previous = kek->n_versions ? local_kek_newest(kek)->number : 0;
        size_t n_number = 0;
        uint32_t number = version_number_parse(line, &n_number);
        uint8_t *view;
        int r;

        if (number == 0 || line.n != n_number + KEY_HEX) {
                sentence_set(
                        ret_why,
                        "%s:%u: expected a version number, one space and %d hexadecimal digits. Restore the file from a backup",
                        kek->path, line_number, KEY_HEX);
                return -EINVAL;
        }
        if (number <= previous || number > LOCAL_KEK_VERSION_MAX) {
                sentence_set(
                        ret_why,
                        "%s:%u: version %u is out of order; versions ascend from 1 to at most %d. Restore the file from a backup",
                        kek->path, line_number, number, LOCAL_KEK_VERSION_MAX);
                return -EINVAL;
        }
        r = secret_new(&version->key, KEY_SIZE);
        if (r < 0) {
                sentence_set(ret_why, "%s:%u: no locked memory is left for this version. Use fewer KEKs or versions",
                             kek->path, line_number);
                return r;
        }
        version->number = number;
        kek->n_versions++;
        view = secret_view_begin(version->key);
        r = hex_parse(view, KEY_SIZE, (const char *)line.data + n_number, KEY_HEX);
        secret_view_end(version->key, &view);
        if (r < 0)
                sentence_set(
                        ret_why,
                        "%s:%u: the key of version %u has a character that is no hexadecimal digit. Restore the file from a backup",
                        kek->path, line_number, number);
        return r;
}

static int kek_parse(struct local_kek *kek, struct bytes text, struct sentence *ret_why)
{
        int r = header_parse(kek, line_take(&text), ret_why);

        for (unsigned line_number = 2; r == 0 && text.n > 0; line_number++)
                r = version_parse(kek, line_take(&text), line_number, ret_why);
        if (r == 0 && kek->n_versions == 0) {
                sentence_set(
                        ret_why,
                        "%s:2: the file has no key. Restore it from a backup, or remove it and make a new KEK with "
                        "`lkm-kms --generate-kek FILE`",
                        kek->path);
                return -EINVAL;
        }
        return r;
}

static int text_read(struct secret **ret_text, const char *path, enum local_kek_source source, struct sentence *ret_why)
{
        static const enum secret_file_rule rules[] = { [LOCAL_KEK_FILE] = SECRET_FILE_OWN,
                                                       [LOCAL_KEK_CREDENTIAL] = SECRET_FILE_CREDENTIAL,
                                                       [LOCAL_KEK_TOOL] = SECRET_FILE_NAMED };
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        int r = secret_file_read(&text, NULL, path, rules[source], ret_why);

        if (r == -ENODATA || r == -EMSGSIZE || (r == 0 && secret_size(text) > SECRET_LARGE_MAX)) {
                sentence_set(ret_why, "%s:1: a KEK file has 1 to %d bytes. Restore it from a backup", path, SECRET_LARGE_MAX);
                return -EINVAL;
        }
        if (r == -ENOENT)
                sentence_set(ret_why,
                             "cannot open the KEK file %s: %s. Restore it from a backup, or make a new KEK with "
                             "`lkm-kms --generate-kek FILE`",
                             path, strerror(-r));
        if (r == 0)
                *ret_text = TAKE_PTR(text);
        return r;
}

int local_kek_read(struct local_kek **ret_kek, const char *path, enum local_kek_source source, struct sentence *ret_why)
{
        _cleanup_(local_kek_freep) struct local_kek *kek = calloc(1, sizeof(*kek));
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        uint8_t *view;
        int r;

        if (!kek || !(kek->path = strdup(path))) {
                sentence_set(ret_why, "cannot read %s: out of memory", path);
                return -ENOMEM;
        }
        r = text_read(&text, path, source, ret_why);
        if (r < 0)
                return r;
        view = secret_view_begin(text);
        r = kek_parse(kek, (struct bytes){ view, secret_size(text) }, ret_why);
        secret_view_end(text, &view);
        if (r == 0)
                *ret_kek = TAKE_PTR(kek);
        return r;
}

/* ---- writing ---- */

/* Append "text" at @view + *n. There is room: a large slot holds the header and LOCAL_KEK_VERSION_MAX lines. */
static void text_append(uint8_t *view, size_t *n, const char *text)
{
        memcpy(view + *n, text, strlen(text));
        *n += strlen(text);
}

static void version_append(uint8_t *view, size_t *n, const struct local_kek_version *version)
{
        char number[16];
        uint8_t *key;

        snprintf(number, sizeof(number), "%u ", version->number);
        text_append(view, n, number);
        key = secret_view_begin(version->key);
        hex_format((char *)view + *n, key, KEY_SIZE);
        secret_view_end(version->key, &key);
        *n += KEY_HEX;
        text_append(view, n, "\n");
}

static int kek_write(const struct local_kek *kek, struct durable_owner owner, bool replace, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        size_t n = 0;
        uint8_t *view;
        int r = secret_new(&text, SECRET_LARGE_MAX);

        if (r == 0) {
                view = secret_view_begin(text);
                text_append(view, &n, HEADER);
                text_append(view, &n, kek->id + sizeof(LOCAL_KEK_ID_PREFIX) - 1);
                text_append(view, &n, "\n");
                for (size_t i = 0; i < kek->n_versions; i++)
                        version_append(view, &n, &kek->versions[i]);
                r = durable_write(kek->path, (struct bytes){ view, n }, owner, replace);
                secret_view_end(text, &view);
        }
        if (r == -EEXIST)
                sentence_set(ret_why, "%s exists and is left as it is: databases may depend on it. Choose another name",
                             kek->path);
        else if (r < 0)
                sentence_set(ret_why, "cannot write %s: %s. Check that its folder exists and has space", kek->path,
                             strerror(-r));
        return r;
}

static int version_generate(struct local_kek *kek, uint32_t number, struct sentence *ret_why)
{
        struct local_kek_version *version = &kek->versions[kek->n_versions];
        int r = secret_new_random(&version->key, KEY_SIZE);

        if (r < 0) {
                sentence_set(ret_why, "cannot make a random key: %s", strerror(-r));
                return r;
        }
        version->number = number;
        kek->n_versions++;
        return 0;
}

int local_kek_generate(const char *path, struct sentence *ret_why)
{
        _cleanup_(local_kek_freep) struct local_kek *kek = calloc(1, sizeof(*kek));
        uint8_t uuid[UUID_SIZE];
        int r;

        if (!kek || !(kek->path = strdup(path))) {
                sentence_set(ret_why, "out of memory");
                return -ENOMEM;
        }
        r = uuid_random(uuid);
        if (r < 0) {
                sentence_set(ret_why, "cannot make a random identity: %s", strerror(-r));
                return r;
        }
        memcpy(kek->id, LOCAL_KEK_ID_PREFIX, sizeof(LOCAL_KEK_ID_PREFIX));
        uuid_format(kek->id + sizeof(LOCAL_KEK_ID_PREFIX) - 1, uuid);
        r = version_generate(kek, 1, ret_why);
        return r < 0 ? r : kek_write(kek, DURABLE_OWNER_SELF, false, ret_why);
}

int local_kek_add_version(const char *path, uint32_t *ret_number, struct sentence *ret_why)
{
        _cleanup_(local_kek_freep) struct local_kek *kek = NULL;
        /* The file itself is replaced, not a link that leads to it. */
        _cleanup_(freep) char *real = realpath(path, NULL);
        _cleanup_(closep) int directory_fd = -1;
        struct stat st;
        int r;

        if (!real || (directory_fd = durable_directory_open(real)) < 0 || flock(directory_fd, LOCK_EX) < 0 ||
            stat(real, &st) < 0) {
                r = directory_fd < -1 ? directory_fd : -errno;
                sentence_set(ret_why, "cannot open the KEK file %s: %s", path, strerror(-r));
                return r;
        }
        r = local_kek_read(&kek, real, LOCAL_KEK_TOOL, ret_why);
        if (r < 0)
                return r;
        assert(kek);
        if (local_kek_newest(kek)->number >= LOCAL_KEK_VERSION_MAX) {
                sentence_set(
                        ret_why,
                        "%s has version %d, the last possible. Make a new KEK with `lkm-kms --generate-kek FILE` and list it "
                        "first in keks",
                        path, LOCAL_KEK_VERSION_MAX);
                return -ENOSPC;
        }
        *ret_number = local_kek_newest(kek)->number + 1;
        r = version_generate(kek, *ret_number, ret_why);
        return r < 0 ? r : kek_write(kek, (struct durable_owner){ st.st_uid, st.st_gid }, true, ret_why);
}
