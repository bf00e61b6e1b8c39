/* SPDX-License-Identifier: Apache-2.0 */
#include "common/secret.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { N_SMALL = 100, N_LARGE = 4, NOBODY = 65534 };

static void setup(void)
{
        ck_assert_int_eq(secret_arena_init(N_SMALL, N_LARGE, 0, NULL), 0);
}

static void teardown(void)
{
        secret_arena_deinit();
}

/* Run @body in a child that makes its own arena; return its wait status. */
static int in_child(void (*body)(void))
{
        int status = -1;
        pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
                static const struct rlimit no_core = { 0, 0 };

                /* A sanitizer would turn the signal into an exit status. */
                signal(SIGSEGV, SIG_DFL);
                signal(SIGBUS, SIG_DFL);
                signal(SIGABRT, SIG_DFL);
                setrlimit(RLIMIT_CORE, &no_core);
                body();
                _exit(0);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        return status;
}

static void child_assert(bool ok)
{
        if (!ok)
                _exit(99);
}

static bool is_zero(const uint8_t *p, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                if (p[i])
                        return false;
        }
        return true;
}

static uint8_t *peek(struct secret *s)
{
        uint8_t *view = secret_view_begin(s), *address = view;

        secret_view_end(s, &view);
        ck_assert_ptr_null(view);
        return address;
}

START_TEST(a_new_secret_is_zero_and_in_the_arena)
{
        static const size_t sizes[] = { 1, 32, SECRET_SMALL_MAX, SECRET_SMALL_MAX + 1, SECRET_LARGE_MAX };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(secret_unrefp) struct secret *s = NULL;

                ck_assert_int_eq(secret_new(&s, sizes[i]), 0);
                ck_assert_uint_eq(secret_size(s), sizes[i]);
                ck_assert(is_zero(peek(s), sizes[i]));
                ck_assert(secret_arena_contains(peek(s)));
                ck_assert(secret_arena_contains(peek(s) + sizes[i] - 1));
                memset(peek(s), 0xff, sizes[i]);
        }
        ck_assert(!secret_arena_contains(sizes));
}
END_TEST

START_TEST(sizes_outside_the_limits_are_refused)
{
        struct secret *s = NULL;

        ck_assert_int_eq(secret_new(&s, 0), -EINVAL);
        ck_assert_int_eq(secret_new(&s, SECRET_BODY_MAX + 1), -EINVAL);
        ck_assert_int_eq(secret_new(&s, SECRET_LARGE_MAX + 1), -ENOBUFS); /* this arena has no body slots */
        ck_assert_ptr_null(s);
        ck_assert_int_eq(secret_arena_init(1, 1, 0, NULL), -EALREADY);
        secret_arena_deinit();
        ck_assert_int_eq(secret_new(&s, 32), -ENOBUFS);
        ck_assert_int_eq(secret_arena_init(0, 1, 0, NULL), -EINVAL);
        ck_assert_int_eq(secret_arena_init(1, 0, 0, NULL), -EINVAL);
        ck_assert_int_eq(secret_arena_init(SIZE_MAX / 8, 1, 0, NULL), -EINVAL);
        ck_assert_int_eq(secret_arena_init(1, SIZE_MAX, 0, NULL), -EINVAL);
        ck_assert_int_eq(secret_arena_init(1, 1, SIZE_MAX / SECRET_BODY_MAX, NULL), -EINVAL);
        ck_assert_int_eq(secret_arena_init(1, 1, 1, NULL), 0);
        ck_assert_int_eq(secret_new(&s, SECRET_LARGE_MAX + 1), 0);
        ck_assert(secret_arena_contains(peek(s) + SECRET_BODY_MAX - 1));
        secret_resize(s, SECRET_BODY_MAX);
        s = secret_unref(s);
        secret_arena_deinit();
        ck_assert_int_eq(secret_arena_backing(), SECRET_BACKING_NONE);
}
END_TEST

START_TEST(the_last_unref_wipes_the_bytes)
{
        struct secret *s = NULL;
        uint8_t *address;

        for (size_t n = 32; n <= SECRET_LARGE_MAX; n += SECRET_LARGE_MAX - 32) {
                ck_assert_int_eq(secret_new_random(&s, n), 0);
                address = peek(s);
                ck_assert(!is_zero(address, n));
                ck_assert_ptr_eq(secret_ref(s), s);
                ck_assert_ptr_null(secret_unref(s));
                ck_assert(!is_zero(address, n));
                ck_assert_ptr_null(secret_unref(s));
                ck_assert(is_zero(address, n + 16));
        }
        ck_assert_ptr_null(secret_unref(NULL));
}
END_TEST

