# SPDX-License-Identifier: Apache-2.0
"""The power goes at any moment of a rotation, or of the recovery of an interrupted one: the next open finds everything, by itself."""
import os
import subprocess
import unittest

from torture import KIB, LONG, MIB, PROGRAMS, SKIP, PowerLoss, TortureCase, tool

# [journal, size, states, states in the long run]
ROTATIONS = [
    ("delete", 16 * KIB, 1200, 25000),
    ("wal", 16 * KIB, 1200, 25000),
    ("wal-tail", 16 * KIB, 800, 15000),
    ("delete", 128 * KIB, 500, 10000),
    ("wal", 128 * KIB, 300, 5000),
    ("delete", 4 * MIB, 15, 200),
    ("wal", 64 * MIB, 0, 20),
]
SEED = 5


@unittest.skipIf(SKIP, SKIP)
class Lost(TortureCase):
    def power_loss(self, what, states, seed, database, *command, **environment):
        line = tool("power-loss", database, str(states), str(seed), *command, env={**os.environ, "LKM_SOCKET": self.socket, **environment})
        return self.losses.add(line, f"{what}, seed {seed}")

    def test_in_a_rotation(self):
        for seed, (journal, size, short, long) in enumerate(ROTATIONS, SEED):
            database = self.create(size, journal)
            found = self.power_loss(f"rotate, {journal}, {size // KIB} KiB", LONG and long or short, seed, database, self.app, "rotate", database)
            self.assert_nothing_lost(found)

    def assert_nothing_lost(self, found):
        self.assertEqual((found["lost"], found["flipped"], found["manual"]), (0, 0, 0))

    def test_when_lkm_commits_before_the_proof_databases_are_lost(self):
        database = self.create(16 * KIB, "delete")
        found = self.power_loss("control, commit before rekey", 200, SEED, database, os.path.join(PROGRAMS, "control-early"), database,
                                TORTURE_QUIET="1")
        self.assertGreater(found["lost"] + found["flipped"], 0)


if __name__ == "__main__":
    unittest.main()
