/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A login is one call, or three when the secret id is wrapped: look the wrapping token up (that it was made for this role's secret id
 * shows that nobody put another in its place), unwrap it, log in.
 */
#include "daemon/kms/vault-login.h"

#include <errno.h>

#include "common/clock.h"
#include "common/log.h"
#include "daemon/kms/json-write.h"
#include "daemon/kms/secret-file.h"
#include "daemon/kms/vault-unwrapped.h"

#define KUBERNETES_JWT "/var/run/secrets/kubernetes.io/serviceaccount/token"

struct vault_login {
        const struct vault_server *server;
        const struct config_kek *config;
        struct exchange_queue *queue;
        void (*done)(void *userdata, enum proto_error error, const char *sentence, const struct vault_lease *lease, bool is_final);
        void *userdata;
        struct vault_call call; /* the step under way */
        struct secret *wrapping_token; /* between lookup and unwrap */
        struct secret *token; /* what came of it */
        struct vault_lease lease;
        struct vault_unwrapped *unwrapped; /* NULL: the secret id is not wrapped */
        uint64_t deadline_usec;
        char *method;
};

static const char *const default_mounts[] = { [VAULT_AUTH_TOKEN] = "token",
                                              [VAULT_AUTH_APPROLE] = "approle",
                                              [VAULT_AUTH_KUBERNETES] = "kubernetes",
                                              [VAULT_AUTH_JWT] = "jwt",
                                              [VAULT_AUTH_CERT] = "cert" };

static const char *auth_mount(const struct vault_login *l)
{
        return l->config->auth_mount ? l->config->auth_mount : default_mounts[l->config->auth];
}

/* ---- answers ---- */

static uint64_t seconds_of(const json_t *value, uint64_t of_none)
{
        json_int_t seconds = json_integer_value(value);

        return seconds <= 0 ? of_none : (uint64_t)(seconds > INT32_MAX ? INT32_MAX : seconds) * USEC_PER_SEC;
}

bool vault_lease_of_auth(struct vault_lease *ret_lease, const struct vault_answer *answer)
{
        if (!answer->auth)
                return false;
        *ret_lease = (struct vault_lease){ .token = vault_answer_secret(answer, VAULT_SECRET_CLIENT_TOKEN, 0),
                                           .duration_usec = seconds_of(json_object_get(answer->auth, "lease_duration"), USEC_INFINITY),
                                           .renewable = json_is_true(json_object_get(answer->auth, "renewable")) };
        return true;
}

bool vault_lease_of_lookup(struct vault_lease *ret_lease, const struct vault_answer *answer)
{
        const json_t *ttl = json_object_get(answer->data, "ttl"), *end = json_object_get(answer->data, "expire_time");

        if (!json_is_integer(ttl))
                return false;
        /* 0 is for ever, and also the last second of a token that does end. */
        *ret_lease = (struct vault_lease){ .duration_usec = seconds_of(ttl, json_is_string(end) ? USEC_PER_SEC : USEC_INFINITY),
                                           .renewable = json_is_true(json_object_get(answer->data, "renewable")) };
        return true;
}

/* ---- the steps ---- */

/* The end of a login. */
static void login_end(struct vault_login *l, enum proto_error error, const char *sentence, bool is_final)
{
        _cleanup_(secret_unrefp) struct secret *token = TAKE_PTR(l->token);

        if (l->wrapping_token && l->unwrapped)
                l->unwrapped->busy = false;
        l->wrapping_token = secret_unref(l->wrapping_token);
        vault_call_deinit(&l->call);
        l->lease.token = token;
        l->done(l->userdata, error, sentence, error ? NULL : &l->lease, is_final);
}

static void step_done(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct vault_login *l = call->userdata;

        login_end(l, error, sentence, false);
}

/* Prepare the one call of a step. @path: taken over. */
static int step_init(struct vault_login *l, enum vault_kind kind, const char *method, char *path,
                     void (*read)(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict),
                     void (*done)(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec))
{
        int r;

        vault_call_deinit(&l->call);
        r = vault_call_init(&l->call, l->server, kind, method, path);
        l->call.read = read;
        l->call.done = done;
        l->call.userdata = l;
        return r;
}