START_TEST(resize_wipes_what_is_cut_off_and_adds_zeros)
{
        _cleanup_(secret_unrefp) struct secret *s = NULL;
        uint8_t *address;

        ck_assert_int_eq(secret_new_random(&s, 100), 0);
        address = peek(s);
        secret_resize(s, 16);
        ck_assert_uint_eq(secret_size(s), 16);
        ck_assert(!is_zero(address, 16) && !is_zero(address + 16, 16) &&
                  is_zero(address + 32, 84)); /* the canary is in between */
        secret_resize(s, SECRET_LARGE_MAX);
        ck_assert_ptr_eq(peek(s), address);
        ck_assert_uint_eq(secret_size(s), SECRET_LARGE_MAX);
        ck_assert(!is_zero(address, 16) && is_zero(address + 16, SECRET_LARGE_MAX - 16));
        s = secret_unref(s);
        ck_assert(is_zero(address, SECRET_LARGE_MAX + 16));
}
END_TEST

START_TEST(a_full_arena_says_so_and_slots_come_back)
{
        struct secret *small[N_SMALL], *large[N_LARGE], *more;
        size_t small_used, n_small, large_used, n_large;

        for (int round = 0; round < 3; round++) {
                for (size_t i = 0; i < N_SMALL; i++)
                        ck_assert_int_eq(secret_new_random(&small[i], 48), 0);
                for (size_t i = 0; i < N_LARGE; i++)
                        ck_assert_int_eq(secret_new_random(&large[i], SECRET_LARGE_MAX), 0);
                ck_assert_int_eq(secret_new(&more, 32), -ENOBUFS);
                ck_assert_int_eq(secret_new(&more, 49), -ENOBUFS);
                secret_arena_usage(&small_used, &n_small, &large_used, &n_large);
                ck_assert(small_used == N_SMALL && n_small == N_SMALL && large_used == N_LARGE && n_large == N_LARGE);
                for (size_t i = 0; i < N_SMALL; i++)
                        secret_unref(small[i]);
                for (size_t i = 0; i < N_LARGE; i++)
                        secret_unref(large[i]);
                secret_arena_usage(&small_used, NULL, &large_used, NULL);
                ck_assert(small_used == 0 && large_used == 0);
        }
}
END_TEST

START_TEST(equal_compares_bytes_and_length)
{
        _cleanup_(secret_unrefp) struct secret *a = NULL, *b = NULL, *c = NULL;

        ck_assert_int_eq(secret_new(&a, 33), 0);
        ck_assert_int_eq(secret_new(&b, 33), 0);
        ck_assert_int_eq(secret_new(&c, 32), 0);
        ck_assert(secret_equal(a, b));
        ck_assert(!secret_equal(a, c));
        for (size_t i = 0; i < 33; i++) {
                peek(b)[i] = 1;
                ck_assert(!secret_equal(a, b));
                peek(b)[i] = 0;
        }
}
END_TEST

/* Value of @field (its KiB, or the flags' text) of the mapping at @address in /proc/self/smaps. */
static void smaps_find(const void *address, const char *field, char *ret, size_t n)
{
        _cleanup_(fclosep) FILE *f = fopen("/proc/self/smaps", "re");
        char line[512];
        bool inside = false;

        ck_assert_ptr_nonnull(f);
        ret[0] = '\0';
        while (fgets(line, sizeof(line), f)) {
                unsigned long begin, end;

                if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
                        inside = (uintptr_t)address >= begin && (uintptr_t)address < end;
                else if (inside && strncmp(line, field, strlen(field)) == 0)
                        snprintf(ret, n, "%s", line + strlen(field));
        }
        ck_assert_str_ne(ret, "");
}

START_TEST(pages_are_locked_present_not_dumped_and_not_inherited)
{
        static const size_t sizes[] = { 32, SECRET_LARGE_MAX };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_(secret_unrefp) struct secret *s = NULL;
                char flags[256], size[64], resident[64];

                ck_assert_int_eq(secret_new(&s, sizes[i]), 0);
                smaps_find(peek(s), "VmFlags:", flags, sizeof(flags));
                ck_assert_msg(strstr(flags, " lo"), "not locked: %s", flags);
                ck_assert_msg(strstr(flags, " dd"), "would be dumped: %s", flags);
                ck_assert_msg(strstr(flags, " dc"), "would be inherited: %s", flags);
                smaps_find(peek(s), "Size:", size, sizeof(size));
                smaps_find(peek(s), "Rss:", resident, sizeof(resident));
                ck_assert_uint_eq(strtoul(size, NULL, 10), strtoul(resident, NULL, 10));
        }
}
END_TEST

static void child_overruns(size_t n, size_t by)
{
        struct secret *s = NULL;

        child_assert(secret_arena_init(4, 4, 0, NULL) == 0 && secret_new(&s, n) == 0);
        peek(s)[n - 1 + by] ^= 1;
        secret_unref(s);
}

static void child_overruns_small(void)
{
        child_overruns(32, 1);
}

