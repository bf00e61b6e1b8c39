/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake-resolver: an LD_PRELOAD library for tests. Names under .test are this machine's, while the file FAKE_RESOLVER exists; without it, no name
 * server answers.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **ret_addresses)
{
        const char *file = getenv("FAKE_RESOLVER");
        size_t n = name ? strlen(name) : 0;

        if (n > 5 && strcmp(name + n - 5, ".test") == 0) {
                if (!file || access(file, F_OK) < 0)
                        return EAI_AGAIN;
                name = "127.0.0.1";
        }
        return NEXT(getaddrinfo)(name, service, hints, ret_addresses);
}
