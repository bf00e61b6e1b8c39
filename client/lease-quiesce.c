/* SPDX-License-Identifier: Apache-2.0 */
/* lease-quiesce: the rotator's end of leases. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "client/lease.h"
#include "common/clock.h"

void lease_quiescence_deinit(struct lease_quiescence *q)
{
        free(q->holders);
        *q = (struct lease_quiescence){ 0 };
}

/* ---- the REPORT ----
 * A reader for this one answer of the daemon: an object of numbers, truths, and arrays of such objects. What it does not know it refuses, but
 * for members with unknown names. */

enum { NAME_MAX_BYTES = 16, DEPTH_MAX = 4 };

static bool take(const char **at, char c)
{
        while (isspace((unsigned char)**at))
                (*at)++;
        if (**at != c)
                return false;
        (*at)++;
        return true;
}

/* A string without escapes, as names of members are. A longer one is cut: it is no name that is known here. */
static int take_name(const char **at, char ret_name[NAME_MAX_BYTES])
{
        size_t n = 0;

        if (!take(at, '"'))
                return -EBADMSG;
        for (; **at && **at != '"'; (*at)++) {
                if (**at == '\\')
                        return -EBADMSG;
                if (n < NAME_MAX_BYTES - 1)
                        ret_name[n++] = **at;
        }
        ret_name[n] = '\0';
        return take(at, '"') ? 0 : -EBADMSG;
}

static int take_number(const char **at, uint64_t *ret_number)
{
        char *end;

        while (isspace((unsigned char)**at))
                (*at)++;
        if (!isdigit((unsigned char)**at))
                return -EBADMSG;
        errno = 0;
        *ret_number = strtoull(*at, &end, 10);
        *at = end;
        return errno || *ret_number > UINT32_MAX ? -EBADMSG : 0;
}

static int take_truth(const char **at, bool *ret_truth)
{
        while (isspace((unsigned char)**at))
                (*at)++;
        for (int truth = 0; truth <= 1; truth++) {
                const char *word = truth ? "true" : "false";

                if (strncmp(*at, word, strlen(word)) == 0) {
                        *at += strlen(word);
                        *ret_truth = truth;
                        return 0;
                }
        }
        return -EBADMSG;
}

/* A value of any kind that a later daemon may add. */
static int skip_value(const char **at, unsigned depth)
{
        char name[NAME_MAX_BYTES];
        bool object = take(at, '{');
        int r;

        if (depth > DEPTH_MAX)
                return -EBADMSG;
        if (!object && !take(at, '[')) {
                if (take(at, '"')) {
                        (*at)--;
                        return take_name(at, name);
                }
                r = 0;
                for (; isalnum((unsigned char)**at) || (**at && strchr("+-.", **at)); (*at)++)
                        r++;
                return r > 0 ? 0 : -EBADMSG;
        }
        if (take(at, object ? '}' : ']'))
                return 0;
        do {
                r = object ? take_name(at, name) : 0;
                if (r == 0 && object && !take(at, ':'))
                        r = -EBADMSG;
                if (r == 0)
                        r = skip_value(at, depth + 1);
                if (r < 0)
                        return r;
        } while (take(at, ','));
        return take(at, object ? '}' : ']') ? 0 : -EBADMSG;
}

/* The members of one object, each by @member. */
static int take_object(const char **at, int (*member)(void *userdata, const char *name, const char **at), void *userdata)
{
        char name[NAME_MAX_BYTES];

        if (!take(at, '{'))
                return -EBADMSG;
        if (take(at, '}'))
                return 0;
        do {
                int r = take_name(at, name);

                if (r == 0)
                        r = take(at, ':') ? member(userdata, name, at) : -EBADMSG;
                if (r < 0)
                        return r;
        } while (take(at, ','));
        return take(at, '}') ? 0 : -EBADMSG;
}

static int holder_member(void *userdata, const char *name, const char **at)
{
        struct lease_holder *h = userdata;
        uint64_t number = 0;
        int r;

        if (strcmp(name, "yielded") == 0)
                return take_truth(at, &h->yielded);
        if (strcmp(name, "uid") != 0 && strcmp(name, "gid") != 0 && strcmp(name, "pid") != 0)
                return skip_value(at, 0);
        r = take_number(at, &number);
        if (strcmp(name, "uid") == 0)
                h->uid = (uid_t)number;
        else if (strcmp(name, "gid") == 0)
                h->gid = (gid_t)number;
        else
                h->pid = (pid_t)number;
        return r;
}

