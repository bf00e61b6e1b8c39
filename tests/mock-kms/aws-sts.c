/* SPDX-License-Identifier: Apache-2.0 */
/* AWS STS in the query protocol: a form comes in, XML goes out. */
#include <event2/keyvalq_struct.h>

#include "tests/mock-kms/aws-auth.h"
#include "tests/mock-kms/service.h"

#define XMLNS "https://sts.amazonaws.com/doc/2011-06-15/"
enum { SKEW_MINUTES = 15, SECONDS_MIN = 900, SECONDS_MAX = 43200, SECONDS_STANDARD = 3600 };

/** One call: the form, and who asks. */
struct sts_call {
        struct mock *mock;
        struct evkeyvalq form;
        const struct aws_user *user; /* NULL for the call that needs no signature */
        struct answer *answer;
        char *request_id;
};

static void form_parse(struct evkeyvalq *ret, const struct request *r)
{
        _cleanup_(freep) char *text = bytes_to_string(r->body);

        if (!text)
                abort();
        evhttp_parse_query_str(text, ret); /* empty after an error */
}

static void answer_error(struct answer *a, int status, const char *code, const char *message, const char *request_id)
{
        _cleanup_(freep) char *quoted = evhttp_htmlescape(message);
        _cleanup_(freep) char *xml =
                text_format("<ErrorResponse xmlns=\"" XMLNS "\">\n  <Error>\n    <Type>%s</Type>\n    <Code>%s</Code>\n"
                            "    <Message>%s</Message>\n  </Error>\n  <RequestId>%s</RequestId>\n</ErrorResponse>\n",
                            status < 500 ? "Sender" : "Receiver", code, quoted ? quoted : "", request_id);

        answer_text(a, status, "text/xml", xml);
}

static void fail(struct sts_call *c, int status, const char *code, const char *message)
{
        answer_error(c->answer, status, code, message, c->request_id);
}

static const char *parameter(struct sts_call *c, const char *name)
{
        return evhttp_find_header(&c->form, name);
}

static bool session_name_is_valid(const char *name)
{
        return name && strlen(name) >= 2 && strlen(name) <= 64 &&
               strspn(name, TEXT_UPPER TEXT_LOWER TEXT_DIGITS "_+=,.@-") == strlen(name);
}

/* Role, session name and duration, which both calls have. Return: false after the error. */
static bool common_parameters(struct sts_call *c, uint64_t *ret_seconds)
{
        const char *role = parameter(c, "RoleArn"), *session = parameter(c, "RoleSessionName"),
                   *duration = parameter(c, "DurationSeconds");

        *ret_seconds = SECONDS_STANDARD;
        if (!role || strlen(role) < 20 || strlen(role) > 2048) {
                fail(c, 400, "ValidationError",
                     "1 validation error detected: Value at 'roleArn' failed to satisfy constraint: "
                     "Member must have length greater than or equal to 20");
        } else if (!text_starts(role, "arn:") || !strstr(role, ":role/")) {
                _cleanup_(freep) char *message = text_format("%s is invalid", role);

                fail(c, 400, "ValidationError", message);
        } else if (!session_name_is_valid(session)) {
                fail(c, 400, "ValidationError",
                     "1 validation error detected: Value at 'roleSessionName' failed to satisfy constraint: "
                     "Member must satisfy regular expression pattern: [\\w+=,.@-]*");
        } else if (duration && (!text_number(ret_seconds, duration, SECONDS_MAX) || *ret_seconds < SECONDS_MIN)) {
                fail(c, 400, "ValidationError",
                     "1 validation error detected: Value at 'durationSeconds' failed to satisfy constraint: "
                     "Member must have value between 900 and 43200");
        } else {
                return true;
        }
        return false;
}

/* "arn:aws:iam::ACCOUNT:role/NAME" and a session give "arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION". */
static char *session_arn(const char *role, const char *session)
{
        const char *name = strstr(role, ":role/") + strlen(":role/"), *account = strstr(role, ":iam::"),
                   *base = strrchr(role, '/');

        return text_format("arn:aws:sts::%.12s:assumed-role/%s/%s", account ? account + strlen(":iam::") : AWS_ACCOUNT,
                           base ? base + 1 : name, session);
}

