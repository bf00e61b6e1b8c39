/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

/* Whether @path is one of the credentials that the service manager passed. */
static bool is_credential(const char *path)
{
        const char *folder = getenv("CREDENTIALS_DIRECTORY");
        size_t n = folder ? strlen(folder) : 0;

        return n > 0 && strncmp(path, folder, n) == 0 && path[n] == '/';
}

static int permissions_check(const struct stat *st, const char *path, enum aws_file_kind kind, struct sentence *ret_why)
{
        mode_t forbidden = kind == AWS_FILE_KEYS ? 07177 : 07022;

        if (kind == AWS_FILE_KEYS && is_credential(path))
                forbidden = 07137;
        if (!S_ISREG(st->st_mode)) {
                sentence_set(ret_why, "%s is no regular file. Correct the path", path);
                return -EACCES;
        }
        if (st->st_mode & forbidden) {
                sentence_set(ret_why, "%s has mode %04o, so others may %s it. Run `chmod %s %s`", path, st->st_mode & 07777,
                             kind == AWS_FILE_KEYS ? "read or change" : "change", kind == AWS_FILE_KEYS ? "600" : "go-w", path);
                return -EACCES;
        }
        if (st->st_uid != 0 && st->st_uid != geteuid()) {
                sentence_set(ret_why, "%s belongs to uid %u, who may read and change it. Run `chown %u %s`", path, st->st_uid, geteuid(), path);
                return -EACCES;
        }
        return 0;
}

static int text_read(struct secret **ret_text, int fd, size_t size, const char *path, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        size_t n = 0;
        ssize_t k = 0;
        uint8_t *view;
        int r = secret_new(&text, size);

        if (r < 0) {
                sentence_set(ret_why, "cannot read %s: no locked memory is left. Try again when other requests have ended", path);
                return r;
        }
        view = secret_view_begin(text);
        do {
                k = read(fd, view + n, size - n);
                n += k > 0 ? (size_t)k : 0;
        } while (k > 0 && n < size);
        r = k < 0 ? -errno : n < size ? -EAGAIN : 0;
        secret_view_end(text, &view);
        if (r < 0) {
                sentence_set(ret_why, "cannot read %s: %s", path, r == -EAGAIN ? "it changed meanwhile. Try again" : strerror(-r));
                return r;
        }
        *ret_text = TAKE_PTR(text);
        return 0;
}

int aws_file_read(struct secret **ret_text, bool *ret_private, const char *path, enum aws_file_kind kind, struct sentence *ret_why)
{
        /* O_NONBLOCK: a fifo must not hold the daemon up. */
        _cleanup_(closep) int fd = -1;
        struct stat st;
        int r;

        if (strncmp(path, "credential:", 11) == 0) {
                sentence_set(ret_why,
                             "the credential %s is not there: the service manager passed none. Add LoadCredential= to lkm-kms.service, or give a "
                             "path",
                             path + 11);
                return -ENOENT;
        }
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0) {
                r = -errno;
                sentence_set(ret_why, "cannot open %s: %s. Check the path, its owner and its permissions", path, strerror(-r));
                return r;
        }
        r = permissions_check(&st, path, kind, ret_why);
        if (r < 0)
                return r;
        if (st.st_size > SECRET_BODY_MAX) {
                sentence_set(ret_why, "%s has %lld bytes, and at most %d are read. Move what lkm-kms does not need into another file", path,
                             (long long)st.st_size, SECRET_BODY_MAX);
                return -EFBIG;
        }
        if (st.st_size == 0)
                *ret_text = NULL;
        else
                r = text_read(ret_text, fd, (size_t)st.st_size, path, ret_why);
        if (r == 0 && ret_private)
                *ret_private = (st.st_mode & 077) == 0 || is_credential(path);
        return r;
}
