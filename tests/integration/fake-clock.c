/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake-clock: an LD_PRELOAD library for test_clock.py. CLOCK_BOOTTIME is ahead by the microseconds that the test writes into the file
 * FAKE_CLOCK, 8 bytes in host order, as if the machine had slept. Timers on that clock are set back by as much, so that the kernel's
 * own clock fires them when they are due by the machine's.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const volatile int64_t *ahead_usec;

__attribute__((__constructor__)) static void fake_clock_init(void)
{
        const char *path = getenv("FAKE_CLOCK");
        int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*ahead_usec), PROT_READ, MAP_SHARED, fd, 0);

        if (map == MAP_FAILED)
                abort();
        ahead_usec = map;
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
                *t = shift(*t, *ahead_usec);
        return r;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *at, struct itimerspec *before)
{
        struct itimerspec shifted = *at;

        if ((flags & TFD_TIMER_ABSTIME) && (at->it_value.tv_sec || at->it_value.tv_nsec))
                shifted.it_value = shift(at->it_value, -*ahead_usec);
        return NEXT(timerfd_settime)(fd, flags, &shifted, before);
}
