/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-audit-show: records of the audit log that were asked for, as a table, JSON or CSV. Each is shown when it proves itself; the chain is for verify. */
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <time.h>

#include "client/lkmctl-audit.h"
#include "common/clock.h"

enum { LINES_STANDARD = 100, ROWS_AT_ONCE = 1000, USERS_MAX = 64 };

/** Who takes the records, one after the other. Return: an exit code. */
struct sink;
typedef int sink_take(struct sink *s, const struct audit_line *line, struct bytes text);

struct sink {
        sink_take *take;
        struct audit_filter filter;
        uint64_t n_broken; /* lines that are no records */
        uint64_t n;        /* records taken */
        /* of a table */
        struct table table;
        struct {
                uint64_t uid;
                char name[64];
        } users[USERS_MAX];
        size_t n_users;
        /* the last records, in the order of a ring */
        char **ring;
        size_t ring_size;
};

/* ---- reading ---- */

static int read_records(const struct audit_log *log, struct sink *s, struct audit_hasher *hasher, struct audit_reader *reader)
{
        static char scratch[AUDIT_LINE_MAX];
        struct audit_text text;
        struct audit_line line;
        int r, code = EXIT_CODE_OK;

        while (code == EXIT_CODE_OK && (r = audit_reader_next(reader, &text)) == 0) {
                bool is_torn = !text.has_end && text.at.i_file + 1 == log->files.n;

                if (is_torn)
                        break;
                if (audit_line_parse(&line, scratch, text.bytes) < 0 || audit_line_check(hasher, &line) < 0)
                        s->n_broken++;
                else if (audit_filter_takes(&s->filter, &line))
                        code = s->take(s, &line, text.bytes);
                if (ferror(stdout))
                        break;
        }
        if (code == EXIT_CODE_OK && r < 0)
                return ctl_refuse(EXIT_CODE_RECORD, "cannot read the audit log: %s: %s", log->files.files[reader->next.i_file].path, strerror(-r));
        return code;
}

/* Hand the records that @c asks for to @s. */
static int each_record(struct ctl *c, struct sink *s)
{
        struct audit_log log = { .path = NULL };
        struct audit_hasher hasher = { 0 };
        struct audit_reader reader = { .buffer = NULL };
        int r = audit_filter_init(&s->filter, c);

        if (r == EXIT_CODE_OK)
                r = audit_log_find(c, &log, false);
        if (r == EXIT_CODE_OK)
                r = audit_log_open(&log);
        if (r == EXIT_CODE_OK && (audit_hasher_init(&hasher) < 0 || audit_reader_init(&reader, &log.files) < 0))
                r = ctl_refuse(EXIT_CODE_FAILED, "out of memory");
        if (r == EXIT_CODE_OK)
                r = read_records(&log, s, &hasher, &reader);
        audit_reader_deinit(&reader);
        audit_hasher_deinit(&hasher);
        audit_log_deinit(&log);
        return r;
}

/* The end of the output; what was left out is told. */
static int finish(const struct sink *s, int code)
{
        int r = ctl_flush();

        if (code || r)
                return code ? code : r;
        if (s->n_broken == 0)
                return EXIT_CODE_OK;
        return ctl_refuse(EXIT_CODE_RECORD, "%" PRIu64 " %s left out, which lkmd did not write so. `lkmctl audit verify` tells what happened", s->n_broken,
                          s->n_broken == 1 ? "line was" : "lines were");
}

/* ---- a table ---- */

static const char *const titles[] = { "SEQ", "TIME", "EVENT", "USER", "PROCESS", "SCOPE", "DATABASE", "VERSION", "DECISION", "REASON" };

static void cell_text(char ret_text[SHOW_MAX], struct bytes text)
{
        snprintf(ret_text, SHOW_MAX, "%.*s", text.n > 0 ? (int)(text.n < SHOW_MAX ? text.n : SHOW_MAX - 1) : 1, text.n > 0 ? (const char *)text.data : "-");
}

static void cell_number(char ret_text[SHOW_MAX], uint64_t number)
{
        snprintf(ret_text, SHOW_MAX, number > 0 ? "%" PRIu64 : "-", number);
}

