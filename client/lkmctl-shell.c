/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl-shell: become the `sqlcipher` shell with the database open. The shell takes a key as SQL text only; it reads that from an
 * inherited pipe, so the key is in no argument, environment or file.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

#include "client/lkmctl.h"

static void key_freep(struct lkm_key **key)
{
        lkm_key_free(key);
}

/* What follows the key. SQLCipher 3 ignores `cipher_compatibility`, which it does not need. */
static int script_tail(char *ret_text, size_t size, const struct lkm_key_info *info)
{
        int n = snprintf(ret_text, size, "\";\n");

        if (info->cipher_compatibility)
                n += snprintf(ret_text + n, size - (size_t)n, "PRAGMA cipher_compatibility = %u;\n",
                              (unsigned)info->cipher_compatibility);
        if (info->page_size)
                n += snprintf(ret_text + n, size - (size_t)n, "PRAGMA cipher_page_size = %u;\n",
                              (unsigned)info->page_size);
        return n + snprintf(ret_text + n, size - (size_t)n, ".output stdout\n");
}

/* One writev(2) from locked memory; the script is far shorter than a pipe's buffer. Newer shells answer a key with "ok", which would
 * mix with the answers to queries. */
static int script_write(const struct ctl *c, int fd, struct lkm_key *key)
{
        static char head[] = ".output /dev/null\nPRAGMA key = \"";
        char tail[256];
        struct lkm_key_info info;
        const uint8_t *text;
        struct iovec parts[3] = { { head, sizeof(head) - 1 } };
        ssize_t written;
        size_t n;
        int r = lkm_key_info(key, &info);

        if (r == 0)
                r = lkm_key_view_begin(key, LKM_FORMAT_PRAGMA, &text, &n);
        if (r)
                return ctl_refuse(EXIT_CODE_FAILED, "%s", lkm_strerror(r));
        parts[1] = (struct iovec){ (void *)(uintptr_t)text, n };
        parts[2] = (struct iovec){ tail, (size_t)script_tail(tail, sizeof(tail), &info) };
        n = parts[0].iov_len + parts[1].iov_len + parts[2].iov_len;
        written = writev(fd, parts, ELEMENTSOF(parts));
        lkm_key_view_end(key, &text);
        return written == (ssize_t)n
                       ? EXIT_CODE_OK
                       : ctl_refuse(EXIT_CODE_FAILED, "cannot hand the key to the shell: %s", strerror(errno));
}

/* sqlcipher -init /dev/fd/N DATABASE [what the user added] */
static int shell_exec(const struct ctl *c, int fd)
{
        const char *database = c->arguments[0];
        _cleanup_(freep) char *path = NULL;
        _cleanup_(freep) char **arguments = calloc((size_t)c->n_arguments + 4, sizeof(*arguments));
        char script[32], name[] = "sqlcipher", init[] = "-init";

        /* A relative path might look like an option. */
        if (asprintf(&path, "%s%s", *database == '/' ? "" : "./", database) < 0) {
                path = NULL;
                return ctl_fail(c, LKM_E_NO_MEMORY);
        }
        if (!arguments)
                return ctl_fail(c, LKM_E_NO_MEMORY);
        snprintf(script, sizeof(script), "/dev/fd/%d", fd);
        arguments[0] = name;
        arguments[1] = init;
        arguments[2] = script;
        arguments[3] = path;
        for (int i = 1; i < c->n_arguments; i++)
                arguments[3 + i] = c->arguments[i];
        execvp(name, arguments);
        if (errno == ENOENT)
                return ctl_refuse(EXIT_CODE_FAILED,
                                  "the shell `sqlcipher` is not installed. Install it: apt-get install sqlcipher");
        return ctl_refuse(EXIT_CODE_FAILED, "cannot run sqlcipher: %s", strerror(errno));
}

int command_sqlcipher(struct ctl *c)
{
        _cleanup_(key_freep) struct lkm_key *key = NULL;
        int ends[2], r;

        r = lkm_load(c->lkm, c->arguments[0], c->scope, &key);
        if (r)
                return ctl_fail(c, r);
        if (pipe2(ends, O_CLOEXEC) < 0)
                return ctl_refuse(EXIT_CODE_FAILED, "cannot make a pipe: %s", strerror(errno));
        r = script_write(c, ends[1], key);
        close(ends[1]);
        if (r == EXIT_CODE_OK && fcntl(ends[0], F_SETFD, 0) < 0)
                r = ctl_refuse(EXIT_CODE_FAILED, "cannot hand the key to the shell: %s", strerror(errno));
        /* Nothing of it stays here while the shell starts. */
        lkm_key_free(&key);
        lkm_free(&c->lkm);
        if (r == EXIT_CODE_OK)
                r = shell_exec(c, ends[0]);
        close(ends[0]);
        return r;
}
