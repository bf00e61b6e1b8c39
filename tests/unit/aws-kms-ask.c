/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/aws-kms-ask.h"

#include <fcntl.h>
#include <stdarg.h>

enum { REPLIES = 8 };

struct kek *kek;
struct config_kek config;
struct pairs context;
static char directory[64], credentials_path[128], endpoint[64];
static char replies[REPLIES][4096];
static unsigned next_reply;
static struct http_server_reply script[REPLIES];

void credentials_are(const char *access_key_id, const char *session_token)
{
        _cleanup_(fclosep) FILE *f = NULL;
        int fd = open(credentials_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ck_assert_int_ge(fd, 0);
        f = fdopen(fd, "w");
        ck_assert_ptr_nonnull(f);
        fprintf(f,
                "[default]\naws_access_key_id = %s\naws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n",
                access_key_id);
        if (session_token)
                fprintf(f, "aws_session_token = %s\n", session_token);
}

int kek_new(struct sentence *ret_why)
{
        static struct kms_environment environment;

        environment = (struct kms_environment){ base, http };
        if (kek)
                provider_aws.kek_free(kek);
        kek = NULL;
        return provider_aws.kek_new(&kek, &config, &environment, ret_why);
}

void kek_is(const char *kek_id, const char *region)
{
        static char id[600], in[64];
        struct sentence why = { "" };

        snprintf(id, sizeof(id), "%s", kek_id);
        snprintf(in, sizeof(in), "%s", region ? region : "");
        config.kek_id = id;
        config.region = region ? in : NULL;
        ck_assert_msg(kek_new(&why) == 0, "%s", why.text);
}

void aws_setup(void)
{
        static char name[] = "aws";

        setup();
        snprintf(directory, sizeof(directory), "/tmp/lkm-aws-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(credentials_path, sizeof(credentials_path), "%s/credentials", directory);
        snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
        credentials_are("AKIDEXAMPLE", NULL);
        context = (struct pairs){ .n = 2,
                                  .pair = { { BYTES_LITERAL("lkm:database"), BYTES_LITERAL("1") },
                                            { BYTES_LITERAL("purpose"), BYTES_LITERAL("unit-test") } } };
        config = (struct config_kek){
                .name = name, .kms_type = KMS_TYPE_AWS, .endpoint = endpoint, .aws_credentials_file = credentials_path
        };
        kek_is(ARN, NULL);
        next_reply = 0;
}

void aws_teardown(void)
{
        if (kek)
                provider_aws.kek_free(kek);
        kek = NULL;
        unlink(credentials_path);
        rmdir(directory);
        teardown();
}

/* ---- what KMS says ---- */

const char *reply(int status, const char *headers, const char *format, ...)
{
        char *text = replies[next_reply++ % REPLIES], body[2048];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(body, sizeof(body), format, arguments);
        va_end(arguments);
        snprintf(text, sizeof(replies[0]),
                 "HTTP/1.1 %d Text\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: %zu\r\n%s\r\n%s",
                 status, strlen(body), headers, body);
        return text;
}

const char *generated(const char *arn)
{
        return reply(200, "",
                     "{\"CiphertextBlob\":\"" BLOB_BASE64 "\",\"Plaintext\":\"" KEY_BASE64
                     "\",\"KeyId\":\"%s\",\"New\":{\"a\":[1]}}",
                     arn);
}

const char *decrypted(const char *arn)
{
        return reply(200, "",
                     "{\"KeyId\":\"%s\",\"Plaintext\":\"" KEY_BASE64
                     "\",\"EncryptionAlgorithm\":\"SYMMETRIC_DEFAULT\"}",
                     arn);
}

const char *failed(int status, const char *code)
{
        return reply(status, "x-amzn-RequestId: 4711\r\n", "{\"__type\":\"%s\",\"message\":\"what AWS says\"}", code);
}

const char *described(const char *arn, const char *state, const char *usage, const char *spec)
{
        return reply(
                200, "",
                "{\"KeyMetadata\":{\"Arn\":\"%s\",\"Enabled\":%s,\"KeyState\":\"%s\",\"KeyUsage\":\"%s\",\"KeySpec\":\"%s\"}}",
                arn, strcmp(state, "Enabled") == 0 ? "true" : "false", state, usage, spec);
}

void kms_says(size_t n, const char *const *texts)
{
        ck_assert_uint_le(n, REPLIES);
        for (size_t i = 0; i < n; i++)
                script[i] = (struct http_server_reply){ .text = texts[i] };
        answer_with(script, n);
}

bool request_has(const char *text)
{
        return strstr(server.request, text) != NULL;
}

/* ---- operations ---- */

static void take(struct provider_call *call, const struct provider_result *result)
{
        struct asked *a = (struct asked *)(void *)call;

        a->n++;
        a->error = result->error;
        a->key = result->key ? secret_ref(result->key) : NULL;
        snprintf(a->sentence, sizeof(a->sentence), "%s", result->sentence ? result->sentence : "");
        snprintf(a->kek_id, sizeof(a->kek_id), "%.*s", (int)result->kek_id.n, (const char *)result->kek_id.data);
        snprintf(a->wrapped, sizeof(a->wrapped), "%.*s", (int)result->wrapped.n, (const char *)result->wrapped.data);
}

struct asked *asked_new(uint64_t timeout_usec)
{
        struct asked *a = calloc(1, sizeof(*a));

        ck_assert_ptr_nonnull(a);
        a->call = (struct provider_call){ take, clock_boottime_usec() + timeout_usec };
        return a;
}

void asked_wait(struct asked *a)
{
        while (a->n == 0)
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        ck_assert_uint_eq(a->n, 1);
        if (a->error)
                ck_assert(*a->sentence && !a->key && !*a->kek_id && !*a->wrapped);
        ck_assert_ptr_null(strstr(a->sentence, "wJalr"));
        ck_assert(bytes_is_text(bytes_from_string(a->sentence)));
}

void asked_free(struct asked *a)
{
        secret_unref(a->key);
        free(a);
}

struct asked *generate(void)
{
        struct asked *a = asked_new(PLENTY);

        provider_aws.generate(kek, &a->call, &context);
        asked_wait(a);
        return a;
}

struct asked *unwrap(const char *record_id)
{
        struct asked *a = asked_new(PLENTY);

        provider_aws.unwrap(kek, &a->call, bytes_from_string(record_id), BYTES_LITERAL(BLOB), &context);
        asked_wait(a);
        return a;
}

struct asked *rewrap(const char *record_id)
{
        struct asked *a = asked_new(PLENTY);

        provider_aws.rewrap(kek, &a->call, bytes_from_string(record_id), BYTES_LITERAL(BLOB), &context);
        asked_wait(a);
        return a;
}

void expect(struct asked *a, enum proto_error error, unsigned n_requests)
{
        ck_assert_msg(a->error == error, "%s instead of %s: %s", a->error ? proto_error_name(a->error) : "no error",
                      proto_error_name(error), a->sentence);
        ck_assert_uint_eq(server.n_requests, n_requests);
        asked_free(a);
}
