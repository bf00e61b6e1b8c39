/* SPDX-License-Identifier: Apache-2.0 */
#include "client/lkmctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "common/harden.h"

int ctl_exit_code(int error)
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
        case LKM_E_RECORD_FULL:
        case LKM_E_NOT_PENDING:
        case LKM_E_VERSION_IN_USE:
        case LKM_E_PLAINTEXT:
        case LKM_E_WRONG_KEY:
        case LKM_E_CIPHER_VERSION:
        case LKM_E_MIXED:
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

/* ---- where to ask ---- */

const char *ctl_admin_socket(struct ctl *c)
{
        const char *admin = secure_getenv("LKM_ADMIN_SOCKET"), *ordinary = secure_getenv("LKM_SOCKET");
        const char *runtime = secure_getenv("XDG_RUNTIME_DIR");
        bool own = false;
        int n;

        if (admin && *admin)
                return admin;
        if (ordinary && *ordinary)
                return NULL;
        if (runtime && *runtime == '/') {
                n = snprintf(c->admin_socket, sizeof(c->admin_socket), "%s/lkm/lkm.sock", runtime);
                own = n > 0 && (size_t)n < sizeof(c->admin_socket) && access(c->admin_socket, F_OK) == 0;
        }
        n = snprintf(c->admin_socket, sizeof(c->admin_socket), "%s/lkm/admin.sock", own ? runtime : "/run");
        if (n < 0 || (size_t)n >= sizeof(c->admin_socket) || faccessat(AT_FDCWD, c->admin_socket, W_OK, AT_EACCESS) < 0)
                return NULL;
        return c->admin_socket;
}

/* ---- output ---- */

json_t *json_text(const char *text)
{
        json_t *json = json_string(text);
        _cleanup_(freep) char *copy = NULL;
        size_t n = 0;

        if (json)
                return json;
        copy = malloc(strlen(text) * strlen("\ufffd") + 1);
        while (copy && *text) {
                size_t length = 0;

                for (size_t k = 1; length == 0 && k <= 4 && memchr(text, '\0', k) == NULL; k++) {
                        json = json_stringn(text, k);
                        length = json ? k : 0;
                        json_decref(json);
                }
                memcpy(copy + n, length ? text : "\ufffd", length ? length : strlen("\ufffd"));
                n += length ? length : strlen("\ufffd");
                text += length ? length : 1;
                copy[n] = '\0';
        }
        return copy ? json_string(copy) : NULL;
}

const char *ctl_sentence(const struct ctl *c, int error)
{
        const char *message = lkm_error_message(c->lkm);

        return *message ? message : lkm_strerror(error);
}

int ctl_refuse(int code, const char *format, ...)
{
        _cleanup_(freep) char *text = NULL;
        va_list arguments;

        va_start(arguments, format);
        if (vasprintf(&text, format, arguments) < 0)
                text = NULL;
        va_end(arguments);
        if (text)
                text_harmless(text);
        fprintf(stderr, "lkmctl: %s\n", text ? text : "out of memory");
        return code;
}

int ctl_fail(const struct ctl *c, int error)
{
        const char *message = ctl_sentence(c, error);
        json_t *json;

        if (!c->json)
                return ctl_refuse(ctl_exit_code(error), "%s", message);
        json = json_pack("{s:i, s:s, s:o}", "code", error, "error", lkm_error_name(error), "message", json_text(message));
        json_dumpf(json, stderr, JSON_COMPACT);
        json_decref(json);
        fputc('\n', stderr);
        return ctl_exit_code(error);
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

int main(int argc, char **argv)
{
        struct ctl c = { .connect = { .software = "lkmctl " LKM_VERSION } };
        int r = harden_process();

        if (r < 0)
                return ctl_refuse(EXIT_CODE_FAILED, "cannot protect this process: %s", strerror(-r));
        r = line_parse(&c, argc, argv);
        if (r >= 0)
                return r;
        r = c.connects_later ? 0 : lkm_connect(&c.lkm, &c.connect);
        if (r)
                return ctl_fail(&c, r);
        r = c.run(&c);
        lkm_free(&c.lkm);
        return r;
}
