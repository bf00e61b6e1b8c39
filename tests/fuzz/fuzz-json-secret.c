/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_secret_take() on any bytes, beside jansson: what one takes for JSON, the other does. Of what was taken nothing is left in the text, taking
 * once more finds the same members blank, and a text that is refused is wiped. No slot of the arena stays behind.
 */
#include <errno.h>
#include <jansson.h>

#include "daemon/kms/json-secret.h"
#include "tests/fuzz/fuzz.h"

enum { TAKEN_MAX = 8, DEPTH_MAX = 16 };

static const char *const keys[] = { "Plaintext", "plaintext", "client_token", "token" };

static struct secret *body_of(const uint8_t *data, size_t n)
{
        struct secret *body;
        uint8_t *view;

        check(secret_new(&body, n) == 0);
        view = secret_view_begin(body);
        memcpy(view, data, n);
        secret_view_end(body, &view);
        return body;
}

static bool is_all(struct secret *s, uint8_t value)
{
        uint8_t *view = secret_view_begin(s);
        size_t i = 0;

        while (i < secret_size(s) && view[i] == value)
                i++;
        secret_view_end(s, &view);
        return i == secret_size(s);
}

/* Such a text may be nested deeper than we go, or have a zero byte, which jansson takes for its end: then nothing can be said. */
static bool may_be_taken(const uint8_t *data, size_t n)
{
        size_t n_open = 0;

        if (memchr(data, '\0', n))
                return true;
        for (size_t i = 0; i < n; i++)
                n_open += data[i] == '[' || data[i] == '{';
        return n_open > DEPTH_MAX;
}

/* What jansson says to the text as it came. */
static void compare(const uint8_t *data, size_t n, int result)
{
        json_error_t error;
        json_t *json = json_loadb((const char *)data, n, JSON_DECODE_ANY, &error);

        if (result == JSON_SECRET_E_INVALID)
                check(!json || may_be_taken(data, n));
        else
                check(json || json_error_code(&error) == json_error_numeric_overflow);
        json_decref(json);
}

static void check_taken(struct secret *body, const struct json_secret *taken, size_t n_taken)
{
        struct json_secret again[TAKEN_MAX];
        size_t n_again = 0;

        check(json_secret_take(body, keys, ELEMENTSOF(keys), again, TAKEN_MAX, &n_again) == 0);
        check(n_again == n_taken);
        for (size_t i = 0; i < n_taken; i++) {
                check(again[i].i_key == taken[i].i_key && again[i].i_item == taken[i].i_item);
                check(!again[i].value == !taken[i].value);
                check(!again[i].value || is_all(again[i].value, ' '));
                check(!taken[i].value || secret_size(taken[i].value) <= secret_size(again[i].value));
        }
        json_secret_deinit(again, n_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct json_secret taken[TAKEN_MAX];
        size_t n_taken = 0, small, large;
        struct secret *body;
        int r;

        if (secret_arena_backing() == SECRET_BACKING_NONE)
                check(secret_arena_init(64, 64, 64, NULL) == 0);
        if (n == 0 || n > SECRET_BODY_MAX)
                return 0;
        body = body_of(data, n);
        r = json_secret_take(body, keys, ELEMENTSOF(keys), taken, TAKEN_MAX, &n_taken);
        check(r == 0 || r == JSON_SECRET_E_INVALID || r == JSON_SECRET_E_TOO_MANY);
        compare(data, n, r);
        if (r == 0)
                check_taken(body, taken, n_taken);
        else
                check(is_all(body, 0));
        json_secret_deinit(taken, n_taken);
        secret_unref(body);
        secret_arena_usage(&small, NULL, &large, NULL);
        check(small + large == 0);
        return 0;
}
