/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/image.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/holders.h"
#include "client/rekey/meter.h"
#include "client/rekey/paths.h"
#include "common/bytes.h"
#include "common/clock.h"

enum {
        WAIT_MSEC = 20,
        WAL_HEADER_SIZE = 32,
        WAL_FRAME_HEADER_SIZE = 24,
};
#define WAL_MAGIC UINT32_C(0x377f0682) /* the lowest bit: checksums over big-endian words */
#define WAL_VERSION UINT32_C(3007000)

static int refuse_read(const struct work *work, int r)
{
        return r == -ENOMEM ? answer_refuse(LKM_E_NO_MEMORY, "No memory is left to read %s. Free some, then ask again.", work->database)
                            : answer_refuse(LKM_E_IO, "%s could not be read: %s. Check its owner, its permissions and its disk, then ask again.",
                                            work->database, strerrordesc_np(-r));
}

/* ---- locks ---- */

/* Return: 0, -EAGAIN while somebody else has one that excludes it, -errno. */
static int lock_set(int fd, short type, uint64_t start, uint64_t n)
{
        struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)start, .l_len = (off_t)n };

        if (fcntl(fd, F_SETLK, &lock) == 0)
                return 0;
        return errno == EACCES || errno == EAGAIN ? -EAGAIN : -errno;
}

/* SHARED, as SQLite takes it: not past somebody who waits for all readers to end. */
static int lock_shared(int fd)
{
        int r = lock_set(fd, F_RDLCK, HOLDERS_PENDING, 1), unlocked;

        if (r < 0)
                return r;
        r = lock_set(fd, F_RDLCK, HOLDERS_SHARED, HOLDERS_N_SHARED);
        unlocked = lock_set(fd, F_UNLCK, HOLDERS_PENDING, 1);
        return r < 0 ? r : unlocked;
}

static int image_lock(struct image *image)
{
        int r = lock_shared(image->fd);

        if (r == 0 && image->shm_fd >= 0)
                r = lock_set(image->shm_fd, F_WRLCK, HOLDERS_SHM_CHECKPOINT, 1);
        return r;
}

