# SPDX-License-Identifier: Apache-2.0
"""Each call of one rotation fails, in each way in which it can: then one known key opens the database, which can be written; and nobody lied."""
import os
import threading
import unittest

from torture import KIB, LONG, PROGRAMS, SKIP, TortureCase, each_of

WRITES = "1000"
JOURNALS = ("delete", "wal") if LONG else ("delete",)
SIZE = 4 * KIB  # each page takes the same calls
PROCESSES = ("app rotate", "lkm-rekey check", "lkm-rekey rekey", "lkm-rekey probe")


@unittest.skipIf(SKIP, SKIP)
class Failing(TortureCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.mutex = threading.Lock()
        cls.counts = {}

    @classmethod
    def tearDownClass(cls):
        for name, count in cls.counts.items():
            print(f"{name}: {count['failed']} failures of calls, of which {count['reported']} were reported and {count['overcome']} overcome", flush=True)

    def rotate_with(self, pristine, program, at, **environment):
        """Return: what failed, "CALL ERROR", or "end" or "no"; nothing when the process never came to that."""
        path = self.copy(pristine.path)
        told = os.path.join(self.directory, f"told-{next(self.numbers)}")
        done = self.run_lkm(self.app, "rotate", path, LD_PRELOAD=os.path.join(PROGRAMS, "libfail-at.so"), FAIL_IN=program, FAIL_AT=str(at),
                            FAIL_TELL=told, **environment)
        what = self.read(told).strip() if os.path.exists(told) else ""
        if what:
            os.unlink(told)
        if what not in ("", "end", "no"):
            self.judge(path, pristine, done, f"{program}, call {at}: {what}")
        self.remove(path)
        return what

    def judge(self, path, pristine, rotation, what):
        self.assertIn(rotation.returncode, (0, 1), f"{what}: {rotation.stdout}")
        opened = self.run_lkm(self.app, "open", path)
        self.assertEqual(opened.returncode, 0, f"{what}: {rotation.stdout}{opened.stdout}")
        content, version, pending, _ = opened.stdout.split()
        self.assertEqual((content, pending), (pristine.content, "0"), what)
        if rotation.returncode == 0:
            self.assertEqual(version, "2", f"{what}: it was reported as done")
        wrote = self.run_lkm(self.app, "write", path, WRITES)
        self.assertEqual((wrote.returncode, wrote.stdout.strip()), (0, pristine.content), f"{what}: {wrote.stdout}")
        with self.mutex:
            count = self.counts.setdefault(what.split(",")[0], {"failed": 0, "reported": 0, "overcome": 0})
            count["failed"] += 1
            count["reported" if rotation.returncode else "overcome"] += 1

    def each_call(self, journal, program):
        pristine = self.create(SIZE, journal)
        at = how = 0
        while True:
            what = self.rotate_with(pristine, program, at, FAIL_HOW=str(how))
            if what in ("end", ""):
                break
            at, how = (at + 1, 0) if what == "no" else (at, how + 1)
        self.assertGreater(at, 20)

    def test_each_call_of_a_rotation(self):
        each_of(lambda journal, program: self.each_call(journal, program), [(journal, program) for program in PROCESSES for journal in JOURNALS])

    def full_disk(self, program):
        pristine = self.create(SIZE, "delete")
        at = 0
        while self.rotate_with(pristine, program, at, FAIL_FOR_GOOD="1") not in ("end", ""):
            at += 1
        self.assertGreater(at, 3)

    def test_a_disk_that_is_full_from_any_call_on(self):
        each_of(self.full_disk, [(program,) for program in ("app rotate", "lkm-rekey rekey", "lkm-rekey probe")])


if __name__ == "__main__":
    unittest.main()
