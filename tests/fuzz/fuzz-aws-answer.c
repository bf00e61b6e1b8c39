/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials as AWS' services, processes and files say them, of any bytes. The first byte tells which: '0' to '3' an enum aws_answer_kind, 'x' XML, 't' a
 * time. A refusal has a sentence that is text; what is taken is a whole set; no slot stays behind.
 */
#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/aws-answer.h"
#include "tests/fuzz/fuzz.h"

static void try_time(struct bytes input)
{
        _cleanup_(freep) char *text = bytes_to_string(input);
        uint64_t usec = 1;
        int r;

        check(text != NULL);
        r = aws_answer_time(&usec, text);
        check(r == 0 || (r == -EINVAL && usec == 1));
}

static void try_keys(uint8_t kind, struct bytes input)
{
        struct aws_credentials *credentials = NULL;
        struct sentence why = { 0 };
        struct secret *body;
        uint8_t *view;
        int r;

        if (input.n == 0 || input.n > SECRET_BODY_MAX)
                return;
        check(secret_new(&body, input.n) == 0);
        view = secret_view_begin(body);
        memcpy(view, input.data, input.n);
        secret_view_end(body, &view);
        r = kind == 'x' ? aws_answer_xml(&credentials, body, "fuzz", &why)
                        : aws_answer_json(&credentials, body, (enum aws_answer_kind)(kind % (AWS_ANSWER_SSO + 1)), "fuzz", &why);
        check(r == 0 || r == -EINVAL);
        check(r == 0 ? credentials != NULL : *why.text != '\0' && bytes_is_text(bytes_from_string(why.text)));
        aws_credentials_unref(credentials);
        secret_unref(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct bytes input = { data, n };
        uint8_t kind = fuzz_byte(&input);

        check_arena();
        if (kind == 't')
                try_time(input);
        else
                try_keys(kind, input);
        check_arena();
        return 0;
}