static void answer_session(struct sts_call *c, const char *action, uint64_t seconds, const char *extra)
{
        const char *role_arn = parameter(c, "RoleArn"), *session = parameter(c, "RoleSessionName");
        const struct aws_role *role = aws_role_find(&c->mock->identities, role_arn);
        uint64_t expires = mock_now_usec(c->mock) + seconds * USEC_PER_SEC;
        _cleanup_(freep) char *arn = session_arn(role_arn, session), *xml = NULL;
        const struct aws_user *u = aws_session_new(&c->mock->identities, arn, expires, role ? role->policy : NULL);
        char expiration[CLOCK_TEXT_LENGTH + 1];

        clock_format(expiration, expires);
        xml = text_format(
                "<%sResponse xmlns=\"" XMLNS
                "\">\n  <%sResult>\n%s    <AssumedRoleUser>\n      <AssumedRoleId>AROAMOCKMOCKMOCKMOCKM:%s"
                "</AssumedRoleId>\n      <Arn>%s</Arn>\n    </AssumedRoleUser>\n    <Credentials>\n      <AccessKeyId>%s</AccessKeyId>\n"
                "      <SecretAccessKey>%s</SecretAccessKey>\n      <SessionToken>%s</SessionToken>\n      <Expiration>%s</Expiration>\n"
                "    </Credentials>\n  </%sResult>\n  <ResponseMetadata>\n    <RequestId>%s</RequestId>\n  </ResponseMetadata>\n</%sResponse>\n",
                action, action, extra, session, arn, u->access_key_id, u->secret, u->session_token, expiration, action,
                c->request_id, action);
        answer_text(c->answer, 200, "text/xml", xml);
}

/* ---- the calls ---- */

static void deny(struct sts_call *c, const char *action, const char *resource)
{
        _cleanup_(freep) char *message = text_format("User: %s is not authorized to perform: %s on resource: %s",
                                                     c->user->arn, action, resource);

        fail(c, 403, "AccessDenied", message);
}

static void assume_role(struct sts_call *c)
{
        const char *role_arn = parameter(c, "RoleArn");
        const struct aws_role *role;
        uint64_t seconds;

        if (!common_parameters(c, &seconds))
                return;
        role = aws_role_find(&c->mock->identities, role_arn);
        if (!aws_policy_allows(c->user->policy, "sts:AssumeRole") ||
            (role && role->external_id && !text_equal(role->external_id, parameter(c, "ExternalId"))))
                deny(c, "sts:AssumeRole", role_arn);
        else
                answer_session(c, "AssumeRole", seconds, "");
}

