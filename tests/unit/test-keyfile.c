/* SPDX-License-Identifier: Apache-2.0 */
#include "client/keyfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "proto/frame.h"
#include "tests/unit/suite.h"

static int replace_file(const char *path, struct bytes content)
{
        struct keyfile_lock lock = KEYFILE_LOCK_INIT;
        int r = keyfile_lock(&lock, path, 0);

        if (r == 0)
                r = keyfile_replace(&lock, content);
        keyfile_unlock(&lock);
        return r;
}

static char directory[] = "/tmp/lkm-test-keyfile.XXXXXX", path[PATH_MAX];

static void setup(void)
{
        memcpy(directory, "/tmp/lkm-test-keyfile.XXXXXX", sizeof(directory));
        ck_assert_ptr_nonnull(mkdtemp(directory));
        snprintf(path, sizeof(path), "%s/a.db.key", directory);
}

/* Names in the directory, and remove them all with @remove. */
static size_t entries(bool remove_them)
{
        DIR *d = opendir(directory);
        struct dirent *entry;
        size_t n = 0;

        ck_assert_ptr_nonnull(d);
        while ((entry = readdir(d))) {
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                n++;
                if (remove_them)
                        unlinkat(dirfd(d), entry->d_name, 0);
        }
        closedir(d);
        return n;
}

static void teardown(void)
{
        entries(true);
        rmdir(directory);
}

static void assert_content(const char *expected)
{
        _cleanup_(freep) uint8_t *data = NULL;
        size_t n;

        ck_assert_int_eq(keyfile_read(path, &data, &n), 0);
        ck_assert(bytes_equal((struct bytes){ data, n }, bytes_from_string(expected)));
}

static void put(const char *name, size_t n)
{
        _cleanup_(closep) int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        _cleanup_(freep) char *zeros = calloc(1, n + 1);

        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(write(fd, zeros, n), (ssize_t)n);
}

START_TEST(a_new_record_is_whole_and_private)
{
        struct stat status;

        umask(0);
        ck_assert_int_eq(keyfile_create(path, BYTES_LITERAL("record")), 0);
        assert_content("record");
        ck_assert_int_eq(stat(path, &status), 0);
        ck_assert_uint_eq(status.st_mode & 07777, 0600);
        ck_assert_uint_eq(status.st_nlink, 1);
        ck_assert_uint_eq(entries(false), 1);
}
END_TEST

START_TEST(a_record_is_never_overwritten)
{
        ck_assert_int_eq(keyfile_create(path, BYTES_LITERAL("first")), 0);
        ck_assert_int_eq(keyfile_create(path, BYTES_LITERAL("second")), -EEXIST);
        assert_content("first");
        ck_assert_uint_eq(entries(false), 1);
}
END_TEST

START_TEST(a_dangling_symlink_is_not_written_through)
{
        ck_assert_int_eq(symlink("elsewhere", path), 0);
        ck_assert_int_eq(keyfile_create(path, BYTES_LITERAL("record")), -EEXIST);
        ck_assert_uint_eq(entries(false), 1);
}
END_TEST

/* Every one of many creators at the same instant, and one of them wins. */
START_TEST(one_of_many_creators_wins)
{
        enum { CREATORS = 16, ROUNDS = 20 };

        for (int round = 0; round < ROUNDS; round++) {
                int ready[2], n_won = 0;
                pid_t children[CREATORS];

                ck_assert_int_eq(pipe2(ready, O_CLOEXEC), 0);
                for (int i = 0; i < CREATORS; i++) {
                        children[i] = fork();
                        if (children[i] == 0) {
                                char text[32], byte;
                                int r;

                                snprintf(text, sizeof(text), "creator %d", i);
                                close(ready[1]);
                                r = (int)read(ready[0], &byte, 1); /* until all are there */
                                r = keyfile_create(path, bytes_from_string(text));
                                _exit(r == 0 ? 0 : r == -EEXIST ? 1 : 2);
                        }
                }
                close(ready[0]);
                close(ready[1]);
                for (int i = 0; i < CREATORS; i++) {
                        char text[32];
                        int status;

                        ck_assert_int_eq(waitpid(children[i], &status, 0), children[i]);
                        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
                        if (WEXITSTATUS(status) != 0)
                                continue;
                        n_won++;
                        snprintf(text, sizeof(text), "creator %d", i);
                        assert_content(text);
                }
                ck_assert_int_eq(n_won, 1);
                ck_assert_uint_eq(entries(true), 1);
        }
}
END_TEST

/* The disk is full after @limit bytes: EFBIG stands for ENOSPC. */
static int create_limited(rlim_t limit, bool replace)
{
        static uint8_t content[4096];
        struct rlimit before, small;
        int r;

        memset(content, 'x', sizeof(content));
        signal(SIGXFSZ, SIG_IGN);
        ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
        small = before;
        small.rlim_cur = limit;
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
        r = replace ? replace_file(path, (struct bytes){ content, sizeof(content) })
                    : keyfile_create(path, (struct bytes){ content, sizeof(content) });
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
        return r;
}

