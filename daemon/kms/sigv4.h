/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sigv4: AWS Signature Version 4, for a request in its parts. Pure but for a cache of the derived key. By AWS's "Signature Version 4 signing
 * process" (Reference, Create a signed AWS API request).
 */
#pragma once

#include "common/bytes.h"
#include "common/secret.h"

#define SIGV4_HEADERS_MAX 32
/** "20150830T123600Z" and a NUL. */
#define SIGV4_TIME_SIZE 17
#define SIGV4_AUTHORIZATION_MAX 1024

struct sigv4_header {
        struct bytes name, value; /* as sent; the same name may occur again */
};

struct sigv4_request {
        struct bytes method;
        struct bytes path;  /* as sent, before any normalizing; "/" for KMS and STS */
        struct bytes query; /* without '?' */
        size_t n_headers;
        const struct sigv4_header *headers; /* all of these are signed; host and x-amz-date must be among them */
        struct bytes payload_hash; /* 64 hex digits: sigv4_hash() of the body */
        bool normalize_path; /* remove dot segments and doubled slashes: all services but S3 */
};

/** The derived key of one day, region and service. Zero to begin with; owned by who asks. */
struct sigv4_key {
        char day[9], region[64], service[32], access_key_id[129];
        struct secret *key;
};
void sigv4_key_deinit(struct sigv4_key *key);

/** sigv4_time() - "YYYYMMDDTHHMMSSZ" in UTC. */
void sigv4_time(char ret_time[SIGV4_TIME_SIZE], uint64_t wall_usec);
/** sigv4_hash() - 64 lower-case hex digits of SHA-256 and a NUL. Return: 0 or -EIO. */
int sigv4_hash(char ret_hash[65], struct bytes data);

/**
 * sigv4_sign() - the value of the Authorization header
 * @key:           cache, made anew when day, region, service or @access_key_id changed, which whoever has new credentials under the same id
 *                 forces by sigv4_key_deinit()
 * @secret_access_key: borrowed
 * @time:          the value of x-amz-date
 * Return: 0; -EINVAL for a request over the limits; -ENOMEM, -ENOBUFS, -EIO.
 */
int sigv4_sign(char ret_authorization[SIGV4_AUTHORIZATION_MAX], struct sigv4_key *key, const struct sigv4_request *request,
               const char *access_key_id, struct secret *secret_access_key, const char *region, const char *service, const char *time);

/* For the tests against the official suite: the steps. Release with secret_free(): header values may be session tokens. */
char *sigv4_canonical_request(const struct sigv4_request *request);
