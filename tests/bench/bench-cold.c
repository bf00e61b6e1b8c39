/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-cold: how long a key takes that is in no cache, beside a bare HTTPS call of the same kind to the same server, on a kept connection, in
 * the same run. The server speaks Vault's Transit.
 *
 *   bench-cold JSON-FILE ADDRESS CA-FILE TOKEN
 */
#include <curl/curl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "client/connection.h"
#include "tests/bench/samples.h"

enum { ROUNDS = 20, IN_ROUND = 20 };

static _Noreturn void fail(const char *what, const char *why)
{
        fprintf(stderr, "bench-cold: %s: %s\n", what, why);
        exit(1);
}

static void must(int error, const struct lkm *lkm)
{
        if (error)
                fail(lkm_error_name(error), lkm_error_message(lkm));
}

/* ---- the bare call ---- */

struct answer {
        char text[4096];
        size_t n;
};

struct bare {
        CURL *easy;
        struct curl_slist *headers;
        char url[512], body[1024];
        struct answer answer;
};

static size_t take(char *data, size_t size, size_t n, void *userdata)
{
        struct answer *a = userdata;

        n *= size;
        if (n > sizeof(a->text) - a->n)
                return 0;
        memcpy(a->text + a->n, data, n);
        a->n += n;
        return n;
}

static void ask(struct bare *b)
{
        CURLcode code;
        long status = 0;

        b->answer.n = 0;
        code = curl_easy_perform(b->easy);
        curl_easy_getinfo(b->easy, CURLINFO_RESPONSE_CODE, &status);
        if (code != CURLE_OK || status != 200)
                fail(b->url, code != CURLE_OK ? curl_easy_strerror(code) : "the answer is not 200");
}

static void bare_init(struct bare *b, const char *address, const char *ca, const char *token)
{
        char header[256];
        json_t *made;

        *b = (struct bare){ .easy = curl_easy_init() };
        snprintf(header, sizeof(header), "X-Vault-Token: %s", token);
        b->headers = curl_slist_append(b->headers, header);
        snprintf(b->url, sizeof(b->url), "%s/v1/transit/datakey/plaintext/lkm", address);
        snprintf(b->body, sizeof(b->body), "{\"context\":\"YmVuY2g=\"}");
        curl_easy_setopt(b->easy, CURLOPT_URL, b->url);
        curl_easy_setopt(b->easy, CURLOPT_CAINFO, ca);
        curl_easy_setopt(b->easy, CURLOPT_HTTPHEADER, b->headers);
        curl_easy_setopt(b->easy, CURLOPT_POSTFIELDS, b->body);
        curl_easy_setopt(b->easy, CURLOPT_WRITEFUNCTION, take);
        curl_easy_setopt(b->easy, CURLOPT_WRITEDATA, &b->answer);
        curl_easy_setopt(b->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        ask(b);
        made = json_loadb(b->answer.text, b->answer.n, 0, NULL);
        snprintf(b->body, sizeof(b->body), "{\"context\":\"YmVuY2g=\",\"ciphertext\":\"%s\"}",
                 json_string_value(json_object_get(json_object_get(made, "data"), "ciphertext")));
        json_decref(made);
        snprintf(b->url, sizeof(b->url), "%s/v1/transit/decrypt/lkm", address);
        curl_easy_setopt(b->easy, CURLOPT_URL, b->url);
        curl_easy_setopt(b->easy, CURLOPT_POSTFIELDS, b->body);
}

/* ---- the cold get ---- */

static struct bytes make_record(struct lkm *lkm)
{
        union message request = { .create = { .number_ = MESSAGE_CREATE } }, answer;
        uint8_t *copy;
        size_t n;

        must(connection_call(lkm, &request, MESSAGE_RECORD, &answer), lkm);
        n = answer.record.record.n;
        copy = malloc(n);
        if (!copy)
                abort();
        memcpy(copy, answer.record.record.data, n);
        connection_settle(lkm);
        return (struct bytes){ copy, n };
}

static void evict(struct lkm *lkm, struct bytes record)
{
        union message request = { .evict = { .number_ = MESSAGE_EVICT, .record = record } };
        char *report;

        must(connection_report(lkm, &request, &report), lkm);
        free(report);
}

int main(int argc, char **argv)
{
        FILE *json = argc == 5 ? fopen(argv[1], "ae") : NULL;
        struct samples bare, cold;
        struct figure figure;
        struct lkm_key *key;
        struct bytes record;
        struct lkm *lkm;
        struct bare b;
        double base;

        if (!json)
                fail("usage", "bench-cold JSON-FILE ADDRESS CA-FILE TOKEN");
        must(lkm_connect(&lkm, NULL), NULL);
        record = make_record(lkm);
        bare_init(&b, argv[2], argv[3], argv[4]);
        samples_init(&bare, (size_t)ROUNDS * IN_ROUND);
        samples_init(&cold, (size_t)ROUNDS * IN_ROUND);
        for (int round = 0; round < ROUNDS; round++) {
                for (int i = 0; i < IN_ROUND; i++) {
                        uint64_t begin = samples_now();

                        ask(&b);
                        samples_add(&bare, samples_now() - begin);
                }
                for (int i = 0; i < IN_ROUND; i++) {
                        uint64_t begin;

                        evict(lkm, record);
                        begin = samples_now();
                        must(lkm_get(lkm, record.data, record.n, NULL, &key), lkm);
                        samples_add(&cold, samples_now() - begin);
                        lkm_key_free(&key);
                }
        }
        figure = figure_of("floor: bare HTTPS call to the KMS", &bare, 0, "");
        base = figure.median_usec;
        figure.base_usec = base;
        figure_print(&figure, json);
        figure = figure_of("cold get, through lkm and the same KMS", &cold, base, "<= floor + 1 ms");
        figure_print(&figure, json);
        lkm_free(&lkm);
        curl_slist_free_all(b.headers);
        curl_easy_cleanup(b.easy);
        return fclose(json) == 0 ? 0 : 1;
}
