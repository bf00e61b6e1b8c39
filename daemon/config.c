/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stddef.h>

#include "common/clock.h"
#include "daemon/config-parse.h"
#include "daemon/peer.h"

/* ---- the options. Everything that can be configured stands in this table. ---- */

enum section { SECTION_LKMD, SECTION_KMS, SECTION_KEK, SECTION_SCOPE, SECTION_COUNT };

static const char *const section_names[] = {
        [SECTION_LKMD] = "lkmd", [SECTION_KMS] = "kms", [SECTION_KEK] = "kek NAME", [SECTION_SCOPE] = "scope NAME" };

enum { LOCAL = 1 << KMS_TYPE_LOCAL, AWS = 1 << KMS_TYPE_AWS, VAULT = 1 << KMS_TYPE_VAULT, SOCKET = 1 << KMS_TYPE_SOCKET };

static const struct option {
        enum section section;
        const char *key;
        config_parse_fn parse;
        size_t offset;
        const char *standard; /* default value, as one would write it; NULL = none */
        bool required;
        unsigned types; /* of [kek NAME]: the kms_types that have it */
        const char *like; /* default: what this option of the section has */
} options[] = {
        { SECTION_LKMD, "socket", config_parse_path, offsetof(struct config, socket), "/run/lkm/lkm.sock", false },
        { SECTION_LKMD, "socket_mode", config_parse_mode, offsetof(struct config, socket_mode), "0666", false },
        { SECTION_LKMD, "admin_socket", config_parse_path, offsetof(struct config, admin_socket), NULL, false },
        { SECTION_LKMD, "admin_socket_mode", config_parse_mode, offsetof(struct config, admin_socket_mode), "0600", false },
        { SECTION_LKMD, "kms_socket", config_parse_path, offsetof(struct config, kms_socket), "/run/lkm/kms.sock", false },
        { SECTION_LKMD, "audit_file", config_parse_path, offsetof(struct config, audit_file), "/var/log/lkm/audit.jsonl", false },
        { SECTION_LKMD, "audit_sync", config_parse_audit_sync, offsetof(struct config, audit_sync), "always", false },
        { SECTION_LKMD, "audit_max_size", config_parse_size, offsetof(struct config, audit_max_size), "0", false },
        { SECTION_LKMD, "cache_keys", config_parse_capacity, offsetof(struct config, cache_keys), "4096", false },
        { SECTION_LKMD, "max_connections", config_parse_capacity, offsetof(struct config, max_connections), "4096", false },
        { SECTION_LKMD, "user_connections", config_parse_limit, offsetof(struct config, user_connections), "0", false },
        { SECTION_LKMD, "user_requests", config_parse_capacity, offsetof(struct config, user_requests), "1024", false },
        { SECTION_LKMD, "user_rate", config_parse_limit, offsetof(struct config, user_rate), "10000", false },
        { SECTION_LKMD, "user_bytes", config_parse_buffer, offsetof(struct config, user_bytes), "4M", false },
        { SECTION_LKMD, "frame_timeout", config_parse_idle, offsetof(struct config, frame_timeout_usec), "10s", false },
        { SECTION_LKMD, "kms_timeout", config_parse_duration, offsetof(struct config, kms_timeout_usec), "5s", false },
        { SECTION_LKMD, "log_level", config_parse_log_level, offsetof(struct config, log_level), "info", false },
        { SECTION_LKMD, "admin", config_parse_rules, offsetof(struct config, admin), "uid:0", false },
        { SECTION_KMS, "idle_exit", config_parse_idle, offsetof(struct config, idle_exit_usec), "60s", false },
        { SECTION_KEK, "kms_type", config_parse_kms_type, offsetof(struct config_kek, kms_type), NULL, true },
        { SECTION_KEK, "kek_id", config_parse_text, offsetof(struct config_kek, kek_id), NULL, false, AWS | VAULT },
        { SECTION_KEK, "kek_file", config_parse_path, offsetof(struct config_kek, kek_file), NULL, false, LOCAL },
        { SECTION_KEK, "kek_credential", config_parse_name, offsetof(struct config_kek, kek_credential), NULL, false, LOCAL },
        { SECTION_KEK, "region", config_parse_name, offsetof(struct config_kek, region), NULL, false, AWS },
        { SECTION_KEK, "endpoint", config_parse_url, offsetof(struct config_kek, endpoint), NULL, false, AWS },
        { SECTION_KEK, "sts_endpoint", config_parse_url, offsetof(struct config_kek, sts_endpoint), NULL, false, AWS },
        { SECTION_KEK, "fips", config_parse_boolean, offsetof(struct config_kek, fips), "no", false, AWS },
        { SECTION_KEK, "dual_stack", config_parse_boolean, offsetof(struct config_kek, dual_stack), "no", false, AWS },
        { SECTION_KEK, "grant_tokens", config_parse_words, offsetof(struct config_kek, grant_tokens), NULL, false, AWS },
        { SECTION_KEK, "profile", config_parse_text, offsetof(struct config_kek, profile), NULL, false, AWS },
        { SECTION_KEK, "aws_config_file", config_parse_file, offsetof(struct config_kek, aws_config_file), NULL, false, AWS },
        { SECTION_KEK, "aws_credentials_file", config_parse_file, offsetof(struct config_kek, aws_credentials_file), NULL, false, AWS },
        { SECTION_KEK, "aws_environment", config_parse_boolean, offsetof(struct config_kek, aws_environment), "no", false, AWS },
        { SECTION_KEK, "address", config_parse_url, offsetof(struct config_kek, address), NULL, false, VAULT },
        { SECTION_KEK, "namespace", config_parse_mount, offsetof(struct config_kek, namespace), NULL, false, VAULT },
        { SECTION_KEK, "mount", config_parse_mount, offsetof(struct config_kek, mount), "transit", false, VAULT },
        { SECTION_KEK, "auth", config_parse_vault_auth, offsetof(struct config_kek, auth), "token", false, VAULT },
        { SECTION_KEK, "auth_mount", config_parse_mount, offsetof(struct config_kek, auth_mount), NULL, false, VAULT },
        { SECTION_KEK, "role", config_parse_text, offsetof(struct config_kek, role), NULL, false, VAULT },
        { SECTION_KEK, "role_id", config_parse_text, offsetof(struct config_kek, role_id), NULL, false, VAULT },
        { SECTION_KEK, "secret_id_file", config_parse_file, offsetof(struct config_kek, secret_id_file), NULL, false, VAULT },
        { SECTION_KEK, "secret_id_wrapped", config_parse_boolean, offsetof(struct config_kek, secret_id_wrapped), "no", false, VAULT },
        { SECTION_KEK, "token_file", config_parse_file, offsetof(struct config_kek, token_file), NULL, false, VAULT },
        { SECTION_KEK, "jwt_file", config_parse_file, offsetof(struct config_kek, jwt_file), NULL, false, VAULT },
        { SECTION_KEK, "redirect_hosts", config_parse_words, offsetof(struct config_kek, redirect_hosts), NULL, false, VAULT },
        { SECTION_KEK, "ca_file", config_parse_file, offsetof(struct config_kek, ca_file), NULL, false, AWS | VAULT },
        { SECTION_KEK, "client_certificate", config_parse_file, offsetof(struct config_kek, client_certificate), NULL, false, VAULT },
        { SECTION_KEK, "client_key", config_parse_file, offsetof(struct config_kek, client_key), NULL, false, VAULT },
        { SECTION_KEK, "proxy", config_parse_proxy, offsetof(struct config_kek, proxy), NULL, false, AWS | VAULT },
        { SECTION_KEK, "provider_socket", config_parse_path, offsetof(struct config_kek, provider_socket), NULL, false, SOCKET },
        { SECTION_SCOPE, "keks", config_parse_keks, 0, NULL, true },
        { SECTION_SCOPE, "encryption_context", config_parse_context, 0, "", false },
        { SECTION_SCOPE, "dek_spec", config_parse_dek_spec, 0, "AES_256", false },
        { SECTION_SCOPE, "rotation_enabled", config_parse_boolean, offsetof(struct config_scope, rotation_enabled), "no", false },
        { SECTION_SCOPE, "rotation_period_days", config_parse_days, offsetof(struct config_scope, rotation_period_days), "90",
          false },
        { SECTION_SCOPE, "cache_ttl", config_parse_duration, offsetof(struct config_scope, cache_ttl_usec), "15min", false },
        { SECTION_SCOPE, "stale_grace", config_parse_duration, offsetof(struct config_scope, stale_grace_usec), "0s", false },
        { SECTION_SCOPE, "cache_max_age", config_parse_duration, offsetof(struct config_scope, cache_max_age_usec), "24h", false },
        { SECTION_SCOPE, "allow", config_parse_rules, offsetof(struct config_scope, allow), "", false },
        { SECTION_SCOPE, "allow_rotate", config_parse_rules, offsetof(struct config_scope, allow_rotate), NULL, false, 0, "allow" },
        { SECTION_SCOPE, "allow_history", config_parse_rules, offsetof(struct config_scope, allow_history), "", false },
        { SECTION_SCOPE, "allow_recover", config_parse_rules, offsetof(struct config_scope, allow_recover), NULL, false, 0, "allow_history" },
};