START_TEST(a_full_disk_leaves_no_torn_record)
{
        static const rlim_t limits[] = { 0, 1, 100, 4095 };

        for (size_t i = 0; i < ELEMENTSOF(limits); i++) {
                ck_assert_int_eq(create_limited(limits[i], false), -EFBIG);
                ck_assert_uint_eq(entries(false), 0);
        }
        ck_assert_int_eq(create_limited(4096, false), 0);
}
END_TEST

START_TEST(a_full_disk_leaves_the_old_record)
{
        ck_assert_int_eq(keyfile_create(path, BYTES_LITERAL("old")), 0);
        ck_assert_int_eq(create_limited(100, true), -EFBIG);
        assert_content("old");
        ck_assert_uint_eq(entries(false), 1);
}
END_TEST

START_TEST(replacing_keeps_owner_and_mode)
{
        struct stat status;
        bool root = geteuid() == 0;

        ck_assert_int_eq(keyfile_create(path, BYTES_LITERAL("old")), 0);
        ck_assert_int_eq(chmod(path, 0640), 0);
        if (root)
                ck_assert_int_eq(chown(path, 1234, 5678), 0);
        ck_assert_int_eq(replace_file(path, BYTES_LITERAL("new")), 0);
        assert_content("new");
        ck_assert_int_eq(stat(path, &status), 0);
        ck_assert_uint_eq(status.st_mode & 07777, 0640);
        ck_assert_uint_eq(status.st_uid, root ? 1234 : geteuid());
        ck_assert_uint_eq(status.st_gid, root ? 5678 : getegid());
        ck_assert_uint_eq(entries(false), 1);
}
END_TEST

START_TEST(replacing_follows_a_symlink)
{
        char target[PATH_MAX];
        struct stat status;

        snprintf(target, sizeof(target), "%s/target", directory);
        put(target, 3);
        ck_assert_int_eq(symlink("target", path), 0);
        ck_assert_int_eq(replace_file(path, BYTES_LITERAL("new")), 0);
        ck_assert(lstat(path, &status) == 0 && S_ISLNK(status.st_mode));
        assert_content("new");
}
END_TEST

START_TEST(replacing_nothing_creates_nothing)
{
        ck_assert_int_eq(replace_file(path, BYTES_LITERAL("new")), -ENOENT);
        ck_assert_uint_eq(entries(false), 0);
}
END_TEST

START_TEST(only_a_small_regular_file_is_a_record)
{
        uint8_t *data;
        size_t n;

        ck_assert_int_eq(keyfile_read(path, &data, &n), -ENOENT);
        put(path, 0);
        ck_assert_int_eq(keyfile_read(path, &data, &n), KEYFILE_E_INVALID);
        put(path, RECORD_MAX + 1);
        ck_assert_int_eq(keyfile_read(path, &data, &n), KEYFILE_E_INVALID);
        put(path, RECORD_MAX);
        ck_assert_int_eq(keyfile_read(path, &data, &n), 0);
        ck_assert_uint_eq(n, RECORD_MAX);
        free(data);
        ck_assert_int_eq(keyfile_read(directory, &data, &n), KEYFILE_E_INVALID);
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(mkfifo(path, 0600), 0);
        ck_assert_int_eq(keyfile_read(path, &data, &n), KEYFILE_E_INVALID); /* and does not hang */
}
END_TEST

START_TEST(an_empty_or_oversize_record_is_not_written)
{
        static uint8_t content[RECORD_MAX + 1];

        ck_assert_int_eq(keyfile_create(path, (struct bytes){ content, 0 }), -EINVAL);
        ck_assert_int_eq(keyfile_create(path, (struct bytes){ content, sizeof(content) }), -EINVAL);
        ck_assert_uint_eq(entries(false), 0);
}
END_TEST

START_TEST(a_database_exists_by_each_of_its_files)
{
        static const char *const suffixes[] = { "", "-wal", "-journal" };
        char database[PATH_MAX], file[PATH_MAX + 16];

        snprintf(database, sizeof(database), "%s/a.db", directory);
        ck_assert_int_eq(keyfile_database_exists(database), 0);
        ck_assert_int_eq(keyfile_create(path, BYTES_LITERAL("record")), 0);
        ck_assert_int_eq(keyfile_database_exists(database), 0);
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                snprintf(file, sizeof(file), "%s%s", database, suffixes[i]);
                put(file, 0);
                ck_assert_int_eq(keyfile_database_exists(database), 1);
                ck_assert_int_eq(unlink(file), 0);
                ck_assert_int_eq(symlink("nowhere", file), 0);
                ck_assert_int_eq(keyfile_database_exists(database), 1);
                ck_assert_int_eq(unlink(file), 0);
        }
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { a_new_record_is_whole_and_private },
                { a_record_is_never_overwritten },
                { a_dangling_symlink_is_not_written_through },
                { one_of_many_creators_wins },
                { a_full_disk_leaves_no_torn_record },
                { a_full_disk_leaves_the_old_record },
                { replacing_keeps_owner_and_mode },
                { replacing_follows_a_symlink },
                { replacing_nothing_creates_nothing },
                { only_a_small_regular_file_is_a_record },
                { an_empty_or_oversize_record_is_not_written },
                { a_database_exists_by_each_of_its_files },
        };

        return suite_run("keyfile", setup, teardown, promises, ELEMENTSOF(promises));
}
