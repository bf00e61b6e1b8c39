/* SPDX-License-Identifier: Apache-2.0 */
/* The part of http that is about URLs: libcurl's own parser, so that what is checked here is what is asked later. */
#include <arpa/inet.h>
#include <errno.h>

#include "daemon/kms/http-transfer.h"

/* Where metadata services listen; no router carries these addresses. */
static const char *const metadata_v4[] = { "169.254.169.254", "169.254.170.2", "169.254.170.23" };
static const char *const metadata_v6[] = { "fd00:ec2::254", "fd00:ec2::23" };

/* Copy one part; @wanted: its absence is an error. */
static int part(CURLU *u, CURLUPart what, unsigned flags, char *ret_text, size_t n, bool wanted)
{
        char *text = NULL;
        int r = -EINVAL;

        *ret_text = '\0';
        if (curl_url_get(u, what, &text, flags) != CURLUE_OK)
                return wanted ? -EINVAL : 0;
        if (strlen(text) < n) {
                snprintf(ret_text, n, "%s", text);
                r = 0;
        }
        curl_free(text);
        return r;
}

static int parse(CURLU *u, struct http_url *ret_url, const char *url)
{
        char scheme[8], port[8], user[2], password[2];
        int n;

        /* A user name would end up in a header, and the URL in a sentence. */
        if (curl_url_set(u, CURLUPART_URL, url, CURLU_PATH_AS_IS) != CURLUE_OK ||
            part(u, CURLUPART_SCHEME, 0, scheme, sizeof(scheme), true) < 0 ||
            part(u, CURLUPART_USER, 0, user, sizeof(user), false) < 0 || user[0] ||
            part(u, CURLUPART_PASSWORD, 0, password, sizeof(password), false) < 0 || password[0] ||
            part(u, CURLUPART_HOST, 0, ret_url->name, sizeof(ret_url->name), true) < 0 ||
            part(u, CURLUPART_PORT, CURLU_NO_DEFAULT_PORT, port, sizeof(port), false) < 0)
                return -EINVAL;
        ret_url->https = strcmp(scheme, "https") == 0;
        if ((!ret_url->https && strcmp(scheme, "http") != 0) || !bytes_is_text(bytes_from_string(ret_url->name)))
                return -EINVAL;
        n = snprintf(ret_url->host, sizeof(ret_url->host), "%s%s%s", ret_url->name, port[0] ? ":" : "", port);
        return n > 0 && (size_t)n < sizeof(ret_url->host) ? 0 : -EINVAL;
}

int http_url_parse(struct http_url *ret_url, const char *url)
{
        CURLU *u = curl_url();
        int r = u ? parse(u, ret_url, url) : -EINVAL;

        curl_url_cleanup(u);
        return r;
}

static bool is_one_of(int family, const void *address, size_t n, const char *const *list, size_t n_list)
{
        uint8_t other[16];

        for (size_t i = 0; i < n_list; i++)
                if (inet_pton(family, list[i], other) == 1 &&
                    bytes_equal((struct bytes){ address, n }, (struct bytes){ other, n }))
                        return true;
        return false;
}

bool http_url_allowed(const struct http_url *url)
{
        static const uint8_t loopback_v6[16] = { [15] = 1 };
        uint8_t address[16];
        char text[64];
        size_t n = strlen(url->name);

        /* libcurl does not ask name servers for this name. */
        if (url->https || strcasecmp(url->name, "localhost") == 0)
                return true;
        if (inet_pton(AF_INET, url->name, address) == 1)
                return address[0] == 127 || is_one_of(AF_INET, address, 4, metadata_v4, ELEMENTSOF(metadata_v4));
        if (n < 3 || n >= sizeof(text) || url->name[0] != '[')
                return false;
        snprintf(text, sizeof(text), "%.*s", (int)(n - 2), url->name + 1);
        return inet_pton(AF_INET6, text, address) == 1 &&
               (bytes_equal((struct bytes){ address, 16 }, (struct bytes){ loopback_v6, 16 }) ||
                is_one_of(AF_INET6, address, 16, metadata_v6, ELEMENTSOF(metadata_v6)));
}

int http_host(const char *url, char *ret_host, size_t n)
{
        struct http_url parsed;

        if (http_url_parse(&parsed, url) < 0 || strlen(parsed.host) >= n)
                return -EINVAL;
        snprintf(ret_host, n, "%s", parsed.host);
        return 0;
}