bool config_option_next(size_t i, const char **ret_section, const char **ret_key, const char **ret_default)
{
        if (i >= ELEMENTSOF(options))
                return false;
        *ret_section = section_names[options[i].section];
        *ret_key = options[i].key;
        *ret_default = options[i].standard ? options[i].standard : "";
        return true;
}

/* ---- reading: lines become settings; the last file that sets a key wins ---- */

struct setting {
        enum section section;
        char *name; /* of the KEK or scope, "" for the others */
        const struct option *option;
        char *value;
        char *where; /* "FILE:LINE" */
        unsigned file;
};

struct reading {
        struct setting *settings;
        size_t n, n_allocated;
        const char *path;
        unsigned file, line;
        struct config_error *error;
        int result;
};

static void reading_deinit(struct reading *r)
{
        for (size_t i = 0; i < r->n; i++) {
                free(r->settings[i].name);
                free(r->settings[i].value);
                free(r->settings[i].where);
        }
        free(r->settings);
}

static int reading_refuse(struct reading *r, const char *format, ...) _printf_(2, 3);
static int reading_refuse(struct reading *r, const char *format, ...)
{
        va_list arguments;
        int n = snprintf(r->error->text, sizeof(r->error->text), "%s:%u: ", r->path, r->line);

        va_start(arguments, format);
        vsnprintf(r->error->text + n, sizeof(r->error->text) - (size_t)n, format, arguments);
        va_end(arguments);
        r->result = -EINVAL;
        return 0; /* what inih takes for an error */
}

