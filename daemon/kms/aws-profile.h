/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-profile: the shared configuration and credentials files of the AWS SDKs, as sections of properties. Stricter than the SDKs: what they read in
 * different ways is refused. Secrets are kept for one profile, the one that is asked for, and go from the file's locked text straight into a
 * secret. Knows nothing of what the properties mean, but for which are secret. Fuzzed.
 */
#pragma once

#include "daemon/kms/secret-file.h"

enum aws_section_kind {
        AWS_SECTION_PROFILE,
        AWS_SECTION_SSO_SESSION,
        AWS_SECTION_SERVICES,
        AWS_SECTION_OTHER, /* of the configuration file, and none that means anything */
};

enum aws_profiles_file { AWS_PROFILES_CONFIG, AWS_PROFILES_CREDENTIALS };

struct aws_profiles;
struct aws_section;

/** aws_profiles_new() - none yet. Return: 0 or -ENOMEM. */
int aws_profiles_new(struct aws_profiles **ret_profiles);
struct aws_profiles *aws_profiles_free(struct aws_profiles *p);
DEFINE_CLEANUP(struct aws_profiles *, aws_profiles_free)

/**
 * aws_profiles_parse() - add what is in @text; the credentials file goes last, for its properties win
 * @path: for sentences
 * @keep: the profile whose secrets are kept; NULL = none
 * @ret_has_secrets: whether there is a secret anywhere in @text
 * Return: 0; -EINVAL with *ret_why filled, which quotes no value; -ENOMEM; -ENOBUFS. After a failure @p may hold a part of it.
 */
int aws_profiles_parse(struct aws_profiles *p, struct bytes text, enum aws_profiles_file file, const char *path, const char *keep,
                       bool *ret_has_secrets, struct sentence *ret_why);
/** aws_profiles_read() - aws_profiles_parse() of the file @path. Return: the same, or as secret_file_read(). */
int aws_profiles_read(struct aws_profiles *p, const char *path, enum aws_profiles_file file, const char *keep, struct sentence *ret_why);

/** aws_profiles_find() - or NULL. Borrowed from @p. */
const struct aws_section *aws_profiles_find(const struct aws_profiles *p, enum aws_section_kind kind, const char *name);
const char *aws_section_name(const struct aws_section *section);
/** aws_section_get() - the value of @key in lower case, or NULL when it is not there or empty; "OUTER.INNER" of a nested one. Of a secret: "", for
 *  it is there. Borrowed. */
const char *aws_section_get(const struct aws_section *section, const char *key);
/** aws_section_secret() - the secret @key, or NULL when it is not there or not kept. Borrowed. */
struct secret *aws_section_secret(const struct aws_section *section, const char *key);
