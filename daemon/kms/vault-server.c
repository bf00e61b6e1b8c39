/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/vault-server.h"

#include <errno.h>

#define HTTPS "https://"

/* A copy of @text without slashes at its end. */
static char *trimmed(const char *text)
{
        size_t n = strlen(text);

        while (n > 0 && text[n - 1] == '/')
                n--;
        return strndup(text, n);
}

int vault_server_init(struct vault_server *s, const struct config_kek *config, const struct kms_environment *environment)
{
        *s = (struct vault_server){ .config = config, .environment = environment };
        if (http_host(config->address, s->host, sizeof(s->host)) < 0)
                return -EINVAL;
        s->address = trimmed(config->address);
        s->namespace = config->namespace ? trimmed(config->namespace) : NULL;
        s->names = (struct vault_names){ .host = s->host, .mount = config->mount, .key = config->kek_id, .permission = "" };
        return s->address && (s->namespace || !config->namespace) ? 0 : -ENOMEM;
}

void vault_server_deinit(struct vault_server *s)
{
        free(TAKE_PTR(s->address));
        free(TAKE_PTR(s->namespace));
}

char *vault_server_url(const struct vault_server *s, const char *path)
{
        char *url;

        return asprintf(&url, "%s/v1/%s", s->address, path) < 0 ? NULL : url;
}

static void header_add(struct http_request *request, const char *name, const char *value, struct secret *secret)
{
        request->headers[request->n_headers++] =
                (struct http_header){ .name = name, .value = value ? bytes_from_string(value) : (struct bytes){ 0 }, .secret = secret };
}

void vault_server_request(const struct vault_server *s, struct http_request *ret_request, const char *method, struct secret *token)
{
        *ret_request = (struct http_request){ .method = method,
                                              .transport = { .ca_file = s->config->ca_file,
                                                             .client_certificate = s->config->client_certificate,
                                                             .client_key = s->config->client_key,
                                                             .proxy = s->config->proxy } };
        header_add(ret_request, "X-Vault-Request", "true", NULL);
        header_add(ret_request, "Content-Type", "application/json", NULL);
        if (s->namespace)
                header_add(ret_request, "X-Vault-Namespace", s->namespace, NULL);
        if (token)
                header_add(ret_request, "X-Vault-Token", NULL, token);
}

/* ---- redirections ---- */

/* Whether @host, with ":PORT" where it is not the scheme's own, is one of the words of redirect_hosts. A word without a port means any. */
static bool host_is_named(const struct vault_server *s, const char *host)
{
        const char *word = s->config->redirect_hosts;

        if (strcasecmp(host, s->host) == 0)
                return true;
        while (word && *word) {
                size_t n = strcspn(word, " "), n_host = strlen(host);
                const char *colon = memrchr(word, ':', n);
                bool any_port = !colon || memchr(colon, ']', n - (size_t)(colon - word));

                if (any_port)
                        n_host = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
                if (n == n_host && strncasecmp(word, host, n) == 0)
                        return true;
                word += n + strspn(word + n, " ");
        }
        return false;
}

bool vault_server_may_follow(const struct vault_server *s, const char *path, const char *location)
{
        bool is_https = strncasecmp(location, HTTPS, strlen(HTTPS)) == 0, was_https = strncasecmp(s->address, HTTPS, strlen(HTTPS)) == 0;
        const char *rest = strstr(location, "://");
        char host[VAULT_HOST_MAX];

        /* http:// only from http://, which the configuration allows to this machine alone; http_start() looks at that again. */
        if (!rest || (!is_https && (was_https || strncasecmp(location, "http://", 7) != 0)))
                return false;
        rest += 3;
        rest += strcspn(rest, "/?#");
        if (http_host(location, host, sizeof(host)) < 0 || strchr(location, '@') || !host_is_named(s, host))
                return false;
        return strncmp(rest, "/v1/", 4) == 0 && strcmp(rest + 4, path) == 0;
}
