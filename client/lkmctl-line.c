/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-line: the command line: what there is, and what was asked for. Help, dispatch and (by a test) the completion follow its tables. */
#include <getopt.h>
#include <limits.h>

#include "client/lkmctl.h"

#define LABEL_MAX 64
#define SECONDS_MAX 3600
#define HELP_MAX 512 /* of the sentence about an option */
#define LINES_MAX 1000000
#define ROUNDS_MAX 100000000
#define MSEC_PER_SEC 1000

/* ---- the tables: help, dispatch and (by a test) the completion follow them ---- */

enum option_bit {
        OPTION_SCOPE = 1,
        OPTION_FORMAT = 2,
        OPTION_FORCE = 4,
        OPTION_ID = 8,
        OPTION_VERSION = 16,
        OPTION_DUE = 32,
        OPTION_ADOPT = 64,
        OPTION_TO = 128,
        OPTION_AUDIT = 256,        /* each of its commands */
        OPTION_AUDIT_VERIFY = 512,
        OPTION_AUDIT_FILTER = 1024, /* show and export */
        OPTION_LINES = 2048,
        OPTION_AS = 4096,
        OPTION_UNIT = 8192,
        OPTION_LABEL = 16384,
        OPTION_ALWAYS = 32768,
};

static const struct command {
        const char *name, *arguments, *summary; /* @name: one word, or two for what is asked of one thing */
        unsigned options;
        int n_min, n_max;
        command_run *run;
        bool each; /* for each database by itself, as its owner when root asks, or without a daemon: it connects later */
        bool admin; /* needs the right `admin`, whatever its arguments */
} commands[] = {
        { "status", "", "state of the daemon; for administrators", 0, 0, 0, command_status, .admin = true },
        { "list", "", "cached keys, never their bytes; for administrators", 0, 0, 0, command_list, .admin = true },
        { "create", "DB", "make the key of a new database: DB.key", OPTION_SCOPE | OPTION_LABEL, 1, 1, command_create },
        { "get", "DB", "write the key of a database to a pipe or file", OPTION_SCOPE | OPTION_FORMAT | OPTION_FORCE | OPTION_VERSION,
          1, 1, command_get },
        { "sqlcipher", "DB [-- ARGUMENT…]", "open the sqlcipher shell, already keyed", OPTION_SCOPE, 1, INT_MAX,
          command_sqlcipher },
        { "evict", "DB | --id UUID", "wipe a cached key", OPTION_ID, 0, 1, command_evict },
        { "lock", "", "wipe every key and give out none; for administrators", 0, 0, 0, command_lock, .admin = true },
        { "unlock", "", "end lock; for administrators", 0, 0, 0, command_unlock, .admin = true },
        { "explain", "DB | --scope NAME", "which rule of the policy decides for you, or for --as USER", OPTION_SCOPE | OPTION_AS | OPTION_UNIT, 0, 1,
          command_explain },
        { "ping", "", "ask whether the daemon answers", 0, 0, 0, command_ping },
        { "check", "DB", "verify DB.key without giving out the key", OPTION_SCOPE, 1, 1, command_check },
        { "rotate", "DB… | --due DIR…", "give databases new keys; --due: those in DIR whose time has come", OPTION_DUE, 0, INT_MAX,
          command_rotate, true },
        { "recover", "DB…", "finish or undo a rotation that was interrupted", 0, 1, INT_MAX, command_recover, true },
        { "history", "DB", "every version of the key, with its state and dates", 0, 1, 1, command_history },
        { "purge", "DB --version N", "destroy a retired version of the key for good", OPTION_VERSION | OPTION_FORCE, 1, 1,
          command_purge, true },
        { "rewrap", "DB…", "wrap the keys anew under the newest versions of their KEKs", 0, 1, INT_MAX, command_rewrap, true },
        { "rekek", "DB…", "wrap the keys under the KEKs that their scope has now", 0, 1, INT_MAX, command_rekek, true },
        { "adopt", "DB", "make a database of your own one of lkm's", OPTION_SCOPE | OPTION_LABEL | OPTION_ADOPT | OPTION_TO, 1, 1, command_adopt, true },
        { "salvage", "DB", "which key each page fits; --to: put them together under one", OPTION_TO, 1, 1, command_salvage, true },
        { "kek list", "", "the KEKs, and whether they can be used; for administrators", 0, 0, 0, command_kek_list, .admin = true },
        { "kek check", "NAME", "use a KEK for all that lkm needs of it; for administrators", 0, 1, 1, command_kek_check, .admin = true },
        { "kek describe", "NAME", "what is known of a KEK; for administrators", 0, 1, 1, command_kek_describe, .admin = true },
        { "kek policy", "NAME", "the least policy to paste at its KMS; for administrators", 0, 1, 1, command_kek_policy, .admin = true },
        { "audit verify", "", "whether the audit log is what lkmd wrote", OPTION_AUDIT | OPTION_AUDIT_VERIFY, 0, 0, command_audit_verify, .each = true, .admin = true },
        { "audit show", "", "the audit log, for people", OPTION_AUDIT | OPTION_AUDIT_FILTER | OPTION_UNIT | OPTION_SCOPE | OPTION_LINES, 0, 0, command_audit_show, .each = true, .admin = true },
        { "audit export", "", "the audit log, as it is or as CSV", OPTION_AUDIT | OPTION_AUDIT_FILTER | OPTION_UNIT | OPTION_SCOPE | OPTION_FORMAT, 0, 0,
          command_audit_export, .each = true, .admin = true },
};

