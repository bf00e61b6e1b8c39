/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/aws-ask.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>

char folder[64];
struct aws_surroundings around;
static struct route *routes;
static size_t n_routes;

const char *text(const char *format, ...)
{
        static char texts[8][16384];
        static size_t i;
        va_list arguments;
        char *to = texts[i++ % ELEMENTSOF(texts)];

        va_start(arguments, format);
        ck_assert_int_lt(vsnprintf(to, sizeof(texts[0]), format, arguments), (int)sizeof(texts[0]));
        va_end(arguments);
        return to;
}

const char *file(const char *name, const char *content, mode_t mode)
{
        const char *path = text("%s/%s", folder, name);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
        ck_assert_int_eq(fchmod(fd, mode), 0);
        close(fd);
        return path;
}

const char *base_url(const char *path)
{
        return text("http://127.0.0.1:%u%s", server.port, path);
}

const char *time_from_now(int64_t seconds)
{
        char time[CLOCK_TEXT_LENGTH + 1];

        clock_format(time, clock_wall_usec() + (uint64_t)(seconds * (int64_t)USEC_PER_SEC));
        return text("%s", time);
}

static void on_asked(struct http_server *s)
{
        static struct http_server_reply reply;
        static char answer[32768];

        for (size_t i = 0; i < n_routes; i++) {
                struct route *r = &routes[i];

                if (strncmp(s->request, r->begins, strlen(r->begins)) != 0)
                        continue;
                r->n_asked++;
                snprintf(r->request, sizeof(r->request), "%.*s", (int)sizeof(r->request) - 1, s->request);
                snprintf(answer, sizeof(answer), "HTTP/1.1 %d Whatever\r\n%sContent-Length: %zu\r\n\r\n%s", r->status, r->headers ? r->headers : "",
                         strlen(r->body ? r->body : ""), r->body ? r->body : "");
                reply = (struct http_server_reply){ r->status ? answer : NULL, false };
                s->script = &reply;
                s->n_script = 1;
                return;
        }
        ck_abort_msg("nobody answers to %s", s->request);
}

void serve(struct route *r, size_t n)
{
        routes = r;
        n_routes = n;
        server.asked = on_asked;
}

void aws_setup(void)
{
        static const char *const names[] = {
                "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
                "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_EC2_METADATA_DISABLED",
                "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS",
                "AWS_CREDENTIAL_EXPIRATION", "CREDENTIALS_DIRECTORY",
        };

        setup();
        snprintf(folder, sizeof(folder), "/tmp/lkm-aws-XXXXXX");
        ck_assert_ptr_nonnull(mkdtemp(folder));
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                unsetenv(names[i]);
        setenv("HOME", folder, 1);
        around = (struct aws_surroundings){ .base = base, .http = http };
}

void aws_teardown(void)
{
        DIR *directory = opendir(folder);
        struct dirent *entry;

        ck_assert_ptr_nonnull(directory);
        while ((entry = readdir(directory)))
                unlinkat(dirfd(directory), entry->d_name, 0);
        closedir(directory);
        ck_assert_int_eq(rmdir(folder), 0);
        teardown();
}

static void take(struct aws_way_call *call, struct aws_credentials *credentials, enum proto_error error, const char *why)
{
        struct way_outcome *o = (struct way_outcome *)(void *)call;

        o->n++;
        o->credentials = credentials ? aws_credentials_ref(credentials) : NULL;
        o->error = error;
        snprintf(o->why, sizeof(o->why), "%s", why);
        ck_assert_int_eq(credentials == NULL, error != PROTO_ERROR_NONE);
        ck_assert_int_eq(credentials == NULL, *why != '\0');
}

void way_outcome_init(struct way_outcome *o)
{
        *o = (struct way_outcome){ .call = { take } };
}

void way_outcome_deinit(struct way_outcome *o)
{
        o->credentials = aws_credentials_unref(o->credentials);
}

void way_wait(struct way_outcome *o)
{
        while (o->n == 0)
                ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
        ck_assert_uint_eq(o->n, 1);
}

bool secret_is(struct secret *secret, const char *expected)
{
        uint8_t *view;
        bool same;

        if (!secret)
                return !*expected;
        view = secret_view_begin(secret);
        same = bytes_equal((struct bytes){ view, secret_size(secret) }, bytes_from_string(expected));
        secret_view_end(secret, &view);
        return same;
}
