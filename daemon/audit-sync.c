/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/audit-sync.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "common/clock.h"

enum { STACK_SIZE = 128 * 1024 };

struct audit_sync {
        int event_fd;
        pthread_t thread;
        pthread_mutex_t mutex;
        pthread_cond_t changed; /* by either side */
        /* under the mutex */
        enum audit_sync_mode mode;
        int fd, old_fd, folder_fd; /* the latter two are -1 when there was no switch */
        uint64_t wanted, durable, durable_usec;
        uint64_t dirty_usec; /* CLOCK_MONOTONIC: when the first line was written that is not durable; 0 = all are */
        bool running, now, stop;
        int error;
};

/* ---- the thread ---- */

static bool has_work(const struct audit_sync *s)
{
        return s->old_fd >= 0 || s->folder_fd >= 0 || (s->error == 0 && s->wanted > s->durable);
}

static bool is_due(const struct audit_sync *s, uint64_t now)
{
        return s->stop || s->now || s->old_fd >= 0 || s->folder_fd >= 0 || s->mode == AUDIT_SYNC_ALWAYS ||
               s->wanted - s->durable >= AUDIT_BATCH_LINES || now >= s->dirty_usec + AUDIT_BATCH_USEC;
}

/* Wait until there is something to do and its time has come. Return: false at the end. */
static bool wait_for_work(struct audit_sync *s)
{
        while (!has_work(s)) {
                if (s->stop)
                        return false;
                pthread_cond_wait(&s->changed, &s->mutex);
        }
        while (has_work(s) && !is_due(s, clock_monotonic_usec())) {
                uint64_t at = s->dirty_usec + AUDIT_BATCH_USEC;
                struct timespec until = { .tv_sec = (time_t)(at / USEC_PER_SEC), .tv_nsec = (long)(at % USEC_PER_SEC * 1000) };

                pthread_cond_timedwait(&s->changed, &s->mutex, &until);
        }
        return true;
}

static int sync_fd(int fd)
{
        int r;

        do {
                r = fdatasync(fd);
        } while (r < 0 && errno == EINTR);
        return r < 0 ? -errno : 0;
}

/* The file before, then this one, then its name. The mutex is not held. */
static int sync_all(int old_fd, int fd, int folder_fd)
{
        int r = old_fd >= 0 ? sync_fd(old_fd) : 0;

        if (r == 0)
                r = sync_fd(fd);
        if (r == 0 && folder_fd >= 0 && fsync(folder_fd) < 0)
                r = -errno;
        if (old_fd >= 0)
                close(old_fd);
        if (folder_fd >= 0)
                close(folder_fd);
        return r;
}

static void tell(struct audit_sync *s)
{
        static const uint64_t one = 1;
        ssize_t written;

        do {
                written = write(s->event_fd, &one, sizeof(one)); /* EAGAIN: it is readable already */
        } while (written < 0 && errno == EINTR);
}

static void *run(void *userdata)
{
        struct audit_sync *s = userdata;
        int r, fd, old_fd, folder_fd;
        uint64_t wanted;

        pthread_mutex_lock(&s->mutex);
        s->running = true;
        pthread_cond_broadcast(&s->changed);
        while (wait_for_work(s)) {
                fd = s->fd;
                old_fd = TAKE_FD(s->old_fd);
                folder_fd = TAKE_FD(s->folder_fd);
                wanted = s->wanted;
                s->dirty_usec = 0;
                s->now = false;
                pthread_cond_broadcast(&s->changed);
                pthread_mutex_unlock(&s->mutex);
                r = sync_all(old_fd, fd, folder_fd);
                pthread_mutex_lock(&s->mutex);
                if (r == 0) {
                        s->durable = wanted;
                        s->durable_usec = clock_boottime_usec();
                } else {
                        s->error = r;
                }
                tell(s);
        }
        pthread_mutex_unlock(&s->mutex);
        return NULL;
}

/* ---- the other side ---- */

static int start_thread(struct audit_sync *s)
{
        pthread_attr_t attributes;
        sigset_t all, before;
        int r;

        /* Signals are for the event loop. */
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before);
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK_SIZE);
        r = pthread_create(&s->thread, &attributes, run, s);
        pthread_attr_destroy(&attributes);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r != 0)
                return -r;
        /* What the C library asks of the kernel for a new thread is done before there may be a filter. */
        pthread_mutex_lock(&s->mutex);
        while (!s->running)
                pthread_cond_wait(&s->changed, &s->mutex);
        pthread_mutex_unlock(&s->mutex);
        return 0;
}

int audit_sync_new(struct audit_sync **ret_sync, int fd)
{
        struct audit_sync *s = calloc(1, sizeof(*s));
        pthread_condattr_t attributes;
        int r;

        if (!s)
                return -ENOMEM;
        s->fd = fd;
        s->old_fd = s->folder_fd = -1;
        s->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (s->event_fd < 0) {
                r = -errno;
                free(s);
                return r;
        }
        pthread_mutex_init(&s->mutex, NULL);
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&s->changed, &attributes);
        pthread_condattr_destroy(&attributes);
        r = start_thread(s);
        if (r < 0) {
                close(s->event_fd);
                free(s);
                return r;
        }
        *ret_sync = s;
        return 0;
}

void audit_sync_stop(struct audit_sync *s)
{
        bool stopped;

        pthread_mutex_lock(&s->mutex);
        stopped = s->stop;
        s->stop = true;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->mutex);
        if (!stopped)
                pthread_join(s->thread, NULL);
}

struct audit_sync *audit_sync_free(struct audit_sync *s)
{
        if (!s)
                return NULL;
        audit_sync_stop(s);
        pthread_cond_destroy(&s->changed);
        pthread_mutex_destroy(&s->mutex);
        close(s->event_fd);
        free(s);
        return NULL;
}

int audit_sync_fd(const struct audit_sync *s)
{
        return s->event_fd;
}

void audit_sync_set_mode(struct audit_sync *s, enum audit_sync_mode mode)
{
        pthread_mutex_lock(&s->mutex);
        s->mode = mode;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->mutex);
}

void audit_sync_want(struct audit_sync *s, uint64_t sequence, bool now)
{
        bool wake = now;

        pthread_mutex_lock(&s->mutex);
        s->wanted = sequence;
        if (s->dirty_usec == 0) {
                s->dirty_usec = clock_monotonic_usec();
                wake = true;
        }
        s->now = s->now || now;
        if (wake || s->wanted - s->durable == AUDIT_BATCH_LINES)
                pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->mutex);
}

void audit_sync_switch(struct audit_sync *s, int old_fd, int fd, int folder_fd)
{
        pthread_mutex_lock(&s->mutex);
        while (s->old_fd >= 0 || s->folder_fd >= 0)
                pthread_cond_wait(&s->changed, &s->mutex);
        if (s->error) {
                close(old_fd); /* asked again, it would say that all is well */
                old_fd = -1;
                s->error = 0;
        }
        s->old_fd = old_fd;
        s->folder_fd = folder_fd;
        s->fd = fd;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->mutex);
}

int audit_sync_state(struct audit_sync *s, uint64_t *ret_sequence, uint64_t *ret_usec)
{
        int r;

        pthread_mutex_lock(&s->mutex);
        *ret_sequence = s->durable;
        *ret_usec = s->durable_usec;
        r = s->error;
        pthread_mutex_unlock(&s->mutex);
        return r;
}