/* Here and now, for people: in the time zone of this process. */
static void cell_time(char ret_text[SHOW_MAX], uint64_t usec)
{
        time_t seconds = (time_t)(usec / USEC_PER_SEC);
        struct tm tm;

        if (!localtime_r(&seconds, &tm) || strftime(ret_text, SHOW_MAX, "%Y-%m-%d %H:%M:%S", &tm) == 0)
                snprintf(ret_text, SHOW_MAX, "-");
}

/* The name of a user as this machine has it, asked once. */
static void cell_user(char ret_text[SHOW_MAX], struct sink *s, const struct audit_line *line)
{
        struct passwd *user;
        size_t i = 0;

        snprintf(ret_text, SHOW_MAX, "-");
        if (!line->has_peer)
                return;
        while (i < s->n_users && s->users[i].uid != line->uid)
                i++;
        if (i == s->n_users) {
                if (s->n_users == USERS_MAX)
                        i = s->n_users = 0;
                user = line->uid <= UINT32_MAX ? getpwuid((uid_t)line->uid) : NULL;
                s->users[i].uid = line->uid;
                if (user)
                        snprintf(s->users[i].name, sizeof(s->users[i].name), "%s", user->pw_name);
                else
                        snprintf(s->users[i].name, sizeof(s->users[i].name), "%" PRIu64, line->uid);
                s->n_users++;
        }
        snprintf(ret_text, SHOW_MAX, "%s", s->users[i].name);
}

static void flush_table(struct sink *s)
{
        table_print(&s->table);
        table_deinit(&s->table);
}

static int take_row(struct sink *s, const struct audit_line *line, struct bytes text)
{
        char cells[ELEMENTSOF(titles)][SHOW_MAX];
        const char *row[ELEMENTSOF(titles)];

        if (s->n == 0)
                table_add(&s->table, titles);
        cell_number(cells[0], line->seq);
        cell_time(cells[1], line->time_usec);
        cell_text(cells[2], line->event);
        cell_user(cells[3], s, line);
        if (line->unit.n > 0 || !line->has_peer)
                cell_text(cells[4], line->unit);
        else
                cell_number(cells[4], line->pid);
        cell_text(cells[5], line->scope);
        cell_text(cells[6], line->label.n > 0 ? line->label : line->database_id);
        cell_number(cells[7], line->version);
        cell_text(cells[8], line->decision);
        cell_text(cells[9], line->reason);
        for (size_t i = 0; i < ELEMENTSOF(titles); i++)
                row[i] = cells[i];
        table_add(&s->table, row);
        if (++s->n % ROWS_AT_ONCE == 0)
                flush_table(s);
        return EXIT_CODE_OK;
}

/* ---- JSON ---- */

static int take_json(struct sink *s, const struct audit_line *line, struct bytes text)
{
        if (s->n++ > 0)
                putchar(',');
        fwrite(text.data, 1, text.n, stdout);
        return EXIT_CODE_OK;
}

static int take_json_line(struct sink *s, const struct audit_line *line, struct bytes text)
{
        s->n++;
        fwrite(text.data, 1, text.n, stdout);
        putchar('\n');
        return EXIT_CODE_OK;
}

/* ---- show ---- */

/* Keep the last ring_size of them. */
static int take_into_ring(struct sink *s, const struct audit_line *line, struct bytes text)
{
        char **place = &s->ring[s->n++ % s->ring_size];

        free(*place);
        *place = bytes_to_string(text);
        return *place ? EXIT_CODE_OK : ctl_refuse(EXIT_CODE_FAILED, "out of memory");
}

static int empty_ring(struct sink *s, sink_take *take)
{
        static char scratch[AUDIT_LINE_MAX];
        uint64_t begin = s->n > s->ring_size ? s->n - s->ring_size : 0, end = s->n;
        int code = EXIT_CODE_OK;

        s->n = 0;
        for (uint64_t i = begin; i < end && code == EXIT_CODE_OK; i++) {
                struct bytes text = bytes_from_string(s->ring[i % s->ring_size]);
                struct audit_line line;

                if (audit_line_parse(&line, scratch, text) == 0) /* as it did when it came in */
                        code = take(s, &line, text);
        }
        return code;
}

