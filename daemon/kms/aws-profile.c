/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parser goes line by line over the locked text. Indentation means what it means to Python's configparser, which the AWS command line uses:
 * deeper than the properties of the section is what belongs to the property above.
 */
#include "daemon/kms/aws-profile.h"

#include <errno.h>

enum { KEY_MAX = 64, SECTION_NAME_MAX = 128, SECTIONS_MAX = 256, PROPERTIES_MAX = 128 };

struct property {
        char *key, *value;
        struct secret *secret;
        enum aws_profiles_file file;
};

struct aws_section {
        enum aws_section_kind kind;
        char *name;
        bool in_file[2];
        size_t n;
        struct property *properties;
};

struct aws_profiles {
        size_t n;
        struct aws_section **sections;
};

/* Where the parser is. */
struct parser {
        struct aws_profiles *profiles;
        enum aws_profiles_file file;
        const char *path, *keep;
        bool *has_secrets;
        struct sentence *why;
        unsigned line;
        struct aws_section *section;
        bool has_property;    /* in this section */
        size_t indentation;   /* of its properties */
        bool takes_nested;    /* the property above has no value */
        char outer[KEY_MAX + 1]; /* its key */
};

/* Properties whose value has no white space in it. */
static const struct {
        const char *key;
        bool secret;
} words[] = {
        { "aws_access_key_id", false }, { "aws_secret_access_key", true }, { "aws_session_token", true }, { "aws_security_token", true },
        { "credential_source", false }, { "duration_seconds", false },     { "endpoint_url", false },     { "external_id", false },
        { "mfa_serial", false },        { "region", false },               { "role_arn", false },         { "role_session_name", false },
        { "sso_account_id", false },    { "sso_region", false },           { "sso_role_name", false },    { "sso_start_url", false },
};

int aws_profiles_new(struct aws_profiles **ret_profiles)
{
        *ret_profiles = calloc(1, sizeof(**ret_profiles));
        return *ret_profiles ? 0 : -ENOMEM;
}

static void property_deinit(struct property *property)
{
        free(property->key);
        free(property->value);
        secret_unref(property->secret);
}

struct aws_profiles *aws_profiles_free(struct aws_profiles *p)
{
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n; i++) {
                for (size_t j = 0; j < p->sections[i]->n; j++)
                        property_deinit(&p->sections[i]->properties[j]);
                free(p->sections[i]->properties);
                free(p->sections[i]->name);
                free(p->sections[i]);
        }
        free(p->sections);
        free(p);
        return NULL;
}

/* ---- finding ---- */

static struct aws_section *section_find(const struct aws_profiles *p, enum aws_section_kind kind, const char *name)
{
        for (size_t i = 0; i < p->n; i++)
                if (p->sections[i]->kind == kind && strcmp(p->sections[i]->name, name) == 0)
                        return p->sections[i];
        return NULL;
}

const struct aws_section *aws_profiles_find(const struct aws_profiles *p, enum aws_section_kind kind, const char *name)
{
        return section_find(p, kind, name);
}

const char *aws_section_name(const struct aws_section *section)
{
        return section->name;
}

static struct property *property_find(const struct aws_section *section, const char *key)
{
        for (size_t i = 0; i < section->n; i++)
                if (strcmp(section->properties[i].key, key) == 0)
                        return &section->properties[i];
        return NULL;
}

const char *aws_section_get(const struct aws_section *section, const char *key)
{
        const struct property *property = property_find(section, key);

        return property ? property->value : NULL;
}

struct secret *aws_section_secret(const struct aws_section *section, const char *key)
{
        const struct property *property = property_find(section, key);

        return property ? property->secret : NULL;
}

/* ---- text ---- */

static bool is_space(uint8_t c)
{
        return c == ' ' || c == '\t';
}

static size_t indentation_of(struct bytes b)
{
        size_t n = 0;

        while (n < b.n && is_space(b.data[n]))
                n++;
        return n;
}

