# SPDX-License-Identifier: Apache-2.0
"""Processes that connect, exec, exit and leave their sockets to others, while their numbers go to somebody else at once: nobody is taken for another."""
import json
import os
import shutil
import subprocess
import unittest

from torture import LONG, PROGRAMS, SKIP

import cgroups
from daemons import DaemonCase
from support import can_unshare_mounts, command
from test_policy import kernel_tells_units

ROUNDS = 100000 if LONG else 4000
SEED = 20240117
LIMIT = 3000 if LONG else 280
UNIT = f"lkm-test-races-{os.getpid()}"
A, B = 54321, 54322


@unittest.skipIf(SKIP, SKIP)
@unittest.skipIf(cgroups.why_not(), cgroups.why_not())
@unittest.skipUnless(kernel_tells_units(), "this kernel has no SO_PEERPIDFD")
@unittest.skipUnless(shutil.which("unshare"), "unshare is not there")
class PeerRaces(DaemonCase):
    lkmd_options = "audit_sync = batch\nuser_rate = 0"

    def record(self, scope):
        path = self.path(scope.decode())
        with open(path, "wb") as file:
            file.write(self.create(self.client(), scope))
        return path

    def run_races(self):
        groups = [cgroups.Cgroup(f"{UNIT}-{name}.service") for name in "ab"]
        for group in groups:
            self.addCleanup(group.remove)
        return subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", os.path.join(PROGRAMS, "peer-races"), self.socket,
                               groups[0].path, groups[1].path, str(A), str(B), self.path("medical"), self.path("billing"), str(ROUNDS), str(SEED), "--",
                               *command("lkmd", "--config", self.config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=LIMIT, check=False)

    @unittest.skipUnless(can_unshare_mounts(), "there can be no namespace of mounts here")
    def test_nobody_is_taken_for_another(self):
        self.record(b"medical")
        self.record(b"billing")
        self.finish(self.lkmd)
        scopes = self.read(self.config).partition("[scope medical]")
        medical, billing = scopes[2].split("[scope billing]")
        allowed = f"allow = uid:{os.getuid()}"
        self.write("lkmd.conf", scopes[0] + scopes[1] + medical.replace(allowed, f"{allowed} unit:{UNIT}-a.service") + "[scope billing]" +
                   billing.replace(allowed, f"{allowed} uid:{A}"))
        done = self.run_races()
        if done.returncode == 77:
            self.skipTest(f"no process can be given a number here: {done.stderr}")
        self.assertEqual(done.returncode, 0, done.stderr[-4000:])
        found = json.loads(done.stdout)
        rounds = {(row["who"], row["what"]): row for row in found["rounds"]}
        for (who, what), row in rounds.items():
            print(f"{who} {what}: {row['rounds']} rounds, allowed by unit {row['by_unit']}, by uid {row['by_uid']}", flush=True)
        wrong = sum(row["by_unit"] + row["by_uid"] for (who, _), row in rounds.items() if who == "B")
        print(f"{sum(row['rounds'] for row in rounds.values())} rounds, wrong grants: {wrong}, seed {SEED}", flush=True)
        self.assertEqual((wrong, found["broken"], sum(row["rounds"] for row in rounds.values())), (0, 0, ROUNDS))
        for (who, what), row in rounds.items():
            self.assertGreater(row["rounds"], 0)
            if who == "A":
                self.assertEqual(row["by_uid"], row["rounds"], what)
                if what in ("stay", "exec"):
                    self.assertEqual(row["by_unit"], row["rounds"], what)
                else:  # otherwise nothing was raced: some were seen while they were there, and some were gone
                    self.assertTrue(0 < row["by_unit"] < row["rounds"], f"{what}: {row}")


if __name__ == "__main__":
    unittest.main()