static char *login_path(const struct vault_login *l)
{
        char *path;

        return asprintf(&path, "auth/%s/login", auth_mount(l)) < 0 ? NULL : path;
}

static void login_read(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict)
{
        struct vault_login *l = call->userdata;

        if (!vault_lease_of_auth(&l->lease, answer) || !l->lease.token) {
                vault_call_refuse(call, verdict, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END,
                                  "the login at auth/%s gave no token. It may want a second factor, which lkm-kms has not; use a role without",
                                  auth_mount(l));
                return;
        }
        l->token = secret_ref(l->lease.token);
}

static int login_body(struct vault_login *l, struct secret *secret, struct secret **ret_body)
{
        const struct config_kek *k = l->config;
        struct json_writer w;
        int r = json_writer_init(&w, 2 * SECRET_LARGE_MAX);

        if (r < 0)
                return r;
        json_write_open(&w, NULL, '{');
        if (k->auth == VAULT_AUTH_APPROLE) {
                json_write_text(&w, "role_id", bytes_from_string(k->role_id));
                if (secret)
                        json_write_secret(&w, "secret_id", secret);
        } else if (k->auth == VAULT_AUTH_CERT) {
                if (k->role)
                        json_write_text(&w, "name", bytes_from_string(k->role));
        } else {
                json_write_text(&w, "role", bytes_from_string(k->role));
                json_write_secret(&w, "jwt", secret);
        }
        json_write_close(&w, '}');
        r = json_writer_end(&w, ret_body);
        json_writer_deinit(&w);
        return r;
}

/* @secret: the secret id or the JWT, or NULL. */
static int step_login(struct vault_login *l, struct secret *secret)
{
        int r = step_init(l, VAULT_KIND_LOGIN, "POST", login_path(l), login_read, step_done);

        if (r == 0)
                r = login_body(l, secret, &l->call.body);
        return r < 0 ? r : vault_call_start(&l->call, l->queue, l->deadline_usec);
}

static void lookup_read(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict)
{
        struct vault_login *l = call->userdata;

        if (!vault_lease_of_lookup(&l->lease, answer)) {
                vault_call_refuse(call, verdict, PROTO_ERROR_KMS_UNREACHABLE, EXCHANGE_REPEAT,
                                  "it does not say how long the token is good. Check address, and what lies between");
                return;
        }
        l->token = secret_ref(call->token);
}

static void lookup_done(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct vault_login *l = call->userdata;
        struct sentence why;

        if (error == PROTO_ERROR_KMS_CREDENTIALS)
                sentence_set(&why, "%s. Put one that is good into %s", sentence, l->config->token_file);
        login_end(l, error, error == PROTO_ERROR_KMS_CREDENTIALS ? why.text : sentence, false);
}

/* The token of a file: looked at, since it says for how long it is good. */
static int step_token(struct vault_login *l, struct secret *token)
{
        int r = step_init(l, VAULT_KIND_TOKEN, "GET", strdup("auth/token/lookup-self"), lookup_read, lookup_done);

        if (r < 0)
                return r;
        l->call.token = secret_ref(token);
        return vault_call_start(&l->call, l->queue, l->deadline_usec);
}

/* ---- a wrapped secret id ---- */

static void alarm_raise(struct vault_login *l, const char *sentence)
{
        log_error("SECURITY: [kek %s]: %s", l->config->name, sentence);
        l->unwrapped->used = true;
}

/* "auth/MOUNT/role/ROLE/secret-id", with or without the namespace before it. */
static bool creation_path_is_mine(const struct vault_login *l, const char *path)
{
        _cleanup_(freep) char *mine = NULL;
        size_t n = l->server->namespace ? strlen(l->server->namespace) : 0;

        if (asprintf(&mine, "auth/%s/role/%s/secret-id", auth_mount(l), l->config->role) < 0) {
                mine = NULL;
                return false;
        }
        if (n > 0 && strncmp(path, l->server->namespace, n) == 0 && path[n] == '/')
                path += n + 1;
        return strcmp(path, mine) == 0;
}

