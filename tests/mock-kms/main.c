/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkm-mock-kms: AWS KMS, STS, instance metadata and Vault Transit for tests, all in one process. It enforces what the
 * real services enforce, and protects nothing: every key lies in plain memory, and whoever reaches its port commands it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <sys/stat.h>

#include "common/log.h"
#include "tests/mock-kms/ca.h"
#include "tests/mock-kms/server.h"
#include "tests/mock-kms/text.h"

/** A --listen or --listen-tls. */
struct listen_address {
        struct sockaddr_storage address;
        int n;
        unsigned port; /* once it is bound */
};

struct arguments {
        struct listen_address plain, tls; /* n = 0 when not asked for */
        const char *directory; /* or NULL */
};

DEFINE_CLEANUP(struct event_base *, event_base_free)
DEFINE_CLEANUP(struct event *, event_free)
DEFINE_CLEANUP(struct server *, server_free)
DEFINE_CLEANUP(SSL_CTX *, SSL_CTX_free)

static void print_help(void)
{
        puts("lkm-mock-kms --listen ADDRESS:PORT [--listen-tls ADDRESS:PORT] [--directory DIR]\n"
             "\n"
             "A test server that speaks AWS KMS, STS, EC2 and container credentials, and Vault Transit. It protects nothing.\n"
             "\n"
             "Options:\n"
             "  --listen ADDRESS:PORT      serve HTTP there; port 0 for any free one. Loopback addresses only\n"
             "  --listen-tls ADDRESS:PORT  serve HTTPS there, with a certificate by a CA made for this run\n"
             "  --directory DIR            write ca.pem, client.pem, client-key.pem and, last, ready to DIR\n"
             "  --version                  print the version\n"
             "  --help                     print this\n"
             "\n"
             "It prints one line of JSON with its ports when it is ready, and ends on SIGTERM or SIGINT, or when a pipe that is its\n"
             "standard input is closed. Tests set it up by requests to /mock/: see lkm-mock-kms(1).");
}

/* ---- command line ---- */

static bool is_loopback(const struct sockaddr_storage *address)
{
        if (address->ss_family == AF_INET)
                return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
        return address->ss_family == AF_INET6 &&
               IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

/* "127.0.0.1:PORT" or "[::1]:PORT". */
static int parse_numbers(struct listen_address *ret, char *text)
{
        struct sockaddr_in *four = (struct sockaddr_in *)&ret->address;
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)&ret->address;
        char *colon = strrchr(text, ':');
        size_t n = colon ? (size_t)(colon - text) : 0;
        uint64_t port;

        if (!n || !text_number(&port, colon + 1, UINT16_MAX))
                return -EINVAL;
        *colon = '\0';
        if (text[0] == '[' && text[n - 1] == ']') {
                text[n - 1] = '\0';
                *six = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
                ret->n = sizeof(*six);
                return inet_pton(AF_INET6, text + 1, &six->sin6_addr) == 1 ? 0 : -EINVAL;
        }
        *four = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
        ret->n = sizeof(*four);
        return inet_pton(AF_INET, text, &four->sin_addr) == 1 ? 0 : -EINVAL;
}

static int parse_address(struct listen_address *ret, const char *text)
{
        _cleanup_(freep) char *copy = text_copy(text);

        if (parse_numbers(ret, copy) < 0) {
                log_error("%s is not an address and port, such as 127.0.0.1:0 or [::1]:0", text);
                return -EINVAL;
        }
        if (!is_loopback(&ret->address)) {
                log_error(
                        "%s is not a loopback address. This server protects nothing and must not be reached from elsewhere",
                        text);
                return -EINVAL;
        }
        return 0;
}

