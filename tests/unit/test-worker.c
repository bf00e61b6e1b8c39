/* SPDX-License-Identifier: Apache-2.0 */
#include "client/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "client/worker-lines.h"
#include "common/clock.h"
#include "tests/unit/suite.h"

static char program[PATH_MAX];
static struct worker_key keys[REKEY_KEYS_MAX];
static char lines[4096]; /* what the result has no place for */
static unsigned n_calls, cancel_at; /* calls of progress; the one that cancels, from 1 */
static uint64_t last_call_usec, longest_gap_usec, last_done;
static struct worker_result result;

static void setup(void)
{
        ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - sizeof("/fake-rekey"));

        ck_assert_int_gt(n, 0);
        program[n] = '\0';
        memcpy(strrchr(program, '/'), "/fake-rekey", sizeof("/fake-rekey"));
        ck_assert_int_eq(secret_arena_init(REKEY_KEYS_MAX, 1, 0, NULL), 0);
        for (uint32_t i = 0; i < REKEY_KEYS_MAX; i++) {
                uint8_t *view;

                keys[i].version = i + 1;
                ck_assert_int_eq(secret_new(&keys[i].key, KEY_SIZE), 0);
                view = secret_view_begin(keys[i].key);
                memset(view, (int)i, KEY_SIZE);
                secret_view_end(keys[i].key, &view);
        }
        *lines = '\0';
        n_calls = cancel_at = 0;
        last_call_usec = longest_gap_usec = last_done = 0;
}

static void teardown(void)
{
        for (uint32_t i = 0; i < REKEY_KEYS_MAX; i++)
                secret_unref(keys[i].key);
        secret_arena_deinit();
}

static int progress(void *userdata, uint64_t done, uint64_t total)
{
        uint64_t now = clock_boottime_usec();

        if (last_call_usec && now - last_call_usec > longest_gap_usec)
                longest_gap_usec = now - last_call_usec;
        last_call_usec = now;
        last_done = done;
        return ++n_calls == cancel_at;
}

static void line(void *userdata, const char *text)
{
        size_t n = strlen(lines);

        if (n + strlen(text) + 2 < sizeof(lines))
                snprintf(lines + n, sizeof(lines) - n, "%s\n", text);
}

static struct worker_task task_of(const char *command)
{
        return (struct worker_task){ .program = program,
                                     .command = command,
                                     .database = "some.db",
                                     .keys = keys,
                                     .n_keys = 2,
                                     .lock_fd = -1,
                                     .progress = progress,
                                     .line = line };
}

static int run(const char *command)
{
        struct worker_task task = task_of(command);

        return worker_run(&task, &result);
}

START_TEST(the_job_and_all_its_keys_arrive)
{
        struct worker_task task = task_of("tell");

        task.target = "other.db";
        task.compatibility = 4;
        task.page_size = 4096;
        task.timeout_msec = 77;
        task.flags = REKEY_RESTORE_WAL;
        task.n_keys = REKEY_KEYS_MAX;
        ck_assert_int_eq(worker_run(&task, &result), 0);
        ck_assert_ptr_nonnull(strstr(lines, "table arguments 4 some.db other.db\n"));
        ck_assert_ptr_nonnull(strstr(lines, "table job 4 4096 77 1 64\n"));
        ck_assert_ptr_nonnull(strstr(lines, "table keys 1\n"));
}
END_TEST

START_TEST(each_line_finds_its_place)
{
        ck_assert_int_eq(run("usual"), 0);
        ck_assert_str_eq(result.mode, "wal");
        ck_assert_uint_eq(result.n_fits, 2);
        ck_assert_uint_eq(result.fits[0].version, 1);
        ck_assert_uint_eq(result.fits[1].pages, 3);
        ck_assert_uint_eq(result.n_pages, 10);
        ck_assert_uint_eq(result.n_zero_pages, 2);
        ck_assert_uint_eq(result.n_unknown_pages, 1);
        ck_assert_uint_eq(result.n_opens, 1);
        ck_assert_uint_eq(result.opens, 2);
        ck_assert(result.empty);
        ck_assert_str_eq(lines, "table arguments 3 some.db -\nrange 1 9 2\nsomething new\n");
        ck_assert_uint_eq(n_calls, 2);
        ck_assert_uint_eq(last_done, 10);
}
END_TEST

static void check_refusal(int outcome)
{
        ck_assert_int_eq(outcome, WORKER_E_REFUSED);
        ck_assert_int_eq(result.error, LKM_E_BUSY);
        ck_assert_str_eq(result.sentence, "Somebody has it.");
        ck_assert_uint_eq(result.n_holders, 2);
        ck_assert_int_eq(result.holders[0].pid, 1);
        ck_assert(!result.holders[0].locks);
        ck_assert_int_eq(result.holders[1].pid, 22);
        ck_assert(result.holders[1].locks);
        ck_assert_str_eq(result.holders[1].command, "a b?c");
}

START_TEST(a_refusal_names_its_reason_and_who_is_in_the_way)
{
        check_refusal(run("refuse"));
}
END_TEST

