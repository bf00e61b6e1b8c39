# SPDX-License-Identifier: Apache-2.0
"""kill -9 of each process that takes part in a rotation, a recovery or an adoption, at any moment: the next open finds everything, by itself."""
import itertools
import os
import random
import signal
import threading
import unittest

from torture import KIB, LONG, SKIP, TortureCase, each_of
from support import BUILD, TIMEOUT

SEED = 20240115
SIZE = 16 * KIB
PASSPHRASE = "correct horse battery staple"


def number(kills):
    return kills * 10 if LONG else kills


@unittest.skipIf(SKIP, SKIP)
class Kills(TortureCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.mutex = threading.Lock()
        cls.killed = {}

    @classmethod
    def tearDownClass(cls):
        print(f"killed: {sum(cls.killed.values())} times, seed {SEED}:", ", ".join(f"{name} {n}" for name, n in cls.killed.items()), flush=True)

    def assert_opens(self, path, content):
        """As an application opens it. Return: the version of its key."""
        opened = self.must(self.app, "open", path).split()
        self.assertEqual(opened[0], content)
        self.assertEqual(opened[2:], ["0", "0"])  # nothing pending, no rows of others
        self.assertFalse(self.has_pending(path))
        return int(opened[1])

    def kill_in_turn(self, what, program, n, calls, one):
        """@one(moment) returns whether @program was killed there: at each moment in turn if there is time for that, then by chance."""
        chance = random.Random(f"{SEED} {what} {program}")
        moments = itertools.chain(range(calls) if calls < n else (), iter(lambda: chance.randrange(calls), None))
        killed = 0
        # How often a process waits for another is not always the same: not each moment is reached each time.
        for moment in itertools.islice(moments, 3 * n):
            killed += one(moment)
            if LONG and killed % 250 == 0:
                print(f"{what}: {program} killed {killed} times of {n}", flush=True)
            if killed == n:
                break
        self.assertEqual(killed, n)
        with self.mutex:
            self.killed[f"{what}: {program}"] = killed

    def kill_each(self, what, pristine, command, programs, judge):
        """@programs: how often each is killed while @command(path) runs on a copy of @pristine; @judge(path, exit status) looks at what is left."""
        _, calls = self.counted(self.directory, *command(self.copy(pristine)))

        def one(program, n):
            def at(moment):
                path = self.copy(pristine)
                done, ended = self.counted(self.directory, *command(path), KILL_AT=str(moment), KILL_IN=program)
                judge(path, done.returncode)
                self.remove(path)
                return program not in ended
            self.kill_in_turn(what, program, number(n), calls[program], at)
        each_of(one, programs)

    def test_in_a_rotation(self):
        for journal in ("delete", "wal"):
            database = self.create(SIZE, journal)

            def judge(path, status):
                version = self.assert_opens(path, database.content)
                self.assertIn(status, (0, 1, -signal.SIGKILL))
                if status == 0:
                    self.assertEqual(version, 2)
            self.kill_each(f"rotate, {journal}", database.path, lambda path: (self.app, "rotate", path),
                           [("app rotate", 120), ("lkm-rekey check", 20), ("lkm-rekey rekey", 110),
                            ("lkm-rekey probe", 60)], judge)

    def test_in_a_recovery(self):
        for journal in ("delete", "wal"):
            database = self.create(SIZE, journal)
            self.interrupt(database, "lkm-rekey rekey", 0.6)
            self.kill_each(f"recover, {journal}", database.path, lambda path: (self.app, "recover", path),
                           [("app recover", 60), ("lkm-rekey probe", 40)], lambda path, status: self.assert_opens(path, database.content))

    def test_in_an_adoption(self):
        passphrase = self.write("passphrase", PASSPHRASE + "\n")
        os.chmod(passphrase, 0o600)
        database = self.create_passphrase(SIZE, PASSPHRASE)

        def command(path):
            return self.lkmctl, "adopt", "--passphrase-file", passphrase, path

        def judge(path, _):
            if not os.path.exists(path + ".key"):
                self.must(*command(path))  # its passphrase still opens it
            self.assert_opens(path, database.content)
        self.kill_each("adopt", database.path, command, [("lkmctl adopt", 60), ("lkm-rekey probe", 20), ("lkm-rekey rekey", 30)], judge)

    # ---- the daemons ----

    def start_killable(self, name, at):
        changes = {"LD_PRELOAD": os.path.join(BUILD, "tests/integration/libkill-at.so"), "KILL_AT": str(at), "KILL_AFTER_ACCEPT": "1"}
        os.environ.update(changes)
        try:
            return self.start_ready(name)
        finally:
            for variable in changes:
                del os.environ[variable]

    def daemon_killed(self, which, program, kills):
        database = self.create(SIZE, "delete")
        chance, last, killed = random.Random(SEED), None, 0

        for n in itertools.count():
            path = self.copy(database.path)
            self.finish(getattr(self, which))
            setattr(self, which, self.start_killable(program, n if last is None else chance.randrange(last)))
            self.run_lkm(self.app, "rotate", path)
            process = getattr(self, which)
            process.send_signal(signal.SIGTERM)  # the end counts, too
            process.wait(TIMEOUT)
            process.stderr.close()
            self.assertIn(process.returncode, (0, -signal.SIGKILL, -signal.SIGSYS))  # lkmd may not even signal itself
            setattr(self, which, self.start_ready(program))
            self.assert_opens(path, database.content)
            self.remove(path)
            killed += process.returncode != 0
            if process.returncode == 0 and last is None:
                last = n
            if LONG and killed % 250 == 0:
                print(f"rotate: {program} killed {killed} times of {number(kills)}", flush=True)
            if killed >= number(kills):
                break
        self.killed[f"rotate: {program}"] = killed

    def test_lkmd_in_a_rotation(self):
        self.daemon_killed("lkmd", "lkmd", 110)

    def test_lkm_kms_in_a_rotation(self):
        self.daemon_killed("kms", "lkm-kms", 60)


if __name__ == "__main__":
    unittest.main()