static const struct {
        const char *name, *value, *summary;
        unsigned bit;
} options[] = {
        { "scope", "NAME", "scope of a new key; refuse a key of another one; audit: records about it", OPTION_SCOPE },
        { "format", "FORMAT", "of the key: raw, hex (default) or pragma (x'…'); of the audit log: json (default) or csv", OPTION_FORMAT },
        { "label", "TEXT", "what people call the database, for its record and the audit log", OPTION_LABEL },
        { "force", NULL, "get: write the key to a terminal too; purge: do not ask", OPTION_FORCE },
        { "id", "UUID", "database id instead of a path; for administrators", OPTION_ID },
        { "as", "USER", "for whom, in all of his groups; for administrators", OPTION_AS },
        { "version", "N", "version of the key", OPTION_VERSION },
        { "due", NULL, "look in folders for the databases whose rotation is due", OPTION_DUE },
        { "to", "NEW", "the new database that is written", OPTION_TO },
        { "passphrase-file", "FILE", "read what opens the database there, not from the terminal", OPTION_ADOPT },
        { "passphrase-fd", "N", "the same, of a descriptor", OPTION_ADOPT },
        { "raw", NULL, "it is a raw key: 64 hex digits, or x'…'", OPTION_ADOPT },
        { "side-file", "FILE", "the key is PBKDF2-HMAC-SHA256 of the passphrase, with the salt of this file", OPTION_ADOPT },
        { "compatibility", "N", "format of the database: 3 or 4, of SQLCipher; else found out", OPTION_ADOPT },
        { "rounds", "N", "of PBKDF2, where they are not the usual ones", OPTION_ADOPT },
        { "page-size", "BYTES", "of the database; else found out", OPTION_ADOPT },
        { "file", "FILE", "the audit log; else that of the running lkmd, else /var/log/lkm/audit.jsonl", OPTION_AUDIT },
        { "checkpoints", "FILE", "verify: number and hash of records, as kept elsewhere", OPTION_AUDIT_VERIFY },
        { "journal", "DIR", "verify: journal files with checkpoints, in place of this machine's; no: none", OPTION_AUDIT_VERIFY },
        { "since", "TIME", "records from then on: 2026-01-31, -2h, today …; verify: checkpoints of the journal", OPTION_AUDIT },
        { "until", "TIME", "records until then", OPTION_AUDIT_FILTER },
        { "user", "USER", "records about this user, by name or number", OPTION_AUDIT_FILTER },
        { "database", "ID", "records about this database, by UUID or label", OPTION_AUDIT_FILTER },
        { "event", "EVENT", "records of this event: release, deny, rotate …", OPTION_AUDIT_FILTER },
        { "decision", "DECISION", "records with this decision: allow or deny", OPTION_AUDIT_FILTER },
        { "unit", "UNIT", "records about a process of this systemd unit; explain: as if in it", OPTION_UNIT },
        { "lines", "N", "show: the last N of them (default 100); 0: all", OPTION_LINES },
        { "socket", "PATH", "of lkmd; else $LKM_SOCKET, $XDG_RUNTIME_DIR/lkm/lkm.sock, /run/lkm/lkm.sock; for administrators first "
                            "$LKM_ADMIN_SOCKET, or admin.sock beside those two",
          OPTION_ALWAYS },
        { "json", NULL, "output for programs; errors too", OPTION_ALWAYS },
        { "timeout", "SECONDS", "deadline of each request (default 10; of kek check 60); rotate, recover: how long others may take to close the database", OPTION_ALWAYS },
        { "help", NULL, "this text", OPTION_ALWAYS },
        { "version", NULL, "version of lkmctl", OPTION_ALWAYS },
};

