/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An answer over HTTP, of any bytes: what libcurl makes of it, what http-answer.c keeps, and what those make of that who ask AWS and Vault. A failure has
 * a sentence; what is kept is text; no slot stays behind.
 */
#include <sys/socket.h>

#include "daemon/kms/aws-error.h"
#include "daemon/kms/http-transfer.h"
#include "daemon/kms/vault-answer.h"
#include "tests/fuzz/fuzz.h"

static curl_socket_t open_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *address)
{
        return *(int *)userdata;
}

static int is_connected(void *userdata, curl_socket_t fd, curlsocktype purpose)
{
        return CURL_SOCKOPT_ALREADY_CONNECTED;
}

static void ask(struct http_transfer *t, struct bytes input, struct http_response *ret_response)
{
        int ends[2], size = 1 << 20;

        check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        check(input.n == 0 || send(ends[0], input.data, input.n, MSG_DONTWAIT) == (ssize_t)input.n);
        shutdown(ends[0], SHUT_WR);
        t->easy = curl_easy_init();
        check(t->easy && transfer_listen(t) == CURLE_OK);
        curl_easy_setopt(t->easy, CURLOPT_URL, "http://127.0.0.1/");
        curl_easy_setopt(t->easy, CURLOPT_ERRORBUFFER, t->error);
        curl_easy_setopt(t->easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(t->easy, CURLOPT_PROXY, "");
        curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
        curl_easy_setopt(t->easy, CURLOPT_OPENSOCKETDATA, &ends[1]);
        curl_easy_setopt(t->easy, CURLOPT_SOCKOPTFUNCTION, is_connected);
        t->met = t->connected = true;
        snprintf(t->host, sizeof(t->host), "127.0.0.1");
        transfer_answer(t, curl_easy_perform(t->easy), ret_response);
        close(ends[0]);
}

static void try_aws(const struct http_response *r)
{
        char code[AWS_ERROR_CODE_MAX + 1];
        struct sentence message;

        aws_error_read(code, &message, r);
        check(strlen(code) <= AWS_ERROR_CODE_MAX && bytes_is_text(bytes_from_string(code)) && bytes_is_text(bytes_from_string(message.text)));
        check(aws_error_class(code, r->status)->text != NULL);
}

static void try_vault(const struct http_response *r)
{
        static const struct vault_names names = { "127.0.0.1", "transit", "lkm", "update on transit/decrypt/lkm" };
        struct vault_answer answer;
        struct sentence sentence;

        check(vault_answer_parse(&answer, r->body) == 0);
        check(bytes_is_text(bytes_from_string(answer.text)) && bytes_is_text(bytes_from_string(answer.ignored)));
        for (unsigned kind = VAULT_KIND_TRANSIT; kind <= VAULT_KIND_TOKEN; kind *= 2) {
                const struct vault_meaning *meaning = vault_error_find((enum vault_kind)kind, r->status, answer.text);

                vault_error_sentence(&sentence, meaning, &names, r->status, answer.text);
                check(*sentence.text && bytes_is_text(bytes_from_string(sentence.text)));
        }
        vault_answer_deinit(&answer);
}

static void check_response(const struct http_response *r)
{
        static const char *const headers[] = { "location", "x-amzn-errortype", "x-amzn-requestid" };

        check((r->failure != HTTP_FAILURE_NONE) == (r->status == 0) && (r->failure != HTTP_FAILURE_NONE) == (r->what && *r->what));
        for (size_t i = 0; i < ELEMENTSOF(headers); i++)
                check(bytes_is_text(bytes_from_string(http_response_header(r, headers[i]))));
        check(!r->body || secret_size(r->body) <= HTTP_BODY_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        static bool ready;
        struct http_response response;
        struct http_transfer *t;

        check_arena();
        if (!ready)
                check(curl_global_init(CURL_GLOBAL_DEFAULT) == 0);
        ready = true;
        if (n > 200000)
                return 0;
        t = calloc(1, sizeof(*t));
        check(t != NULL);
        ask(t, (struct bytes){ data, n }, &response);
        check_response(&response);
        if (response.failure == HTTP_FAILURE_NONE) {
                try_aws(&response);
                try_vault(&response);
        }
        curl_easy_cleanup(t->easy);
        secret_unref(t->body);
        free(t);
        check_arena();
        return 0;
}
