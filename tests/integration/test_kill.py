# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each process at any moment of create: a database then opens, or was never created."""
import itertools
import json
import os
import random
import signal
import subprocess
import unittest

from daemons import DaemonCase
from support import BUILD, TIMEOUT, UNCONFINED

KILLS = 1000  # in all
OPEN_CREATE = "1"
WRITE = "CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES('kept')"


@unittest.skipIf(os.environ.get("LKM_SANITIZED"), "the library that kills must be the first one, and so must a sanitizer's")
@unittest.skipIf(os.environ.get("LKM_TEST_WRAPPER"), "the kills count calls, not memory errors")
class Kill(DaemonCase):
    @classmethod
    def setUpClass(cls):
        cls.random = random.Random(20240115)
        cls.killed = {}

    @classmethod
    def tearDownClass(cls):
        print("killed:", ", ".join(f"{name} {n} times" for name, n in cls.killed.items()))

    def configure(self, **changes):
        super().configure(**changes)
        text = self.read(self.config)  # the helper names no scope: one must be the only one
        self.write("lkmd.conf", text[:text.index("[scope billing]")])

    @staticmethod
    def preload(at, **more):
        return {"LD_PRELOAD": os.path.join(BUILD, "tests/integration/libkill-at.so"), "KILL_AT": str(at), **more}

    def client_run(self, *arguments, **environment):
        return subprocess.run([os.path.join(BUILD, "tests/integration/client-helper"), *arguments], text=True, timeout=TIMEOUT, stdout=subprocess.PIPE,
                              env={**os.environ, "LKM_SOCKET": self.socket, **environment}, cwd=self.directory)

    def start_killable(self, name, at):
        os.environ.update(self.preload(at, KILL_AFTER_ACCEPT="1"))
        try:
            return self.start_ready(name)
        finally:
            for variable in ("LD_PRELOAD", "KILL_AT", "KILL_AFTER_ACCEPT"):
                del os.environ[variable]

    def assert_sound(self, name, written):
        """No torn record; the database opens with what was written, or can be created as if nothing had been."""
        if os.path.exists(self.path(name + ".key")):
            with open(self.path(name + ".key")) as record:
                self.assertEqual(json.load(record)["format"], 2)
        done = self.client_run("open", OPEN_CREATE, "0", name, "CREATE TABLE IF NOT EXISTS t(x); SELECT count(*) FROM t")
        self.assertEqual(done.returncode, 0, done.stdout)
        rows = int(done.stdout.split()[0])
        self.assertLessEqual(rows, 1)
        if written:
            self.assertEqual(rows, 1)
        for left in (name, name + ".key", name + "-journal"):
            if os.path.exists(self.path(left)):
                os.unlink(self.path(left))

    def moments(self):
        """Every moment in turn, until one was not reached, then moments at random."""
        last = None
        for n in itertools.count():
            moment = n if last is None else self.random.randrange(last)
            if not (yield moment) and last is None:
                last = moment

    def kill_in_a_loop(self, name, n, one):
        moments = self.moments()
        moment = next(moments)
        killed = 0
        while killed < n:
            was_killed = one(moment)
            killed += was_killed
            moment = moments.send(was_killed)
        self.killed[name] = killed

    def test_client_killed_at_any_moment(self):
        def one(moment):
            done = self.client_run("open", OPEN_CREATE, "0", "a.db", WRITE, **self.preload(moment))
            self.assertIn(done.returncode, (0, -signal.SIGKILL), done.stdout)
            self.assert_sound("a.db", done.returncode == 0)
            return done.returncode != 0
        self.kill_in_a_loop("client", KILLS - 2 * (KILLS // 4), one)

    def daemon_killed(self, which):
        program = {"lkmd": "lkmd", "kms": "lkm-kms"}[which]

        def one(moment):
            self.finish(getattr(self, which))
            setattr(self, which, self.start_killable(program, moment))
            done = self.client_run("open", OPEN_CREATE, "0", "a.db", WRITE)
            process = getattr(self, which)
            if done.returncode == 0:
                process.send_signal(signal.SIGTERM)  # the end counts, too: its moments are kills as well
            process.wait(TIMEOUT)
            process.stderr.close()
            # The sandbox of lkmd does not let it send itself a signal: it ends at the same moment, by the sandbox.
            self.assertIn(process.returncode, (0, -signal.SIGSYS if which == "lkmd" and not UNCONFINED else -signal.SIGKILL))
            setattr(self, which, self.start_ready(program))
            self.assert_sound("a.db", done.returncode == 0)
            return process.returncode != 0
        self.kill_in_a_loop(program, KILLS // 4, one)

    def test_lkmd_killed_at_any_moment(self):
        self.daemon_killed("lkmd")

    def test_lkm_kms_killed_at_any_moment(self):
        self.daemon_killed("kms")


if __name__ == "__main__":
    unittest.main()
