/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-chain: one pass while all is good. At the first line that does not follow the one before it, the rest is read once more for what its
 * records claim about the place of the fault: who comes later, and which hash is named as the one before.
 */
#include "client/audit-chain.h"

#include <errno.h>
#include <inttypes.h>

enum { CLAIMS_MAX = 64 };

/** What the chain needs to know of a line that proves itself. */
struct link {
        uint64_t seq, usec;
        char prev[AUDIT_HASH_LENGTH], hash[AUDIT_HASH_LENGTH];
        struct audit_position at;
        bool opens; /* the first line of a file */
        bool is_torn_event;
};

struct chain {
        const struct audit_files *files;
        const struct audit_anchors *anchors;
        struct audit_verdict *verdict;
        struct audit_hasher hasher;
        struct audit_reader reader;
        struct link last;     /* that was accepted; seq 0: none */
        uint64_t before_usec; /* when the one before it was written */
        uint64_t proved_usec;
        size_t i_anchor; /* the first that was not looked at */
        struct link claims[CLAIMS_MAX];
        size_t n_claims;
        char scratch[AUDIT_LINE_MAX];
};

enum { LINK_E_BROKEN = 1 };

static bool same_hash(const char *a, const char *b)
{
        return bytes_equal((struct bytes){ (const uint8_t *)a, AUDIT_HASH_LENGTH }, (struct bytes){ (const uint8_t *)b, AUDIT_HASH_LENGTH });
}

/* Return: 0; LINK_E_BROKEN when the line does not prove itself; -EIO. */
static int link_read(struct chain *c, const struct audit_text *text, struct link *ret_link)
{
        struct audit_line line;
        int r = text->has_end ? audit_line_parse(&line, c->scratch, text->bytes) : -EBADMSG;

        if (r == 0)
                r = audit_line_check(&c->hasher, &line);
        if (r < 0)
                return r == -EBADMSG ? LINK_E_BROKEN : r;
        ret_link->seq = line.seq;
        ret_link->usec = line.time_usec;
        ret_link->at = text->at;
        ret_link->opens = bytes_equal(line.event, BYTES_LITERAL(AUDIT_EVENT_OPEN));
        ret_link->is_torn_event = bytes_equal(line.event, BYTES_LITERAL(AUDIT_EVENT_TORN));
        memcpy(ret_link->prev, line.prev.data, AUDIT_HASH_LENGTH);
        memcpy(ret_link->hash, line.hash.data, AUDIT_HASH_LENGTH);
        return 0;
}

/* ---- what comes next ---- */

/* The number that the next record has. Of the first one in all files: what its file's name says, else 1. */
static uint64_t expected_seq(const struct chain *c)
{
        if (c->last.seq > 0)
                return c->last.seq + 1;
        return c->files->n > 0 && c->files->files[0].first > 0 ? c->files->files[0].first : 1;
}

/* Whether @prev is the hash that the next record names; anything where that is not known. */
static bool is_expected_prev(const struct chain *c, const char *prev)
{
        if (c->last.seq > 0)
                return same_hash(prev, c->last.hash);
        return expected_seq(c) > 1 || same_hash(prev, AUDIT_HASH_NONE);
}

static bool is_next(const struct chain *c, const struct link *link)
{
        if (link->seq == expected_seq(c))
                return is_expected_prev(c, link->prev);
        /* Older files were taken away: a file of its own right begins with a line that says so. */
        return c->last.seq == 0 && link->seq > 1 && link->opens && c->files->files[0].first == 0;
}

/* ---- the good stretch ---- */

static void stretch_end(struct audit_verdict *v, uint64_t seq, const char *hash, uint64_t usec)
{
        if (seq < v->first) {
                v->first = v->last = v->first_usec = v->last_usec = 0;
                memset(v->last_hash, 0, sizeof(v->last_hash));
                return;
        }
        v->last = seq;
        v->last_usec = usec;
        memcpy(v->last_hash, hash, AUDIT_HASH_LENGTH);
}

/* Return: NULL, or the anchor that the accepted record does not fit. */
static const struct audit_anchor *check_anchors(struct chain *c)
{
        const struct audit_anchors *a = c->anchors;
        const struct audit_anchor *good = NULL, *bad = NULL;

        for (; c->i_anchor < a->n && a->anchors[c->i_anchor].sequence <= c->last.seq; c->i_anchor++) {
                const struct audit_anchor *anchor = &a->anchors[c->i_anchor];

                if (anchor->sequence < c->last.seq)
                        c->verdict->n_before++;
                else if (same_hash(anchor->hash, c->last.hash))
                        good = anchor;
                else
                        bad = anchor;
                c->verdict->n_proved += anchor == good;
        }
        if (!good || bad)
                return bad;
        c->verdict->proved = good;
        c->proved_usec = c->last.usec;
        return NULL;
}

