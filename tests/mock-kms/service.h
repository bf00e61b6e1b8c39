/* SPDX-License-Identifier: Apache-2.0 */
/*
 * service: one of the services that this server speaks. The path and headers of a request decide which; a service says
 * what the request is about (for faults and the log) before it decides anything.
 */
#pragma once

#include "tests/mock-kms/mock.h"
#include "tests/mock-kms/request.h"

struct service {
        const char *name; /* in faults and the log */
        bool (*claims)(const struct request *r);
        /** sets r->operation and r->region */
        void (*identify)(struct request *r);
        void (*handle)(struct mock *m, struct request *r, struct answer *a);
        /** too many requests, as this service says it */
        void (*throttle)(const struct request *r, struct answer *a);
        /** a status that a fault asks for, with this service's usual body */
        void (*fail)(const struct request *r, struct answer *a, int status);
        /** what it has given out for a time ends now */
        void (*expire)(struct mock *m);
};

extern const struct service service_kms, service_sts, service_metadata, service_vault;
extern const struct service *const services[]; /* NULL ends them */

/** service_of() - the first that claims @r, or NULL. */
const struct service *service_of(const struct request *r);
/** service_named() - or NULL */
const struct service *service_named(const char *name);