static void child_overruns_large(void)
{
        child_overruns(SECRET_LARGE_MAX, 16);
}

static void child_overruns_nothing(void)
{
        child_overruns(SECRET_LARGE_MAX, 0);
        child_overruns_small();
}

START_TEST(a_damaged_canary_aborts_at_release)
{
        int status = in_child(child_overruns_small);

        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        status = in_child(child_overruns_large);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        /* The second arena is refused, so this ends well before it overruns. */
        status = in_child(child_overruns_nothing);
        ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 99);
}
END_TEST

static size_t guard_step;

static void child_walks_off(void)
{
        struct secret *s = NULL;
        volatile uint8_t *p;

        child_assert(secret_arena_init(4, 1, 0, NULL) == 0 && secret_new(&s, guard_step < 2 ? 32 : SECRET_LARGE_MAX) == 0);
        p = peek(s);
        for (;;) {
                p = guard_step % 2 == 0 ? p - 1 : p + 1;
                if (!secret_arena_contains((const void *)(uintptr_t)p))
                        break;
        }
        *p = 1;
}

START_TEST(both_ends_of_both_areas_have_a_guard_page)
{
        for (guard_step = 0; guard_step < 4; guard_step++) {
                int status = in_child(child_walks_off);

                ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "step %zu: %#x", guard_step,
                              (unsigned)status);
        }
}
END_TEST

