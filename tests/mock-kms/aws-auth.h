/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-auth: whether a request's Signature Version 4 is right, computed from what came in and written from AWS's
 * description alone: it shares no line with the signer that it is to prove.
 */
#pragma once

#include "tests/mock-kms/mock.h"
#include "tests/mock-kms/request.h"

enum {
        AWS_AUTH_E_MISSING = 1,
        AWS_AUTH_E_INCOMPLETE, /* with a sentence */
        AWS_AUTH_E_UNKNOWN, /* no such access key, or not with this session token */
        AWS_AUTH_E_EXPIRED, /* the session's credentials */
        AWS_AUTH_E_SIGNATURE, /* with a sentence */
};

/** aws_auth_region() - the region that the request claims, "" without one; nothing is checked. */
void aws_auth_region(char *ret_region, size_t n, const struct request *r);
/**
 * aws_auth_check() - who has signed this request
 * @service:    "kms" or "sts"
 * @minutes:    how far the signature's time may be from ours
 * @ret_user:   borrowed from @m
 * @ret_reason: to release with free(); the sentence that belongs to the outcome, or untouched
 * Return: 0 or AWS_AUTH_E_*.
 */
int aws_auth_check(const struct mock *m, const struct request *r, const char *service, unsigned minutes,
                   const struct aws_user **ret_user, char **ret_reason);
