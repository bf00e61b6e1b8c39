/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/secret-file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

static bool is_credential(const char *path)
{
        const char *folder = getenv("CREDENTIALS_DIRECTORY");
        size_t n = folder ? strlen(folder) : 0;

        return n > 0 && strncmp(path, folder, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

static mode_t forbidden_mode(const char *path, enum secret_file_rule rule)
{
        switch (rule) {
        case SECRET_FILE_PROJECTED:
        case SECRET_FILE_CONFIG:
                return 07022;
        case SECRET_FILE_OWN:
                return is_credential(path) ? 07137 : 07177;
        case SECRET_FILE_CREDENTIAL:
                return 07137;
        case SECRET_FILE_NAMED:
                break;
        }
        return 07177;
}

static int permissions_check(const struct stat *st, const char *path, enum secret_file_rule rule, struct sentence *ret_why)
{
        mode_t forbidden = forbidden_mode(path, rule);
        bool may_be_read = !(forbidden & 0004);

        if (!S_ISREG(st->st_mode)) {
                sentence_set(ret_why, "%s is no regular file. Correct the path", path);
                return -EACCES;
        }
        if (st->st_mode & forbidden) {
                sentence_set(ret_why, "%s has mode %04o, so others may %s. Run `chmod %s %s`", path, st->st_mode & 07777,
                             may_be_read ? "change it" : "read or change what is secret", may_be_read ? "go-w" : "600", path);
                return -EACCES;
        }
        if (rule != SECRET_FILE_NAMED && st->st_uid != 0 && st->st_uid != geteuid()) {
                sentence_set(ret_why, "%s belongs to uid %u, who may read and change it. Run `chown %u %s`", path, st->st_uid, geteuid(), path);
                return -EACCES;
        }
        return 0;
}

static int text_read(struct secret **ret_text, int fd, const struct stat *st, const char *path, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        size_t n = 0;
        ssize_t k = 0;
        uint8_t *view;
        int r;

        if (st->st_size < 1) {
                sentence_set(ret_why, "%s is empty. Check that it is the right file", path);
                return -ENODATA;
        }
        if (st->st_size > SECRET_BODY_MAX) {
                sentence_set(ret_why, "%s has %lld bytes, and at most %d are read. Move what lkm-kms does not need into another file", path,
                             (long long)st->st_size, SECRET_BODY_MAX);
                return -EMSGSIZE;
        }
        r = secret_new(&text, (size_t)st->st_size);
        if (r < 0) {
                sentence_set(ret_why, "cannot read %s: no locked memory is left. Try again when other requests have ended", path);
                return r;
        }
        view = secret_view_begin(text);
        do {
                k = read(fd, view + n, secret_size(text) - n);
                n += k > 0 ? (size_t)k : 0;
        } while (k > 0 && n < secret_size(text));
        r = k < 0 ? -errno : 0;
        secret_view_end(text, &view);
        if (r < 0 || n != secret_size(text)) {
                sentence_set(ret_why, "cannot read %s: %s", path, r < 0 ? strerror(-r) : "it changed meanwhile; try again");
                return r < 0 ? r : -EAGAIN;
        }
        *ret_text = TAKE_PTR(text);
        return 0;
}

int secret_file_read(struct secret **ret_text, bool *ret_private, const char *path, enum secret_file_rule rule, struct sentence *ret_why)
{
        /* O_NONBLOCK: a fifo must not hold the daemon up. */
        _cleanup_(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0) {
                r = -errno;
                if (strncmp(path, "credential:", 11) == 0)
                        sentence_set(ret_why,
                                     "the service manager passed no credentials, so there is no %s. Run lkm-kms as lkm-kms.service, which has "
                                     "LoadCredential=, or give an absolute path",
                                     path);
                else if (is_credential(path))
                        sentence_set(ret_why,
                                     "cannot open the credential %s: %s. Put it into /etc/lkm/credentials, or pass it by LoadCredential= of "
                                     "lkm-kms.service, and restart that",
                                     path, strerror(-r));
                else
                        sentence_set(ret_why, "cannot open %s: %s. Check the path, its owner and its permissions", path, strerror(-r));
                return r;
        }
        r = permissions_check(&st, path, rule, ret_why);
        if (r == 0)
                r = text_read(ret_text, fd, &st, path, ret_why);
        if (r == 0 && ret_private)
                *ret_private = (st.st_mode & 077) == 0 || is_credential(path);
        return r;
}

/* Length of the word that @text begins with, when nothing but white space follows; else 0. */
static size_t word_length(const uint8_t *text, size_t n)
{
        size_t word = 0;

        while (word < n && text[word] > ' ' && text[word] <= '~')
                word++;
        for (size_t i = word; i < n; i++)
                if (text[i] != '\n' && text[i] != '\r' && text[i] != ' ' && text[i] != '\t')
                        return 0;
        return word;
}

int secret_file_read_word(struct secret **ret_word, const char *path, enum secret_file_rule rule, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        uint8_t *view;
        size_t n;
        int r = secret_file_read(&text, NULL, path, rule, ret_why);

        if (r < 0)
                return r;
        view = secret_view_begin(text);
        n = word_length(view, secret_size(text));
        secret_view_end(text, &view);
        if (n == 0) {
                sentence_set(ret_why, "%s does not hold one word of printable ASCII alone. Check that it is the right file", path);
                return -EINVAL;
        }
        secret_resize(text, n);
        *ret_word = TAKE_PTR(text);
        return 0;
}

uint64_t secret_file_stamp(const char *path)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return 0;
        return ((uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec) ^ (uint64_t)st.st_ino << 40 ^
               (uint64_t)st.st_size << 8 ^ 1;
}
