/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/kms/aws-chain.h"

#include <errno.h>

struct resolver {
        struct aws_plan *plan;
        const struct aws_settings *settings;
        struct sentence *why;
        size_t n_visited;
        const struct aws_section *visited[AWS_ROLES_MAX + 1]; /* profiles on the way, to find loops */
};

/* Named outcome of what looks for one kind of configuration. */
enum { NOT_CONFIGURED = 1 };

static int refuse(struct resolver *r, const char *format, ...) _printf_(2, 3);
static int refuse(struct resolver *r, const char *format, ...)
{
        char text[sizeof(r->why->text)];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        sentence_set(r->why, "%s", text);
        return -EINVAL;
}

static const char *variable(const struct resolver *r, const char *name)
{
        return aws_environment_text(r->settings->environment, name);
}

static void set_source(struct resolver *r, const char *format, ...) _printf_(2, 3);
static void set_source(struct resolver *r, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(r->plan->source, sizeof(r->plan->source), format, arguments);
        va_end(arguments);
}

/* ---- the shared files ---- */

/* Where a file is. *ret_path is NULL when it is nowhere. Return: 0 or -ENOMEM. */
static int file_path(char **ret_path, bool *ret_wanted, const char *configured, const struct aws_environment *e, const char *name,
                     const char *at_home)
{
        const char *named = aws_environment_text(e, name), *home = aws_environment_text(e, "HOME");
        int r = 0;

        *ret_path = NULL;
        *ret_wanted = configured != NULL;
        if (configured)
                r = asprintf(ret_path, "%s", configured);
        else if (named && strncmp(named, "~/", 2) == 0 && home)
                r = asprintf(ret_path, "%s%s", home, named + 1);
        else if (named)
                r = asprintf(ret_path, "%s", named);
        else if (home)
                r = asprintf(ret_path, "%s/%s", home, at_home);
        if (r < 0)
                *ret_path = NULL;
        return r < 0 ? -ENOMEM : 0;
}

