/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-answer: sets of keys out of what services, processes and files say: JSON in the four dialects that there are, and the XML of STS. The secrets
 * go from the answer's locked memory straight into secrets of their own.
 */
#pragma once

#include "daemon/kms/aws-credentials.h"

enum aws_answer_kind {
        AWS_ANSWER_METADATA,  /* of the instance metadata service: has a Code */
        AWS_ANSWER_CONTAINER, /* of a container's credentials endpoint */
        AWS_ANSWER_PROCESS,   /* of credential_process: has a Version, may never expire */
        AWS_ANSWER_SSO,       /* inside roleCredentials, expiration in milliseconds */
};

/**
 * aws_credentials_new() - a set with one reference
 * @session_token: or NULL; references are taken to both secrets
 * @source: for people; copied
 * Return: 0; -EINVAL when @access_key_id cannot be one; -ENOMEM.
 */
int aws_credentials_new(struct aws_credentials **ret_credentials, const char *access_key_id, struct secret *secret_access_key,
                        struct secret *session_token, uint64_t expires_wall_usec, const char *source);

/**
 * aws_answer_json() - by @kind
 * @body: overwritten where secrets were
 * Return: 0; -EINVAL with *ret_why, which goes on after "WHO …"; -ENOMEM; -ENOBUFS.
 */
int aws_answer_json(struct aws_credentials **ret_credentials, struct secret *body, enum aws_answer_kind kind, const char *source,
                    struct sentence *ret_why);
/** aws_answer_xml() - the Credentials of an answer of STS. Return: the same. */
int aws_answer_xml(struct aws_credentials **ret_credentials, struct secret *body, const char *source, struct sentence *ret_why);

/** aws_answer_time() - ISO 8601 with seconds, perhaps a fraction, and 'Z' or an offset. Return: 0 or -EINVAL. */
int aws_answer_time(uint64_t *ret_wall_usec, const char *text);