START_TEST(lines_cut_in_two_at_any_byte_are_the_same_lines)
{
        char command[16];
        size_t n = 0;
        int r;

        do {
                snprintf(command, sizeof(command), "cut-%zu", ++n);
                r = run(command);
                if (r != 0)
                        check_refusal(r);
        } while (r != 0);
        ck_assert_uint_gt(n, 70);
}
END_TEST

START_TEST(more_holders_than_there_is_room_for_are_counted)
{
        ck_assert_int_eq(run("holders"), 0);
        ck_assert_uint_eq(result.n_holders, 40);
        ck_assert_str_eq(result.holders[WORKER_HOLDERS_MAX - 1].command, "p16");
}
END_TEST

START_TEST(a_worker_that_dies_silent_is_told_apart)
{
        static const char *const deaths[] = { "silent", "killed", "unended", "done-and-killed", "deaf" };

        for (size_t i = 0; i < ELEMENTSOF(deaths); i++) {
                ck_assert_msg(run(deaths[i]) == WORKER_E_DIED, "%s", deaths[i]);
                ck_assert_int_eq(result.error, LKM_E_IO);
                ck_assert(result.died && *result.sentence);
        }
        ck_assert_ptr_null(strstr(result.sentence, "signal"));
        run("killed");
        ck_assert_ptr_nonnull(strstr(result.sentence, "signal 9"));
}
END_TEST

START_TEST(what_breaks_the_contract_is_ended)
{
        static const char *const breaches[] = { "garbage", "endless" };

        for (size_t i = 0; i < ELEMENTSOF(breaches); i++) {
                ck_assert_int_eq(run(breaches[i]), WORKER_E_DIED);
                ck_assert_ptr_nonnull(strstr(result.sentence, "does not understand"));
        }
}
END_TEST

START_TEST(a_malformed_line_is_no_evidence)
{
        static const char *const malformed[] = {
                "opens",     "opens 0",       "opens -1",      "opens 1x",          "opens 4294967296", "fits 1",
                "fits a 1",  "pages 1 2",     "holder 1 what", "holder 0x1 open a", "error",            "error 0 x",
                "progress 1", "progress 1 -2", "pages 1 2 18446744073709551616",
        };

        for (size_t i = 0; i < ELEMENTSOF(malformed); i++) {
                char text[64];
                uint64_t done, total;

                snprintf(text, sizeof(text), "%s", malformed[i]);
                result = (struct worker_result){ 0 };
                ck_assert_msg(worker_line_take(&result, text, &done, &total) == WORKER_LINE_E_INVALID, "%s", malformed[i]);
                ck_assert_uint_eq(result.n_opens + result.n_fits + result.n_holders, 0);
        }
}
END_TEST

