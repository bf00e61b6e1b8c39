/* SPDX-License-Identifier: Apache-2.0 */
/* aws-kms-ask: the fixture of the tests of the AWS provider: a KEK, a scripted KMS on the test's own loop, credentials in a file. */
#pragma once

#include "daemon/kms/provider.h"
#include "tests/unit/http-ask.h"

#define REGION "us-east-1"
#define ACCOUNT "111122223333"
#define ID "1234abcd-12ab-34cd-56ef-1234567890ab"
#define OTHER_ID "ffffffff-12ab-34cd-56ef-1234567890ab"
#define MRK "mrk-1234abcd12ab34cd56ef1234567890ab"
#define ARN_OF(region, id) "arn:aws:kms:" region ":" ACCOUNT ":key/" id
#define ARN ARN_OF(REGION, ID)
#define OTHER_ARN ARN_OF(REGION, OTHER_ID)

/* The bytes 0, 1, … 31, and the blob "ciphertext". */
#define KEY_BASE64 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define BLOB "ciphertext"
#define BLOB_BASE64 "Y2lwaGVydGV4dA=="
#define SESSION_TOKEN "SESSIONTOKENEXAMPLE"

/* One operation and how it ended. */
struct asked {
        struct provider_call call;
        unsigned n;
        enum proto_error error;
        struct secret *key;
        char kek_id[KEK_ID_MAX + 1], wrapped[64], sentence[1024];
};

extern struct kek *kek;
extern struct config_kek config;
extern struct pairs context;

/** aws_setup() - a KEK of the key ARN, and credentials of AKIDEXAMPLE. aws_teardown() - checks that nothing is left. */
void aws_setup(void);
void aws_teardown(void);
/** credentials_are() - what the credentials file holds from now on. */
void credentials_are(const char *access_key_id, const char *session_token);
/** kek_is() - another KEK. kek_new() - one that may be refused. */
void kek_is(const char *kek_id, const char *region);
int kek_new(struct sentence *ret_why);

/** kms_says() - the answers from now on, one for each request, the last one for all that follow. Printed in the manner of printf(3) with
 *  reply(), which returns one of eight buffers. */
void kms_says(size_t n, const char *const *replies);
#define KMS_SAYS(...)                                                                                                  \
        kms_says(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *), (const char *[]){ __VA_ARGS__ })
const char *reply(int status, const char *headers, const char *format, ...) _printf_(3, 4);
/** generated(), decrypted() - good answers in the name of @arn. failed() - an error answer. described() - of DescribeKey. */
const char *generated(const char *arn);
const char *decrypted(const char *arn);
const char *failed(int status, const char *code);
const char *described(const char *arn, const char *state, const char *usage, const char *spec);

/** Begin one, and wait for its end; release with asked_free(). */
struct asked *asked_new(uint64_t timeout_usec);
void asked_wait(struct asked *a);
void asked_free(struct asked *a);
struct asked *generate(void);
struct asked *unwrap(const char *record_id);
struct asked *rewrap(const char *record_id);
/** expect() - how @a ended, after how many requests; releases it. */
void expect(struct asked *a, enum proto_error error, unsigned n_requests);
/** request_has() - whether the last request holds @text. */
bool request_has(const char *text);