static void accept_link(struct chain *c, const struct link *link)
{
        struct audit_verdict *v = c->verdict;

        if (c->last.seq == 0) {
                v->first = link->seq;
                v->first_usec = link->usec;
        }
        c->before_usec = c->last.usec;
        c->last = *link;
        v->n_torn_events += link->is_torn_event;
}

/* ---- the fault ---- */

static void set_fault(struct chain *c, enum audit_fault fault, uint64_t sequence, const struct audit_position *at)
{
        struct audit_verdict *v = c->verdict;

        v->fault = fault;
        v->sequence = v->since = sequence;
        if (at) {
                v->at = *at;
                v->has_position = true;
        }
}

static int next_link(struct chain *c, struct link *ret_link)
{
        struct audit_text text;
        int r = audit_reader_next(&c->reader, &text);

        return r == 0 ? link_read(c, &text, ret_link) : r == AUDIT_READER_E_END ? -ENODATA : r;
}

/* Collect what is said from @from on by the records around the place of the fault. */
static int collect_claims(struct chain *c, const struct audit_position *from)
{
        uint64_t expected = expected_seq(c);
        struct link link;
        int r;

        audit_reader_seek(&c->reader, from);
        c->n_claims = 0;
        while ((r = next_link(c, &link)) >= 0) {
                if (r == 0 && link.seq + 1 >= expected && link.seq <= expected + 1 && c->n_claims < CLAIMS_MAX)
                        c->claims[c->n_claims++] = link;
        }
        return r == -ENODATA ? 0 : r;
}

static bool comes_later(const struct chain *c)
{
        for (size_t i = 0; i < c->n_claims; i++) {
                if (c->claims[i].seq == expected_seq(c) && is_expected_prev(c, c->claims[i].prev))
                        return true;
        }
        return false;
}

static bool is_anchored(const struct chain *c, const struct link *link)
{
        for (size_t i = 0; i < c->anchors->n; i++) {
                if (c->anchors->anchors[i].sequence == link->seq && same_hash(c->anchors->anchors[i].hash, link->hash))
                        return true;
        }
        return false;
}

/* Whether a claim is to be believed: the record after it names it, there is none, or it is known from elsewhere. */
static bool is_trusted(const struct chain *c, const struct link *claim)
{
        bool has_next = false;

        for (size_t i = 0; i < c->n_claims; i++) {
                if (c->claims[i].seq != claim->seq + 1)
                        continue;
                has_next = true;
                if (same_hash(c->claims[i].prev, claim->hash))
                        return true;
        }
        return !has_next || is_anchored(c, claim);
}

/* The next record, if it names another one before it than that which was accepted last, and can be believed. */
static const struct link *contradiction(const struct chain *c)
{
        for (size_t i = 0; i < c->n_claims && c->last.seq > 0; i++) {
                const struct link *claim = &c->claims[i];

                if (claim->seq == c->last.seq + 1 && !same_hash(claim->prev, c->last.hash) && is_trusted(c, claim))
                        return claim;
        }
        return NULL;
}

static void blame_last(struct chain *c, const struct link *contradiction)
{
        struct audit_verdict *v = c->verdict;
        const struct link *last = &c->last;

        set_fault(c, AUDIT_FAULT_CHANGED, last->seq, &last->at);
        v->rehashed = true;
        v->since = v->proved ? v->proved->sequence + 1 : v->first;
        for (size_t i = 0; i < c->n_claims; i++) {
                const struct link *claim = &c->claims[i];

                if (claim->seq == last->seq && same_hash(claim->prev, last->prev) && same_hash(claim->hash, contradiction->prev)) {
                        v->fault = AUDIT_FAULT_INSERTED; /* the true one comes after it */
                        v->since = last->seq;
                }
        }
        stretch_end(v, last->seq - 1, last->prev, c->before_usec);
}

/* Whether @link is the copy of a record before it. Return: -errno; else whether. */
static int is_copy(struct chain *c, const struct link *link)
{
        struct link other;
        int r;

        audit_reader_seek(&c->reader, &(struct audit_position){ .line = 1 });
        while ((r = next_link(c, &other)) >= 0) {
                if (r == 0 && other.at.i_file == link->at.i_file && other.at.offset == link->at.offset)
                        return false;
                if (r == 0 && other.seq == link->seq && same_hash(other.hash, link->hash))
                        return true;
        }
        return r == -ENODATA ? false : r;
}

/* What stands in the place of the next record. @link: NULL when it does not prove itself. */
static int blame_line(struct chain *c, const struct link *link, bool later, const struct audit_position *at)
{
        uint64_t expected = expected_seq(c);
        struct audit_verdict *v = c->verdict;
        int r;

        set_fault(c, later ? AUDIT_FAULT_INSERTED : AUDIT_FAULT_CHANGED, expected, at);
        if (!link)
                return 0;
        v->rehashed = !later;
        if (link->seq == expected || (!later && c->last.seq > 0 && is_expected_prev(c, link->prev)))
                return 0;
        v->rehashed = false;
        v->other = link->seq;
        if (link->seq > expected) {
                v->fault = later ? AUDIT_FAULT_SWAPPED : AUDIT_FAULT_MISSING;
                v->other -= !later;
                return 0;
        }
        r = is_copy(c, link);
        v->fault = r > 0 ? AUDIT_FAULT_DOUBLED : AUDIT_FAULT_INSERTED;
        return r < 0 ? r : 0;
}

