/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "client/lkmctl.h"

enum { COLUMN_GAP = 2, DAY = 86400, HOUR = 3600, MINUTE = 60 };

static void *must(void *p)
{
        if (!p) {
                fputs("lkmctl: out of memory\n", stderr);
                exit(EXIT_CODE_FAILED);
        }
        return p;
}

void text_harmless(char *text)
{
        for (; *text; text++) {
                if ((unsigned char)*text < 0x20 || *text == 0x7f)
                        *text = '?';
                else if ((unsigned char)text[0] == 0xc2 && (unsigned char)text[1] >= 0x80 && (unsigned char)text[1] < 0xa0)
                        text[0] = text[1] = '?';
        }
}

void table_add(struct table *t, const char *const *cells)
{
        size_t n = t->n_rows * t->n_columns;

        t->cells = must(realloc(t->cells, (n + t->n_columns) * sizeof(*t->cells)));
        for (size_t i = 0; i < t->n_columns; i++) {
                t->cells[n + i] = must(strdup(cells[i]));
                text_harmless(t->cells[n + i]);
        }
        t->n_rows++;
}

size_t text_width(const char *text)
{
        size_t n = 0;

        for (; *text; text++)
                n += ((unsigned char)*text & 0xc0) != 0x80;
        return n;
}

void table_print(const struct table *t)
{
        size_t widths[TABLE_COLUMNS_MAX] = { 0 };

        for (size_t i = 0; i < t->n_rows * t->n_columns; i++) {
                size_t width = text_width(t->cells[i]), column = i % t->n_columns;

                widths[column] = width > widths[column] ? width : widths[column];
        }
        for (size_t i = 0; i < t->n_rows * t->n_columns; i++) {
                size_t column = i % t->n_columns;
                bool last = column + 1 == t->n_columns;

                printf("%s%*s", t->cells[i], last ? 0 : (int)(widths[column] - text_width(t->cells[i]) + COLUMN_GAP),
                       last ? "\n" : "");
        }
}

void table_deinit(struct table *t)
{
        for (size_t i = 0; i < t->n_rows * t->n_columns; i++)
                free(t->cells[i]);
        free(t->cells);
        t->cells = NULL;
        t->n_rows = 0;
}

static void show_duration(char ret_text[SHOW_MAX], double seconds)
{
        unsigned long long s = seconds > 0 ? (unsigned long long)llround(seconds) : 0;

        if (s >= DAY)
                snprintf(ret_text, SHOW_MAX, "%llud %lluh", s / DAY, s % DAY / HOUR);
        else if (s >= HOUR)
                snprintf(ret_text, SHOW_MAX, "%lluh %llumin", s / HOUR, s % HOUR / MINUTE);
        else if (s >= MINUTE)
                snprintf(ret_text, SHOW_MAX, "%llumin %llus", s / MINUTE, s % MINUTE);
        else
                snprintf(ret_text, SHOW_MAX, "%llus", s);
}

static void show_array(char ret_text[SHOW_MAX], json_t *array)
{
        size_t n = 0, i;
        json_t *member;

        snprintf(ret_text, SHOW_MAX, "-");
        json_array_foreach(array, i, member)
        {
                char text[SHOW_MAX];
                int written;

                show_json(text, member, SHOW_PLAIN);
                written = snprintf(ret_text + n, SHOW_MAX - n, "%s%s", i ? " " : "", text);
                if (written < 0 || (size_t)written >= SHOW_MAX - n)
                        return;
                n += (size_t)written;
        }
}

void show_json(char ret_text[SHOW_MAX], json_t *value, enum show show)
{
        if (json_is_number(value) && show == SHOW_DURATION)
                show_duration(ret_text, json_number_value(value));
        else if (json_is_integer(value))
                snprintf(ret_text, SHOW_MAX, "%lld", (long long)json_integer_value(value));
        else if (json_is_real(value))
                snprintf(ret_text, SHOW_MAX, "%.1f", json_real_value(value));
        else if (json_is_boolean(value))
                snprintf(ret_text, SHOW_MAX, "%s", json_is_true(value) ? "yes" : "no");
        else if (json_is_string(value) && json_string_length(value) > 0)
                snprintf(ret_text, SHOW_MAX, "%s", json_string_value(value));
        else if (json_is_array(value))
                show_array(ret_text, value);
        else
                snprintf(ret_text, SHOW_MAX, "-");
}

json_t *json_find(json_t *object, const char *path)
{
        const char *dot;

        for (; (dot = strchr(path, '.')); path = dot + 1) {
                char name[64];

                snprintf(name, sizeof(name), "%.*s", (int)(dot - path), path);
                object = json_object_get(object, name);
        }
        return json_object_get(object, path);
}