/* "[kek NAME]" to its kind and name. Return: false when there is no such section. */
static bool section_parse(const char *text, enum section *ret_section, const char **ret_name)
{
        static const struct {
                const char *prefix;
                enum section section;
        } named[] = { { "kek ", SECTION_KEK }, { "scope ", SECTION_SCOPE } };

        *ret_name = "";
        for (size_t i = 0; i < ELEMENTSOF(named); i++) {
                if (strncmp(text, named[i].prefix, strlen(named[i].prefix)) != 0)
                        continue;
                *ret_section = named[i].section;
                *ret_name = text + strlen(named[i].prefix);
                return config_name_is_valid(*ret_name);
        }
        *ret_section = strcmp(text, "kms") == 0 ? SECTION_KMS : SECTION_LKMD;
        return strcmp(text, section_names[*ret_section]) == 0;
}

static const struct option *option_find(enum section section, const char *key)
{
        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                if (options[i].section == section && strcmp(options[i].key, key) == 0)
                        return &options[i];
        }
        return NULL;
}

static struct setting *setting_find(const struct reading *r, enum section section, const char *name, const struct option *option)
{
        for (size_t i = 0; i < r->n; i++) {
                struct setting *s = &r->settings[i];

                if (s->section == section && s->option == option && strcmp(s->name, name) == 0)
                        return s;
        }
        return NULL;
}

static struct setting *setting_add(struct reading *r, enum section section, const char *name, const struct option *option)
{
        struct setting *larger = r->settings;

        if (r->n == r->n_allocated) {
                larger = realloc(larger, (r->n_allocated * 2 + 16) * sizeof(*larger));
                if (!larger)
                        return NULL;
                r->settings = larger;
                r->n_allocated = r->n_allocated * 2 + 16;
        }
        larger[r->n] = (struct setting){ .section = section, .option = option, .name = strdup(name) };
        return larger[r->n].name ? &larger[r->n++] : NULL;
}