_Static_assert(ELEMENTSOF(options) <= 64, "a bit for each option");

static const struct {
        enum exit_code code;
        const char *meaning;
} exit_codes[] = {
        { EXIT_CODE_OK, "done" },
        { EXIT_CODE_FAILED, "failed; of audit verify: the log was tampered with" },
        { EXIT_CODE_USAGE, "wrong use" },
        { EXIT_CODE_DENIED, "denied by the policy, or the daemon is locked" },
        { EXIT_CODE_NO_DAEMON, "no daemon answers" },
        { EXIT_CODE_RECORD, "the database, its .key or the audit log is missing, exists already, is damaged, foreign or cannot be read" },
        { EXIT_CODE_KEK, "the KEK or its key management service is not usable" },
};

/* Add to @text, of @n characters, who takes an option: " [get audit" and so on; of several commands with the same first word that alone. */
static size_t add_takers(char text[HELP_MAX], size_t n, unsigned bit)
{
        const char *last = NULL;
        size_t n_last = 0;

        for (size_t k = 0; k < ELEMENTSOF(commands) && bit != OPTION_ALWAYS; k++) {
                size_t n_word = strcspn(commands[k].name, " ");

                if (!(commands[k].options & bit) || (last && n_word == n_last && strncmp(last, commands[k].name, n_word) == 0))
                        continue;
                n += (size_t)snprintf(text + n, HELP_MAX - n, "%s%.*s", last ? " " : " [", (int)n_word, commands[k].name);
                last = commands[k].name;
                n_last = n_word;
        }
        return n;
}

static int help(void)
{
        _cleanup_(table_deinit) struct table table = { .n_columns = 2 };
        char left[128], right[HELP_MAX];

        puts("Usage: lkmctl [OPTION…] COMMAND [ARGUMENT…]\n\nKeys for encrypted databases, from lkmd.\n\nCommands:");
        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                snprintf(left, sizeof(left), "  %s%s%s", commands[i].name, *commands[i].arguments ? " " : "",
                         commands[i].arguments);
                table_add(&table, (const char *[]){ left, commands[i].summary });
        }
        table_add(&table, (const char *[]){ "Options:", "" });
        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                size_t n = (size_t)snprintf(right, sizeof(right), "%s", options[i].summary);

                snprintf(left, sizeof(left), "  --%s%s%s", options[i].name, options[i].value ? " " : "",
                         options[i].value ? options[i].value : "");
                n = add_takers(right, n, options[i].bit);
                if (strchr(right, '['))
                        snprintf(right + n, sizeof(right) - n, "]");
                table_add(&table, (const char *[]){ left, right });
        }
        table_add(&table, (const char *[]){ "Exit codes:", "" });
        for (size_t i = 0; i < ELEMENTSOF(exit_codes); i++) {
                snprintf(left, sizeof(left), "  %u", (unsigned)exit_codes[i].code);
                table_add(&table, (const char *[]){ left, exit_codes[i].meaning });
        }
        table_print(&table);
        return ctl_flush();
}

/* ---- parsing it ---- */

static int usage(void)
{
        fputs("Try `lkmctl --help`.\n", stderr);
        return EXIT_CODE_USAGE;
}

static int parse_timeout(uint32_t *ret_msec, const char *text)
{
        char *end;
        double seconds = strtod(text, &end);

        if (end == text || *end || !(seconds >= 0.001) || seconds > SECONDS_MAX)
                return ctl_refuse(EXIT_CODE_USAGE, "--timeout takes seconds between 0.001 and %d", SECONDS_MAX);
        *ret_msec = (uint32_t)(seconds * MSEC_PER_SEC);
        return EXIT_CODE_OK;
}

static int parse_number(uint32_t *ret_number, const char *name, const char *text, uint32_t min, uint32_t max)
{
        char *end;
        unsigned long long number = strtoull(text, &end, 10);

        if (*text < '0' || *text > '9' || *end || number < min || number > max)
                return ctl_refuse(EXIT_CODE_USAGE, "--%s takes a number between %u and %u", name, (unsigned)min, (unsigned)max);
        *ret_number = (uint32_t)number;
        return EXIT_CODE_OK;
}

static int parse_version(uint32_t *ret_version, const char *text)
{
        char *end;
        unsigned long long number = strtoull(text, &end, 10);

        if (*text < '0' || *text > '9' || *end || number == 0 || number > UINT32_MAX)
                return ctl_refuse(EXIT_CODE_USAGE, "--version takes a number from 1. `lkmctl history` lists them");
        *ret_version = (uint32_t)number;
        return EXIT_CODE_OK;
}

