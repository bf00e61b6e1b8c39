/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-audit: which log it is, and `audit verify`: whether it is what lkmd wrote, and what that was judged by. */
#include "client/lkmctl-audit.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "common/clock.h"

#define STANDARD_FILE "/var/log/lkm/audit.jsonl"

enum { ASK_TIMEOUT_MSEC = 3000 }; /* a daemon that hangs is no reason to wait long */

/* ---- the log ---- */

bool audit_log_ask(struct ctl *c, struct audit_log *log)
{
        const union message request = { .status = { .number_ = MESSAGE_STATUS } };
        _cleanup_(freep) char *text = NULL;
        int r = 0;

        json_decref(log->status);
        free(log->untold);
        log->status = NULL;
        log->untold = NULL;
        if (c->connect.timeout_msec == 0)
                c->connect.timeout_msec = ASK_TIMEOUT_MSEC;
        if (!c->lkm)
                r = lkm_connect(&c->lkm, &c->connect);
        if (r == 0)
                r = connection_report(c->lkm, &request, &text);
        if (r == 0)
                log->status = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        if (log->status)
                return true;
        log->untold = strdup(r == LKM_E_DENIED      ? "it tells administrators only"
                             : r == LKM_E_NO_DAEMON ? "none answers"
                             : r                    ? lkm_error_name(r)
                                                    : "its answer is no JSON");
        return false;
}

void audit_log_deinit(struct audit_log *log)
{
        audit_files_deinit(&log->files);
        json_decref(log->status);
        free(log->untold);
        free(log->path);
}

int audit_log_find(struct ctl *c, struct audit_log *ret_log, bool ask)
{
        const char *file = c->audit.file;

        *ret_log = (struct audit_log){ .path = NULL };
        if ((ask || !file) && audit_log_ask(c, ret_log) && !file)
                file = json_string_value(json_find(ret_log->status, "audit.file"));
        ret_log->path = strdup(file ? file : STANDARD_FILE);
        return ret_log->path ? EXIT_CODE_OK : ctl_refuse(EXIT_CODE_RECORD, "out of memory");
}

int audit_log_open(struct audit_log *log)
{
        _cleanup_(freep) char *failed = NULL;
        int r = audit_files_open(&log->files, log->path, &failed);

        if (r == 0)
                return EXIT_CODE_OK;
        if (r == -EAGAIN)
                return ctl_refuse(EXIT_CODE_RECORD, "%s is rotated faster than its files can be opened. Try again", failed ? failed : "the audit log");
        return ctl_refuse(EXIT_CODE_RECORD, "cannot read the audit log: %s: %s%s", failed ? failed : "", strerror(-r),
                          r == -EACCES   ? ". Ask as root or as a user who may read it"
                          : r == -ENOENT ? ". --file says where it is"
                                         : "");
}

bool audit_log_head(const struct audit_log *log, uint64_t *ret_sequence, struct bytes *ret_hash)
{
        const char *path = json_string_value(json_find(log->status, "audit.file"));
        const char *hash = json_string_value(json_find(log->status, "audit.hash"));
        json_int_t sequence = json_integer_value(json_find(log->status, "audit.sequence"));
        struct stat own, theirs;

        if (!path || !hash || sequence <= 0 || stat(path, &theirs) < 0)
                return false;
        if (log->files.n == 0 || fstat(log->files.files[log->files.n - 1].fd, &own) < 0)
                return false;
        if (own.st_dev != theirs.st_dev || own.st_ino != theirs.st_ino)
                return false;
        *ret_sequence = (uint64_t)sequence;
        *ret_hash = bytes_from_string(hash);
        return true;
}

/* ---- what it is judged by ---- */

enum source { SOURCE_CHECKPOINTS, SOURCE_JOURNAL, SOURCE_DAEMON, SOURCE_COUNT };

struct judgement {
        struct audit_log log;
        struct audit_anchors anchors;
        size_t n[SOURCE_COUNT];          /* anchors of each */
        char note[SOURCE_COUNT][SHOW_MAX]; /* why there are none, or where they are from */
        struct audit_verdict verdict;
        char sentence[SHOW_MAX];
};

static const char *const source_names[] = { "checkpoints", "journal", "lkmd" };
/* As a part of a sentence. */
static const char *const source_phrases[] = { "a checkpoint of the file", "a checkpoint in the journal", "the running lkmd" };

