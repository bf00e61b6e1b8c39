/* SPDX-License-Identifier: Apache-2.0 */
/* config-kek: the options of [kek NAME]: their parsers, and what each kms_type needs. */
#include <arpa/inet.h>
#include <errno.h>

#include "daemon/config-parse.h"

enum { TEXT_MAX = 2048 };

int config_credential_path(char **ret_path, const char *name)
{
        static const char *const prefixes[] = { "", "lkm.", "lkm_", "lkm_encrypted_" };
        const char *folder = getenv("CREDENTIALS_DIRECTORY");

        if (!folder)
                return -ENOENT;
        for (size_t i = 0; i < ELEMENTSOF(prefixes); i++) {
                _cleanup_(freep) char *path = NULL;

                if (asprintf(&path, "%s/%s%s", folder, prefixes[i], name) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                if (access(path, F_OK) == 0) {
                        *ret_path = TAKE_PTR(path);
                        return 0;
                }
        }
        return asprintf(ret_path, "%s/%s", folder, name) < 0 ? -ENOMEM : 0;
}

int config_parse_file(struct config *config, void *at, const char *value, const char **ret_why)
{
        static const char prefix[] = "credential:";
        const char *name = value + sizeof(prefix) - 1;
        _cleanup_(freep) char *path = NULL;
        int r;

        if (strncmp(value, prefix, sizeof(prefix) - 1) != 0) {
                if (*value != '/')
                        return config_refuse(ret_why, "give an absolute path, or credential:NAME");
                return config_set_string(at, value);
        }
        if (!config_name_is_valid(name))
                return config_refuse(ret_why, "give the credential's name after the colon: letters, digits, '.', '_' and '-', at most 64");
        r = config_credential_path(&path, name);
        if (r == -ENOENT) /* lkmd, or a check by hand: who opens the file says what is missing */
                return config_set_string(at, value);
        return r < 0 ? r : config_set_string(at, path);
}

static bool is_printable(const char *text, char low)
{
        for (; *text; text++) {
                if (*text < low || *text > '~')
                        return false;
        }
        return true;
}

int config_parse_text(struct config *config, void *at, const char *value, const char **ret_why)
{
        if (!*value || strlen(value) > TEXT_MAX || !is_printable(value, '!'))
                return config_refuse(ret_why, "give printable ASCII without white space, at most 2048 bytes");
        return config_set_string(at, value);
}

int config_parse_words(struct config *config, void *at, const char *value, const char **ret_why)
{
        size_t n = strlen(value);

        if (n == 0 || !is_printable(value, ' ') || strstr(value, "  ") || *value == ' ' || value[n - 1] == ' ')
                return config_refuse(ret_why, "give words of printable ASCII with one space between");
        return config_set_string(at, value);
}

/* Length of the host in "HOST[:PORT][/PATH]", brackets of an IPv6 address included; 0 when there is none. */
static size_t host_length(const char *text)
{
        const char *end = *text == '[' ? strchr(text, ']') : NULL;

        return end ? (size_t)(end + 1 - text) : strcspn(text, ":/?#@");
}

/* The address that @host is written as. Return: AF_INET, AF_INET6 (in brackets), or 0 for a name. */
static int host_address(uint8_t ret_address[16], const char *host, size_t n)
{
        char text[INET6_ADDRSTRLEN];

        if (n >= sizeof(text))
                return 0;
        if (*host == '[')
                snprintf(text, sizeof(text), "%.*s", (int)(n - 2), host + 1);
        else
                snprintf(text, sizeof(text), "%.*s", (int)n, host);
        if (*host == '[')
                return inet_pton(AF_INET6, text, ret_address) == 1 ? AF_INET6 : 0;
        return inet_pton(AF_INET, text, ret_address) == 1 ? AF_INET : 0;
}

static bool host_is_here(const char *host, size_t n)
{
        static const uint8_t loopback[16] = { [15] = 1 };
        uint8_t address[16];

        switch (host_address(address, host, n)) {
        case AF_INET:
                return address[0] == 127;
        case AF_INET6:
                return bytes_equal((struct bytes){ address, 16 }, (struct bytes){ loopback, 16 });
        default:
                return n == strlen("localhost") && strncasecmp(host, "localhost", n) == 0;
        }
}

static bool host_is_valid(const char *host, size_t n)
{
        uint8_t address[16];

        if (n > 0 && *host == '[')
                return host[n - 1] == ']' && host_address(address, host, n) == AF_INET6;
        return n > 0 && strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_") == n;
}

/* What may follow the scheme. */
static bool authority_is_valid(const char *text, bool path_too)
{
        size_t n = host_length(text);
        const char *rest = text + n;
        unsigned port;
        char digits[6];

        if (!host_is_valid(text, n))
                return false;
        if (*rest == ':') {
                n = strcspn(++rest, "/");
                if (n == 0 || n >= sizeof(digits))
                        return false;
                memcpy(digits, rest, n);
                digits[n] = 0;
                if (config_parse_range(&port, digits, 1, 65535) < 0)
                        return false;
                rest += n;
        }
        return !*rest || (path_too && *rest == '/' && !strpbrk(rest, "?#@\\ "));
}

int config_parse_url(struct config *config, void *at, const char *value, const char **ret_why)
{
        bool plain = strncmp(value, "http://", 7) == 0;
        const char *rest = value + (plain ? 7 : 8);

        if (strlen(value) > TEXT_MAX || !is_printable(value, '!') || (!plain && strncmp(value, "https://", 8) != 0) ||
            !authority_is_valid(rest, true))
                return config_refuse(ret_why, "give a URL, https://HOST[:PORT], without a user or a query");
        if (plain && !host_is_here(rest, host_length(rest)))
                return config_refuse(ret_why, "keys travel only by https://; http:// is for 127.0.0.1, [::1] and localhost");
        return config_set_string(at, value);
}

int config_parse_proxy(struct config *config, void *at, const char *value, const char **ret_why)
{
        const char *rest = strstr(value, "://");

        if (strlen(value) > TEXT_MAX || !is_printable(value, '!') || !rest ||
            (strncmp(value, "http://", 7) != 0 && strncmp(value, "https://", 8) != 0) || !authority_is_valid(rest + 3, false))
                return config_refuse(ret_why, "give a proxy as http://HOST:PORT or https://HOST:PORT");
        return config_set_string(at, value);
}

int config_parse_mount(struct config *config, void *at, const char *value, const char **ret_why)
{
        size_t n = strlen(value);

        if (n == 0 || n > 256 || *value == '/' || value[n - 1] == '/' || strstr(value, "//") || strstr(value, "..") ||
            strstr(value, "./") || value[n - 1] == '.' || strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/") != n)
                return config_refuse(ret_why, "give a path of letters, digits, '.', '_', '-' and '/' between, neither first nor last; no part ends in a dot");
        return config_set_string(at, value);
}

static int parse_word(int *ret_i, const char *value, const char *const *words, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (strcmp(value, words[i]) == 0) {
                        *ret_i = (int)i;
                        return 0;
                }
        }
        return -EINVAL;
}

static const char *const kms_types[] = {
        [KMS_TYPE_LOCAL] = "local", [KMS_TYPE_AWS] = "aws", [KMS_TYPE_VAULT] = "vault", [KMS_TYPE_SOCKET] = "socket" };

const char *kms_type_text(enum kms_type type)
{
        return kms_types[type];
}

int config_parse_kms_type(struct config *config, void *at, const char *value, const char **ret_why)
{
        int i;

        if (parse_word(&i, value, kms_types, ELEMENTSOF(kms_types)) < 0)
                return config_refuse(ret_why, "give local, aws, vault or socket");
        *(enum kms_type *)at = (enum kms_type)i;
        return 0;
}

int config_parse_vault_auth(struct config *config, void *at, const char *value, const char **ret_why)
{
        static const char *const methods[] = { [VAULT_AUTH_TOKEN] = "token", [VAULT_AUTH_APPROLE] = "approle",
                                               [VAULT_AUTH_KUBERNETES] = "kubernetes", [VAULT_AUTH_JWT] = "jwt",
                                               [VAULT_AUTH_CERT] = "cert" };
        int i;

        if (parse_word(&i, value, methods, ELEMENTSOF(methods)) < 0)
                return config_refuse(ret_why, "give token, approle, kubernetes, jwt or cert");
        *(enum vault_auth *)at = (enum vault_auth)i;
        return 0;
}

/* ---- what belongs together ---- */

static bool is_either(const char *a, const char *b)
{
        return !a != !b;
}

static int local_check(const struct config_kek *kek, const char **ret_why)
{
        return is_either(kek->kek_file, kek->kek_credential) ? 0
                                                             : config_refuse(ret_why, "needs either kek_file or kek_credential");
}

static int aws_check(const struct config_kek *kek, const char **ret_why)
{
        if (!kek->kek_id)
                return config_refuse(ret_why, "needs kek_id: a key ARN, a key id, alias/NAME or an alias ARN");
        if (kek->endpoint && (kek->fips || kek->dual_stack))
                return config_refuse(ret_why, "has an endpoint of its own, which fips and dual_stack cannot change; give one or the other");
        if (!kek->region && strncmp(kek->kek_id, "arn:", 4) != 0)
                return config_refuse(ret_why, "needs a region, since its kek_id is no ARN");
        return 0;
}

static int vault_auth_check(const struct config_kek *kek, const char **ret_why)
{
        switch (kek->auth) {
        case VAULT_AUTH_TOKEN:
                return kek->token_file ? 0 : config_refuse(ret_why, "needs token_file for auth = token");
        case VAULT_AUTH_APPROLE:
                if (kek->secret_id_wrapped && (!kek->secret_id_file || !kek->role))
                        return config_refuse(ret_why, "needs secret_id_file, and role to check where a wrapped secret id comes from");
                return kek->role_id ? 0 : config_refuse(ret_why, "needs role_id for auth = approle");
        case VAULT_AUTH_KUBERNETES:
                return kek->role ? 0 : config_refuse(ret_why, "needs role for auth = kubernetes");
        case VAULT_AUTH_JWT:
                return kek->role && kek->jwt_file ? 0 : config_refuse(ret_why, "needs role and jwt_file for auth = jwt");
        case VAULT_AUTH_CERT:
                return kek->client_certificate ? 0 : config_refuse(ret_why, "needs client_certificate and client_key for auth = cert");
        }
        return -EINVAL;
}

static int vault_check(const struct config_kek *kek, const char **ret_why)
{
        if (!kek->kek_id || !config_name_is_valid(kek->kek_id))
                return config_refuse(ret_why, "needs kek_id: the name of the key in the transit engine");
        if (!kek->address)
                return config_refuse(ret_why, "needs an address, such as https://vault.example.org:8200");
        return vault_auth_check(kek, ret_why);
}

int config_kek_check(const struct config_kek *kek, const char **ret_why)
{
        if (is_either(kek->client_certificate, kek->client_key))
                return config_refuse(ret_why, "needs client_certificate and client_key both, or neither");
        switch (kek->kms_type) {
        case KMS_TYPE_LOCAL:
                return local_check(kek, ret_why);
        case KMS_TYPE_AWS:
                return aws_check(kek, ret_why);
        case KMS_TYPE_VAULT:
                return vault_check(kek, ret_why);
        case KMS_TYPE_SOCKET:
                return kek->provider_socket ? 0 : config_refuse(ret_why, "needs provider_socket: the socket of the provider");
        case KMS_TYPE_COUNT:
                break;
        }
        return -EINVAL;
}