static int parse_label(const char **ret_label, const char *text)
{
        if (!*text || strlen(text) > LABEL_MAX || !bytes_is_text(bytes_from_string(text)))
                return ctl_refuse(EXIT_CODE_USAGE, "--label takes 1 to %d bytes of UTF-8 text, without control characters", LABEL_MAX);
        *ret_label = text;
        return EXIT_CODE_OK;
}

/* Keep the value of an option of `adopt`. */
static int take_adopt_option(struct ctl_adopt *o, const char *name, const char *value)
{
        const struct {
                const char *name;
                uint32_t *number;
                uint32_t min, max;
        } numbers[] = {
                { "compatibility", &o->compatibility, 3, 4 },
                { "rounds", &o->rounds, 1, ROUNDS_MAX },
                { "page-size", &o->page_size, 512, 65536 },
                { "passphrase-fd", &o->passphrase_fd, 0, INT16_MAX },
        };
        const struct {
                const char *name;
                const char **text;
        } texts[] = { { "to", &o->to }, { "side-file", &o->side_file }, { "passphrase-file", &o->passphrase_file } };

        o->has_passphrase_fd = o->has_passphrase_fd || strcmp(name, "passphrase-fd") == 0;
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
                if (strcmp(name, numbers[i].name) == 0)
                        return parse_number(numbers[i].number, name, value, numbers[i].min, numbers[i].max);
        }
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                if (strcmp(name, texts[i].name) == 0) {
                        *texts[i].text = value;
                        return EXIT_CODE_OK;
                }
        }
        o->raw = true;
        return EXIT_CODE_OK;
}

/* Keep the value of an option of `audit`. */
static int take_audit_option(struct ctl_audit *o, const char *name, const char *value)
{
        const struct {
                const char *name;
                const char **text;
        } texts[] = { { "file", &o->file },   { "checkpoints", &o->checkpoints }, { "journal", &o->journal }, { "since", &o->since },       { "until", &o->until },
                      { "user", &o->user },   { "database", &o->database },       { "event", &o->event },     { "decision", &o->decision } };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                if (strcmp(name, texts[i].name) == 0) {
                        *texts[i].text = value;
                        return EXIT_CODE_OK;
                }
        }
        o->has_lines = true;
        return parse_number(&o->lines, name, value, 0, LINES_MAX);
}

/* Keep the value of options[@index] in @c. */
static int take_option(struct ctl *c, size_t index, const char *value)
{
        const char *name = options[index].name;

        if (options[index].bit & (OPTION_ADOPT | OPTION_TO))
                return take_adopt_option(&c->adopt, name, value);
        if (options[index].bit & (OPTION_AUDIT | OPTION_AUDIT_VERIFY | OPTION_AUDIT_FILTER | OPTION_LINES))
                return take_audit_option(&c->audit, name, value);
        if (strcmp(name, "timeout") == 0)
                return parse_timeout(&c->connect.timeout_msec, value);
        if (strcmp(name, "version") == 0)
                return parse_version(&c->version, value);
        if (strcmp(name, "label") == 0)
                return parse_label(&c->label, value);
        if (strcmp(name, "scope") == 0)
                c->scope = value;
        else if (strcmp(name, "format") == 0)
                c->format = value;
        else if (strcmp(name, "force") == 0)
                c->force = true;
        else if (strcmp(name, "due") == 0)
                c->due = true;
        else if (strcmp(name, "id") == 0)
                c->id = value;
        else if (strcmp(name, "as") == 0)
                c->as = value;
        else if (strcmp(name, "unit") == 0)
                c->unit = value;
        else if (strcmp(name, "socket") == 0)
                c->connect.socket = value;
        else
                c->json = true;
        return EXIT_CODE_OK;
}

static int print_version(void)
{
        puts("lkmctl " LKM_VERSION);
        return ctl_flush();
}

/* One option of getopt_long(3) for each row that @bits takes; `version` of a key hides that of lkmctl. @rows: which those are. */
static void fill_table(struct option table[ELEMENTSOF(options) + 1], size_t rows[ELEMENTSOF(options)], unsigned bits)
{
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                bool is_version = strcmp(options[i].name, "version") == 0;

                if (is_version && (options[i].bit == OPTION_VERSION) != !!(bits & OPTION_VERSION))
                        continue;
                rows[n] = i;
                table[n++] =
                        (struct option){ options[i].name, options[i].value ? required_argument : no_argument, NULL, 1 };
        }
        table[n] = (struct option){ 0 };
}

