/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/provider.h"

#include <stdarg.h>

static const struct provider *const providers[] = { &provider_aws, &provider_local, &provider_socket, &provider_vault };

const struct provider *provider_find(enum kms_type type)
{
        for (size_t i = 0; i < ELEMENTSOF(providers); i++)
                if (providers[i]->type == type)
                        return providers[i];
        return NULL;
}

void provider_fail(struct provider_call *call, enum proto_error error, const char *sentence)
{
        struct provider_result result = { .error = error, .sentence = sentence };

        call->done(call, &result);
}

void sentence_set(struct sentence *s, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(s->text, sizeof(s->text), format, arguments);
        va_end(arguments);
        text_clean(s->text); /* a file name in another encoding, or a character cut in two by the limit */
}

void provider_request_id_set(struct provider_request_id *ret_id, struct bytes said)
{
        *ret_id->text = '\0';
        if (said.n == 0 || said.n > KMS_REQUEST_ID_MAX || said.data[0] == ' ' || said.data[said.n - 1] == ' ')
                return;
        for (size_t i = 0; i < said.n; i++)
                if (said.data[i] < 0x20 || said.data[i] > 0x7e)
                        return;
        memcpy(ret_id->text, said.data, said.n);
        ret_id->text[said.n] = '\0';
}

struct bytes provider_request_id_get(const struct provider_request_id *id)
{
        return bytes_from_string(id->text);
}
