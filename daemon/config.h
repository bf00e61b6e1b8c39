/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config: /etc/lkm/lkmd.conf and its drop-ins, as one immutable, counted object. Shared by lkmd (all of it) and lkm-kms
 * (only [kms] and [kek …]). User and group names are resolved while reading (names.h), never later. A reload builds a second
 * object and swaps it in when it is good. Must not know of sockets or keys.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/cleanup.h"
#include "common/log.h"
#include "daemon/audit-sync.h"
#include "proto/frame.h"

/** One element of an `allow` or `admin` list. `text` is as written, for `lkmctl explain`. */
struct policy_rule {
        enum policy_rule_kind { POLICY_RULE_USER, POLICY_RULE_GROUP, POLICY_RULE_UNIT } kind; /* user:/uid:, group:/gid:, unit: */
        uint32_t id; /* of a user or group; a unit is known by the text behind its prefix */
        char *text;
};

#define POLICY_RULE_UNIT_PREFIX "unit:"

struct policy_rules {
        size_t n;
        struct policy_rule *rule;
};

/** What a [kek NAME] section is about. */
enum kms_type { KMS_TYPE_LOCAL, KMS_TYPE_AWS, KMS_TYPE_VAULT, KMS_TYPE_SOCKET, KMS_TYPE_COUNT };
/** kms_type_text() - as in kms_type = */
const char *kms_type_text(enum kms_type type);

/** How lkm-kms logs in to Vault. */
enum vault_auth { VAULT_AUTH_TOKEN, VAULT_AUTH_APPROLE, VAULT_AUTH_KUBERNETES, VAULT_AUTH_JWT, VAULT_AUTH_CERT };

/** [kek NAME]. Only what its kms_type has is ever set; strings are NULL when not given. A file is an absolute path:
 *  credential:NAME in the configuration has become the path under $CREDENTIALS_DIRECTORY, or stays as it is where there is none. */
struct config_kek {
        char *name;
        enum kms_type kms_type;
        char *kek_id; /* aws: key id, key ARN, alias/NAME or alias ARN; vault: name of the transit key */
        /* local */
        char *kek_file;
        char *kek_credential; /* name under $CREDENTIALS_DIRECTORY */
        /* aws */
        char *region;
        char *endpoint; /* URL of KMS, in place of the region's own */
        char *sts_endpoint;
        bool fips, dual_stack;
        char *grant_tokens; /* separated by spaces */
        char *profile;
        char *aws_config_file, *aws_credentials_file;
        bool aws_environment; /* read AWS_* variables */
        /* vault */
        char *address; /* URL */
        char *namespace;
        char *mount;
        enum vault_auth auth;
        char *auth_mount; /* NULL: named as the method */
        char *role, *role_id;
        char *secret_id_file;
        bool secret_id_wrapped; /* the file holds a wrapping token */
        char *token_file, *jwt_file;
        char *redirect_hosts; /* host[:port] separated by spaces: standbys may send lkm-kms there */
        /* aws and vault */
        char *ca_file;
        char *client_certificate, *client_key;
        char *proxy; /* URL */
        /* socket */
        char *provider_socket;
};

/** [scope NAME] */
struct config_scope {
        char *name;
        size_t n_keks;
        const struct config_kek **keks; /* in the order to try; the first one wraps first */
        struct pairs encryption_context; /* the user's pairs, sorted; borrowed from context_text */
        char *context_text;
        bool rotation_enabled;
        unsigned rotation_period_days;
        uint64_t cache_ttl_usec, stale_grace_usec, cache_max_age_usec;
        struct policy_rules allow;
        struct policy_rules allow_rotate;  /* rotation, rewrapping; as `allow` where the option is not given */
        struct policy_rules allow_recover; /* any version's key, to recover a database; as `allow_history` where the option is not given */
        struct policy_rules allow_history; /* keys of retired versions, and destroying them; nobody where it is not given */
};

struct names;

struct config {
        unsigned n_refs;
        struct names *names; /* borrowed while it is read, NULL afterwards */
        /* [lkmd] */
        char *socket;
        unsigned socket_mode;
        char *admin_socket; /* NULL: what is for administrators is answered on `socket` */
        unsigned admin_socket_mode;
        char *kms_socket;
        char *audit_file;
        enum audit_sync_mode audit_sync;
        uint64_t audit_max_size; /* bytes; 0 = without limit */
        unsigned cache_keys;      /* capacity of the key cache; sizes the arena at start */
        unsigned max_connections;
        unsigned user_connections, user_requests, user_rate; /* of one uid; 0: as many as others leave, -, any number */
        uint64_t user_bytes;
        uint64_t frame_timeout_usec;
        uint64_t kms_timeout_usec;
        enum log_level log_level;
        struct policy_rules admin;
        /* [kms] */
        uint64_t idle_exit_usec; /* USEC_INFINITY = never */
        size_t n_keks;
        struct config_kek *keks;
        size_t n_scopes;
        struct config_scope *scopes;
};

/** Why a configuration was refused: "FILE:LINE: text", ready to print; one line. */
struct config_error {
        char text[1024];
};

/** config_read() - read @path and @path.d/ *.conf in byte order of their names; a later file wins over an earlier one, a
 *  key given twice in one file is an error. Return: 0, -EINVAL with *ret_error filled, -ENOMEM, or -errno with *ret_error filled. */
int config_read(struct config **ret_config, const char *path, struct config_error *ret_error);
/** config_read_with() - the same; users and groups are looked up in @names (see names.h). */
int config_read_with(struct config **ret_config, const char *path, struct names *names, struct config_error *ret_error);
struct config *config_ref(struct config *c);
struct config *config_unref(struct config *c);
DEFINE_CLEANUP(struct config *, config_unref)

/** config_scope_find(), config_kek_find() - by name, or NULL. */
const struct config_scope *config_scope_find(const struct config *c, struct bytes name);
const struct config_kek *config_kek_find(const struct config *c, struct bytes name);

/**
 * config_credential_path() - where the service manager put the credential @name: under $CREDENTIALS_DIRECTORY as NAME (LoadCredential=NAME:FILE),
 * lkm.NAME (ImportCredential=lkm.*), lkm_NAME or lkm_encrypted_NAME (the folders of lkm-kms.service), the first that is there; as NAME when none is
 * Return: 0 with a string to be freed; -ENOENT when there are no credentials at all; -ENOMEM.
 */
int config_credential_path(char **ret_path, const char *name);

/** config_option_next() - iterate the option table, for --help, man-page tests and completions; @i from 0.
 *  Return: false past the end. */
bool config_option_next(size_t i, const char **ret_section, const char **ret_key, const char **ret_default);
