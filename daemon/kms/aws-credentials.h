/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-credentials: access keys as the AWS SDKs find them: environment (only when the configuration says so), shared files with profiles, roles,
 * web identity, container and instance metadata, a process, the SSO cache. Refreshed ahead, one fetch for all who wait, old ones served to
 * their real end. Knows nothing of KMS.
 */
#pragma once

#include "common/list.h"
#include "daemon/config.h"
#include "daemon/kms/http.h"
#include "daemon/kms/provider.h"

/** One set of keys; immutable, counted. */
struct aws_credentials {
        unsigned n_refs;
        char access_key_id[129];
        struct secret *secret_access_key;
        struct secret *session_token; /* or NULL */
        uint64_t expires_wall_usec; /* USEC_INFINITY = never */
        const char *source; /* for people: "profile lkm", "instance metadata"; static or owned by the source */
};
struct aws_credentials *aws_credentials_ref(struct aws_credentials *c);
struct aws_credentials *aws_credentials_unref(struct aws_credentials *c);
DEFINE_CLEANUP(struct aws_credentials *, aws_credentials_unref)

struct aws_credentials_source;

/** Who waits; embedded. */
struct aws_credentials_call {
        /** done() - once, from the event loop: @credentials (borrowed), or NULL and @why for people. @error: CREDENTIALS, UNREACHABLE,
         *  MISCONFIGURED, DENIED. */
        void (*done)(struct aws_credentials_call *call, struct aws_credentials *credentials, enum proto_error error, const char *why);
        struct list link;
};

/**
 * aws_credentials_source_new() - nothing is asked or read yet but the shared configuration files
 * @config: borrowed; region, profile, files, aws_environment, sts_endpoint, ca_file, proxy
 * Return: 0; -EINVAL (files or profile wrong) or -errno, with *ret_why filled.
 */
int aws_credentials_source_new(struct aws_credentials_source **ret_source, const struct config_kek *config,
                               const struct kms_environment *environment, struct sentence *ret_why);
struct aws_credentials_source *aws_credentials_source_free(struct aws_credentials_source *s);
DEFINE_CLEANUP(struct aws_credentials_source *, aws_credentials_source_free)

/** aws_credentials_now() - what can be used at once: not expired. Return: borrowed until the event loop runs, or NULL. Starts a refresh ahead when
 *  it is time. */
struct aws_credentials *aws_credentials_now(struct aws_credentials_source *s);
/** aws_credentials_get() - have @call told when there are credentials; never inside this function. */
void aws_credentials_get(struct aws_credentials_source *s, struct aws_credentials_call *call);
void aws_credentials_cancel(struct aws_credentials_source *s, struct aws_credentials_call *call);
/** aws_credentials_reject() - KMS says that @credentials are expired or unknown: they are not served again for a minute. */
void aws_credentials_reject(struct aws_credentials_source *s, const struct aws_credentials *credentials);
/** aws_credentials_note_date() - a verified peer's clock, to sign requests to STS with. The offset is added to the wall clock. */
void aws_credentials_note_offset(struct aws_credentials_source *s, int64_t offset_usec);
/** aws_credentials_describe() - where they come from and how long they are good, for `lkmctl kek describe`. Return: ret_text. */
const char *aws_credentials_describe(const struct aws_credentials_source *s, struct sentence *ret_text);
