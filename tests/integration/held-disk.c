/* SPDX-License-Identifier: Apache-2.0 */
/*
 * held-disk: an LD_PRELOAD library for tests. While the test has written 1 into the file HELD_DISK/gate, each fdatasync(2) writes a byte into
 * the FIFO HELD_DISK/asked and waits for one in HELD_DISK/answers: 'y' lets it go on, 'e' makes it fail with EIO, as a disk does that has lost what it
 * was given.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static const volatile int32_t *gate;
static int asked = -1, answers = -1;

static int open_in(const char *directory, const char *name, int flags)
{
        char path[256];
        int fd;

        if (!directory)
                abort();
        snprintf(path, sizeof(path), "%s/%s", directory, name);
        fd = open(path, flags | O_CLOEXEC);
        if (fd < 0)
                abort();
        return fd;
}

__attribute__((__constructor__)) static void held_disk_init(void)
{
        const char *directory = getenv("HELD_DISK");
        int fd = open_in(directory, "gate", O_RDONLY);
        void *map = mmap(NULL, sizeof(*gate), PROT_READ, MAP_SHARED, fd, 0);

        if (map == MAP_FAILED)
                abort();
        gate = map;
        close(fd);
        asked = open_in(directory, "asked", O_RDWR);
        answers = open_in(directory, "answers", O_RDWR);
}

int fdatasync(int fd)
{
        int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
        char answer = 'y';

        if (*gate && (write(asked, "?", 1) != 1 || read(answers, &answer, 1) != 1))
                abort();
        if (answer == 'e') {
                errno = EIO;
                return -1;
        }
        return next(fd);
}
