/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/unit.h"

#include <string.h>

#include "common/cleanup.h"
#include "tests/unit/suite.h"

/* The unit in @text, or "-". */
static const char *unit_of(const char *text)
{
        static char unit[UNIT_NAME_MAX + 1];

        memcpy(unit, "untouched", sizeof("untouched"));
        if (unit_from_cgroup(unit, text, strlen(text)))
                return unit;
        ck_assert_str_eq(unit, "untouched");
        return "-";
}

static void units_are(const char *const (*cases)[2], size_t n)
{
        for (size_t i = 0; i < n; i++)
                ck_assert_msg(strcmp(unit_of(cases[i][0]), cases[i][1]) == 0, "%s gives %s", cases[i][0], unit_of(cases[i][0]));
}

START_TEST(the_first_component_that_is_no_slice_is_the_unit)
{
        static const char *const cases[][2] = {
                { "0::/system.slice/clinic.service\n", "clinic.service" },
                { "0::/clinic.service\n", "clinic.service" },
                { "0::/init.scope\n", "init.scope" },
                { "0::/a.slice/a-b.slice/a-b-c.slice/clinic.service\n", "clinic.service" },
                { "0::/system.slice/system-clinic.slice/clinic@north.service\n", "clinic@north.service" },
                { "0::/system.slice/dbus.socket\n", "dbus.socket" },
                { "0::/system.slice/mnt-data\\x2dold.mount\n", "mnt-data\\x2dold.mount" },
                { "0::/user.slice/user-1000.slice/session-3.scope\n", "session-3.scope" },
                { "0::/machine.slice/libpod-0123abcd.scope/container/clinic.service\n", "libpod-0123abcd.scope" },
        };

        units_are(cases, ELEMENTSOF(cases));
}
END_TEST

/* Whoever a cgroup is delegated to gives names below it. */
START_TEST(what_lies_below_a_unit_changes_nothing)
{
        static const char *const cases[][2] = {
                { "0::/system.slice/other.service/clinic.service\n", "other.service" },
                { "0::/system.slice/other.service/system.slice/clinic.service\n", "other.service" },
                { "0::/system.slice/clinic.service/worker/other.service\n", "clinic.service" },
                { "0::/user.slice/user-1000.slice/user@1000.service/app.slice/clinic.service\n", "user@1000.service" },
                { "0::/user.slice/user-1000.slice/user@1000.service/clinic.service\n", "user@1000.service" },
                { "0::/other.service/0::/clinic.service\n", "other.service" },
        };

        units_are(cases, ELEMENTSOF(cases));
}
END_TEST

START_TEST(only_the_unified_hierarchy_counts)
{
        static const char *const cases[][2] = {
                { "12:pids:/system.slice/clinic.service\n1:name=systemd:/system.slice/clinic.service\n", "-" },
                { "1:name=systemd:/system.slice/other.service\n0::/system.slice/clinic.service\n", "clinic.service" },
                { "0::/system.slice/clinic.service\n1:name=systemd:/system.slice/other.service\n", "clinic.service" },
                { "1:name=systemd:/system.slice/clinic.service\n0::/\n", "-" },
                { "10::/system.slice/clinic.service\n", "-" },
                { "0:x:/system.slice/clinic.service\n", "-" },
                { " 0::/system.slice/clinic.service\n", "-" },
        };

        units_are(cases, ELEMENTSOF(cases));
}
END_TEST

/* A leading "_" is systemd's escape for names that the kernel has for itself; it takes exactly one off. */
START_TEST(an_escaped_name_is_the_name)
{
        static const char *const cases[][2] = {
                { "0::/system.slice/_cpu.service\n", "cpu.service" },
                { "0::/system.slice/__clinic.service\n", "_clinic.service" },
                { "0::/system.slice/_\n", "-" },
        };

        units_are(cases, ELEMENTSOF(cases));
}
END_TEST

