# SPDX-License-Identifier: Apache-2.0
"""What lkmd takes away from itself: every system call that is not on its list, tried from inside; and that the real lkmd is in there."""
import os
import platform
import pwd
import signal
import subprocess
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

    def test_lkmd_does_not_serve_where_the_filter_is_not_taken(self):
        self.finish(self.lkmd)
        done = subprocess.run([HELPER, "refused", program("lkmd"), "--config", self.config], stderr=subprocess.PIPE, text=True, timeout=TIMEOUT,
                              check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("cannot enter the sandbox", done.stderr)
        self.assertIn("permit seccomp(2)", done.stderr)
        self.assertFalse(os.path.exists(self.socket))


if __name__ == "__main__":
    unittest.main()