/* Called by inih for each key. Return: 1, or 0 to stop. */
static int on_setting(void *userdata, const char *section_text, const char *key, const char *value)
{
        struct reading *r = userdata;
        enum section section;
        const char *name;
        const struct option *option;
        struct setting *s;

        if (!*section_text)
                return reading_refuse(r, "%s stands before any section; put it under [lkmd], [kms], [kek NAME] or [scope NAME]", key);
        if (!section_parse(section_text, &section, &name))
                return reading_refuse(r, "unknown section [%s]; there are [lkmd], [kms], [kek NAME] and [scope NAME]", section_text);
        option = option_find(section, key);
        if (!option)
                return reading_refuse(r, "unknown key %s in [%s]; lkmd.conf(5) lists the keys", key, section_text);
        s = setting_find(r, section, name, option);
        if (s && s->file == r->file)
                return reading_refuse(r, "%s is given twice in [%s], first at %s; remove one", key, section_text, s->where);
        if (!s)
                s = setting_add(r, section, name, option);
        if (s) {
                free(s->value);
                free(s->where);
                s->where = NULL;
                s->value = strdup(value);
                s->file = r->file;
                if (asprintf(&s->where, "%s:%u", r->path, r->line) < 0)
                        s->where = NULL;
        }
        if (!s || !s->value || !s->where) {
                r->result = -ENOMEM;
                return 0;
        }
        return 1;
}

struct line_source {
        FILE *file;
        struct reading *reading;
};

/* inih's reader, with fgets(3)'s contract: counts lines, and refuses those that inih would cut short in silence. */
static char *read_line(char *text, int n, void *stream)
{
        struct line_source *source = stream;
        struct reading *r = source->reading;
        char *line;
        size_t length;

        if (r->result)
                return NULL;
        line = fgets(text, n, source->file);
        if (!line)
                return NULL;
        r->line++;
        length = strlen(line);
        if (length + 1 == (size_t)n && line[length - 1] != '\n') {
                reading_refuse(r, "the line is longer than %d bytes; split it over drop-ins or shorten it", n - 2);
                return NULL;
        }
        if (isspace((unsigned char)*line) && line[strspn(line, " \t\r\n")] != '\0') {
                reading_refuse(r, "a line may not begin with white space; write the whole value on one line");
                return NULL;
        }
        /* inih keeps 49 characters of a name. */
        if ((*line == '[' && strcspn(line, "]\n") > 49) || (isalpha((unsigned char)*line) && strcspn(line, "=: \n") > 49)) {
                reading_refuse(r, "the name is longer than 48 characters; shorten it");
                return NULL;
        }
        return line;
}

static int reading_file(struct reading *r, const char *path)
{
        _cleanup_(fclosep) FILE *file = fopen(path, "re");
        struct line_source source = { .file = file, .reading = r };
        int error;

        r->path = path;
        r->line = 0;
        r->file++;
        if (!file) {
                error = errno;
                snprintf(r->error->text, sizeof(r->error->text), "%s: %s; name the configuration with --config FILE", path,
                         strerror(error));
                return -error;
        }
        error = ini_parse_stream(read_line, &source, on_setting, r);
        if (r->result == 0 && error > 0) {
                r->line = (unsigned)error;
                reading_refuse(r, "not a [section], a KEY = VALUE or a # comment");
        }
        return r->result;
}