static void unwrap_read(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict)
{
        struct vault_login *l = call->userdata;
        struct secret *secret_id = vault_answer_secret(answer, VAULT_SECRET_SECRET_ID, 0);

        l->unwrapped->used = true;
        if (secret_id)
                l->unwrapped->secret_id = secret_ref(secret_id);
        else
                vault_call_refuse(call, verdict, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END,
                                  "there was no secret id in the wrapping token. Make one with `vault write -wrap-ttl=5m -f "
                                  "auth/%s/role/%s/secret-id`, and put its wrapping token into %s",
                                  auth_mount(l), l->config->role, l->config->secret_id_file);
}

static void unwrap_done(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct vault_login *l = call->userdata;
        bool is_alarm = error && call->special == VAULT_SPECIAL_ALARM;
        int r;

        if (is_alarm)
                alarm_raise(l, sentence);
        if (error) {
                login_end(l, error, sentence, is_alarm || l->unwrapped->used);
                return;
        }
        l->unwrapped->busy = false;
        l->wrapping_token = secret_unref(l->wrapping_token);
        r = step_login(l, l->unwrapped->secret_id);
        if (r < 0)
                login_end(l, PROTO_ERROR_INTERNAL, NULL, false);
}

static int step_unwrap(struct vault_login *l)
{
        int r = step_init(l, VAULT_KIND_WRAPPING, "POST", strdup("sys/wrapping/unwrap"), unwrap_read, unwrap_done);

        if (r < 0)
                return r;
        l->call.token = secret_ref(l->wrapping_token);
        return vault_call_start(&l->call, l->queue, l->deadline_usec);
}

static void wrapping_read(struct vault_call *call, const struct vault_answer *answer, struct exchange_verdict *verdict)
{
        struct vault_login *l = call->userdata;
        const char *path = json_string_value(json_object_get(answer->data, "creation_path"));

        if (path && creation_path_is_mine(l, path))
                return;
        call->special = VAULT_SPECIAL_ALARM;
        vault_call_refuse(call, verdict, PROTO_ERROR_KMS_CREDENTIALS, EXCHANGE_END,
                          "the wrapping token in %s was made at %.200s, not at auth/%s/role/%s/secret-id. Somebody may have put it there in place of "
                          "the right one: find out who; then put a new one there",
                          l->config->secret_id_file, path ? path : "no path", auth_mount(l), l->config->role);
}

static void wrapping_done(struct vault_call *call, enum proto_error error, const char *sentence, uint32_t retry_after_msec)
{
        struct vault_login *l = call->userdata;
        bool is_alarm = error && call->special == VAULT_SPECIAL_ALARM;

        if (is_alarm)
                alarm_raise(l, sentence);
        if (error)
                login_end(l, error, sentence, is_alarm);
        else if (step_unwrap(l) < 0)
                login_end(l, PROTO_ERROR_INTERNAL, NULL, false);
}

static int step_wrapping(struct vault_login *l, struct secret *token)
{
        struct json_writer w;
        int r = step_init(l, VAULT_KIND_WRAPPING, "POST", strdup("sys/wrapping/lookup"), wrapping_read, wrapping_done);

        if (r == 0)
                r = json_writer_init(&w, SECRET_LARGE_MAX);
        if (r < 0)
                return r;
        json_write_open(&w, NULL, '{');
        json_write_secret(&w, "token", token);
        json_write_close(&w, '}');
        r = json_writer_end(&w, &l->call.body);
        json_writer_deinit(&w);
        if (r < 0)
                return r;
        r = vault_call_start(&l->call, l->queue, l->deadline_usec);
        if (r == 0) {
                l->wrapping_token = secret_ref(token);
                l->unwrapped->busy = true;
        }
        return r;
}

/* ---- begin ---- */

/* What is read of a file: NULL for nothing. */
static const char *secret_path(const struct config_kek *config, enum secret_file_rule *ret_rule)
{
        *ret_rule = SECRET_FILE_OWN;
        switch (config->auth) {
        case VAULT_AUTH_TOKEN:
                return config->token_file;
        case VAULT_AUTH_APPROLE:
                return config->secret_id_file;
        case VAULT_AUTH_KUBERNETES:
                *ret_rule = SECRET_FILE_PROJECTED;
                return config->jwt_file ? config->jwt_file : KUBERNETES_JWT;
        case VAULT_AUTH_JWT:
                return config->jwt_file;
        case VAULT_AUTH_CERT:
                return NULL;
        }
        return NULL;
}

