/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-error: KMS answers every mistake of a client with status 400, so the code is what counts; emulators and proxies are told apart by
 * the status. InvalidSignatureException and the like are not quoted: AWS's text may repeat the signed headers, session token included.
 */
#include "daemon/kms/aws-error.h"

#include <jansson.h>

static const char ALNUM_DOT[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.";

/* ---- the classes ---- */

static const struct aws_error_class
        throttled = { PROTO_ERROR_KMS_THROTTLED, EXCHANGE_REPEAT, AWS_REMEDY_NONE, false,
                      "it asks to slow down: the account's rate of KMS requests in this region is used up. Ask for a higher quota if that goes on" },
        fault = { PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT, AWS_REMEDY_NONE, false,
                  "it has a fault of its own. It is asked again; look at the AWS Health Dashboard if that goes on" },
        final_fault = { PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_END, AWS_REMEDY_NONE, false,
                        "the server cannot do this at all. Check that the endpoint is that of AWS KMS" },
        credentials = { PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, AWS_REMEDY_CREDENTIALS, false,
                        "the access key is expired or unknown, and there was no better one. Renew the credentials at their source" },
        mismatch = { PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, AWS_REMEDY_CLOCK, false,
                     "the signature is not accepted: the secret access key does not belong to the access key id, or the clock is wrong. Check both, and the region" },
        signature = { PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END, AWS_REMEDY_NONE, false,
                      "the signature is not well formed. Check the access key id for characters that do not belong there" },
        denied = { PROTO_ERROR_KMS_DENIED, EXCHANGE_END, AWS_REMEDY_NONE, true,
                   "access is denied. Allow it to this identity by IAM policy or grant, and in the key's policy; `lkmctl kek policy` prints the least policy" },
        not_subscribed = { PROTO_ERROR_KMS_DENIED, EXCHANGE_END, AWS_REMEDY_NONE, true,
                           "the AWS account may not use KMS. Finish its registration, or enable the region for it" },
        forbidden = { PROTO_ERROR_KMS_DENIED, EXCHANGE_END, AWS_REMEDY_NONE, false,
                      "access is forbidden, and not in the words of AWS. Check the VPC endpoint's policy and any proxy between" },
        disabled = { PROTO_ERROR_KMS_DENIED, EXCHANGE_END, AWS_REMEDY_NONE, true,
                     "the key is disabled. Enable it, or use another KEK" },
        state = { PROTO_ERROR_KMS_STATE, EXCHANGE_END, AWS_REMEDY_NONE, true,
                  "the key's state does not allow this. Cancel its deletion, import its material, or repair its key store" },
        not_found = { PROTO_ERROR_KMS_NOT_FOUND, EXCHANGE_END, AWS_REMEDY_NONE, true,
                      "there is no such key in this account and region. Correct kek_id or region" },
        corrupt = { PROTO_ERROR_KMS_CORRUPT, EXCHANGE_END, AWS_REMEDY_NONE, false,
                    "the wrapped key does not authenticate: it is damaged, or belongs to another record or scope. Put the database's own .key file beside it, or restore it from a backup" },
        other_key = { PROTO_ERROR_KMS_NOT_MINE, EXCHANGE_END, AWS_REMEDY_NONE, false,
                      "the wrapped key was made under another key than the record says. Put the database's own .key file beside it" },
        usage = { PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE, true,
                  "the key is not for this: it has to be a symmetric one (SYMMETRIC_DEFAULT) for ENCRYPT_DECRYPT. Name such a key in kek_id" },
        grant = { PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE, false,
                  "a grant token is not valid. Correct grant_tokens, or take them out once the grants have spread (5 minutes)" },
        arn = { PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE, true,
                "the ARN is not valid there. Correct kek_id, region and endpoint" },
        quota = { PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE, false,
                  "a limit of KMS is exceeded, which waiting does not change. Shorten encryption_context, or look at the account's quotas" },
        invalid = { PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE, false,
                    "it does not take the request. Check kek_id, grant_tokens and encryption_context; if these are good, report a bug of lkm" },
        unknown = { PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE, false,
                    "it refuses for a reason that lkm does not know. Look the code up in the KMS API reference" },
        not_kms = { PROTO_ERROR_KMS_MISCONFIGURED, EXCHANGE_END, AWS_REMEDY_NONE, false,
                    "the answer is not one of AWS KMS. Check endpoint, region and proxy" };

/* In the order of the classes; a name stands for itself and for itself with "Exception" behind. */
static const struct {
        const char *code;
        const struct aws_error_class *class;
} codes[] = {
        { "Throttling", &throttled },
        { "Throttled", &throttled },
        { "RequestThrottled", &throttled },
        { "TooManyRequests", &throttled },
        { "ProvisionedThroughputExceeded", &throttled },
        { "TransactionInProgress", &throttled },
        { "RequestLimitExceeded", &throttled },
        { "BandwidthLimitExceeded", &throttled },
        { "SlowDown", &throttled },
        { "PriorRequestNotComplete", &throttled },
        { "EC2Throttled", &throttled },
        { "RequestTimeout", &fault },
        { "KMSInternal", &fault },
        { "KeyUnavailable", &fault },
        { "DependencyTimeout", &fault },
        { "InternalFailure", &fault },
        { "InternalError", &fault },
        { "InternalServerError", &fault },
        { "ServiceUnavailable", &fault },
        { "InvalidSignature", &mismatch },
        { "RequestExpired", &mismatch },
        { "RequestInTheFuture", &mismatch },
        { "RequestTimeTooSkewed", &mismatch },
        { "SignatureDoesNotMatch", &mismatch },
        { "AuthFailure", &mismatch },
        { "ExpiredToken", &credentials },
        { "UnrecognizedClient", &credentials },
        { "InvalidClientTokenId", &credentials },
        { "MissingAuthenticationToken", &credentials },
        { "AccessDenied", &denied },
        { "NotAuthorized", &denied },
        { "OptInRequired", &not_subscribed },
        { "Disabled", &disabled },
        { "KMSInvalidState", &state },
        { "NotFound", &not_found },
        { "InvalidCiphertext", &corrupt },
        { "IncorrectKey", &other_key },
        { "InvalidKeyUsage", &usage },
        { "UnsupportedOperation", &usage },
        { "InvalidGrantToken", &grant },
        { "InvalidArn", &arn },
        { "LimitExceeded",
          &quota }, /* of a length or a resource: the SDKs take it for a rate, KMS does not mean it so */
        { "Validation", &invalid },
        { "ValidationError", &invalid },
        { "Serialization", &invalid },
        { "IncompleteSignature", &signature },
};

static bool is_code(const char *code, const char *name)
{
        size_t n = strlen(name);

        return strncmp(code, name, n) == 0 && (code[n] == '\0' || strcmp(code + n, "Exception") == 0);
}

static const struct aws_error_class *class_of_status(bool has_code, int status)
{
        switch (status) {
        case 429:
                return &throttled;
        case 408:
        case 500:
        case 502:
        case 503:
        case 504:
                return &fault;
        case 401:
        case 403:
                return has_code ? &denied : &forbidden;
        }
        if (status > 500)
                return &final_fault;
        return has_code && status >= 400 ? &unknown : &not_kms;
}

const struct aws_error_class *aws_error_class(const char *code, int status)
{
        for (size_t i = 0; *code && i < ELEMENTSOF(codes); i++)
                if (is_code(code, codes[i].code))
                        return codes[i].class;
        return class_of_status(*code, status);
}

/* ---- the code and the message ---- */

/* What follows '#' and stands before ':'. Not touched when that is no code. */
static bool take_code(char ret_code[AWS_ERROR_CODE_MAX + 1], const char *text)
{
        size_t n = strcspn(text, ":");
        const char *hash = memchr(text, '#', n);

        if (hash) {
                n -= (size_t)(hash + 1 - text);
                text = hash + 1;
        }
        if (n == 0 || n > AWS_ERROR_CODE_MAX || strspn(text, ALNUM_DOT) < n)
                return false;
        memcpy(ret_code, text, n);
        ret_code[n] = '\0';
        return true;
}

static bool is_xml(struct bytes body)
{
        for (size_t i = 0; i < body.n; i++)
                if (!memchr(" \t\r\n\xef\xbb\xbf", body.data[i], 7))
                        return body.data[i] == '<';
        return false;
}

/* The text of the first element @name ("<Code>") into @ret_text. */
static bool xml_text(char *ret_text, size_t n_text, struct bytes body, const char *name)
{
        const uint8_t *start = memmem(body.data, body.n, name, strlen(name)), *end;
        size_t n;

        if (!start)
                return false;
        start += strlen(name);
        end = memchr(start, '<', (size_t)(body.data + body.n - start));
        if (!end)
                return false;
        n = (size_t)(end - start) < n_text ? (size_t)(end - start) : n_text - 1;
        memcpy(ret_text, start, n);
        ret_text[n] = '\0';
        return true;
}

/* The first string member of @names on top of @json, or NULL. */
static const char *json_text(const json_t *json, const char *const names[2])
{
        for (size_t i = 0; i < 2; i++) {
                const char *text = json_string_value(json_object_get(json, names[i]));

                if (text)
                        return text;
        }
        return NULL;
}

static json_t *json_of(struct bytes body)
{
        return body.n > 0 ? json_loadb((const char *)body.data, body.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
}

void aws_error_code(char ret_code[AWS_ERROR_CODE_MAX + 1], const char *header, struct bytes body)
{
        char text[256];
        json_t *json;
        const char *code;

        *ret_code = '\0';
        if (take_code(ret_code, header))
                return;
        if (is_xml(body)) {
                if (xml_text(text, sizeof(text), body, "<Code>"))
                        take_code(ret_code, text);
                return;
        }
        json = json_of(body);
        code = json_text(json, (const char *const[]){ "code", "__type" });
        if (code)
                take_code(ret_code, code);
        json_decref(json);
}

void aws_error_message(struct sentence *ret_message, struct bytes body)
{
        char text[sizeof(ret_message->text)] = "";
        const char *message;
        json_t *json;

        *ret_message->text = '\0';
        if (is_xml(body)) {
                if (xml_text(text, sizeof(text), body, "<Message>"))
                        sentence_set(ret_message, "%s", text);
                return;
        }
        json = json_of(body);
        message = json_text(json, (const char *const[]){ "message", "Message" });
        if (message)
                sentence_set(ret_message, "%s", message);
        json_decref(json);
}

void aws_error_read(char ret_code[AWS_ERROR_CODE_MAX + 1], struct sentence *ret_message, const struct http_response *response)
{
        uint8_t *view = response->body ? secret_view_begin(response->body) : NULL;
        struct bytes body = { view, response->body ? secret_size(response->body) : 0 };

        aws_error_code(ret_code, http_response_header(response, "x-amzn-errortype"), body);
        aws_error_message(ret_message, body);
        if (response->body)
                secret_view_end(response->body, &view);
}