static int show_last(struct ctl *c, struct sink *s, sink_take *take)
{
        int code;

        s->ring_size = c->audit.has_lines ? c->audit.lines : LINES_STANDARD;
        s->ring = calloc(s->ring_size, sizeof(*s->ring));
        if (!s->ring)
                return ctl_refuse(EXIT_CODE_FAILED, "out of memory");
        s->take = take_into_ring;
        code = each_record(c, s);
        if (code == EXIT_CODE_OK) {
                if (c->json)
                        fputs("{\"records\":[", stdout);
                code = empty_ring(s, take);
        }
        for (size_t i = 0; i < s->ring_size; i++)
                free(s->ring[i]);
        free(s->ring);
        return code;
}

static int show_all(struct ctl *c, struct sink *s, sink_take *take)
{
        s->take = take;
        if (c->json)
                fputs("{\"records\":[", stdout);
        return each_record(c, s);
}

int command_audit_show(struct ctl *c)
{
        struct sink s = { .table = { .n_columns = ELEMENTSOF(titles) } };
        sink_take *take = c->json ? take_json : take_row;
        int code = c->audit.has_lines && c->audit.lines == 0 ? show_all(c, &s, take) : show_last(c, &s, take);

        if (code == EXIT_CODE_OK && c->json)
                puts("]}");
        flush_table(&s);
        return finish(&s, code);
}

/* ---- CSV, RFC 4180 ---- */

/* What a spreadsheet would take for a formula begins with one of these; an apostrophe before it makes it text again. */
static void csv_text(struct bytes text)
{
        bool quoted = false;

        for (size_t i = 0; i < text.n && !quoted; i++)
                quoted = strchr(",\"\r\n", text.data[i]) != NULL;
        if (quoted)
                putchar('"');
        if (text.n > 0 && strchr("=+-@\t\r", text.data[0]))
                putchar('\'');
        for (size_t i = 0; i < text.n; i++) {
                if (text.data[i] == '"')
                        putchar('"');
                putchar(text.data[i]);
        }
        if (quoted)
                putchar('"');
}

static void csv_number(uint64_t number)
{
        if (number > 0)
                printf("%" PRIu64, number);
}

static void csv_time(uint64_t usec)
{
        char text[CLOCK_TEXT_LENGTH + 1];

        clock_format(text, usec);
        printf("%.*s.%06uZ", CLOCK_TEXT_LENGTH - 1, text, (unsigned)(usec % USEC_PER_SEC));
}

static const char csv_head[] = "seq,time,boottime_usec,boot_id,event,uid,gid,pid,unit,connection,scope,database_id,label,version,decision,reason,"
                               "kek,kek_id,kms_request_id,count,stale,prev,hash\r\n";

static int take_csv(struct sink *s, const struct audit_line *line, struct bytes text)
{
        const struct {
                struct bytes text;
                uint64_t number;
        } cells[] = { { line->unit },        { .number = line->connection }, { line->scope },  { line->database_id },
                      { line->label },       { .number = line->version },    { line->decision }, { line->reason },
                      { line->kek },         { line->kek_id },               { line->kms_request_id }, { .number = line->count } };

        s->n++;
        printf("%" PRIu64 ",", line->seq);
        csv_time(line->time_usec);
        putchar(',');
        csv_number(line->boottime_usec);
        putchar(',');
        csv_text(line->boot_id);
        putchar(',');
        csv_text(line->event);
        if (line->has_peer)
                printf(",%" PRIu64 ",%" PRIu64 ",%" PRIu64, line->uid, line->gid, line->pid);
        else
                fputs(",,,", stdout);
        for (size_t i = 0; i < ELEMENTSOF(cells); i++) {
                putchar(',');
                csv_text(cells[i].text);
                csv_number(cells[i].number);
        }
        printf(",%s,", line->stale ? "true" : "");
        csv_text(line->prev);
        putchar(',');
        csv_text(line->hash);
        fputs("\r\n", stdout);
        return EXIT_CODE_OK;
}

int command_audit_export(struct ctl *c)
{
        struct sink s = { .take = take_json_line };
        bool is_csv = c->format && strcmp(c->format, "csv") == 0;

        if (c->format && !is_csv && strcmp(c->format, "json") != 0)
                return ctl_refuse(EXIT_CODE_USAGE, "--format of the audit log is json or csv");
        if (is_csv) {
                s.take = take_csv;
                fputs(csv_head, stdout);
        }
        return finish(&s, each_record(c, &s));
}
