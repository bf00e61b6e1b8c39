# SPDX-License-Identifier: Apache-2.0
"""What holds keys never leaves a core file, at whatever call it crashes; and does not start where it could not keep them."""
import os
import resource
import select
import signal
import subprocess
import sys
import unittest

import cipher
from cipher import Connection
from daemons import DaemonCase
from support import BUILD, CREATE, GET, KMS_GENERATE, RECORD, TIMEOUT, WRAPPER, Client, Notify, command, pairs

POINTS = 50  # for each program
REPEATS = 9  # of each way to be refused, for each program: 108 in all
OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def core_is_allowed():
    """Only what a program does itself is to keep it from leaving a core file."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that crashes must be the first one, and so must a sanitizer's")
@unittest.skipIf(WRAPPER, "valgrind writes core files of its own")
class Crash(DaemonCase):
    def setUp(self):
        super().setUp()
        self.work = self.path("cwd")
        os.mkdir(self.work)

    def reap(self, process):
        """Return: the status of waitpid(2), which tells whether there is a core file."""
        _, status = os.waitpid(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return status

    def environment(self, at=None, **more):
        preload = {"LD_PRELOAD": os.path.join(BUILD, "tests/integration/libkill-at.so"), "KILL_COUNT": self.path("count"), **more}
        return {**os.environ, **preload, **({} if at is None else {"KILL_AT": str(at)})}

    def begin(self, arguments, environment, **options):
        return subprocess.Popen(arguments, env=environment, cwd=self.work, preexec_fn=core_is_allowed, stderr=subprocess.DEVNULL, **options)

    def serve(self, name, environment, use):
        """Start a daemon, use it when it is ready, end it. It may crash at any moment. Return: its status."""
        notify = Notify(self.directory)
        process = self.begin(command(name, "--config", self.config), {**environment, "NOTIFY_SOCKET": notify.path})
        end = os.pidfd_open(process.pid)
        try:
            ready, _, _ = select.select([notify.socket, end], [], [], TIMEOUT)
            if end not in ready:
                notify.wait("READY=1")
                use()
        except (OSError, EOFError, AssertionError):
            pass  # it has crashed
        finally:
            signal.pidfd_send_signal(end, signal.SIGTERM)
            status = self.reap(process)
            os.close(end)
            notify.close()
            os.unlink(notify.path)
        return status

    def use_lkmd(self):
        with Client(self.socket) as client:
            record = client.ask(CREATE, [(1, b"medical")])
            if record.number == RECORD:
                client.ask(GET, [(1, record.fields[1])])

    def use_kms(self):
        with Client(self.path("kms.sock")) as client:
            for _ in range(8):
                client.ask(KMS_GENERATE, [(1, b"local"), (2, pairs({"a": "b"}))])

    def one_rekey(self, environment):
        with Connection(self.path("a.db"), OLD, "") as db:
            db.do("CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES(1)")
        process = self.begin(cipher.command("rekey", self.path("a.db")), environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            process.stdin.write(cipher.job({1: OLD, 2: NEW}))
            process.stdin.close()
        except BrokenPipeError:
            pass
        status = self.reap(process)
        for name in ("a.db", "a.db-journal", "a.db-wal", "a.db-shm"):
            if os.path.exists(self.path(name)):
                os.unlink(self.path(name))
        return status

    def crash_everywhere(self, run):
        """@run: with an environment, to a status."""
        self.assertEqual(run(self.environment()), 0)
        with open(self.path("count")) as file:
            n_calls = int(file.read().split(":")[-1])
        self.assertGreaterEqual(n_calls, POINTS // 2)
        for point in range(POINTS):
            by = ("segv", "abrt")[point % 2]
            # Not the last tenth: the next run may make a few calls less.
            status = run(self.environment(point * n_calls * 9 // (10 * POINTS), KILL_BY=by))
            self.assertTrue(os.WIFSIGNALED(status), f"point {point}: {status}")
            # A filter of system calls may end it where abort(3) would.
            self.assertIn(os.WTERMSIG(status), (signal.SIGSEGV,) if by == "segv" else (signal.SIGABRT, signal.SIGSYS), f"point {point}")
            self.assertFalse(os.WCOREDUMP(status), f"a core file at point {point}")
        self.assertEqual([name for name in os.listdir(self.work) + os.listdir(self.directory) if "core" in name], [])

    def test_the_test_would_see_a_core_file(self):
        process = self.begin([sys.executable, "-c", "import os; os.abort()"], os.environ)
        if not os.WCOREDUMP(self.reap(process)):
            self.skipTest("no process leaves a core file here, whatever it does (RLIMIT_CORE, core_pattern)")

    def test_lkmd_leaves_no_core_file(self):
        self.finish(self.lkmd)
        self.crash_everywhere(lambda environment: self.serve("lkmd", environment, self.use_lkmd))

    def test_lkm_kms_leaves_no_core_file(self):
        self.finish(self.kms)
        self.crash_everywhere(lambda environment: self.serve("lkm-kms", environment, self.use_kms))

    def test_lkm_rekey_leaves_no_core_file(self):
        self.crash_everywhere(self.one_rekey)


def memory_cannot_be_locked():
    """A limit of nothing, and no capability that lifts it."""
    import ctypes
    ctypes.CDLL(None).prctl(24, 14, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_IPC_LOCK: an exec(2) of root is given it no more
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))


def denied(number, *calls):
    return [os.path.join(BUILD, "tests/integration/deny-calls"), str(number), *calls, "--"]


EPERM, EINVAL, ENOSYS = 1, 22, 38
WAYS = (  # [program before it, in the child, what the sentence says]
    ([], memory_cannot_be_locked, "RLIMIT_MEMLOCK"),
    (denied(ENOSYS, "memfd_secret", "mlock", "mlock2", "mlockall"), None, "RLIMIT_MEMLOCK"),
    (denied(EINVAL, "madvise"), None, r"madvise\(2\)"),
)


@unittest.skipIf(os.environ.get("LKM_SANITIZED") or WRAPPER, "a sanitizer and valgrind need these calls themselves")
class Refused(DaemonCase):
    def run_refused(self, arguments, environment, way, **options):
        before, prepare, phrase = WAYS[way]
        done = subprocess.run([*before, *arguments], env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=prepare,
                              timeout=TIMEOUT, encoding="latin-1", **options)
        if done.returncode == 77:
            self.skipTest(done.stderr)
        self.assertNotEqual(done.returncode, 0, (arguments, way))
        self.assertGreater(done.returncode, 0, "it crashed")
        self.assertRegex(done.stdout + done.stderr, phrase, (arguments, way))

    def refuse(self, arguments, environment=None, **options):
        for way in range(len(WAYS)):
            for _ in range(REPEATS):
                self.run_refused(arguments, environment or {}, way, **options)

    def test_lkmd_does_not_start(self):
        self.finish(self.lkmd)
        self.refuse(command("lkmd", "--config", self.config))

    def test_lkm_kms_does_not_start(self):
        self.finish(self.kms)
        self.refuse(command("lkm-kms", "--config", self.config))

    def test_the_library_does_not_connect(self):
        self.refuse([os.path.join(BUILD, "client/lkmctl"), "--socket", self.socket, "ping"])

    def test_lkm_rekey_does_not_begin(self):
        with Connection(self.path("a.db"), OLD, "") as db:
            db.do("CREATE TABLE t(x)")
        self.refuse(cipher.command("probe", self.path("a.db")), input=cipher.job({1: OLD}).decode("latin-1"))

    def test_without_memfd_secret_memory_is_locked_by_mlock(self):
        self.finish(self.lkmd)
        self.lkmd = self.start_denied()
        self.assertEqual(self.status(self.client())["arena"]["backing"], "mlock")

    def start_denied(self):
        notify = Notify(self.directory)
        process = self.start([*denied(ENOSYS, "memfd_secret"), *command("lkmd", "--config", self.config)],
                             env={**os.environ, "NOTIFY_SOCKET": notify.path}, stderr=subprocess.PIPE)
        notify.wait("READY=1")
        notify.close()
        return process


if __name__ == "__main__":
    unittest.main()