static int read_checkpoints(struct judgement *j, const char *path)
{
        _cleanup_(fclosep) FILE *file = path ? fopen(path, "re") : NULL;
        unsigned line = 0;
        int r;

        if (!path)
                return EXIT_CODE_OK;
        r = file ? audit_anchors_read(&j->anchors, file, SOURCE_CHECKPOINTS, &line) : -errno;
        if (r == -EBADMSG)
                return ctl_refuse(EXIT_CODE_USAGE, "%s, line %u: a checkpoint is the number of a record, a space, and its hash of %d hex digits", path, line,
                                  AUDIT_HASH_LENGTH);
        if (r < 0)
                return ctl_refuse(EXIT_CODE_RECORD, "cannot read the checkpoints: %s: %s", path, strerror(-r));
        j->n[SOURCE_CHECKPOINTS] = j->anchors.n;
        snprintf(j->note[SOURCE_CHECKPOINTS], SHOW_MAX, "of %s", path);
        return EXIT_CODE_OK;
}

static int read_journal(struct judgement *j, const struct ctl *c)
{
        const char *folder = c->audit.journal;
        char *note = j->note[SOURCE_JOURNAL];
        uint64_t since = 0;
        struct stat st;
        int r = c->audit.since ? audit_time_parse(&since, "since", c->audit.since) : EXIT_CODE_OK;

        if (r)
                return r;
        if (folder && strcmp(folder, "no") == 0) {
                snprintf(note, SHOW_MAX, "not asked");
                return EXIT_CODE_OK;
        }
        r = stat(j->log.path, &st) < 0 ? -errno : 0;
        if (r == 0)
                r = audit_journal_read(&j->anchors, SOURCE_JOURNAL, folder, j->log.path, st.st_uid, since, &j->n[SOURCE_JOURNAL]);
        if (r < 0 && folder)
                return ctl_refuse(EXIT_CODE_RECORD, "cannot read the journal in %s: %s", folder, strerror(-r));
        if (r < 0)
                snprintf(note, SHOW_MAX, "cannot be read: %s", strerror(-r));
        else if (j->n[SOURCE_JOURNAL] == 0)
                snprintf(note, SHOW_MAX, "none of this log that you may read");
        else
                snprintf(note, SHOW_MAX, "%s%s", folder ? "of " : "of this machine", folder ? folder : "");
        return EXIT_CODE_OK;
}

static void take_head(struct judgement *j)
{
        char *note = j->note[SOURCE_DAEMON];
        struct bytes hash;
        uint64_t sequence = 0;

        if (!j->log.status)
                snprintf(note, SHOW_MAX, "not known: %s", j->log.untold ? j->log.untold : "no memory");
        else if (!audit_log_head(&j->log, &sequence, &hash))
                snprintf(note, SHOW_MAX, "it writes another log");
        else if (audit_anchors_add(&j->anchors, sequence, hash, SOURCE_DAEMON) < 0)
                snprintf(note, SHOW_MAX, "its answer is none");
        else
                j->n[SOURCE_DAEMON] = 1;
        if (j->n[SOURCE_DAEMON])
                snprintf(note, SHOW_MAX, "its last record was %" PRIu64, sequence);
}

/* What the daemon wrote last is asked before the log is read, and once more behind it: a record that it does not know by then is not its own. */
static void check_head_again(struct ctl *c, struct judgement *j)
{
        struct audit_verdict *v = &j->verdict;
        struct bytes hash;
        uint64_t sequence;

        if (v->fault || j->n[SOURCE_DAEMON] == 0 || !audit_log_ask(c, &j->log) || !audit_log_head(&j->log, &sequence, &hash) || sequence >= v->last)
                return;
        v->fault = AUDIT_FAULT_INSERTED;
        v->sequence = v->since = sequence + 1;
        v->last = sequence;
        *v->last_hash = '\0';
        v->last_usec = 0;
}

/* ---- in words ---- */

