/* SPDX-License-Identifier: Apache-2.0 */
/* aws-ask: the fixture of the tests of AWS credentials: a server that answers by what it is asked, a folder for files, and those who wait. */
#pragma once

#include "daemon/kms/aws-way.h"
#include "tests/unit/http-ask.h"

/** What the server answers to requests that begin with @begins. */
struct route {
        const char *begins; /* "GET /path" */
        int status;         /* 0: no answer at all */
        const char *body, *headers; /* further header lines, each with its end; NULL = none */
        unsigned n_asked;
        char request[8192]; /* the last one */
};

/** Somebody who waits for a way. */
struct way_outcome {
        struct aws_way_call call;
        unsigned n;
        struct aws_credentials *credentials;
        enum proto_error error;
        char why[1024];
};

extern char folder[64];
extern struct aws_surroundings around;

/** aws_setup(), aws_teardown() - around setup() and teardown(); no AWS_* variable is set, HOME is the folder. */
void aws_setup(void);
void aws_teardown(void);

/** serve() - from now on. @routes is kept. */
void serve(struct route *routes, size_t n);
/** file() - write @text to the file @name in the folder. Return: its path, static until the next eight calls. */
const char *file(const char *name, const char *text, mode_t mode);
/** base_url() - http://127.0.0.1:PORT and @path; static likewise. */
const char *base_url(const char *path);

void way_outcome_init(struct way_outcome *o);
void way_outcome_deinit(struct way_outcome *o);
void way_wait(struct way_outcome *o);
/** secret_is() - @secret is NULL for "". */
bool secret_is(struct secret *secret, const char *text);
/** time_from_now() - as "2030-01-31T12:00:00Z"; static likewise. */
const char *time_from_now(int64_t seconds);
/** text() - as snprintf(3), static likewise. */
const char *text(const char *format, ...) _printf_(1, 2);