static int find_fault(struct chain *c, const struct link *link, const struct audit_position *at)
{
        const struct link *against;
        bool later;
        int r = collect_claims(c, at);

        if (r < 0)
                return r;
        if (c->last.seq > 0)
                stretch_end(c->verdict, c->last.seq, c->last.hash, c->last.usec);
        later = comes_later(c);
        against = later || is_anchored(c, &c->last) ? NULL : contradiction(c);
        if (!against)
                return blame_line(c, link, later, at);
        blame_last(c, against);
        return 0;
}

/* The accepted record is another one than @anchor knows. */
static int find_rechained(struct chain *c, const struct audit_anchor *anchor)
{
        struct audit_position next = c->reader.next;
        struct audit_verdict *v = c->verdict;
        const struct link *against;
        int r = collect_claims(c, &next);

        if (r < 0)
                return r;
        against = contradiction(c);
        if (against) {
                blame_last(c, against);
        } else {
                set_fault(c, AUDIT_FAULT_RECHAINED, c->last.seq, &c->last.at);
                v->since = v->proved ? v->proved->sequence + 1 : v->first;
                stretch_end(v, v->since - 1, v->proved ? v->proved->hash : AUDIT_HASH_NONE, c->proved_usec);
        }
        v->anchor = anchor;
        return 0;
}

/* ---- the end ---- */

static int find_end(struct chain *c)
{
        const struct audit_anchors *a = c->anchors;

        if (c->last.seq > 0)
                stretch_end(c->verdict, c->last.seq, c->last.hash, c->last.usec);
        if (c->i_anchor == a->n)
                return 0;
        c->verdict->anchor = &a->anchors[a->n - 1];
        set_fault(c, AUDIT_FAULT_CUT, expected_seq(c), NULL);
        c->verdict->other = c->verdict->anchor->sequence;
        return 0;
}

/* A last line without its end: how the next record begins, as far as it goes. What the disk did not get in time may be zeros. */
static int find_torn(struct chain *c, const struct audit_text *text)
{
        char begin[64];
        size_t n = (size_t)snprintf(begin, sizeof(begin), "{\"seq\":");

        if (c->last.seq > 0)
                n += (size_t)snprintf(begin + n, sizeof(begin) - n, "%" PRIu64 ",\"time\":\"", expected_seq(c));
        for (size_t i = 0; i < n && i < text->bytes.n && text->bytes.data[i] != '\0'; i++) {
                if (text->bytes.data[i] == (uint8_t)begin[i])
                        continue;
                if (c->last.seq > 0)
                        stretch_end(c->verdict, c->last.seq, c->last.hash, c->last.usec);
                set_fault(c, AUDIT_FAULT_INSERTED, expected_seq(c), &text->at);
                return 0;
        }
        c->verdict->n_torn_bytes = c->reader.next.offset - text->at.offset;
        return find_end(c);
}

static int chain_run(struct chain *c)
{
        struct audit_text text;
        struct link link;
        int r, broken;

        while ((r = audit_reader_next(&c->reader, &text)) == 0) {
                const struct audit_anchor *bad;

                if (!text.has_end && text.at.i_file + 1 == c->files->n)
                        return find_torn(c, &text);
                broken = link_read(c, &text, &link);
                if (broken < 0)
                        return broken;
                if (broken || !is_next(c, &link))
                        return find_fault(c, broken ? NULL : &link, &text.at);
                accept_link(c, &link);
                bad = check_anchors(c);
                if (bad)
                        return find_rechained(c, bad);
        }
        return r < 0 ? r : find_end(c);
}

static int compare_anchors(const void *a, const void *b)
{
        const struct audit_anchor *x = a, *y = b;

        return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

int audit_chain_verify(struct audit_verdict *ret_verdict, const struct audit_files *files, struct audit_anchors *anchors, size_t *ret_failed)
{
        _cleanup_(freep) struct chain *c = calloc(1, sizeof(*c));
        int r;

        *ret_failed = 0;
        if (!c)
                return -ENOMEM;
        *ret_verdict = (struct audit_verdict){ .n_files = files->n };
        if (anchors->n > 0)
                qsort(anchors->anchors, anchors->n, sizeof(*anchors->anchors), compare_anchors);
        c->files = files;
        c->anchors = anchors;
        c->verdict = ret_verdict;
        r = audit_hasher_init(&c->hasher);
        if (r == 0)
                r = audit_reader_init(&c->reader, files);
        if (r == 0)
                r = chain_run(c);
        *ret_failed = c->reader.next.i_file < files->n ? c->reader.next.i_file : 0;
        audit_reader_deinit(&c->reader);
        audit_hasher_deinit(&c->hasher);
        return r;
}