static int is_drop_in(const struct dirent *entry)
{
        size_t n = strlen(entry->d_name);

        return n > 5 && *entry->d_name != '.' && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int reading_drop_ins(struct reading *r, const char *path, char ***ret_paths, size_t *ret_n)
{
        _cleanup_(freep) char *folder = NULL;
        struct dirent **entries = NULL;
        int n, result = 0;

        if (asprintf(&folder, "%s.d", path) < 0)
                return -ENOMEM;
        n = scandir(folder, &entries, is_drop_in, by_bytes);
        if (n < 0)
                return errno == ENOENT ? 0 : -errno;
        *ret_paths = calloc((size_t)n + 1, sizeof(**ret_paths));
        for (int i = 0; i < n; i++) {
                char *file = NULL;

                if (result == 0 && *ret_paths && asprintf(&file, "%s/%s", folder, entries[i]->d_name) > 0) {
                        (*ret_paths)[(*ret_n)++] = file; /* errors name it: it lives as long as the reading */
                        result = reading_file(r, file);
                } else if (result == 0) {
                        result = -ENOMEM;
                }
                free(entries[i]);
        }
        free(entries);
        return result;
}

/* ---- applying ---- */

static int apply(struct config *c, struct reading *r, void *at, const struct option *option, const char *value, const char *where,
                 const char *title)
{
        const char *why = "";
        int error = option->parse(c, (uint8_t *)at + option->offset, value, &why);

        if (error == -EINVAL) /* a long value must not push the reason out */
                snprintf(r->error->text, sizeof(r->error->text), "%s: %s = %.100s%s in [%s]: %s", where, option->key, value,
                         strlen(value) > 100 ? "..." : "", title, why);
        return error;
}

/* All options of one section, in the table's order, from the settings or the defaults. */
static int apply_section(struct config *c, struct reading *r, enum section section, const char *name, void *at)
{
        char title[SCOPE_NAME_MAX + 16];
        int error = 0;

        if (section == SECTION_KEK || section == SECTION_SCOPE)
                snprintf(title, sizeof(title), "%s %s", section == SECTION_KEK ? "kek" : "scope", name);
        else
                snprintf(title, sizeof(title), "%s", section_names[section]);
        for (size_t i = 0; i < ELEMENTSOF(options) && error == 0; i++) {
                const struct setting *s = setting_find(r, section, name, &options[i]);

                if (options[i].section != section)
                        continue;
                if (!s && options[i].like)
                        s = setting_find(r, section, name, option_find(section, options[i].like));
                if (options[i].types && !(options[i].types & 1u << ((struct config_kek *)at)->kms_type)) {
                        if (!s)
                                continue;
                        snprintf(r->error->text, sizeof(r->error->text), "%s: %s in [%s] is not for kms_type = %s; remove the line",
                                 s->where, options[i].key, title, kms_type_text(((struct config_kek *)at)->kms_type));
                        return -EINVAL;
                }
                if (s)
                        error = apply(c, r, at, &options[i], s->value, s->where, title);
                else if (options[i].standard)
                        error = apply(c, r, at, &options[i], options[i].standard, "default", title);
                if (!s && options[i].required) {
                        snprintf(r->error->text, sizeof(r->error->text), "%s: [%s] has no %s; add the line", r->path, title,
                                 options[i].key);
                        error = -EINVAL;
                }
        }
        return error;
}

/* The distinct names of [kek …] or [scope …] sections, in order of appearance. Borrowed from the settings. */
static size_t section_list(const struct reading *r, enum section section, const char **ret_names)
{
        size_t n = 0;

        for (size_t i = 0; i < r->n; i++) {
                bool known = r->settings[i].section != section;

                for (size_t j = 0; j < n && !known; j++)
                        known = strcmp(ret_names[j], r->settings[i].name) == 0;
                if (!known)
                        ret_names[n++] = r->settings[i].name;
        }
        return n;
}

static int apply_keks(struct config *c, struct reading *r, const char **names)
{
        size_t n = section_list(r, SECTION_KEK, names);
        const char *why;
        int error = 0;

        c->keks = calloc(n + 1, sizeof(*c->keks));
        if (!c->keks)
                return -ENOMEM;
        for (size_t i = 0; i < n && error == 0; i++) {
                struct config_kek *kek = &c->keks[c->n_keks++];

                kek->name = strdup(names[i]);
                error = kek->name ? apply_section(c, r, SECTION_KEK, names[i], kek) : -ENOMEM;
                if (error == 0) {
                        error = config_kek_check(kek, &why);
                        if (error < 0)
                                snprintf(r->error->text, sizeof(r->error->text), "%s: [kek %s] %s", r->path, kek->name, why);
                }
        }
        return error;
}

static int apply_scopes(struct config *c, struct reading *r, const char **names)
{
        size_t n = section_list(r, SECTION_SCOPE, names);
        int error = 0;

        c->scopes = calloc(n + 1, sizeof(*c->scopes));
        if (!c->scopes)
                return -ENOMEM;
        for (size_t i = 0; i < n && error == 0; i++) {
                struct config_scope *scope = &c->scopes[c->n_scopes++];

                scope->name = strdup(names[i]);
                error = scope->name ? apply_section(c, r, SECTION_SCOPE, names[i], scope) : -ENOMEM;
                if (error == 0 && scope->cache_ttl_usec > scope->cache_max_age_usec) {
                        snprintf(r->error->text, sizeof(r->error->text),
                                 "%s: [scope %s] has a cache_ttl above its cache_max_age; lower the one or raise the other", r->path,
                                 scope->name);
                        error = -EINVAL;
                }
        }
        return error;
}

static int config_apply(struct config *c, struct reading *r)
{
        const char **names = calloc(r->n + 1, sizeof(*names));
        int error = names ? apply_section(c, r, SECTION_LKMD, "", c) : -ENOMEM;

        if (error == 0 && c->admin_socket && strcmp(c->admin_socket, c->socket) == 0) {
                snprintf(r->error->text, sizeof(r->error->text), "%s: admin_socket and socket in [lkmd] are the same path; give them two", r->path);
                error = -EINVAL;
        }
        if (error == 0)
                error = apply_section(c, r, SECTION_KMS, "", c);
        if (error == 0)
                error = apply_keks(c, r, names);
        if (error == 0)
                error = apply_scopes(c, r, names);
        free(names);
        return error;
}

int config_read_with(struct config **ret_config, const char *path, struct names *names, struct config_error *ret_error)
{
        _cleanup_(config_unrefp) struct config *c = calloc(1, sizeof(*c));
        struct reading reading = { .error = ret_error };
        char **drop_ins = NULL;
        size_t n_drop_ins = 0;
        int r;

        if (!c)
                return -ENOMEM;
        c->n_refs = 1;
        c->names = names;
        ret_error->text[0] = 0;
        peer_probe(); /* now: a reload may find itself where the calls for it are not allowed any more */
        ini_max_line = 8192;
        ini_use_stack = false;
        ini_initial_alloc = 8192;
        ini_stop_on_first_error = true;
        ini_allow_inline_comments = false;
        ini_allow_multiline = false;
        r = reading_file(&reading, path);
        if (r == 0)
                r = reading_drop_ins(&reading, path, &drop_ins, &n_drop_ins);
        if (r == 0) {
                reading.path = path;
                r = config_apply(c, &reading);
        }
        if (r < 0 && r != -ENOMEM && !*ret_error->text)
                snprintf(ret_error->text, sizeof(ret_error->text), "%s.d: %s", path, strerror(-r));
        text_clean(ret_error->text); /* it quotes the file */
        reading_deinit(&reading);
        for (size_t i = 0; i < n_drop_ins; i++)
                free(drop_ins[i]);
        free(drop_ins);
        c->names = NULL;
        if (r == 0)
                *ret_config = TAKE_PTR(c);
        return r;
}

int config_read(struct config **ret_config, const char *path, struct config_error *ret_error)
{
        return config_read_with(ret_config, path, NULL, ret_error);
}

static void kek_deinit(struct config_kek *kek)
{
        char *const owned[] = {
                kek->name,           kek->kek_id,    kek->kek_file,  kek->kek_credential, kek->region,
                kek->endpoint,       kek->sts_endpoint, kek->grant_tokens, kek->profile, kek->aws_config_file,
                kek->aws_credentials_file, kek->address, kek->namespace, kek->mount,     kek->auth_mount,
                kek->role,           kek->role_id,   kek->secret_id_file, kek->token_file, kek->jwt_file,
                kek->redirect_hosts, kek->ca_file,   kek->client_certificate, kek->client_key, kek->proxy,
                kek->provider_socket,
        };

        for (size_t i = 0; i < ELEMENTSOF(owned); i++)
                free(owned[i]);
}

struct config *config_ref(struct config *c)
{
        c->n_refs++;
        return c;
}

struct config *config_unref(struct config *c)
{
        if (!c || --c->n_refs > 0)
                return NULL;
        for (size_t i = 0; i < c->n_keks; i++)
                kek_deinit(&c->keks[i]);
        for (size_t i = 0; i < c->n_scopes; i++) {
                free(c->scopes[i].name);
                free(c->scopes[i].keks);
                free(c->scopes[i].context_text);
                config_rules_deinit(&c->scopes[i].allow);
                config_rules_deinit(&c->scopes[i].allow_rotate);
                config_rules_deinit(&c->scopes[i].allow_history);
                config_rules_deinit(&c->scopes[i].allow_recover);
        }
        config_rules_deinit(&c->admin);
        free(c->keks);
        free(c->scopes);
        free(c->socket);
        free(c->admin_socket);
        free(c->kms_socket);
        free(c->audit_file);
        free(c);
        return NULL;
}

const struct config_scope *config_scope_find(const struct config *c, struct bytes name)
{
        for (size_t i = 0; i < c->n_scopes; i++) {
                if (bytes_equal(bytes_from_string(c->scopes[i].name), name))
                        return &c->scopes[i];
        }
        return NULL;
}

const struct config_kek *config_kek_find(const struct config *c, struct bytes name)
{
        for (size_t i = 0; i < c->n_keks; i++) {
                if (bytes_equal(bytes_from_string(c->keks[i].name), name))
                        return &c->keks[i];
        }
        return NULL;
}
