/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "daemon/kms/aws-process.h"
#include "tests/unit/aws-ask.h"

#define KEYS "\"AccessKeyId\":\"AKIDEXAMPLE\",\"SecretAccessKey\":\"SECRET\""

static struct way_outcome outcome;
static struct aws_process *process;

static void process_setup(void)
{
        aws_setup();
        way_outcome_init(&outcome);
}

static void process_teardown(void)
{
        process = aws_process_free(process);
        way_outcome_deinit(&outcome);
        aws_teardown();
        ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* nothing was left unreaped */
}

/* Run a shell script with these commands. */
static void run_for(const char *commands, uint64_t time_usec)
{
        struct sentence why;
        const char *script = file("script", text("#!/bin/sh\n%s\n", commands), 0700);

        ck_assert_msg(aws_process_start(&process, &around, text("%s one 'two three'", script), "test", time_usec, &outcome.call, &why) == 0, "%s",
                      why.text);
        ck_assert_uint_eq(outcome.n, 0);
        way_wait(&outcome);
        process = aws_process_free(process);
}

static void run(const char *commands)
{
        run_for(commands, PLENTY);
}

START_TEST(commands_that_cannot_be_one_are_refused)
{
        static const struct {
                const char *command, *why;
        } bad[] = { { "", "absolute path" },      { "  ", "absolute path" },     { "aws_signing_helper", "absolute path" },
                    { "/bin/x 'open", "quote" }, { "/bin/x \"open", "quote" } };
        static char many[256] = "/bin/x";
        struct aws_command command;
        struct sentence why;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                ck_assert_int_eq(aws_command_parse(&command, bad[i].command, &why), -EINVAL);
                ck_assert_msg(strstr(why.text, bad[i].why) != NULL, "%s", why.text);
        }
        for (int i = 0; i < 64; i++)
                memcpy(many + 6 + 2 * i, " a", 3);
        ck_assert_int_eq(aws_command_parse(&command, many, &why), -EINVAL);
}
END_TEST

START_TEST(commands_are_split_as_by_a_shell)
{
        static const char *const words[] = { "/bin/x", "a b", "c'd", "e\"f\\g", "\\h", "ij", "", "k l" };
        struct aws_command command;
        struct sentence why;
        size_t n = 0;

        ck_assert_int_eq(aws_command_parse(&command, " /bin/x  'a b' \"c'd\"\t\"e\\\"f\\\\g\" '\\h' i'j' '' k\\ l ", &why), 0);
        for (; command.words[n]; n++)
                ck_assert_str_eq(command.words[n], words[n]);
        ck_assert_uint_eq(n, ELEMENTSOF(words));
        aws_command_deinit(&command);
}
END_TEST

START_TEST(what_a_process_prints_is_taken)
{
        run("printf '%s' '{\"Version\":1," KEYS ",\"SessionToken\":\"TOKEN\",\"Expiration\":\"2038-01-01T00:00:00+00:00\"}'");
        ck_assert_str_eq(outcome.why, "");
        ck_assert_str_eq(outcome.credentials->access_key_id, "AKIDEXAMPLE");
        ck_assert(secret_is(outcome.credentials->secret_access_key, "SECRET"));
        ck_assert(secret_is(outcome.credentials->session_token, "TOKEN"));
        ck_assert_uint_eq(outcome.credentials->expires_wall_usec, UINT64_C(2145916800) * USEC_PER_SEC);
}
END_TEST

START_TEST(without_expiration_keys_never_expire)
{
        run("[ \"$1\" = one ] && [ \"$2\" = 'two three' ] && [ $# = 2 ] && echo '{\"Version\":1," KEYS "}'");
        ck_assert_str_eq(outcome.why, "");
        ck_assert_ptr_null(outcome.credentials->session_token);
        ck_assert_uint_eq(outcome.credentials->expires_wall_usec, USEC_INFINITY);
}
END_TEST

START_TEST(a_failure_is_told_in_its_own_words_on_one_line)
{
        run("echo first line >&2; echo 'second line' >&2; echo; exit 3");
        ck_assert_int_eq(outcome.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(outcome.why, "ended with status 3: first line second line"));
}
END_TEST

