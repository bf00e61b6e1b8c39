/* SPDX-License-Identifier: Apache-2.0 */
/* vault-fixture: what the tests of the Vault provider share: a KEK, a scripted server, and how calls end. */
#pragma once

#include <check.h>
#include <errno.h>

#include "common/clock.h"
#include "daemon/kms/http.h"
#include "daemon/kms/provider.h"
#include "tests/unit/suite.h"
#include "tests/unit/vault-script.h"

#define KEY "transit/keys/lkmd"
#define DATAKEY "transit/datakey/plaintext/lkmd"
#define ENCRYPT "transit/encrypt/lkmd"
#define DECRYPT "transit/decrypt/lkmd"
#define REWRAP "transit/rewrap/lkmd"
#define LOOKUP "auth/token/lookup-self"
#define RENEW "auth/token/renew-self"
#define LOGIN "auth/approle/login"

#define GOOD \
        "\"type\":\"aes256-gcm96\",\"derived\":true,\"supports_encryption\":true,\"supports_decryption\":true,\"latest_version\":3," \
        "\"kdf\":\"hkdf_sha256\",\"exportable\":false,\"allow_plaintext_backup\":false"
#define FOREVER "{\"data\":{\"id\":\"root-token\",\"ttl\":0,\"expire_time\":null,\"renewable\":false}}"
#define AUTH(token, seconds, renewable) \
        "{\"auth\":{\"client_token\":\"" token "\",\"lease_duration\":" seconds ",\"renewable\":" renewable "}}"
#define WRAP "vault:v3:AAECAwQFBgcICQoLDA0ODw=="
/* 32 and 31 times the letter k. */
#define PLAINTEXT "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s="
#define PLAINTEXT_SHORT "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s"
#define PLAINTEXT_31 "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2traw=="
#define DENIED "{\"errors\":[\"permission denied\"]}"

/* One call and how it ended. */
struct outcome {
        struct provider_call call;
        unsigned n;
        enum proto_error error;
        bool is_key; /* the one of PLAINTEXT */
        char kek_id[KEK_ID_MAX + 1], wrapped[256], sentence[1024];
        uint32_t retry_after_msec;
};

extern struct event_base *base;
extern struct script script;
extern struct config_kek config;
extern struct kek *kek;
extern struct pairs context;
extern char secret_file[128];

/** setup() - a server where all is well, for a KEK that has the token "root-token" in a file; it is not made yet. */
void setup(void);
/** teardown() - checks that no secret is left. */
void teardown(void);
/** use_approle() - log in by role and secret id, which is in the file. */
void use_approle(void);
void secret_write(const char *text, mode_t mode);
/** kek_make() - from @config. */
void kek_make(void);

struct outcome outcome_new(void);
void begin_unwrap(struct outcome *o);
/** finish() - let the loop run until @o has ended. */
void finish(const struct outcome *o);
/** until_asked() - let the loop run until @path was asked @n times. */
void until_asked(const char *path, size_t n);
size_t asked(const char *path);
/** unwrap(), generate() - from beginning to end; the KEK is made if there is none. */
struct outcome unwrap(void);
struct outcome generate(void);
