/* SPDX-License-Identifier: Apache-2.0 */
/* stages: EXPLAIN, which tells the rule that decides about each right: for the caller, or for somebody whose credentials the message names. */
#include "daemon/stages.h"

#include <jansson.h>

#include "daemon/unit.h"

/* As many as fit in the message. */
enum { GROUPS_MAX = 512 };

/** Whom an EXPLAIN is about. */
struct explained {
        struct peer peer; /* borrows from here, or from the connection */
        uint32_t groups[GROUPS_MAX];
        char unit[UNIT_NAME_MAX + 1];
};

/* The next decimal of @text, which is not empty then. Return: whether there is one that is a uid or gid. */
static bool take_number(struct bytes *text, uint32_t *ret_number)
{
        uint64_t number = 0;
        size_t n = 0;

        while (n < text->n && n <= 10 && text->data[n] >= '0' && text->data[n] <= '9')
                number = number * 10 + (text->data[n++] - '0');
        if (n == 0 || number >= UINT32_MAX || (n < text->n && (text->data[n] != ' ' || n + 1 == text->n)))
                return false;
        n += n < text->n;
        *text = (struct bytes){ text->data + n, text->n - n };
        *ret_number = (uint32_t)number;
        return true;
}

/* Return: NULL, or what is wrong with the message. */
static const char *explained_read(struct explained *e, const struct request *r)
{
        const struct message_explain *m = &r->message->explain;
        struct bytes text = m->credentials;

        e->peer = r->connection->peer;
        if (text.n > 0) {
                e->peer = (struct peer){ .groups = e->groups };
                if (!take_number(&text, &e->peer.uid) || text.n == 0 || !take_number(&text, &e->peer.gid))
                        return "credentials are \"UID GID [GROUP...]\"";
                while (text.n > 0) {
                        if (e->peer.n_groups == GROUPS_MAX || !take_number(&text, &e->groups[e->peer.n_groups++]))
                                return "credentials are \"UID GID [GROUP...]\"";
                }
        }
        if (m->unit.n > 0) {
                memcpy(e->unit, m->unit.data, m->unit.n);
                e->unit[m->unit.n] = '\0';
                e->peer.unit = e->unit;
                return unit_name_check(e->unit);
        }
        return NULL;
}

int stage_decode_explain(struct request *r)
{
        const struct message_explain *m = &r->message->explain;
        struct explained e;
        const char *wrong = explained_read(&e, r);
        int result;

        if (wrong)
                return request_refuse(r, PROTO_ERROR_PROTOCOL, wrong);
        if ((m->record.n > 0) == (m->scope.n > 0))
                return request_refuse(r, PROTO_ERROR_PROTOCOL, "EXPLAIN takes a record or a scope");
        if (m->scope.n > 0)
                return request_find_scope(r, m->scope);
        result = request_parse(r, m->record);
        if (result != STAGE_NEXT)
                return result;
        if (r->record->format == 1)
                return request_refuse(r, PROTO_ERROR_SCOPE_NEEDED, "a record of the first format names no scope");
        return request_find_record_scope(r, r->record->scope);
}

/* Everybody may know about himself. */
int stage_authorize_explain(struct request *r)
{
        struct explained e;

        explained_read(&e, r);
        return e.peer.uid == r->connection->peer.uid ? STAGE_NEXT : request_authorize(r, POLICY_RIGHT_ADMIN);
}

static json_t *explain_right(const struct request *r, const struct peer *peer, enum policy_right right)
{
        const char *rule = "no rule", *admin_path = r->daemon->listeners.admin_path;
        bool allowed = policy_decide(r->config, right == POLICY_RIGHT_ADMIN ? NULL : r->scope, peer, right, &rule);
        json_t *json = json_pack("{s:b, s:s}", "allowed", allowed, "rule", rule);

        if (right == POLICY_RIGHT_ADMIN && admin_path)
                json_object_set_new(json, "socket", json_string(admin_path));
        return json;
}

int stage_reply_explain(struct request *r)
{
        struct explained e;
        const struct peer *peer = &e.peer;
        json_t *groups = json_array(), *rights = json_object();

        explained_read(&e, r);
        for (size_t i = 0; i < peer->n_groups; i++)
                json_array_append_new(groups, json_integer(peer->groups[i]));
        for (unsigned right = POLICY_RIGHT_USE; right <= POLICY_RIGHT_ADMIN; right++)
                json_object_set_new(rights, policy_right_name((enum policy_right)right), explain_right(r, peer, (enum policy_right)right));
        return request_report(r, json_pack("{s:s, s:I, s:I, s:o, s:s?, s:o}", "scope", r->scope->name, "uid", (json_int_t)peer->uid, "gid",
                                           (json_int_t)peer->gid, "groups", groups, "unit", peer->unit, "rights", rights));
}
