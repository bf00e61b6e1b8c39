/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/work.h"

#include <errno.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/page.h"

enum { COMPATIBILITY_3 = 3, COMPATIBILITY_4 = 4 };

/* Exactly @n bytes. Return: 0, or -EBADMSG when the input ends early; -errno. */
static int read_exactly(int fd, void *to, size_t n)
{
        uint8_t *p = to;

        while (n > 0) {
                ssize_t got = read(fd, p, n);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        return got < 0 ? -errno : -EBADMSG;
                p += got;
                n -= (size_t)got;
        }
        return 0;
}

static bool job_is_sound(const struct rekey_job *job)
{
        return job->magic == REKEY_MAGIC && job->n_keys >= 1 && job->n_keys <= REKEY_KEYS_MAX &&
               (job->compatibility == 0 || job->compatibility == COMPATIBILITY_3 || job->compatibility == COMPATIBILITY_4) &&
               (job->page_size == 0 || (job->page_size >= PAGE_SIZE_MIN && job->page_size <= PAGE_SIZE_MAX &&
                                        (job->page_size & (job->page_size - 1)) == 0)) &&
               (job->flags & ~(unsigned)(REKEY_RESTORE_WAL | REKEY_IGNORE_OPEN)) == 0;
}

/* One struct rekey_job_key; its key goes from the pipe into locked memory and nowhere else. */
static int key_read(struct work_key *key, int fd)
{
        uint8_t *view;
        int r = read_exactly(fd, &key->version, sizeof(key->version));

        if (r == 0)
                r = secret_new(&key->secret, KEY_SIZE);
        if (r < 0)
                return r;
        view = secret_view_begin(key->secret);
        r = read_exactly(fd, view, KEY_SIZE);
        secret_view_end(key->secret, &view);
        return r < 0 || key->version == 0 ? -EBADMSG : 0;
}

int work_read(struct work *work, int fd)
{
        int r = read_exactly(fd, &work->job, sizeof(work->job));
        uint8_t more;

        if (r == 0 && !job_is_sound(&work->job))
                r = -EBADMSG;
        if (r == 0) {
                work->keys = calloc(work->job.n_keys, sizeof(*work->keys));
                r = work->keys ? 0 : -ENOMEM;
        }
        for (size_t i = 0; i < work->job.n_keys && r == 0; i++)
                r = key_read(&work->keys[i], fd);
        if (r == 0 && read(fd, &more, 1) != 0)
                r = -EBADMSG;
        if (r == -ENOMEM || r == -ENOBUFS)
                return answer_refuse(LKM_E_NO_MEMORY, "No memory is left for the keys. Free some, then ask again.");
        if (r < 0)
                return answer_refuse(LKM_E_ARGUMENT, "The job on standard input is not sound. lkm-rekey is started by lkmctl and by liblkm; "
                                                     "see to it that both are of one version.");
        return 0;
}

void work_deinit(struct work *work)
{
        for (size_t i = 0; work->keys && i < work->job.n_keys; i++)
                secret_unref(work->keys[i].secret);
        free(work->keys);
        free(work->path);
}

unsigned work_compatibility(const struct work *work)
{
        if (work->job.compatibility)
                return work->job.compatibility;
        return work->library >= COMPATIBILITY_4 ? COMPATIBILITY_4 : COMPATIBILITY_3;
}
