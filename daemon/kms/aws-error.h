/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-error: what an error answer of AWS means: one table of codes, and the HTTP status for those that are not in it. The table decides about
 * repetition, about stale keys and about eviction in lkmd. Pure.
 */
#pragma once

#include "daemon/kms/exchange.h"

#define AWS_ERROR_CODE_MAX 64

/** What could mend the cause, so that the same question may be asked at once, one time more. */
enum aws_error_remedy {
        AWS_REMEDY_NONE,
        AWS_REMEDY_CREDENTIALS, /* others, or newer ones */
        AWS_REMEDY_CLOCK, /* a signature by the server's clock */
};

struct aws_error_class {
        enum proto_error error;
        enum exchange_action action; /* as long as there is no remedy */
        enum aws_error_remedy remedy;
        bool may_quote; /* AWS's own message says more about the key, and cannot hold anything of the request that is secret */
        const char *text; /* what happened and what to do next: goes on after "AWS KMS … : " */
};

/**
 * aws_error_code() - the code of an error answer: its header x-amzn-errortype, else `code` or `__type` of the JSON body, else the first
 * <Code> of an XML body; without the shape's namespace and what follows ':'
 * @header: "" when there is none
 * @ret_code: "" when there is none, or it is no code
 */
void aws_error_code(char ret_code[AWS_ERROR_CODE_MAX + 1], const char *header, struct bytes body);
/** aws_error_message() - `message`, `Message` or <Message> of the body; "" when there is none. */
void aws_error_message(struct sentence *ret_message, struct bytes body);
/** aws_error_read() - both of a whole answer. */
void aws_error_read(char ret_code[AWS_ERROR_CODE_MAX + 1], struct sentence *ret_message, const struct http_response *response);

/** aws_error_class() - by @code ("" = none), else by @status. Never NULL. */
const struct aws_error_class *aws_error_class(const char *code, int status);
