/* SPDX-License-Identifier: Apache-2.0 */
/* lkmctl-audit-filter: which records a person asks for. */
#include <pwd.h>
#include <time.h>

#include "client/lkmctl-audit.h"
#include "common/clock.h"

/* ---- times ---- */

static const struct {
        const char *name;
        uint64_t seconds;
} units[] = { { "s", 1 }, { "min", 60 }, { "h", 3600 }, { "d", 86400 }, { "w", 7 * 86400 } };

/* "-90min": so long before now. */
static bool parse_ago(uint64_t *ret_usec, const char *text)
{
        char *end;
        unsigned long long n = strtoull(text + 1, &end, 10);
        uint64_t now = clock_wall_usec(), ago;

        if (text[0] != '-' || text[1] < '0' || text[1] > '9')
                return false;
        for (size_t i = 0; i < ELEMENTSOF(units); i++) {
                if (strcmp(end, units[i].name) != 0)
                        continue;
                if (__builtin_mul_overflow(n, units[i].seconds * USEC_PER_SEC, &ago) || ago > now)
                        ago = now;
                *ret_usec = now - ago;
                return true;
        }
        return false;
}

/* "today", "yesterday": their midnight here. */
static bool parse_day(uint64_t *ret_usec, const char *text)
{
        time_t now = (time_t)(clock_wall_usec() / USEC_PER_SEC);
        struct tm day;

        if (strcmp(text, "today") != 0 && strcmp(text, "yesterday") != 0)
                return false;
        if (!localtime_r(&now, &day))
                return false;
        day.tm_mday -= *text == 'y';
        day.tm_hour = day.tm_min = day.tm_sec = 0;
        day.tm_isdst = -1;
        *ret_usec = (uint64_t)mktime(&day) * USEC_PER_SEC;
        return true;
}

/* A date, perhaps with a time and a fraction of a second, in the time zone of this process or with 'Z' in UTC. */
static bool parse_date(uint64_t *ret_usec, const char *text)
{
        static const char *const forms[] = { "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d" };
        uint64_t fraction = 0, weight = USEC_PER_SEC;
        const char *end = NULL;
        struct tm tm;
        time_t seconds;

        for (size_t i = 0; i < ELEMENTSOF(forms) && !end; i++) {
                tm = (struct tm){ .tm_isdst = -1 };
                end = strptime(text, forms[i], &tm);
                if (end && *end && *end != 'Z' && (*end != '.' || i > 1))
                        end = NULL;
        }
        if (!end)
                return false;
        if (*end == '.') {
                for (end++; *end >= '0' && *end <= '9'; end++) {
                        weight /= 10;
                        fraction += weight * (uint64_t)(*end - '0');
                }
        }
        seconds = *end == 'Z' ? timegm(&tm) : mktime(&tm);
        end += *end == 'Z';
        if (*end || seconds < 0)
                return false;
        *ret_usec = (uint64_t)seconds * USEC_PER_SEC + fraction;
        return true;
}

int audit_time_parse(uint64_t *ret_usec, const char *name, const char *text)
{
        if (parse_ago(ret_usec, text) || parse_day(ret_usec, text) || parse_date(ret_usec, text))
                return EXIT_CODE_OK;
        return ctl_refuse(EXIT_CODE_USAGE,
                          "--%s %s is no time. Give a date and time as 2026-01-31 or 2026-01-31 15:04:05 (with Z behind it for UTC), today, "
                          "yesterday, or how long ago: -90s, -15min, -2h, -3d, -1w",
                          name, text);
}

/* ---- the filter ---- */

static int parse_user(struct audit_filter *f, const char *text)
{
        char *end;
        unsigned long long uid = strtoull(text, &end, 10);
        struct passwd *user = NULL;

        f->has_uid = true;
        if (*text >= '0' && *text <= '9' && !*end) {
                f->uid = uid;
                return EXIT_CODE_OK;
        }
        user = getpwnam(text);
        if (!user)
                return ctl_refuse(EXIT_CODE_USAGE, "there is no user %s here. Give the number of one who is gone", text);
        f->uid = user->pw_uid;
        return EXIT_CODE_OK;
}

static struct bytes text_or_nothing(const char *text)
{
        return text ? bytes_from_string(text) : (struct bytes){ 0 };
}

int audit_filter_init(struct audit_filter *ret_filter, const struct ctl *c)
{
        const struct ctl_audit *o = &c->audit;
        struct audit_filter f = { .until_usec = USEC_INFINITY,
                                  .scope = text_or_nothing(c->scope),
                                  .database = text_or_nothing(o->database),
                                  .event = text_or_nothing(o->event),
                                  .decision = text_or_nothing(o->decision),
                                  .unit = text_or_nothing(c->unit) };
        int r = EXIT_CODE_OK;

        if (o->since)
                r = audit_time_parse(&f.since_usec, "since", o->since);
        if (r == EXIT_CODE_OK && o->until)
                r = audit_time_parse(&f.until_usec, "until", o->until);
        if (r == EXIT_CODE_OK && o->user)
                r = parse_user(&f, o->user);
        if (r == EXIT_CODE_OK && o->decision && strcmp(o->decision, "allow") != 0 && strcmp(o->decision, "deny") != 0)
                r = ctl_refuse(EXIT_CODE_USAGE, "--decision is allow or deny");
        if (r == EXIT_CODE_OK)
                *ret_filter = f;
        return r;
}

static bool is_wanted(struct bytes wanted, struct bytes said)
{
        return wanted.n == 0 || bytes_equal(wanted, said);
}

bool audit_filter_takes(const struct audit_filter *f, const struct audit_line *line)
{
        if (line->time_usec < f->since_usec || line->time_usec > f->until_usec)
                return false;
        if (f->has_uid && (!line->has_peer || line->uid != f->uid))
                return false;
        if (f->database.n > 0 && !bytes_equal(f->database, line->database_id) && !bytes_equal(f->database, line->label))
                return false;
        return is_wanted(f->scope, line->scope) && is_wanted(f->event, line->event) && is_wanted(f->decision, line->decision) &&
               is_wanted(f->unit, line->unit);
}