static int take_holders(const char **at, struct lease_quiescence *q)
{
        if (!take(at, '[') || q->holders)
                return -EBADMSG;
        if (take(at, ']'))
                return 0;
        q->holders = calloc(LEASE_HOLDERS_MAX, sizeof(*q->holders));
        if (!q->holders)
                return -ENOMEM;
        do {
                int r = q->n_holders < LEASE_HOLDERS_MAX ? take_object(at, holder_member, &q->holders[q->n_holders]) : -EBADMSG;

                if (r < 0)
                        return r;
                q->n_holders++;
        } while (take(at, ','));
        return take(at, ']') ? 0 : -EBADMSG;
}

struct reading {
        struct lease_quiescence q;
        bool has_quiet, has_holders;
};

static int report_member(void *userdata, const char *name, const char **at)
{
        struct reading *reading = userdata;

        if (strcmp(name, "quiet") == 0) {
                reading->has_quiet = true;
                return take_truth(at, &reading->q.quiet);
        }
        if (strcmp(name, "more") == 0)
                return take_truth(at, &reading->q.more);
        if (strcmp(name, "holders") != 0)
                return skip_value(at, 0);
        reading->has_holders = true;
        return take_holders(at, &reading->q);
}

int lease_quiescence_parse(struct lease_quiescence *ret_quiescence, const char *json)
{
        struct reading reading = { 0 };
        int r = take_object(&json, report_member, &reading);

        if (r == 0 && (!take(&json, '\0') || !reading.has_quiet || !reading.has_holders))
                r = -EBADMSG;
        if (r < 0)
                lease_quiescence_deinit(&reading.q);
        else
                *ret_quiescence = reading.q;
        return r;
}

void lease_quiescence_format(char *ret_text, size_t n, const struct lease_quiescence *q)
{
        enum { REST = sizeof(", and others") };
        size_t used = 0;

        *ret_text = '\0';
        for (size_t i = 0; i < q->n_holders; i++) {
                const struct lease_holder *h = &q->holders[i];
                char one[64];
                int n_one;

                if (h->yielded)
                        continue;
                n_one = snprintf(one, sizeof(one), "%sprocess %d (user %u)", used ? ", " : "", (int)h->pid, (unsigned)h->uid);
                if (used + (size_t)n_one + REST > n) {
                        snprintf(ret_text + used, n - used, "%s", used ? ", and others" : "");
                        return;
                }
                memcpy(ret_text + used, one, (size_t)n_one + 1);
                used += (size_t)n_one;
        }
        if (q->more && used > 0)
                snprintf(ret_text + used, n - used, ", and others");
}

/* ---- asking ---- */

int lease_quiesce(struct lkm *lkm, const uint8_t *record, size_t n_record, uint32_t timeout_msec,
                  struct lease_quiescence *ret_quiescence)
{
        uint32_t msec = timeout_msec < LEASE_QUIESCE_MAX_MSEC ? timeout_msec : LEASE_QUIESCE_MAX_MSEC;
        union message request = { .quiesce = { .number_ = MESSAGE_QUIESCE, .record = { record, n_record }, .timeout_msec = msec } };
        _cleanup_(freep) char *json = NULL;
        uint64_t usual;
        int r = connection_check(lkm);

        if (r)
                return r;
        usual = lkm->timeout_usec;
        lkm->timeout_usec = clock_add(usual, msec * USEC_PER_MSEC);
        r = connection_report(lkm, &request, &json);
        lkm->timeout_usec = usual;
        if (r)
                return r;
        r = lease_quiescence_parse(ret_quiescence, json);
        if (r == -ENOMEM)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        return r < 0 ? error_set_default(lkm, LKM_E_PROTOCOL) : 0;
}

int lease_resume(struct lkm *lkm)
{
        union message request = { .resume = { .number_ = MESSAGE_RESUME } }, answer;
        int r = connection_call(lkm, &request, MESSAGE_DONE, &answer);

        if (r == 0)
                connection_settle(lkm);
        return r;
}