static struct bytes trim(struct bytes b)
{
        size_t n = indentation_of(b);

        b = (struct bytes){ b.data + n, b.n - n };
        while (b.n > 0 && is_space(b.data[b.n - 1]))
                b.n--;
        return b;
}

static struct bytes line_take(struct bytes *text)
{
        const uint8_t *end = memchr(text->data, '\n', text->n);
        struct bytes line = { text->data, end ? (size_t)(end - text->data) : text->n };
        size_t taken = line.n + (end ? 1 : 0);

        *text = (struct bytes){ text->data + taken, text->n - taken };
        if (line.n > 0 && line.data[line.n - 1] == '\r')
                line.n--;
        return line;
}

static bool has_control(struct bytes b)
{
        for (size_t i = 0; i < b.n; i++)
                if ((b.data[i] < 0x20 && b.data[i] != '\t') || b.data[i] == 0x7f)
                        return true;
        return false;
}

static bool is_comment(struct bytes b)
{
        return b.n > 0 && (*b.data == '#' || *b.data == ';');
}

static int refuse(struct parser *p, const char *what)
{
        sentence_set(p->why, "%s:%u: %s", p->path, p->line, what);
        return -EINVAL;
}

static int no_memory(struct parser *p)
{
        sentence_set(p->why, "cannot read %s: out of memory", p->path);
        return -ENOMEM;
}

/* ---- sections ---- */

static bool word_take(struct bytes *text, const char *word)
{
        size_t n = strlen(word);

        if (text->n <= n || !bytes_equal((struct bytes){ text->data, n }, bytes_from_string(word)) || !is_space(text->data[n]))
                return false;
        *text = trim((struct bytes){ text->data + n, text->n - n });
        return true;
}

static enum aws_section_kind kind_take(struct bytes *name, enum aws_profiles_file file)
{
        if (file == AWS_PROFILES_CREDENTIALS || bytes_equal(*name, BYTES_LITERAL("default")) || word_take(name, "profile"))
                return AWS_SECTION_PROFILE;
        if (word_take(name, "sso-session"))
                return AWS_SECTION_SSO_SESSION;
        if (word_take(name, "services"))
                return AWS_SECTION_SERVICES;
        return AWS_SECTION_OTHER;
}

/* Take the quotes off "NAME" or 'NAME'. Return: false when there is only one of them. */
static bool unquote(struct bytes *name)
{
        uint8_t quote = name->n > 0 ? *name->data : 0;

        if (quote != '"' && quote != '\'')
                return true;
        if (name->n < 2 || name->data[name->n - 1] != quote)
                return false;
        *name = (struct bytes){ name->data + 1, name->n - 2 };
        return true;
}

static int section_add(struct parser *p, enum aws_section_kind kind, const char *name)
{
        struct aws_section **sections, *section;

        if (p->profiles->n == SECTIONS_MAX)
                return refuse(p, "more than 256 sections. Move what lkm-kms does not need into another file");
        sections = reallocarray(p->profiles->sections, p->profiles->n + 1, sizeof(*sections));
        if (!sections)
                return no_memory(p);
        p->profiles->sections = sections;
        section = calloc(1, sizeof(*section));
        if (!section)
                return no_memory(p);
        section->kind = kind;
        section->name = strdup(name);
        if (!section->name) {
                free(section);
                return no_memory(p);
        }
        p->profiles->sections[p->profiles->n++] = p->section = section;
        return 0;
}