static void assume_role_with_web_identity(struct sts_call *c)
{
        const char *token = parameter(c, "WebIdentityToken");
        const json_t *known;
        uint64_t seconds;

        if (!common_parameters(c, &seconds))
                return;
        if (!token || strlen(token) < 4 || strlen(token) > 20000) {
                fail(c, 400, "ValidationError",
                     "1 validation error detected: Value at 'webIdentityToken' failed to satisfy constraint: "
                     "Member must have length greater than or equal to 4");
                return;
        }
        known = json_object_get(c->mock->identities.web_identity, token);
        if (!known) {
                fail(c, 400, "InvalidIdentityToken",
                     "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)");
        } else if (json_flag(known, "expired", false)) {
                fail(c, 400, "ExpiredTokenException",
                     "Token expired: current date/time must be before the expiration date/time");
        } else if (json_text(known, "role_arn") && !text_equal(json_text(known, "role_arn"), parameter(c, "RoleArn"))) {
                fail(c, 403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity");
        } else {
                answer_session(
                        c, "AssumeRoleWithWebIdentity", seconds,
                        "    <SubjectFromWebIdentityToken>system:serviceaccount:default:lkm</SubjectFromWebIdentityToken>\n"
                        "    <Audience>sts.amazonaws.com</Audience>\n");
        }
}

static void get_caller_identity(struct sts_call *c)
{
        _cleanup_(freep) char *xml = text_format(
                "<GetCallerIdentityResponse xmlns=\"" XMLNS "\">\n  <GetCallerIdentityResult>\n    <Arn>%s</Arn>\n"
                "    <UserId>%s</UserId>\n    <Account>" AWS_ACCOUNT "</Account>\n  </GetCallerIdentityResult>\n"
                "  <ResponseMetadata>\n    <RequestId>%s</RequestId>\n  </ResponseMetadata>\n"
                "</GetCallerIdentityResponse>\n",
                c->user->arn, c->user->access_key_id, c->request_id);

        answer_text(c->answer, 200, "text/xml", xml);
}

static const struct {
        const char *name;
        void (*run)(struct sts_call *c);
        bool is_signed;
} actions[] = {
        { "AssumeRole", assume_role, true },
        { "AssumeRoleWithWebIdentity", assume_role_with_web_identity, false },
        { "GetCallerIdentity", get_caller_identity, true },
};

/* ---- the service ---- */

static bool claims(const struct request *r)
{
        return strcmp(r->path, "/") == 0 &&
               text_starts(request_header(r, "Content-Type"), "application/x-www-form-urlencoded");
}

static void identify(struct request *r)
{
        struct evkeyvalq form;
        const char *action;

        form_parse(&form, r);
        action = evhttp_find_header(&form, "Action");
        snprintf(r->operation, sizeof(r->operation), "%s", action ? action : "");
        evhttp_clear_headers(&form);
        aws_auth_region(r->region, sizeof(r->region), r);
}

/* Return: whether the caller is known. */
static bool authenticate(struct sts_call *c, const struct request *r)
{
        _cleanup_(freep) char *reason = NULL;

        switch (aws_auth_check(c->mock, r, "sts", SKEW_MINUTES, &c->user, &reason)) {
        case 0:
                return true;
        case AWS_AUTH_E_MISSING:
                fail(c, 403, "MissingAuthenticationToken", "Request is missing Authentication Token");
                break;
        case AWS_AUTH_E_INCOMPLETE:
                fail(c, 400, "IncompleteSignature", reason);
                break;
        case AWS_AUTH_E_UNKNOWN:
                fail(c, 403, "InvalidClientTokenId", "The security token included in the request is invalid.");
                break;
        case AWS_AUTH_E_EXPIRED:
                fail(c, 403, "ExpiredToken", "The security token included in the request is expired");
                break;
        default:
                fail(c, 403, "SignatureDoesNotMatch", reason);
        }
        return false;
}

static void run(struct sts_call *c, const struct request *r)
{
        if (!text_equal(parameter(c, "Version"), "2011-06-15")) {
                fail(c, 400, "InvalidAction", "Could not find operation for this version");
                return;
        }
        for (size_t i = 0; i < ELEMENTSOF(actions); i++) {
                if (strcmp(actions[i].name, r->operation) != 0)
                        continue;
                if (!actions[i].is_signed || authenticate(c, r))
                        actions[i].run(c);
                return;
        }
        fail(c, 400, "InvalidAction", "Could not find operation for this action");
}

static void handle(struct mock *m, struct request *r, struct answer *a)
{
        struct sts_call c = { .mock = m, .answer = a, .request_id = text_uuid() };

        answer_header(a, "x-amzn-RequestId", c.request_id);
        answer_request_id(a, c.request_id);
        form_parse(&c.form, r);
        run(&c, r);
        evhttp_clear_headers(&c.form);
        free(c.request_id);
}

static void throttle(const struct request *r, struct answer *a)
{
        answer_error(a, 400, "Throttling", "Rate exceeded", "00000000-0000-4000-8000-000000000000");
}

static void fail_status(const struct request *r, struct answer *a, int status)
{
        answer_error(a, status, status == 503 ? "ServiceUnavailable" : "InternalFailure", "",
                     "00000000-0000-4000-8000-000000000000");
}

static void expire(struct mock *m)
{
        aws_sessions_expire(&m->identities, mock_now_usec(m));
}

const struct service service_sts = { .name = "sts",
                                     .claims = claims,
                                     .identify = identify,
                                     .handle = handle,
                                     .throttle = throttle,
                                     .fail = fail_status,
                                     .expire = expire };
