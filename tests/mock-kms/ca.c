/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/ca.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "tests/mock-kms/text.h"

enum { VALID_BEFORE_SECONDS = 7 * 24 * 3600, VALID_SECONDS = 30 * 24 * 3600 };

DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free)
DEFINE_CLEANUP(X509 *, X509_free)
DEFINE_CLEANUP(X509_EXTENSION *, X509_EXTENSION_free)
DEFINE_CLEANUP(SSL_CTX *, SSL_CTX_free)

/** What makes one certificate different from another. */
struct profile {
        const char *name;
        const char *constraints, *usage, *extended_usage, *alternative_names; /* or NULL */
};

static const struct profile profile_ca = { "lkm-mock-kms throw-away CA", "critical,CA:TRUE,pathlen:0",
                                           "critical,keyCertSign,cRLSign", NULL, NULL };
static const struct profile profile_server = { "lkm-mock-kms", "critical,CA:FALSE", "critical,digitalSignature",
                                               "serverAuth", "DNS:localhost,IP:127.0.0.1,IP:::1" };
static const struct profile profile_client = { "lkm-mock-client", "critical,CA:FALSE", "critical,digitalSignature",
                                               "clientAuth", "DNS:lkm-mock-client" };

static bool add_extension(X509 *certificate, X509V3_CTX *context, int nid, const char *value)
{
        _cleanup_(X509_EXTENSION_freep) X509_EXTENSION *extension =
                value ? X509V3_EXT_conf_nid(NULL, context, nid, value) : NULL;

        return !value || (extension && X509_add_ext(certificate, extension, -1) == 1);
}

static bool fill(X509 *certificate, const struct profile *p, EVP_PKEY *key, X509 *issuer)
{
        X509_NAME *subject = X509_get_subject_name(certificate);
        X509V3_CTX context;
        uint64_t serial;

        random_bytes((uint8_t *)&serial, sizeof(serial));
        X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
        return X509_set_version(certificate, X509_VERSION_3) == 1 &&
               ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1) == 1 &&
               X509_gmtime_adj(X509_getm_notBefore(certificate), -VALID_BEFORE_SECONDS) &&
               X509_gmtime_adj(X509_getm_notAfter(certificate), VALID_SECONDS) &&
               X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)p->name, -1, -1, 0) ==
                       1 &&
               X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1 &&
               X509_set_pubkey(certificate, key) == 1 &&
               add_extension(certificate, &context, NID_basic_constraints, p->constraints) &&
               add_extension(certificate, &context, NID_key_usage, p->usage) &&
               add_extension(certificate, &context, NID_ext_key_usage, p->extended_usage) &&
               add_extension(certificate, &context, NID_subject_alt_name, p->alternative_names) &&
               add_extension(certificate, &context, NID_subject_key_identifier, "hash") &&
               add_extension(certificate, &context, NID_authority_key_identifier,
                             issuer == certificate ? NULL : "keyid:always");
}

/* @ca: NULL for a certificate that signs itself. */
static int issue(EVP_PKEY **ret_key, X509 **ret_certificate, const struct profile *p, const struct ca *ca)
{
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *key = EVP_EC_gen("P-256");
        _cleanup_(X509_freep) X509 *certificate = X509_new();

        if (!key || !certificate || !fill(certificate, p, key, ca ? ca->certificate : certificate) ||
            X509_sign(certificate, ca ? ca->key : key, EVP_sha256()) <= 0)
                return -EIO;
        *ret_key = TAKE_PTR(key);
        *ret_certificate = TAKE_PTR(certificate);
        return 0;
}

int ca_init(struct ca *ca)
{
        *ca = (struct ca){ 0 };
        return issue(&ca->key, &ca->certificate, &profile_ca, NULL);
}

void ca_deinit(struct ca *ca)
{
        EVP_PKEY_free(ca->key);
        X509_free(ca->certificate);
}

/* Who a client is, is for Vault's cert login to judge, which asks SSL_get_verify_result(). */
static int take_any(int preverified, X509_STORE_CTX *store)
{
        return 1;
}

int ca_server_context(const struct ca *ca, SSL_CTX **ret_context)
{
        static const unsigned char session_id[] = "lkm-mock-kms";
        _cleanup_(SSL_CTX_freep) SSL_CTX *context = SSL_CTX_new(TLS_server_method());
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
        _cleanup_(X509_freep) X509 *certificate = NULL;
        int r = issue(&key, &certificate, &profile_server, ca);

        if (r < 0)
                return r;
        if (!context || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
            SSL_CTX_use_certificate(context, certificate) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1 ||
            SSL_CTX_add_client_CA(context, ca->certificate) != 1 ||
            X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca->certificate) != 1 ||
            SSL_CTX_set_session_id_context(context, session_id, sizeof(session_id) - 1) != 1)
                return -EIO;
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, take_any);
        *ret_context = TAKE_PTR(context);
        return 0;
}

static int open_file(FILE **ret_file, const char *directory, const char *name, mode_t mode)
{
        _cleanup_(freep) char *path = text_format("%s/%s", directory, name);
        _cleanup_(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);

        *ret_file = fd < 0 ? NULL : fdopen(fd, "w");
        if (!*ret_file)
                return -errno;
        TAKE_FD(fd);
        return 0;
}

static int write_certificate(const char *directory, const char *name, X509 *certificate)
{
        _cleanup_(fclosep) FILE *file = NULL;
        int r = open_file(&file, directory, name, 0644);

        return r < 0 ? r : PEM_write_X509(file, certificate) == 1 && fflush(file) == 0 ? 0 : -EIO;
}

static int write_key(const char *directory, const char *name, EVP_PKEY *key)
{
        _cleanup_(fclosep) FILE *file = NULL;
        int r = open_file(&file, directory, name, 0600);

        return r < 0                                                                                  ? r
               : PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) == 1 && fflush(file) == 0 ? 0
                                                                                                      : -EIO;
}

int ca_write_files(const struct ca *ca, const char *directory)
{
        _cleanup_(EVP_PKEY_freep) EVP_PKEY *key = NULL;
        _cleanup_(X509_freep) X509 *certificate = NULL;
        int r = issue(&key, &certificate, &profile_client, ca);

        if (r == 0)
                r = write_certificate(directory, "ca.pem", ca->certificate);
        if (r == 0)
                r = write_certificate(directory, "client.pem", certificate);
        return r == 0 ? write_key(directory, "client-key.pem", key) : r;
}
