/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log is changed in 10,000 ways that chance chooses, the same ones each time; each is found, and the record that is named is the one that was
 * written where the two logs first differ, as a comparison of their bytes tells.
 */
#include "client/audit-chain.h"
#include "tests/unit/audit-book.h"
#include "tests/unit/suite.h"

enum { RECORDS = 40, FILES = 3, TAMPERINGS = 10000, TEXT_MAX = 64 * 1024, ANCHORS_EVERY = 8 };

static struct book book;
static char original[TEXT_MAX], *changed; /* in heap: valgrind takes the checked memmove(3) of an array for memcpy(3) */
static size_t n_original, n_changed;
static uint64_t chance_state;

static void setup(void)
{
        chance_state = UINT64_C(0x9e3779b97f4a7c15);
        book_init(&book, RECORDS);
        changed = malloc(TEXT_MAX);
        ck_assert_ptr_nonnull(changed);
        n_original = 0;
        for (size_t i = 0; i < book.n; i++) {
                memcpy(original + n_original, book.lines[i].text, book.lines[i].n);
                n_original += book.lines[i].n;
        }
}

static void teardown(void)
{
        book_deinit(&book);
        free(changed);
}

/* From 0 to @n - 1: xorshift64*. */
static size_t chance(size_t n)
{
        chance_state ^= chance_state >> 12;
        chance_state ^= chance_state << 25;
        chance_state ^= chance_state >> 27;
        return (size_t)((chance_state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % n;
}

/* ---- the original, with its anchors, as files ---- */

/* Where record @i begins in the original; of the one after the last, its end. */
static size_t offset_of(size_t i)
{
        size_t offset = 0;

        for (size_t k = 0; k < i; k++)
                offset += book.lines[k].n;
        return offset;
}

static void add_anchor(struct audit_anchors *anchors, size_t i)
{
        ck_assert_int_eq(audit_anchors_add(anchors, i + 1, bytes_from_string(book.lines[i].hash), 0), 0);
}

/* Each @every-th record, and the last. */
static void add_anchors(struct audit_anchors *anchors, size_t every)
{
        for (size_t i = every - 1; i < book.n; i += every)
                add_anchor(anchors, i);
        add_anchor(anchors, book.n - 1);
}

/* Where a line begins in a text that may have been changed: at @offset or behind it. */
static size_t line_at(const char *text, size_t n, size_t offset)
{
        const char *end;

        if (offset == 0 || offset >= n)
                return offset < n ? offset : n;
        end = memchr(text + offset - 1, '\n', n - offset + 1);
        return end ? (size_t)(end - text) + 1 : n;
}

/* Cut a text into files at the ends of its lines, about where the original is cut. */
static void open_files(struct audit_files *files, const char *text, size_t n, size_t n_files)
{
        for (size_t i = 0; i < n_files; i++) {
                size_t begin = line_at(text, n, offset_of(book.n * i / n_files));
                size_t end = i + 1 == n_files ? n : line_at(text, n, offset_of(book.n * (i + 1) / n_files));
                char name[32];

                snprintf(name, sizeof(name), "file %zu", i);
                ck_assert_int_eq(audit_files_add(files, name, book_file(text + begin, end - begin), i + 1 == n_files ? 0 : book.n * i / n_files + 1), 0);
        }
}

static struct audit_verdict verify(const char *text, size_t n, size_t n_files, size_t every)
{
        static struct audit_anchors anchors;
        struct audit_files files = { .n = 0 };
        struct audit_verdict verdict;
        size_t failed;

        audit_anchors_deinit(&anchors);
        if (every > 0)
                add_anchors(&anchors, every);
        open_files(&files, text, n, n_files);
        ck_assert_int_eq(audit_chain_verify(&verdict, &files, &anchors, &failed), 0);
        audit_files_deinit(&files);
        return verdict;
}

/* The record that was written where the two texts first differ. 0: they do not. */
static uint64_t first_difference(void)
{
        size_t at = 0, i = 0;

        while (at < n_original && at < n_changed && original[at] == changed[at])
                at++;
        if (at == n_original && at == n_changed)
                return 0;
        while (i < book.n && offset_of(i + 1) <= at)
                i++;
        return i + 1;
}

/* ---- tamperings ---- */

static void splice(size_t at, size_t n_gone, const char *text, size_t n)
{
        memmove(changed + at + n, changed + at + n_gone, n_changed - at - n_gone);
        if (n > 0)
                memcpy(changed + at, text, n);
        n_changed = n_changed - n_gone + n;
}

static void change_a_byte(void)
{
        size_t at = chance(n_changed);
        char byte = (char)chance(256);

        splice(at, 1, &byte, 1);
}

static void insert_bytes(void)
{
        static const char *const texts[] = { "\n", " ", "0", "\"", "{}", "\n\n", "{\"seq\":1}\n", "\r" };
        const char *text = texts[chance(ELEMENTSOF(texts))];

        splice(chance(n_changed), 0, text, strlen(text));
}

static void remove_bytes(void)
{
        size_t at = chance(n_changed), n = 1 + chance(chance(2) ? 4 : 2000);

        splice(at, n < n_changed - at ? n : n_changed - at, NULL, 0);
}

static void drop_records(void)
{
        size_t i = chance(book.n), n = chance(2) ? 1 : 1 + chance(book.n - i);

        splice(offset_of(i), offset_of(i + n) - offset_of(i), NULL, 0);
}

static void swap_records(void)
{
        size_t i = chance(book.n - 1), k = chance(2) ? i + 1 : i + 1 + chance(book.n - i - 1);

        splice(offset_of(k), book.lines[k].n, book.lines[i].text, book.lines[i].n);
        splice(offset_of(i), book.lines[i].n, book.lines[k].text, book.lines[k].n);
}

static void move_record(void)
{
        size_t i = chance(book.n), to = chance(book.n);

        splice(offset_of(i), book.lines[i].n, NULL, 0);
        splice(offset_of(to) - (to > i ? book.lines[i].n : 0), 0, book.lines[i].text, book.lines[i].n);
}

static void double_record(void)
{
        size_t i = chance(book.n), at = chance(2) ? i + 1 : chance(book.n + 1);

        splice(offset_of(at), 0, book.lines[i].text, book.lines[i].n);
}

static void replace_record(void)
{
        size_t i = chance(book.n), by = chance(book.n);

        splice(offset_of(i), book.lines[i].n, book.lines[by].text, book.lines[by].n);
}

static void cut_the_end(void)
{
        n_changed = chance(n_changed);
}

/* Some member of record @i says something else. */
static void lie(struct book_line *l)
{
        switch (chance(4)) {
        case 0:
                l->line.uid += 1 + chance(1000);
                l->line.has_peer = true;
                break;
        case 1:
                l->line.time_usec += 1 + chance(1000000);
                break;
        case 2:
                l->line.event = BYTES_LITERAL("reload");
                break;
        default:
                l->line.connection += 1 + chance(1000);
        }
}

/* Record @i as somebody else would have it, with a hash that fits. */
static void forge(size_t i, uint64_t seq)
{
        struct book_line saved = book.lines[i];

        book.lines[i].text = NULL;
        book.lines[i].line.seq = seq;
        lie(&book.lines[i]);
        book_write(&book, i, false);
        memcpy(changed, book.lines[i].text, book.lines[i].n); /* for who calls: the forgery at the begin of @changed */
        n_changed = book.lines[i].n;
        free(book.lines[i].text);
        book.lines[i] = saved;
}

static void put_forgery(size_t i, uint64_t seq, bool replace)
{
        static char forgery[AUDIT_LINE_MAX];
        size_t n;

        forge(i, seq);
        n = n_changed;
        memcpy(forgery, changed, n);
        memcpy(changed, original, n_original);
        n_changed = n_original;
        splice(offset_of(i), replace ? book.lines[i].n : 0, forgery, n);
}

static void give_a_new_hash(void)
{
        size_t i = chance(book.n);

        put_forgery(i, i + 1, true);
}

static void give_a_new_number(void)
{
        size_t i = chance(book.n);

        put_forgery(i, 1 + chance(2 * book.n), true);
}

static void insert_forgery(void)
{
        size_t i = chance(book.n);

        put_forgery(i, i + 1, false);
}

static void (*const tamperings[])(void) = { change_a_byte, change_a_byte,    change_a_byte,   insert_bytes,    remove_bytes,      drop_records,  swap_records,
                                            move_record,   double_record,    replace_record,  cut_the_end,     give_a_new_hash,   insert_forgery, give_a_new_number };

/* Records from @i to before @end say that @i was another one, as somebody would have it who can write the file. */
static void rechain(size_t i, size_t end)
{
        struct book copy = book;

        copy.lines = malloc(book.n * sizeof(*copy.lines));
        ck_assert_ptr_nonnull(copy.lines);
        memcpy(copy.lines, book.lines, book.n * sizeof(*copy.lines));
        lie(&copy.lines[i]);
        n_changed = 0;
        for (size_t k = 0; k < copy.n; k++) {
                bool anew = k >= i && k < end;

                copy.lines[k].text = NULL;
                if (anew)
                        book_write(&copy, k, true);
                memcpy(changed + n_changed, anew ? copy.lines[k].text : book.lines[k].text, anew ? copy.lines[k].n : book.lines[k].n);
                n_changed += anew ? copy.lines[k].n : book.lines[k].n;
                free(copy.lines[k].text);
        }
        free(copy.lines);
}

/* ---- promises ---- */

START_TEST(the_log_as_it_was_written_is_good)
{
        for (size_t n_files = 1; n_files <= FILES; n_files++) {
                struct audit_verdict v = verify(original, n_original, n_files, ANCHORS_EVERY);

                ck_assert_int_eq(v.fault, AUDIT_FAULT_NONE);
                ck_assert_uint_eq(v.first, 1);
                ck_assert_uint_eq(v.last, RECORDS);
                ck_assert_str_eq(v.last_hash, book.lines[RECORDS - 1].hash);
                ck_assert_uint_eq(v.proved->sequence, RECORDS);
                ck_assert_uint_eq(v.n_proved, RECORDS / ANCHORS_EVERY + 1);
                ck_assert_uint_eq(v.n_torn_bytes, 0);
        }
}
END_TEST

START_TEST(each_tampering_is_found_and_the_first_record_is_named)
{
        unsigned n_found[ELEMENTSOF(tamperings)] = { 0 };

        for (unsigned i = 0, n = 0; n < TAMPERINGS; i++) {
                size_t which = i % ELEMENTSOF(tamperings);
                struct audit_verdict v;
                uint64_t first;

                memcpy(changed, original, n_original);
                n_changed = n_original;
                tamperings[which]();
                first = first_difference();
                if (first == 0)
                        continue; /* chance has chosen what was there */
                v = verify(changed, n_changed, 1 + i % FILES, ANCHORS_EVERY);
                ck_assert_msg(v.fault != AUDIT_FAULT_NONE && v.sequence == first,
                              "tampering %u of kind %zu: fault %d names record %lu, not %lu", i, which, (int)v.fault, (unsigned long)v.sequence,
                              (unsigned long)first);
                ck_assert_uint_le(v.since, first);
                ck_assert_uint_lt(v.last, first);
                n_found[which]++;
                n++;
        }
        for (size_t i = 0; i < ELEMENTSOF(tamperings); i++)
                ck_assert_uint_gt(n_found[i], TAMPERINGS / ELEMENTSOF(tamperings) / 2);
}
END_TEST

START_TEST(a_log_that_was_chained_anew_is_found_by_its_anchors)
{
        for (unsigned n = 0; n < TAMPERINGS / 10; n++) {
                size_t i = chance(book.n), every = n % 2 ? 1 : ANCHORS_EVERY;
                uint64_t next = (i / every + 1) * every;
                struct audit_verdict v;

                rechain(i, book.n);
                ck_assert_uint_eq(first_difference(), i + 1);
                v = verify(changed, n_changed, 1 + n % FILES, every);
                ck_assert_int_eq(v.fault, AUDIT_FAULT_RECHAINED);
                ck_assert_uint_eq(v.sequence, next < book.n ? next : book.n);
                ck_assert_uint_eq(v.since, i / every * every + 1);
                ck_assert_uint_eq(v.last, v.since - 1);
                ck_assert_uint_eq(v.anchor->sequence, v.sequence);
                ck_assert_int_eq(verify(changed, n_changed, 1, 0).fault, AUDIT_FAULT_NONE); /* which the chain alone cannot know */
        }
}
END_TEST

/* Somebody got tired of it: the record behind the stretch names the one that was there. */
START_TEST(a_stretch_that_was_chained_anew_ends_at_a_record_that_is_named)
{
        for (unsigned n = 0; n < TAMPERINGS / 10; n++) {
                size_t i = chance(book.n - 1), end = i + 1 + chance(book.n - i - 1);
                uint64_t anchored = (i / ANCHORS_EVERY + 1) * ANCHORS_EVERY;
                struct audit_verdict v;

                rechain(i, end);
                v = verify(changed, n_changed, 1 + n % FILES, 0);
                ck_assert_int_eq(v.fault, AUDIT_FAULT_CHANGED);
                ck_assert_uint_eq(v.sequence, end);
                ck_assert_uint_le(v.since, i + 1);
                v = verify(changed, n_changed, 1 + n % FILES, ANCHORS_EVERY);
                ck_assert_uint_eq(v.sequence, anchored < end ? anchored : end);
                ck_assert_uint_eq(v.since, i / ANCHORS_EVERY * ANCHORS_EVERY + 1);
        }
}
END_TEST

START_TEST(a_record_that_is_known_is_not_blamed_for_what_follows_it)
{
        struct audit_verdict v;
        const char *tail;

        /* Records up to 8 are true, and those behind them go on from another one. */
        rechain(2, book.n);
        changed[n_changed] = '\0';
        tail = strstr(changed, "{\"seq\":9,");
        ck_assert_ptr_nonnull(tail);
        n_changed -= (size_t)(tail - changed);
        memmove(changed + offset_of(ANCHORS_EVERY), tail, n_changed);
        memcpy(changed, original, offset_of(ANCHORS_EVERY));
        n_changed += offset_of(ANCHORS_EVERY);
        ck_assert_uint_eq(first_difference(), ANCHORS_EVERY + 1);
        v = verify(changed, n_changed, 1, ANCHORS_EVERY);
        ck_assert_int_eq(v.fault, AUDIT_FAULT_CHANGED);
        ck_assert_uint_eq(v.sequence, ANCHORS_EVERY + 1);
        ck_assert_uint_eq(v.last, ANCHORS_EVERY);
}
END_TEST

START_TEST(a_torn_last_record_is_no_alarm)
{
        size_t begin = offset_of(RECORDS - 1);

        for (size_t n = begin; n < n_original; n++) {
                struct audit_verdict v = verify(original, n, 1 + n % FILES, 0);

                ck_assert_int_eq(v.fault, AUDIT_FAULT_NONE);
                ck_assert_uint_eq(v.last, RECORDS - 1);
                ck_assert_uint_eq(v.n_torn_bytes, n - begin);
                memcpy(changed, original, n);
                memset(changed + n, 0, n_original - n); /* blocks that the disk did not get in time */
                v = verify(changed, n_original, 1, 0);
                ck_assert_int_eq(v.fault, AUDIT_FAULT_NONE);
                ck_assert_uint_eq(v.n_torn_bytes, n_original - begin);
        }
}
END_TEST

START_TEST(what_is_torn_and_was_known_before_is_cut_off)
{
        struct audit_verdict v = verify(original, n_original - 1, 1, ANCHORS_EVERY);

        ck_assert_int_eq(v.fault, AUDIT_FAULT_CUT);
        ck_assert_uint_eq(v.sequence, RECORDS);
        ck_assert_uint_eq(v.other, RECORDS);
        v = verify(original, 0, 1, ANCHORS_EVERY);
        ck_assert_int_eq(v.fault, AUDIT_FAULT_CUT);
        ck_assert_uint_eq(v.sequence, 1);
        ck_assert_uint_eq(v.first, 0);
}
END_TEST

START_TEST(each_kind_is_told_by_its_name)
{
        struct audit_verdict v;
        size_t i = 11; /* record 12 */

#define AFTER(change) (memcpy(changed, original, n_original), n_changed = n_original, (change), v = verify(changed, n_changed, 1, 0))
        AFTER(changed[offset_of(i) + 20] ^= 1);
        ck_assert_int_eq(v.fault, AUDIT_FAULT_CHANGED);
        ck_assert(!v.rehashed);
        ck_assert_uint_eq(v.at.line, 12);
        ck_assert_uint_eq(v.at.offset, offset_of(i));
        AFTER(splice(offset_of(i), offset_of(i + 3) - offset_of(i), NULL, 0));
        ck_assert_int_eq(v.fault, AUDIT_FAULT_MISSING);
        ck_assert_uint_eq(v.other, 14);
        AFTER((splice(offset_of(i + 2), book.lines[i + 2].n, book.lines[i].text, book.lines[i].n),
               splice(offset_of(i), book.lines[i].n, book.lines[i + 2].text, book.lines[i + 2].n)));
        ck_assert_int_eq(v.fault, AUDIT_FAULT_SWAPPED);
        ck_assert_uint_eq(v.other, 14);
        AFTER(splice(offset_of(i), 0, book.lines[i - 1].text, book.lines[i - 1].n));
        ck_assert_int_eq(v.fault, AUDIT_FAULT_DOUBLED);
        ck_assert_uint_eq(v.other, 11);
        AFTER(splice(offset_of(i), 0, "{}\n", 3));
        ck_assert_int_eq(v.fault, AUDIT_FAULT_INSERTED);
        AFTER(put_forgery(i, i + 1, false));
        ck_assert_int_eq(v.fault, AUDIT_FAULT_INSERTED);
        AFTER(put_forgery(i, i + 1, true));
        ck_assert_int_eq(v.fault, AUDIT_FAULT_CHANGED);
        ck_assert(v.rehashed);
        ck_assert_uint_eq(v.sequence, 12);
#undef AFTER
}
END_TEST

START_TEST(a_log_whose_older_files_are_gone_begins_with_a_line_that_says_so)
{
        struct book_line *opening = &book.lines[20];
        struct audit_files files = { .n = 0 };
        struct audit_anchors anchors = { .n = 0 };
        struct audit_verdict v;
        size_t failed;

        v = verify(original + offset_of(20), n_original - offset_of(20), 1, 0);
        ck_assert_int_eq(v.fault, AUDIT_FAULT_MISSING);
        ck_assert_uint_eq(v.sequence, 1);
        ck_assert_uint_eq(v.other, 20);
        opening->line.event = BYTES_LITERAL(AUDIT_EVENT_OPEN);
        opening->line.reason = BYTES_LITERAL("audit.jsonl.0000000000000001-0000000000000020");
        for (size_t i = 20; i < book.n; i++)
                book_write(&book, i, true);
        n_changed = 0;
        for (size_t i = 20; i < book.n; i++) {
                memcpy(changed + n_changed, book.lines[i].text, book.lines[i].n);
                n_changed += book.lines[i].n;
        }
        add_anchors(&anchors, ANCHORS_EVERY);
        ck_assert_int_eq(audit_files_add(&files, "audit.jsonl", book_file(changed, n_changed), 0), 0);
        ck_assert_int_eq(audit_chain_verify(&v, &files, &anchors, &failed), 0);
        ck_assert_int_eq(v.fault, AUDIT_FAULT_NONE);
        ck_assert_uint_eq(v.first, 21);
        ck_assert_uint_eq(v.n_before, 2);
        audit_files_deinit(&files);
        audit_anchors_deinit(&anchors);
}
END_TEST

START_TEST(anchors_of_one_record_that_disagree_are_an_alarm)
{
        struct audit_files files = { .n = 0 };
        struct audit_anchors anchors = { .n = 0 };
        struct audit_verdict v;
        size_t failed;

        add_anchors(&anchors, ANCHORS_EVERY);
        ck_assert_int_eq(audit_anchors_add(&anchors, 16, bytes_from_string(book.lines[2].hash), 0), 0);
        open_files(&files, original, n_original, 1);
        ck_assert_int_eq(audit_chain_verify(&v, &files, &anchors, &failed), 0);
        ck_assert_int_eq(v.fault, AUDIT_FAULT_RECHAINED);
        ck_assert_uint_eq(v.sequence, 16);
        ck_assert_uint_eq(v.since, 9);
        ck_assert_uint_eq(v.last, 8);
        audit_files_deinit(&files);
        audit_anchors_deinit(&anchors);
}
END_TEST

START_TEST(lines_longer_than_any_record_are_one_fault)
{
        size_t i = 11, n_long = 20 * AUDIT_LINE_MAX;
        char *text = malloc(n_original + n_long);
        struct audit_verdict v;

        ck_assert_ptr_nonnull(text);
        memcpy(text, original, offset_of(i));
        memset(text + offset_of(i), 'x', n_long);
        text[offset_of(i) + n_long - 1] = '\n';
        memcpy(text + offset_of(i) + n_long, original + offset_of(i), n_original - offset_of(i));
        v = verify(text, n_original + n_long, 1, 0);
        ck_assert_int_eq(v.fault, AUDIT_FAULT_INSERTED);
        ck_assert_uint_eq(v.sequence, 12);
        free(text);
}
END_TEST

int main(void)
{
        const struct promise all[] = { { the_log_as_it_was_written_is_good },
                                       { each_tampering_is_found_and_the_first_record_is_named },
                                       { a_log_that_was_chained_anew_is_found_by_its_anchors },
                                       { a_stretch_that_was_chained_anew_ends_at_a_record_that_is_named },
                                       { a_record_that_is_known_is_not_blamed_for_what_follows_it },
                                       { a_torn_last_record_is_no_alarm },
                                       { what_is_torn_and_was_known_before_is_cut_off },
                                       { each_kind_is_told_by_its_name },
                                       { a_log_whose_older_files_are_gone_begins_with_a_line_that_says_so },
                                       { anchors_of_one_record_that_disagree_are_an_alarm },
                                       { lines_longer_than_any_record_are_one_fault } };

        return suite_run("audit-chain", setup, teardown, all, ELEMENTSOF(all));
}
