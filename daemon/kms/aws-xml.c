/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-xml.h"

#include <errno.h>

#include "common/cleanup.h"

enum { DEPTH_MAX = 16 };

struct scan {
        const uint8_t *at, *end;
        size_t depth;
        struct bytes names[DEPTH_MAX]; /* of the elements that are open */
        const uint8_t *leaf;           /* where the text of the innermost one begins, as long as it has no children */
        bool seen_parent;
        const char *parent;
        struct aws_xml_text *texts;
        size_t n_texts;
};

static bool is_space(uint8_t c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_name(uint8_t c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == ':';
}

static bool next_is(const struct scan *s, uint8_t c)
{
        return s->at < s->end && *s->at == c;
}

static bool skip(struct scan *s, uint8_t c)
{
        if (!next_is(s, c))
                return false;
        s->at++;
        return true;
}

/* Return: whether there was any. */
static bool skip_space(struct scan *s)
{
        const uint8_t *start = s->at;

        while (s->at < s->end && is_space(*s->at))
                s->at++;
        return s->at > start;
}

static bool take_name(struct scan *s, struct bytes *ret_name)
{
        const uint8_t *start = s->at;

        while (s->at < s->end && is_name(*s->at))
                s->at++;
        *ret_name = (struct bytes){ start, (size_t)(s->at - start) };
        return ret_name->n > 0;
}

/* NAME="VALUE" */
static bool skip_attribute(struct scan *s)
{
        struct bytes name;
        uint8_t quote;

        if (!take_name(s, &name))
                return false;
        skip_space(s);
        if (!skip(s, '='))
                return false;
        skip_space(s);
        if (!next_is(s, '"') && !next_is(s, '\''))
                return false;
        quote = *s->at++;
        while (s->at < s->end && *s->at != quote && *s->at != '<')
                s->at++;
        return skip(s, quote);
}

static bool skip_declaration(struct scan *s)
{
        static const char begin[] = "<?xml", end[] = "?>";
        const uint8_t *found;
        size_t n = (size_t)(s->end - s->at);

        if (n < sizeof(begin) || !bytes_equal((struct bytes){ s->at, sizeof(begin) - 1 }, bytes_from_string(begin)))
                return true;
        found = memmem(s->at, n, end, sizeof(end) - 1);
        if (!found || !is_space(s->at[sizeof(begin) - 1]))
                return false;
        s->at = found + 2;
        return true;
}

static bool is_inside_parent(const struct scan *s)
{
        return s->depth >= 2 && bytes_equal(s->names[s->depth - 2], bytes_from_string(s->parent));
}

/* The innermost element ends; its text is [s->leaf, @text_end) if it is a leaf. */
static bool element_end(struct scan *s, const uint8_t *text_end)
{
        for (size_t i = 0; s->leaf && is_inside_parent(s) && i < s->n_texts; i++) {
                if (!bytes_equal(s->names[s->depth - 1], bytes_from_string(s->texts[i].name)))
                        continue;
                if (s->texts[i].text.data)
                        return false;
                s->texts[i].text = (struct bytes){ s->leaf, (size_t)(text_end - s->leaf) };
        }
        s->depth--;
        s->leaf = NULL;
        return true;
}

static bool element_begin(struct scan *s)
{
        struct bytes name;

        if (s->depth == DEPTH_MAX || !take_name(s, &name))
                return false;
        s->names[s->depth++] = name;
        if (bytes_equal(name, bytes_from_string(s->parent))) {
                if (s->seen_parent)
                        return false;
                s->seen_parent = true;
        }
        while (skip_space(s) && !next_is(s, '/') && !next_is(s, '>'))
                if (!skip_attribute(s))
                        return false;
        if (skip(s, '/')) {
                s->leaf = s->at;
                return skip(s, '>') && element_end(s, s->leaf);
        }
        if (!skip(s, '>'))
                return false;
        s->leaf = s->at;
        return true;
}

/* What begins with '<'. */
static bool take_tag(struct scan *s)
{
        const uint8_t *start = s->at++;
        struct bytes name;

        if (!skip(s, '/'))
                return element_begin(s);
        if (s->depth == 0 || !take_name(s, &name) || !bytes_equal(name, s->names[s->depth - 1]))
                return false;
        skip_space(s);
        return skip(s, '>') && element_end(s, start);
}

static bool scan(struct scan *s)
{
        skip_space(s);
        if (!skip_declaration(s))
                return false;
        skip_space(s);
        do {
                if (!next_is(s, '<') || !take_tag(s))
                        return false;
                while (s->depth > 0 && s->at < s->end && *s->at != '<')
                        if (*s->at++ == 0)
                                return false;
        } while (s->depth > 0);
        skip_space(s);
        return s->at == s->end;
}

int aws_xml_find(struct bytes xml, const char *parent, struct aws_xml_text *texts, size_t n)
{
        struct scan s = { .at = xml.data, .end = xml.data + xml.n, .parent = parent, .texts = texts, .n_texts = n };

        for (size_t i = 0; i < n; i++)
                texts[i].text = (struct bytes){ 0 };
        return xml.n > 0 && scan(&s) ? 0 : -EINVAL;
}

int aws_xml_unescape(uint8_t *ret, size_t *ret_n, struct bytes text)
{
        static const struct {
                const char *name;
                uint8_t c;
        } references[] = { { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' } };
        size_t n = 0, i = 0;

        while (i < text.n) {
                size_t j = 0, n_name = 1;

                ret[n] = text.data[i];
                for (; text.data[i] == '&' && j < ELEMENTSOF(references); j++) {
                        n_name = strlen(references[j].name);
                        if (text.n - i >= n_name &&
                            bytes_equal((struct bytes){ text.data + i, n_name }, bytes_from_string(references[j].name)))
                                break;
                }
                if (j == ELEMENTSOF(references))
                        return -EINVAL;
                if (text.data[i] == '&')
                        ret[n] = references[j].c;
                n++;
                i += n_name;
        }
        *ret_n = n;
        return 0;
}