START_TEST(hostile_and_broken_text_gives_no_unit)
{
        static const char *const cases[][2] = {
                { "", "-" },
                { "\n", "-" },
                { "0::", "-" },
                { "0::\n", "-" },
                { "0::/\n", "-" },
                { "0::/system.slice\n", "-" },
                { "0::/system.slice/clinic.service", "-" }, /* cut off */
                { "0::system.slice/clinic.service\n", "-" },
                { "0::/../system.slice/clinic.service\n", "-" }, /* outside the reader's cgroup namespace */
                { "0::/../../clinic.service\n", "-" },
                { "0::/system.slice/../clinic.service\n", "-" },
                { "0::/clinic.service/..\n", "-" },
                { "0::/./clinic.service\n", "-" },
                { "0::/system.slice//clinic.service\n", "-" },
                { "0::/system.slice/clinic.service/\n", "-" },
                { "0::/system.slice/clinic.service (deleted)\n", "-" },
                { "0::/system.slice/clinic.service/a (deleted)\n", "-" },
                { "0::/other.service\n0::/clinic.service\n", "-" },
                { "0::/other\\nclinic.service\n", "other\\nclinic.service" }, /* a backslash and an n */
                { "0::/other\\012clinic.service\n", "other\\012clinic.service" },
                { "0::/other\n/clinic.service\n", "-" },
                { "0::/system.slice/clinic\n", "-" },
                { "0::/system.slice/.service\n", "-" },
                { "0::/.slice/clinic.service\n", "-" },
                { "0::/system.slice/clinic.service.d\n", "-" },
                { "0::/system.slice/clinic.SERVICE\n", "-" },
                { "0::/system.slice/clinic.servic\303\251.service\n", "-" },
                { "0::/system.slice/clinic .service\n", "-" },
                { "0::/system.slice/clinic@.service\n", "-" },
                { "0::/actions_job/abc/clinic.service\n", "-" }, /* a machine without systemd */
        };
        static const char with_nul[] = "0::/clinic.service\0\n";
        char unit[UNIT_NAME_MAX + 1];

        units_are(cases, ELEMENTSOF(cases));
        ck_assert(!unit_from_cgroup(unit, with_nul, sizeof(with_nul) - 1));
}
END_TEST

START_TEST(a_name_may_have_255_bytes_and_no_more)
{
        char text[UNIT_NAME_MAX + 64], unit[UNIT_NAME_MAX + 1];
        const size_t n_prefix = strlen("0::/"), n_suffix = strlen(".service");

        for (size_t n = UNIT_NAME_MAX - 1; n <= UNIT_NAME_MAX + 2; n++) {
                memcpy(text, "0::/", n_prefix);
                memset(text + n_prefix, 'a', n);
                memcpy(text + n_prefix + n - n_suffix, ".service\n", n_suffix + 1);
                ck_assert_int_eq(unit_from_cgroup(unit, text, n_prefix + n + 1), n <= UNIT_NAME_MAX);
        }
}
END_TEST

START_TEST(every_way_to_cut_the_text_gives_this_unit_or_none)
{
        static const char text[] = "2:cpu:/x.service\n1:name=systemd:/y.service\n0::/a.slice/clinic@a.service/sub\n";
        char unit[UNIT_NAME_MAX + 1];

        for (size_t from = 0; from < sizeof(text); from++) {
                for (size_t to = from; to < sizeof(text); to++) {
                        if (unit_from_cgroup(unit, text + from, to - from))
                                ck_assert_str_eq(unit, "clinic@a.service");
                }
        }
}
END_TEST

START_TEST(rules_take_full_names_of_units_that_have_processes)
{
        static const char *const good[] = { "clinic.service", "clinic@a.service", "a@b@c.service", "session-3.scope", "x.socket", "-.mount",
                                            "dev-sda1.swap", "mnt-a\\x2db.mount", "clinic@.x.service" };
        static const struct {
                const char *name, *phrase;
        } bad[] = { { "", "name of a systemd unit" },
                    { "clinic", "full name" },
                    { ".service", "full name" },
                    { "clinic.timer", "full name" },
                    { "clinic.service/sub", "name of a systemd unit" },
                    { "clinic*.service", "name of a systemd unit" },
                    { "clinic@.service", "template" },
                    { "@a.service", "template" },
                    { "system.slice", "slice" } };

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                ck_assert_msg(!unit_name_check(good[i]), "%s: %s", good[i], unit_name_check(good[i]));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                ck_assert_msg(unit_name_check(bad[i].name), "%s is taken", bad[i].name);
                ck_assert_msg(strstr(unit_name_check(bad[i].name), bad[i].phrase), "%s: %s", bad[i].name, unit_name_check(bad[i].name));
        }
}
END_TEST

static void nothing(void)
{
}

int main(void)
{
        const struct promise all[] = { { the_first_component_that_is_no_slice_is_the_unit },
                                       { what_lies_below_a_unit_changes_nothing },
                                       { only_the_unified_hierarchy_counts },
                                       { an_escaped_name_is_the_name },
                                       { hostile_and_broken_text_gives_no_unit },
                                       { a_name_may_have_255_bytes_and_no_more },
                                       { every_way_to_cut_the_text_gives_this_unit_or_none },
                                       { rules_take_full_names_of_units_that_have_processes } };

        return suite_run("unit", nothing, nothing, all, ELEMENTSOF(all));
}