static int section_begin(struct parser *p, struct bytes line)
{
        const uint8_t *end = memchr(line.data, ']', line.n);
        char name[SECTION_NAME_MAX + 1];
        enum aws_section_kind kind;
        struct bytes inner, rest;
        int r = 0;

        if (!end)
                return refuse(p, "a section has no ']'");
        inner = trim((struct bytes){ line.data + 1, (size_t)(end - line.data) - 1 });
        rest = trim((struct bytes){ end + 1, (size_t)(line.data + line.n - end) - 1 });
        if (rest.n > 0 && !is_comment(rest))
                return refuse(p, "something follows the ']' of a section");
        kind = kind_take(&inner, p->file);
        if (!unquote(&inner))
                return refuse(p, "the name of a section has no closing quote");
        if (inner.n == 0 || inner.n > SECTION_NAME_MAX || !bytes_is_text(inner))
                return refuse(p, "the name of a section is empty, longer than 128 bytes or no text");
        snprintf(name, sizeof(name), "%.*s", (int)inner.n, (const char *)inner.data);
        p->section = section_find(p->profiles, kind, name);
        if (!p->section)
                r = section_add(p, kind, name);
        else if (p->section->in_file[p->file])
                r = refuse(p, "this section occurs twice in the file. Make one of both");
        if (r < 0)
                return r;
        p->section->in_file[p->file] = true;
        p->has_property = p->takes_nested = false;
        return 0;
}

/* ---- properties ---- */

/* NULL when @key is none. */
static const bool *word_is_secret(const char *key)
{
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strcmp(words[i].key, key) == 0)
                        return &words[i].secret;
        return NULL;
}

