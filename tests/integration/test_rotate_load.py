# SPDX-License-Identifier: Apache-2.0
"""Rotation under load: processes that write all the time make way for it by their leases, and no row that was acknowledged is lost."""
import json
import os
import signal
import subprocess
import threading
import unittest

from daemons import DaemonCase
from support import BUILD, TIMEOUT, WRAPPER, not_under_valgrind

setUpModule = not_under_valgrind

WRITERS = 4
ROTATIONS = 20
ROWS_BETWEEN = 10


class Writer:
    """A process that inserts rows. What it prints is read at once by a thread; @changed tells of it."""

    def __init__(self, case, name, changed):
        self.name, self.changed = name, changed
        self.process = case.helper("write", case.database, name)
        self.acknowledged = self.yields = 0
        self.ended = self.failure = None
        self.thread = threading.Thread(target=self.read)
        self.thread.start()
        case.addCleanup(self.thread.join)

    def read(self):
        for line in self.process.stdout:
            with self.changed:
                if line == "yielded\n":
                    self.yields += 1
                elif line == "end\n":
                    self.ended = True
                elif line == f"{self.acknowledged + 1}\n":
                    self.acknowledged += 1
                else:
                    self.failure = line
                self.changed.notify()
        with self.changed:
            if not self.ended:
                self.failure = self.failure or "ended without being told to"
            self.changed.notify()


class RotationUnderLoad(DaemonCase):
    def setUp(self):
        super().setUp()
        self.database = self.path("patients.db")
        self.environment = {**os.environ, "LKM_SOCKET": self.socket}

    def helper(self, *arguments):
        return self.start([*WRAPPER, f"{BUILD}/tests/integration/writer-helper", *arguments], env=self.environment,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def sql(self, statements):
        done = subprocess.run([*WRAPPER, f"{BUILD}/tests/integration/client-helper", "open", "0", "0", self.database, statements],
                              env=self.environment, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT)
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout.split()

    def wait_for_rows(self, changed, writers):
        """Until some have been written under this key, and by each writer one at all; or a writer fails."""
        before = sum(w.acknowledged for w in writers)

        def written():
            return sum(w.acknowledged for w in writers) >= before + ROWS_BETWEEN and all(w.acknowledged for w in writers)

        with changed:
            self.assertTrue(changed.wait_for(lambda: written() or any(w.failure for w in writers), TIMEOUT), "no progress")
            self.assertEqual([w.failure for w in writers if w.failure], [])

    def rotate_under_load(self, journal_mode, stop):
        created = self.helper("create", self.database, f"PRAGMA journal_mode={journal_mode};"
                              "CREATE TABLE row(writer TEXT, n INTEGER, filler BLOB, UNIQUE(writer, n))")
        self.assertEqual(created.wait(TIMEOUT), 0)
        changed = threading.Condition()
        writers = [Writer(self, f"w{i}", changed) for i in range(WRITERS)]
        rotator = self.helper("rotate", self.database)
        for rotation in range(ROTATIONS):
            self.wait_for_rows(changed, writers)
            rotator.stdin.write("rotate\n")
            rotator.stdin.flush()
            self.assertEqual(rotator.stdout.readline(), "OK \n", f"rotation {rotation}")
        self.wait_for_rows(changed, writers)
        stop(writers)
        for w in writers:
            w.process.wait(TIMEOUT)
            w.thread.join()
        return writers

    def assert_whole(self):
        self.assertEqual(self.sql("PRAGMA integrity_check"), ["ok"])
        with open(self.database + ".key") as file:
            versions = json.load(file)["versions"]
        self.assertEqual([(v["number"], v["state"]) for v in versions],
                         [(n, "retired") for n in range(1, ROTATIONS + 1)] + [(ROTATIONS + 1, "current")])

    def rows(self):
        found = {}
        for line in self.sql("SELECT writer, n FROM row ORDER BY writer, n"):
            writer, n = line.split("|")
            found.setdefault(writer, []).append(int(n))
        return found

    @staticmethod
    def tell_to_end(writers):
        for w in writers:
            w.process.stdin.close()

    @staticmethod
    def kill(writers):
        for w in writers:
            w.process.send_signal(signal.SIGKILL)

    def assert_exactly_what_was_acknowledged(self, journal_mode):
        writers = self.rotate_under_load(journal_mode, self.tell_to_end)
        self.assertEqual([(w.process.returncode, w.failure, w.ended) for w in writers], [(0, None, True)] * WRITERS)
        self.assertEqual([w.yields for w in writers], [ROTATIONS] * WRITERS)
        # They ended after an answer, so nothing is in flight: these rows, no more and no less.
        self.assertEqual(self.rows(), {w.name: list(range(1, w.acknowledged + 1)) for w in writers})
        self.assert_whole()
        return writers

    def test_no_acknowledged_row_is_lost_in_delete_mode(self):
        self.assert_exactly_what_was_acknowledged("DELETE")
        self.assertEqual(self.sql("PRAGMA journal_mode"), ["delete"])

    def test_no_acknowledged_row_is_lost_in_wal_mode(self):
        self.assert_exactly_what_was_acknowledged("WAL")
        self.assertEqual(self.sql("PRAGMA journal_mode"), ["wal"])

    def test_writers_that_are_killed_lose_nothing_that_they_acknowledged(self):
        writers = self.rotate_under_load("WAL", self.kill)
        rows = self.rows()
        for w in writers:
            # Committed and not yet said: one row at most, the next.
            self.assertIn(len(rows[w.name]), (w.acknowledged, w.acknowledged + 1))
            self.assertEqual(rows[w.name], list(range(1, len(rows[w.name]) + 1)))
        self.assert_whole()


if __name__ == "__main__":
    unittest.main()
