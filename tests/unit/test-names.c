/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/names.h"

#include <stdint.h>
#include <string.h>

#include "tests/unit/suite.h"

static char folder[] = "/tmp/test-names-XXXXXX";
static char passwd[64], group[64];
static struct names *names;

static void write_file(const char *path, const char *text)
{
        FILE *file = fopen(path, "we");

        ck_assert_ptr_nonnull(file);
        ck_assert_int_ge(fputs(text, file), 0);
        ck_assert_int_eq(fclose(file), 0);
}

static void setup(void)
{
        memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
        ck_assert_ptr_nonnull(mkdtemp(folder));
        snprintf(passwd, sizeof(passwd), "%s/passwd", folder);
        snprintf(group, sizeof(group), "%s/group", folder);
        write_file(passwd, "root:x:0:0:root:/root:/bin/sh\nclinic:x:1001:100::/:/bin/sh\nclin:x:1002:100::/:/bin/sh\n");
        write_file(group, "root:x:0:\nnurses:x:2001:clinic,clin\n");
        ck_assert_int_eq(names_new(&names, passwd, group), 0);
}

static void teardown(void)
{
        names = names_free(names);
        unlink(passwd);
        unlink(group);
        rmdir(folder);
}

static void find(enum names_kind kind, const char *name, uint32_t wanted)
{
        uint32_t id = 4711;

        ck_assert_int_eq(names_find(names, kind, name, &id), 0);
        ck_assert_uint_eq(id, wanted);
}

static void miss(enum names_kind kind, const char *name, int why)
{
        uint32_t id = 4711;

        ck_assert_int_eq(names_find(names, kind, name, &id), why);
        ck_assert_uint_eq(id, 4711);
}

START_TEST(name_services_are_asked_until_the_seal)
{
        uint32_t id = 4711;

        find(NAMES_USER, "root", 0);
        find(NAMES_GROUP, "root", 0);
        miss(NAMES_USER, "clinic-of-no-machine", NAMES_E_UNKNOWN);
        miss(NAMES_GROUP, "clinic-of-no-machine", NAMES_E_UNKNOWN);
        ck_assert_int_eq(names_find(NULL, NAMES_USER, "root", &id), 0);
        ck_assert_uint_eq(id, 0);
}
END_TEST

START_TEST(files_are_read_after_the_seal)
{
        names_seal(names);
        find(NAMES_USER, "clinic", 1001);
        find(NAMES_USER, "clin", 1002);
        find(NAMES_GROUP, "nurses", 2001);
        miss(NAMES_USER, "nurses", NAMES_E_SEALED);
        miss(NAMES_GROUP, "clinic", NAMES_E_SEALED);
        miss(NAMES_USER, "", NAMES_E_SEALED);
        miss(NAMES_USER, "clinic:x", NAMES_E_SEALED);
        write_file(passwd, "clinic:x:1009:100::/:/bin/sh\n");
        find(NAMES_USER, "clinic", 1009);
}
END_TEST

START_TEST(what_is_no_number_is_no_name)
{
        write_file(passwd, "a:x:\nb:x:-1:\nc:x:4294967295:\nd:x:7x:\ne:x\nf\n\n+::::::\ng:x:8:0\nh:x: 9:\ni:x:99999999999999999999:\n");
        names_seal(names);
        for (const char *name = "abcdefhi+"; *name; name++)
                miss(NAMES_USER, (const char[]){ *name, '\0' }, NAMES_E_SEALED);
        find(NAMES_USER, "g", 8);
}
END_TEST

/* "root" is in the files of the machine and in ours; in ours with another number, which tells where an answer came from. */
START_TEST(names_of_the_start_are_found_when_the_files_cannot_be_read)
{
        find(NAMES_USER, "root", 0);
        names_seal(names);
        ck_assert_int_eq(unlink(passwd), 0);
        find(NAMES_USER, "root", 0);
        miss(NAMES_USER, "clinic", NAMES_E_SEALED);
        write_file(passwd, "root:x:5:0::/:/bin/sh\n");
        find(NAMES_USER, "root", 5);
}
END_TEST

START_TEST(names_of_a_service_that_no_file_has_stay_known)
{
        write_file(passwd, "clinic:x:1001:100::/:/bin/sh\n");
        find(NAMES_USER, "root", 0);
        names_seal(names);
        find(NAMES_USER, "root", 0);
}
END_TEST

START_TEST(name_removed_from_its_file_is_unknown)
{
        find(NAMES_USER, "root", 0);
        names_seal(names);
        write_file(passwd, "clinic:x:1001:100::/:/bin/sh\n");
        miss(NAMES_USER, "root", NAMES_E_UNKNOWN);
        find(NAMES_USER, "clinic", 1001);
}
END_TEST

int main(void)
{
        const struct promise promises[] = { { name_services_are_asked_until_the_seal },
                                                   { files_are_read_after_the_seal },
                                                   { what_is_no_number_is_no_name },
                                                   { names_of_the_start_are_found_when_the_files_cannot_be_read },
                                                   { names_of_a_service_that_no_file_has_stay_known },
                                                   { name_removed_from_its_file_is_unknown } };

        return suite_run("names", setup, teardown, promises, ELEMENTSOF(promises));
}
