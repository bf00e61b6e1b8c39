# SPDX-License-Identifier: Apache-2.0
"""The power goes at any moment of a rotation, of the recovery of an interrupted one, or of an adoption: the next open finds everything, by itself."""
import os
import sys
import unittest

from torture import KIB, LONG, MIB, SKIP, PROGRAMS, TortureCase, each_of

# [journal, size, states, states in the long run]
ROTATIONS = [
    ("delete", 16 * KIB, 1400, 30000),
    ("wal", 16 * KIB, 1400, 30000),
    ("wal-tail", 16 * KIB, 900, 16000),
    ("delete", 128 * KIB, 700, 16000),
    ("wal", 128 * KIB, 500, 9000),
    ("wal-tail", 1 * MIB, 60, 1000),
    ("delete", 8 * MIB, 9, 150),
    ("wal", 64 * MIB, 0, 20),
]
# Where the rotation was interrupted that is then recovered: program and step, which part of its calls it had done, states.
INTERRUPTIONS = [
    ("app rotate", 0.6, 200, 4000),  # the record has both keys; lkm-rekey goes on alone
    ("lkm-rekey rekey", 0.4, 200, 4000),
    ("lkm-rekey rekey", 0.7, 200, 4000),
    ("lkm-rekey rekey", 0.95, 200, 4000),
    ("lkm-rekey probe", 0.5, 200, 4000),
]
SEED = 5
FEWER = 0.95  # only distinct states count, and a short rotation has not always as many as were asked for
IN_ALL = 100000 if LONG else 5000


@unittest.skipIf(SKIP, SKIP)
class Lost(TortureCase):
    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        if len(sys.argv) == 1 and cls.n_states["states"] < IN_ALL:
            raise AssertionError(f"{cls.n_states['states']} states, and {IN_ALL} are promised")

    def assert_nothing_lost(self, states, found):
        self.assertGreaterEqual(found["states"], int(FEWER * states))
        self.assertEqual([found[what] for what in ("lost", "flipped", "manual", "taken_back")], [0, 0, 0, 0])

    def test_in_a_rotation(self):
        def one(seed, journal, size, short, long):
            states = long if LONG else short
            if states:
                database = self.create(size, journal)
                self.assert_nothing_lost(states, self.power_loss(f"rotate, {journal}, {size // KIB} KiB", states, seed, database, self.app, "rotate",
                                                                 database.path))
        each_of(one, [(SEED + i, *rotation) for i, rotation in enumerate(ROTATIONS)])

    def test_in_the_recovery_of_an_interrupted_rotation(self):
        def one(seed, program, part, short, long):
            for journal in ("delete", "wal"):
                database = self.create(16 * KIB, journal)
                self.interrupt(database, program, part)
                states = (long if LONG else short) // 2
                found = self.power_loss(f"recover after a kill in {program} at {part:.0%}, {journal}", states, seed, database, self.app, "recover",
                                        database.path)
                self.assert_nothing_lost(10, found)  # little may be left to do, and so little to lose
        each_of(one, [(SEED + i, *interruption) for i, interruption in enumerate(INTERRUPTIONS)])

    def test_in_an_adoption(self):
        passphrase = self.write("passphrase", "correct horse battery staple\n")
        os.chmod(passphrase, 0o600)
        database = self.create_passphrase(16 * KIB, "correct horse battery staple")
        states = 6000 if LONG else 150
        found = self.power_loss("adopt", states, SEED, database, self.lkmctl, "adopt", "--passphrase-file", passphrase, database.path,
                                TORTURE_PASSPHRASE="correct horse battery staple")
        self.assert_nothing_lost(states, found)

    def test_when_lkm_commits_before_the_proof_databases_are_lost(self):
        database = self.create(16 * KIB, "delete")
        found = self.power_loss("control, commit before rekey", 200, SEED, database, os.path.join(PROGRAMS, "control-early"), database.path,
                                TORTURE_QUIET="1")
        self.assertGreater(found["lost"] + found["flipped"], 0)


if __name__ == "__main__":
    unittest.main()
