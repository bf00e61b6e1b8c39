/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/mock.h"

#include "tests/mock-kms/service.h"

const struct service *const services[] = { &service_kms, &service_sts, &service_metadata, &service_vault, NULL };

void mock_init(struct mock *m)
{
        *m = (struct mock){ 0 };
        aws_identities_init(&m->identities);
        aws_keys_init(&m->keys);
        metadata_init(&m->metadata);
        vault_init(&m->vault, mock_now_usec(m));
}

void mock_deinit(struct mock *m)
{
        aws_identities_deinit(&m->identities);
        aws_keys_deinit(&m->keys);
        metadata_deinit(&m->metadata);
        vault_deinit(&m->vault);
}

void mock_reset(struct mock *m)
{
        mock_deinit(m);
        mock_init(m);
}

uint64_t mock_now_usec(const struct mock *m)
{
        return clock_wall_usec() + (uint64_t)m->clock_offset_usec;
}

const struct service *service_of(const struct request *r)
{
        for (size_t i = 0; services[i]; i++)
                if (services[i]->claims(r))
                        return services[i];
        return NULL;
}

const struct service *service_named(const char *name)
{
        for (size_t i = 0; services[i]; i++)
                if (strcmp(services[i]->name, name) == 0)
                        return services[i];
        return NULL;
}
