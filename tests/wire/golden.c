/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/wire/golden.h"

static json_t *root;

static void need(bool ok, const char *what)
{
        if (ok)
                return;
        fprintf(stderr, "golden.json: %s\n", what);
        exit(1);
}

struct golden *golden_load(const char *path, size_t *ret_n)
{
        struct golden *vectors;
        json_error_t error;
        json_t *entry;
        size_t i;

        root = json_load_file(path, 0, &error);
        need(json_is_array(root) && json_array_size(root) > 0, "cannot be read");
        vectors = calloc(json_array_size(root), sizeof(*vectors));
        need(vectors != NULL, "out of memory");
        json_array_foreach(root, i, entry)
        {
                const char *hex = json_string_value(json_object_get(entry, "frame"));

                vectors[i].message = json_string_value(json_object_get(entry, "message"));
                vectors[i].request_id = (uint32_t)json_integer_value(json_object_get(entry, "request_id"));
                vectors[i].fields = json_object_get(entry, "fields");
                need(hex && vectors[i].message && json_is_object(vectors[i].fields), "a member is missing");
                vectors[i].n_frame = strlen(hex) / 2;
                vectors[i].frame = malloc(vectors[i].n_frame);
                need(vectors[i].frame != NULL, "out of memory");
                need(hex_parse(vectors[i].frame, vectors[i].n_frame, hex, strlen(hex)) == 0, "a frame is not hex");
        }
        *ret_n = json_array_size(root);
        return vectors;
}

void golden_free(struct golden *vectors, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(vectors[i].frame);
        free(vectors);
        json_decref(root);
}
