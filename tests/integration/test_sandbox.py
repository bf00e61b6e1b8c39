# SPDX-License-Identifier: Apache-2.0
"""What lkmd takes away from itself: every system call that is not on its list, tried from inside; and that the real lkmd is in there."""
import os
import platform
import pwd
import signal
import socket
import subprocess
import tempfile
import unittest

from daemons import DaemonCase
from support import BUILD, GET, KEY, TIMEOUT, UNCONFINED, Case, program

HELPER = os.path.join(BUILD, "tests/integration/sandbox-helper")
CALLS_MAX = 40
# uretprobe(2) and uprobe(2) of x86-64, the ways back into the kernel of its own probes. Kernels that have them (6.11, 6.18) put no filter before
# them; from anywhere else they end in SIGILL or in an error.
UNFILTERED = {335, 336} if platform.machine() == "x86_64" else set()


def helper(*arguments):
    done = subprocess.run([HELPER, *arguments], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


@unittest.skipIf(UNCONFINED, "only the program as shipped has a sandbox")
class Calls(Case):
    def test_every_call_that_is_not_on_the_list_kills(self):
        listed = {int(number) for number in helper("list")}
        outcomes = helper("calls")
        self.assertLessEqual(len(listed), CALLS_MAX)
        self.assertEqual(set(range(1024)), {int(number) for number in outcomes})
        self.assertTrue(listed <= set(range(1024)))
        alive = {int(number) for number, outcome in outcomes.items() if outcome != "killed"}
        self.assertEqual(alive - UNFILTERED, listed)
        self.assertTrue({outcomes[str(n)] for n in alive & UNFILTERED} <= {"ended 0", f"signal {signal.SIGILL.value}"})
        print(f"{len(listed)} allowed, {len(outcomes) - len(alive)} killed")

    @unittest.skipUnless(platform.machine() == "x86_64", "only x86-64 has further kinds of calls")
    def test_every_call_of_x32_kills(self):
        self.assertEqual(set(helper("x32").values()), {"killed"})

    @unittest.skipUnless(platform.machine() == "x86_64", "only x86-64 has further kinds of calls")
    def test_every_call_of_32_bits_kills(self):
        outcomes = set(helper("ia32").values())
        if outcomes == {f"signal {signal.SIGSEGV.value}"}:
            self.skipTest("this kernel has no calls of 32 bits")
        self.assertEqual(outcomes, {"killed"})

    def test_arguments_are_checked(self):
        allowed = {"socket-unix", "mmap-read-write", "madvise-dontneed", "madvise-hugepage", "getsockopt-socket"}
        outcomes = helper("arguments")
        self.assertEqual({name for name, outcome in outcomes.items() if outcome != "killed"}, allowed)
        self.assertGreater(len(outcomes), len(allowed))

    def test_threads_that_were_there_before_are_inside_too(self):
        done = subprocess.run([HELPER, "threads"], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
        self.assertEqual(done.stdout, "killed\n")


    def test_a_failed_assertion_and_the_allocator_have_their_last_words(self):
        done = subprocess.run([HELPER, "last-words"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
        self.assertEqual(done.stdout, "killed\nkilled\n")
        self.assertIn("argument == 0", done.stderr)
        self.assertIn("invalid pointer", done.stderr)

    def test_a_timed_wait_goes_on_after_a_stop(self):
        done = subprocess.run([HELPER, "stopped"], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
        self.assertEqual(done.stdout, "ended 0\n")


def landlock_abi():
    return int(subprocess.run([HELPER, "abi"], stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True).stdout)


@unittest.skipIf(UNCONFINED, "only the program as shipped has a sandbox")
class Files(Case):
    def setUp(self):
        super().setUp()
        self.abi = landlock_abi()
        if not self.abi:
            self.skipTest("this kernel has no Landlock")
        for folder in ("etc", "etc/lkmd.conf.d", "elsewhere", "log", "run", "other"):
            os.mkdir(self.path(folder))
        for name in ("etc/lkmd.conf", "elsewhere/real.conf", "elsewhere/secret", "other/secret", "log/audit.jsonl"):
            self.write(name, "")
        os.symlink(self.path("elsewhere/real.conf"), self.path("etc/lkmd.conf.d/link.conf"))

    def attempt(self, *actions, socket=""):
        """Each of @actions in turn, confined as lkmd is. Return: {action: error}, with "0" for what was done."""
        done = subprocess.run([HELPER, "files", self.path("etc/lkmd.conf"), self.path("log/audit.jsonl"), socket, *actions], stdout=subprocess.PIPE,
                              text=True, timeout=TIMEOUT, check=True)
        return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())

    def assert_all(self, outcomes, error):
        self.assertEqual({action: outcome for action, outcome in outcomes.items() if outcome != error}, {})

    def test_configuration_names_and_proc_are_read(self):
        actions = [f"read:{path}" for path in (self.path("etc/lkmd.conf"), self.path("etc/lkmd.conf.d"), self.path("etc/lkmd.conf.d/link.conf"), "/etc/passwd",
                                               "/etc/group", "/proc/self/status", "/proc/1/cgroup")]
        self.assert_all(self.attempt(*actions), "0")

    def test_a_configuration_that_took_the_name_of_the_first_one_is_read(self):
        made = self.path("etc/lkmd.conf")
        os.rename(self.path("elsewhere/real.conf"), self.path("etc/new"))
        reader = subprocess.Popen([HELPER, "files", made, self.path("log/audit.jsonl"), "", f"read:{made}", "wait:", f"read:{made}"], stdout=subprocess.PIPE,
                                  stdin=subprocess.PIPE)
        self.addCleanup(self.finish, reader)
        self.assertEqual(reader.stdout.readline().decode(), f"read:{made} 0\n")
        os.rename(self.path("etc/new"), made)
        self.assertIn(f"read:{made} 0\n", reader.communicate(b"\n", timeout=TIMEOUT)[0].decode())

    def test_nothing_else_is_read(self):
        secrets = [path for path in ("/etc/shadow", "/etc/ssl/openssl.cnf", "/root", "/", "/dev/urandom", "/usr/bin/env") if os.path.exists(path)]
        self.assert_all(self.attempt(*(f"read:{path}" for path in (self.path("other/secret"), self.path("other"), self.path("run"), *secrets))), "EACCES")

    def test_the_log_is_kept_in_its_folder(self):
        log = self.path("log/audit.jsonl")
        actions = [f"read:{log}", f"write:{log}", f"truncate:{log}", f"rename:{log}:{log}.1", f"create:{log}", f"remove:{log}.1", f"read:{self.path('log')}"]
        self.assert_all(self.attempt(*actions), "0")

    def test_nothing_is_written_elsewhere(self):
        secret = self.path("other/secret")
        log = self.path("log/audit.jsonl")
        actions = [f"write:{secret}", f"create:{self.path('other/new')}", f"remove:{secret}", f"write:{self.path('etc/lkmd.conf')}", f"create:{self.path('etc/x.conf')}",
                   f"folder:{self.path('log/folder')}", f"link:{self.path('log/link')}", f"execute:{log}", "write:/dev/null", "execute:/bin/true",
                   f"bind:{self.path('run/sock')}", f"bind:{self.path('log/sock')}", "write:/proc/self/oom_score_adj"]
        if self.abi >= 3:
            actions += [f"truncate:{secret}", f"truncate:{self.path('etc/lkmd.conf')}"]
        self.assert_all(self.attempt(*actions), "EACCES")
        # From one folder to another: "not the same file system", as for every program that may copy instead.
        self.assert_all(self.attempt(f"rename:{log}:{self.path('other/log')}", f"rename:{secret}:{self.path('log/secret')}"), "EACCES" if self.abi >= 2 else "EXDEV")

    def test_a_socket_that_it_has_bound_is_removed_and_no_other_one_made(self):
        path = self.path("run/lkm.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
        self.assert_all(self.attempt(f"remove:{path}", socket=path), "0")
        self.assert_all(self.attempt(f"bind:{path}", f"create:{path}", f"folder:{path}", f"read:{self.path('run')}", socket=path), "EACCES")

    def test_sockets_in_files_are_reached(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("other/kms.sock"))
            listener.listen()
            self.assert_all(self.attempt(f"connect:{self.path('other/kms.sock')}"), "0")

    def test_no_tcp(self):
        if self.abi < 4:
            self.skipTest("this kernel's Landlock does not know networks")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.assert_all(self.attempt(f"connect-tcp:{listener.getsockname()[1]}", "bind-tcp:0", "bind-tcp:4711"), "EACCES")

    def test_no_signal_and_no_abstract_socket_outside(self):
        if self.abi < 6:
            self.skipTest("this kernel's Landlock does not know scopes")
        with socket.socket(socket.AF_UNIX) as listener:
            name = "lkm-test-" + os.path.basename(self.directory)
            listener.bind("\0" + name)
            listener.listen()
            self.assert_all(self.attempt(f"connect:@{name}", f"signal:{os.getpid()}"), "EPERM")


@unittest.skipIf(UNCONFINED, "only the program as shipped has a sandbox")
class Inside(DaemonCase):
    def reload(self):
        """SIGHUP, and what lkmd says of it."""
        os.kill(self.lkmd.pid, signal.SIGHUP)
        while True:
            line = self.lkmd.stderr.readline().decode()
            if not line:
                self.fail(f"lkmd has ended: {self.lkmd.wait()}")
            if " again, scopes" in line or "stays in force" in line:
                return line

    def test_the_kernel_says_that_it_is_in_force(self):
        status = status_of(self.lkmd.pid)
        self.assertEqual(status["Seccomp"], "2")
        self.assertEqual(status["NoNewPrivs"], "1")

    def test_status_reports_what_the_kernel_says(self):
        seen = self.status(self.client())["sandbox"]
        status = status_of(self.lkmd.pid)
        self.assertEqual(seen["seccomp"], "kill-process")
        self.assertEqual(seen["seccomp_calls"], len(helper("list")))
        self.assertEqual(seen["network"], "unix")
        self.assertEqual(seen["landlock_abi"], landlock_abi())
        self.assertIs(seen["no_new_privs"], True)
        self.assertIs(seen["dumpable"], False)
        self.assertEqual(seen["core_limit"], 0)
        self.assertEqual(seen["capabilities"], bin(int(status["CapPrm"], 16)).count("1"))

    def test_names_are_found_on_a_reload(self):
        client = self.client()
        record = self.create(client)
        other = next(user.pw_name for user in pwd.getpwall() if user.pw_uid not in (0, os.getuid()))
        self.configure(scope=f"allow_rotate = user:{other} group:root uid:{os.getuid()}")
        self.assertIn(" again, scopes", self.reload())
        self.assertEqual(client.ask(GET, [(1, record)]).number, KEY)

    def test_a_name_that_only_a_name_service_may_have_asks_for_a_restart(self):
        client = self.client()
        record = self.create(client)
        self.configure(scope="allow_rotate = user:no-such-user-anywhere")
        said = self.reload()
        self.assertIn("restart lkmd", said)
        self.assertIn("user:no-such-user-anywhere", said)
        self.assertEqual(client.ask(GET, [(1, record)]).number, KEY)
        self.assertIs(self.status(client)["reload_failed"], True)

    def test_another_audit_file_asks_for_a_restart(self):
        client = self.client()
        record = self.create(client)
        text = self.read(self.config)
        self.write("lkmd.conf", text.replace("audit.jsonl", "other.jsonl"))
        said = self.reload()
        self.assertIn("restart lkmd", said)
        self.assertIn("audit.jsonl", said)
        self.assertEqual(client.ask(GET, [(1, record)]).number, KEY)
        self.assertFalse(os.path.exists(self.path("other.jsonl")))
        self.assertEqual(self.status(client)["audit"]["file"], self.path("audit.jsonl"))

    def test_a_configuration_outside_of_its_folder_asks_for_a_restart(self):
        if not landlock_abi():
            self.skipTest("this kernel has no Landlock")
        os.mkdir(self.path("lkmd.conf.d"))
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as outside:
            os.symlink(outside.name, self.path("lkmd.conf.d/new.conf"))
            said = self.reload()
        self.assertIn("restart lkmd", said)
        self.assertIn("new.conf", said)

    @unittest.skipUnless(platform.machine() == "x86_64", "written for x86-64")
    def test_lkmd_serves_where_the_clock_page_is_of_no_use(self):
        """As on machines with a clock that only the kernel can read: each look at it is a system call."""
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd", (os.path.join(BUILD, "tests/integration/without-clock-page"),))
        client = self.client()
        record = self.create(client)
        self.assertEqual(client.ask(GET, [(1, record)]).number, KEY)
        self.assertIn(" again, scopes", self.reload())
        self.assertEqual(client.ask(GET, [(1, record)]).number, KEY)
        self.lkmd.send_signal(signal.SIGTERM)
        self.assertEqual(self.lkmd.wait(TIMEOUT), 0)

    def refused(self, call):
        self.finish(self.lkmd)
        done = subprocess.run([HELPER, "refused", call, program("lkmd"), "--config", self.config], stderr=subprocess.PIPE, text=True, timeout=TIMEOUT,
                              check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("cannot enter the sandbox", done.stderr)
        self.assertFalse(os.path.exists(self.socket))
        return done.stderr

    def test_lkmd_does_not_serve_where_the_filter_is_not_taken(self):
        self.assertIn("permit seccomp(2)", self.refused("seccomp"))

    def test_lkmd_does_not_serve_where_landlock_is_not_permitted(self):
        self.assertIn("permit landlock_create_ruleset(2)", self.refused("landlock"))

    def test_lkmd_serves_where_there_is_no_landlock(self):
        self.finish(self.lkmd)
        self.lkmd = self.start_ready("lkmd", (HELPER, "refused", "missing"))
        self.assertEqual(self.status(self.client())["sandbox"]["landlock_abi"], 0)
        self.assertIn("no Landlock", self.lkmd.stderr.readline().decode())


if __name__ == "__main__":
    unittest.main()
