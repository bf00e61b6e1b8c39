/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-container.h"

#include <arpa/inet.h>
#include <errno.h>

#include "common/clock.h"

#define ECS "http://169.254.170.2"

/* @host: with its port, brackets and all. A name but "localhost" could lead anywhere. */
static bool is_here_or_service(const char *host)
{
        static const char *const services[] = { "169.254.170.2", "169.254.170.23", "fd00:ec2::23" };
        uint8_t address[16], other[16];
        bool bracketed = *host == '[';
        char name[64];
        int n = bracketed ? (int)strcspn(host + 1, "]") : (int)strcspn(host, ":");
        int family = bracketed ? AF_INET6 : AF_INET;
        size_t n_address = bracketed ? 16 : 4;

        if (snprintf(name, sizeof(name), "%.*s", n, bracketed ? host + 1 : host) >= (int)sizeof(name))
                return false;
        if (strcasecmp(name, "localhost") == 0)
                return true;
        if (inet_pton(family, name, address) != 1)
                return false;
        if (family == AF_INET ? address[0] == 127 : inet_pton(AF_INET6, "::1", other) == 1 && bytes_equal((struct bytes){ address, 16 }, (struct bytes){ other, 16 }))
                return true;
        for (size_t i = 0; i < ELEMENTSOF(services); i++)
                if (inet_pton(family, services[i], other) == 1 &&
                    bytes_equal((struct bytes){ address, n_address }, (struct bytes){ other, n_address }))
                        return true;
        return false;
}

int aws_container_url(char ret_url[AWS_GET_URL_MAX], const char *relative, const char *full, struct sentence *ret_why)
{
        char host[256];

        if (snprintf(ret_url, AWS_GET_URL_MAX, "%s%s", relative ? ECS : "", relative ? relative : full) >= AWS_GET_URL_MAX ||
            (relative && *relative != '/') || http_host(ret_url, host, sizeof(host)) < 0) {
                sentence_set(ret_why, "%s is not %s", relative ? "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" : "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                             relative ? "a path that begins with '/'" : "a URL that can be asked");
                return -EINVAL;
        }
        if (strncasecmp(ret_url, "https://", 8) != 0 && !is_here_or_service(host)) {
                sentence_set(ret_why,
                             "AWS_CONTAINER_CREDENTIALS_FULL_URI names %s by http://, which is for this machine, 169.254.170.2, 169.254.170.23 and "
                             "[fd00:ec2::23] alone. Use https://",
                             host);
                return -EINVAL;
        }
        return 0;
}

int aws_container_start(struct aws_get **ret_get, const struct aws_surroundings *around, const struct aws_environment *environment,
                        const char *source, struct aws_way_call *call, struct sentence *ret_why)
{
        const char *token_file = aws_environment_text(environment, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        struct secret *variable = aws_environment_secret(environment, AWS_VARIABLE_CONTAINER_TOKEN);
        _cleanup_(secret_unrefp) struct secret *token = variable ? secret_ref(variable) : NULL;
        struct http_transport direct = { .ca_file = around->transport.ca_file };
        char url[AWS_GET_URL_MAX];
        int r = aws_container_url(url, aws_environment_text(environment, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
                                  aws_environment_text(environment, "AWS_CONTAINER_CREDENTIALS_FULL_URI"), ret_why);

        if (r == 0 && token_file) { /* wins, and is read each time: it is changed from outside */
                token = secret_unref(token);
                r = secret_file_read(&token, NULL, token_file, SECRET_FILE_PROJECTED, ret_why);
        }
        if (r < 0)
                return r;
        return aws_get_start(ret_get, around,
                             &(struct aws_get_request){
                                     .url = url,
                                     .transport = &direct,
                                     .header = token ? "Authorization" : NULL,
                                     .value = token,
                                     .kind = AWS_ANSWER_CONTAINER,
                                     .n_attempts = 3,
                                     .timeout_usec = 2 * USEC_PER_SEC,
                                     .pause_usec = USEC_PER_SEC,
                                     .who = "the container's credentials endpoint",
                                     .hint = "Check that the task or the pod has a role, and its authorization token",
                                     .source = source,
                             },
                             call, ret_why);
}