static void say_fault(struct judgement *j)
{
        const struct audit_verdict *v = &j->verdict;
        char *text = j->sentence, range[96] = "", by[128] = "";
        uint64_t n = v->sequence;

        if (v->anchor)
                snprintf(by, sizeof(by), "%s (record %" PRIu64 ")", source_phrases[v->anchor->source], v->anchor->sequence);
        if (v->since < n)
                snprintf(range, sizeof(range), ". It may be that records from %" PRIu64 " on were chained anew", v->since);
        switch (v->fault) {
        case AUDIT_FAULT_NONE:
                snprintf(text, SHOW_MAX, "good");
                break;
        case AUDIT_FAULT_CHANGED:
                if (v->rehashed)
                        snprintf(text, SHOW_MAX, "record %" PRIu64 " was changed and given a new hash, which is not the one that was known of it%s", n, range);
                else
                        snprintf(text, SHOW_MAX, "record %" PRIu64 " was changed: what stands in its place does not prove itself", n);
                break;
        case AUDIT_FAULT_MISSING:
                if (v->other > n)
                        snprintf(text, SHOW_MAX, "records %" PRIu64 " to %" PRIu64 " are missing", n, v->other);
                else
                        snprintf(text, SHOW_MAX, "record %" PRIu64 " is missing", n);
                break;
        case AUDIT_FAULT_SWAPPED:
                snprintf(text, SHOW_MAX, "the order was changed: record %" PRIu64 " stands where record %" PRIu64 " should be", v->other, n);
                break;
        case AUDIT_FAULT_DOUBLED:
                snprintf(text, SHOW_MAX, "record %" PRIu64 " stands a second time, where record %" PRIu64 " should be", v->other, n);
                break;
        case AUDIT_FAULT_INSERTED:
                snprintf(text, SHOW_MAX, "a line that lkmd did not write stands where record %" PRIu64 " should be", n);
                break;
        case AUDIT_FAULT_CUT:
                snprintf(text, SHOW_MAX, "the end was cut off: record %" PRIu64 " and those after it are missing, which %s knows of", n, by);
                break;
        case AUDIT_FAULT_RECHAINED:
                snprintf(text, SHOW_MAX,
                         "record %" PRIu64 " is not the one that %s knows: records from %" PRIu64 " to %" PRIu64 ", or some of them, were changed and chained anew", n,
                         by, v->since, n);
                break;
        }
}

/* What nobody but the chain vouches for. */
static void say_limit(char ret_text[SHOW_MAX], const struct audit_verdict *v)
{
        uint64_t proved = v->proved ? v->proved->sequence : 0;

        if (v->last == 0 || proved >= v->last)
                snprintf(ret_text, SHOW_MAX, "%s", "");
        else if (proved == 0)
                snprintf(ret_text, SHOW_MAX,
                         "No checkpoint of these records was there to compare: the chain alone proves them, which whoever can write the log could have "
                         "made anew, or cut off at its end.");
        else
                snprintf(ret_text, SHOW_MAX,
                         "Records after %" PRIu64 " are proved by the chain only, which whoever can write the log could have made anew, or cut off at its end.",
                         proved);
}

static void time_text(char ret_text[64], uint64_t usec)
{
        clock_format(ret_text, usec);
        if (usec == 0)
                *ret_text = '\0';
}

static json_t *fault_json(const struct judgement *j)
{
        static const char *const kinds[] = { "none", "changed", "missing", "swapped", "doubled", "inserted", "cut", "rechained" };
        const struct audit_verdict *v = &j->verdict;
        json_t *fault;

        if (!v->fault)
                return json_null();
        fault = json_pack("{s:s, s:I, s:I, s:o}", "kind", kinds[v->fault], "sequence", (json_int_t)v->sequence, "since", (json_int_t)v->since, "sentence",
                          json_text(j->sentence));
        if (v->has_position) {
                json_object_set_new(fault, "file", json_text(j->log.files.files[v->at.i_file].path));
                json_object_set_new(fault, "line", json_integer((json_int_t)v->at.line));
        }
        return fault;
}

static void print_json(const struct judgement *j)
{
        const struct audit_verdict *v = &j->verdict;
        char from[64], until[64], limit[SHOW_MAX];
        json_t *anchors = json_object(), *report;

        time_text(from, v->first_usec);
        time_text(until, v->last_usec);
        say_limit(limit, v);
        for (size_t i = 0; i < SOURCE_COUNT; i++)
                json_object_set_new(anchors, source_names[i], json_pack("{s:I, s:o}", "count", (json_int_t)j->n[i], "note", json_text(j->note[i])));
        report = json_pack("{s:o, s:I, s:b, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:o, s:o}", "file", json_text(j->log.path), "files",
                           (json_int_t)v->n_files, "good", v->fault == AUDIT_FAULT_NONE, "first", (json_int_t)v->first, "last", (json_int_t)v->last, "hash",
                           v->last_hash, "from", from, "until", until, "torn_bytes", (json_int_t)v->n_torn_bytes, "torn_before",
                           (json_int_t)v->n_torn_events, "proved", (json_int_t)(v->proved ? v->proved->sequence : 0), "limit", limit, "anchors", anchors, "fault",
                           fault_json(j));
        ctl_print_json(report);
}

