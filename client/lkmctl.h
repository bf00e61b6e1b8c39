/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkmctl: what its files share: the options of one call, exit codes, and output as tables or JSON.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "client/connection.h"

/** Exit codes; `lkmctl --help` lists them. */
enum exit_code {
        EXIT_CODE_OK = 0,
        EXIT_CODE_FAILED = 1,
        EXIT_CODE_USAGE = 2,
        EXIT_CODE_DENIED = 3,
        EXIT_CODE_NO_DAEMON = 4,
        EXIT_CODE_RECORD = 5,
        EXIT_CODE_KEK = 6,
};

struct ctl;
/** Run one command. Return: an exit code. */
typedef int command_run(struct ctl *c);

/** What only `adopt` takes. */
struct ctl_adopt {
        const char *to, *side_file, *passphrase_file;   /* NULL: not given */
        uint32_t compatibility, rounds, page_size;      /* 0: not given */
        uint32_t passphrase_fd;
        bool has_passphrase_fd, raw;
};

/** What only `audit` takes. */
struct ctl_audit {
        const char *file, *checkpoints, *journal, *since, *until, *user, *database, *event, *decision; /* NULL: not given */
        uint32_t lines;
        bool has_lines;
};

/** One call of lkmctl. */
struct ctl {
        struct lkm *lkm; /* connected before a command runs, unless @connects_later */
        struct lkm_options connect;
        bool json, force, due;
        const char *scope, *format, *id, *as, *unit, *label;
        uint32_t version;      /* of a key; 0: not given */
        uint32_t timeout_msec; /* for others to close a database, in commands that rotate; 0: the default */
        int n_arguments;
        char **arguments; /* behind the command's name, NULL-terminated */
        command_run *run;
        bool connects_later;
        char admin_socket[128]; /* what ctl_admin_socket() found */
        struct ctl_adopt adopt; /* `salvage` takes its `to` */
        struct ctl_audit audit;
};
command_run command_adopt, command_audit_export, command_audit_show, command_audit_verify, command_check, command_create, command_evict, command_explain, command_get, command_history, command_kek_check,
        command_kek_describe, command_kek_list, command_kek_policy, command_list, command_lock, command_ping, command_purge, command_recover,
        command_rekek, command_rewrap, command_rotate, command_salvage, command_sqlcipher, command_status, command_unlock;

/** line_parse() - what the command line asks for; a mistake has been printed. Return: an exit code; -1 to go on with c->run. */
int line_parse(struct ctl *c, int argc, char **argv);

/** ctl_admin_socket() - where to ask what needs the right `admin`: $LKM_ADMIN_SOCKET; else, unless $LKM_SOCKET is set, the admin.sock
 *  beside the socket that liblkm chooses, if it is there and this user may connect to it. Return: borrowed from @c or the environment; NULL: where
 *  everything else is asked. */
const char *ctl_admin_socket(struct ctl *c);
/** ctl_fail() - print the sentence about @error of liblkm. Return: its exit code. */
int ctl_fail(const struct ctl *c, int error);
/** ctl_exit_code() - of an error of liblkm. */
int ctl_exit_code(int error);
/** ctl_sentence() - about an error of liblkm that just happened. Return: borrowed until the next call. */
const char *ctl_sentence(const struct ctl *c, int error);
/** ctl_refuse() - print a sentence of lkmctl's own. Return: @code. */
int ctl_refuse(int code, const char *format, ...) _printf_(2, 3);
/** ctl_report() - ask for a REPORT and parse it. @ret_report: release with json_decref(). Return: an exit code. */
int ctl_report(struct ctl *c, const union message *request, json_t **ret_report);
/** ctl_print_json() - one line on standard output. Takes over the reference. Return: an exit code. */
int ctl_print_json(json_t *json);
/** ctl_flush() - end standard output. Return: EXIT_CODE_OK, or EXIT_CODE_FAILED with a sentence when something was not written. */
int ctl_flush(void);

static inline void json_decref_p(json_t **json)
{
        json_decref(*json);
}

/** json_text() - a string; bytes that are no UTF-8 become U+FFFD. Return: a new reference, or NULL when out of memory. */
json_t *json_text(const char *text);

/* ---- text for people ---- */

/** text_harmless() - turn each control character, which might steer a terminal or forge a line of a log, into '?'. */
void text_harmless(char *text);
/** text_width() - characters of UTF-8 text: bytes that continue none. */
size_t text_width(const char *text);

#define TABLE_COLUMNS_MAX 10

struct table {
        size_t n_columns, n_rows;
        char **cells; /* n_rows * n_columns, owned */
};

/** table_add() - one row of n_columns strings, copied; control characters become '?'. Out of memory ends the program. */
void table_add(struct table *t, const char *const *cells);
/** table_print() - aligned; the last column is not padded. */
void table_print(const struct table *t);
void table_deinit(struct table *t);

/** How a JSON value is shown. */
enum show { SHOW_PLAIN, SHOW_DURATION };
#define SHOW_MAX 1024
/** show_json() - a value as text for people; NULL shows as "-", an array as its members with spaces between. */
void show_json(char ret_text[SHOW_MAX], json_t *value, enum show show);
/** json_find() - the member "a.b" of nested objects. Return: borrowed, or NULL. */
json_t *json_find(json_t *object, const char *path);
