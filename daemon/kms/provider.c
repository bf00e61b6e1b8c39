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
