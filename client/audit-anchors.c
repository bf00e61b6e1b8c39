/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "client/audit-chain.h"

static bool is_hash(struct bytes text)
{
        for (size_t i = 0; i < text.n; i++) {
                if ((text.data[i] < '0' || text.data[i] > '9') && (text.data[i] < 'a' || text.data[i] > 'f'))
                        return false;
        }
        return text.n == AUDIT_HASH_LENGTH;
}

int audit_anchors_add(struct audit_anchors *a, uint64_t sequence, struct bytes hash, unsigned source)
{
        struct audit_anchor *anchor;

        if (sequence == 0 || !is_hash(hash))
                return -EINVAL;
        if (a->n == a->capacity) {
                size_t capacity = a->capacity ? 2 * a->capacity : 64;

                anchor = reallocarray(a->anchors, capacity, sizeof(*anchor));
                if (!anchor)
                        return -ENOMEM;
                a->anchors = anchor;
                a->capacity = capacity;
        }
        anchor = &a->anchors[a->n++];
        *anchor = (struct audit_anchor){ .sequence = sequence, .source = source };
        memcpy(anchor->hash, hash.data, hash.n);
        return 0;
}

void audit_anchors_deinit(struct audit_anchors *a)
{
        free(a->anchors);
        *a = (struct audit_anchors){ .n = 0 };
}

/* "SEQUENCE HASH", behind what lkmd's own log has before it. */
static int anchor_parse(struct audit_anchors *a, const char *line, unsigned source)
{
        static const char told[] = "audit checkpoint ";
        const char *begin = strstr(line, told), *hash;
        uint64_t sequence = 0;
        size_t n;

        line = begin ? begin + sizeof(told) - 1 : line + strspn(line, " \t");
        for (hash = line; *hash >= '0' && *hash <= '9'; hash++) {
                if (__builtin_mul_overflow(sequence, 10, &sequence) || __builtin_add_overflow(sequence, (uint64_t)(*hash - '0'), &sequence))
                        return -EBADMSG;
        }
        if (hash == line || (*hash != ' ' && *hash != '\t'))
                return -EBADMSG;
        hash += strspn(hash, " \t");
        n = strcspn(hash, " \t\r\n");
        if (hash[n + strspn(hash + n, " \t\r\n")] != '\0')
                return -EBADMSG;
        return audit_anchors_add(a, sequence, (struct bytes){ (const uint8_t *)hash, n }, source);
}

int audit_anchors_read(struct audit_anchors *a, FILE *file, unsigned source, unsigned *ret_line)
{
        _cleanup_(freep) char *line = NULL;
        size_t capacity = 0;
        int r = 0;

        for (*ret_line = 1; (errno = 0, getline(&line, &capacity, file)) >= 0; ++*ret_line) {
                if (line[strspn(line, " \t\r\n")] == '\0' || line[strspn(line, " \t")] == '#')
                        continue;
                r = anchor_parse(a, line, source);
                if (r < 0)
                        return r == -EINVAL ? -EBADMSG : r;
        }
        return ferror(file) ? (errno ? -errno : -EIO) : 0;
}
