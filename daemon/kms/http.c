/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/http.h"

#include <curl/curl.h>
#include <errno.h>

struct http {
        struct event_base *base;
        CURLM *multi;
};

int http_global_init(void)
{
        return curl_global_init_mem(CURL_GLOBAL_DEFAULT, secret_malloc, secret_free, secret_realloc, secret_strdup, secret_calloc) ==
                               CURLE_OK
                       ? 0
                       : -EIO;
}

int http_new(struct http **ret_http, struct event_base *base)
{
        _cleanup_(http_freep) struct http *h = calloc(1, sizeof(*h));

        if (!h)
                return -ENOMEM;
        h->base = base;
        h->multi = curl_multi_init();
        if (!h->multi)
                return -EIO;
        *ret_http = TAKE_PTR(h);
        return 0;
}

struct http *http_free(struct http *h)
{
        if (!h)
                return NULL;
        if (h->multi)
                curl_multi_cleanup(h->multi);
        free(h);
        return NULL;
}