static int first_step(struct vault_login *l, struct secret *secret, struct sentence *ret_why)
{
        if (l->config->auth == VAULT_AUTH_TOKEN)
                return step_token(l, secret);
        if (!l->unwrapped)
                return step_login(l, secret);
        vault_unwrapped_note(l->unwrapped, secret);
        if (l->unwrapped->secret_id)
                return step_login(l, l->unwrapped->secret_id);
        if (l->unwrapped->busy) {
                sentence_set(ret_why, "another login is unwrapping %s. Ask again", l->config->secret_id_file);
                return -EBUSY;
        }
        if (l->unwrapped->used) {
                sentence_set(ret_why,
                             "the wrapping token in %s was used before, or is not what it should be: the log has the alarm. Find out who used it, "
                             "then put a new one there",
                             l->config->secret_id_file);
                return -EKEYREVOKED;
        }
        return step_wrapping(l, secret);
}

enum proto_error vault_login_start(struct vault_login *l, uint64_t deadline_usec, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *secret = NULL;
        enum secret_file_rule rule;
        const char *path = secret_path(l->config, &rule);
        int r = path ? secret_file_read_word(&secret, path, rule, ret_why) : 0;

        if (r < 0)
                return r == -ENOBUFS ? PROTO_ERROR_INTERNAL : PROTO_ERROR_KMS_CREDENTIALS;
        l->deadline_usec = deadline_usec;
        l->lease = (struct vault_lease){ .token = NULL };
        sentence_set(ret_why, "no memory is left for a login. Ask again when other requests have ended");
        switch (first_step(l, secret, ret_why)) {
        case 0:
                return PROTO_ERROR_NONE;
        case -EBUSY:
                return PROTO_ERROR_KMS_UNREACHABLE;
        case -EKEYREVOKED:
                return PROTO_ERROR_KMS_CREDENTIALS;
        default:
                return PROTO_ERROR_INTERNAL;
        }
}

int vault_login_check(const struct config_kek *config, struct sentence *ret_why)
{
        _cleanup_(secret_unrefp) struct secret *secret = NULL;
        enum secret_file_rule rule;
        const char *path = secret_path(config, &rule);

        return path ? secret_file_read_word(&secret, path, rule, ret_why) : 0;
}

uint64_t vault_login_stamp(const struct vault_login *l)
{
        enum secret_file_rule rule;
        const char *path = secret_path(l->config, &rule);
        uint64_t stamp = path ? secret_file_stamp(path) : 0;

        if (l->config->client_certificate)
                stamp ^= secret_file_stamp(l->config->client_certificate) << 1;
        return stamp;
}

const char *vault_login_method(const struct vault_login *l)
{
        return l->method;
}

int vault_login_new(struct vault_login **ret_login, const struct vault_server *server, struct exchange_queue *queue,
                    void (*done)(void *userdata, enum proto_error error, const char *sentence, const struct vault_lease *lease, bool is_final),
                    void *userdata)
{
        struct vault_login *l = calloc(1, sizeof(*l));
        const struct config_kek *config = server->config;
        int r;

        if (!l)
                return -ENOMEM;
        l->server = server;
        l->config = config;
        l->queue = queue;
        l->done = done;
        l->userdata = userdata;
        r = config->auth == VAULT_AUTH_TOKEN ? asprintf(&l->method, "the token in %s", config->token_file) :
                                               asprintf(&l->method, "the login at auth/%s", auth_mount(l));
        if (r < 0)
                l->method = NULL;
        if (config->auth == VAULT_AUTH_APPROLE && config->secret_id_wrapped)
                l->unwrapped = vault_unwrapped_get(config->secret_id_file);
        if (!l->method || (config->secret_id_wrapped && config->auth == VAULT_AUTH_APPROLE && !l->unwrapped)) {
                vault_login_free(l);
                return -ENOMEM;
        }
        *ret_login = l;
        return 0;
}

struct vault_login *vault_login_free(struct vault_login *l)
{
        if (!l)
                return NULL;
        vault_call_cancel(&l->call);
        if (l->wrapping_token && l->unwrapped)
                l->unwrapped->busy = false;
        secret_unref(l->wrapping_token);
        secret_unref(l->token);
        vault_call_deinit(&l->call);
        vault_unwrapped_unref(l->unwrapped);
        free(l->method);
        free(l);
        return NULL;
}