/* Return: 0; 1 when all is done; -EINVAL. */
static int parse_arguments(struct arguments *a, int argc, char **argv)
{
        enum { OPTION_LISTEN = 256, OPTION_LISTEN_TLS, OPTION_DIRECTORY, OPTION_VERSION, OPTION_HELP };
        static const struct option options[] = {
                { "listen", required_argument, NULL, OPTION_LISTEN },
                { "listen-tls", required_argument, NULL, OPTION_LISTEN_TLS },
                { "directory", required_argument, NULL, OPTION_DIRECTORY },
                { "version", no_argument, NULL, OPTION_VERSION },
                { "help", no_argument, NULL, OPTION_HELP },
                { 0 },
        };
        int option, r = 0;

        while (r == 0 && (option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                switch (option) {
                case OPTION_LISTEN:
                        r = parse_address(&a->plain, optarg);
                        break;
                case OPTION_LISTEN_TLS:
                        r = parse_address(&a->tls, optarg);
                        break;
                case OPTION_DIRECTORY:
                        a->directory = optarg;
                        break;
                case OPTION_VERSION:
                        puts("lkm-mock-kms " LKM_VERSION);
                        return 1;
                case OPTION_HELP:
                        print_help();
                        return 1;
                default:
                        return -EINVAL;
                }
        }
        if (r == 0 && (optind < argc || (!a->plain.n && !a->tls.n) || (a->tls.n && !a->directory))) {
                log_error("usage: lkm-mock-kms --listen ADDRESS:PORT [--listen-tls ADDRESS:PORT --directory DIR]");
                return -EINVAL;
        }
        return r;
}

/* ---- ready ---- */

static int write_ready(const char *directory, const char *line)
{
        _cleanup_(freep) char *path = text_format("%s/ready", directory),
                              *temporary = text_format("%s/ready.new", directory);
        _cleanup_(fclosep) FILE *file = fopen(temporary, "we");

        if (!file || fprintf(file, "%s\n", line) < 0 || fflush(file) != 0 || rename(temporary, path) < 0)
                return -errno;
        return 0;
}

static int say_ready(const struct arguments *a)
{
        json_t *ready = json_take(json_pack("{s:i}", "pid", (int)getpid()));
        _cleanup_(freep) char *line = NULL, *ca = NULL;
        int r;

        if (a->plain.n)
                json_put(ready, "http", json_integer(a->plain.port));
        if (a->tls.n)
                json_put(ready, "https", json_integer(a->tls.port));
        if (a->directory) {
                ca = text_format("%s/ca.pem", a->directory);
                json_put(ready, "ca", json_string(ca));
        }
        line = json_dumps(ready, JSON_COMPACT);
        json_decref(ready);
        if (!line)
                abort();
        r = a->directory ? write_ready(a->directory, line) : 0;
        if (r < 0) {
                log_error("cannot write to %s: %s", a->directory, strerror(-r));
                return r;
        }
        puts(line);
        fflush(stdout);
        return 0;
}

/* ---- running ---- */

static void on_end(evutil_socket_t fd, short what, void *arg)
{
        event_base_loopbreak(arg);
}

static void on_input(evutil_socket_t fd, short what, void *arg)
{
        char skipped[256];
        ssize_t n = read(fd, skipped, sizeof(skipped));

        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
                event_base_loopbreak(arg);
}

/* A pipe or socket: what a test holds. A terminal or /dev/null says nothing about who started us. */
static bool input_is_watched(void)
{
        struct stat st;

        return fstat(STDIN_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

static int serve(struct event_base *base, const struct arguments *a)
{
        _cleanup_(event_freep) struct event *terminated = evsignal_new(base, SIGTERM, on_end, base);
        _cleanup_(event_freep) struct event *interrupted = evsignal_new(base, SIGINT, on_end, base);
        _cleanup_(event_freep) struct event *input =
                input_is_watched() ? event_new(base, STDIN_FILENO, EV_READ | EV_PERSIST, on_input, base) : NULL;
        int r;

        if (!terminated || !interrupted || event_add(terminated, NULL) < 0 || event_add(interrupted, NULL) < 0 ||
            (input && event_add(input, NULL) < 0))
                return -ENOMEM;
        r = say_ready(a);
        if (r < 0)
                return r;
        return event_base_dispatch(base) < 0 ? -EIO : 0;
}

static int listen_on(struct server *s, struct listen_address *l, int with_tls)
{
        int r = l->n ? server_listen(s, (struct sockaddr *)&l->address, l->n, with_tls, &l->port) : 0;

        if (r < 0)
                log_error("cannot listen on port %u: %s. Port 0 takes a free one",
                          ntohs(((const struct sockaddr_in *)&l->address)->sin_port), strerror(-r));
        return r;
}

static int make_ca(struct ca *ca, SSL_CTX **ret_context, const char *directory)
{
        int r = ca_init(ca);

        if (r == 0)
                r = ca_server_context(ca, ret_context);
        if (r == 0 && directory)
                r = ca_write_files(ca, directory);
        if (r < 0)
                log_error("cannot make certificates%s%s: %s", directory ? " in " : "", directory ? directory : "",
                          strerror(-r));
        return r;
}

static int run(struct arguments *a)
{
        _cleanup_(event_base_freep) struct event_base *base = event_base_new();
        __attribute__((__cleanup__(ca_deinit))) struct ca ca = { 0 };
        _cleanup_(SSL_CTX_freep) SSL_CTX *context = NULL;
        _cleanup_(server_freep) struct server *server = NULL;
        int r = base ? make_ca(&ca, &context, a->directory) : -ENOMEM;

        if (r < 0)
                return r;
        server = server_new(base, context);
        r = listen_on(server, &a->plain, 0);
        if (r == 0)
                r = listen_on(server, &a->tls, 1);
        return r == 0 ? serve(base, a) : r;
}

int main(int argc, char **argv)
{
        struct arguments a = { 0 };
        int r;

        log_init("lkm-mock-kms", LOG_LEVEL_INFO);
        r = parse_arguments(&a, argc, argv);
        if (r != 0)
                return r < 0 ? 2 : EXIT_SUCCESS;
        signal(SIGPIPE, SIG_IGN);
        log_notice(
                "this is a test server: it protects nothing, and whoever can connect to it can read and change everything in it");
        return run(&a) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