static int open_side(int *ret_fd, const struct work *work, const char *suffix, int mode)
{
        _cleanup_(freep) char *path = NULL;

        if (paths_side(&path, work->path, suffix) < 0)
                return -ENOMEM;
        *ret_fd = open(path, mode | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        return *ret_fd < 0 && errno != ENOENT ? -errno : 0;
}

int image_open(struct image *ret_image, const struct work *work)
{
        struct image *image = ret_image;
        uint64_t deadline = clock_add(clock_boottime_usec(), work->job.timeout_msec * USEC_PER_MSEC);
        struct stat status = { 0 };
        int r = 0;

        image->fd = open(work->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (image->fd < 0)
                return refuse_read(work, -errno);
        if (open_side(&image->shm_fd, work, "-shm", O_RDWR) < 0)
                image->shm_fd = -1; /* not ours to write: then a page that changes while it is read is read again */
        while ((r = image_lock(image)) == -EAGAIN && clock_boottime_usec() < deadline) {
                poll(NULL, 0, WAIT_MSEC);
                meter_wait();
        }
        if (r == -EAGAIN)
                return holders_refuse(work, NULL);
        if (r == 0 && fstat(image->fd, &status) < 0)
                r = -errno;
        if (r < 0)
                return refuse_read(work, r);
        image->n_bytes = (uint64_t)status.st_size;
        return 0;
}

void image_deinit(struct image *image)
{
        closep(&image->shm_fd);
        closep(&image->wal_fd);
        closep(&image->fd);
        free(image->frames);
}

/* ---- reading ---- */

/* Up to @n bytes; the rest is zeros. Return: bytes read, -errno. */
static ssize_t read_at(int fd, uint8_t *to, size_t n, uint64_t offset)
{
        size_t done = 0;

        while (done < n) {
                ssize_t got = pread(fd, to + done, n - done, (off_t)(offset + done));

                if (got < 0 && errno != EINTR)
                        return -errno;
                if (got == 0)
                        break;
                done += got > 0 ? (size_t)got : 0;
        }
        memset(to + done, 0, n - done);
        return (ssize_t)done;
}

/* SQLite's checksum over an even number of 32-bit words. */
static void wal_sum(uint32_t sum[2], const uint8_t *data, size_t n, bool big)
{
        for (size_t i = 0; i < n; i += 8) {
                uint32_t a = bytes_get_u32(data + i), b = bytes_get_u32(data + i + 4);

                sum[0] += (big ? a : __builtin_bswap32(a)) + sum[1];
                sum[1] += (big ? b : __builtin_bswap32(b)) + sum[0];
        }
}

static bool wal_sum_is(const uint32_t sum[2], const uint8_t *stored)
{
        return sum[0] == bytes_get_u32(stored) && sum[1] == bytes_get_u32(stored + 4);
}

/* The frames of one transaction become part of the image: those after @image->n_committed up to @last. */
static int wal_commit(struct image *image, const uint32_t *numbers, uint32_t last, uint32_t n_pages)
{
        if (n_pages >= image->n_frames) {
                size_t room = (size_t)n_pages + 1;
                uint32_t *frames = reallocarray(image->frames, room, sizeof(*frames));

                if (!frames)
                        return -ENOMEM;
                memset(frames + image->n_frames, 0, (room - image->n_frames) * sizeof(*frames));
                image->frames = frames;
                image->n_frames = room;
        }
        for (uint32_t frame = image->n_committed + 1; frame <= last; frame++)
                if (numbers[frame - image->n_committed - 1] < image->n_frames)
                        image->frames[numbers[frame - image->n_committed - 1]] = frame;
        image->n_committed = last;
        image->n_pages = n_pages;
        return 0;
}

/* All frames that belong to the header and whose checksums go on from it. @buffer: room for a frame. */
static int wal_frames(struct image *image, const uint8_t header[WAL_HEADER_SIZE], uint8_t *buffer)
{
        bool big = bytes_get_u32(header) & 1;
        uint32_t sum[2] = { bytes_get_u32(header + 24), bytes_get_u32(header + 28) }, size = image->format.size, n = 0, room = 0;
        _cleanup_(freep) uint32_t *numbers = NULL;
        uint64_t step = WAL_FRAME_HEADER_SIZE + size;

        for (uint32_t frame = 1;; frame++) {
                ssize_t got = read_at(image->wal_fd, buffer, step, WAL_HEADER_SIZE + (frame - 1) * step);
                int r;

                if (got < 0)
                        return (int)got;
                if ((uint64_t)got < step || !bytes_equal((struct bytes){ buffer + 8, 8 }, (struct bytes){ header + 16, 8 }))
                        return 0;
                wal_sum(sum, buffer, 8, big);
                wal_sum(sum, buffer + WAL_FRAME_HEADER_SIZE, size, big);
                if (bytes_get_u32(buffer) == 0 || !wal_sum_is(sum, buffer + 16))
                        return 0;
                if (n == room) {
                        uint32_t *more = reallocarray(numbers, room ? 2 * room : 256, sizeof(*numbers));

                        if (!more)
                                return -ENOMEM;
                        numbers = more;
                        room = room ? 2 * room : 256;
                }
                numbers[n++] = bytes_get_u32(buffer);
                if (bytes_get_u32(buffer + 4) == 0)
                        continue;
                r = wal_commit(image, numbers, frame, bytes_get_u32(buffer + 4));
                if (r < 0)
                        return r;
                n = 0;
        }
}

/* A -wal whose header is not whole has nothing in it for SQLite either. */
static int wal_read(struct image *image)
{
        _cleanup_(freep) uint8_t *buffer = NULL;
        uint8_t header[WAL_HEADER_SIZE];
        uint32_t sum[2] = { 0 };
        ssize_t got = read_at(image->wal_fd, header, sizeof(header), 0);

        if (got < (ssize_t)sizeof(header))
                return got < 0 ? (int)got : 0;
        if ((bytes_get_u32(header) & ~UINT32_C(1)) != WAL_MAGIC || bytes_get_u32(header + 4) != WAL_VERSION)
                return 0;
        wal_sum(sum, header, 24, bytes_get_u32(header) & 1);
        if (!wal_sum_is(sum, header + 24) || bytes_get_u32(header + 8) != image->format.size)
                return 0;
        buffer = malloc(WAL_FRAME_HEADER_SIZE + image->format.size);
        return buffer ? wal_frames(image, header, buffer) : -ENOMEM;
}

int image_set_format(struct image *image, const struct work *work, const struct page_format *format)
{
        int r;

        image->format = *format;
        image->n_pages = (image->n_bytes + format->size - 1) / format->size;
        closep(&image->wal_fd);
        image->wal_fd = -1;
        free(TAKE_PTR(image->frames));
        image->n_frames = image->n_committed = 0;
        r = open_side(&image->wal_fd, work, "-wal", O_RDONLY);
        if (r == 0 && image->wal_fd >= 0)
                r = wal_read(image);
        if (r == 0 && image->n_pages > UINT32_MAX)
                r = -EFBIG;
        return r < 0 ? refuse_read(work, r) : 0;
}

int image_read(const struct image *image, uint64_t first, size_t n, uint8_t *to)
{
        uint32_t size = image->format.size;
        ssize_t got = read_at(image->fd, to, n * size, (first - 1) * size);

        for (size_t i = 0; i < n && got >= 0 && image->frames; i++) {
                uint32_t frame = first + i < image->n_frames ? image->frames[first + i] : 0;
                uint64_t offset = WAL_HEADER_SIZE + (frame - 1) * (uint64_t)(WAL_FRAME_HEADER_SIZE + size) + WAL_FRAME_HEADER_SIZE;

                if (frame > 0)
                        got = read_at(image->wal_fd, to + i * size, size, offset);
        }
        return got < 0 ? (int)got : 0;
}

/* ---- on the disk ---- */

/*
 * A process that was killed may have deleted a journal, or made its header zeros, and not synced that: after a power failure the journal would be
 * back, and would undo what is about to be believed.
 */
int image_sync(const struct image *image, const struct work *work)
{
        _cleanup_(closep) int journal_fd = -1, directory_fd = -1;
        int r = open_side(&journal_fd, work, "-journal", O_RDONLY);

        if (r == 0)
                r = paths_open_directory(&directory_fd, work->path);
        if (r == 0 && (fsync(image->fd) < 0 || (image->wal_fd >= 0 && fsync(image->wal_fd) < 0) ||
                       (journal_fd >= 0 && fsync(journal_fd) < 0) || fsync(directory_fd) < 0))
                r = -errno;
        return r < 0 ? answer_refuse(LKM_E_IO, "What is in %s could not be brought onto its disk: %s. Check the disk, then ask again.",
                                     work->database, strerrordesc_np(-r))
                     : 0;
}
