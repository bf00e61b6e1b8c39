/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca: a certificate authority that lives as long as the program: its key is never written. It signs the server's
 * certificate, and one for a client.
 */
#pragma once

#include <openssl/types.h>

struct ca {
        EVP_PKEY *key;
        X509 *certificate;
};

/** ca_init() - Return: 0, or -EIO when OpenSSL fails. */
int ca_init(struct ca *ca);
void ca_deinit(struct ca *ca);
/** ca_server_context() - TLS 1.2 or later, for localhost, 127.0.0.1 and ::1; asks a client for its certificate and takes any. */
int ca_server_context(const struct ca *ca, SSL_CTX **ret_context);
/** ca_write_files() - ca.pem, client.pem and client-key.pem in @directory. Return: 0 or -errno. */
int ca_write_files(const struct ca *ca, const char *directory);
