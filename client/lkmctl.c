/* SPDX-License-Identifier: Apache-2.0 */
#include "client/lkmctl.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>

#include "common/harden.h"

#define SECONDS_MAX 3600
#define MSEC_PER_SEC 1000

/* ---- the tables: help, dispatch and (by a test) the completion follow them ---- */

enum option_bit {
        OPTION_SCOPE = 1,
        OPTION_FORMAT = 2,
        OPTION_FORCE = 4,
        OPTION_ID = 8,
        OPTION_ALWAYS = 16,
};

static const struct command {
        const char *name, *arguments, *summary; /* @name: one word, or two for what is asked of one thing */
        unsigned options;
        int n_min, n_max;
        command_run *run;
} commands[] = {
        { "status", "", "state of the daemon; for administrators", 0, 0, 0, command_status },
        { "list", "", "cached keys, never their bytes; for administrators", 0, 0, 0, command_list },
        { "create", "DB", "make the key of a new database: DB.key", OPTION_SCOPE, 1, 1, command_create },
        { "get", "DB", "write the key of a database to a pipe or file", OPTION_SCOPE | OPTION_FORMAT | OPTION_FORCE, 1,
          1, command_get },
        { "sqlcipher", "DB [-- ARGUMENT…]", "open the sqlcipher shell, already keyed", OPTION_SCOPE, 1, INT_MAX,
          command_sqlcipher },
        { "evict", "DB | --id UUID", "wipe a cached key", OPTION_ID, 0, 1, command_evict },
        { "lock", "", "wipe every key and give out none; for administrators", 0, 0, 0, command_lock },
        { "unlock", "", "end lock; for administrators", 0, 0, 0, command_unlock },
        { "explain", "DB | --scope NAME", "which rule of the policy decides for you", OPTION_SCOPE, 0, 1,
          command_explain },
        { "ping", "", "ask whether the daemon answers", 0, 0, 0, command_ping },
        { "check", "DB", "verify DB.key without giving out the key", OPTION_SCOPE, 1, 1, command_check },
        { "kek list", "", "the KEKs, and whether they can be used; for administrators", 0, 0, 0, command_kek_list },
        { "kek check", "NAME", "use a KEK for all that lkm needs of it; for administrators", 0, 1, 1, command_kek_check },
        { "kek describe", "NAME", "what is known of a KEK; for administrators", 0, 1, 1, command_kek_describe },
        { "kek policy", "NAME", "the least policy to paste at its KMS; for administrators", 0, 1, 1, command_kek_policy },
};

static const struct {
        const char *name, *value, *summary;
        unsigned bit;
} options[] = {
        { "scope", "NAME", "scope of a new key; refuse a key of another one", OPTION_SCOPE },
        { "format", "FORMAT", "of the key: raw, hex (default) or pragma (x'…')", OPTION_FORMAT },
        { "force", NULL, "write the key to a terminal too", OPTION_FORCE },
        { "id", "UUID", "database id instead of a path; for administrators", OPTION_ID },
        { "socket", "PATH", "of lkmd; else $LKM_SOCKET, $XDG_RUNTIME_DIR/lkm/lkm.sock, /run/lkm/lkm.sock",
          OPTION_ALWAYS },
        { "json", NULL, "output for programs; errors too", OPTION_ALWAYS },
        { "timeout", "SECONDS", "deadline of each request (default 10; of kek check 60)", OPTION_ALWAYS },
        { "help", NULL, "this text", OPTION_ALWAYS },
        { "version", NULL, "version of lkmctl", OPTION_ALWAYS },
};

static const struct {
        enum exit_code code;
        const char *meaning;
} exit_codes[] = {
        { EXIT_CODE_OK, "done" },
        { EXIT_CODE_FAILED, "failed" },
        { EXIT_CODE_USAGE, "wrong use" },
        { EXIT_CODE_DENIED, "denied by the policy, or the daemon is locked" },
        { EXIT_CODE_NO_DAEMON, "no daemon answers" },
        { EXIT_CODE_RECORD, "the database or its .key is missing, exists already, is damaged or foreign" },
        { EXIT_CODE_KEK, "the KEK or its key management service is not usable" },
};

/* The exit code of each error; those that are not listed failed. */
static int exit_code_of(int error)
{
        switch (error) {
        case LKM_E_DENIED:
        case LKM_E_LOCKED:
                return EXIT_CODE_DENIED;
        case LKM_E_SCOPE_NEEDED:
        case LKM_E_SCOPE_UNKNOWN:
        case LKM_E_ARGUMENT:
                return EXIT_CODE_USAGE;
        case LKM_E_NO_DAEMON:
        case LKM_E_TIMEOUT:
        case LKM_E_SHUTTING_DOWN:
                return EXIT_CODE_NO_DAEMON;
        case LKM_E_RECORD_DAMAGED:
        case LKM_E_RECORD_FOREIGN:
        case LKM_E_RECORD_NEWER:
        case LKM_E_RECORD_OUTDATED:
        case LKM_E_VERSION_UNKNOWN:
        case LKM_E_ROTATION_IN_PROGRESS:
        case LKM_E_KEY_MISSING:
        case LKM_E_EXISTS:
        case LKM_E_NOT_FOUND:
                return EXIT_CODE_RECORD;
        case LKM_E_KEK_UNAVAILABLE:
        case LKM_E_KEK_DENIED:
        case LKM_E_KEK_MISCONFIGURED:
                return EXIT_CODE_KEK;
        default:
                return EXIT_CODE_FAILED;
        }
}

/* ---- output ---- */