static int key_parse(struct parser *p, char ret_key[KEY_MAX + 1], struct bytes key)
{
        if (key.n == 0)
                return refuse(p, "nothing stands before the '='");
        if (key.n > KEY_MAX)
                return refuse(p, "the name of a property is longer than 64 characters");
        for (size_t i = 0; i < key.n; i++) {
                uint8_t c = key.data[i];

                if (c <= ' ' || c > '~')
                        return refuse(p, "the name of a property has white space or something else in it that is no printable ASCII");
                ret_key[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
        }
        ret_key[key.n] = '\0';
        return 0;
}

static int secret_from_bytes(struct secret **ret_secret, struct bytes b)
{
        uint8_t *view;
        int r = secret_new(ret_secret, b.n);

        if (r < 0)
                return r;
        view = secret_view_begin(*ret_secret);
        memcpy(view, b.data, b.n);
        secret_view_end(*ret_secret, &view);
        return 0;
}

/* Put @value into @property, which has a key only. */
static int value_set(struct parser *p, struct property *property, struct bytes value, bool secret)
{
        property->value = secret ? strdup("") : bytes_to_string(value);
        if (!property->value)
                return no_memory(p);
        if (!secret || !p->keep || p->section->kind != AWS_SECTION_PROFILE || strcmp(p->section->name, p->keep) != 0)
                return 0;
        if (secret_from_bytes(&property->secret, value) < 0) {
                sentence_set(p->why, "cannot read %s: no locked memory is left. Try again when other requests have ended", p->path);
                return -ENOBUFS;
        }
        return 0;
}

static int property_add(struct parser *p, const char *key, struct bytes value, bool secret)
{
        struct property *old = property_find(p->section, key), *properties, property = { .file = p->file };
        int r;

        if (old && old->file == p->file)
                return refuse(p, "this property occurs twice in its section. Remove one");
        if (!old) {
                if (p->section->n == PROPERTIES_MAX)
                        return refuse(p, "more than 128 properties in one section");
                properties = reallocarray(p->section->properties, p->section->n + 1, sizeof(*properties));
                if (!properties)
                        return no_memory(p);
                p->section->properties = properties;
        }
        property.key = strdup(key);
        r = property.key ? value_set(p, &property, value, secret) : no_memory(p);
        if (r < 0) {
                property_deinit(&property);
                return r;
        }
        if (old)
                property_deinit(old);
        else
                old = &p->section->properties[p->section->n++];
        *old = property;
        return 0;
}

/* One "KEY = VALUE", which @nested belongs to the property above. */
static int property_parse(struct parser *p, struct bytes line, bool nested)
{
        const uint8_t *equals = memchr(line.data, '=', line.n);
        char key[KEY_MAX + 1], full[2 * KEY_MAX + 2];
        const bool *secret;
        struct bytes value;
        int r;

        if (!equals)
                return refuse(p, "expected [SECTION], KEY = VALUE or a comment");
        value = trim((struct bytes){ equals + 1, (size_t)(line.data + line.n - equals) - 1 });
        r = key_parse(p, key, trim((struct bytes){ line.data, (size_t)(equals - line.data) }));
        if (r < 0)
                return r;
        if (value.n > SECRET_LARGE_MAX)
                return refuse(p, "a value is longer than 8192 bytes");
        secret = word_is_secret(key);
        for (size_t i = 0; secret && i < value.n; i++)
                if (is_space(value.data[i]))
                        return refuse(p, "the value has white space in it. A comment stands on a line of its own");
        if (secret && *secret && value.n > 0)
                *p->has_secrets = true;
        if (!nested) {
                p->takes_nested = value.n == 0;
                memcpy(p->outer, key, sizeof(key));
        }
        if (value.n == 0)
                return 0; /* as if it were not there */
        if (!(secret && *secret) && !bytes_is_text(value))
                return refuse(p, "a value is not valid UTF-8, or has a tab in it");
        snprintf(full, sizeof(full), "%s%s%s", nested ? p->outer : "", nested ? "." : "", key);
        return property_add(p, full, value, secret && *secret);
}

static int line_parse(struct parser *p, struct bytes line)
{
        size_t indentation = indentation_of(line);
        struct bytes content = trim(line);

        if (has_control(line))
                return refuse(p, "a control character. Save the file as plain text");
        if (content.n == 0 || is_comment(content))
                return 0;
        if (*content.data == '[' && (indentation == 0 || !p->has_property || indentation <= p->indentation))
                return section_begin(p, content);
        if (!p->section)
                return refuse(p, "a property stands before the first [SECTION]");
        if (p->has_property && indentation > p->indentation) {
                if (!p->takes_nested)
                        return refuse(p, "the line is indented as if it went on with the one above, which has a value already. "
                                         "Begin it where the other properties begin");
                return property_parse(p, content, true);
        }
        p->has_property = true;
        p->indentation = indentation;
        return property_parse(p, content, false);
}

int aws_profiles_parse(struct aws_profiles *profiles, struct bytes text, enum aws_profiles_file file, const char *path, const char *keep,
                       bool *ret_has_secrets, struct sentence *ret_why)
{
        struct parser p = { .profiles = profiles, .file = file, .path = path, .keep = keep, .has_secrets = ret_has_secrets, .why = ret_why };
        int r = 0;

        *ret_has_secrets = false;
        if (text.n >= 3 && bytes_equal((struct bytes){ text.data, 3 }, BYTES_LITERAL("\xef\xbb\xbf"))) {
                p.line = 1;
                return refuse(&p, "the file begins with a byte order mark. Save it as UTF-8 without one");
        }
        while (r == 0 && text.n > 0) {
                p.line++;
                r = line_parse(&p, line_take(&text));
        }
        return r;
}

int aws_profiles_read(struct aws_profiles *p, const char *path, enum aws_profiles_file file, const char *keep, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        bool is_private = false, has_secrets;
        uint8_t *view;
        int r = secret_file_read(&text, &is_private, path, file == AWS_PROFILES_CREDENTIALS ? SECRET_FILE_OWN : SECRET_FILE_CONFIG, ret_why);

        if (r < 0)
                return r == -ENODATA ? 0 : r;
        view = secret_view_begin(text);
        r = aws_profiles_parse(p, (struct bytes){ view, secret_size(text) }, file, path, keep, &has_secrets, ret_why);
        secret_view_end(text, &view);
        secret_wipe_stack();
        if (r == 0 && has_secrets && !is_private) {
                sentence_set(ret_why, "%s holds a secret key, and others may read it. Run `chmod 600 %s`", path, path);
                r = -EACCES;
        }
        return r;
}