int aws_settings_profiles(struct aws_profiles **ret_profiles, const struct aws_settings *settings, const char *keep, struct sentence *ret_why)
{
        const struct {
                const char *configured, *name, *at_home;
                enum aws_profiles_file file;
        } files[] = {
                { settings->config->aws_config_file, "AWS_CONFIG_FILE", ".aws/config", AWS_PROFILES_CONFIG },
                { settings->config->aws_credentials_file, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials", AWS_PROFILES_CREDENTIALS },
        };
        _cleanup_(aws_profiles_freep) struct aws_profiles *profiles = NULL;
        int r = aws_profiles_new(&profiles);

        for (size_t i = 0; r == 0 && i < ELEMENTSOF(files); i++) {
                _cleanup_(freep) char *path = NULL;
                bool wanted;

                r = file_path(&path, &wanted, files[i].configured, settings->environment, files[i].name, files[i].at_home);
                if (r == 0 && path) {
                        r = aws_profiles_read(profiles, path, files[i].file, keep, ret_why);
                        if (r == -ENOENT && !wanted)
                                r = 0;
                        else if (r < 0)
                                return r;
                }
        }
        if (r < 0) {
                sentence_set(ret_why, "the AWS configuration cannot be read: out of memory");
                return r;
        }
        *ret_profiles = TAKE_PTR(profiles);
        return 0;
}

/* ---- roles ---- */

static bool is_session_name(const char *name)
{
        size_t n = strlen(name);

        return n >= 2 && n <= 64 && strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=,.@-") == n;
}

/* @of: for sentences, as "profile x". */
static int role_check(struct resolver *r, const struct aws_role *role, const char *of)
{
        if (strncmp(role->arn, "arn:", 4) != 0 || strlen(role->arn) > 2048 || !strstr(role->arn, ":role/"))
                return refuse(r, "%s: role_arn is no ARN of a role, such as arn:aws:iam::123456789012:role/lkm", of);
        if (role->session_name && !is_session_name(role->session_name))
                return refuse(r, "%s: role_session_name has to be 2 to 64 letters, digits and _+=,.@-", of);
        if (role->external_id && (strlen(role->external_id) < 2 || strlen(role->external_id) > 1224))
                return refuse(r, "%s: external_id has to be 2 to 1224 characters", of);
        return 0;
}

static int role_of_profile(struct resolver *r, struct aws_role *ret_role, const struct aws_section *section)
{
        const char *duration = aws_section_get(section, "duration_seconds");
        char of[160], *end;
        unsigned long seconds = 0;

        snprintf(of, sizeof(of), "profile %s", aws_section_name(section));
        if (duration) {
                seconds = strspn(duration, "0123456789") == strlen(duration) ? strtoul(duration, &end, 10) : 0;
                if (seconds < 900 || seconds > 43200)
                        return refuse(r, "%s: duration_seconds has to be 900 to 43200", of);
        }
        *ret_role = (struct aws_role){ .arn = aws_section_get(section, "role_arn"),
                                       .session_name = aws_section_get(section, "role_session_name"),
                                       .external_id = aws_section_get(section, "external_id"),
                                       .duration_seconds = (unsigned)seconds };
        return role_check(r, ret_role, of);
}

static int profile_resolve(struct resolver *r, const struct aws_section *section, bool as_source);

static int environment_resolve(struct resolver *r)
{
        if (!variable(r, "AWS_ACCESS_KEY_ID")) {
                if (!aws_environment_secret(r->settings->environment, AWS_VARIABLE_SECRET_ACCESS_KEY))
                        return NOT_CONFIGURED;
                return refuse(r, "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not. Set both, or neither");
        }
        if (aws_environment_was_taken(r->settings->environment))
                return refuse(r, "AWS_SECRET_ACCESS_KEY was wiped when the last KEK that used it was removed. Restart lkm-kms");
        if (!aws_environment_secret(r->settings->environment, AWS_VARIABLE_SECRET_ACCESS_KEY))
                return refuse(r, "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not. Set both, or neither");
        r->plan->base = AWS_BASE_ENVIRONMENT;
        set_source(r, "the environment");
        return 0;
}

static int container_resolve(struct resolver *r)
{
        if (!variable(r, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") && !variable(r, "AWS_CONTAINER_CREDENTIALS_FULL_URI"))
                return NOT_CONFIGURED;
        r->plan->base = AWS_BASE_CONTAINER;
        set_source(r, "container credentials");
        return 0;
}

static int metadata_resolve(struct resolver *r)
{
        const char *disabled = variable(r, "AWS_EC2_METADATA_DISABLED");

        if (disabled && strcasecmp(disabled, "true") == 0)
                return NOT_CONFIGURED;
        r->plan->base = AWS_BASE_METADATA;
        set_source(r, "instance metadata");
        return 0;
}

static int credential_source_resolve(struct resolver *r, const struct aws_section *section, const char *name)
{
        static const struct {
                const char *name;
                int (*resolve)(struct resolver *r);
                const char *absent;
        } sources[] = {
                { "Environment", environment_resolve, "AWS_ACCESS_KEY_ID is not set" },
                { "EcsContainer", container_resolve, "no AWS_CONTAINER_CREDENTIALS_* variable is set" },
                { "Ec2InstanceMetadata", metadata_resolve, "AWS_EC2_METADATA_DISABLED is set" },
        };

        for (size_t i = 0; i < ELEMENTSOF(sources); i++) {
                int e;

                if (strcasecmp(name, sources[i].name) != 0)
                        continue;
                e = sources[i].resolve(r);
                if (e != NOT_CONFIGURED)
                        return e;
                return refuse(r, "profile %s: credential_source is %s, but %s", aws_section_name(section), sources[i].name,
                              r->settings->environment ? sources[i].absent : "the environment does not count. Set aws_environment = yes");
        }
        return refuse(r, "profile %s: credential_source has to be Environment, EcsContainer or Ec2InstanceMetadata", aws_section_name(section));
}

static int source_profile_resolve(struct resolver *r, const struct aws_section *section, const char *name)
{
        const struct aws_section *source = aws_profiles_find(r->plan->profiles, AWS_SECTION_PROFILE, name);
        bool has_keys = source && aws_section_get(source, "aws_access_key_id");
        int e;

        if (!source)
                return refuse(r, "profile %s: its source_profile %s is in none of the shared files", aws_section_name(section), name);
        for (size_t i = 0; i < r->n_visited && !(source == section && has_keys); i++)
                if (r->visited[i] == source)
                        return refuse(r, "profile %s: its source_profile %s leads in a circle. Let it lead to a profile with credentials",
                                      aws_section_name(section), name);
        e = profile_resolve(r, source, true);
        return e == NOT_CONFIGURED ? refuse(r, "profile %s: its source_profile %s has no credentials", aws_section_name(section), name) : e;
}

static int assume_role_resolve(struct resolver *r, const struct aws_section *section)
{
        const char *profile = aws_section_get(section, "source_profile"), *source = aws_section_get(section, "credential_source");
        struct aws_role role;
        int e = role_of_profile(r, &role, section);

        if (e < 0)
                return e;
        if (aws_section_get(section, "mfa_serial"))
                return refuse(r, "profile %s: mfa_serial asks for a code that nobody can type in here. Use a role that needs none",
                              aws_section_name(section));
        if (!profile == !source)
                return refuse(r, "profile %s: a role_arn needs either source_profile or credential_source", aws_section_name(section));
        if (r->n_visited == AWS_ROLES_MAX)
                return refuse(r, "profile %s: more than %d roles in a row", aws_section_name(section), AWS_ROLES_MAX);
        r->visited[r->n_visited++] = section;
        e = profile ? source_profile_resolve(r, section, profile) : credential_source_resolve(r, section, source);
        if (e == 0)
                r->plan->roles[r->plan->n_roles++] = role;
        return e;
}

/* ---- what a profile has ---- */

static bool is_assume_role(const struct aws_section *section)
{
        return section && aws_section_get(section, "role_arn") && !aws_section_get(section, "web_identity_token_file");
}

static int keys_resolve(struct resolver *r, const struct aws_section *section)
{
        bool id = aws_section_get(section, "aws_access_key_id"), secret = aws_section_get(section, "aws_secret_access_key");

        if (!id && !secret)
                return NOT_CONFIGURED;
        if (!id || !secret)
                return refuse(r, "profile %s has %s and no %s. Give both, or neither", aws_section_name(section),
                              id ? "aws_access_key_id" : "aws_secret_access_key", id ? "aws_secret_access_key" : "aws_access_key_id");
        r->plan->base = AWS_BASE_PROFILE_KEYS;
        set_source(r, "profile %s", r->plan->profile);
        return 0;
}

static int web_identity_resolve(struct resolver *r, const char *token_file, const struct aws_role *role, const char *of)
{
        int e;

        if (!role->arn)
                return refuse(r, "%s: a web identity token needs a role to assume. Set role_arn, or AWS_ROLE_ARN", of);
        e = role_check(r, role, of);
        if (e < 0)
                return e;
        r->plan->base = AWS_BASE_WEB_IDENTITY;
        r->plan->web_identity = *role;
        r->plan->token_file = token_file;
        set_source(r, "web identity in %s", token_file);
        return 0;
}

static int profile_web_identity_resolve(struct resolver *r, const struct aws_section *section)
{
        const char *token_file = aws_section_get(section, "web_identity_token_file");
        struct aws_role role = { 0 };
        char of[160];
        int e = 0;

        if (!token_file)
                return NOT_CONFIGURED;
        snprintf(of, sizeof(of), "profile %s", aws_section_name(section));
        if (aws_section_get(section, "role_arn"))
                e = role_of_profile(r, &role, section);
        return e < 0 ? e : web_identity_resolve(r, token_file, &role, of);
}

static int environment_web_identity_resolve(struct resolver *r)
{
        const char *token_file = variable(r, "AWS_WEB_IDENTITY_TOKEN_FILE");
        struct aws_role role = { .arn = variable(r, "AWS_ROLE_ARN"), .session_name = variable(r, "AWS_ROLE_SESSION_NAME") };

        return token_file ? web_identity_resolve(r, token_file, &role, "AWS_WEB_IDENTITY_TOKEN_FILE") : NOT_CONFIGURED;
}

static int sso_resolve(struct resolver *r, const struct aws_section *section)
{
        const char *session = aws_section_get(section, "sso_session"), *name = aws_section_name(section);
        const struct aws_section *from = section;

        if (!session && !aws_section_get(section, "sso_start_url"))
                return NOT_CONFIGURED;
        if (session)
                from = aws_profiles_find(r->plan->profiles, AWS_SECTION_SSO_SESSION, session);
        if (!from)
                return refuse(r, "profile %s: there is no [sso-session %s] in the configuration file", name, session);
        r->plan->sso.account_id = aws_section_get(section, "sso_account_id");
        r->plan->sso.role_name = aws_section_get(section, "sso_role_name");
        r->plan->sso.region = aws_section_get(from, "sso_region");
        r->plan->sso.cached_as = session ? session : aws_section_get(section, "sso_start_url");
        if (!r->plan->sso.account_id || !r->plan->sso.role_name || !r->plan->sso.region)
                return refuse(r, "profile %s: SSO needs sso_account_id, sso_role_name and sso_region", name);
        if (!variable(r, "HOME"))
                return refuse(r, "profile %s: the token of SSO lies in a home folder, which does not count. Set aws_environment = yes, or use a role",
                              name);
        r->plan->base = AWS_BASE_SSO;
        set_source(r, "SSO of profile %s", name);
        return 0;
}

static int process_resolve(struct resolver *r, const struct aws_section *section)
{
        r->plan->command = aws_section_get(section, "credential_process");
        if (!r->plan->command)
                return NOT_CONFIGURED;
        r->plan->base = AWS_BASE_PROCESS;
        set_source(r, "credential_process of profile %s", aws_section_name(section));
        return 0;
}

/* @as_source: of a role that another profile assumes; then its own keys come first, and may be those of a profile that is its own source. */
static int profile_resolve(struct resolver *r, const struct aws_section *section, bool as_source)
{
        static int (*const kinds[])(struct resolver *r, const struct aws_section *section) = {
                profile_web_identity_resolve, sso_resolve, keys_resolve, process_resolve,
        };
        int e;

        if (is_assume_role(section) && !(as_source && aws_section_get(section, "aws_access_key_id")))
                return assume_role_resolve(r, section);
        r->plan->profile = aws_section_name(section);
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++) {
                e = kinds[i](r, section);
                if (e != NOT_CONFIGURED)
                        return e;
        }
        r->plan->profile = NULL;
        return NOT_CONFIGURED;
}

/* ---- the chain ---- */

static const char *profile_name(const struct resolver *r, bool *ret_explicit)
{
        const char *name = r->settings->config->profile;

        if (!name)
                name = variable(r, "AWS_PROFILE");
        if (!name)
                name = variable(r, "AWS_DEFAULT_PROFILE");
        *ret_explicit = name != NULL;
        return name ? name : "default";
}

static int no_such_profile(struct resolver *r, const char *name)
{
        if (aws_profiles_find(r->plan->profiles, AWS_SECTION_OTHER, name))
                return refuse(r, "there is no profile %s: in the configuration file its section has to be named [profile %s]", name, name);
        if (!r->settings->environment && !r->settings->config->aws_config_file && !r->settings->config->aws_credentials_file)
                return refuse(r, "profile %s is named, but no file to find it in. Set aws_config_file or aws_credentials_file", name);
        return refuse(r, "there is no profile %s in the shared files", name);
}

static int chain_resolve(struct resolver *r, const struct aws_section *section, const char *name, bool explicit)
{
        const struct config_kek *config = r->settings->config;
        int e = NOT_CONFIGURED;

        if (!explicit)
                e = environment_resolve(r);
        if (e == NOT_CONFIGURED && is_assume_role(section))
                e = profile_resolve(r, section, false);
        if (e == NOT_CONFIGURED && !explicit)
                e = environment_web_identity_resolve(r);
        if (e == NOT_CONFIGURED && section)
                e = profile_resolve(r, section, false);
        if (e == NOT_CONFIGURED)
                e = container_resolve(r);
        if (e != NOT_CONFIGURED)
                return e;
        snprintf(r->plan->looked, sizeof(r->plan->looked), "%s; profile %.100s %s; %s",
                 explicit                   ? "the named profile goes before the environment's keys"
                 : r->settings->environment ? "AWS_ACCESS_KEY_ID and AWS_WEB_IDENTITY_TOKEN_FILE are not set"
                                            : "the environment does not count (aws_environment = no)",
                 name,
                 section                                                                                        ? "has no credentials"
                 : r->settings->environment || config->aws_config_file || config->aws_credentials_file ? "is in none of the shared files"
                                                                                                                : "has no file to be in",
                 r->settings->environment ? "no AWS_CONTAINER_CREDENTIALS_* variable is set" : "a container's variables do not count either");
        r->plan->is_last_resort = true;
        e = metadata_resolve(r);
        return e == NOT_CONFIGURED ? refuse(r, "no credentials are configured: %s; AWS_EC2_METADATA_DISABLED is set", r->plan->looked) : e;
}

/* ---- where STS is ---- */

static int set_region(struct resolver *r)
{
        const struct config_kek *config = r->settings->config;
        struct aws_arn arn;
        struct bytes region = { 0 };

        if (config->region)
                region = bytes_from_string(config->region);
        else if (config->kek_id && aws_arn_parse(&arn, bytes_from_string(config->kek_id)) == 0)
                region = arn.region;
        if (region.n == 0 || region.n > AWS_REGION_MAX)
                return refuse(r, "a region is needed. Set region");
        snprintf(r->plan->region, sizeof(r->plan->region), "%.*s", (int)region.n, (const char *)region.data);
        return 0;
}

/* The SDKs' ways to put another server in the place of STS, in their order; NULL when none is used. */
static const char *configured_endpoint(const struct resolver *r, const struct aws_section *section)
{
        const char *ignore = variable(r, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"), *services, *url;
        const struct aws_section *of_services = NULL;

        if (r->settings->config->sts_endpoint)
                return r->settings->config->sts_endpoint;
        if (ignore && strcasecmp(ignore, "true") == 0)
                return NULL;
        url = variable(r, "AWS_ENDPOINT_URL_STS");
        if (!url)
                url = variable(r, "AWS_ENDPOINT_URL");
        if (url || !section)
                return url;
        services = aws_section_get(section, "services");
        if (services)
                of_services = aws_profiles_find(r->plan->profiles, AWS_SECTION_SERVICES, services);
        if (of_services)
                url = aws_section_get(of_services, "sts.endpoint_url");
        return url ? url : aws_section_get(section, "endpoint_url");
}

static int set_sts(struct resolver *r, const struct aws_section *section)
{
        const char *endpoint = configured_endpoint(r, section);

        if (!endpoint)
                return aws_endpoint_url(r->plan->sts_url, "sts", r->plan->region, r->settings->config->fips, r->settings->config->dual_stack) < 0
                               ? refuse(r, "region %s is none", r->plan->region)
                               : 0;
        if (strlen(endpoint) >= sizeof(r->plan->sts_url))
                return refuse(r, "the endpoint of STS is longer than %d characters", AWS_URL_MAX - 1);
        snprintf(r->plan->sts_url, sizeof(r->plan->sts_url), "%s", endpoint);
        return 0;
}

int aws_plan_make(struct aws_plan *ret_plan, const struct aws_settings *settings, struct sentence *ret_why)
{
        struct aws_plan plan = { 0 };
        struct resolver r = { .plan = &plan, .settings = settings, .why = ret_why };
        const struct aws_section *section;
        const char *name;
        bool explicit;
        int e = aws_settings_profiles(&plan.profiles, settings, NULL, ret_why);

        if (e < 0)
                return e;
        name = profile_name(&r, &explicit);
        section = aws_profiles_find(plan.profiles, AWS_SECTION_PROFILE, name);
        e = explicit && !section ? no_such_profile(&r, name) : set_region(&r);
        if (e == 0)
                e = set_sts(&r, section);
        if (e == 0)
                e = chain_resolve(&r, section, name, explicit);
        if (e < 0) {
                aws_plan_deinit(&plan);
                return e;
        }
        *ret_plan = plan;
        return 0;
}

void aws_plan_deinit(struct aws_plan *plan)
{
        aws_profiles_free(plan->profiles);
        *plan = (struct aws_plan){ 0 };
}
