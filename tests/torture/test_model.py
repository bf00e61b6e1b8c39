# SPDX-License-Identifier: Apache-2.0
"""The model of a disk is good for something: careless ways to rekey lose databases in it, and the careful one none."""
import os
import unittest

from torture import KIB, LONG, PROGRAMS, SKIP, scratch, tell_found, tool

SEED = "20240115"
STATES = 4000 if LONG else 250


@unittest.skipIf(SKIP, SKIP)
class Model(unittest.TestCase):
    def rekey(self, how, size, journal):
        directory = os.path.join(scratch(self), "d")
        os.mkdir(directory)
        database = os.path.join(directory, "db")
        content = tool("control", "create", database, str(size), journal).strip()
        line = tool("power-loss-naive", database, content, str(STATES), SEED, os.path.join(PROGRAMS, "control"), "rekey", database, how,
                    env={**os.environ, **({} if how == "careful" else {"TORTURE_QUIET": "1"})})
        return tell_found(line, f"{how}, {journal}, {size // KIB} KiB, seed {SEED}")

    def each(self, how):
        for journal in ("delete", "wal"):
            for size in (16 * KIB, 128 * KIB):
                with self.subTest(journal=journal, size=size):
                    yield self.rekey(how, size, journal)

    def test_the_careful_way_loses_nothing(self):
        for found in self.each("careful"):
            self.assertGreaterEqual(found["states"], STATES)
            self.assertEqual(found["lost"], 0)

    def test_without_sync_databases_are_lost(self):
        for found in self.each("no-sync"):
            self.assertGreater(found["lost"], 0)

    def test_with_a_journal_in_memory_databases_are_lost(self):
        for found in self.each("memory-journal"):
            self.assertGreater(found["lost"], 0)

    def test_with_the_old_key_dropped_early_databases_are_lost(self):
        for found in self.each("drop-early"):
            self.assertGreater(found["lost"], 0)


if __name__ == "__main__":
    unittest.main()
