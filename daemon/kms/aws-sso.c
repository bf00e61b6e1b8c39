/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-sso.h"

#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>

#include "common/clock.h"
#include "daemon/kms/json-secret.h"

#define LOG_IN "Run `aws sso login` as the user of lkm-kms"

/* The cache names a file by the SHA-1 of the session's name or the start URL. */
static int token_path(char *ret_path, size_t n, const char *home, const char *cached_as)
{
        uint8_t hash[20];
        char name[2 * sizeof(hash) + 1];

        if (EVP_Digest(cached_as, strlen(cached_as), hash, NULL, EVP_sha1(), NULL) != 1)
                return -EIO;
        hex_format(name, hash, sizeof(hash));
        return snprintf(ret_path, n, "%s/.aws/sso/cache/%s.json", home, name) < (int)n ? 0 : -ENAMETOOLONG;
}

/* Return: 0; -EINVAL when there is none, -ETIME when it has expired. */
static int token_parse(struct secret **ret_token, struct secret *text)
{
        static const char *const keys[] = { "accessToken", "refreshToken", "clientSecret" };
        struct json_secret taken[ELEMENTSOF(keys)];
        const char *expires;
        uint64_t expires_usec;
        uint8_t *view;
        json_t *json;
        size_t n;
        int r = -EINVAL;

        if (!text || json_secret_take(text, keys, ELEMENTSOF(keys), taken, ELEMENTSOF(taken), &n) != 0)
                return -EINVAL;
        view = secret_view_begin(text);
        json = json_loadb((const char *)view, secret_size(text), JSON_REJECT_DUPLICATES, NULL);
        secret_view_end(text, &view);
        expires = json_string_value(json_object_get(json, "expiresAt"));
        if (expires && aws_answer_time(&expires_usec, expires) == 0)
                r = expires_usec <= clock_wall_usec() ? -ETIME : 0;
        json_decref(json);
        for (size_t i = 0; r == 0 && i < n && !*ret_token; i++)
                if (taken[i].i_key == 0 && taken[i].value)
                        *ret_token = secret_ref(taken[i].value);
        json_secret_deinit(taken, n);
        return r == 0 && !*ret_token ? -EINVAL : r;
}

static int token_read(struct secret **ret_token, const char *path, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        struct sentence why;
        int r = secret_file_read(&text, NULL, path, SECRET_FILE_OWN, &why);

        if (r < 0) {
                sentence_set(ret_why, "there is no token of SSO: %s. " LOG_IN, why.text);
                return r;
        }
        r = token_parse(ret_token, text);
        if (r < 0)
                sentence_set(ret_why, r == -ETIME ? "the token of SSO in %s has expired. " LOG_IN : "%s holds no token of SSO. " LOG_IN, path);
        return r;
}

int aws_sso_start(struct aws_get **ret_get, const struct aws_surroundings *around, const struct aws_settings *settings,
                  const struct aws_plan *plan, struct aws_way_call *call, struct sentence *ret_why)
{
        const char *home = aws_environment_text(settings->environment, "HOME");
        const char *endpoint = aws_environment_text(settings->environment, "AWS_ENDPOINT_URL_SSO");
        _cleanup_(secret_unrefp) struct secret *token = NULL;
        char path[1024], host[AWS_URL_MAX], url[AWS_GET_URL_MAX];
        int r = home ? token_path(path, sizeof(path), home, plan->sso.cached_as) : -ENOENT;

        if (r < 0) {
                sentence_set(ret_why, "the token of SSO cannot be found: %s", home ? strerror(-r) : "HOME is not set");
                return r;
        }
        r = token_read(&token, path, ret_why);
        if (r < 0)
                return r;
        if (aws_endpoint_url(host, "portal.sso", plan->sso.region, false, false) < 0 ||
            strspn(plan->sso.account_id, "0123456789") != strlen(plan->sso.account_id) ||
            strspn(plan->sso.role_name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_=,.@-") != strlen(plan->sso.role_name) ||
            snprintf(url, sizeof(url), "%s/federation/credentials?role_name=%s&account_id=%s", endpoint ? endpoint : host,
                     plan->sso.role_name, plan->sso.account_id) >= (int)sizeof(url)) {
                sentence_set(ret_why, "sso_region, sso_account_id or sso_role_name of the profile cannot be right");
                return -EINVAL;
        }
        return aws_get_start(ret_get, around,
                             &(struct aws_get_request){
                                     .url = url,
                                     .transport = &around->transport,
                                     .header = "x-amz-sso_bearer_token",
                                     .value = token,
                                     .kind = AWS_ANSWER_SSO,
                                     .n_attempts = 3,
                                     .timeout_usec = 5 * USEC_PER_SEC,
                                     .pause_usec = USEC_PER_SEC,
                                     .who = "SSO",
                                     .hint = LOG_IN,
                                     .source = plan->source,
                             },
                             call, ret_why);
}