START_TEST(long_complaints_are_cut)
{
        run("i=0; while [ $i -lt 400 ]; do echo complaint >&2; i=$((i+1)); done; exit 1");
        ck_assert_int_eq(outcome.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_uint_lt(strlen(outcome.why), 400);
}
END_TEST

START_TEST(a_signal_is_told)
{
        run("kill -TERM $$");
        ck_assert_int_eq(outcome.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(outcome.why, "ended by signal 15"));
}
END_TEST

START_TEST(no_json_other_versions_and_half_keys_are_refused)
{
        static const char *const bad[] = { "true", "echo no json", "echo '{" KEYS "}'", "echo '{\"Version\":2," KEYS "}'",
                                           "echo '{\"Version\":1,\"AccessKeyId\":\"A\"}'", "echo '{\"Version\":1,\"SecretAccessKey\":\"A\"}'",
                                           "echo '{\"Version\":1," KEYS ",\"Expiration\":\"soon\"}'" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                way_outcome_init(&outcome);
                run(bad[i]);
                ck_assert_msg(outcome.error == PROTO_ERROR_KMS_CREDENTIALS, "%s", bad[i]);
                ck_assert_ptr_null(strstr(outcome.why, "SECRET\""));
        }
}
END_TEST

START_TEST(a_megabyte_is_refused_before_it_is_read)
{
        run("head -c 1000000 /dev/zero; echo done >&2; exit 0");
        ck_assert_int_eq(outcome.error, PROTO_ERROR_KMS_CREDENTIALS);
        ck_assert_ptr_nonnull(strstr(outcome.why, "printed more than 32768 bytes"));
}
END_TEST

static pid_t pid_in(const char *name)
{
        _cleanup_(fclosep) FILE *f = fopen(text("%s/%s", folder, name), "re");
        char line[32] = "";

        return f && fgets(line, sizeof(line), f) ? (pid_t)strtol(line, NULL, 10) : 0;
}

static bool is_running(pid_t pid)
{
        _cleanup_(fclosep) FILE *f = fopen(text("/proc/%d/stat", pid), "re");
        char state = 'X';

        return f && fscanf(f, "%*d (%*[^)]) %c", &state) == 1 && state != 'Z' && state != 'X';
}

START_TEST(one_that_hangs_is_ended_with_its_group)
{
        const char *commands = text("tail -f /dev/null & echo $! >%s/child; echo $$ >%s/parent; echo waiting >&2; wait", folder, folder);
        uint64_t time;

        /* As long as it takes this machine to get so far. */
        for (time = 200 * USEC_PER_MSEC; time < PLENTY && pid_in("child") == 0; time *= 2) {
                way_outcome_init(&outcome);
                run_for(commands, time);
        }
        ck_assert_int_eq(outcome.error, PROTO_ERROR_KMS_UNREACHABLE);
        ck_assert_ptr_nonnull(strstr(outcome.why, "did not end within"));
        ck_assert_int_gt(pid_in("child"), 0);
        /* The child is not ours to wait for, and may be left for init to reap. */
        for (int i = 0; i < 1000 && is_running(pid_in("child")); i++) {
                event_base_loopexit(base, &(struct timeval){ .tv_usec = 10000 });
                event_base_dispatch(base);
        }
        ck_assert(!is_running(pid_in("child")));
}
END_TEST

START_TEST(a_grandchild_that_keeps_the_pipe_holds_nothing_up)
{
        run("tail -f /dev/null & echo '{\"Version\":1," KEYS "}'");
        ck_assert_str_eq(outcome.why, "");
}
END_TEST

START_TEST(it_inherits_no_descriptor_and_no_variable)
{
        static const char expected[] = "HOME LANG PATH 0 1 2 ";
        char line[512] = "";
        int ends[2];

        ck_assert_int_eq(pipe(ends), 0); /* without O_CLOEXEC */
        setenv("AWS_SECRET_ACCESS_KEY", "not for children", 1);
        setenv("LKM_ANYTHING", "1", 1);
        run(text("tr '\\0' '\\n' </proc/$$/environ | cut -d= -f1 | grep -v -e '^PWD$' -e '^_$' | sort | tr '\\n' ' ' >%s/seen\n"
                 "for i in 0 1 2 3 4 5 6 7 8 9 11 12 13 14 15; do [ -e /proc/$$/fd/$i ] && printf '%%s ' $i >>%s/seen; done\n"
                 "echo '{\"Version\":1," KEYS "}'",
                 folder, folder));
        ck_assert_str_eq(outcome.why, "");
        {
                _cleanup_(fclosep) FILE *f = fopen(text("%s/seen", folder), "re");

                ck_assert_ptr_nonnull(f);
                ck_assert_ptr_nonnull(fgets(line, sizeof(line), f));
        }
        ck_assert_str_eq(line, expected);
        close(ends[0]);
        close(ends[1]);
}
END_TEST

START_TEST(what_cannot_be_run_is_said_at_once)
{
        struct sentence why;

        ck_assert_int_eq(aws_process_start(&process, &around, "/nonexistent/program", "test", PLENTY, &outcome.call, &why), -ENOENT);
        ck_assert_ptr_nonnull(strstr(why.text, "/nonexistent/program cannot be run: No such file"));
}
END_TEST

START_TEST(a_command_that_is_refused_costs_no_descriptor)
{
        struct sentence why;

        ck_assert_int_eq(aws_process_start(&process, &around, "/bin/x 'open", "test", PLENTY, &outcome.call, &why), -EINVAL);
        ck_assert_int_ge(fcntl(STDIN_FILENO, F_GETFD), 0);
}
END_TEST

START_TEST(one_that_is_not_wanted_any_more_is_ended)
{
        struct sentence why;

        ck_assert_int_eq(aws_process_start(&process, &around, file("script", "#!/bin/sh\ntail -f /dev/null\n", 0700), "test", PLENTY,
                                           &outcome.call, &why),
                         0);
        process = aws_process_free(process);
        ck_assert_int_eq(event_base_loop(base, EVLOOP_NONBLOCK), 0);
        ck_assert_uint_eq(outcome.n, 0);
}
END_TEST

int main(void)
{
        const struct promise promises[] = {
                { commands_that_cannot_be_one_are_refused },
                { commands_are_split_as_by_a_shell },
                { what_a_process_prints_is_taken },
                { without_expiration_keys_never_expire },
                { a_failure_is_told_in_its_own_words_on_one_line },
                { long_complaints_are_cut },
                { a_signal_is_told },
                { no_json_other_versions_and_half_keys_are_refused },
                { a_megabyte_is_refused_before_it_is_read },
                { one_that_hangs_is_ended_with_its_group },
                { a_grandchild_that_keeps_the_pipe_holds_nothing_up },
                { it_inherits_no_descriptor_and_no_variable },
                { what_cannot_be_run_is_said_at_once },
                { a_command_that_is_refused_costs_no_descriptor },
                { one_that_is_not_wanted_any_more_is_ended },
        };

        return suite_run("aws-process", process_setup, process_teardown, promises, ELEMENTSOF(promises));
}
