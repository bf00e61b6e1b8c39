/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake-clock: an LD_PRELOAD library for tests. CLOCK_BOOTTIME and CLOCK_REALTIME are ahead by the microseconds that the test writes into
 * the file FAKE_CLOCK, twice 8 bytes in host order, as if the machine had slept, or somebody had set its clock. Timers on CLOCK_BOOTTIME
 * are set back by as much, so that the kernel's own clock fires them when they are due by the machine's.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const volatile struct {
        int64_t boottime_usec, wall_usec;
} *ahead;

__attribute__((__constructor__)) static void fake_clock_init(void)
{
        const char *path = getenv("FAKE_CLOCK");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*ahead), PROT_READ, MAP_SHARED, fd, 0);

        if (map == MAP_FAILED)
                abort();
        ahead = map;
        close(fd);
}

static struct timespec shift(struct timespec t, int64_t usec)
{
        int64_t nsec = t.tv_nsec + usec % 1000000 * 1000;

        t.tv_sec += usec / 1000000 + nsec / 1000000000;
        t.tv_nsec = nsec % 1000000000;
        if (t.tv_nsec < 0) {
                t.tv_sec--;
                t.tv_nsec += 1000000000;
        }
        return t;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
        int r = NEXT(clock_gettime)(clock, t);

        if (r == 0 && clock == CLOCK_BOOTTIME)
                *t = shift(*t, ahead->boottime_usec);
        if (r == 0 && clock == CLOCK_REALTIME)
                *t = shift(*t, ahead->wall_usec);
        return r;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *at, struct itimerspec *before)
{
        struct itimerspec shifted = *at;

        if ((flags & TFD_TIMER_ABSTIME) && (at->it_value.tv_sec || at->it_value.tv_nsec))
                shifted.it_value = shift(at->it_value, -ahead->boottime_usec);
        return NEXT(timerfd_settime)(fd, flags, &shifted, before);
}