START_TEST(progress_is_told_each_second_without_a_line)
{
        cancel_at = 4;
        ck_assert_int_eq(run("hang"), WORKER_E_CANCELLED);
        ck_assert_uint_eq(n_calls, 4);
        ck_assert_uint_eq(last_done, 5);
        ck_assert_uint_lt(longest_gap_usec, USEC_PER_SEC);
        ck_assert_int_eq(waitpid(-1, NULL, 0), -1); /* it is gone, and reaped */
        ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(progress_is_told_in_a_flood_of_lines)
{
        cancel_at = 2;
        ck_assert_int_eq(run("flood"), WORKER_E_CANCELLED);
        ck_assert_uint_lt(longest_gap_usec, USEC_PER_SEC);
}
END_TEST

START_TEST(no_sigpipe_reaches_the_application)
{
        signal(SIGPIPE, SIG_DFL);
        for (int i = 0; i < 50; i++)
                ck_assert_int_eq(run("deaf"), WORKER_E_DIED);
}
END_TEST

START_TEST(it_works_where_sigchld_is_ignored)
{
        struct sigaction seen;

        signal(SIGCHLD, SIG_IGN);
        ck_assert_int_eq(run("tell"), 0);
        ck_assert_ptr_nonnull(strstr(lines, "table sigchld 0\n"));
        cancel_at = n_calls + 1;
        ck_assert_int_eq(run("hang"), WORKER_E_CANCELLED);
        ck_assert_int_eq(run("silent"), WORKER_E_DIED);
        ck_assert_int_eq(sigaction(SIGCHLD, NULL, &seen), 0);
        ck_assert(seen.sa_handler == SIG_IGN);
}
END_TEST

START_TEST(a_child_of_the_application_is_left_to_it)
{
        pid_t child = fork();
        int status;

        if (child == 0)
                _exit(7);
        ck_assert_int_eq(run("usual"), 0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_int_eq(WEXITSTATUS(status), 7);
}
END_TEST

static atomic_bool stop;

static void *reap_all(void *unused)
{
        while (!atomic_load(&stop))
                waitpid(-1, NULL, 0);
        return NULL;
}

START_TEST(it_works_where_a_thread_reaps_every_child)
{
        pthread_t thread;

        ck_assert_int_eq(pthread_create(&thread, NULL, reap_all, NULL), 0);
        for (int i = 0; i < 20; i++) {
                ck_assert_int_eq(run("usual"), 0);
                cancel_at = n_calls + 1;
                ck_assert_int_eq(run("hang"), WORKER_E_CANCELLED);
        }
        atomic_store(&stop, true);
        pthread_join(thread, NULL);
}
END_TEST

START_TEST(nothing_but_its_own_descriptors_is_inherited)
{
        struct worker_task task = task_of("tell");
        sigset_t block;

        ck_assert_int_ge(dup2(0, 77), 0);
        ck_assert_int_ge(dup2(0, 3), 0);
        sigemptyset(&block);
        sigaddset(&block, SIGTERM);
        sigprocmask(SIG_BLOCK, &block, NULL);
        ck_assert_int_eq(worker_run(&task, &result), 0);
        ck_assert_ptr_nonnull(strstr(lines, "table fds 3\n"));
        ck_assert_ptr_nonnull(strstr(lines, "table blocked 0\n"));
        *lines = '\0';
        task.lock_fd = 77;
        ck_assert_int_eq(worker_run(&task, &result), 0);
        ck_assert_ptr_nonnull(strstr(lines, "table fds 4\n"));
}
END_TEST

START_TEST(it_works_without_standard_descriptors)
{
        struct worker_task task = task_of("tell");
        int closed[3], r;

        for (int fd = 0; fd < 3; fd++) {
                closed[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
                close(fd);
        }
        task.lock_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        r = worker_run(&task, &result);
        for (int fd = 0; fd < 3; fd++)
                dup2(closed[fd], fd);
        ck_assert_int_eq(r, 0);
        ck_assert_ptr_nonnull(strstr(lines, "table keys 1\n"));
        ck_assert_ptr_nonnull(strstr(lines, "table fds 4\n"));
}
END_TEST

static char lock_path[] = "/tmp/lkm-test-worker.XXXXXX";
static int lock_fd;

static bool lock_is_free(void)
{
        _cleanup_(closep) int fd = open(lock_path, O_RDWR | O_CLOEXEC);

        ck_assert_int_ge(fd, 0);
        return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static int progress_of_the_lock(void *userdata, uint64_t done, uint64_t total)
{
        close(lock_fd);
        ck_assert(!lock_is_free());
        return 1;
}

START_TEST(a_worker_keeps_the_lock_that_its_parent_gave_up)
{
        struct worker_task task = task_of("hang");

        lock_fd = mkostemp(lock_path, O_CLOEXEC);
        ck_assert_int_ge(lock_fd, 0);
        ck_assert_int_eq(flock(lock_fd, LOCK_EX | LOCK_NB), 0);
        task.lock_fd = lock_fd;
        task.progress = progress_of_the_lock;
        ck_assert_int_eq(worker_run(&task, &result), WORKER_E_CANCELLED);
        ck_assert(lock_is_free());
        unlink(lock_path);
}
END_TEST

START_TEST(a_program_that_is_missing_is_told)
{
        struct worker_task task = task_of("usual");

        const char *preloaded = getenv("LD_PRELOAD");
        /* Valgrind makes a fork of posix_spawn(3)'s vfork: the parent is not told why there is no program. */
        bool is_told = !preloaded || !strstr(preloaded, "vgpreload");

        task.program = "/nonexistent/lkm-rekey";
        ck_assert_int_eq(worker_run(&task, &result), is_told ? -ENOENT : WORKER_E_DIED);
        task.program = "/dev/null";
        ck_assert_int_eq(worker_run(&task, &result), is_told ? -EACCES : WORKER_E_DIED);
        task.n_keys = 0;
        ck_assert_int_eq(worker_run(&task, &result), -EINVAL);
        task.n_keys = REKEY_KEYS_MAX + 1;
        ck_assert_int_eq(worker_run(&task, &result), -EINVAL);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { the_job_and_all_its_keys_arrive },
                { each_line_finds_its_place },
                { a_refusal_names_its_reason_and_who_is_in_the_way },
                { lines_cut_in_two_at_any_byte_are_the_same_lines },
                { more_holders_than_there_is_room_for_are_counted },
                { a_worker_that_dies_silent_is_told_apart },
                { what_breaks_the_contract_is_ended },
                { a_malformed_line_is_no_evidence },
                { progress_is_told_each_second_without_a_line },
                { progress_is_told_in_a_flood_of_lines },
                { no_sigpipe_reaches_the_application },
                { it_works_where_sigchld_is_ignored },
                { a_child_of_the_application_is_left_to_it },
                { it_works_where_a_thread_reaps_every_child },
                { nothing_but_its_own_descriptors_is_inherited },
                { it_works_without_standard_descriptors },
                { a_worker_keeps_the_lock_that_its_parent_gave_up },
                { a_program_that_is_missing_is_told },
        };

        return suite_run("worker", setup, teardown, promises, ELEMENTSOF(promises));
}