static void print_anchors(const struct judgement *j)
{
        _cleanup_(table_deinit) struct table table = { .n_columns = 3 };
        char count[32], note[SHOW_MAX];
        const struct audit_verdict *v = &j->verdict;

        puts("\nCompared with:");
        for (size_t i = 0; i < SOURCE_COUNT; i++) {
                if (i == SOURCE_CHECKPOINTS && !*j->note[i])
                        continue;
                snprintf(count, sizeof(count), "%zu", j->n[i]);
                snprintf(note, sizeof(note), "%s", j->note[i]);
                table_add(&table, (const char *[]){ i == SOURCE_DAEMON ? "  the running lkmd" : i == SOURCE_JOURNAL ? "  checkpoints in the journal" : "  checkpoints given",
                                                    count, note });
        }
        table_print(&table);
        if (v->n_before > 0)
                printf("%" PRIu64 " of them are about records before these files.\n", v->n_before);
}

static void print_people(const struct judgement *j)
{
        const struct audit_verdict *v = &j->verdict;
        char from[64], until[64], limit[SHOW_MAX];

        time_text(from, v->first_usec);
        time_text(until, v->last_usec);
        say_limit(limit, v);
        if (v->fault)
                printf("TAMPERED WITH: %s.\n", j->sentence);
        if (v->fault && v->has_position)
                printf("%s, line %" PRIu64 "\n", j->log.files.files[v->at.i_file].path, v->at.line);
        if (v->last > 0)
                printf("%s %" PRIu64 " to %" PRIu64 " %s good: %s%s%s, in %" PRIu64 " %s.\n", v->fault ? "Before that, records" : "Records", v->first, v->last,
                       v->fault ? "look" : "are", from, *until ? " to " : "", until, v->n_files, v->n_files == 1 ? "file" : "files");
        else
                puts(v->fault ? "No record before that is proved." : "There is no record.");
        if (v->first > 1)
                printf("Records before %" PRIu64 " are in none of these files.\n", v->first);
        if (v->n_torn_bytes > 0)
                printf("At the end is an unfinished record of %" PRIu64 " bytes, as a loss of power leaves it, or lkmd while it writes.\n", v->n_torn_bytes);
        if (v->n_torn_events > 0)
                printf("lkmd found an unfinished record at %" PRIu64 " of its starts, and cut it off.\n", v->n_torn_events);
        print_anchors(j);
        if (*limit)
                printf("%s\n", limit);
}

/* ---- the command ---- */

/* What it is judged by is read before the log is: the log then has all of that, unless somebody took it away. */
static int judge(struct ctl *c, struct judgement *j)
{
        size_t failed;
        int r = audit_log_find(c, &j->log, true);

        if (r == EXIT_CODE_OK)
                r = read_checkpoints(j, c->audit.checkpoints);
        if (r == EXIT_CODE_OK)
                r = read_journal(j, c);
        if (r == EXIT_CODE_OK)
                r = audit_log_open(&j->log);
        if (r)
                return r;
        take_head(j);
        r = audit_chain_verify(&j->verdict, &j->log.files, &j->anchors, &failed);
        if (r < 0)
                return ctl_refuse(EXIT_CODE_RECORD, "cannot read the audit log: %s: %s", j->log.files.files[failed].path, strerror(-r));
        check_head_again(c, j);
        say_fault(j);
        return EXIT_CODE_OK;
}

int command_audit_verify(struct ctl *c)
{
        struct judgement *j = calloc(1, sizeof(*j));
        int r;

        if (!j)
                return ctl_refuse(EXIT_CODE_RECORD, "out of memory");
        r = judge(c, j);
        if (r == EXIT_CODE_OK) {
                if (c->json)
                        print_json(j);
                else
                        print_people(j);
                /* 1 is for tampering alone. */
                r = j->verdict.fault ? EXIT_CODE_FAILED : ctl_flush() ? EXIT_CODE_RECORD : EXIT_CODE_OK;
                if (j->verdict.fault)
                        ctl_flush();
        }
        audit_anchors_deinit(&j->anchors);
        audit_log_deinit(&j->log);
        free(j);
        return r;
}