static void become_nobody_without_memlock(void)
{
        static const struct rlimit none = { 0, 0 };

        child_assert(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
        if (geteuid() == 0)
                child_assert(setresuid(NOBODY, NOBODY, NOBODY) == 0);
}

/* Make memfd_secret(2), and mlock(2) if @also_mlock, fail as on a kernel or in a container without them. */
static void forbid(bool also_mlock)
{
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_memfd_secret, 3, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, also_mlock ? SYS_mlock : SYS_memfd_secret, 2, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, also_mlock ? SYS_mlock2 : SYS_memfd_secret, 1, 0),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        };
        struct sock_fprog program = { ELEMENTSOF(filter), filter };

        child_assert(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
        child_assert(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

static void child_is_refused(void)
{
        const char *error = NULL;
        struct secret *s = NULL;
        int r = secret_arena_init(N_SMALL, N_LARGE, 0, &error);

        child_assert(r == -EPERM || r == -ENOMEM || r == -EAGAIN);
        /* 100 slots of 64 bytes are two pages, 4 of 8256 are nine. */
        child_assert(error && strstr(error, "RLIMIT_MEMLOCK") && strstr(error, "LimitMEMLOCK=45056"));
        child_assert(secret_arena_backing() == SECRET_BACKING_NONE && secret_new(&s, 32) == -ENOBUFS);
}

static void child_without_memlock(void)
{
        become_nobody_without_memlock();
        child_is_refused();
}

static void child_without_either_call(void)
{
        forbid(true);
        child_is_refused();
}

START_TEST(an_arena_that_cannot_be_locked_is_refused_and_names_the_limit)
{
        ck_assert_int_eq(sysconf(_SC_PAGESIZE), 4096);
        ck_assert_int_eq(in_child(child_without_memlock), 0);
        ck_assert_int_eq(in_child(child_without_either_call), 0);
}
END_TEST

static void child_falls_back(void)
{
        struct secret *s = NULL;
        char flags[256];

        forbid(false);
        child_assert(secret_arena_init(4, 4, 0, NULL) == 0 && secret_arena_backing() == SECRET_BACKING_MLOCK);
        child_assert(secret_new_random(&s, 32) == 0);
        smaps_find(peek(s), "VmFlags:", flags, sizeof(flags));
        child_assert(strstr(flags, " lo") && strstr(flags, " dd") && strstr(flags, " dc"));
        secret_unref(s);
        secret_arena_deinit();
}

START_TEST(without_memfd_secret_the_arena_is_mlocked)
{
        ck_assert_int_eq(in_child(child_falls_back), 0);
}
END_TEST

START_TEST(with_memfd_secret_the_arena_uses_it)
{
        int fd = (int)syscall(SYS_memfd_secret, 0);

        if (fd >= 0)
                close(fd);
        ck_assert_int_eq(secret_arena_backing(), fd >= 0 ? SECRET_BACKING_MEMFD_SECRET : SECRET_BACKING_MLOCK);
}
END_TEST

static struct secret *inherited;

static void child_views(void)
{
        *(volatile uint8_t *)peek(inherited) = 1;
}

static void child_releases_and_makes_its_own(void)
{
        struct secret *s = NULL;

        child_assert(secret_new(&s, 32) == -ENOBUFS);
        secret_unref(inherited);
        secret_arena_deinit();
        child_assert(secret_arena_init(4, 4, 0, NULL) == 0 && secret_new_random(&s, 32) == 0);
        secret_unref(s);
        secret_arena_deinit();
}

START_TEST(a_forked_child_finds_no_secret_and_may_clean_up)
{
        int status;

        ck_assert_int_eq(secret_new_random(&inherited, 32), 0);
        status = in_child(child_views);
        ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
        ck_assert_int_eq(in_child(child_releases_and_makes_its_own), 0);
        ck_assert(!is_zero(peek(inherited), 32));
        secret_unref(inherited);
}
END_TEST

static void *thread_churns(void *shared)
{
        for (int i = 0; i < 20000; i++) {
                struct secret *s = NULL;

                secret_ref(shared);
                if (secret_new(&s, 32) == 0) {
                        uint8_t *view = secret_view_begin(s);

                        ck_assert(is_zero(view, 32));
                        memset(view, 0xaa, 32);
                        secret_view_end(s, &view);
                        secret_unref(s);
                }
                secret_unref(shared);
        }
        return NULL;
}

START_TEST(threads_share_the_arena)
{
        pthread_t threads[4];
        struct secret *shared;
        size_t used;

        ck_assert_int_eq(secret_new_random(&shared, 32), 0);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                ck_assert_int_eq(pthread_create(&threads[i], NULL, thread_churns, shared), 0);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                pthread_join(threads[i], NULL);
        secret_unref(shared);
        secret_arena_usage(&used, NULL, NULL, NULL);
        ck_assert_uint_eq(used, 0);
}
END_TEST

START_TEST(zeroing_allocators_keep_content)
{
        char *text = secret_strdup("secret"), *zero = secret_calloc(3, 7);

        text = secret_realloc(text, 4000);
        ck_assert_str_eq(text, "secret");
        text = secret_realloc(text, 7);
        ck_assert_str_eq(text, "secret");
        secret_free(text);
        ck_assert(is_zero((uint8_t *)zero, 21));
        secret_free(zero);
        secret_free(NULL);
        secret_free(secret_malloc(0));
        secret_free(secret_realloc(NULL, 10));
        ck_assert_ptr_null(secret_calloc(SIZE_MAX / 2, 3));
}
END_TEST

static uintptr_t residue_at;

__attribute__((__noinline__, __no_sanitize_address__)) static void leave_residue(void)
{
        volatile uint8_t key[64];

        for (size_t i = 0; i < sizeof(key); i++)
                key[i] = 0xa5;
        residue_at = (uintptr_t)key;
}

/* Whether the dead stack still has what leave_residue() wrote: read by the kernel, so that no checker objects. */
static bool residue_is_there(void)
{
        _cleanup_(closep) int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        uint8_t found[64];

        ck_assert_int_eq(pread(fd, found, sizeof(found), (off_t)residue_at), sizeof(found));
        for (size_t i = 0; i < sizeof(found); i++) {
                if (found[i] != 0xa5)
                        return false;
        }
        return true;
}

START_TEST(wiping_the_stack_leaves_no_residue)
{
        leave_residue();
        secret_wipe_stack();
        ck_assert(!residue_is_there());
}
END_TEST

int main(void)
{
        Suite *suite = suite_create("secret");
        TCase *c = tcase_create("secret");
        SRunner *runner;
        int failed;

        tcase_add_checked_fixture(c, setup, teardown);
        tcase_add_test(c, a_new_secret_is_zero_and_in_the_arena);
        tcase_add_test(c, sizes_outside_the_limits_are_refused);
        tcase_add_test(c, the_last_unref_wipes_the_bytes);
        tcase_add_test(c, resize_wipes_what_is_cut_off_and_adds_zeros);
        tcase_add_test(c, a_full_arena_says_so_and_slots_come_back);
        tcase_add_test(c, equal_compares_bytes_and_length);
        tcase_add_test(c, pages_are_locked_present_not_dumped_and_not_inherited);
        tcase_add_test(c, with_memfd_secret_the_arena_uses_it);
        tcase_add_test(c, a_forked_child_finds_no_secret_and_may_clean_up);
        tcase_add_test(c, threads_share_the_arena);
        suite_add_tcase(suite, c);

        c = tcase_create("process");
        tcase_add_test(c, a_damaged_canary_aborts_at_release);
        tcase_add_test(c, both_ends_of_both_areas_have_a_guard_page);
        tcase_add_test(c, an_arena_that_cannot_be_locked_is_refused_and_names_the_limit);
        tcase_add_test(c, without_memfd_secret_the_arena_is_mlocked);
        tcase_add_test(c, zeroing_allocators_keep_content);
        tcase_add_test(c, wiping_the_stack_leaves_no_residue);
        suite_add_tcase(suite, c);

        runner = srunner_create(suite);
        srunner_run_all(runner, CK_ENV);
        failed = srunner_ntests_failed(runner);
        srunner_free(runner);
        return failed > 0;
}
