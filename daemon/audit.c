/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include "common/clock.h"

enum { HASH_SIZE = 32, LINE_MAX_SIZE = 16384 };

struct audit {
        int fd;
        char *path;
        uint64_t sequence;              /* of the last line */
        char previous[2 * HASH_SIZE + 1]; /* its hash */
};

static int line_hash(char ret_hex[2 * HASH_SIZE + 1], const char *line, size_t n)
{
        uint8_t hash[HASH_SIZE];

        if (EVP_Digest(line, n, hash, NULL, EVP_sha256(), NULL) != 1)
                return -EIO;
        hex_format(ret_hex, hash, sizeof(hash));
        return 0;
}

/* Take up the chain at a whole line. Return: 0, or -EBADMSG when it is none of ours. */
static int audit_take_line(struct audit *a, const char *line, size_t n)
{
        json_t *root = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL), *seq = json_object_get(root, "seq");
        int r = json_is_integer(seq) && json_integer_value(seq) > 0 ? 0 : -EBADMSG;

        if (r == 0) {
                a->sequence = (uint64_t)json_integer_value(seq);
                r = line_hash(a->previous, line, n);
        }
        json_decref(root);
        return r;
}

static int write_all(int fd, const char *text, size_t n)
{
        ssize_t written;

        do {
                written = write(fd, text, n);
        } while (written < 0 && errno == EINTR);
        if (written < 0)
                return -errno;
        return (size_t)written == n ? 0 : -ENOSPC;
}

/* Find the last whole line in what the file ends with; close a torn one with a newline. */
static int audit_take_end(struct audit *a, const char *tail, size_t n, bool is_whole_file)
{
        size_t end = n, start;
        int r = 0;

        if (n == 0)
                return 0;
        if (tail[n - 1] != '\n') {
                r = write_all(a->fd, "\n", 1);
                while (end > 0 && tail[end - 1] != '\n')
                        end--;
        }
        /* Torn lines that an earlier start closed are no audit lines: go back over them to the last whole one. */
        for (; r == 0 && end > 0; end = start) {
                for (start = end - 1; start > 0 && tail[start - 1] != '\n';)
                        start--;
                if (start == 0 && !is_whole_file)
                        return -EBADMSG;
                if (audit_take_line(a, tail + start, end - 1 - start) == 0)
                        return 0;
                if (start == 0)
                        return -EBADMSG;
        }
        return r;
}

static int audit_find_end(struct audit *a)
{
        _cleanup_(freep) char *tail = malloc(4 * LINE_MAX_SIZE);
        struct stat st;
        off_t from;
        ssize_t n;

        if (!tail)
                return -ENOMEM;
        if (fstat(a->fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        from = st.st_size > 4 * LINE_MAX_SIZE ? st.st_size - 4 * LINE_MAX_SIZE : 0;
        n = pread(a->fd, tail, 4 * LINE_MAX_SIZE, from);
        return n < 0 ? -errno : audit_take_end(a, tail, (size_t)n, from == 0);
}

int audit_reopen(struct audit *a)
{
        int fd = open(a->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);

        if (fd < 0)
                return -errno;
        if (a->fd >= 0)
                close(a->fd);
        a->fd = fd;
        return 0;
}

int audit_open(struct audit **ret_audit, const char *path)
{
        _cleanup_(audit_freep) struct audit *a = calloc(1, sizeof(*a));
        int r;

        if (!a)
                return -ENOMEM;
        a->fd = -1;
        memset(a->previous, '0', 2 * HASH_SIZE);
        a->path = strdup(path);
        r = a->path ? audit_reopen(a) : -ENOMEM;
        if (r == 0)
                r = audit_find_end(a);
        if (r == 0)
                *ret_audit = TAKE_PTR(a);
        return r;
}

struct audit *audit_free(struct audit *a)
{
        if (!a)
                return NULL;
        if (a->fd >= 0)
                close(a->fd);
        free(a->path);
        free(a);
        return NULL;
}

static void set(json_t *line, const char *member, json_t *value)
{
        json_object_set_new(line, member, value);
}

static void set_text(json_t *line, const char *member, const char *text)
{
        if (text)
                set(line, member, json_string(text));
}

static void set_count(json_t *line, const char *member, uint64_t n)
{
        if (n > 0)
                set(line, member, json_integer((json_int_t)n));
}

static json_t *event_build(const struct audit *a, const struct audit_event *e)
{
        char time[CLOCK_TEXT_LENGTH + 1], id[UUID_TEXT_LENGTH + 1];
        json_t *line = json_object();

        clock_format(time, clock_wall_usec());
        set_count(line, "seq", a->sequence + 1);
        set_text(line, "time", time);
        set_count(line, "boottime_usec", clock_boottime_usec());
        set_text(line, "event", e->event);
        if (e->peer) {
                set(line, "uid", json_integer(e->peer->uid));
                set(line, "gid", json_integer(e->peer->gid));
                set(line, "pid", json_integer(e->peer->pid));
                set_text(line, "unit", e->peer->unit);
        }
        set_count(line, "connection", e->connection);
        set_text(line, "scope", e->scope);
        if (e->database_id) {
                uuid_format(id, e->database_id);
                set_text(line, "database_id", id);
        }
        set_count(line, "version", e->version);
        set_text(line, "decision", e->decision);
        set_text(line, "reason", e->reason);
        set_text(line, "kek", e->kek);
        set_text(line, "kek_id", e->kek_id);
        set_count(line, "count", e->count);
        if (e->stale)
                set(line, "stale", json_true());
        set_text(line, "prev", a->previous);
        return line;
}

int audit_write(struct audit *a, const struct audit_event *event)
{
        json_t *line = event_build(a, event);
        _cleanup_(freep) char *dump = json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII), *text = NULL;
        char hash[2 * HASH_SIZE + 1];
        struct stat st;
        int n, r;

        json_decref(line);
        n = dump ? asprintf(&text, "%s\n", dump) : -1;
        if (n < 0)
                return -ENOMEM;
        if (n > LINE_MAX_SIZE)
                return -EMSGSIZE;
        r = line_hash(hash, dump, (size_t)n - 1);
        if (r == 0 && fstat(a->fd, &st) < 0)
                r = -errno;
        if (r < 0)
                return r;
        r = write_all(a->fd, text, (size_t)n);
        if (r < 0) {
                /* What was written of it is no line: cut it off, so that the chain stays whole. */
                if (ftruncate(a->fd, st.st_size) < 0)
                        r = -errno;
                return r;
        }
        a->sequence++;
        memcpy(a->previous, hash, sizeof(hash));
        return 0;
}

uint64_t audit_sequence(const struct audit *a)
{
        return a->sequence;
}