/* @bits: what the command takes. @ret_given: a bit for each of options[] that was given. Return: an exit code, or -1 to go on. */
static int parse_options(struct ctl *c, int argc, char **argv, unsigned bits, uint64_t *ret_given)
{
        struct option table[ELEMENTSOF(options) + 1];
        size_t rows[ELEMENTSOF(options)];
        int index, got, r;

        fill_table(table, rows, bits);
        optind = 0; /* from the start */
        while ((got = getopt_long(argc, argv, "", table, &index)) != -1) {
                size_t row = rows[index];

                if (got != 1)
                        return usage();
                if (strcmp(options[row].name, "help") == 0)
                        return help();
                if (strcmp(options[row].name, "version") == 0 && !options[row].value)
                        return print_version();
                *ret_given |= UINT64_C(1) << row;
                r = take_option(c, row, optarg);
                if (r)
                        return r;
        }
        return -1;
}

/* How many of the @n_words given name @command; 0 when they do not. */
static int match_command(const struct command *command, char **words, int n_words)
{
        const char *second = strchr(command->name, ' ');
        size_t n = second ? (size_t)(second - command->name) : strlen(command->name);

        if (strlen(words[0]) != n || strncmp(command->name, words[0], n) != 0)
                return 0;
        if (!second)
                return 1;
        return n_words > 1 && strcmp(second + 1, words[1]) == 0 ? 2 : 0;
}

/* Say that there is none, and which ones begin with the same word. */
static int no_command(char **words, int n_words)
{
        const char *second;
        bool is_group = false;

        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                second = strchr(commands[i].name, ' ');
                if (!second || strlen(words[0]) != (size_t)(second - commands[i].name) ||
                    strncmp(commands[i].name, words[0], strlen(words[0])) != 0)
                        continue;
                fprintf(stderr, "%s%s", is_group ? "|" : "lkmctl: use: lkmctl ", is_group ? second + 1 : commands[i].name);
                is_group = true;
        }
        if (is_group)
                fputc('\n', stderr);
        else
                ctl_refuse(EXIT_CODE_USAGE, "there is no command %s", words[0]);
        return usage();
}

static const struct command *find_command(char **words, int n_words, int *ret_n)
{
        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                *ret_n = match_command(&commands[i], words, n_words);
                if (*ret_n)
                        return &commands[i];
        }
        return NULL;
}

/* The options of the command that the first words name, before anything is kept or complained about; 0 when they name none. */
static unsigned peek_command(int argc, char **argv)
{
        struct option table[ELEMENTSOF(options) + 1];
        size_t rows[ELEMENTSOF(options)];
        const struct command *command = NULL;
        int index, got, n;

        fill_table(table, rows, 0);
        opterr = 0;
        while ((got = getopt_long(argc, argv, "+", table, &index)) != -1) {
                if (got != 1 || strcmp(table[index].name, "version") == 0)
                        break; /* in front of every command it is lkmctl's own */
        }
        if (got == -1 && optind < argc)
                command = find_command(argv + optind, argc - optind, &n);
        opterr = 1;
        return command ? command->options : 0;
}

/* Leave the arguments of @command in @c, if it takes them and the options in @given. */
static int take_arguments(struct ctl *c, const struct command *command, char **arguments, int n, uint64_t given)
{
        c->arguments = arguments;
        c->n_arguments = n;
        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                if (given >> i & 1 && !(options[i].bit & (command->options | OPTION_ALWAYS)))
                        return ctl_refuse(EXIT_CODE_USAGE, "%s does not take --%s", command->name, options[i].name);
        }
        if (n < command->n_min || n > command->n_max) {
                ctl_refuse(EXIT_CODE_USAGE, "use: lkmctl %s %s", command->name, command->arguments);
                return usage();
        }
        return -1;
}

int line_parse(struct ctl *c, int argc, char **argv)
{
        const struct command *command;
        uint64_t given = 0;
        int n = 0, r = parse_options(c, argc, argv, peek_command(argc, argv), &given);

        if (r >= 0)
                return r;
        if (optind >= argc) {
                ctl_refuse(EXIT_CODE_USAGE, "which command?");
                return usage();
        }
        command = find_command(argv + optind, argc - optind, &n);
        if (!command)
                return no_command(argv + optind, argc - optind);
        r = take_arguments(c, command, argv + optind + n, argc - optind - n, given);
        if (r >= 0)
                return r;
        /* Others take longer to close a database than the daemon to answer. */
        if (command->run == command_rotate || command->run == command_recover) {
                c->timeout_msec = c->connect.timeout_msec;
                c->connect.timeout_msec = 0;
        }
        if (!c->connect.socket && (command->admin || c->id || c->as))
                c->connect.socket = ctl_admin_socket(c);
        c->run = command->run;
        c->connects_later = command->each;
        return -1;
}