int ctl_fail(const struct ctl *c, int error)
{
        const char *message = lkm_error_message(c->lkm);

        message = *message ? message : lkm_strerror(error);
        if (c->json) {
                json_t *json =
                        json_pack("{s:i, s:s, s:s}", "code", error, "error", lkm_error_name(error), "message", message);

                json_dumpf(json, stderr, JSON_COMPACT);
                json_decref(json);
                fputc('\n', stderr);
        } else {
                fprintf(stderr, "lkmctl: %s\n", message);
        }
        return exit_code_of(error);
}

int ctl_refuse(int code, const char *format, ...)
{
        va_list arguments;

        fputs("lkmctl: ", stderr);
        va_start(arguments, format);
        vfprintf(stderr, format, arguments);
        va_end(arguments);
        fputc('\n', stderr);
        return code;
}

int ctl_report(struct ctl *c, const union message *request, json_t **ret_report)
{
        _cleanup_(freep) char *text = NULL;
        int r = connection_report(c->lkm, request, &text);

        if (r)
                return ctl_fail(c, r);
        *ret_report = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        if (!*ret_report)
                return ctl_refuse(EXIT_CODE_FAILED, "the daemon's answer is no JSON. Update the older of the two");
        return EXIT_CODE_OK;
}

int ctl_flush(void)
{
        if (fflush(stdout) == 0 && !ferror(stdout))
                return EXIT_CODE_OK;
        return ctl_refuse(EXIT_CODE_FAILED, "cannot write the answer: %s", strerror(errno));
}

int ctl_print_json(json_t *json)
{
        int r = json ? json_dumpf(json, stdout, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(10)) : -1;

        json_decref(json);
        if (r < 0)
                return ctl_refuse(EXIT_CODE_FAILED, "cannot write the answer");
        putchar('\n');
        return ctl_flush();
}

static int help(void)
{
        _cleanup_(table_deinit) struct table table = { .n_columns = 2 };
        char left[128], right[256];

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
                for (size_t k = 0; k < ELEMENTSOF(commands) && options[i].bit != OPTION_ALWAYS; k++) {
                        if (commands[k].options & options[i].bit)
                                n += (size_t)snprintf(right + n, sizeof(right) - n, "%s%s",
                                                      strchr(right, '[') ? " " : " [", commands[k].name);
                }
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

/* ---- the command line ---- */

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

/* Keep the value of options[@index] in @c. */
static int take_option(struct ctl *c, size_t index, const char *value)
{
        const char *name = options[index].name;

        if (strcmp(name, "timeout") == 0)
                return parse_timeout(&c->connect.timeout_msec, value);
        if (strcmp(name, "scope") == 0)
                c->scope = value;
        else if (strcmp(name, "format") == 0)
                c->format = value;
        else if (strcmp(name, "force") == 0)
                c->force = true;
        else if (strcmp(name, "id") == 0)
                c->id = value;
        else if (strcmp(name, "socket") == 0)
                c->connect.socket = value;
        else
                c->json = true;
        return EXIT_CODE_OK;
}

/* @ret_bits: the options that were given. Return: an exit code, or -1 to go on. */
static int parse_options(struct ctl *c, int argc, char **argv, unsigned *ret_bits)
{
        struct option table[ELEMENTSOF(options) + 1] = { 0 };
        int index, got, r;

        for (size_t i = 0; i < ELEMENTSOF(options); i++)
                table[i] =
                        (struct option){ options[i].name, options[i].value ? required_argument : no_argument, NULL, 1 };
        while ((got = getopt_long(argc, argv, "", table, &index)) != -1) {
                if (got != 1)
                        return usage();
                if (strcmp(options[index].name, "help") == 0)
                        return help();
                if (strcmp(options[index].name, "version") == 0) {
                        puts("lkmctl " LKM_VERSION);
                        return ctl_flush();
                }
                *ret_bits |= options[index].bit;
                r = take_option(c, (size_t)index, optarg);
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

/* Find the command that the words name, and leave its arguments in @c. */
static int find_command(const struct command **ret_command, struct ctl *c, char **words, int n_words, unsigned bits)
{
        const struct command *command = commands, *end = commands + ELEMENTSOF(commands);
        int n = 0;

        while (command < end && (n = match_command(command, words, n_words)) == 0)
                command++;
        if (command == end)
                return no_command(words, n_words);
        c->arguments = words + n;
        c->n_arguments = n_words - n;
        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                if (bits & options[i].bit & ~(command->options | OPTION_ALWAYS))
                        return ctl_refuse(EXIT_CODE_USAGE, "%s does not take --%s", command->name, options[i].name);
        }
        if (c->n_arguments < command->n_min || c->n_arguments > command->n_max) {
                ctl_refuse(EXIT_CODE_USAGE, "use: lkmctl %s %s", command->name, command->arguments);
                return usage();
        }
        *ret_command = command;
        return EXIT_CODE_OK;
}

int main(int argc, char **argv)
{
        struct ctl c = { .connect = { .software = "lkmctl " LKM_VERSION } };
        const struct command *command = NULL;
        unsigned bits = 0;
        int r = harden_process();

        if (r < 0)
                return ctl_refuse(EXIT_CODE_FAILED, "cannot protect this process: %s", strerror(-r));
        r = parse_options(&c, argc, argv, &bits);
        if (r >= 0)
                return r;
        if (optind >= argc) {
                ctl_refuse(EXIT_CODE_USAGE, "which command?");
                return usage();
        }
        r = find_command(&command, &c, argv + optind, argc - optind, bits);
        if (r)
                return r;
        r = lkm_connect(&c.lkm, &c.connect);
        if (r)
                return ctl_fail(&c, r);
        r = command->run(&c);
        lkm_free(&c.lkm);
        return r;
}
